"""Arrival traces: read, shape, generate."""

from lapsbench.traces.open import open_trace
from lapsbench.traces.save import save_trace
from lapsbench.traces.shape import scale_to_rate

__all__ = ["open_trace", "save_trace", "scale_to_rate"]
