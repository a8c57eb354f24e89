"""Build the `state.SIM` record of a replay, and own the arrays whose addresses it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import (
    DRAFTED,
    DRAFTING,
    ON_PREEMPT,
    TALLY,
    UNLIMITED,
    Engine,
    Outcome,
    Policy,
    Workload,
)
from lapsbench.drafts.registry import by_request, find
from lapsbench.policies.past import ALL, bins
from lapsbench.policies.registry import vllms_own
from lapsbench.policies.uses import is_fixed, may_ask_for_reviews, reads
from lapsbench.schedules import BY_BATCH, RECORDED, dense
from lapsbench.sim.cost import round_s
from lapsbench.sim.memory import address, lines, records
from lapsbench.sim.state import (
    ARRIVALS,
    BLOCK_BYTES,
    BUCKET,
    BY_STEP,
    BY_TIME,
    MIXED,
    NONE,
    PART,
    PRICES,
    RESULTS,
    SIM,
    TIMER,
    VLLMS_OWN,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.mixed import MixedCosts
    from lapsbench.sim.setup import Setup


MOST_BLOCKS = 2**26
"""More blocks than this are any number of them."""


class Record:
    """A workload, an engine and its prices as one record: `self.sim`."""

    def __init__(self, work: Workload, engine: Engine, costs: StepCosts) -> None:
        self.owned: dict[str, NDArray[Any]] = {}
        blank = np.zeros(1, SIM).view(np.recarray)
        self.sim: Any = blank[0]
        self.at = address(blank)
        self.own({name: getattr(work, name) for name in ARRIVALS if hasattr(work, name)})
        self.own({"accept_runs": np.minimum(work.accept_runs, min(engine.draft_tokens, 255))})
        self.own({"drafted": np.minimum(work.drafted, min(engine.draft_tokens, 255))})
        self.own({name: getattr(costs, name) for name in PRICES})
        if costs.mixed is not None:
            self.mixed(costs.mixed)
        sim = self.sim
        sim.requests, sim.clients = len(work), work.clients
        sim.contexts, sim.queries, sim.cacheds = len(costs.context), len(costs.query), len(costs.cached)
        sim.max_batch, sim.draft_tokens, sim.prefill_budget = (
            engine.max_batch,
            engine.draft_tokens,
            engine.prefill_budget,
        )
        sim.drafts = sim.next_drafts = engine.draft_tokens
        sim.varies, sim.uniform = bool(engine.drafts), 1
        if engine.schedule:
            edges, drafts = dense(engine.schedule, engine.max_batch)
            sim.bands = len(edges)
            self.own({"schedule_edges": edges, "schedule_drafts": drafts})
        sim.kv_tokens, sim.on_preempt = engine.kv_tokens, ON_PREEMPT.index(engine.on_preempt)
        sim.most_tokens = engine.kv_tokens - engine.draft_tokens if engine.kv_tokens else UNLIMITED
        if engine.rules == "vllm":
            self.vllm(engine)

    def vllm(self, engine: Engine) -> None:
        """Note what vLLM's rules add; blocks that no replay can use up are not counted."""
        sim, blocks = self.sim, engine.kv_blocks if engine.kv_blocks <= MOST_BLOCKS else 0
        sim.kv_tokens, sim.kv_blocks, sim.block_tokens = 0, blocks, engine.block_tokens
        sim.free_blocks = sim.nameless_blocks = blocks
        sim.batched_tokens, sim.prefix_cache = engine.batched_tokens, engine.prefix_cache
        sim.lookahead_tokens, sim.drafting_slots = engine.lookahead_tokens, engine.drafting_slots
        sim.context_limit = sim.most_tokens = engine.context_limit
        sim.drops_block = engine.draft_method == "eagle" and engine.draft_tokens > 0
        sim.asynchronous = engine.scheduling == "async"
        sim.oldest = sim.newest = sim.spare_entry = NONE

    def mixed(self, costs: MixedCosts) -> None:
        """Note prices of rounds and chunks together."""
        self.own({f"mixed_{name}": getattr(costs, name) for name in MIXED})
        sim = self.sim
        sim.mixes = True
        _, sim.mixed_kinds, sim.mixed_tokens, sim.mixed_cacheds, sim.mixed_contexts = costs.time_s.shape

    def own(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Keep the arrays alive and note their addresses."""
        for name, array in arrays.items():
            self.owned[name] = np.ascontiguousarray(array)
            self.sim[f"{name}_at"] = address(self.owned[name])


class Replay(Record):
    """A record with everything a policy's replay needs."""

    def __init__(self, work: Workload, engine: Engine, policy: Policy, costs: StepCosts, setup: Setup) -> None:
        super().__init__(work, engine, costs)
        self.setup, self.costs = setup, costs
        n, sim = len(work), self.sim
        room = min(n, setup.live_most)
        sim.live_most, sim.wait_most = room, setup.wait_most
        self.own({"predicted_rounds": setup.predicted_rounds, "prefill_s": setup.prefill_s})
        self.own({"prompt_bin": bins(work.prompt_tokens), "past": np.zeros(3 * (ALL + 1), np.int64)})
        self.own({"own_tokens_per_round": setup.own_tokens_per_round})
        self.results: dict[str, NDArray[Any]] = {name: np.empty(n, kind) for name, (kind, _) in RESULTS.items()}
        self.own(self.results | {"pool": lines((room + 1) * BLOCK_BYTES), "system": setup.system.copy()})
        most = int((work.prompt_tokens.astype(np.int64) + work.output_tokens).max(initial=0)) + engine.draft_tokens + 1
        sim.need_buckets = (most >> BUCKET) + 1 if engine.kv_tokens else 1
        sim.heap_room = 2 * room + 64
        self.own({"blocks": np.empty(n, np.int64)})
        self.own(_rooms(room, engine.max_batch, int(sim.heap_room), int(sim.need_buckets), work.clients))
        self.own({"timers": self.timers(int(sim.heap_room))})
        sim.preemptive, sim.rerank_all = policy.preemptive, policy.rerank == "step"
        self.asked(policy)
        self.drafting(engine)
        sim.charged = policy.client_weights is not None
        if policy.client_weights is not None:
            sim.w_in, sim.w_out = (policy.parameters[name] for name in policy.client_weights)
        sim.stall_steps, sim.stop_s, sim.culprit = setup.stall_steps, setup.stop_s, -1
        if engine.rules == "vllm":
            sim.vllms_own = VLLMS_OWN.index(vllms_own(policy))
            sim.listing_mask = (1 << (2 * int(sim.kv_blocks)).bit_length()) - 1
            self.own(_vllms_rooms(n, room, engine.max_batch, int(sim.kv_blocks), int(sim.listing_mask)))

    def asked(self, policy: Policy) -> None:
        """Note what this policy reads, and what may change its ranks."""
        sim, limited = self.sim, policy.preempt < UNLIMITED
        sim.limited, sim.preempt_most = limited, int(policy.preempt) if limited else UNLIMITED
        sim.fixed = is_fixed(policy) and not limited
        sim.reviewed = may_ask_for_reviews(policy) or limited
        sim.counts_backlog, sim.shows_resume = reads(policy, "backlog_s"), reads(policy, "resume_s")
        sim.shows_past = reads(policy, "past_ratio")
        sim.shows_queue = sim.counts_backlog or reads(policy, "waiting")
        sim.token_s = self.setup.token_s

    def drafting(self, engine: Engine) -> None:
        """Note who says how many tokens are drafted, and what is read of it."""
        sim, view = self.sim, np.zeros(1, DRAFTING)
        view["draft_tokens"] = view["most_drafts"] = engine.draft_tokens
        view["max_batch"] = engine.max_batch
        if engine.drafts:
            controller = find(engine.drafts)
            view["params"][0, : len(controller.parameters)] = list(controller.parameters.values())
            sim.for_each, sim.wants_costs = by_request(controller), reads(controller, "cost_s")
            sim.recorded = engine.drafts == RECORDED
            sim.wants_runs, sim.by_schedule = controller.oracle, engine.drafts in (BY_BATCH, RECORDED)
            sim.counts_places = reads(controller, "tried") or reads(controller, "passed")
            sim.counts_drafts = any(reads(controller, name) for name in DRAFTED)
            if sim.wants_costs:
                every = slice(engine.max_batch + 1)
                rounds = [round_s(self.costs, every, drafts) for drafts in range(engine.draft_tokens + 1)]
                self.own({"round_s": np.stack(rounds, axis=-1)})
        self.tally = np.zeros((engine.max_batch + 1, len(TALLY)))
        self.tally_s = np.zeros((engine.max_batch + 1, engine.draft_tokens + 1))
        self.own({"step_view": view})
        self.own({"tally": self.tally, "tally_s": self.tally_s})
        self.own({"chosen": np.empty(engine.max_batch, np.int32)})

    def timers(self, room: int) -> NDArray[np.void]:
        """Return two empty timers."""
        made = records(2, TIMER)
        for kind in (BY_TIME, BY_STEP):
            self.owned[f"dates {kind}"], self.owned[f"jobs {kind}"] = np.empty(room), np.empty(room, np.int32)
            made[kind]["date_at"] = address(self.owned[f"dates {kind}"])
            made[kind]["job_at"] = address(self.owned[f"jobs {kind}"])
        return made

    def outcome(self, stopped: str) -> Outcome:
        """Copy the results out of the records."""
        for name, (_, never) in RESULTS.items():
            self.results[name][self.sim.next_request :] = never
        return Outcome(
            **self.results,
            alone_s=self.setup.alone_s,
            steps=int(self.sim.step),
            makespan_s=float(self.sim.now_s),
            lookups=int(self.sim.lookups),
            lookups_beyond=int(self.sim.lookups_beyond),
            stopped=stopped,
            by_batch=self.tally,
            by_drafts_s=self.tally_s,
        )


def _vllms_rooms(requests: int, live: int, batch: int, blocks: int, mask: int) -> dict[str, NDArray[Any]]:
    """Return what vLLM's rules need; memory that is not touched costs nothing."""
    rooms: dict[str, NDArray[Any]] = {"parts": records(2 * batch, PART), "sizes": np.zeros(6, np.int64)}
    numbers = {"late": requests, "dropped": live + batch, "listing_entry": mask + 1}
    numbers |= {f"entry_{name}": blocks + 1 for name in ("before", "after", "owner", "place", "twin")}
    rooms |= {name: np.empty(size, np.int32) for name, size in numbers.items()}
    return rooms | {"listing_key": np.zeros(mask + 1, np.int64)}


def _rooms(live: int, batch: int, heap: int, buckets: int, clients: int) -> dict[str, NDArray[Any]]:
    numbers = {"running": batch, "before": batch, "chunk": 2 * batch, "swap_outs": batch, "swap_ins": batch}
    numbers |= {"heap_job": heap, "stash": live, "spare": live + batch}
    ranks = {"running_rank": batch, "before_rank": batch, "chunk_rank": 2 * batch}
    ranks |= {"heap_rank": heap, "stash_rank": live}
    rooms: dict[str, NDArray[Any]] = {name: np.empty(size, np.int32) for name, size in numbers.items()}
    rooms |= {name: np.empty(size) for name, size in ranks.items()}
    rooms |= {name: np.zeros(clients, np.int64) for name in ("client_prompt", "client_emitted", "client_waiting")}
    rooms |= {"needs": np.zeros(buckets, np.int32), "client_lift": np.zeros(clients), "client_now": np.zeros(clients)}
    longs = {"running_block": batch, "chunk_tokens": batch, "asked": heap, "free": live}
    return rooms | {name: np.empty(size, np.int64) for name, size in longs.items()}
