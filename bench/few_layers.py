"""Keeps the first layers of a model, `python bench/few_layers.py MODEL LAYERS FOLDER`: its sizes, and shorter steps."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from lapsbench.models.folders import model_folder


def main(name: str, layers: int, out: Path) -> None:
    """Write the folder, unless it is there."""
    if (out / "config.json").exists():
        return
    whole = model_folder(name, "MODEL", "bfloat16")
    model = AutoModelForCausalLM.from_pretrained(whole, dtype="bfloat16")
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    AutoTokenizer.from_pretrained(whole).save_pretrained(part)
    part.rename(out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
