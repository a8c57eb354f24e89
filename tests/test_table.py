"""The terminal report: says what it must, where it must, in the room there is."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from test_metrics import cell, ladder

from lapsbench.core import Engine
from lapsbench.metrics.comparison import Comparison, compare
from lapsbench.metrics.result import ReplayResult, to_json
from lapsbench.metrics.rows import summary_rows
from lapsbench.metrics.slo import Slo
from lapsbench.metrics.verdicts import verdicts
from lapsbench.metrics.worth import missing
from lapsbench.report import units
from lapsbench.report.spark import sparklines
from lapsbench.report.table import render
from lapsbench.schema import SUMMARY


def result(cells, **other):
    plain = {
        "trace": "chat",
        "profile": "h100/qwen3",
        "predict": "noisy:sigma=0.5",
        "engine": Engine(kv_tokens=4096),
        "rate_rps": None,
        "capacity_rps": 20.0,
        "baseline": "fcfs",
        "slo": None,
        "provenance": "published figures, not measured here",
        "calibration": "2,000 requests of specbench",
    }
    shown = plain | other
    return ReplayResult(**shown, cells=tuple(cells), comparisons=compare(cells, shown["baseline"]))


def printed(shown, **console):
    file = io.StringIO()
    render(shown, Console(file=file, **console))
    return file.getvalue()


def two(**other):
    return [cell(**other), cell("oracle-srpt-tokens", speed=1.25, **other)]


GOLDEN = """\
chat on h100/qwen3, load 0.7 (0.685 req/s), 1 seed, predict noisy:sigma=0.5
engine: ideal, batch 64, 3 draft tokens, prefill unlimited, KV cache 4,096 tokens, on preempt keep
arrivals 1,000 = 1,000 finished + 0 rejected + 0 unfinished, under every policy

                        JCT    JCT    JCT   TTFT    TPOT   slow-  mean JCT     JCT, log
policy               mean s  p50 s  p99 s  p99 s  p50 ms  down x  vs fcfs      0.0063..25 s
-------------------------------------------------------------------------------------------
fcfs                   3.33   2.13  13.34  12.44    33.1   14.27  1.00         ▁▁▁▂▄▇██▂
oracle-srpt-tokens*    1.79   1.15   7.71   6.85    26.4    8.26  0.54 +-0.08  ▁▁▁▃▅██▄

Knowing lengths was worth 46 % [38 to 53] of mean JCT here (fcfs 3.33 s -> oracle-srpt-tokens*
1.79 s).

*            an oracle: knows what no scheduler can; not a choice
"""


def test_the_table():
    text = printed(result(two()))
    assert text.startswith(GOLDEN)
    assert "profile      published figures, not measured here\n" in text
    assert "calibration  2,000 requests of specbench\n" in text
    assert "intervals    95 %, paired over 25 blocks of consecutive arrivals" in text
    assert "cost grid    up to 4 % of the look-ups" in text
    assert "try          --policy oracle-srpt-rounds: to see" in text


def test_a_pipe_gets_plain_text_of_a_hundred_columns():
    text = printed(result(ladder(), slo=Slo.parse("ttft:500")), width=40)
    assert text == printed(result(ladder(), slo=Slo.parse("ttft:500")), width=300)
    assert "\x1b" not in text
    assert not re.search(r"[^\x00-\x7f▁▂▃▄▅▆▇█]", text)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert not re.search(r" $", text, re.MULTILINE)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_terminal_is_never_too_narrow(width):
    text = printed(result(ladder()), width=width, force_terminal=True, color_system=None)
    assert max(len(line) for line in text.splitlines()) <= min(width, 120)
    assert ("(no room for: " in text) == (width < 100)
    assert "vs fcfs" in text


def test_the_best_real_scheduler_is_bold_and_an_oracle_never():
    cells = [*two(count=1500), cell("srpt", speed=1.1, count=1500)]
    lines = printed(result(cells), width=100, force_terminal=True, color_system="standard").splitlines()
    rows = {name: next(line for line in lines if f"{name} " in line) for name in ("fcfs", "tokens*", "srpt")}
    assert "\x1b[1m" not in rows["fcfs"] + rows["tokens*"]
    assert rows["srpt"].count("\x1b[1m") >= 6


def test_a_p99_of_few_requests_is_dim_and_warned_about():
    lines = printed(result(two(count=900)), width=100, force_terminal=True, color_system="standard").splitlines()
    assert any("\x1b[2m" in line for line in lines if "fcfs  " in line)
    assert "p99 rests on 900 requests per seed" in printed(result(two(count=900)))
    assert "p99 rests on" not in printed(result(two()))


def test_columns_appear_when_they_have_something_to_say():
    bare = printed(result(two()))
    busy = two(preemptions=np.ones(1000, np.int32), slo=Slo.parse("ttft:500"))
    full = printed(result(busy, slo=Slo.parse("ttft:500")))
    assert "goodput" not in bare.split("profile ")[0]
    assert "preempt per" not in bare
    assert "goodput" in full
    assert "per req" in full


def test_several_loads_make_several_tables_in_the_same_units():
    cells = [cell(name, load=load, rho=load, speed=speed) for load in (0.1, 0.9) for name, speed in PAIR]
    text = printed(result(cells))
    assert "loads 0.1, 0.9, 1 seed" in text
    assert text.index("\nload 0.1 (") < text.index("\nload 0.9 (")
    heads = [line for line in text.splitlines() if line.startswith("policy ")]
    assert len(heads) == 2
    assert len({re.sub(r" {2}\S+ s$", "", head) for head in heads}) == 1
    assert "At load 0.9: Knowing lengths" in text


PAIR = (("fcfs", 1), ("oracle-srpt-tokens", 1.25))


def test_what_went_wrong_is_said():
    cells = two()
    hurt = replace(cells[0], finished=955, unfinished=42, rejected=3, stopped="out of time")
    text = " ".join(printed(result([hurt, cells[1]])).split())
    assert "arrivals 1,000 = 955 finished + 3 rejected + 42 unfinished, under fcfs" in text
    assert "arrivals 1,000 = 1,000 finished + 0 rejected + 0 unfinished, under oracle-srpt-tokens*" in text
    assert "fcfs at load 0.7 left 42 of 1,000 requests unfinished (out of time)" in text
    assert "rejected 3 requests that can never fit --kv-tokens 4,096" in text


def test_growth_is_warned_about_with_a_load_to_try():
    text = " ".join(printed(result([cell(rho=1.3, load=1.3), cell("srpt", rho=1.3, load=1.3, speed=2)])).split())
    assert "fcfs is OVERLOADED at load 1.3: up to 2" in text
    assert "so its mean depends on its length; try --load 0.9" in text
    assert "OVERLOADED" not in printed(result(two()))


def test_advice_can_go_elsewhere():
    out, err = io.StringIO(), io.StringIO()
    render(result(two()), Console(file=out), Console(file=err))
    assert "--repeats 5" in err.getvalue()
    assert "--repeats 5" not in out.getvalue()
    assert "Knowing lengths" in out.getvalue()


def test_an_ascii_terminal_gets_ascii():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    render(result(two()), Console(file=file, force_terminal=True, width=100))
    file.flush()
    assert "oracle-srpt-tokens*" in file.buffer.getvalue().decode("ascii")


def test_what_knowing_was_worth():
    cells = ladder()
    worth = 1 - cells[4].metrics["jct_mean_s"] / cells[0].metrics["jct_mean_s"]
    lost = cells[2].metrics["jct_mean_s"] / cells[1].metrics["jct_mean_s"] - 1
    lengths, acceptance = (each.text for each in verdicts(cells))
    assert lengths.startswith(f"Knowing lengths was worth {100 * worth:.0f} % [73 to 78] of mean JCT here (fcfs 3.30 s")
    assert "-> oracle-srpt-tokens* 803 ms); as predicted it was worth 5" in lengths
    assert lengths.endswith("(fcfs 3.30 s -> srpt 1.47 s).")
    assert acceptance.startswith("Knowing acceptance was worth 13 % [12 to 15] more to an oracle")
    assert f"against srpt, which ignores acceptance, laps-sd:W=4 lost {100 * lost:.0f} %" in acceptance
    assert ", srpt-accept gained 12 %" in acceptance


def test_the_sentences_are_honest_about_nothing_and_less():
    lengths, acceptance = (each.text for each in verdicts(ladder(tokens=0.95, rounds=0.9, accept=1.4)))
    assert lengths.startswith("Knowing lengths did not pay here: it made mean JCT 2")
    assert acceptance.startswith("Knowing acceptance was worth nothing to an oracle here")
    assert "srpt-accept made no difference, +0.0 % [+0.0 to +0.0]" in acceptance
    undecided = [cell(name, seed=seed, count=150) for seed, name in enumerate(("oracle-srpt-tokens", "fcfs"))]
    assert verdicts(undecided) == ()  # no seed in common
    undecided.append(cell("oracle-srpt-tokens", seed=1, count=150, speed=1.2))
    assert "undecided" in verdicts(undecided)[0].text


def test_where_nobody_waits_one_sentence_says_so():
    assert [each.text[:34] for each in verdicts([cell(), cell("srpt")])] == ["Nobody waited for a place in the b"]


def test_sentences_wait_for_the_policies_they_need():
    assert missing(ladder()) == ()
    assert verdicts([cell(), cell("laps-sd", speed=1.2)]) == ()
    assert missing([cell(), cell("laps-sd")]) == ("oracle-work-tokens", "oracle-work-rounds", "srpt")
    assert missing([cell("sjf")]) == ("fcfs", "oracle-work-tokens", "oracle-work-rounds")
    assert missing([cell(), cell("oracle-srpt-rounds")]) == ("oracle-srpt-tokens",)


def test_json_is_json_and_keeps_the_contract():
    shown = to_json(result(two(), slo=Slo.parse("ttft:500")))
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert shown["schema"] == "lapsbench.replay/1"
    first = shown["cells"][0]
    assert first.keys() >= {"policy", "load", "seed", "arrivals", "finished", "rejected", "unfinished", "metrics"}
    wanted = {"jct_mean_s", "jct_p50_s", "jct_p99_s", "ttft_mean_s", "ttft_p99_s", "tpot_p50_s", "slowdown_mean"}
    assert first["metrics"].keys() >= wanted | {"throughput_rps", "goodput_rps"}
    assert first["metrics"]["goodput_rps"] is None
    assert (shown["cells"][1]["policy"], shown["cells"][1]["oracle"]) == ("oracle-srpt-tokens", True)


def test_summary_rows_fit_the_schema_and_hold_every_number():
    cells = [cell(name, seed=seed, load=None) for name in ("fcfs", "oracle-srpt-tokens") for seed in range(2)]
    table = pa.table(summary_rows(cells, compare(cells, "fcfs")), schema=SUMMARY)
    rows = {(row["policy"], row["seed"], row["metric"], row["statistic"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    assert rows["fcfs", 1, "jct_s", "p99"]["value"] == cells[1].metrics["jct_p99_s"]
    assert rows["fcfs", 1, "finished", "count"]["value"] == 1000
    mean = rows["fcfs", None, "jct_s", "mean"]
    assert mean["low"] < mean["value"] < mean["high"]
    assert mean["n"] == 2000
    assert rows["oracle-srpt-tokens", None, "jct_s", "mean_ratio"]["value"] == pytest.approx(1)


def test_a_column_has_one_unit_and_one_number_of_decimals():
    assert units.time_unit([0.031, 0.9]) == ("ms", 1000.0)
    assert units.time_unit([0.5, 61.0]) == ("s", 1.0)
    assert units.column([5.0, 61.25, None]) == ["5.00", "61.25", "-"]
    assert units.column([0.03, 8204.0, 0.0]) == ["0.03", "8,204", "0"]
    assert units.column([None, None]) == ["-", "-"]


def test_lopsided_intervals_show_both_ends_all_down_the_column():
    found = [
        Comparison("a", "b", None, "jct_mean_s", *ends, "seeds", 3) for ends in ((0.6, 0.4, 0.9), (0.5, 0.49, 0.51))
    ]
    assert units.ratios(found, "±") == ["0.60 [0.40,0.90]", "0.50 [0.49,0.51]"]
    assert units.ratios(found[1:], "±") == ["0.50 ±0.01"]
    assert units.ratios([None, *found[1:]], "±") == ["-", "0.50 ±0.01"]


def test_sparklines_share_their_axis():
    quick, slow = np.zeros(80, np.int64), np.zeros(80, np.int64)
    quick[30:35], slow[35:40] = 10, 5
    axis, lines = sparklines([quick, slow, quick])
    assert axis == "1..10 s"
    assert lines == ["█████     ", "     █████", "█████     "]
    assert sparklines([np.zeros(80, np.int64)]) == ("", [""])
