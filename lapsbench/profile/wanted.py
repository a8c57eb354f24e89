"""What a profile command asks for, and what is wrong with it: checked before torch is even imported."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.profile.grid import Axes, parse_axis

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = ("cuda", "cpu")
DTYPES = ("float32", "bfloat16", "float16")
BATCHES, CONTEXTS, DRAFT_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256), (128, 512, 1024, 2048, 4096, 8192, 16384), 8
CPU_BATCHES, CPU_CONTEXTS, CPU_DRAFT_TOKENS = (1, 2, 3, 4, 6, 8), (128, 512, 1024), 4
"""On a CPU the rest would take hours; what a row more takes there is no line between powers of two."""
MOST_DRAFT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command line of `profile`, by the names of its flags.

    Raises:
        UsageError: a flag has a value that makes no sense.
    """

    target: str
    draft: str
    out: Path
    prompts: Path | None = None
    device: str | None = None
    dtype: str | None = None
    batches: str | None = None
    contexts: str | None = None
    draft_tokens: int | None = None
    draft_tokens_max: int = 8
    max_new_tokens: int = 128
    temperature: float = 0.0
    budget_s: float | None = None
    costs_only: bool = False
    eager: bool = False
    mixed: bool | None = None
    seed: int = 0
    threads: int = 1
    command: str = ""

    def __post_init__(self) -> None:
        _one_of("--device", self.device, DEVICES)
        _one_of("--dtype", self.dtype, DTYPES)
        if self.draft_tokens is not None:
            _within("--draft-tokens", self.draft_tokens, 1, MOST_DRAFT_TOKENS)
        _within("--draft-tokens-max", self.draft_tokens_max, 1, 255)
        _within("--max-new-tokens", self.max_new_tokens, 2, 2**20)
        _within("--temperature", self.temperature, 0, 100)
        _within("--threads", self.threads, 1, 4096)
        _within("--seed", self.seed, 0, 2**31 - 1)
        if self.budget_s is not None:
            _within("--budget-s", self.budget_s, 1, 10**7)
        for flag, value in (("--target", self.target), ("--draft", self.draft), ("--out", str(self.out))):
            if not value.strip():
                raise UsageError("is empty", where=flag, hint=f"lapsbench profile {flag} ...")
        self.axes(cuda=True)
        if self.prompts is not None and self.costs_only:
            raise UsageError("--prompts and --costs-only contradict each other", hint="one of them")

    def axes(self, *, cuda: bool) -> Axes:
        """Return the grid asked for, before memory has its say."""
        batches = parse_axis(self.batches, "--batches") or (BATCHES if cuda else CPU_BATCHES)
        contexts = parse_axis(self.contexts, "--contexts") or (CONTEXTS if cuda else CPU_CONTEXTS)
        most = self.draft_tokens or (DRAFT_TOKENS if cuda else CPU_DRAFT_TOKENS)
        return Axes(batches, contexts, tuple(range(1, most + 1)))

    def settings(self) -> dict[str, Any]:
        """Return what measured numbers depend on besides models and device; a larger budget only adds to them."""
        free = ("target", "draft", "out", "device", "dtype", "budget_s", "threads", "command", "prompts", "mixed")
        settings = {name: value for name, value in asdict(self).items() if name not in free}
        for_acceptance = ("draft_tokens_max", "max_new_tokens")
        if self.costs_only:
            return {name: value for name, value in settings.items() if name not in for_acceptance}
        return settings | {"prompts": self._prompts_digest()}

    def _prompts_digest(self) -> str:
        if self.prompts is None:
            return "the shipped ones"
        try:
            return hashlib.sha256(self.prompts.read_bytes()).hexdigest()[:32]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise LapsbenchError(
                f"cannot be read: {reason}", where=f"--prompts {self.prompts}", hint="a file"
            ) from error


def _one_of(flag: str, value: str | None, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise UsageError(f"{value!r} is not known", where=flag, hint=f"one of {', '.join(known)}")


def _within(flag: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"{value:g} is not between {least:g} and {most:g}", where=flag, hint=f"{flag} {least:g}")
