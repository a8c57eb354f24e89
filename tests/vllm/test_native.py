"""`--engine vllm-native`, the installed vLLM's own scheduler, says what `--engine vllm` says: table and run folder."""

from __future__ import annotations

import json

import polars as pl
import pytest
from commands import process

from lapsbench.vllm import VERSION

LINE = (
    "replay --engine {engine} --limit 60 --profile cpu-smollm2-135m-ngram --policy fcfs --policy srpt --policy laps-sd "
    "--load 0.9 --repeats 2 --kv-tokens 6000 --batched-tokens 512 --on-preempt {on_preempt} --scheduling {scheduling} "
    "--out {engine} --quiet"
)


@pytest.mark.parametrize(("on_preempt", "scheduling"), [("recompute", "sync"), ("keep", "async")])
def test_the_installed_vllm_says_the_same(tmp_path, on_preempt, scheduling):
    said = {}
    for engine in ("vllm", "vllm-native"):
        line = LINE.format(engine=engine, on_preempt=on_preempt, scheduling=scheduling)
        done = process(line, tmp_path, timeout=300).fine()
        said[engine] = done.out.partition("arrivals")[2]
        manifest = json.loads((tmp_path / engine / "manifest.json").read_text())
        assert (manifest["rules"], manifest["rules_version"][: len(VERSION)]) == (engine, VERSION)
        assert f"engine: {engine} {VERSION}" in done.out
    assert said["vllm"] == said["vllm-native"] != ""
    ours, theirs = (pl.read_parquet(tmp_path / engine / "requests.parquet") for engine in said)
    assert ours.equals(theirs)
