"""The nouns everybody passes: Trace, Bank, Profile, Engine, Policy, Workload, Outcome.

Arrays of one value per request; no files, no clocks, no compiled code. What the simulator may show a policy is
the record dtype `JOB`: it has no field for a true output length or for future acceptance, so a policy that peeks
does not compile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Strings = NDArray[np.object_]

OnPreempt = Literal["keep", "swap", "recompute"]
ON_PREEMPT: tuple[OnPreempt, ...] = ("keep", "swap", "recompute")
Rules = Literal["ideal", "vllm"]
RULES: tuple[Rules, ...] = ("ideal", "vllm")
DraftMethod = Literal["ngram", "draft_model", "eagle"]
DRAFT_METHODS: tuple[DraftMethod, ...] = ("ngram", "draft_model", "eagle")
Scheduling = Literal["sync", "async"]
SCHEDULING: tuple[Scheduling, ...] = ("sync", "async")
Oracle = Literal["none", "lengths", "all", "own-mean"]
UNLIMITED = 1 << 40
"""More tokens, or blocks of them, than any replay uses."""
LARGE = 5_000_000
"""Traces of more requests are worked on in parts (`PART`), which bounds memory: docs/metrics.md says what differs."""
PART = 1 << 20
"""Requests of a part."""

COMPONENTS = ("draft", "verify", "prefill", "draft_prefill", "mixed", "overhead", "swap_out", "swap_in")
STATUS = ("finished", "rejected", "unfinished")
FINISHED, REJECTED, UNFINISHED = 0, 1, 2

TOKENS_MOST = 10_000_000
"""Of a prompt, and of an output: the longest context any model was published with. More is a mistake, as INT_MAX is."""
PRIORITY_MOST = 1 << 30
"""Of a priority, either way: it is kept in 32 bits."""
CALIBRATION = "calibration sample"
"""In `Policy.knows`: the policy learns from requests that are not in the replayed trace."""
SCRATCH = 40
"""Numbers a policy may keep per job."""
PARAMETERS = 16
"""Parameters a policy may have."""
CATEGORIES = 64
"""Categories of a bank whose acceptance is told apart; requests of others count as of none."""
TABLE = 8 * 4096
"""Numbers a policy may learn from its calibration sample."""

JOB = np.dtype(
    [
        # what a round changes, on the first cache line
        ("attained_s", "f8"),  # time of the steps it took part in
        ("last_run_s", "f8"),  # end of the last step it took part in; its arrival before that
        ("last_run_step", "i8"),  # number of the last step it took part in; that of its arrival - 1 before
        ("emitted_tokens", "i4"),
        ("rounds", "i4"),
        ("accepted_tokens", "i4"),
        ("prefill_left_tokens", "i4"),  # to prefill (again) before its next round
        ("review_s", "f8"),  # writable: ask for a new rank at this time though it has not run
        ("review_step", "f8"),  # writable: as review_s, but a step number
        ("prompt_tokens", "i4"),
        ("predicted_class", "i4"),  # length class 0 (short) .. 4 (long) of predicted_tokens
        # the rest, on the next
        ("arrival_s", "f8"),
        ("predicted_tokens", "f8"),  # predicted output tokens
        ("prefill_s", "f8"),  # profiled time to prefill this prompt alone
        ("scratch", "f8", (SCRATCH,)),  # writable: zeros at arrival
        ("predicted_rounds", "f8"),  # NaN unless the policy is an oracle of everything
        ("client_tokens", "f8"),  # its client's virtual token counter (only policies that name client weights)
        ("priority", "i4"),  # as its trace says: lower is more urgent, 0 where nothing is said
        ("category", "i4"),  # of its prompt, as a number among the bank's; -1: none of them
        ("resume_s", "f8"),  # of a running job: what taking it out now costs when it resumes (only policies that ask)
        ("own_tokens_per_round", "f8"),  # its mean over all its rounds; NaN unless an oracle is told
        (
            "past_ratio",
            "f8",
        ),  # length over prediction of finished requests with such prompts, beside all (only if asked)
        ("tried_tokens", "i4"),  # drafts that were judged: accepted ones and first rejected ones (only if asked for)
        ("drafted_tokens", "i4"),  # all that were verified (only if asked for)
    ],
    align=True,
)
"""What a policy sees of one job."""
DRAFTED = ("tried_tokens", "drafted_tokens")
"""The fields of `JOB` that only controllers of drafts see."""
WRITABLE = ("review_s", "review_step", "scratch")
"""The fields of `JOB` a policy may write."""

SYSTEM = np.dtype(
    [
        ("now_s", "f8"),
        ("step", "i8"),  # number of the step about to be selected, from 0
        ("max_batch", "i8"),
        ("draft_tokens", "i8"),
        ("mean_tokens_per_round", "f8"),  # calibration sample: pooled
        ("mean_round_s", "f8"),  # calibration sample: seconds per round in a full batch, others' prefill included
        ("round_s", "f8"),  # a round of a full batch at the sample's mean context, no prefill in the step
        ("mean_service_s", "f8"),  # calibration sample: mean service time in a full batch
        ("service_p20_s", "f8"),  # calibration sample: 20th percentile of service time
        ("waiting", "i8"),  # jobs that wait, an arriving one not counted (only policies that ask, as the two below)
        ("backlog_s", "f8"),  # predicted engine time of these
        ("fcfs_p99_s", "f8"),  # p99 of JCT under fcfs on this engine at this load
        ("category_tokens_per_round", "f8", (CATEGORIES + 1,)),  # of the sample's; the pooled mean where unknown
        ("params", "f8", (PARAMETERS,)),
        ("table", "f8", (TABLE,)),
    ],
    align=True,
)
"""What a policy sees of everything else."""

DRAFTS_MOST = 255
"""Drafts a round: what a recording can hold."""
DRAFTING = np.dtype(
    [
        ("now_s", "f8"),
        ("number", "i8"),  # of the step that is being made up, from 0
        ("batch", "i8"),  # requests the drafts are for; under vLLM's rules all of this step, prefills included
        ("context_tokens", "f8"),  # their mean context
        ("draft_tokens", "i8"),  # drafted a round so far
        ("most_drafts", "i8"),
        ("max_batch", "i8"),
        ("scheduled", "i8"),  # what the schedule of --draft-tokens says; without one, `most_drafts`
        ("rounds", "i8"),  # done since it was last asked
        ("accepted_tokens", "i8"),  # of these
        ("tried", "f8", (DRAFTS_MOST + 1,)),  # [j]: rounds so far whose j-th draft was made, all before it accepted,
        ("passed", "f8", (DRAFTS_MOST + 1,)),  # and those that accepted it; [0]: all j
        ("cost_s", "f8", (DRAFTS_MOST + 1,)),  # [k]: a round of so many requests with k drafts (only if asked for)
        ("would_accept", "f8", (DRAFTS_MOST + 1,)),  # [j]: of these, who would accept a j-th draft; only oracles
        ("params", "f8", (PARAMETERS,)),
        ("scratch", "f8", (SCRATCH,)),  # writable: zeros at the beginning
    ],
    align=True,
)
"""What a controller of drafts sees of a step: nothing of what is still to be accepted, unless it is an oracle."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals, in arrival order.

    Attributes:
        arrival_s: float64 [N], seconds, not decreasing.
        prompt_tokens: int32 [N], >= 1.
        output_tokens: int32 [N], >= 1.
        category, client_id, prompt_id: strings [N], where the trace has them.
        predicted_tokens: float64 [N], where the trace brings its own predictions.
        priority: int32 [N], lower is more urgent, where the trace says so.
        notes: what the reader had to do (rows sorted, dropped, ...), for people.
        provenance: where it comes from, as JSON-able values.
    """

    name: str
    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    category: Strings | None = None
    client_id: Strings | None = None
    prompt_id: Strings | None = None
    predicted_tokens: Floats | None = None
    priority: Ints | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Seconds between the first and the last arrival."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0

    @property
    def rate_rps(self) -> float | None:
        """Requests per second; None where all arrive at once."""
        return len(self) / self.span_s if self.span_s > 0 else None


@dataclass(frozen=True, slots=True)
class Bank:
    """Acceptance recordings of real prompts: docs/profiles.md.

    Attributes:
        prompt_id, category: strings [R].
        prompt_tokens, output_tokens: int32 [R].
        offsets: int64 [R + 1]; recording r is accept_runs[offsets[r]:offsets[r + 1]], one value per output token.
        accept_runs: uint8, all recordings end to end; draft tokens the target would accept from each position.
        draft_tokens_max: recordings are cut at this many drafts: replaying a larger k would understate acceptance.
        drafted: uint8, beside `accept_runs`: drafts that were made from each position, by a drafter that does not
            always find any; None where it is not known, or always as many.
    """

    prompt_id: Strings
    category: Strings
    prompt_tokens: Ints
    output_tokens: Ints
    offsets: Longs
    accept_runs: Bytes
    draft_tokens_max: int
    drafted: Bytes | None = None

    def __len__(self) -> int:
        return len(self.output_tokens)


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured step times, one row per grid point: component str [C], sizes int32 [C], time_s float64 [C].

    The last two sizes are of `mixed` rows, 0 in others; None where nothing is `mixed`.
    """

    component: Strings
    batch_size: Ints
    query_tokens: Ints
    context_tokens: Ints
    time_s: Floats
    verify_tokens: Ints | None = None
    chunk_context_tokens: Ints | None = None

    def has(self, component: str) -> bool:
        """Whether the component was measured at all."""
        return bool(np.any(self.component == component))


@dataclass(frozen=True, slots=True)
class Profile:
    """What a device and a pair of models cost, and how often drafts are accepted."""

    name: str
    costs: Costs
    bank: Bank | None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """One line that says what the numbers are worth; goes under every table."""
        return str(self.provenance.get("label", "provenance unknown"))


@dataclass(frozen=True, slots=True)
class Engine:
    """The serving engine: its size, and whose rules it follows (docs/model.md).

    Attributes:
        max_batch: places: requests that run at once.
        draft_tokens: drafted a round; where that may differ from step to step, at most.
        drafts: who says how many, as `--drafts` names it; "": always as many.
        schedule: by size of batch, as `lapsbench.schedules` writes it; "": none.
        prefill_budget: prefill tokens a step; 0: any number. Only `ideal`.
        kv_tokens: KV memory; 0: any amount.
        on_preempt: what becomes of the KV of a job that a policy takes out; `swap` only under `ideal`.
        rules: which engine this is. What follows belongs to `vllm` alone.
        batched_tokens: tokens of a step, decoding and prefill together.
        block_tokens: tokens of a KV block; `kv_tokens` counts in whole ones.
        draft_method: who drafts: decides which memory and which tokens of the step the drafts take.
        prefix_cache: a preempted job may find blocks of its own again.
        scheduling: "async": a step is composed while the one before it runs.
        max_model_len: longest context; 0: as long as the memory.
    """

    max_batch: int = 64
    draft_tokens: int = 3
    prefill_budget: int = 0
    kv_tokens: int = 0
    on_preempt: OnPreempt = "keep"
    rules: Rules = "ideal"
    batched_tokens: int = 8192
    block_tokens: int = 16
    draft_method: DraftMethod = "ngram"
    prefix_cache: bool = True
    scheduling: Scheduling = "sync"
    max_model_len: int = 0
    drafts: str = ""
    schedule: str = ""

    @property
    def kv_blocks(self) -> int:
        """Whole KV blocks, `UNLIMITED` if the memory is."""
        return self.kv_tokens // self.block_tokens if self.kv_tokens else UNLIMITED

    @property
    def context_limit(self) -> int:
        """Longest context, prompt and output: vLLM does not start with one that its memory cannot hold."""
        return min(self.max_model_len or UNLIMITED, self.kv_blocks * self.block_tokens)

    @property
    def lookahead_tokens(self) -> int:
        """KV slots a job needs beyond the tokens of the step: a drafter with a KV cache writes ahead."""
        return 0 if self.draft_method == "ngram" else self.draft_tokens

    @property
    def drafting_slots(self) -> int:
        """Tokens of the step's budget that a job's drafting takes beside those of the target."""
        return int(self.draft_method == "draft_model" and self.draft_tokens > 0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibrated policies learn from: requests that are never part of the replayed trace.

    Attributes:
        rounds: int32 [M], rounds each calibration request takes.
        service_s: float64 [M], its service time in a full batch.
        predicted_class: int32 [M], the class the predictor gave it.
        mean_tokens_per_round: pooled over rounds.
        mean_round_s: seconds per round in a full batch, the prefill of others included.
        source: where the requests come from, for people.
        round_s: seconds of a step in which a full batch does a round at the requests' mean context, and no prefill.
        predicted_tokens, output_tokens: float64 [M], what the predictor said of each request, and the truth.
        category_tokens_per_round: float64 [CATEGORIES], pooled by the bank's category; NaN where there are no rounds.
        tables: what policies have learnt from this sample so far, by function and parameters.
    """

    rounds: Ints
    service_s: Floats
    predicted_class: Ints
    mean_tokens_per_round: float
    mean_round_s: float
    source: str = ""
    round_s: float = math.nan
    predicted_tokens: Floats = field(default_factory=lambda: np.zeros(0))
    output_tokens: Floats = field(default_factory=lambda: np.zeros(0))
    category_tokens_per_round: Floats = field(default_factory=lambda: np.full(CATEGORIES, np.nan))
    tables: dict[Any, Floats] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """A request scheduler: a rank function and what the simulator must know to honour it.

    Attributes:
        name: as typed on the command line, without the oracle's asterisk.
        rank: `rank(job)` or `rank(job, system)`, further arguments are parameters with numeric defaults. Lowest
            rank runs first. Asked for at arrival, after every step the job took part in, and when a review falls due.
        preemptive: whether a waiting job of lower rank displaces a running one.
        parameters: name -> value, in the order of the rank function's arguments.
        source: paper or system the rule is from.
        summary: one line for people.
        knows: what it is allowed to know, for people; `CALIBRATION` among them means it cannot run without a sample.
        oracle: what it is told beside what all may know: true "lengths"; "all", lengths, rounds and acceptance; or
            "own-mean", each request's mean acceptance beside predicted lengths. All but "none" wear an asterisk.
        bounds: of an oracle: what it bounds, and where; "" if nothing.
        rerank: "run" as told at `rank`; "step": all waiting jobs anew whenever a place is free.
        calibrate: fills `system.table` from a calibration sample and the parameters.
        client_weights: names of the two parameters that charge a client's counter per prompt and output token.
        aliases: other names of parameters, such as the letters of a paper.
        preempt: times a request may lose its place to a better ranked one.
        file, function: where it is from, and what it is called there, if it was asked for as FILE.py:FUNCTION; else "".
    """

    name: str
    rank: Callable[..., float]
    preemptive: bool
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""
    summary: str = ""
    knows: tuple[str, ...] = ()
    oracle: Oracle = "none"
    bounds: str = ""
    rerank: Literal["run", "step"] = "run"
    calibrate: Callable[[Calibration, Mapping[str, float]], Floats] | None = None
    client_weights: tuple[str, str] | None = None
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    preempt: float = math.inf
    file: str = ""
    function: str = ""

    @property
    def is_oracle(self) -> bool:
        """Whether it is told anything that no scheduler can know."""
        return self.oracle != "none"

    @property
    def label(self) -> str:
        """Name, changed parameters, and the asterisk of an oracle."""
        return f"{self.name}*" if self.is_oracle else self.name


@dataclass(frozen=True, slots=True)
class Controller:
    """Who says how many tokens are drafted, step by step.

    Attributes:
        name: as typed on the command line, without the oracle's asterisk.
        choose: `choose(step)`, or `choose(job, step)` for each request on its own; further arguments are parameters
            with numeric defaults. Returns drafts, cut to 0 .. `most_drafts`.
        parameters, source, summary, knows, file: as of a `Policy`.
        oracle: is shown what the requests would accept.
    """

    name: str
    choose: Callable[..., float]
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""
    summary: str = ""
    knows: tuple[str, ...] = ()
    oracle: bool = False
    file: str = ""

    @property
    def rank(self) -> Callable[..., float]:
        """Its function, as `policies.binding` calls it."""
        return self.choose

    @property
    def label(self) -> str:
        """Its name, with the asterisk of an oracle."""
        return f"{self.name}*" if self.oracle else self.name


TALLY = ("steps", "drafted", "accepted", "draft_s", "step_s")
"""Of `Outcome.by_batch`: steps, drafts verified in them and accepted, seconds of drafting, and of all."""


def _nobody() -> Ints:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Workload:
    """A trace made ready to run: who arrives when, what each accepts, what was predicted. Same for every policy.

    Attributes:
        arrival_s, prompt_tokens, output_tokens: as in `Trace`, arrivals already scaled to the load.
        predicted_tokens: float64 [N]; predicted_class: int32 [N].
        client: int32 [N], number of the request's client; clients: how many there are.
        recording_start: int64 [N], where in `accept_runs` its recording begins; recording_tokens: int32 [N], its size.
        recording_shift: int32 [N]; block t >= 1 past the recording's end starts t * shift tokens into it, circularly.
        accept_runs: uint8, the bank.
        priority: int32 [N], lower is more urgent; zeros where nothing is said.
        category: int32 [N], number of the prompt's category among the bank's, below `CATEGORIES`; -1 for none of them.
        drafted: uint8, as of the bank; empty where it does not say.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    predicted_tokens: Floats
    predicted_class: Ints
    client: Ints
    clients: int
    recording_start: Longs
    recording_tokens: Ints
    recording_shift: Ints
    accept_runs: Bytes
    priority: Ints = field(default_factory=_nobody)
    category: Ints = field(default_factory=_nobody)
    drafted: Bytes = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __post_init__(self) -> None:
        for name, value in (("priority", 0), ("category", -1)):
            if len(getattr(self, name)) != len(self.arrival_s):
                object.__setattr__(self, name, np.full(len(self.arrival_s), value, np.int32))

    def __len__(self) -> int:
        return len(self.arrival_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of every request under one policy. Times are NaN where the event never happened.

    Attributes:
        status: uint8 [N], index into `STATUS`.
        itl_max_s: float64 [N], the longest gap between two emitting steps; NaN with fewer than two.
        alone_s: float64 [N], JCT on an idle engine: the unit of slowdown.
        resumes: int32 [N], tokens emitted by completing a recomputation, as vLLM does; rounds emit the others, all but
            the first.
        by_batch: float64 [max_batch + 1, TALLY], by how many did a round in a step; zeros with a fixed k.
        by_drafts_s: float64 [max_batch + 1, draft_tokens + 1], seconds of these steps by the mean of their
            drafts, to the nearest whole number.
        steps, makespan_s: of the whole run.
        lookups, lookups_beyond: cost look-ups, and those beyond the measured grid.
        stopped: why the run ended early, or "".
    """

    admitted_s: Floats
    first_token_s: Floats
    finished_s: Floats
    rounds: Ints
    accepted_tokens: Ints
    preemptions: Ints
    recomputed_tokens: Longs
    status: Bytes
    itl_max_s: Floats
    alone_s: Floats
    steps: int
    makespan_s: float
    lookups: int
    lookups_beyond: int
    stopped: str = ""
    resumes: Ints = field(default_factory=_nobody)
    by_batch: Floats = field(default_factory=lambda: np.zeros((0, len(TALLY))))
    by_drafts_s: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if len(self.resumes) != len(self.status):
            object.__setattr__(self, "resumes", np.zeros(len(self.status), np.int32))
