"""`lapsbench execute` with a child that stands in for the engine: what is kept, what it says, and how it ends badly.

That child serves in the reference's virtual time, so an executed run must be the replay of the same flags, to the bit.
The real engine serves in tests/vllm.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from commands import lapsbench, plain_environment, running
from fake_engine import fake_engine
from polars.testing import assert_frame_equal

from lapsbench.cli.execute import execute as execute_verb
from lapsbench.cli.replay import replay

FLAGS = "--profile cpu-smollm2-135m-ngram --limit 40 --max-batch 4 --repeats 1 --load 0.9"
FITS = "--max-model-len 8192 --kv-tokens 0"
TWO = "--policy fcfs --policy srpt"
HERE = Path(__file__).parent


def execute(flags, cwd, fault=""):
    with fake_engine(fault):
        return lapsbench(f"execute --target MODEL {flags}", cwd)


def requests(run):
    return pl.read_parquet(run / "requests.parquet")


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("on_preempt", ["recompute", "keep"])
@pytest.mark.parametrize("memory", ["--kv-tokens 0", "--kv-tokens 4096 --batched-tokens 512 --block-tokens 16"])
def test_an_executed_run_is_the_replay_where_the_engine_is_the_reference(tmp_path, k, on_preempt, memory):
    flags = f"{FLAGS} --max-model-len 4096 --block-tokens 128 --draft-tokens {k} --on-preempt {on_preempt} {memory}"
    execute(f"{flags} --policy fcfs --policy las --out real", tmp_path).fine()
    lapsbench(f"replay {flags} --draft-method ngram --policy fcfs --policy las --out simulated", tmp_path).fine()
    real, simulated = requests(tmp_path / "real"), requests(tmp_path / "simulated")
    if on_preempt == "keep":  # a log does not tell a round from a resumption that finds all its blocks again
        real, simulated = (
            each.with_columns(rounds=pl.col("rounds") + pl.col("resumes")).drop("resumes") for each in (real, simulated)
        )
    assert_frame_equal(real, simulated, check_exact=True)
    assert real["preemptions"].sum() > 0


def test_the_folder_says_that_it_was_executed_and_by_whom(tmp_path):
    execute(f"{FLAGS} {TWO} --out run", tmp_path).fine()
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert (manifest["kind"], manifest["rules"], manifest["rules_version"]) == ("executed", "vllm", "0.32.0")
    assert manifest["executed"]["acceptance"] == "imposed"
    assert manifest["command"].startswith("lapsbench execute --engine vllm --target MODEL --profile")
    said = "executed on vllm 0.32.0, MODEL, clock cpu"
    lapsbench("report run --html page.html", tmp_path).fine()
    for text in (
        lapsbench("report run", tmp_path).fine().out,
        lapsbench("report run --markdown -", tmp_path).fine().out,
        (tmp_path / "page.html").read_text(),
    ):
        assert said in " ".join(text.split())


def test_every_step_is_in_the_folder(tmp_path):
    execute(f"{FLAGS} {TWO} --load 0.5,0.9 --out run", tmp_path).fine()
    steps, served = pl.read_parquet(tmp_path / "run/steps.parquet"), requests(tmp_path / "run")
    assert steps.columns[:4] == ["policy", "load", "seed", "step"]
    cell = ["policy", "load", "seed", "request"]
    emitted = steps.group_by(cell).agg(pl.col("emitted").sum(), pl.col("end_s").max())
    joined = served.join(emitted, on=cell)
    assert len(joined) == len(served) == 4 * 40
    assert (joined["emitted"] == joined["output_tokens"]).all()
    assert (joined["end_s"] == joined["finished_s"]).all()
    assert not list((tmp_path / "run").glob("cells"))


def test_compare_says_that_one_was_executed_and_one_simulated(tmp_path):
    execute(f"{FLAGS} {TWO} --out real", tmp_path).fine()
    lapsbench(f"replay {FLAGS} {TWO} {FITS} --block-tokens 128 --draft-method ngram --out simulated", tmp_path).fine()
    done = lapsbench("compare simulated real", tmp_path).fine()
    assert done.err == "simulated was simulated by vllm's rules, real executed on vllm 0.32.0, MODEL, clock cpu\n"
    assert lapsbench("compare real real", tmp_path).fine().err == ""


@pytest.mark.parametrize("verb", ["replay", "execute"])
def test_a_folder_of_the_other_kind_is_refused_in_one_line(tmp_path, verb):
    commands = {"replay": lapsbench, "execute": lambda line, cwd: execute(line.removeprefix("execute "), cwd)}
    other = "execute" if verb == "replay" else "replay"
    commands[other](f"{other} {FLAGS} --policy fcfs --out run", tmp_path).fine()
    done = commands[verb](f"{verb} {FLAGS} --policy fcfs --out run", tmp_path)
    kinds = {"replay": "simulated", "execute": "executed"}
    assert done.code == 1
    said = f"error: run: holds a run that was {kinds[other]}, and this one is {kinds[verb]}"
    assert done.err == f"{said}; try a new or empty --out folder\n"


def test_every_flag_of_its_own_is_in_the_docs():
    section = re.search(r"^## execute.*?(?=^## )", (HERE.parent / "docs/cli.md").read_text(), re.DOTALL | re.MULTILINE)[
        0
    ]
    told = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))
    shared = set(inspect.signature(replay).parameters) - {"engine", "acceptance"}
    own = {f"--{name}" for name in inspect.signature(execute_verb).parameters if name not in shared}
    assert told == own | {"--out"}


# how it goes on --------------------------------------------------------------------------------------------------


def test_the_same_command_goes_on_where_it_was_cut_off(tmp_path):
    line = f"{FLAGS} {TWO} --out run"
    assert execute(line, tmp_path, "killed:srpt").code == 1
    again = execute(line, tmp_path, "killed:fcfs").fine()  # fcfs is not served again
    assert "resumed: 1 of 2 cells were already in run" in again.err
    assert "resumed: 2 of 2" in execute(line, tmp_path, "killed").fine().err


def test_a_cell_whose_steps_are_damaged_is_served_again(tmp_path):
    line = f"{FLAGS} {TWO} --out run"
    assert execute(line, tmp_path, "killed:srpt").code == 1
    next((tmp_path / "run/cells").glob("*.steps.parquet")).write_bytes(b"PAR1")
    assert "resumed" not in execute(line, tmp_path).fine().err
    assert len(pl.read_parquet(tmp_path / "run/steps.parquet")["policy"].unique()) == 2


@pytest.mark.parametrize("change", ["--clock wall", "--acceptance own", "--dtype float32", "--prompts texts.jsonl"])
def test_what_serves_otherwise_is_served_again(tmp_path, change):
    (tmp_path / "texts.jsonl").write_text('{"prompt": "Why is it dark at night?"}\n')
    execute(f"{FLAGS} --policy fcfs --out run", tmp_path).fine()
    assert "replaced: 1 cells of another command" in execute(f"{FLAGS} --policy fcfs {change} --out run", tmp_path).err


def test_a_scenario_file_of_a_replay_serves_too(tmp_path):
    (tmp_path / "today.toml").write_text('policies = ["fcfs"]\nlimit = 9\nrepeats = 1\nmax_batch = 2\n')
    execute("today.toml --out run", tmp_path).fine()
    assert len(requests(tmp_path / "run")) == 9


# how it ends badly -----------------------------------------------------------------------------------------------

DEATHS = {
    "killed": "the engine: was killed by SIGKILL after ",
    "full": "cannot write: No space left on device; try another place, or more room on the disk",
    "crash": "the engine: RuntimeError: the model said something odd after ",
    "exit": "the engine: it ended with code 7 after ",
}


@pytest.mark.parametrize("fault", DEATHS)
def test_a_dead_engine_is_one_line_and_costs_no_finished_cell(tmp_path, fault):
    done = execute(f"{FLAGS} {TWO} --out run", tmp_path, f"{fault}:srpt")
    assert (done.code, done.err.count("\n")) == (1, 1), done.err
    assert done.err.startswith("error: ")
    assert DEATHS[fault] in done.err
    assert len(list((tmp_path / "run/cells").glob("*[0-9a-f].parquet"))) == 1
    assert "the run is not finished" in lapsbench("report run", tmp_path).err


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ("--target missing", 1, "missing: the folder has no config.json"),
        ("--engine gpu", 2, "--engine: there is no 'gpu'; try one of: vllm, torch"),
        ("--clock sun", 2, "--clock: there is no 'sun'; try one of: cpu, wall"),
        ("--dtype int4", 2, "--dtype: there is no 'int4'"),
        ("--draft SMALL --acceptance imposed", 2, "--acceptance: cannot be imposed: --draft names a model"),
        ("--draft-method eagle", 2, "--draft-method eagle: takes a draft model; try --draft MODEL"),
        ("--prefill-budget 9", 2, "--prefill-budget"),
        ("--policy work-patient", 2, "counts its patience in today's fcfs p99, which only a replay knows; try"),
        ("--prompts none.jsonl", 1, "none.jsonl: no such file"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, flags, code, said):
    target = "" if "--target" in flags else "--target MODEL"
    with fake_engine():
        done = lapsbench(f"execute {target} {FLAGS} --policy fcfs {flags} --out run", tmp_path)
    assert (done.code, done.err.count("\n")) == (code, 1), done.err
    assert said in done.err


def test_without_vllm_one_line_says_what_to_install(tmp_path):
    done = lapsbench(f"execute --target MODEL {FLAGS} --out run", tmp_path)
    assert done.code == 1
    assert done.err.startswith("error: --engine vllm: serves on vLLM, which is not installed here; try pip install")


def test_a_request_that_does_not_fit_is_rejected_and_the_others_are_served(tmp_path):
    (tmp_path / "long.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,9,9\n1,9000,9\n2,9,9\n")
    flags = "--profile cpu-smollm2-135m-ngram --policy fcfs --repeats 1 --trace long.csv"
    execute(f"{flags} --out run", tmp_path).fine()
    assert requests(tmp_path / "run")["status"].to_list() == ["finished", "rejected", "finished"]


@contextlib.contextmanager
def started(cwd, fault):
    """Start a run whose second cell is slow, and wait for that one."""
    line = [sys.executable, str(HERE / "fake_engine.py"), *f"execute --target MODEL {FLAGS} {TWO} --out run".split()]
    with running(line, cwd, plain_environment() | {"FAULT": fault}) as run:
        for _ in range(1200):
            if list((cwd / "run/cells").glob("*.steps.parquet")) and list((cwd / "run/cells").glob("*.jsonl")):
                break
            assert run.poll() is None, run.communicate()
            time.sleep(0.1)
        yield run


def children(of):
    """Return the processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def gone(process):
    """Wait until a process is no more."""
    for _ in range(100):
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")


@needs_proc
@pytest.mark.parametrize(("press", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_the_child_ends_with_its_parent_and_finished_cells_stay(tmp_path, press, code):
    with started(tmp_path, "slow:srpt") as run:
        child = children(run.pid)
        assert len(child) == 1
        os.kill(run.pid, press)
        _, err = run.communicate(timeout=60)
    assert run.returncode == code
    assert gone(child[0])
    if press == signal.SIGINT:
        assert err.endswith("error: interrupted; with --out, finished cells are kept and the same command goes on\n")
    assert "resumed: 1 of 2 cells" in execute(f"{FLAGS} {TWO} --out run", tmp_path).fine().err


@needs_proc
def test_the_child_alone_is_killed(tmp_path):
    with started(tmp_path, "slow:srpt") as run:
        os.kill(children(run.pid)[0], signal.SIGKILL)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "error: the engine: was killed by SIGKILL after " in err
    assert "of 40 requests (srpt, load 0.9, seed 0); try fewer places" in err


def test_what_is_printed_as_a_configuration_is_served_and_replayed_alike(tmp_path):
    flags = f"{FLAGS} {FITS} --draft-tokens 1-2:3,3-:1"
    printed = execute(f"{flags} {TWO} --print-config", tmp_path).fine()
    assert not list(tmp_path.iterdir())
    (tmp_path / "same.toml").write_text(printed.out)
    execute("same.toml --out real", tmp_path).fine()
    lapsbench("replay same.toml --out simulated", tmp_path).fine()
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("real", "simulated")]
    assert manifests[0]["engine"] == manifests[1]["engine"]
    assert "1-2:3,3-:1" in printed.out
    for real, simulated in zip(*(requests(tmp_path / name)["rounds"] for name in ("real", "simulated")), strict=True):
        assert real == simulated


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "error: --out: is missing; try a folder: what was served is always kept"),
        ("--out run --device cpu", "error: --device: belongs to --engine torch; try --engine torch, or leaving it out"),
        (
            "--out run --engine torch --draft ngram:2 --device tpu",
            "error: --device: there is no 'tpu'; try",
        ),
        ("--out run --drafts ema", "error: --drafts ema: asks a controller, and vLLM itself has none; try"),
        ("--out run --drafts recorded", "error: --drafts recorded: profile cpu-smollm2-135m-ngram does not say how"),
    ],
)
def test_settings_that_no_engine_has_are_one_line(tmp_path, flags, said):
    done = execute(f"{FLAGS} {TWO} {flags}", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert done.err.startswith(said)
