"""Metric definitions, statistics and comparison."""
