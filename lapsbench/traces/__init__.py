"""Arrival traces: read, shape, generate, save."""

from lapsbench.traces.open import open_trace
from lapsbench.traces.shape import scale_to_rate

__all__ = ["open_trace", "scale_to_rate"]
