"""What is sent, of exactly as many tokens as the workload says: texts, cut or repeated, or random tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.errors import LapsbenchError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Workload

FIRST_TOKEN = 100
"""Tokens below this may be special."""


def drawn(work: Workload, vocabulary: int, texts: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Return a prompt for everybody, of the texts in turn; without any, made up.

    A vocabulary of few tokens is drawn from as a whole.
    """
    if texts:
        return [
            np.resize(texts[each % len(texts)], tokens).tolist()
            for each, tokens in enumerate(work.prompt_tokens.tolist())
        ]
    first = FIRST_TOKEN if vocabulary > FIRST_TOKEN else 0
    draw = stream(0, "serve/prompts")
    return [draw.integers(first, vocabulary, int(tokens)).tolist() for tokens in work.prompt_tokens]


def told_apart(work: Workload, vocabulary: int, texts: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Return them with first tokens that no two share: no prefix is found again but a request's own.

    Raises:
        LapsbenchError: more requests than the vocabulary has tokens to tell them apart.
    """
    room = vocabulary - FIRST_TOKEN
    if len(work) > room:
        what = f"has {len(work):,} requests, and the model's vocabulary tells {room:,} apart"
        raise LapsbenchError(what, where="trace", hint=f"--limit {room}")
    return [[FIRST_TOKEN + each, *prompt[1:]] for each, prompt in enumerate(drawn(work, vocabulary, texts))]
