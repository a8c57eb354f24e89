"""Every option of `replay` changes the result where it should: each has a pair of command lines that differ."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from unittest import mock

import joblib
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from commands import lapsbench, process

from lapsbench import resources
from lapsbench.cli.entry import application
from lapsbench.scenario import Scenario

OPTIONS = [
    option.name for option in typer.main.get_command(application()).commands["replay"].params if option.name != "help"
]
SYNTHETIC = "--acceptance synthetic:mean"
TWO = "--policy fcfs --policy srpt"
BUSY = f"replay --trace chat --limit 300 --max-batch 8 --repeats 1 --engine ideal {TWO}"
"""A small batch, and more traffic than it can serve: requests wait, and who goes first matters."""


@dataclass(frozen=True)
class Replay:
    """What one command line left behind."""

    out: str
    err: str
    json: dict
    rows: pl.DataFrame

    @property
    def cells(self):
        return self.json["cells"]

    def metric(self, name, policy="srpt"):
        (value,) = (cell["metrics"][name] for cell in self.cells if cell["policy"] == policy)
        return value

    def column(self, name, policy="srpt"):
        return self.rows.filter(policy=policy)[name].to_list()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function from a command line to its `Replay`; the same line is run once."""
    room, known = tmp_path_factory.mktemp("options"), {}

    def replay(line):
        if line not in known:
            out = room / f"run{len(known)}"
            done = lapsbench(f"{line} --out {out} --json {out}.json", room).fine()
            known[line] = Replay(
                done.out,
                done.err,
                json.loads((room / f"{out}.json").read_text()),
                pl.read_parquet(out / "requests.parquet"),
            )
        return known[line]

    replay.room = room
    return replay


def scenario(run):
    (run.room / "mine.toml").write_text("max_batch = 4\n")
    file = run(BUSY.replace("replay", "replay mine.toml").replace("--max-batch 8 ", ""))
    flag, neither = run(BUSY.replace("batch 8", "batch 4")), run(BUSY)
    assert file.cells == flag.cells != neither.cells


def trace(run):
    chat, code = run(BUSY), run(BUSY.replace("chat", "code"))
    assert (chat.json["trace"], code.json["trace"]) == ("chat", "code")
    assert chat.column("prompt_tokens") != code.column("prompt_tokens")


def profile(run):
    shipped = resources.shipped("profiles") / "h100-llama3.1-8b-eagle3"
    slow = shutil.copytree(shipped, run.room / "slow")
    cost = pq.read_table(slow / "cost.parquet")
    times = pa.array(2 * cost["time_s"].to_numpy())
    pq.write_table(cost.set_column(cost.column_names.index("time_s"), "time_s", times), slow / "cost.parquet")
    before, after = run(f"{BUSY} --load 0.9"), run(f"{BUSY} --load 0.9 --profile slow")
    assert after.json["profile"] == "slow"
    assert after.json["capacity_rps"] == pytest.approx(before.json["capacity_rps"] / 2)
    assert after.metric("jct_mean_s") == pytest.approx(2 * before.metric("jct_mean_s"))


def columns(run):
    rows = [(i / 10, 50 + i, 20 + i % 7 * 30) for i in range(60)]
    ours = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{t},{p},{n}\n" for t, p, n in rows)
    theirs = "ts,out,in\n" + "".join(f"{t},{n},{p}\n" for t, p, n in rows)
    (run.room / "ours.csv").write_text(ours)
    (run.room / "theirs.csv").write_text(theirs)
    line = f"replay --trace theirs.csv --repeats 1 {TWO}"
    named = run(f"{line} --columns arrival=ts,prompt=in,output=out")
    assert named.cells == run(line.replace("theirs", "ours")).cells
    swapped = run(f"{line} --columns arrival=ts,prompt=out,output=in")
    assert swapped.column("prompt_tokens") == named.column("output_tokens")


def time_unit(run):
    columns(run)
    line = f"replay --trace theirs.csv --repeats 1 {TWO} --columns arrival=ts,prompt=in,output=out"
    seconds, minutes = run(f"{line} --time-unit s"), run(f"{line} --time-unit min")
    assert seconds.cells == run(line).cells
    assert minutes.column("arrival_s") == pytest.approx([60 * each for each in seconds.column("arrival_s")])


def failed(run):
    rows = "".join(f"{i / 10},m,50,{i % 3},{50 + i % 3},API log\n" for i in range(60))
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    (run.room / "burst.csv").write_text(header + rows)
    line = f"replay --trace burst.csv --repeats 1 {TWO}"
    kept = run(f"{line} --failed keep")
    assert len(kept.column("output_tokens")) == 1.5 * len(run(line).column("output_tokens"))
    assert run(f"{line} --failed drop").cells == run(line).cells


def acceptance(run):
    own, low, high = (run(f"{BUSY} {each}") for each in ("", f"{SYNTHETIC}=1.4,spread=0.1", f"{SYNTHETIC}=3.2"))
    rounds = [sum(each.column("rounds")) for each in (low, own, high)]
    assert rounds == sorted(rounds, reverse=True)
    assert len(set(rounds)) == 3
    recorded = {"uid": 1, "round_idx": 0, "accepted_draft": 3}
    (run.room / "rounds.jsonl").write_text("".join(json.dumps({**recorded, "round_idx": i}) + "\n" for i in range(9)))
    file = run(f"{BUSY} --acceptance rounds.jsonl")
    assert sum(file.column("rounds")) < rounds[-1]
    assert "acceptance read from rounds.jsonl" in file.out


def acceptance_length(run):
    short, long = run(f"{BUSY} --acceptance-length 1.5"), run(f"{BUSY} --acceptance-length 3")
    for told, wanted in ((short, 1.5), (long, 3)):
        pooled = 1 + sum(told.column("accepted_tokens")) / sum(told.column("rounds"))
        assert pooled == pytest.approx(wanted, rel=0.03)
        assert "all requests alike" in " ".join(told.out.split())


def policy(run):
    before, after = run(BUSY), run(BUSY.replace(TWO, "--policy las --policy trail:c=0.1 --policy trail:c=0.2"))
    assert [cell["policy"] for cell in before.cells] == ["fcfs", "srpt"]
    assert [cell["policy"] for cell in after.cells] == ["las", "trail:c=0.1", "trail:c=0.2"]
    means = [cell["metrics"]["jct_mean_s"] for cell in before.cells + after.cells]
    assert len(set(means)) == 5, means


def predict(run):
    runs = [
        run(f"{BUSY} --predict {each}") for each in ("oracle", "noisy:sigma=0.5", "noisy:sigma=2", "classes", "none")
    ]
    assert len({each.metric("jct_mean_s", "srpt") for each in runs}) == 5
    assert len({each.metric("jct_mean_s", "fcfs") for each in runs}) == 1
    assert runs[0].column("predicted_tokens") == runs[0].column("output_tokens")
    given = "arrival_s,prompt_tokens,output_tokens,predicted_tokens\n"
    (run.room / "given.csv").write_text(given + "".join(f"{i},10,20,{i + 7.5}\n" for i in range(20)))
    own = run(f"replay --trace given.csv --predict trace --repeats 1 {TWO}")
    assert own.column("predicted_tokens") == [i + 7.5 for i in range(20)]


def load(run):
    low, high, both = run(f"{BUSY} --load 0.5"), run(f"{BUSY} --load 0.9"), run(f"{BUSY} --load 0.5,0.9")
    assert low.metric("offered_rps") == pytest.approx(0.5 * low.json["capacity_rps"])
    assert high.metric("offered_rps") == pytest.approx(0.9 * low.json["capacity_rps"])
    assert low.metric("jct_mean_s", "fcfs") < high.metric("jct_mean_s", "fcfs")
    assert low.cells + high.cells == both.cells
    assert run(f"{BUSY} --load 0.5:0.9:0.4").cells == both.cells


def rate(run):
    own, slow, fast = run(BUSY), run(f"{BUSY} --rate 1"), run(f"{BUSY} --rate 4")
    assert (slow.metric("offered_rps"), fast.metric("offered_rps")) == (pytest.approx(1), pytest.approx(4))
    assert own.json["rate_rps"] is None
    assert slow.metric("jct_mean_s") < fast.metric("jct_mean_s")


def max_batch(run):
    narrow, wide = run(BUSY), run(BUSY.replace("batch 8", "batch 32"))
    assert wide.json["capacity_rps"] > 1.5 * narrow.json["capacity_rps"]
    assert (narrow.json["engine"]["max_batch"], wide.json["engine"]["max_batch"]) == (8, 32)


def draft_tokens(run):
    runs = [run(f"{BUSY} --draft-tokens {k}") for k in (0, 1, 3, 8)]
    rounds = [sum(each.column("rounds")) for each in runs]
    assert rounds == sorted(rounds, reverse=True)
    assert len(set(rounds)) == 4
    assert sum(runs[0].column("accepted_tokens")) == 0
    for each in runs:
        assert sum(each.column("rounds")) + sum(each.column("accepted_tokens")) + 300 == sum(
            each.column("output_tokens")
        )


def drafts(run):
    fixed, most = (sum(run(f"{BUSY} {flag}").column("rounds")) for flag in ("--drafts fixed", "--draft-tokens 8"))
    assert run(f"{BUSY} --drafts fixed").cells == run(BUSY).cells
    counts = [sum(run(f"{BUSY} --drafts {name}").column("rounds")) for name in ("by-batch", "goodput", "ema")]
    assert all(most < each for each in counts)
    assert len({fixed, *counts}) == 4


def prefill_budget(run):
    unlimited, tight = run(f"{BUSY} --rate 4"), run(f"{BUSY} --rate 4 --prefill-budget 128")
    assert tight.metric("steps", "fcfs") > unlimited.metric("steps", "fcfs")
    assert tight.metric("ttft_mean_s", "fcfs") > 1.1 * unlimited.metric("ttft_mean_s", "fcfs")


def kv_tokens(run):
    unlimited, tight = run(BUSY), run(f"{BUSY} --kv-tokens 5000")
    assert tight.json["capacity_rps"] < unlimited.json["capacity_rps"]
    assert unlimited.cells[0]["rejected"] == 0
    tighter = run(f"{BUSY} --kv-tokens 3000")
    too_large = np.add(tighter.column("prompt_tokens"), tighter.column("output_tokens")) + 3 > 3000
    assert [status == "rejected" for status in tighter.column("status")] == too_large.tolist()
    assert 0 < tighter.cells[0]["rejected"] == too_large.sum()


def on_preempt(run):
    keep, swap, recompute = (run(f"{BUSY} --rate 4 --on-preempt {each}") for each in ("keep", "swap", "recompute"))
    assert min(each.metric("preemptions_per_request") for each in (keep, swap, recompute)) > 0
    assert len({each.metric("jct_mean_s") for each in (keep, swap, recompute)}) == 3
    assert len({each.metric("jct_mean_s", "fcfs") for each in (keep, swap, recompute)}) == 1
    assert [each.metric("recomputed_tokens") > 0 for each in (keep, swap, recompute)] == [False, False, True]


VLLM = f"{BUSY} --load 1 --engine vllm --on-preempt recompute"
"""The same traffic under vLLM's rules."""
TIGHT = f"{VLLM} --kv-tokens 6000"
"""And with memory for a few of them."""


def engine(run):
    # what the two do alike is alike: no budget or memory binds, nobody is preempted
    alike = BUSY.replace("--policy srpt", "--policy sjf") + " --rate 1"
    ideal, vllm = run(alike), run(f"{alike} --engine vllm")
    assert ideal.column("finished_s", "fcfs") == pytest.approx(vllm.column("finished_s", "fcfs"))
    assert run(alike.replace("--engine ideal ", "")).cells == vllm.cells  # the default
    assert "engine: ideal" in ideal.out
    assert "engine: vllm 0.32" in vllm.out
    assert vllm.json["engine"]["rules"] == "vllm"
    recomputing = run(f"{BUSY} --load 1 --on-preempt recompute")
    assert recomputing.metric("jct_mean_s") != run(f"{VLLM} --prefix-cache off").metric("jct_mean_s")
    assert run(VLLM).json["capacity_rps"] != pytest.approx(run(f"{VLLM} --batched-tokens 64").json["capacity_rps"])


def batched_tokens(run):
    assert run(f"{VLLM} --batched-tokens 8192").cells == run(VLLM).cells
    at_one_rate = VLLM.replace("--load 1", "--rate 5")
    few, many = run(f"{at_one_rate} --batched-tokens 128"), run(at_one_rate)
    assert few.metric("ttft_mean_s") > many.metric("ttft_mean_s")


def block_tokens(run):
    assert run(f"{TIGHT} --block-tokens 16").cells == run(TIGHT).cells
    assert run(f"{TIGHT} --block-tokens 128").metric("jct_mean_s") != run(TIGHT).metric("jct_mean_s")


def prefix_cache(run):
    assert run(f"{VLLM} --prefix-cache on").cells == run(VLLM).cells
    on, off = run(VLLM), run(f"{VLLM} --prefix-cache off")
    assert sum(off.column("recomputed_tokens")) > sum(on.column("recomputed_tokens"))


def scheduling(run):
    assert run(f"{VLLM} --scheduling sync").cells == run(VLLM).cells
    assert run(f"{VLLM} --scheduling async").metric("ttft_mean_s") > run(VLLM).metric("ttft_mean_s")


def draft_method(run):
    assert run(f"{TIGHT} --draft-method eagle").cells == run(TIGHT).cells  # the profile's
    methods = [run(f"{TIGHT} --draft-method {method}").cells for method in ("ngram", "draft_model", "eagle")]
    assert methods[0] != methods[1] != methods[2] != methods[0]


def max_model_len(run):
    assert {cell["rejected"] for cell in run(VLLM).cells} == {0}
    short = run(f"{VLLM} --max-model-len 1000")
    assert short.column("status", "fcfs").count("rejected") == short.cells[0]["rejected"] > 0
    assert "--max-model-len 1,000" in short.out


def limit(run):
    assert {cell["arrivals"] for cell in run(BUSY).cells} == {300}
    assert {cell["arrivals"] for cell in run(BUSY.replace("limit 300", "limit 200")).cells} == {200}


def window(run):
    everything, early, late = run(BUSY), run(f"{BUSY} --window 0:20"), run(f"{BUSY} --window 20:40")
    prompts = [each.column("prompt_tokens") for each in (everything, early, late)]
    assert 0 < len(prompts[1]) < 300
    assert prompts[0][: len(prompts[1] + prompts[2])] == prompts[1] + prompts[2]


def seed(run):
    zero, one = run(BUSY), run(f"{BUSY} --seed 1")
    assert [cell["seed"] for cell in zero.cells + one.cells] == [0, 0, 1, 1]
    assert zero.column("predicted_tokens") != one.column("predicted_tokens")
    assert zero.column("rounds") != one.column("rounds")
    assert zero.column("output_tokens") == one.column("output_tokens")


def repeats(run):
    three = run(f"{BUSY} --repeats 3")
    assert [(cell["policy"], cell["seed"]) for cell in three.cells] == [
        (name, seed) for name in ("fcfs", "srpt") for seed in (0, 1, 2)
    ]
    assert three.cells[0] == run(BUSY).cells[0]


def slo(run):
    without, easy, hard = run(BUSY), run(f"{BUSY} --slo e2el:60000"), run(f"{BUSY} --slo ttft:50,e2el:60000")
    assert without.metric("goodput_rps") is None
    assert hard.metric("goodput_rps") < easy.metric("goodput_rps") <= easy.metric("throughput_rps")
    assert "goodput" not in without.out
    assert "goodput" in easy.out


def baseline(run):
    fcfs, srpt = run(BUSY), run(f"{BUSY} --baseline srpt")
    ratios = [
        {each["policy"]: each["ratio"] for each in one.json["comparisons"] if each["metric"] == "jct_mean_s"}
        for one in (fcfs, srpt)
    ]
    assert (ratios[0]["fcfs"], ratios[1]["srpt"]) == (1, 1)
    assert ratios[0]["srpt"] == pytest.approx(1 / ratios[1]["fcfs"])
    assert ratios[0]["srpt"] != 1
    assert ("vs fcfs" in fcfs.out, "vs srpt" in srpt.out) == (True, True)


def tail(run):
    little, much = (run(f"{BUSY} --rate 5 --tail {tail}") for tail in (1, 50))
    assert little.cells == much.cells
    assert little.json["verdict"][0] == much.json["verdict"][0]
    assert "p99 at most 50 x fcfs" in " ".join(much.out.split())
    assert little.json["verdict"][1]["price"]["jct_p99"] <= 1


def calibration(run):
    line = f"{BUSY} --policy gittins"
    bank, code = run(line), run(f"{line} --calibration code")
    assert "5000 requests of code" in code.json["calibration"]
    assert bank.json["calibration"] != code.json["calibration"]
    assert bank.metric("jct_mean_s", "gittins") != code.metric("jct_mean_s", "gittins")
    assert bank.metric("jct_mean_s") == code.metric("jct_mean_s")


def out(run):
    with_, without = run.room / "with", run.room / "without"
    with_.mkdir()
    without.mkdir()
    lapsbench(f"{BUSY} --out here", with_).fine()
    lapsbench(BUSY, without).fine()
    names = ["manifest.json", "requests.parquet", "summary.parquet"]
    assert sorted(path.name for path in (with_ / "here").iterdir()) == names
    assert list(without.iterdir()) == []


def json_to(run):
    table, both, only = lapsbench(BUSY, run.room), lapsbench(f"{BUSY} --json a.json", run.room), run(BUSY)
    assert both.out == table.out == only.out
    assert json.loads((run.room / "a.json").read_text()) == only.json
    assert json.loads(lapsbench(f"{BUSY} --json -", run.room).out) == only.json


def jobs(run):
    line, asked = f"{BUSY} --repeats 3", []

    def parallel(n_jobs, **options):
        asked.append(n_jobs)
        return sweep_parallel(n_jobs, **options)

    sweep_parallel = joblib.Parallel
    with mock.patch.object(joblib, "Parallel", parallel):
        one, two = (lapsbench(f"{line} --jobs {n} --out jobs{n}", run.room).fine() for n in (1, 2))
    assert asked == [2]  # one at a time needs nobody
    assert one.out == two.out
    for name in ("requests.parquet", "summary.parquet", "manifest.json"):
        assert (run.room / "jobs1" / name).read_bytes() == (run.room / "jobs2" / name).read_bytes()


def on(run):
    line = f"{BUSY} --repeats 2"
    here = lapsbench(f"{line} --out here", run.room).fine()
    there = process(f"{line} --out there --on local:2", run.room).fine()
    assert here.out == there.out
    for name in ("requests.parquet", "summary.parquet", "manifest.json"):
        assert (run.room / "here" / name).read_bytes() == (run.room / "there" / name).read_bytes()


def quiet(run):
    loud, quiet = lapsbench(BUSY, run.room), lapsbench(f"{BUSY} --quiet", run.room)
    assert "try " in loud.err
    assert quiet.err == ""
    assert quiet.out == loud.out


def smoke(run):
    small = run("replay --smoke").json
    assert [cell["arrivals"] for cell in small["cells"]] == [1200] * 15
    (run.room / "file.toml").write_text('policies = ["fcfs", "sjf"]\nrate = 3.0\n')
    mixed = run("replay file.toml --smoke --repeats 1").json
    assert [(cell["policy"], cell["arrivals"], cell["load"]) for cell in mixed["cells"]] == [
        ("fcfs", 1200, None),
        ("sjf", 1200, None),
    ]
    assert mixed["rate_rps"] == 3.0


def print_config(run):
    line = f"{BUSY} --window 0:600 --kv-tokens 90000 --slo ttft:500"
    done = lapsbench(f"{line} --out never --print-config", run.room).fine()
    assert "max_batch = 8\n" in done.out
    assert not (run.room / "never").exists()
    (run.room / "printed.toml").write_text(done.out)
    assert run("replay printed.toml").json == run(line).json
    assert lapsbench("replay printed.toml --print-config", run.room).out == done.out


CASES = {
    each.__name__: each
    for each in (
        *(
            scenario,
            trace,
            profile,
            policy,
            predict,
            load,
            rate,
            max_batch,
            draft_tokens,
            drafts,
            prefill_budget,
            kv_tokens,
        ),
        *(engine, batched_tokens, block_tokens, prefix_cache, scheduling, draft_method, max_model_len),
        *(columns, time_unit, failed, acceptance, acceptance_length),
        *(
            on_preempt,
            limit,
            window,
            seed,
            repeats,
            slo,
            baseline,
            tail,
            calibration,
            out,
            json_to,
            jobs,
            on,
            quiet,
            smoke,
            print_config,
        ),
    )
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_result_where_it_should(run, option):
    assert option in CASES, f"--{option} is new: show here what it changes"
    CASES[option](run)


def test_every_case_is_of_an_option():
    assert set(CASES) == set(OPTIONS)


def test_every_setting_of_a_scenario_has_a_flag():
    keys = {{"policy": "policies"}.get(name, name) for name in OPTIONS}
    assert set(Scenario.model_fields) == keys - {
        "scenario",
        "out",
        "json_to",
        "jobs",
        "on",
        "quiet",
        "smoke",
        "print_config",
    }
