"""`lapsbench profile` takes no more than a machine with a GPU has: torch, transformers, typer, numpy, pyarrow."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install 'lapsbench[profile]'")

import tiny
from commands import plain_environment

BARE = """
import builtins, importlib.machinery, sys

MISSING = {"polars", "rich", "altair", "vl_convert", "pooch", "accelerate", "gguf", "psutil", "scipy"}
finder = importlib.machinery.PathFinder
imported = builtins.__import__

class Bare:
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else finder.find_spec(name, path, target)

    def find_distributions(*about):
        return (each for each in finder.find_distributions(*about) if each.name.replace("-", "_") not in MISSING)

def without_pydantic(name, space=None, *others, **named):  # newer versions of typer have it for themselves
    if name.partition(".")[0] == "pydantic" and (space or {}).get("__name__", "").startswith("lapsbench"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return imported(name, space, *others, **named)

builtins.__import__ = without_pydantic
sys.meta_path[:] = [Bare if each is finder else each for each in sys.meta_path]
sys.path_importer_cache.clear()

from lapsbench.cli import main

main()
"""
"""The command in a Python that finds none of what such a machine lacks."""


@pytest.fixture
def bare(tmp_path):
    """A folder with a target, a draft and a prompt, and how to run a command line there."""
    tiny.save(tmp_path / "T")
    tiny.save(tmp_path / "D", noise=0.02)
    (tmp_path / "asked.jsonl").write_text(json.dumps({"prompt": "Why not?", "category": "a"}) + "\n")

    def run(line):
        command = [sys.executable, "-c", BARE, *shlex.split(line)]
        return subprocess.run(
            command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120, env=plain_environment()
        )

    run.folder = tmp_path
    return run


def test_profile_measures_records_and_tells_without_polars_rich_and_pydantic(bare):
    small = "--device cpu --batches 1 --contexts 16 --draft-tokens 1 --max-new-tokens 8 --budget-s 2"
    done = bare(f"profile --target T --draft D --prompts asked.jsonl --out P {small}")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (bare.folder / "P").iterdir()) == ["acceptance.parquet", "cost.parquet"]
    assert "expected speed-up over plain decoding" in done.stdout
    assert "recording and decoder agree" in done.stderr


def test_a_plan_and_help_are_printed_there_too(bare):
    small = "--device cpu --batches 1 --contexts 16 --draft-tokens 1"
    plan = bare(f"profile --target T --draft D --out P --dry-run {small}")
    assert plan.stdout.startswith("would measure "), plan.stderr
    assert "--costs-only" in bare("profile --help").stdout


def test_a_command_that_takes_more_says_what_is_missing(bare):
    done = bare("replay")
    assert done.returncode == 1
    assert done.stderr == "error: this command takes pydantic, which is not installed; try pip install lapsbench\n"
