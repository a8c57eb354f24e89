"""The texts to send, as the target reads them. Runs in a child."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from lapsbench.errors import LapsbenchError
from lapsbench.execution.wanted import SHIPPED
from lapsbench.profile.prompts import encode, read_prompts


def tokens_of(prompts: str, model: str) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of every text of a file.

    Raises:
        LapsbenchError: it cannot be read, or the model has no tokenizer.
    """
    texts = read_prompts(None if prompts == SHIPPED else Path(prompts))
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # whatever a damaged or missing file makes transformers raise
        what = "takes a tokenizer, and the target has none that can be read"
        raise LapsbenchError(what, where="--prompts", hint="leaving it out: prompts are then made up") from error
    return tuple(encode(text, tokenizer).tokens for text in texts)
