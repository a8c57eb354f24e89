"""The first line of a step log: what a replay has to know of vLLM's engine and of the policy."""

from __future__ import annotations

from typing import Any

from lapsbench.engines import rules_version
from lapsbench.policies.registry import spec_of


def header(scheduler: Any) -> dict[str, Any]:
    """Return what a replay has to know of the engine and policy of a scheduler of ours."""
    config, blocks = scheduler.vllm_config, scheduler.kv_cache_manager.block_pool.num_gpu_blocks
    drafts = config.speculative_config
    return {
        "engine": "vllm",
        "rules_version": rules_version("vllm-native"),
        "policy": spec_of(scheduler.chosen),
        "on_preempt": "keep" if scheduler.keep else "recompute",
        "model": config.model_config.model,
        "max_batch": scheduler.max_num_active_reqs,
        "draft_tokens": scheduler.num_spec_tokens,
        "draft_method": drafts.method if drafts else None,
        "batched_tokens": scheduler.max_num_scheduled_tokens,
        "block_tokens": scheduler.block_size,
        "kv_tokens": (blocks - 1) * scheduler.block_size,  # one is vLLM's null block
        "prefix_cache": bool(config.cache_config.enable_prefix_caching),
        "scheduling": "async" if config.scheduler_config.async_scheduling else "sync",
        "max_model_len": scheduler.max_model_len,
    }
