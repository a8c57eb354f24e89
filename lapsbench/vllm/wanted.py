"""What `profile --engine vllm` asks for, checked before vLLM is imported, and the steps it comes to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lapsbench.errors import UsageError
from lapsbench.profile.grid import parse_axis
from lapsbench.vllm.lookup import check_lookup

if TYPE_CHECKING:
    from pathlib import Path

PASSES = 2
"""Times that everything is measured, each a walk over the whole grid: a machine that drifts does so for all alike."""
REPEATS = 4
"""Steps with rounds alone are measured so often in a pass, before the mixed ones and after them."""
BATCHES, CONTEXTS = (1, 2, 4, 8), (64, 512)
CHUNKS, CACHED = (1, 32, 128, 512), (0, 256)
GROWTH = 96
"""Tokens a context may grow while it is measured."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step to measure: rounds with so many drafts at a context, beside tokens of a prompt over cached ones."""

    drafts: int
    rounds: int
    context: int
    tokens: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command line, by the names of its flags.

    Raises:
        UsageError: a flag has a value that makes no sense.
    """

    target: str
    out: Path
    draft: str = ""
    prompts: Path | None = None
    dtype: str = "bfloat16"
    batches: str | None = None
    contexts: str | None = None
    draft_tokens: int = 0
    max_new_tokens: int = 128
    batched_tokens: int = 2048
    block_tokens: int = 32
    costs_only: bool = False
    seed: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        for flag, value in (("--target", self.target), ("--out", str(self.out))):
            if not value.strip():
                raise UsageError("is empty", where=flag, hint=f"lapsbench profile {flag} ...")
        for flag, number, least, most in (
            ("--draft-tokens", self.draft_tokens, 0, 64),
            ("--max-new-tokens", self.max_new_tokens, 2, 2**20),
            ("--batched-tokens", self.batched_tokens, 64, 2**20),
            ("--block-tokens", self.block_tokens, 1, 1024),
        ):
            if not least <= number <= most:
                raise UsageError(f"{number} is not between {least} and {most}", where=flag, hint=f"{flag} {least}")
        if self.draft and not self.draft_tokens:
            raise UsageError("says who drafts, and --draft-tokens 0 that nobody does", where="--draft", hint="K")
        if self.draft.partition(":")[0] == "self":
            what = "is a draft that vLLM has not"
            raise UsageError(what, where=f"--draft {self.draft}", hint="ngram:4, eagle:MODEL or a draft model")
        check_lookup(self.draft)
        self.axes()

    def axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the batches and the contexts."""
        batches = parse_axis(self.batches, "--batches") or BATCHES
        return batches, parse_axis(self.contexts, "--contexts") or CONTEXTS

    @property
    def records(self) -> bool:
        """Whether acceptance is recorded: somebody drafts."""
        return bool(self.draft) and not self.costs_only

    @property
    def longest(self) -> int:
        """The longest context the engine is made for."""
        _, contexts = self.axes()
        return max(contexts[-1], max(CACHED) + max(CHUNKS)) + GROWTH * (2 + self.draft_tokens)

    def engines(self) -> tuple[int, ...]:
        """Return the drafts of every engine that is measured: vLLM takes other ways where it may draft."""
        return (0, self.draft_tokens) if self.draft_tokens else (0,)

    def sets(self, drafts: int) -> list[list[Step]]:
        """Return what is measured with an engine in a pass, by who is seated: contexts up, rounds down."""
        batches, contexts = self.axes()
        chunks = [
            (tokens, cached)
            for tokens in CHUNKS
            for cached in CACHED
            if max(tokens, cached) + batches[-1] * (1 + drafts) <= self.batched_tokens
        ]
        with_chunk = {batches[0], max(batches[-1] - 1, batches[0])} if batches[-1] > 1 else set()
        found = []
        for context in contexts:
            for rounds in sorted({*batches, *with_chunk}, reverse=True):
                steps = [Step(drafts, rounds, context)]
                if rounds in with_chunk:
                    steps += [Step(drafts, rounds, context, *chunk) for chunk in chunks]
                found.append(steps)
        return [*found, [Step(drafts, 0, 0, *chunk) for chunk in chunks]]

    def settings(self) -> dict[str, Any]:
        """Return what measured numbers depend on besides the engine."""
        free = ("out", "command", "prompts")
        return {name: value for name, value in asdict(self).items() if name not in free}


def plan(wanted: Wanted) -> list[str]:
    """Say what would be measured, for people; nothing is loaded, and nothing written."""
    batches, contexts = wanted.axes()
    steps = [step for drafts in wanted.engines() for steps in wanted.sets(drafts) for step in steps]
    tokens = sum(step.tokens + step.cached for step in steps)
    rounds = sum(2 * REPEATS for step in steps if not step.tokens)
    lines = {
        "batches": ", ".join(f"{each:,}" for each in batches),
        "contexts": ", ".join(f"{each:,}" for each in contexts),
        "drafts": " and ".join(map(str, wanted.engines())) + " a round, an engine each",
        "chunks": f"{', '.join(map(str, CHUNKS))} tokens over {' or '.join(map(str, CACHED))}",
        "engine": f"{wanted.batched_tokens:,} tokens a step, blocks of {wanted.block_tokens}, {wanted.dtype}",
        "acceptance": f"of {wanted.draft}"
        if wanted.records
        else "none: " + ("no --draft" if not wanted.draft else "--costs-only"),
        "work": f"{PASSES} passes, each over {tokens:,} tokens of prompts and {rounds:,} steps of rounds alone",
    }
    return [
        f"would measure {len(steps)} kinds of steps of vLLM",
        *(f"{name:<11}{text}" for name, text in lines.items()),
    ]
