"""Read prompts from JSONL, and turn them into tokens.

A line holds `prompt`, or `turns` of which the first is taken, and optionally `category` and `prompt_id` or
`question_id`: Spec-Bench's own file reads as it lies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

SHIPPED = Path(__file__).parent / "prompts" / "lapsbench-60.jsonl"
"""60 prompts of our own writing, ten each of six categories."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a user asks."""

    prompt_id: str
    category: str
    text: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as the target reads it."""

    prompt_id: str
    category: str
    tokens: tuple[int, ...]


def read_prompts(path: Path | None = None, limit: int | None = None) -> list[Prompt]:
    """Return the prompts of a file, or the shipped ones.

    Args:
        path: JSONL; None for the shipped set.
        limit: at most so many, taken evenly from the whole file: files are sorted by category as a rule.

    Raises:
        LapsbenchError: no such file, or a line that is not a prompt; names file and line.
    """
    path = SHIPPED if path is None else path
    lines = enumerate(_text(path).split("\n"), 1)
    prompts: dict[str, Prompt] = {}
    for number, line in lines:
        if not line.strip():
            continue
        prompt = _prompt(line, path, number)
        if prompt.prompt_id in prompts:
            raise _refuse(f"prompt_id {prompt.prompt_id!r} is there twice", path, number, "a name of its own")
        prompts[prompt.prompt_id] = prompt
    if not prompts:
        raise LapsbenchError("holds no prompts", where=str(path), hint='a line such as {"prompt": "Why is it dark?"}')
    return spread(list(prompts.values()), limit)


def spread(prompts: Sequence[Any], limit: int | None) -> list[Any]:
    """Return at most `limit` of them, evenly spaced, the first among them."""
    if limit is None or limit >= len(prompts):
        return list(prompts)
    return [prompts[index * len(prompts) // limit] for index in range(limit)]


def encode(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Return the prompt's tokens, as a user's message in the model's chat template where it has one.

    Raises:
        LapsbenchError: the template fails, or nothing is left to read.
    """
    if tokenizer.chat_template:
        message = [{"role": "user", "content": prompt.text}]
        try:
            text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program of the model's author: whatever it raises
            raise LapsbenchError(
                f"the chat template fails ({error})", where=f"prompt {prompt.prompt_id}", hint="a model without one"
            ) from error
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        tokens = tokenizer(prompt.text)["input_ids"]
    if not tokens:
        raise LapsbenchError("has no tokens", where=f"prompt {prompt.prompt_id}", hint="removing it")
    return Encoded(prompt.prompt_id, prompt.category, tuple(tokens))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _refuse("is not UTF-8", path, line, "saving the file as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LapsbenchError(f"cannot be read: {reason}", where=str(path), hint="a JSONL file of prompts") from error


def _prompt(line: str, path: Path, number: int) -> Prompt:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _refuse(f"is not JSON ({error})", path, number, "one JSON object a line") from error
    if not isinstance(row, dict):
        raise _refuse("is not a JSON object", path, number, '{"prompt": "..."}')
    turns = row.get("turns")
    if "prompt" not in row and isinstance(turns, list) and turns:
        key, text = "turns", turns[0]
    else:
        key, text = "prompt", row.get("prompt")
    if text is None:
        found = ", ".join(map(repr, row)) or "nothing"
        raise _refuse(f"has neither 'prompt' nor 'turns'; found {found}", path, number, '{"prompt": "..."}')
    if not isinstance(text, str) or not text.strip():
        raise _refuse(f"{key!r} is not text, or empty", path, number, "text in quotes")
    name = row.get("prompt_id", row.get("question_id"))
    return Prompt(f"line-{number}" if name is None else str(name), str(row.get("category") or ""), text)


def _refuse(what: str, path: Path, line: int, hint: str) -> LapsbenchError:
    return LapsbenchError(what, where=f"{path}, line {line}", hint=hint)
