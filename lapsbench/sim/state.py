"""The records a replay lives in: what the simulator knows of a job, and where the replay stands."""

from __future__ import annotations

import math

import numpy as np

from lapsbench.core import JOB, UNFINISHED
from lapsbench.policies.pointers import sizeof

GONE, WAITING, RUNNING = 0, 1, 2
"""`HIDDEN.state`."""
KEEP, SWAP, RECOMPUTE = 0, 1, 2
"""`SIM.on_preempt`, in the order of `core.ON_PREEMPT`."""
GOING, DONE, STALLED, OVERRUN, NAN_RANK, CROWDED = 0, 1, 2, 3, 4, 5
"""What `advance` returns."""
BUCKET = 6
"""KV needs of waiting jobs are counted in buckets of 2**6 tokens."""

HIDDEN = np.dtype(
    [
        # all that a round, a join and a leave read, on one cache line
        ("rank", "f8"),
        ("last_emit_s", "f8"),
        ("itl_max_s", "f8"),
        ("recording_at", "i8"),  # address
        ("recording_tokens", "i4"),
        ("output_tokens", "i4"),
        ("prompt_tokens", "i4"),
        ("preemptions", "i4"),
        ("state", "u1"),
        ("prefilling", "u1"),  # is among the `chunk` of the batch: does no round
        ("marked", "u1"),  # scratch of the loops that need a set
        ("resident", "u1"),
        ("swapped", "u1"),
        ("started", "u1"),  # has been part of a step
        ("final_tokens", "i4"),  # vLLM's: of its context, known to the prefix cache
        ("room_tokens", "i4"),  # vLLM's: that its blocks hold
        # the rest, on the next
        ("recording_shift", "i4"),
        ("cached_tokens", "i4"),  # of a job that prefills, or waits
        ("peak_tokens", "i4"),  # most tokens it ever had cached: prefill beyond is new work, below is repeated
        ("client", "i4"),
        ("displaced", "i4"),  # times its place went to a better ranked job
        ("work_ns", "i8"),  # counted in `SIM.backlog_ns` while it waits
        ("recomputed_tokens", "i8"),
        ("admitted_s", "f8"),
        ("first_token_s", "f8"),
        # what else only vLLM's rules need, on a third
        ("computed_tokens", "i4"),  # have their KV, or will at the end of the steps under way
        (
            "drafts",
            "i4",
        ),  # that its next round will verify; sync: these two are known of who does rounds, and not kept up
        ("placeholders", "i4"),  # tokens that may come of steps under way
        ("in_flight_tokens", "i4"),  # in steps that have not ended
        ("stale_tokens", "i4"),  # of these, in steps composed before its memory was taken
        ("held_blocks", "i4"),
        ("adopted_blocks", "i4"),  # of these, the first ones, found again
        ("resumes", "i4"),  # tokens emitted by completing a recomputation
        ("ran", "u1"),  # since its rank was asked for; not kept up of who does a round among others
        ("parked", "u1"),  # taken out by its policy, memory kept
        ("resumed", "u1"),  # its memory was ever taken
        ("in_batch", "u1"),
        ("given", "i4"),  # drafts for its next round; only kept up where they vary
    ],
    align=True,
)
"""What the simulator knows of a live job beside its `core.JOB`, which its policy sees; the two lie in one block."""
BLOCK_BYTES = sizeof(JOB) + sizeof(HIDDEN)

BY_TIME, BY_STEP = 0, 1
"""Which timer."""
HEAP = -1
"""`TIMER.first` of one that is a heap."""

PART = np.dtype(
    [
        ("job", "i4"),
        ("cached", "i4"),
        ("tokens", "i4"),
        ("drafts", "i4"),
        ("given", "i4"),  # drafts, of which the step may have had room for some
        ("next_drafts", "i4"),  # for its next round
        ("left", "i4"),  # to prefill after it
        ("padded", "u1"),  # its drafts only fill up the batch: none can be accepted
        ("round", "u1"),
        ("emits", "u1"),
    ],
    align=True,
)
"""What a step under vLLM's rules does for one job."""
VLLMS_OWN = ("", "fcfs", "priority")
FCFS, PRIORITY = 1, 2
"""`SIM.vllms_own`: which of vLLM's own policies this is, as a place in `VLLMS_OWN`."""
STEPS_UNDER_WAY = 2
"""Under vLLM's rules with async scheduling: the one that runs, and the one composed meanwhile."""
NONE = -1
"""No entry, nobody."""

TIMER = np.dtype([("first", "i8"), ("end", "i8"), ("date_at", "i8"), ("job_at", "i8")], align=True)
"""A timer's entries: those from `first` to `end`, in two arrays."""

ARRIVALS = (  # the workload and its bank
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "predicted_tokens",
    "predicted_rounds",
    "predicted_class",
    "prompt_bin",
    "prefill_s",
    "own_tokens_per_round",
    "client",
    "priority",
    "category",
    "recording_start",
    "recording_tokens",
    "recording_shift",
    "accept_runs",
)
ROOMS = (  # working arrays; ranks lie beside the numbers of their jobs
    "blocks",  # address of each request's block; once it has left, of the first, which is nobody's
    "pool",  # the blocks; those of jobs that left are used again
    "free",
    "system",
    "asked",  # addresses of the views of jobs to rank, or to choose drafts for
    "chosen",  # drafts of each of these
    "step_view",  # `core.DRAFTING`
    "drafted",  # of the bank, beside `accept_runs`
    "schedule_edges",
    "schedule_drafts",
    "round_s",  # what rounds cost, by batch, context and drafts
    "tally",  # of `core.Outcome.by_batch`
    "tally_s",  # of `core.Outcome.by_drafts_s`
    "running",
    "running_rank",
    "running_block",  # addresses
    "before",
    "before_rank",
    "chunk",
    "chunk_rank",
    "chunk_tokens",
    "swap_outs",
    "swap_ins",
    "heap_job",
    "heap_rank",
    "timers",
    "stash",
    "stash_rank",
    "spare",  # with a memory limit, waiting jobs that may hold some; under vLLM's rules, the parked
    "late",  # waiting jobs that ran to the end of a step though they had been taken out
    "dropped",  # whose memory was taken in this step
    "parts",  # of the steps under way
    "sizes",  # of these, how many parts; the drafts of their rounds; and the drafts they fix for the next
    "entry_before",  # blocks free but not forgotten, as a list in the order they were freed
    "entry_after",
    "entry_owner",
    "entry_place",  # in its owner's context; where it has none, how many blocks the entry stands for
    "entry_twin",  # the next of that name
    "listing_key",  # of these, by name
    "listing_entry",
    "needs",
    "past",  # of `policies.past`
    "client_lift",
    "client_now",
    "client_prompt",
    "client_emitted",
    "client_waiting",
)
RESULTS = {  # of `core.Outcome`: type, and value for a request that did not arrive before the replay was stopped
    "admitted_s": ("f8", math.nan),
    "first_token_s": ("f8", math.nan),
    "finished_s": ("f8", math.nan),
    "itl_max_s": ("f8", math.nan),
    "rounds": ("i4", 0),
    "accepted_tokens": ("i4", 0),
    "preemptions": ("i4", 0),
    "recomputed_tokens": ("i8", 0),
    "resumes": ("i4", 0),
    "status": ("u1", UNFINISHED),
}
PRICES = ("context", "step_s", "step_limit", "query", "cached", "chunk_s", "chunk_limit")  # of cost.StepCosts
MIXED = ("tokens", "cached", "context", "time_s", "limit")  # of mixed.MixedCosts
RULES = (
    "max_batch",
    "draft_tokens",
    "prefill_budget",
    "kv_tokens",
    "most_tokens",  # a request with more, prompt and output, can never be served
    "on_preempt",
    "preemptive",
    "rerank_all",
    "charged",
    "fixed",  # a rank holds for good: never ask again
    "reviewed",  # the policy may ask for reviews
    "shows_queue",  # the policy reads how many wait,
    "counts_backlog",  # their work,
    "shows_past",  # what those who finished say of a prediction,
    "shows_resume",  # what preempting a job would cost
    "mixes",  # rounds and chunks of a step have a price of their own
    "varies",  # the drafts of a step,
    "for_each",  # and each request has its own
    "recorded",  # as its recording says
    "by_schedule",  # the schedule alone says: no controller need be asked
    "wants_costs",  # the controller reads what a round costs by drafts,
    "wants_runs",  # what requests would accept,
    "counts_places",  # what was accepted by place,
    "counts_drafts",  # or somebody what each request was given
    "bands",  # of context in the schedule; 0: there is none
    "limited",  # requests may be preempted by rank only so often:
    "preempt_most",
    "stall_steps",
    "live_most",  # there is no room for more at a time
    "wait_most",  # with so many waiting, who arrives stays outside
    # vLLM's
    "vllms_own",
    "batched_tokens",
    "block_tokens",
    "kv_blocks",  # 0: any number
    "lookahead_tokens",
    "drafting_slots",
    "context_limit",
    "prefix_cache",
    "drops_block",  # of those found, the last
    "asynchronous",
    "listing_mask",
)
CLOCK = (
    "step",
    "next_request",
    "in_batch",
    "in_wait",
    "in_heap",
    "in_free",  # blocks that may be used again
    "in_use",  # blocks that ever were used
    "in_chunk",  # jobs of the batch with prompt left
    "context_tokens",  # of the others in the batch, summed
    "chunks_tokens",  # of a step: its prefill,
    "chunks_cached",  # and over how many cached, token by token, summed
    "in_swap_outs",
    "in_swap_ins",
    "in_spare",
    "backlog_ns",  # predicted work of those that wait: a whole number, so the order of adding is no matter
    "lowest_need",  # no waiting job lies in a lower bucket of KV needs
    "idle_steps",
    "drafts",  # of a round in the step
    "band",  # of the schedule, that the last context was in
    "step_drafted",  # all of the step together
    "step_accepted",
    "learnt",  # rounds of the step that have ended
    "gone",
    "lookups",
    "lookups_beyond",
    # vLLM's
    "rounds",  # of the step that is being composed: the first of the batch that do one, and need no part
    "first_part",  # of the step that is being composed
    "in_parts",
    "context_known",  # whether `context_tokens` is
    "unsorted",  # the batch, though its policy is preemptive
    "next_drafts",  # fixed by the last step composed
    "uniform",  # everybody in the batch has been given as many drafts
    "all_ran",  # everybody in the batch took part in the last step
    "tokens_left",
    "slots_left",
    "under_way",  # steps composed and not ended
    "in_dropped",
    "in_late",
    "in_parked",
    "free_blocks",
    "nameless_blocks",
    "oldest",  # entry of blocks free but not forgotten
    "newest",
    "spare_entry",
    "entries",
    "crowded",  # there was no room for one who arrived
    "culprit",  # request whose rank was NaN, or -1
)
SIZES = ("requests", "heap_room", "clients", "need_buckets", "contexts", "queries", "cacheds")
SIZES_MIXED = ("mixed_kinds", "mixed_tokens", "mixed_cacheds", "mixed_contexts")

SIM = np.dtype(
    [("now_s", "f8"), ("stop_s", "f8"), ("worst_rank", "f8"), ("w_in", "f8"), ("w_out", "f8"), ("front", "f8")]
    + [("token_s", "f8")]  # engine time of a predicted token
    + [("draft_s", "f8")]  # of the step
    + [(name, "i8") for name in (*RULES, *CLOCK, *SIZES, *SIZES_MIXED)]
    + [(f"{name}_at", "i8") for name in (*ARRIVALS, *ROOMS, *RESULTS, *PRICES)]
    + [(f"mixed_{name}_at", "i8") for name in MIXED],
    align=True,
)
"""One replay: its clock and counts, the rules it runs under, and the addresses of its arrays."""
