"""How much of a request's acceptance can be known, and when: `python bench/learnable.py`, the rows of docs/findings.md.

Of recordings with 32 rounds or more: how much of the variance between requests, in tokens a round over the rest, is
explained by their first rounds, and by the mean of the others of their category.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lapsbench.store.profile import open_profile

FIRST = (4, 8, 16)
LEAST = 32
"""Rounds of a recording: with fewer the rest is noise."""


def rounds_of(runs: np.ndarray, drafts: int) -> np.ndarray:
    """Return the tokens of each round of a recording at so many drafts; its first token is the prefill's."""
    place, emitted = 1, []
    while place < len(runs):
        emitted.append(1 + min(int(runs[place]), drafts))
        place += emitted[-1]
    return np.array(emitted, np.float64)


def explained(known: np.ndarray, rest: np.ndarray) -> float:
    """Return r squared."""
    return float(np.corrcoef(known, rest)[0, 1] ** 2)


def row(name: str, drafts: int) -> str:
    """Return a profile's row."""
    bank = open_profile(name).bank
    if bank is None:
        raise SystemExit(f"{name} has no acceptance")
    each = [rounds_of(bank.accept_runs[a:b], drafts) for a, b in zip(bank.offsets, bank.offsets[1:], strict=False)]
    long = [number for number, rounds in enumerate(each) if len(rounds) >= LEAST]
    own = np.array([each[number].mean() for number in long])
    cells = [f"{own.std() / own.mean():.2f}"]
    for first in FIRST:
        known, rest = zip(*((each[n][:first].mean(), each[n][first:].mean()) for n in long), strict=True)
        cells.append(f"{explained(np.array(known), np.array(rest)):.2f}")
    category = np.array([bank.category[number] for number in long])
    others = [own[(category == category[i]) & (np.arange(len(own)) != i)] for i in range(len(own))]
    told = np.array([each.mean() if len(each) else own.mean() for each in others])
    cells.append(f"{explained(told, own):.2f}" if len(set(category)) > 1 else "none named")
    return f"| `{Path(name).name}` | {len(long)} | {drafts} | " + " | ".join(cells) + " |"


def table(banks: dict[str, int]) -> str:
    """Return the table of profiles, each with its drafts a round."""
    firsts = " | ".join(f"first {first} rounds" for first in FIRST)
    head = f"| bank | recordings | k | spread / mean | r2 of the {firsts} | r2 of its category |"
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *(row(name, k) for name, k in banks.items())])


if __name__ == "__main__":
    print(table({each.partition(":")[0]: int(each.partition(":")[2]) for each in sys.argv[1:]}))
