"""Sessions: requests of which one waits for the answer to the one before it, and then for a while.

A trace has no answers: who arrives when is fixed before anything is served. So a turn that waits arrives that while
after the turn before it arrived, as if the answer had taken no time: it never comes later than it would have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from lapsbench.traces import check, clock
from lapsbench.traces.columns import in_seconds
from lapsbench.traces.frame import count

if TYPE_CHECKING:
    from lapsbench.traces.clock import Arrivals
    from lapsbench.traces.frame import Table

_SESSION, _STAMPED = "its session", "stamps so far"


def arrivals(table: Table, session: str, stamp: str, wait: str, unit: str) -> Arrivals:
    """Return when each turn arrives: at its stamp, or, without one, its wait after the turn before it in the session.

    Raises:
        LapsbenchError: the first turn of a session has no stamp; a stamp or wait that is no time.
    """
    alone = pl.format("row {}", pl.int_range(pl.len()))
    cells = {name: table.frame[name] if name in table.frame.columns else None for name in (session, stamp, wait)}
    frame = table.frame.with_columns(
        pl.lit(None, pl.String).alias(name) for name, found in cells.items() if found is None
    )
    frame = frame.with_columns(pl.coalesce(session, alone).alias(_SESSION))
    waits = frame[stamp].is_null()
    frame = frame.with_columns(
        pl.col(stamp).forward_fill().over(_SESSION),
        pl.col(stamp).is_not_null().cum_sum().over(_SESSION).alias(_STAMPED),
        pl.when(waits).then(pl.col(wait).fill_null("0")).otherwise(pl.lit("0")).alias(wait),
    )
    filled = replace(table, frame=frame)
    starts = clock.arrivals(filled, stamp, unit)
    if not waits.any():
        return starts
    waited = pl.Series(in_seconds(check.times(filled, wait), table.source.time_unit or unit))
    since = frame.select(waited.alias(wait), _SESSION, _STAMPED).select(pl.col(wait).cum_sum().over(_SESSION, _STAMPED))
    told = count(int(waits.sum()), "request")
    note = f"{told} after a delay: that long after the one before in the session arrived, as if answered at once"
    return replace(starts, since_s=starts.since_s + since.to_series().to_numpy(), notes=(*starts.notes, note))
