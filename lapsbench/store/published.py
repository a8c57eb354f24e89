"""Make the shipped profile from published figures: `python -m lapsbench.store.published [FOLDER]`.

Nothing here was measured by this project. Step costs are the linear fit that the authors of "Speculative Decoding:
Performance or Illusion?" (arXiv 2601.11580) publish for Llama-3.1-8B on one H100 with EAGLE-3; the time to move a KV
cache is derived from stated hardware facts; the acceptance bank is generated to the statistics of their recordings.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench import resources
from lapsbench.acceptance.prompts import Prompts
from lapsbench.acceptance.synthetic import Synthetic, generate
from lapsbench.core import Profile
from lapsbench.store.linear import Linear, step_model, tabulate, together
from lapsbench.store.profile import write_profile

if TYPE_CHECKING:
    from lapsbench.core import Bank, Costs

NAME = "h100-llama3.1-8b-eagle3"
SEED = 20260111
DRAFT_TOKENS_MAX = 8

TARGET_PASS = Linear(5.88590713e-3, 2.10103129e-5, 3.92645679e-8)
DRAFTING = Linear(2.13526175e-3, 8.41429603e-7, 2.37768493e-9)
OVERHEAD = Linear(1.20683946e-3)

KV_BYTES_PER_TOKEN = 2 * 32 * 8 * 128 * 2
"""Keys and values, 32 layers, 8 KV heads of 128, 2 bytes each: Llama-3.1-8B in bfloat16."""
KV_TOKENS = 410_000
"""What 90 % of an 80 GB card (79.6 GiB) hold beside 15.0 GiB of weights, 0.8 of the draft's and 5.8 for activations and
graphs: 50 GiB in such tokens. Derived, not measured."""
PCIE_BYTES_PER_S = 50e9
"""Of the 63e9 bytes a second each way of PCIe 5.0 x16 on paper, what long copies get: our assumption."""
SWAP = Linear(0.0, 0.0, KV_BYTES_PER_TOKEN / PCIE_BYTES_PER_S)

SWAPPED = (1, 32768)

CATEGORIES = ("chat", "coding", "math", "summary")
WANTED = Synthetic(mean=2.25, spread=0.2, memory=0.12, drift=0.08, draft_tokens=3, draft_tokens_max=DRAFT_TOKENS_MAX)

PROVENANCE = {
    "label": "published figures, not measured here",
    "device": "NVIDIA H100 (published)",
    "models": {"target": "Llama-3.1-8B", "draft": "EAGLE-3"},
    "draft_method": "eagle",
    "kv_tokens": KV_TOKENS,
    "source": "Speculative Decoding: Performance or Illusion?, arXiv 2601.11580; github.com/SpecDecode-Bench/simulator",
    "fit": "by its authors, on InstructCoder at batch sizes 1 to 64; larger batches and long contexts extrapolate it",
    "formulas": {
        "form": "time_s = fixed_s + per_token_s * batch * query + per_kv_token_s * batch * context",
        "verify": {"published": asdict(TARGET_PASS)},
        "draft": {"published": asdict(DRAFTING), "note": "query = tokens drafted in the round"},
        "prefill": {"published": asdict(TARGET_PASS), "note": "a target pass of query tokens over context cached ones"},
        "overhead": {"published": asdict(OVERHEAD)},
        "draft_prefill": "none published, none charged",
        "swap_out, swap_in": {
            "derived, not measured": asdict(SWAP),
            "note": f"{KV_BYTES_PER_TOKEN} KV bytes a token over PCIe 5.0 x16 at {PCIE_BYTES_PER_S:g} bytes a second",
        },
    },
    "acceptance": {
        "kind": "generated, not recorded",
        "wanted": asdict(WANTED),
        "after": "the simulator's ShareGPT recordings at k = 3; lengths after the Azure 2023 chat trace",
        "category": "names only: acceptance does not depend on it",
    },
    "seed": SEED,
    "command": "python -m lapsbench.store.published",
}


def published() -> Profile:
    """Return the shipped profile; the same on every call."""
    return Profile(NAME, _costs(), _bank(), PROVENANCE)


def _costs() -> Costs:
    return together(
        [
            step_model(TARGET_PASS, DRAFTING, OVERHEAD, DRAFT_TOKENS_MAX),
            tabulate("swap_out", SWAP, context_tokens=SWAPPED),
            tabulate("swap_in", SWAP, context_tokens=SWAPPED),
        ]
    )


def _bank() -> Bank:
    prompts = Prompts.like_chat(SEED, CATEGORIES)
    return generate(
        WANTED,
        SEED,
        prompt_id=prompts.prompt_id,
        category=prompts.category,
        prompt_tokens=prompts.prompt_tokens,
        output_tokens=prompts.output_tokens,
    )


if __name__ == "__main__":
    write_profile(Path(sys.argv[1]) if len(sys.argv) > 1 else resources.shipped("profiles") / NAME, published())
