"""Holds the rounds an engine lists of an answer against the answer's tokens, and makes one recording of both.

Prefill gives one token and a round its accepted drafts and one, so tokens = 1 + the sum over rounds of (accepted + 1).

- **More tokens than that**: engines list no round that drafted nothing (n-gram drafts often find nothing). Each token
  that the listed rounds do not explain was a round of its own. Where they lie is not told: their places are drawn.
- **Fewer**: an answer that ends inside a round lists all that this round accepted: the last one is cut.
- **Both**: an answer with unlisted rounds may end inside its last listed one too, and nothing tells where. One that
  accepted its whole draft is taken to have given one token: such text repeats itself until a limit ends it. Any other
  is taken whole. Chosen on three answers of a real engine, whose 156 rounds it gives; a note tells the range.
- Where cutting one round is not enough, the file is not believed, and the reconciliation says so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.acceptance.bank import Recording, from_rounds
from lapsbench.acceptance.readers.reader import Reading
from lapsbench.acceptance.readers.unordered import MOST_ROUNDS, SEED
from lapsbench.errors import LapsbenchError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lapsbench.acceptance.readers.reader import Wanted
    from lapsbench.core import Longs


def _none() -> Longs:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said of one answer.

    Attributes:
        name: of the request.
        where: the record, for errors.
        accepted: int64 [R], drafts accepted in each round that is listed.
        drafted: int64 [R], drafts made in each; None where the engine does not say.
        completion_tokens: tokens of the answer; None where the engine does not say.
        draft_tokens_max: the engine's k; None where it does not say.
        totals: accepted drafts and rounds as the engine sums them up; None where it does not.
        ordered: whether `accepted` is in the order of the rounds.
        left_out: why the answer is of no use; "" where it is.
    """

    name: str
    where: str
    category: str = ""
    prompt_tokens: int | None = None
    accepted: Longs = field(default_factory=_none)
    drafted: Longs | None = None
    completion_tokens: int | None = None
    draft_tokens_max: int | None = None
    totals: tuple[int, int] | None = None
    ordered: bool = True
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class _Held:
    """An answer's rounds, held against its tokens.

    Attributes:
        accepted: int64 [R], of all rounds, those without drafts too.
        unlisted: rounds that the engine did not list.
        cut: tokens taken off the last round.
        least, most: how many rounds it may have been.
    """

    answer: Answer
    accepted: Longs
    unlisted: int = 0
    cut: int = 0
    least: int = 0
    most: int = 0
    fits: bool = True


def read_answers(
    format_: str, answers: Sequence[Answer], wanted: Wanted, path: Path, notes: Sequence[str] = ()
) -> Reading:
    """Return the bank of an engine's answers, and how it counts against their tokens.

    Raises:
        LapsbenchError: no answer has a round, or one says what cannot be.
    """
    kept = [_held(answer) for answer in answers if not answer.left_out]
    if not any(len(each.answer.accepted) for each in kept):
        raise LapsbenchError("holds no rounds", where=str(path), hint="a file of an engine that drafted")
    limit, clip, said = _limit([each.answer for each in kept], wanted)
    recordings = [
        Recording(each.answer.name, each.answer.category, each.answer.prompt_tokens, each.accepted) for each in kept
    ]
    bank, done = from_rounds(recordings, limit, wanted.prompt_tokens, str(path), clip=clip)
    left_out = Counter(answer.left_out for answer in answers if answer.left_out)
    told = [*(f"{count} {why}: left out" for why, count in left_out.items()), *_told(kept), *said]
    stated, by = _stated(kept)
    return Reading(
        format_,
        bank,
        read=_length(np.concatenate([each.answer.accepted for each in kept])),
        stated=stated,
        notes=(*told, *notes, *done),
        answers=len(answers),
        held=_length(np.concatenate([each.accepted for each in kept])),
        stated_by=by,
        doubts=_doubts(kept),
    )


def _held(answer: Answer) -> _Held:
    _refuse_nonsense(answer)
    rounds = answer.accepted
    plain = _Held(answer, rounds, least=len(rounds), most=len(rounds))
    if answer.completion_tokens is None:
        return plain
    unexplained = answer.completion_tokens - 1 - len(rounds) - int(rounds.sum())
    if unexplained > MOST_ROUNDS:
        raise LapsbenchError(
            f"counts {unexplained:,} rounds of one answer", where=answer.where, hint="the file as its engine wrote it"
        )
    if unexplained > 0:
        return _filled(answer, unexplained)
    return _cut(answer, -unexplained) if unexplained and len(rounds) else plain


def _filled(answer: Answer, unexplained: int) -> _Held:
    """Put rounds without drafts between the listed ones."""
    rounds, ordered = answer.accepted, answer.ordered
    last = int(rounds[-1]) if ordered and len(rounds) else 0
    ended = last > 0 and answer.drafted is not None and last == answer.drafted[-1]
    unlisted = unexplained + (last if ended else 0)
    free = len(rounds) + unlisted - ended  # an answer that ended in its last listed round has it last
    drawn = stream(SEED, f"acceptance/rounds without drafts of {answer.name}").permutation(free)
    places = np.sort(drawn[: len(rounds) - ended])
    accepted = np.zeros(len(rounds) + unlisted, dtype=np.int64)
    accepted[places] = rounds[: len(places)]
    least = len(rounds) + unexplained
    return _Held(answer, accepted, unlisted, last if ended else 0, least, least + last)


def _cut(answer: Answer, surplus: int) -> _Held:
    """Take the surplus off the last round; where no order is told, off the smallest round that has as much."""
    accepted = answer.accepted.copy()
    if not answer.ordered and (accepted >= surplus).any():
        place = int(np.argmin(np.where(accepted >= surplus, accepted, accepted.max() + 1)))
        accepted = np.append(np.delete(accepted, place), accepted[place])
    count = len(accepted)
    if surplus > accepted[-1]:
        return _Held(answer, answer.accepted, least=count, most=count, fits=False)
    accepted[-1] -= surplus
    return _Held(answer, accepted, cut=surplus, least=count, most=count)


def _refuse_nonsense(answer: Answer) -> None:
    accepted, drafted = answer.accepted, answer.drafted
    what = ""
    if drafted is not None and len(drafted) != len(accepted):
        what = f"lists what {len(accepted)} rounds accepted and what {len(drafted)} drafted"
    elif drafted is not None and (accepted > drafted).any():
        place = int(np.argmax(accepted > drafted))
        what = f"a round accepts {accepted[place]} of {drafted[place]} drafts"
    elif answer.draft_tokens_max is not None and len(accepted) and accepted.max() > answer.draft_tokens_max:
        what = f"a round accepts {accepted.max()} drafts, more than the {answer.draft_tokens_max} it may have had"
    if what:
        raise LapsbenchError(what, where=answer.where, hint="the file as its engine wrote it")


def _limit(answers: Sequence[Answer], wanted: Wanted) -> tuple[int | None, bool, list[str]]:
    """Return the k of the bank, whether rounds beyond it are cut, and what is to say of it."""
    if wanted.draft_tokens_max:
        return wanted.draft_tokens_max, False, []
    limits = [answer.draft_tokens_max for answer in answers if len(answer.accepted)]
    known = [limit for limit in limits if limit]
    if len(known) < len(limits):
        return (max(known) if known else None), False, []
    if min(known) == max(known):
        return known[0], False, []
    more = sum(limit > min(known) for limit in known)
    told = f"recorded at k = {min(known)} to {max(known)}: read at the least, for which {more} recordings are cut"
    return min(known), True, [told]


def _told(kept: Sequence[_Held]) -> list[str]:
    """Say what was done to make rounds and tokens meet."""
    notes = []
    if unlisted := sum(each.unlisted for each in kept):
        of = sum(each.unlisted > 0 for each in kept)
        text = f"{unlisted} rounds without drafts in {of} answers, by completion tokens: not listed, places drawn"
        tokens = sum(len(each.accepted) + int(each.accepted.sum()) for each in kept)
        least, most = (sum(getattr(each, name) for each in kept) for name in ("least", "most"))
        if least < most:
            text += (
                f" (where in its last draft an answer ended is not told: {tokens / most:.3f} to {tokens / least:.3f}"
            )
            text += " tokens a round are possible)"
        notes.append(text)
    if cut := sum(each.cut > 0 for each in kept):
        notes.append(f"{cut} last rounds cut at completion tokens")
    short = sum(
        int((each.answer.drafted < each.answer.draft_tokens_max).sum())
        for each in kept
        if each.answer.drafted is not None and each.answer.draft_tokens_max
    )
    if short:
        notes.append(f"{short} rounds drafted fewer than k: what they accept ends there, as it did in the engine")
    untold = sum(each.answer.completion_tokens is None for each in kept)
    if untold:
        notes.append(f"{untold} answers name no completion tokens: not held against them")
    return notes


def _doubts(kept: Sequence[_Held]) -> tuple[str, ...]:
    misfits = sum(not each.fits for each in kept)
    other = sum(
        each.answer.totals is not None and each.answer.totals != (each.answer.accepted.sum(), len(each.answer.accepted))
        for each in kept
    )
    doubts = []
    if misfits:
        doubts.append(f"{misfits} answers have fewer tokens than their rounds")
    if other:
        doubts.append(f"{other} answers have other totals than their rounds")
    return tuple(doubts)


def _stated(kept: Sequence[_Held]) -> tuple[float | None, str]:
    """Return the acceptance length by completion tokens; where they are not told, by the engine's totals."""
    rounds = sum(len(each.accepted) for each in kept)
    tokens = [each.answer.completion_tokens for each in kept]
    told = [each for each in tokens if each is not None]
    if len(told) == len(kept):
        return sum(max(each - 1, 0) for each in told) / rounds, "its completion tokens"
    totals = [each.answer.totals for each in kept if each.answer.totals is not None]
    if len(totals) < len(kept) or not sum(count for _, count in totals):
        return None, ""
    return 1 + sum(accepted for accepted, _ in totals) / sum(count for _, count in totals), "the file's totals"


def _length(accepted: Longs) -> float:
    return 1 + float(accepted.mean())
