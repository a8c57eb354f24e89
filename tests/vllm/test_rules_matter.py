"""The differential test can fail: with any one rule of vLLM's left out, random cases soon show a step that differs."""

from __future__ import annotations

import pytest
from cases import Ask, cases, disagreement
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from lapsbench.core import UNLIMITED
from lapsbench.policies.registry import find as find_policy
from lapsbench.sim.reference.blocks import Memory
from lapsbench.sim.reference.vllm import Vllm

ASYNC, KEEP = Ask(scheduling=("async",)), Ask(on_preempt=("keep",))
CACHED = Ask(caches=(True,))


class NoLookahead(Vllm):
    """A drafter's KV slots are not counted."""

    def slots_of(self, tokens):
        return min(tokens, self.limit)


class NoDraftingSlot(Vllm):
    """A draft model's extra token is not counted against the budget."""

    def compose(self):
        self.engine = Replaced(self.engine, drafting_slots=0)
        return super().compose()


class Replaced:
    """An engine with one property changed."""

    def __init__(self, engine, **changed):
        self.__dict__.update(changed, wrapped=engine)

    def __getattr__(self, name):
        return getattr(self.wrapped, name)


class EagleKeepsItsBlock(Vllm):
    """EAGLE finds its last block again."""

    def found(self, job):
        return self.memory.found(job.request, job.context_tokens - 1)


class FindsAll(Vllm):
    """The last token may be found again, too."""

    def found(self, job):
        return self.memory.found(job.request, job.context_tokens)


class NoLimit(Vllm):
    """Drafts may run past the longest context."""

    def slots_of(self, tokens):
        return tokens + self.engine.lookahead_tokens

    def room(self, job):
        return min(super().room(job), UNLIMITED)


class NothingReserved(Vllm):
    """Admission asks only for the memory of its first chunk."""

    def fits(self, job, row, tokens):  # noqa: ARG002
        return max(self.memory.blocks_of(self.slots_of(tokens)), len(row)) <= self.memory.free


class FirstPreempted(Vllm):
    """The first of the running loses its memory, not the last."""

    def victim(self):
        return self.running[0]


class LastPreempted(Vllm):
    """Under priority, too, the last of the running loses its memory."""

    def victim(self):
        return self.running[-1]


class BudgetLost(Vllm):
    """The tokens of a victim that was already in the step are lost to it."""

    def evict(self, step, victim):
        tokens = self.tokens
        super().evict(step, victim)
        self.tokens = tokens


class AlwaysAdmits(Vllm):
    """A step that preempted still admits."""

    def schedule_running(self, step):
        super().schedule_running(step)
        self.schedule_waiting(step)


class NeverPads(Vllm):
    """An admission of one token stays one token."""

    def add(self, step, part):
        if part.padded:
            part.tokens, part.drafts, part.padded = 1, 0, False
        super().add(step, part)


class ToTheBack(Vllm):
    """A preempted job goes to the back of the queue."""

    def drop(self, step, job):
        super().drop(step, job)
        self.waiting.append(self.waiting.pop(0))


class NeverSure(Vllm):
    """A job whose last token is certainly in flight is scheduled again."""

    def surely_done(self, job):  # noqa: ARG002
        return False


class OneInFlight(Vllm):
    """The next step is composed when the one before it is over."""

    def __post_init__(self):
        super().__post_init__()
        self.asynchronous = False


class StaleLost(Vllm):
    """What a step in flight emits for a job that lost its memory is forgotten."""

    def book(self, step, part):
        if part.job.stale:
            part.emits = False
        return super().book(step, part)


class KeepsForGood(Vllm):
    """Memory that a policy kept is not given up for those that run."""

    def room(self, job):  # noqa: ARG002
        return 0


class Fifo(Memory):
    """Free blocks without a name wait their turn like the others."""

    def take(self):
        if self.lru and self.nameless < 3:
            block = next(iter(self.lru))
            del self.lru[block]
            self.forget(block)
            return block
        return super().take()


class FirstFreedFirst(Memory):
    """A job's first block is freed first."""

    def release(self, holding):
        holding.blocks.reverse()
        super().release(holding)


def with_memory(kind):
    """Return the rules with another memory."""

    class Changed(Vllm):
        def __post_init__(self):
            super().__post_init__()
            engine = self.engine
            self.memory = kind(engine.kv_blocks, engine.block_tokens, caching=engine.prefix_cache)

    Changed.__name__ = kind.__name__
    return Changed


BROKEN = [
    (NoLookahead, "fcfs", Ask()),
    (NoDraftingSlot, "fcfs", Ask(methods=("draft_model",))),
    (EagleKeepsItsBlock, "fcfs", CACHED),
    (FindsAll, "fcfs", CACHED),
    (NoLimit, "fcfs", Ask()),
    (NothingReserved, "fcfs", Ask()),
    (FirstPreempted, "fcfs", Ask()),
    (LastPreempted, "priority", Ask()),
    (BudgetLost, "priority", Ask(drafts=(3, 5, 8), budgets=(16, 24))),
    (AlwaysAdmits, "fcfs", Ask()),
    (NeverPads, "fcfs", CACHED),
    (ToTheBack, "fcfs", Ask()),
    (NeverSure, "fcfs", ASYNC),
    (OneInFlight, "fcfs", ASYNC),
    (StaleLost, "fcfs", ASYNC),
    (StaleLost, "srpt", ASYNC),
    (KeepsForGood, "srpt", KEEP),
    (with_memory(Fifo), "fcfs", CACHED),
    (with_memory(FirstFreedFirst), "fcfs", CACHED),
]


@pytest.mark.parametrize(("rules", "spec", "ask"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_rule_left_out_is_found(rules, spec, ask):
    policy = find_policy(spec)
    quick = settings(
        deadline=None,
        database=None,
        derandomize=True,
        max_examples=1500,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )

    def differs(scenario):
        try:
            return bool(disagreement(scenario, policy, rules))
        except Exception:  # noqa: BLE001 - broken rules may break down
            return True

    try:
        find(cases(ask), differs, settings=quick)
    except NoSuchExample:
        pytest.fail(f"1,500 random cases do not tell {rules.__name__} from vLLM")
