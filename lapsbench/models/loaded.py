"""A loaded model and what is known about it: sizes, tokens, and the facts that go into a profile's provenance."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lapsbench.decoding.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SAMPLE = 64
"""Numbers of each weight that enter the fingerprint: tells a fine-tuned copy apart, and reads next to nothing."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A causal language model on its device.

    Attributes:
        name: as typed.
        label: what it is and what its numbers are worth, for people.
        model: ready for `Network`; on the device "meta" it has sizes and no weights.
        tokenizer: None where it has none.
        eos: tokens that end an output; empty where nothing does.
        vocabulary: tokens that count; the embedding may be padded beyond.
        parameters, weights_bytes: of all weights, tied ones once.
        random: its weights were drawn, so only its costs mean anything.
        facts: for the provenance, JSON-able.
    """

    name: str
    label: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    eos: tuple[int, ...]
    vocabulary: int
    parameters: int
    weights_bytes: int
    random: bool
    facts: Mapping[str, Any]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are made of."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def padded_vocabulary(self) -> int:
        """Rows of the embedding."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def positions(self) -> int:
        """Tokens a sequence may have."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 2**31)

    def network(self, slots: int, room: int) -> Network:
        """Return it with a cache of `slots` sequences of up to `room` tokens."""
        return Network(self.model, slots=slots, room=room, vocabulary=self.vocabulary)


def describe(
    name: str,
    label: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    facts: Mapping[str, Any],
    *,
    vocabulary: int | None = None,
    random: bool = False,
) -> Loaded:
    """Return a model with its sizes and facts.

    Args:
        name: as typed.
        label: for people.
        model: on its device.
        tokenizer: None where it has none.
        facts: what else the provenance should say.
        vocabulary: tokens that count; None for all the tokenizer has.
        random: its weights were drawn.
    """
    parameters = list(model.parameters())
    padded = int(model.config.get_text_config().vocab_size)
    if vocabulary is None:
        vocabulary = padded if tokenizer is None else min(padded, len(tokenizer))
    count = sum(parameter.numel() for parameter in parameters)
    about = {
        "model": name,
        "parameters": count,
        "dtype": str(model.dtype).removeprefix("torch."),
        "config_sha256": _config_sha256(model.config),
    }
    if model.device.type != "meta":
        about["weights_sample_sha256"] = _fingerprint(model)
    return Loaded(
        name=name,
        label=label,
        model=model,
        tokenizer=tokenizer,
        eos=_eos(model, tokenizer),
        vocabulary=vocabulary,
        parameters=count,
        weights_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        random=random,
        facts=about | dict(facts),
    )


def _eos(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> tuple[int, ...]:
    """Return what the model says it ends with; a tokenizer's word counts last: SmolLM2's GGUF names the wrong one."""
    if tokenizer is None:
        return ()
    for said in (getattr(model.generation_config, "eos_token_id", None), model.config.get_text_config().eos_token_id):
        if said is not None:
            return (said,) if isinstance(said, int) else tuple(said)
    return () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)


def _config_sha256(config: PreTrainedConfig) -> str:
    """Return a digest of the sizes, the same wherever the model lies and whatever dtype it was saved in."""
    own = {key: value for key, value in config.to_dict().items() if key not in ("dtype", "transformers_version")}
    own = {key: value for key, value in own.items() if not key.startswith("_")}
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()


def _fingerprint(model: PreTrainedModel) -> str:
    every = [parameter.detach().flatten()[:SAMPLE].float() for parameter in model.parameters()]
    return hashlib.sha256(torch.cat(every).cpu().numpy().tobytes()).hexdigest()
