"""Models as vLLM takes them, and what it says against one, in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lapsbench import files
from lapsbench.errors import LapsbenchError

LOOKUP = 4
"""Tokens `ngram` matches at most, where its name does not say."""


class loading:  # noqa: N801 - reads as a function
    """Make what vLLM raises of a model one line."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, LapsbenchError):
            what = f"vLLM does not run it: {files.first_line(error)}"
            raise LapsbenchError(what, where=f"model {self.model}", hint="a model that this vLLM serves") from error


def folder_of(model: str, flag: str) -> str:
    """Return a model as vLLM takes it: a package's or a file's GGUF becomes a plain folder.

    Raises:
        LapsbenchError: no such package or file.
    """
    import torch  # noqa: PLC0415 - takes seconds

    from lapsbench.models.gguf_cache import digest, packaged_gguf, plain_folder  # noqa: PLC0415

    if not model.startswith("pypi:") and not model.endswith(".gguf"):
        if model.startswith((".", "/")) and not (Path(model) / "config.json").is_file():
            hint = "a model's folder, a hub id, pypi:PACKAGE"
            raise LapsbenchError("no folder with a config.json", where=f"{flag} {model}", hint=hint)
        return model
    gguf = packaged_gguf(model.removeprefix("pypi:")) if model.startswith("pypi:") else Path(model)
    if not gguf.is_file():
        raise LapsbenchError("no such file", where=f"{flag} {model}", hint="a GGUF file")
    return str(plain_folder(gguf, digest(gguf), torch.bfloat16))


def speculation(draft: str) -> dict[str, Any]:
    """Return vLLM's speculative configuration of "ngram", "ngram:N", "eagle:MODEL" or MODEL; empty for "".

    Raises:
        LapsbenchError: no such model.
    """
    name, _, rest = draft.partition(":")
    if name == "ngram":
        most = int(rest or LOOKUP)
        return {"method": "ngram", "prompt_lookup_min": min(2, most), "prompt_lookup_max": most}
    method, model = ("eagle", rest) if name == "eagle" else ("draft_model", draft)
    return {"method": method, "model": folder_of(model, "--draft")} if model else {}
