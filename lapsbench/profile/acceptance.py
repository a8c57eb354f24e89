"""Measure acceptance: the target answers prompts, the draft reads along, and a bank of recordings comes out.

Works in parts of a batch each, so that what is recorded stays recorded. Knows prompts and banks; files are for whoever
passes `save`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lapsbench.core import Bank
from lapsbench.decoding.decoder import Decoder
from lapsbench.decoding.generation import generate
from lapsbench.errors import LapsbenchError
from lapsbench.profile.accept_runs import greedy_runs, sampled_runs
from lapsbench.profile.prompts import Encoded, encode, spread
from lapsbench.profile.reconciliation import Reconciliation, reconcile, until_eos
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lapsbench.core import Bytes
    from lapsbench.decoding.drafts import ModelDraft, NgramDraft
    from lapsbench.decoding.network import Network
    from lapsbench.models.loaded import Loaded
    from lapsbench.models.sources import LoadedDraft
    from lapsbench.profile.prompts import Prompt

ROOM_TOKENS = 4096
"""Prompt and output of one recording, unless the models hold fewer: longer prompts are left out."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How acceptance is recorded.

    Attributes:
        max_new_tokens: output tokens of a recording at most.
        draft_tokens_max: runs of accepted drafts are cut there, 1 to 255.
        temperature: 0 for greedy decoding.
        seed: of sampling.
        batch: prompts answered at once.
        check_prompts, check_draft_tokens: what the reconciliation decodes again, and its k.
    """

    max_new_tokens: int = 128
    draft_tokens_max: int = 8
    temperature: float = 0.0
    seed: int = 0
    batch: int = 8
    check_prompts: int = 8
    check_draft_tokens: int = 4

    @property
    def generated_tokens(self) -> int:
        """Tokens the target says: past the recording's end, so that its last runs are not cut short."""
        return self.max_new_tokens + self.draft_tokens_max

    def room(self, prompt_tokens: int) -> int:
        """Return the tokens a slot must hold for a prompt of that size."""
        return prompt_tokens + self.generated_tokens + 2 * self.draft_tokens_max + 2


@dataclass(frozen=True, slots=True)
class Measured:
    """A bank that was reconciled with the decoder, and the ids of prompts too long to be in it."""

    bank: Bank
    too_long: tuple[str, ...]
    reconciliation: Reconciliation


def refuse_random(target: Loaded, draft: LoadedDraft) -> None:
    """Refuse models whose acceptance means nothing.

    Raises:
        LapsbenchError: the weights of the target or the draft were drawn at random.
    """
    for flag, name, random in (("--target", target.name, target.random), ("--draft", draft.name, draft.random)):
        if random:
            raise LapsbenchError(
                "random weights accept drafts by chance alone: only costs can be measured",
                where=f"{flag} {name}",
                hint="profiling costs only, or a model with its weights",
            )


def measure(
    target: Loaded,
    draft: LoadedDraft,
    prompts: Sequence[Prompt],
    settings: Settings,
    *,
    done: Bank | None = None,
    save: Callable[[Bank], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Return the acceptance of a draft on prompts, recorded and then checked against the real decoder.

    Args:
        target: what answers.
        draft: what reads along.
        prompts: what is asked.
        settings: how.
        done: what an interrupted measurement had saved, under the same settings and prompts; not measured again.
        save: called with everything recorded so far after each batch of prompts.
        progress: called with prompts recorded and prompts in all.

    Raises:
        LapsbenchError: random weights, no tokenizer, no prompt short enough, out of memory, or recording and decoder
            disagree.
    """
    refuse_random(target, draft)
    encoded, too_long = fitting(target, draft, prompts, settings)
    longest = max(len(prompt.tokens) for prompt in encoded)
    try:
        network = target.network(min(settings.batch, len(encoded)), settings.room(longest))
        attached = draft.attach(network)
        bank = record(network, attached, encoded, settings, target.eos, done=done, save=save, progress=progress)
        checked = spread(encoded, settings.check_prompts)
        reconciliation = reconcile(
            network,
            attached,
            checked,
            bank,
            draft_tokens=min(settings.check_draft_tokens, settings.draft_tokens_max),
            max_new_tokens=settings.max_new_tokens,
            eos=target.eos,
            temperature=settings.temperature,
            seed=settings.seed,
        )
    except torch.OutOfMemoryError as error:
        what = f"{settings.batch} prompts at once do not fit into the memory of {target.device}"
        raise LapsbenchError(what, where="acceptance", hint="fewer at once, or shorter prompts") from error
    return Measured(bank, too_long, reconciliation)


def fitting(
    target: Loaded, draft: LoadedDraft, prompts: Sequence[Prompt], settings: Settings
) -> tuple[list[Encoded], tuple[str, ...]]:
    """Return the prompts that models and settings have room for, as tokens, and the ids of those that are too long.

    Raises:
        LapsbenchError: the target has no tokenizer, or no prompt is short enough.
    """
    if target.tokenizer is None:
        hint = "a folder with its tokenizer's files"
        raise LapsbenchError("the model has no tokenizer, so it cannot read prompts", where=target.name, hint=hint)
    most = min(ROOM_TOKENS, target.positions, draft.positions)
    encoded = [encode(prompt, target.tokenizer) for prompt in prompts]
    kept = [prompt for prompt in encoded if settings.room(len(prompt.tokens)) <= most]
    if not kept:
        raise LapsbenchError(
            f"all {len(encoded)} prompts are too long: prompt and answer have room for {most} tokens",
            where="--prompts",
            hint="shorter prompts, or fewer new tokens",
        )
    fits = {prompt.prompt_id for prompt in kept}
    return kept, tuple(prompt.prompt_id for prompt in encoded if prompt.prompt_id not in fits)


def record(
    target: Network,
    draft: ModelDraft | NgramDraft,
    prompts: Sequence[Encoded],
    settings: Settings,
    eos: Sequence[int],
    *,
    done: Bank | None = None,
    save: Callable[[Bank], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bank:
    """Return accept_runs of all prompts, in their order; arguments as for `measure`.

    Raises:
        LapsbenchError: `done` holds other prompts.
    """
    runs = {} if done is None else _runs_by_prompt(done, prompts, settings)
    for number, start in enumerate(range(0, len(prompts), settings.batch)):
        part = prompts[start : start + settings.batch]
        if any(prompt.prompt_id not in runs for prompt in part):
            recorded = _record_part(target, draft, part, settings, eos, number)
            runs |= {prompt.prompt_id: run for prompt, run in zip(part, recorded, strict=True)}
            if save is not None:
                save(_bank([prompt for prompt in prompts if prompt.prompt_id in runs], runs, settings))
        if progress is not None:
            progress(start + len(part), len(prompts))
    return _bank(prompts, runs, settings)


def _record_part(
    target: Network,
    draft: ModelDraft | NgramDraft,
    part: Sequence[Encoded],
    settings: Settings,
    eos: Sequence[int],
    number: int,
) -> list[Bytes]:
    """Return accept_runs of a batch of prompts: the same whichever batches were recorded before."""
    seed = int(stream(settings.seed, f"profile/acceptance/part/{number}").integers(2**63))
    prompts = [prompt.tokens for prompt in part]
    generation = generate(
        Decoder(target, None, 0),
        prompts,
        settings.generated_tokens,
        temperature=settings.temperature,
        seed=seed,
        eos=eos[0] if eos else None,
    )
    outputs = [until_eos(tokens, eos) for tokens in generation.tokens]
    most = settings.draft_tokens_max
    if settings.temperature == 0:
        runs = greedy_runs(draft, prompts, outputs, most)
    else:
        runs = sampled_runs(target, draft, prompts, outputs, most, temperature=settings.temperature, seed=seed)
    return [run[: settings.max_new_tokens] for run in runs]


def _runs_by_prompt(done: Bank, prompts: Sequence[Encoded], settings: Settings) -> dict[str, Bytes]:
    sizes = {prompt.prompt_id: len(prompt.tokens) for prompt in prompts}
    for name, tokens in zip(done.prompt_id, done.prompt_tokens, strict=True):
        if sizes.get(name) != tokens:
            raise LapsbenchError(
                f"prompt {name!r} was recorded before, and is not among the prompts now",
                where="acceptance",
                hint="the same prompts and target as before, or another folder",
            )
    if done.draft_tokens_max != settings.draft_tokens_max:
        what = f"recorded up to {done.draft_tokens_max} drafts before, {settings.draft_tokens_max} are asked for now"
        raise LapsbenchError(what, where="--draft-tokens-max", hint="the same as before, or another folder")
    parts = np.split(done.accept_runs, done.offsets[1:-1])
    return dict(zip(done.prompt_id, parts, strict=True))


def _bank(prompts: Sequence[Encoded], runs: dict[str, Bytes], settings: Settings) -> Bank:
    arrays = [runs[prompt.prompt_id] for prompt in prompts]
    output_tokens = np.array([len(array) for array in arrays], dtype=np.int32)
    return Bank(
        prompt_id=np.array([prompt.prompt_id for prompt in prompts], dtype=object),
        category=np.array([prompt.category for prompt in prompts], dtype=object),
        prompt_tokens=np.array([len(prompt.tokens) for prompt in prompts], dtype=np.int32),
        output_tokens=output_tokens,
        offsets=np.concatenate([[0], np.cumsum(output_tokens)]).astype(np.int64),
        accept_runs=np.concatenate(arrays).astype(np.uint8),
        draft_tokens_max=settings.draft_tokens_max,
    )
