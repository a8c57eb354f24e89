"""Models as vLLM takes them, and what it says against one, in a line."""

from __future__ import annotations

from typing import Any

from lapsbench import files
from lapsbench.errors import LapsbenchError
from lapsbench.vllm.lookup import LOOKUP, NGRAM


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
    """Return a model as vLLM takes it: as `models.folders.model_folder`, in bfloat16."""
    from lapsbench.models.folders import model_folder  # noqa: PLC0415 - torch takes seconds

    return model_folder(model, flag, "bfloat16")


def speculation(draft: str) -> dict[str, Any]:
    """Return vLLM's speculative configuration of "ngram", "ngram:N", "eagle:MODEL" or MODEL; empty for "".

    Raises:
        LapsbenchError: no such model.
    """
    name, _, rest = draft.partition(":")
    if name == NGRAM:
        most = int(rest or LOOKUP)
        return {"method": NGRAM, "prompt_lookup_min": min(2, most), "prompt_lookup_max": most}
    method, model = ("eagle", rest) if name == "eagle" else ("draft_model", draft)
    return {"method": method, "model": folder_of(model, "--draft")} if model else {}
