"""Small schedules for tests that count by hand, and ranks of made-up jobs.

Every step takes one second whatever is in it, so a request of n tokens needs n steps when it emits one token a step
(k = 0), and a schedule is a word: the letter of the request that each step served.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from strategies import CALIBRATION, Scenario, constant, differences

from lapsbench.core import Engine
from lapsbench.policies.binding import plain
from lapsbench.policies.registry import find
from lapsbench.sim.reference import Ideal

ENGINE = Engine(max_batch=1, draft_tokens=0)


class Diary(Ideal):
    """Write down whom every step serves."""

    def fill(self, chosen):
        step = super().fill(chosen)
        letters = [chr(ord("A") + job.request) for job in step.batch]
        self.word = [*getattr(self, "word", []), "".join(sorted(letters))]
        return step


def schedule(spec, work, engine=ENGINE, profile=None, calibration=CALIBRATION):
    """Replay on the twin and return the word; the kernel must agree on every time."""
    scenario, policy = Scenario(work, engine, profile or constant(), calibration=calibration), find(spec)
    twin = Diary(*scenario.ready(policy))
    outcome = twin.run()
    assert not outcome.stopped
    assert not differences(scenario.replay(policy), outcome)
    return "".join(twin.word) if engine.max_batch == 1 else " ".join(twin.word)


def rank(spec, **fields):
    """Rank one made-up job; fields of the job, and of the system where it has them."""
    system = {
        "now_s": 0.0,
        "step": 0,
        "mean_tokens_per_round": 2.0,
        "mean_round_s": 1.0,
        "mean_service_s": 10.0,
        "service_p20_s": 2.0,
        "draft_tokens": 0,
        "max_batch": 1,
    }
    job = {
        "arrival_s": 0.0,
        "predicted_tokens": 10.0,
        "attained_s": 0.0,
        "prefill_s": 0.0,
        "emitted_tokens": 0,
        "rounds": 0,
        "accepted_tokens": 0,
        "predicted_class": 0,
        "scratch": np.zeros(36),
    }
    system |= {name: value for name, value in fields.items() if name in system or name == "table"}
    job |= {name: value for name, value in fields.items() if name not in system}
    return plain(find(spec))(SimpleNamespace(**job), SimpleNamespace(**system))
