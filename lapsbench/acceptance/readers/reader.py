"""What reading acceptance comes to: the bank, what was done to get it, and two ways of counting that must agree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lapsbench.acceptance.rounds import rounds_of
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.core import Bank

AGREE = 0.005
"""Two counts of an acceptance length agree within this share: last rounds are cut at the end of an answer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user says of a file that the file does not.

    Attributes:
        draft: which draft's acceptance to read, where a file has several; "" for the first.
        draft_tokens_max: drafts the engine made a round; None: the most that were accepted.
        prompt_tokens: length of prompts whose length is not recorded.
    """

    draft: str = ""
    draft_tokens_max: int | None = None
    prompt_tokens: int = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """A bank that was read from a file.

    Attributes:
        format: what the file was taken for.
        read: acceptance length as the file's own entries count it, pooled over rounds; None where it lists positions.
        stated: acceptance length by the file's own totals, where it has them.
        notes: what was done or assumed, for people; each that ends in ": left out" begins with a number of answers.
        provenance: where the bank is from, as JSON-able values.
        answers: how many the file holds; those that are not in the bank are left out.
        held: acceptance length that `stated` is compared to, where that is not the bank's.
        stated_by: which totals these are.
        doubts: in what the file contradicts itself.
    """

    format: str
    bank: Bank
    read: float | None = None
    stated: float | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    answers: int = 0
    held: float | None = None
    stated_by: str = "the file's totals"
    doubts: tuple[str, ...] = ()

    @property
    def pooled(self) -> float:
        """Acceptance length of the bank at all drafts it was recorded with, pooled over rounds."""
        return rounds_of(self.bank, self.bank.draft_tokens_max).tokens_per_round

    @property
    def agrees(self) -> bool:
        """Whether the acceptance length read is the one the file states, and the file agrees with itself."""
        if self.doubts:
            return False
        read = self.pooled if self.held is None else self.held
        return self.stated is None or abs(read / self.stated - 1) <= AGREE

    @property
    def reconciliation(self) -> str:
        """One line: acceptance length read, in the bank, and by the file's totals."""
        at_k = f"at k = {self.bank.draft_tokens_max}"
        if self.read is None:
            parts = [f"acceptance length {self.pooled:.3f} {at_k}"]
        else:
            cut = self.held is not None and abs(self.pooled / self.held - 1) > AGREE
            bank = f"{self.pooled:.3f} in the bank" + (f" (cut, {at_k})" if cut else "")
            parts = [f"acceptance length {self.read:.3f} by the file's rounds, {bank}"]
        verdict = "agree" if self.agrees else "DISAGREE"
        if self.stated is not None:
            parts.append(f"{self.stated:.3f} by {self.stated_by}: {verdict}")
        elif self.doubts:
            parts.append(verdict)
        return ", ".join(parts) + (f" ({'; '.join(self.doubts)})" if self.doubts else "")


@dataclass(frozen=True, slots=True)
class Reader:
    """One format of acceptance in JSON, told by the first record that any reader knows.

    Attributes:
        name: for people.
        needs: the keys it is known by, for people.
        knows: whether a record is of this format.
        read: all records to a bank.
    """

    name: str
    needs: str
    knows: Callable[[Record], bool]
    read: Callable[[list[Record], Path, Wanted], Reading]


@dataclass(frozen=True, slots=True)
class TextReader:
    """One format of acceptance that is not JSON, told by its content; otherwise as `Reader`."""

    name: str
    needs: str
    knows: Callable[[bytes], bool]
    read: Callable[[bytes, Path, Wanted], Reading]


def only_a_mean(path: Path, format_: str, tokens: float, rounds: float, k: int | None, of: str) -> LapsbenchError:
    """Return what to say of a file that tells how much was accepted, and not in which rounds: the flag to use.

    Args:
        path: the file.
        format_: what it was taken for.
        tokens: emitted in all rounds.
        rounds: how many there were.
        k: drafts a round; None where the file does not say.
        of: what the mean is of, for people.
    """
    if not rounds:
        return LapsbenchError("holds no rounds", where=str(path), hint="a file of an engine that drafted")
    mean = tokens / rounds
    if mean <= 1:
        what = f"accepts nothing: {mean:.4g} tokens a round ({format_}, {of})"
        return LapsbenchError(what, where=str(path), hint="replay --draft-tokens 0")
    least = math.ceil(mean)  # a round emits k + 1 tokens at most; 3 is what replay drafts unless told
    k = max(k, least - 1) if k else max(least, 3)
    what = f"holds a mean only, no rounds: {mean:.4g} tokens a round ({format_}, {of})"
    return LapsbenchError(what, where=str(path), hint=f"replay --acceptance-length {mean:.4g} --draft-tokens {k}")
