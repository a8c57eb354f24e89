"""vLLM configurations for a scheduler without a model: a folder with a config.json is all vLLM reads.

Making one takes seconds, so one is made per draft method, and copies of its parts are altered.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from vllm import EngineArgs
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

from lapsbench.schedules import as_vllm, parsed

if TYPE_CHECKING:
    from lapsbench.core import Engine

LONGEST = 1 << 20
"""Context of the stub model, in tokens; each configuration lowers it to its own."""
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": LONGEST,
    "torch_dtype": "float32",
}


def configured(engine: Engine, blocks: int, *, policy: str = "fcfs") -> Any:
    """Return vLLM's configuration of this engine, with so many KV blocks, under one of vLLM's own policies."""
    config = copy.copy(_made(engine.draft_method if engine.draft_tokens else ""))
    for part in ("scheduler_config", "cache_config", "model_config", "speculative_config"):
        setattr(config, part, copy.copy(getattr(config, part)))
    scheduler = config.scheduler_config
    scheduler.max_num_seqs, scheduler.policy = engine.max_batch, policy
    scheduler.max_num_batched_tokens = scheduler.max_num_scheduled_tokens = engine.batched_tokens
    scheduler.async_scheduling = engine.scheduling == "async"
    config.cache_config.num_gpu_blocks = blocks
    config.cache_config.enable_prefix_caching = engine.prefix_cache
    config.cache_config.block_size = engine.block_tokens
    config.model_config.max_model_len = min(engine.context_limit, LONGEST)
    if engine.draft_tokens:
        config.speculative_config.num_speculative_tokens = engine.draft_tokens
        config.speculative_config.num_speculative_tokens_per_batch_size = (
            as_vllm(parsed(engine.schedule), engine.max_batch) if engine.schedule else None
        )
    return config


def memory(engine: Engine, blocks: int) -> KVCacheConfig:
    """Return a KV memory of so many blocks, for one group of layers with full attention."""
    spec = FullAttentionSpec(block_size=engine.block_tokens, num_kv_heads=1, head_size=1, dtype=torch.float32)
    group = KVCacheGroupSpec(["layer"], spec)
    return KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[group])


@cache
def _made(method: str) -> Any:
    """Return vLLM's configuration with a draft method, or "" for none."""
    with tempfile.TemporaryDirectory() as folder:
        drafts: dict[str, Any] = {"method": method, "num_speculative_tokens": 1}
        if method == "ngram":
            drafts |= {"prompt_lookup_min": 2, "prompt_lookup_max": 2}
        elif method == "eagle":
            drafts["model"] = _stub(Path(folder, "eagle"), architectures=["EagleLlamaForCausalLM"])
        else:
            drafts["model"] = _stub(Path(folder, "draft"))
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; asked for, never taken
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # what it says is about a server that is not there
        return EngineArgs(
            model=_stub(Path(folder, "model")),
            skip_tokenizer_init=True,
            dtype="float32",
            max_model_len=LONGEST,
            max_num_seqs=64,
            max_num_batched_tokens=8192,
            enforce_eager=True,
            enable_prefix_caching=True,
            speculative_config=drafts if method else None,
        ).create_engine_config()


def _stub(folder: Path, **settings: Any) -> str:
    """Write a model folder with nothing but its configuration."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA | settings))
    return str(folder)
