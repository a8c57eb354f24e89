"""lapsbench inside vLLM: the plug-in schedulers, and the referee. The only package that imports vllm."""

VERSION = "0.32"
"""The minor version of vLLM whose scheduler `--engine vllm` is; `make vllm` proves it."""
