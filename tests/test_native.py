"""Machine code kept on disk: a warm start takes no Numba, and whatever lies in the cache ends in the right result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SCRIPT, lapsbench, plain_environment

import lapsbench as package
from lapsbench.compiled import native

LINE = "replay --limit 200 --policy fcfs --policy srpt --repeats 2 --quiet"
RANK = "lapsbench.policies.srpt.srpt"
"""The name of what is damaged: it compiles in no time."""
WARM = f"""
import sys
from lapsbench.cli import main
sys.argv = ["lapsbench", *{LINE.split()!r}]
try:
    main()
finally:
    print(*({{"numba", "polars"}} & set(sys.modules)), file=sys.stderr)
"""
ALL = """
import sys
from lapsbench.drafts import binding as drafts, registry as controllers
from lapsbench.policies import binding, registry
for policy in registry.builtin().values():
    binding.compiled(policy)
for controller in controllers.builtin().values():
    drafts.compiled(controller)
print("numba" in sys.modules)
"""
ONE = """
import sys
from lapsbench.policies import binding, registry
binding.compiled(registry.find("srpt"))
print("numba" in sys.modules)
"""


def python(script, cwd=None, **environment):
    environment = plain_environment() | environment
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Make sure that all is on disk, and return what the line prints."""
    return lapsbench(LINE, tmp_path_factory.mktemp("first")).fine().out


@pytest.fixture
def cache(table, tmp_path):
    """Return a copy of the machine code on disk, as `NUMBA_CACHE_DIR` of other processes."""
    folder = tmp_path / "cache" / "lapsbench"
    folder.mkdir(parents=True)
    for kept in next(each for each in native.folders() if native.file_of(each, RANK).exists()).glob("*.native"):
        shutil.copy(kept, folder)
    return folder


def run(cache):
    done = subprocess.run(
        [SCRIPT, *LINE.split()],
        check=False,
        capture_output=True,
        text=True,
        env=plain_environment() | {"NUMBA_CACHE_DIR": str(cache.parent)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_warm_replay_imports_neither_numba_nor_polars(table):
    done = python(WARM)
    assert (done.stdout, done.stderr) == (table, "\n")


def test_every_built_in_policy_and_controller_is_called_without_numba_from_the_second_time_on():
    assert [python(ALL).stdout for _ in range(2)][1] == "False\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda held: held[:50],
        lambda held: held[:-1],
        lambda held: held[:-9] + bytes([held[-9] ^ 1]) + held[-8:],
        lambda held: bytes([held[0] ^ 1]) + held[1:],  # somebody else's
        lambda held: held + b"x",
    ],
    ids=["empty", "short", "an end missing", "a bit turned", "another key", "more"],
)
def test_a_file_that_is_not_what_was_kept_is_compiled_anew_and_replaced(table, cache, damage):
    kept = native.file_of(cache, RANK)
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert run(cache) == table
    assert python(ONE, NUMBA_CACHE_DIR=str(cache.parent)).stdout == "False\n"


def test_where_nothing_can_be_written_a_run_compiles_for_itself(table, cache):
    native.file_of(cache, RANK).unlink()
    native.file_of(cache, RANK).mkdir()
    before = sorted(cache.iterdir())
    assert run(cache) == table
    assert sorted(cache.iterdir()) == before


def test_two_processes_at_once_both_compile_and_leave_one_whole_file(table, cache):
    for kept in cache.glob("lapsbench.policies.*"):
        kept.unlink()
    environment = plain_environment() | {"NUMBA_CACHE_DIR": str(cache.parent)}
    both = [
        subprocess.Popen([SCRIPT, *LINE.split()], stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)
    ]
    assert [each.communicate()[0] for each in both] == [table] * 2
    assert python(ONE, NUMBA_CACHE_DIR=str(cache.parent)).stdout == "False\n"
    assert all(kept.suffix == ".native" for kept in cache.iterdir())


def test_code_made_under_other_settings_of_the_compiler_is_not_taken(table, cache):
    assert python(ONE, NUMBA_CACHE_DIR=str(cache.parent), NUMBA_OPT="1").stdout == "True\n"


def test_an_edited_source_is_compiled_anew(tmp_path):
    mine, cache = tmp_path / "lapsbench", {"cwd": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    shutil.copytree(Path(package.__file__).parent, mine, ignore=shutil.ignore_patterns("__pycache__"))
    assert [python(ONE, **cache).stdout for _ in range(2)] == ["True\n", "False\n"]
    helper = mine / "policies" / "view.py"  # not the policy's own file
    stamp = helper.stat()
    helper.write_text(helper.read_text().replace("1e7", "1e8"))
    os.utime(helper, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert [python(ONE, **cache).stdout for _ in range(2)] == ["True\n", "False\n"]


def test_a_users_policy_is_compiled_anew_where_our_code_was_edited(tmp_path):
    """Else what an older version made of it would read fields where they are no more."""
    mine, cache = tmp_path / "lapsbench", {"cwd": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    shutil.copytree(Path(package.__file__).parent, mine, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "own.py").write_text("def mine(job, system):\n    return -job.prompt_tokens\n")
    line = "from lapsbench.policies import binding, registry; binding.compiled(registry.find('own.py:mine'))"

    def kept():
        python(line, **cache)
        return len([path for path in (tmp_path / "cache").rglob("*.nbi") if "mine" in path.name])

    assert [kept(), kept()] == [1, 1]
    with (mine / "core.py").open("a") as file:
        file.write("\nANOTHER = 1\n")
    assert kept() == 2
