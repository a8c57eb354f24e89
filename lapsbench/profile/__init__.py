"""Measuring a target and a draft: models, the speculative decoder, its costs and its acceptance.

Only this package imports torch and transformers, and nothing imports it but the command line, when asked to measure.
"""
