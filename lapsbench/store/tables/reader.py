"""What readers of step costs share: a reader is known by content, and cells become numbers or one clear line."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lapsbench.core import Costs, Floats

MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs that were read, and where they are from, as JSON-able values."""

    costs: Costs
    provenance: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CostReader:
    """One format of step costs.

    Attributes:
        needs: what it is known by, for people.
        knows: whether a file's content is of this format.
        read: the content to costs.
    """

    needs: str
    knows: Callable[[bytes], bool]
    read: Callable[[bytes, Path], CostTable]


def header(text: bytes) -> list[str]:
    """Return the cells of the first line that is not blank."""
    first = text.lstrip().split(b"\n", 1)[0].decode(errors="replace")
    return [cell.strip().strip('"') for cell in first.split(",")]


def csv(text: bytes, path: Path, hint: str) -> pl.DataFrame:
    """Return a CSV as text cells.

    Raises:
        LapsbenchError: it does not read as CSV, or has no rows.
    """
    try:
        frame = pl.read_csv(io.BytesIO(text.lstrip()), infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        what = f"does not read as CSV ({files.first_line(error)})"
        raise LapsbenchError(what, where=str(path), hint=hint) from error
    if not frame.height:
        raise LapsbenchError("holds no rows", where=str(path), hint="a row per measured step")
    return frame.rename(lambda name: name.strip())


def sizes(cells: pl.Series, path: Path, least: int = 1) -> Floats:
    """Return whole numbers from `least` up.

    Raises:
        LapsbenchError: a cell holds something else.
    """
    values = _floats(cells)
    good = (values >= least) & (values <= MOST) & (values == values.floor())
    return _checked(cells, values, good, path, f"a whole number from {least} up")


def seconds(cells: pl.Series, path: Path) -> Floats:
    """Return positive finite numbers.

    Raises:
        LapsbenchError: a cell holds something else.
    """
    values = _floats(cells)
    return _checked(cells, values, (values > 0) & values.is_finite(), path, "positive seconds")


def _floats(cells: pl.Series) -> pl.Series:
    return cells.str.strip_chars().cast(pl.Float64, strict=False)


def _checked(cells: pl.Series, values: pl.Series, good: pl.Series, path: Path, kind: str) -> Floats:
    bad = ~good.fill_null(value=False)
    if bad.any():
        row = int(np.argmax(bad.to_numpy()))
        where = f"{path}, row {row + 1}, column {cells.name!r}"
        raise LapsbenchError(f"{cells[row]!r} is not {kind}", where=where, hint=kind)
    return values.to_numpy()
