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
GOING, DONE, STALLED, OVERRUN, NAN_RANK = 0, 1, 2, 3, 4
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
        # the rest, on the next
        ("recording_shift", "i4"),
        ("cached_tokens", "i4"),  # of a job that prefills, or waits
        ("peak_tokens", "i4"),  # most tokens it ever had cached: prefill beyond is new work, below is repeated
        ("client", "i4"),
        ("recomputed_tokens", "i8"),
        ("admitted_s", "f8"),
        ("first_token_s", "f8"),
    ],
    align=True,
)
"""What the simulator knows of a live job beside its `core.JOB`, which its policy sees; the two lie in one block."""
BLOCK_BYTES = sizeof(JOB) + sizeof(HIDDEN)

BY_TIME, BY_STEP = 0, 1
"""Which timer."""
HEAP = -1
"""`TIMER.first` of one that is a heap."""

TIMER = np.dtype([("first", "i8"), ("end", "i8"), ("date_at", "i8"), ("job_at", "i8")], align=True)
"""A timer's entries: those from `first` to `end`, in two arrays."""

ARRIVALS = (  # the workload and its bank
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "predicted_tokens",
    "predicted_rounds",
    "predicted_class",
    "prefill_s",
    "client",
    "priority",
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
    "asked",  # addresses of the views of jobs to rank
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
    "spare",
    "needs",
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
    "status": ("u1", UNFINISHED),
}
PRICES = ("context", "step_s", "step_limit", "query", "cached", "chunk_s", "chunk_limit")  # of cost.StepCosts
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
    "stall_steps",
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
    "in_swap_outs",
    "in_swap_ins",
    "in_spare",
    "lowest_need",  # no waiting job lies in a lower bucket of KV needs
    "idle_steps",
    "gone",
    "lookups",
    "lookups_beyond",
    "culprit",  # request whose rank was NaN, or -1
)
SIZES = ("requests", "heap_room", "clients", "need_buckets", "contexts", "queries", "cacheds")

SIM = np.dtype(
    [("now_s", "f8"), ("stop_s", "f8"), ("worst_rank", "f8"), ("w_in", "f8"), ("w_out", "f8")]
    + [(name, "i8") for name in (*RULES, *CLOCK, *SIZES)]
    + [(f"{name}_at", "i8") for name in (*ARRIVALS, *ROOMS, *RESULTS, *PRICES)],
    align=True,
)
"""One replay: its clock and counts, the rules it runs under, and the addresses of its arrays."""
