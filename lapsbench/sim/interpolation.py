"""The rule between measured points (docs/model.md), on arrays: for laying out tables before a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Floats

_T = TypeVar("_T", bound=np.generic)


def along(knots: Floats, values: Floats, x: Floats) -> Floats:
    """Interpolate `values` [knots, ...] at the points `x` unclamped."""
    if len(knots) == 1:
        return np.repeat(values[:1], len(x), axis=0)
    segment = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
    fraction = np.maximum((x - knots[segment]) / (knots[segment + 1] - knots[segment]), 0.0)
    fraction = fraction.reshape(-1, *([1] * (values.ndim - 1)))
    below, above = values[segment], values[segment + 1]
    return np.asarray(below + fraction * (above - below))


def distinct(values: NDArray[_T]) -> NDArray[_T]:
    """Return every value once, from the least up: as `np.unique`, which imports all of numpy.ma."""
    ordered = np.sort(values, axis=None)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered
