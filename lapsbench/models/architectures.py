"""Real architectures with random weights: what a step costs depends on sizes, not on what the numbers say.

Sizes are those of the public config.json files. Acceptance of such a model means nothing, and is refused elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, OPTConfig, Qwen2Config

from lapsbench.errors import UsageError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedConfig


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a public model.

    Attributes:
        public: the hub id the sizes are from.
        vocabulary: tokens its tokenizer has; embeddings may be padded beyond.
        kind: the config's class.
        sizes: its fields.
    """

    public: str
    vocabulary: int
    kind: Callable[..., PreTrainedConfig]
    sizes: dict[str, Any]


def _llama3(factor: float) -> dict[str, Any]:
    stretched = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor, **stretched}
    return {"vocab_size": 128_256, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "rope_parameters": rope}


def _llama2(positions: int, eps: float) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    return {
        "vocab_size": 32_000,
        "max_position_embeddings": positions,
        "rms_norm_eps": eps,
        "tie_word_embeddings": False,
        "rope_parameters": rope,
    }


def _shape(layers: int, width: int, inner: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }


def _qwen(vocab_size: int, *, tied: bool) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    return {
        "vocab_size": vocab_size,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
        "rope_parameters": rope,
    }


def _opt(layers: int, width: int, heads: int) -> dict[str, Any]:
    return {
        "vocab_size": 50_272,
        "max_position_embeddings": 2048,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "word_embed_proj_dim": width,
        "ffn_dim": 4 * width,
        "num_attention_heads": heads,
    }


ARCHITECTURES = {
    "llama-3.1-8b": Architecture(
        "meta-llama/Llama-3.1-8B",
        128_256,
        LlamaConfig,
        _shape(32, 4096, 14_336, 32, 8) | _llama3(8.0) | {"tie_word_embeddings": False},
    ),
    "llama-3.2-1b": Architecture(
        "meta-llama/Llama-3.2-1B",
        128_256,
        LlamaConfig,
        _shape(16, 2048, 8192, 32, 8) | _llama3(32.0) | {"tie_word_embeddings": True},
    ),
    "qwen2.5-7b": Architecture(
        "Qwen/Qwen2.5-7B-Instruct",
        151_665,
        Qwen2Config,
        _shape(28, 3584, 18_944, 28, 4) | _qwen(152_064, tied=False),
    ),
    "qwen2.5-0.5b": Architecture(
        "Qwen/Qwen2.5-0.5B-Instruct",
        151_665,
        Qwen2Config,
        _shape(24, 896, 4864, 14, 2) | _qwen(151_936, tied=True),
    ),
    "vicuna-7b": Architecture(
        "lmsys/vicuna-7b-v1.5", 32_000, LlamaConfig, _shape(32, 4096, 11_008, 32, 32) | _llama2(4096, 1e-5)
    ),
    "vicuna-68m": Architecture(
        "double7/vicuna-68m", 32_000, LlamaConfig, _shape(2, 768, 3072, 12, 12) | _llama2(2048, 1e-6)
    ),
    "opt-6.7b": Architecture("facebook/opt-6.7b", 50_272, OPTConfig, _opt(32, 4096, 32)),
    "opt-125m": Architecture("facebook/opt-125m", 50_272, OPTConfig, _opt(12, 768, 12)),
}


def find_architecture(name: str) -> Architecture:
    """Return the architecture of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ARCHITECTURES:
        raise UsageError(f"unknown architecture {name!r}", where=f"arch:{name}", hint=", ".join(ARCHITECTURES))
    return ARCHITECTURES[name]


def build(config: PreTrainedConfig, seed: int, name: str, *, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a model with random weights, made on the device in the dtype: no copy of any other size exists.

    The weights are drawn by the stream "profile/weights/NAME" of `seed`; torch's own generators are left as they were.
    """
    number = int(stream(seed, f"profile/weights/{name}").integers(2**63))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(number)
        auto: Any = AutoModelForCausalLM  # transformers types it not
        model = auto.from_config(config, dtype=dtype)
    return model.eval()
