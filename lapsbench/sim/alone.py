"""Each request on an idle engine: its JCT there (the unit of slowdown), its rounds, and its prefill time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.policies.pointers import ints, longs, octets
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, VERIFY
from lapsbench.sim.jit import jit
from lapsbench.sim.lookup import chunk_time, step_time

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints


@jit
def accept_run(runs: Any, length: int, shift: int, emitted: int) -> int:
    """Drafts the target would accept now: the recording from its start, then circular blocks of it."""
    place = np.int64(emitted)
    if place >= length:
        place = (place % length + place // length * shift) % length
    return np.int64(runs[place])


@jit
def walk(sim: Any, alone_s: Floats, rounds: Ints, prefill_s: Floats) -> None:
    """Fill the arrays [N]: seconds, rounds, seconds."""
    overhead, k = step_time(sim, OVERHEAD, 1, 0.0), sim.draft_tokens
    for i in range(sim.requests):
        prompt, output = np.int64(ints(sim.prompt_tokens_at)[i]), np.int64(ints(sim.output_tokens_at)[i])
        prefill_s[i] = chunk_time(sim, PREFILL, prompt, 0)
        now, done = 0.0, 0
        while done < prompt:
            tokens = prompt - done
            if sim.prefill_budget > 0:
                tokens = min(tokens, sim.prefill_budget)
            work = chunk_time(sim, PREFILL, tokens, done)
            if k > 0:
                work += chunk_time(sim, DRAFT_PREFILL, tokens, done)
            now += overhead + work
            done += tokens
        emitted = 1
        runs = octets(sim.accept_runs_at + longs(sim.recording_start_at)[i])
        length, shift = ints(sim.recording_tokens_at)[i], ints(sim.recording_shift_at)[i]
        while emitted < output:
            context = float(prompt + emitted)
            draft = step_time(sim, DRAFT, 1, context) if k > 0 else 0.0
            now += overhead + draft + step_time(sim, VERIFY, 1, context)
            emitted += accept_run(runs, length, shift, emitted) + 1
            rounds[i] += 1
        alone_s[i] = now
