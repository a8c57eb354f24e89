"""Measuring a target and a draft: what a step costs, and what is accepted.

Only this package, decoding, models and vllm import torch or transformers, and only when asked to measure or serve.
"""
