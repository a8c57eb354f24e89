"""Compare request schedulers for speculative decoding: profile, replay, report."""

__version__ = "0.1.0"
