"""What a real run is asked for beyond a replay, and what its child processes are told.

Knows no engine: plain records that travel to a child and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Engine, Rules, Workload
    from lapsbench.scenario import Scenario
    from lapsbench.serving.clock import ClockKind
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup

ServedBy = Literal["vllm", "torch"]
RULES: Mapping[str | None, Rules] = MappingProxyType({"vllm": "vllm", "torch": "ideal"})
"""Whose rules an engine serves by."""
Accepting = Literal["imposed", "own"]
SHIPPED = "shipped"
"""Prompts: the 60 of our own, which `profile` takes."""
Device = Literal["cpu", "cuda"]
Dtype = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who serves, and how.

    Attributes:
        engine: vLLM, or our own decoder.
        target, draft: models, as `lapsbench profile` names them.
        clock: one thread's CPU time plus jumps over idle time, or the clock on the wall.
        acceptance: as the profile's recordings say, or the models' own; None: imposed where that can be done.
        prompts: a file of texts to send, or `SHIPPED`; None: random tokens.
        dtype: of the weights; None: what they are stored in.
        device: of our decoder; None: cuda if there is any.
    """

    engine: ServedBy
    target: str
    draft: str | None = None
    clock: ClockKind = "cpu"
    acceptance: Accepting | None = None
    prompts: str | None = None
    dtype: Dtype | None = None
    device: Device | None = None


def engine_of(scenario: Scenario) -> ServedBy:
    """Return who serves by the rules of a scenario.

    Raises:
        UsageError: nobody does.
    """
    for engine in get_args(ServedBy):
        if RULES[engine] == scenario.engine:
            return cast("ServedBy", engine)
    raise UsageError("is no engine that serves", where=f"engine {scenario.engine}", hint="--engine vllm, or torch")


def is_lookup(draft: str | None) -> bool:
    """Say whether what drafts is no model: "ngram", or "ngram:N"."""
    return draft is not None and draft.partition(":")[0] == "ngram"


def one_of(flag: str, value: str | None, kind: Any) -> Any:
    """Return a flag's value if it is one of those a `Literal` names; None stays.

    Raises:
        UsageError: it is another.
    """
    known = get_args(kind)
    if value is not None and value not in known:
        raise UsageError(f"there is no {value!r}", where=flag, hint=f"one of: {', '.join(known)}")
    return value


@dataclass(frozen=True, slots=True)
class Prepare:
    """Asks a child to look at the models, before anything is simulated or served."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a child found.

    Attributes:
        model, draft: folders in transformers' format, or names that the engine takes as they are.
        context_tokens: the longest the target reads; 0: it does not say.
        version: of the engine.
        device: cpu or cuda.
    """

    model: str
    draft: str | None
    context_tokens: int
    version: str
    device: str


@dataclass(frozen=True, slots=True)
class Serve:
    """Asks a child to serve one cell and write its step log.

    Attributes:
        policy: as typed; name: what the run calls it.
        log: the file.
    """

    wanted: Wanted
    prepared: Prepared
    work: Workload
    setup: Setup
    engine: Engine
    costs: StepCosts
    policy: str
    name: str
    log: str


Asked = Prepare | Serve
