"""What reading acceptance comes to: the bank, what was done to get it, and two ways of counting that must agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lapsbench.acceptance.rounds import rounds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lapsbench.acceptance.records import Record
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
        notes: what was done or assumed, for people.
        provenance: where the bank is from, as JSON-able values.
    """

    format: str
    bank: Bank
    read: float | None = None
    stated: float | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pooled(self) -> float:
        """Acceptance length of the bank at all drafts it was recorded with, pooled over rounds."""
        return rounds_of(self.bank, self.bank.draft_tokens_max).tokens_per_round

    @property
    def agrees(self) -> bool:
        """Whether the bank's acceptance length is the one the file states; true where it states none."""
        return self.stated is None or abs(self.pooled / self.stated - 1) <= AGREE

    @property
    def reconciliation(self) -> str:
        """One line: acceptance length read, in the bank, and by the file's totals."""
        if self.read is None:
            parts = [f"acceptance length {self.pooled:.3f} at k = {self.bank.draft_tokens_max}"]
        else:
            parts = [f"acceptance length {self.read:.3f} by the file's rounds, {self.pooled:.3f} in the bank"]
        if self.stated is not None:
            parts.append(f"{self.stated:.3f} by the file's totals: {'agree' if self.agrees else 'DISAGREE'}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Reader:
    """One format of acceptance, told by its first record.

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
