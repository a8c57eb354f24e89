"""Give each request of a trace one recording of the bank, before any policy runs.

The rule: a request takes the whole of one prompt's recording from its start, so what a prompt is like and how it
changes along the way stay as recorded. Which one: the recording its `prompt_id` names; else one drawn evenly among
those of its category at least as long as its output, or, where those are fewer than `HANDFUL`, among the `HANDFUL`
longest. A request longer than its recording goes on by circular blocks of it.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.acceptance.rounds import Assignment
from lapsbench.errors import LapsbenchError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.core import Bank, Floats, Ints, Longs, Strings, Trace

HANDFUL = 16
"""Recordings a draw is made from at least, if there are as many: with fewer, the longest requests of a trace would all
share the acceptance of one or two prompts."""


def assign(trace: Trace, bank: Bank, seed: int) -> Assignment:
    """Return the recording of each request; the same trace, bank and seed give the same one.

    Raises:
        LapsbenchError: a `prompt_id` of the trace is not in the bank, or the bank is empty.
    """
    if not len(bank):
        raise LapsbenchError("the acceptance bank holds no recordings", where="profile", hint="another profile")
    lengths = bank.output_tokens
    draws = stream(seed, "acceptance/recording").random(len(trace))
    chosen = np.empty(len(trace), dtype=np.int64)
    group = groups(trace, bank)
    for number, members in _recordings_by_group(bank):
        requests = np.flatnonzero(group == number)
        chosen[requests] = _draw(members, lengths, trace.output_tokens[requests], draws[requests])
    _pin(trace, bank, chosen)
    tokens = lengths[chosen]
    turns = stream(seed, "acceptance/shift").random(len(trace))
    return Assignment(bank.offsets[chosen], tokens, np.floor(turns * tokens).astype(np.int32))


def _draw(members: Longs, lengths: Ints, output_tokens: Ints, draws: Floats) -> Longs:
    longest_first = members[np.argsort(-lengths[members], kind="stable")]
    ascending = lengths[longest_first][::-1]
    too_long = ascending[-1] + 1  # one table look-up per request: a million binary searches take 50 ms
    enough = len(members) - np.searchsorted(ascending, np.arange(too_long + 1), side="left")
    long_enough = enough[np.minimum(output_tokens, too_long)]
    candidates = np.maximum(long_enough, min(HANDFUL, len(members)))
    # a draw of 1 - 2**-53 times a count below 2**31 stays below the count: no clip needed
    return np.asarray(longest_first[np.floor(draws * candidates).astype(np.int64)], dtype=np.int64)


def groups(trace: Trace, bank: Bank) -> Longs:
    """Return each request's category number in the bank; -1 where the bank has no such category."""
    if trace.category is None:
        return np.full(len(trace), -1, dtype=np.int64)
    return _look_up(trace.category, {name: number for number, name in enumerate(_categories(bank))})


def _recordings_by_group(bank: Bank) -> list[tuple[int, Longs]]:
    groups = [(number, np.flatnonzero(bank.category == name)) for number, name in enumerate(_categories(bank))]
    return [(-1, np.arange(len(bank), dtype=np.int64)), *groups]


def _categories(bank: Bank) -> list[str]:
    """Return the bank's categories; a recording with an empty one has none."""
    return sorted({str(name) for name in bank.category if name})


def _pin(trace: Trace, bank: Bank, chosen: Longs) -> None:
    """Overwrite what was drawn for requests that name their prompt; a prompt recorded twice counts as its first."""
    if trace.prompt_id is None:
        return
    first = {str(name): number for number, name in reversed(list(enumerate(bank.prompt_id)))}
    pinned = np.flatnonzero((trace.prompt_id != np.array(None)) & (trace.prompt_id != ""))
    recording = _look_up(trace.prompt_id[pinned], first)
    if np.any(recording < 0):
        row = int(pinned[np.argmax(recording < 0)])
        raise LapsbenchError(
            f"prompt_id {trace.prompt_id[row]!r} is not in the profile's acceptance bank",
            where=f"{trace.name}: column prompt_id, row {row + 1}",
            hint="the profile recorded on these prompts, or a trace without the column",
        )
    chosen[pinned] = recording


def _look_up(names: Strings, numbers: dict[str, int]) -> Longs:
    # map() runs in C: 60 ms for a million names, where np.unique on Python strings takes seconds
    return np.fromiter(map(numbers.get, names, repeat(-1)), dtype=np.int64, count=len(names))
