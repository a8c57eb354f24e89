"""Acceptance as vLLM's own drafting has it: prompts are answered, and the step log says what each round brought.

A round that was given no drafts, or fewer than k, counts with what it was given: so does the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import AutoTokenizer

from lapsbench.acceptance.bank import runs_of
from lapsbench.acceptance.rounds import rounds_of
from lapsbench.core import Bank
from lapsbench.errors import LapsbenchError
from lapsbench.profile.prompts import Encoded, encode, read_prompts
from lapsbench.store.steps import parse
from lapsbench.vllm.composing import Composed, Shape
from lapsbench.vllm.lookup import NGRAM
from lapsbench.vllm.wanted import REPEATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lapsbench.profile.parts import Parts
    from lapsbench.vllm.wanted import Wanted


def recorded(
    wanted: Wanted, model: str, draft: Mapping[str, Any], parts: Parts, progress: Callable[[float, float, str], None]
) -> Bank:
    """Return the acceptance of all prompts, and note what drafting takes; what was done before is not done again.

    Raises:
        LapsbenchError: prompts that cannot be read, or a model that does not load.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts = [encode(prompt, tokenizer) for prompt in read_prompts(wanted.prompts)]
    batches, _ = wanted.axes()
    done = {line["prompt_id"] for line in parts.of("recording")}
    left = [prompt for prompt in prompts if prompt.prompt_id not in done]
    timed = {line["rounds"] for line in parts.of("drafting")}
    if left or set(batches) - timed:
        log = wanted.out / "parts" / "steps.jsonl"
        longest = max(len(prompt.tokens) for prompt in prompts) + wanted.max_new_tokens + 2 * wanted.draft_tokens + 1
        settings = {**draft, "num_speculative_tokens": wanted.draft_tokens}
        sizes = (batches[-1], longest, wanted.batched_tokens, wanted.block_tokens)
        with Composed(Shape(model, wanted.draft_tokens, *sizes, wanted.dtype, settings, str(log))) as bench:
            for first in range(0, len(left), batches[-1]):
                wave = left[first : first + batches[-1]]
                progress(len(prompts) - len(left) + first, len(prompts), "recording acceptance")
                for line in answered(bench, wave, wanted.max_new_tokens, tokenizer.eos_token_id, log):
                    parts.keep("recording", **line)
            for rounds in sorted(set(batches) - timed):
                sent = [bench.send(list(prompts[each % len(prompts)].tokens)) for each in range(rounds)]
                bench.wait()
                times = [each.draft_s for each in bench.rounds(2 * REPEATS)]
                parts.keep("drafting", rounds=rounds, drafts=wanted.draft_tokens, draft_s=times)
                bench.drop(sent)
    bank = bank_of(parts.of("recording"), wanted.draft_tokens, varies=draft["method"] == NGRAM)
    parts.keep_fact("reconciliation", reconciled(bank, parts.of("recording")))
    return bank


def answered(
    bench: Composed, wave: Sequence[Encoded], most_tokens: int, end: int | None, log: Path
) -> list[dict[str, Any]]:
    """Answer prompts together; return what each recorded."""
    first = bench.sent
    for prompt in wave:
        bench.send(list(prompt.tokens), most_tokens, end)
    while bench.llm.has_unfinished_requests():
        bench.step()
    rows = parse(log.read_bytes(), str(log)).rows
    lines = []
    for place, prompt in enumerate(wave):
        mine = rows[rows[:, 1] == first + place]
        emitting = mine[mine[:, 5] > 0]
        runs, drafted = runs_of(emitting[:, 4].tolist(), emitting[:, 5].tolist())
        about = {"prompt_id": prompt.prompt_id, "category": prompt.category, "prompt_tokens": len(prompt.tokens)}
        counts = {"rounds": len(emitting) - 1, "drafted": int(emitting[1:, 4].sum())}
        lines.append({**about, **counts, "accept_runs": runs.tolist(), "drafted_runs": drafted.tolist()})
    return lines


def bank_of(lines: Sequence[Mapping[str, Any]], drafts: int, *, varies: bool) -> Bank:
    """Return recordings as a bank; `varies`: the drafter does not always find as many."""
    lengths = [len(line["accept_runs"]) for line in lines]
    return Bank(
        np.array([line["prompt_id"] for line in lines], object),
        np.array([line["category"] for line in lines], object),
        np.array([line["prompt_tokens"] for line in lines], np.int32),
        np.array(lengths, np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([np.array(line["accept_runs"], np.uint8) for line in lines]),
        drafts,
        np.concatenate([np.array(line["drafted_runs"], np.uint8) for line in lines]) if varies else None,
    )


def reconciled(bank: Bank, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Hold the rounds that the bank replays against those that the engine took.

    Raises:
        LapsbenchError: they differ.
    """
    took, drafted = (sum(line[name] for line in lines) for name in ("rounds", "drafted"))
    found = rounds_of(bank, bank.draft_tokens_max)
    if int(found.rounds.sum()) != took:
        what = f"the bank replays in {int(found.rounds.sum()):,} rounds what vLLM did in {took:,}"
        raise LapsbenchError(what, where="acceptance", hint="reporting this")
    return {"rounds": took, "drafted": drafted, "tokens_per_round": found.tokens_per_round}
