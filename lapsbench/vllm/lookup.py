"""`ngram`, the draft method without a model, and what its name may say."""

from __future__ import annotations

from lapsbench.errors import UsageError

NGRAM = "ngram"
"""The draft method without a model."""
LOOKUP, MOST_LOOKUP = 4, 100
"""Tokens `ngram` matches at most, where its name does not say."""


def check_lookup(draft: str) -> None:
    """Refuse "ngram:N" with an N that is no number of tokens.

    Raises:
        UsageError: it is not.
    """
    name, _, rest = draft.partition(":")
    if name == NGRAM and rest and not (rest.isascii() and rest.isdigit() and 0 < int(rest) < MOST_LOOKUP):
        raise UsageError(f"{rest!r} is no number of tokens", where=f"--draft {draft}", hint="ngram:4")
