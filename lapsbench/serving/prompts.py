"""What is sent: random prompts, of exactly as many tokens as the workload says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.errors import LapsbenchError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.core import Workload

FIRST_TOKEN = 100
"""Tokens below this may be special."""


def drawn(work: Workload, vocabulary: int) -> list[list[int]]:
    """Make up a prompt for everybody; a vocabulary of few tokens is drawn from as a whole."""
    first = FIRST_TOKEN if vocabulary > FIRST_TOKEN else 0
    draw = stream(0, "serve/prompts")
    return [draw.integers(first, vocabulary, int(tokens)).tolist() for tokens in work.prompt_tokens]


def told_apart(work: Workload, vocabulary: int) -> list[list[int]]:
    """Make them up so that no two begin alike: no prefix is found again but a request's own.

    Raises:
        LapsbenchError: more requests than the vocabulary has tokens to tell them apart.
    """
    room = vocabulary - FIRST_TOKEN
    if len(work) > room:
        what = f"has {len(work):,} requests, and the model's vocabulary tells {room:,} apart"
        raise LapsbenchError(what, where="trace", hint=f"--limit {room}")
    return [[FIRST_TOKEN + request, *prompt[1:]] for request, prompt in enumerate(drawn(work, vocabulary))]
