"""An install that nobody can write to, without a home: Numba has no place for compiled code, and a run works."""

from __future__ import annotations

import os
import subprocess

from commands import SCRIPT, plain_environment

NOWHERE = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": ""}
"""Numba looks at `NUMBA_CACHE_DIR` alone, which is empty: as if neither the source nor a home could be written."""


def run(line, temporary):
    environment = {**plain_environment(), **NOWHERE, "TMPDIR": str(temporary)}
    done = subprocess.run([SCRIPT, *line.split()], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    return done


def test_what_compiles_nothing_says_nothing(tmp_path):
    assert run("policies", tmp_path).stderr == ""
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_run_compiles_for_itself_and_says_how_to_keep_it(tmp_path):
    done = run("replay --limit 50 --repeats 1 --policy fcfs", tmp_path)
    assert "fcfs" in done.stdout
    assert "NUMBA_CACHE_DIR" in done.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208
