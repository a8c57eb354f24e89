"""Serving a workload for real: the clock, the prompts and the step log of every engine, and our own decoder as one."""
