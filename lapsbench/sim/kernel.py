"""The step model, compiled: what `sim/reference/` says, fast. Here it is called from Python.

One kernel a rule set for every policy: the policy comes in as a typed first-class function (`binding.RANKS_TYPE`), so a
new one compiles alone and the kernel never again. Nothing per request happens in Python. `advance` runs a bounded
number of steps and returns, so that the caller can show progress and hear Ctrl-C.

What keeps it fast: waiting jobs lie in a heap and are ranked again only when asked for (`Policy.rerank`, reviews); the
batch is ranked in one call; all a round touches of a job is one cache line of `state.HIDDEN` and one of `core.JOB`,
which its policy sees as it is; the block of a job that left is used again; a rank that cannot change is asked once.
Numbers: bench/README.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.core import SCRATCH, TABLE
from lapsbench.drafts import binding as drafts
from lapsbench.drafts.registry import find
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import compiled
from lapsbench.schedules import BY_BATCH, RECORDED
from lapsbench.sim.entries import entry
from lapsbench.sim.record import Replay
from lapsbench.sim.state import CROWDED, GOING, NAN_RANK, OVERRUN, STALLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Engine, Outcome, Policy, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup

STEPS_PER_CALL = 100_000


def replay(
    work: Workload,
    engine: Engine,
    policy: Policy,
    costs: StepCosts,
    setup: Setup,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Replay one policy. `progress` is called now and then with the number of requests that have left.

    Raises:
        LapsbenchError: the policy does not compile, returned NaN, or indexed beyond what there is.
    """
    rank = compiled(policy).address
    # who always asks nobody
    control = drafts.compiled(find(engine.drafts)).address if engine.drafts not in ("", BY_BATCH, RECORDED) else 0
    run, advance = Replay(work, engine, policy, costs, setup), entry(f"{engine.rules}.step.advance")
    state, where = GOING, f"policy {policy.name!r}"
    try:
        while state == GOING:
            state = advance(rank, control, run.at, STEPS_PER_CALL)
            if progress is not None:
                progress(int(run.sim.gone))
    except IndexError as error:  # nothing here checks indices, but `binding` has policies do so
        what = f"indexes beyond an end: job.scratch has {SCRATCH} places, system.table {TABLE:,}"
        where = f"{where}, drafts {engine.drafts!r}" if engine.drafts else where
        raise LapsbenchError(what, where=where, hint="smaller indices") from error
    if state == NAN_RANK and run.sim.culprit == run.sim.requests:
        raise LapsbenchError("returned NaN", where=f"drafts {engine.drafts!r}", hint="guarding divisions")
    if state == NAN_RANK:
        raise LapsbenchError(f"returned NaN for request {run.sim.culprit}", where=where, hint="guarding divisions")
    entry("jobs.record_live")(run.at)
    return run.outcome({STALLED: "stalled", OVERRUN: "overrun", CROWDED: "crowded"}.get(state, ""))
