"""Whether a bank looks recorded with fewer drafts a round than it says: more would then be accepted than it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Bank, Profile

EXPECTED = 10.0
"""Longer runs that there should be, and are not: by chance that is one bank in twenty thousand."""


def cut_at(bank: Bank) -> tuple[int, int]:
    """Return the longest run, and how many are as long, where many more should have gone on; else (0, 0).

    Of the runs that came to the last but one draft, some share came to the last. Were nothing cut, about that share of
    those would have come one further.
    """
    reached = np.cumsum(np.bincount(bank.accept_runs)[::-1])[::-1]
    longest = len(reached) - 1
    if not 0 < longest < bank.draft_tokens_max:
        return 0, 0
    there, before = int(reached[longest]), int(reached[longest - 1])
    return (longest, there) if there * there / before >= EXPECTED else (0, 0)


def remark(profile: Profile, draft_tokens: int) -> list[str]:
    """Say that so many drafts a round may be more than were recorded, if it looks like that."""
    longest, times = (0, 0) if profile.bank is None else cut_at(profile.bank)
    if not 0 < longest < draft_tokens:
        return []
    what = f"{times:,} recorded runs are {longest} drafts long and none is longer, as if no more were drafted"
    then = f"with {draft_tokens} a round more may be accepted than it says; try --draft-tokens {longest}"
    return [f"acceptance of {profile.name}: {what}: {then}"]
