"""Step costs of inference-lab, CSV: `batch_size,num_draft_tokens,step_seconds`, the times of whole steps.

`num_draft_tokens` is the tokens verified per sequence, drafts + 1: 1 is plain decoding. A whole step is verification
with drafting and overhead in it, so it becomes `verify`, and drafting beside it costs next to nothing. The file prices
no prefill: a replay on it has prompts for free.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lapsbench import files
from lapsbench.core import Costs
from lapsbench.errors import LapsbenchError
from lapsbench.store.linear import together

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.core import Floats

COLUMNS = ("batch_size", "num_draft_tokens", "step_seconds")
WITHIN_S = 1e-9
"""Drafting is inside the step: a cost table has no zeros."""
CONTEXT = 1
"""One context: times are constant along it."""


def read_costs(path: Path) -> Costs:
    """Return the costs of a table of whole steps.

    Raises:
        LapsbenchError: the file does not read as such a table.
    """
    where, header = str(path), ",".join(COLUMNS)
    try:
        frame = pl.read_csv(io.BytesIO(files.text(path)), infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        what = f"does not read as CSV ({files.first_line(error)})"
        raise LapsbenchError(what, where=where, hint=f"a CSV with the header {header}") from error
    if tuple(name.strip() for name in frame.columns[:3]) != COLUMNS:
        raise LapsbenchError("has another header", where=where, hint=f"a profile, or a CSV with the header {header}")
    if not frame.height:
        raise LapsbenchError("holds no rows", where=where, hint="a row per measured step")
    batch, verified, seconds = (_numbers(frame.to_series(i), name, path) for i, name in enumerate(COLUMNS))
    steps = Costs(
        np.full(len(batch), "verify", dtype=object),
        batch.astype(np.int32),
        verified.astype(np.int32),
        np.full(len(batch), CONTEXT, dtype=np.int32),
        seconds,
    )
    drafting = steps.query_tokens > 1
    drafts = Costs(
        np.full(int(drafting.sum()), "draft", dtype=object),
        steps.batch_size[drafting],
        steps.query_tokens[drafting] - 1,
        steps.context_tokens[drafting],
        np.full(int(drafting.sum()), WITHIN_S),
    )
    return together([steps, drafts])


def _numbers(cells: pl.Series, name: str, path: Path) -> Floats:
    values = cells.str.strip_chars().cast(pl.Float64, strict=False)
    good = (values > 0) & values.is_finite()
    if name != COLUMNS[2]:
        good &= (values == values.floor()) & (values < 2**31)
    bad = ~good.fill_null(value=False)
    if bad.any():
        row = int(np.argmax(bad.to_numpy()))
        kind = "positive seconds" if name == COLUMNS[2] else "a whole number from 1 up"
        raise LapsbenchError(
            f"{cells[row]!r} is not {kind}", where=f"{path}, row {row + 1}, column {name!r}", hint=kind
        )
    return values.to_numpy()
