"""`lapsbench profile` from the command line to files that `replay` takes: resuming, refusing, telling."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny
from commands import lapsbench, plain_environment

from lapsbench import schema
from lapsbench.cli.entry import application
from lapsbench.profile import clock, costs
from lapsbench.profile import device as devices
from lapsbench.profile.clock import Timing
from lapsbench.profile.costs import OutOfMemoryError
from lapsbench.profile.parts import Parts
from lapsbench.store.profile import open_profile

SMALL = "--device cpu --batches 1,2 --contexts 16,48 --draft-tokens 2"
ASKED = f"profile --target T --draft D --out P --prompts asked.jsonl --max-new-tokens 24 {SMALL}"
COSTS = f"profile --target T --draft D --out P --costs-only {SMALL}"
TWO = "--policy fcfs --policy srpt --repeats 1 --trace chat --limit 40 --max-batch 2 --draft-tokens 2"
KILLER = """
import json, os, pathlib, random, signal, time
import lapsbench.profile.run
from lapsbench.cli import main
from lapsbench.profile import acceptance, clock, costing, costs

costs.Limits = lambda **_: clock.Limits(least=2, most=2, warm_ups=0)
journal = pathlib.Path("P/parts/journal.jsonl")
measure, record = costing.Costing._measure, acceptance._record_part

def kept(kind):
    lines = journal.read_bytes().split(b"\\n")[:-1] if journal.exists() else []
    return [line for line in map(json.loads, lines) if line["kind"] == kind]

def watched_measure(self, point):
    if point in map(costing._point, kept("point")):
        pathlib.Path("twice").write_text(str(point))
    return measure(self, point)

def watched_record(target, draft, part, *others):
    known = {each["prompt_id"] for line in kept("recordings") for each in line["prompts"]}
    if known & {each.prompt_id for each in part}:
        pathlib.Path("twice").write_text(str(part))
    return record(target, draft, part, *others)

costing.Costing._measure, acceptance._record_part = watched_measure, watched_record
draw, kills, last = random.Random(1), 0, b""
for _ in range(20):
    if pathlib.Path("P/cost.parquet").exists():
        break
    child = os.fork()
    if not child:
        main()
    if kills < 10:
        time.sleep(draw.uniform(0.1, 0.6))
        os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    if journal.exists():
        known, last = last[: last.rfind(b"\\n") + 1], journal.read_bytes()
        assert last.startswith(known), "what was kept is kept"
print("kills", kills)
"""
"""Run the command, kill it at a random moment, and again, ten times; then let it get through."""
PLAN = {"verify": 8e-3, "draft": 2e-3, "prefill": 1e-2, "draft_prefill": 3e-3, "overhead": 1e-3, "round": 1.1e-2}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.save(folder / "T")
    tiny.save(folder / "D", noise=0.02)
    lines = [{"prompt": f"Why {word}?", "category": kind} for word, kind in (("not", "a"), ("so", "b"), ("me", "a"))]
    (folder / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def room(models, tmp_path):
    """A folder with a target T, a draft D that is often right, and prompts."""
    for entry in models.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """Measure nothing: return the points asked for, in order, each with a time that grows with its sizes."""
    asked = []

    def measure(_, point, grid, *, eager=None):
        asked.append(point)
        step_s = PLAN.get(point.component, 1e-3) * (1 + point.query_tokens / 50) * (1 + point.batch_size / 20)
        time_s = step_s * (1 + point.context_tokens / 1000)
        return Timing(time_s, 0.9 * time_s, 1.1 * time_s, 7, settled=True)

    monkeypatch.setattr(costs.Bench, "measure", measure)
    return asked


@pytest.fixture
def brief(monkeypatch):
    """Measure, but each point twice only."""
    monkeypatch.setattr(costs, "Limits", lambda **_: clock.Limits(least=2, most=2, warm_ups=0))


def journal(folder):
    path = folder / "parts" / "journal.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


def points(folder):
    """The grid of a profile, without its times."""
    table = pq.read_table(folder / "cost.parquet")
    names = ("component", "batch_size", "query_tokens", "context_tokens")
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_what_profile_writes_replay_takes_as_it_is_and_says_where_it_is_from(room, brief):
    made = lapsbench(ASKED, room).fine()
    assert sorted(path.name for path in (room / "P").iterdir()) == ["acceptance.parquet", "cost.parquet"]
    for word in ("category", "first draft", "expected speed-up", "draft/target", "k=2", "best"):
        assert word in made.out
    assert "0 of 41 rounds differ" in made.err
    replayed = lapsbench(f"replay --profile P {TWO}", room).fine()
    assert "CPU (" in replayed.out
    assert "1 thread, float32: real costs of a CPU, not of a GPU" in " ".join(replayed.out.split())
    assert "srpt" in replayed.out


def test_files_hold_percentiles_repeats_and_where_they_are_from(room, brief):
    lapsbench(ASKED, room).fine()
    table = schema.read_parquet(room / "P" / "cost.parquet", "cost", schema.COST)
    assert set(table["repeats"].to_pylist()) == {2}
    for row in table.to_pylist():
        assert row["time_p10_s"] <= row["time_s"] <= row["time_p90_s"]
    known = schema.provenance(table)
    for name in (
        "label",
        "command",
        "device",
        "torch",
        "transformers",
        "dtype",
        "clock",
        "drift",
        "state_before",
    ):
        assert known[name], name
    assert known["command"].startswith("lapsbench profile --target T")
    assert known["draft_tokens_max"] == 8
    assert known["acceptance"]["reconciliation"]["difference"] == 0


def test_json_goes_to_stdout_alone(room, measured):
    done = lapsbench(f"{ASKED} --json -", room).fine()
    found = json.loads(done.out)
    assert found["schema"] == "lapsbench.profile/1"
    assert [each["category"] for each in found["acceptance"]] == ["a", "b", "all"]
    assert found["steps"][0]["batch"] == 1
    assert len(found["steps"][0]["speedups"]) == 2


def test_expected_speed_up_is_tokens_a_round_over_the_time_of_a_round(room, measured):
    found = json.loads(lapsbench(f"{ASKED} --json -", room).fine().out)
    costs_of = open_profile(str(room / "P")).costs
    known = {
        key: time_s
        for *key, time_s in zip(
            costs_of.component,
            costs_of.batch_size,
            costs_of.query_tokens,
            costs_of.context_tokens,
            costs_of.time_s,
            strict=True,
        )
        for key in [tuple(key)]
    }
    context = found["context"]
    step = found["steps"][1]
    overhead = next(value for key, value in known.items() if key[:2] == ("overhead", 2))
    plain = known["verify", 2, 1, context] + overhead
    rounds = known["draft", 2, 2, context] + known["verify", 2, 3, context] + overhead
    gain = found["acceptance"][-1]["tokens_per_round"][1]
    assert step["speedups"][1] == pytest.approx(gain * plain / rounds)


def test_costs_alone_tell_what_a_round_must_give(room, measured):
    done = lapsbench(COSTS, room).fine()
    assert "break even" in done.out
    assert [path.name for path in (room / "P").iterdir()] == ["cost.parquet"]
    assert "expected speed-up" not in done.out


def test_the_same_command_again_measures_nothing_and_leaves_every_byte(room, measured):
    lapsbench(ASKED, room).fine()
    before = {path.name: path.read_bytes() for path in (room / "P").iterdir()}
    measured.clear()
    again = lapsbench(ASKED, room).fine()
    assert "nothing was measured" in again.err
    assert measured == []
    assert {path.name: path.read_bytes() for path in (room / "P").iterdir()} == before


def test_an_interrupted_profile_goes_on_where_it_was(room, measured, monkeypatch):
    lapsbench(ASKED.replace("--out P", "--out Q"), room).fine()
    whole = measured.copy()
    measured.clear()
    real = costs.Bench.measure

    def tired(self, point, grid, *, eager=None):
        if len(measured) == 9:
            raise KeyboardInterrupt
        return real(self, point, grid, eager=eager)

    monkeypatch.setattr(costs.Bench, "measure", tired)
    stopped = lapsbench(ASKED, room)
    assert stopped.code == 130
    assert not (room / "P" / "cost.parquet").exists()
    kept = journal(room / "P")
    monkeypatch.setattr(costs.Bench, "measure", real)
    resumed = lapsbench(ASKED, room).fine()
    assert "resumed: 9 of" in resumed.err
    assert measured == whole
    assert points(room / "P") == points(room / "Q")
    assert [json.loads(line)["kind"] for line in kept].count("recordings") == 1


def test_killed_at_any_point_it_gives_the_same_grid_and_measures_nothing_twice(room, measured):
    """SIGKILL, which no program can catch, at random moments: while loading, recording, measuring, writing."""
    asked = ASKED.replace("--batches 1,2", "--batches 1")
    lapsbench(asked.replace("--out P", "--out Q"), room).fine()
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *asked.split()],
        cwd=room,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 4
    assert not (room / "twice").exists(), (room / "twice").read_text()
    assert points(room / "P") == points(room / "Q")
    assert pq.read_table(room / "P" / "acceptance.parquet") == pq.read_table(room / "Q" / "acceptance.parquet")


@pytest.mark.parametrize("step", range(3), ids=["before acceptance", "before costs", "before tidying up"])
def test_killed_while_writing_the_profile_it_measures_nothing_again(room, measured, monkeypatch, step):
    calls = []

    def dies(real):
        def step_of_writing(*args, **options):
            calls.append(real)
            if len(calls) > step:
                raise KeyboardInterrupt
            return real(*args, **options)

        return step_of_writing

    finish = Parts.finish

    def patched(self, *args):
        monkeypatch.setattr(Path, "replace", dies(Path.replace))
        monkeypatch.setattr(shutil, "rmtree", dies(shutil.rmtree))
        finish(self, *args)

    with monkeypatch.context() as context:
        context.setattr(Parts, "finish", patched)
        assert lapsbench(ASKED, room).code == 130
    monkeypatch.undo()
    monkeypatch.setattr(costs.Bench, "measure", lambda *_, **__: pytest.fail("measured again"))
    lapsbench(ASKED, room).fine()
    assert sorted(path.name for path in (room / "P").iterdir()) == ["acceptance.parquet", "cost.parquet"]


def test_a_line_cut_off_by_a_crash_is_dropped(room, measured, monkeypatch):
    half = room / "P" / "parts" / "journal.jsonl"
    monkeypatch.setattr("lapsbench.profile.parts.Parts.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert lapsbench(COSTS, room).code == 130
    monkeypatch.undo()
    half.write_bytes(half.read_bytes()[:-40])
    monkeypatch.setattr(costs.Bench, "measure", lambda *_, **__: Timing(1.0, 1.0, 1.0, 7, settled=True))
    lapsbench(COSTS, room).fine()
    assert (room / "P" / "cost.parquet").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--seed 1", "seed is 1, not 0"),
        ("--draft self:drop=0", "draft is"),
        ("--temperature 0.5", "temperature is 0.5, not 0.0"),
        ("--dtype bfloat16", "dtype is bfloat16, not float32"),
        ("--contexts 16,40", "contexts is 16,40, not 16,48"),
    ],
)
@pytest.mark.parametrize("finished", [True, False], ids=["profile", "parts"])
def test_a_mixed_resume_is_refused_and_says_what_differs(room, measured, monkeypatch, change, said, finished):
    if not finished:
        monkeypatch.setattr("lapsbench.profile.parts.Parts.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    lapsbench(COSTS, room)
    refused = lapsbench(f"{COSTS} {change}", room)
    assert refused.code == 1
    assert said in refused.err
    assert "try another --out" in refused.err


def test_a_folder_with_other_things_in_it_is_left_alone(room, measured):
    (room / "P").mkdir()
    (room / "P" / "thesis.tex").write_text("years of work")
    refused = lapsbench(COSTS, room)
    assert (refused.code, measured) == (1, [])
    assert "P: holds files, but no profile; try a new or empty --out folder" in refused.err
    assert (room / "P" / "thesis.tex").read_text() == "years of work"


def test_a_dry_run_tells_grid_memory_and_time_and_writes_nothing(room, measured):
    done = lapsbench(f"{ASKED} --dry-run", room).fine()
    for word in ("batches   1, 2", "contexts  16, 48", "memory", "time      about", "KV cache"):
        assert word in done.out
    assert measured == []
    assert not (room / "P").exists()


def test_a_dry_run_needs_no_weights_of_a_large_model(room, monkeypatch):
    monkeypatch.setattr(devices, "memory_bytes", lambda _: 40 * 10**9)
    line = "profile --target arch:llama-3.1-8b --draft arch:llama-3.2-1b --costs-only --device cpu --dtype bfloat16"
    done = lapsbench(f"{line} --out P --batches 1,64 --contexts 128,16384 --dry-run", room).fine()
    assert "16 GB target, 2.47 GB draft" in done.out
    assert "131,072 bytes a token, draft 32,768" in done.out
    assert "left out" in done.out


def test_acceptance_of_random_weights_is_refused(room):
    refused = lapsbench("profile --target arch:llama-3.1-8b --draft ngram:4 --device cpu --out P --dry-run", room)
    assert refused.code == 1
    assert "random weights" in refused.err


@pytest.mark.parametrize(
    "flags",
    [
        "--device tpu", "--dtype int8", "--batches 0", "--batches a", "--contexts ,", "--draft-tokens 0",
        "--draft-tokens-max 256", "--max-new-tokens 1", "--temperature -1", "--threads 0", "--seed -1",
        "--budget-s 0", "--prompts asked.jsonl", "--draft self:nothing", "--json ''",
    ],
)  # fmt: skip
def test_bad_flags_are_told_in_one_line_before_anything_is_measured(room, measured, flags):
    refused = lapsbench(f"{COSTS} {flags}", room)
    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert refused.err.count("\n") == 1
    assert flags.split()[0] in refused.err
    assert measured == []


@pytest.mark.parametrize("flags", ["--prompts nowhere.jsonl", "--target nowhere/at/all"])
def test_missing_files_are_told_in_one_line(room, measured, flags):
    refused = lapsbench(f"{ASKED} {flags}", room)
    assert (refused.code, refused.err.count("\n"), measured) == (1, 1, [])
    assert flags.split()[1] in refused.err


def test_without_torch_one_line_says_what_to_install(room):
    program = "import sys; sys.modules['torch'] = None; from lapsbench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *COSTS.split()], cwd=room, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "measuring takes torch, which is not installed; try pip install " in done.stderr
    assert "'torch>=" in done.stderr.partition("try pip install ")[2]
    assert "lapsbench" not in done.stderr  # on no index: packages by name install from anywhere
    assert done.stderr.count("\n") == 1


def test_drift_is_said_on_screen_in_the_provenance_and_under_every_replay(room, measured, monkeypatch):
    known = costs.Bench.measure
    seen = set()

    def slower(self, point, grid, *, eager=None):
        timing = known(self, point, grid, eager=eager)
        factor = 1.25 if point in seen else 1.0
        seen.add(point)
        return Timing(factor * timing.median_s, timing.p10_s, 2 * timing.p90_s, 7, settled=True)

    monkeypatch.setattr(costs.Bench, "measure", slower)
    done = lapsbench(ASKED, room).fine()
    assert "drift: 10 of 10 points measured again at the end differed by more than 10 %" in done.err
    profile = open_profile(str(room / "P"))
    assert profile.provenance["drift"]["change"] == pytest.approx(0.25)
    assert "by +25 %" in profile.label


def test_steady_times_are_not_called_drift(room, measured):
    assert "drift" not in lapsbench(ASKED, room).fine().err
    assert "differed" not in open_profile(str(room / "P")).label


def test_neighbours_are_said_on_screen_and_under_every_replay(room, measured, monkeypatch):
    monkeypatch.setattr("lapsbench.profile.costing.shares", lambda *_: {"others": 0.37, "stolen": 0.02})
    assert "others used 37% of the machine's processors meanwhile" in lapsbench(ASKED, room).fine().err
    profile = open_profile(str(room / "P"))
    assert profile.provenance["neighbours"] == {"others": 0.37, "stolen": 0.02, "others_at_most": 0.37}
    assert "others used 37% of the machine" in profile.label


def test_want_of_memory_shrinks_the_grid_and_is_said(room, measured, monkeypatch):
    known = costs.Bench.measure

    def small(self, point, grid, *, eager=None):
        if point.batch_size == 2 and point.context_tokens == 48:
            raise OutOfMemoryError(str(point))
        return known(self, point, grid, eager=eager)

    monkeypatch.setattr(costs.Bench, "measure", small)
    done = lapsbench(COSTS, room).fine()
    assert "left out, for want of memory: batch 2 at every context" in done.err
    assert {batch for _, batch, _, _ in points(room / "P")} == {1}
    assert open_profile(str(room / "P")).provenance["left_out"] == ["batch 2 at every context"]


def test_quiet_says_nothing_beside_the_table(room, measured):
    assert lapsbench(f"{COSTS} --quiet", room).fine().err == ""


@pytest.mark.parametrize("draft", ["self:drop=0", "self:int4", "ngram:2"])
def test_every_kind_of_draft_can_be_measured(room, brief, draft):
    lapsbench(ASKED.replace("--draft D", f"--draft {draft}"), room).fine()
    components = {component for component, *_ in points(room / "P")}
    assert ("draft_prefill" in components) == (not draft.startswith("ngram"))
    assert {"draft", "verify", "prefill", "overhead", "swap_out", "swap_in"} <= components


def test_sampled_profiles_are_measured_too(room, brief):
    lapsbench(f"{ASKED} --temperature 0.8", room).fine()
    assert open_profile(str(room / "P")).bank is not None


def test_the_docs_name_every_flag():
    text = (Path(__file__).parents[1] / "docs" / "profiles.md").read_text()
    for option in typer.main.get_command(application()).commands["profile"].params:
        assert option.name == "help" or f"`{option.opts[0]}" in text


def test_a_copied_profile_is_the_same_profile(room, measured):
    lapsbench(COSTS, room).fine()
    shutil.copytree(room / "P", room / "elsewhere")
    assert open_profile(str(room / "elsewhere")).label == open_profile(str(room / "P")).label
