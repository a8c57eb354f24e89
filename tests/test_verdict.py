"""Which scheduler to run: the best that is shown to be better, never an oracle, and "undecided" where it is."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from commands import lapsbench
from test_metrics import cell
from test_table import printed, result

from lapsbench.metrics.saturation import Saturation
from lapsbench.metrics.slo import Slo

RUN = "replay --trace chat --engine ideal --load 0.8 --limit 1200 --max-batch 16 --repeats 3 -q"
POLICIES = "--policy fcfs --policy sjf --policy laps-sd --policy work --policy work-patient --policy oracle-work-tokens"
KEYS = {
    "load",
    "aim",
    "policy",
    "undecided",
    "value",
    "low",
    "high",
    "price",
    "proven",
    "needs",
    "today",
}


def chosen(cells, aim="mean", **other):
    """Return the choice for one aim of a run of these cells."""
    found = [each for each in result(cells, **other).choices if each.aim == aim]
    assert len(found) == 1
    return found[0]


def said(cells, **other):
    """Return all that is printed, on one line."""
    return " ".join(printed(result(cells, **other)).split())


def hurt(what):
    """Return a cell whose queue only grows."""
    return replace(what, saturation=Saturation("GROWING", 0.9, 0.04))


def nearly(what, by):
    """Return a cell as another, but slower by a share that alternates from block to block."""
    sums = what.blocks["jct_mean_s"]
    factor = 1 + by * np.where(np.arange(len(sums)) % 2, 1.0, -0.9)
    changed = replace(sums, sums=sums.sums * factor)
    mean = float(changed.sums.sum() / changed.counts.sum())
    return replace(what, metrics={**what.metrics, "jct_mean_s": mean}, blocks={**what.blocks, "jct_mean_s": changed})


# by hand ----------------------------------------------------------------------------------------------------------


def test_the_fastest_is_run_and_an_oracle_never():
    cells = [cell(), cell("sjf", speed=1.3), cell("srpt", speed=1.2), cell("oracle-srpt-tokens", speed=2)]
    found = chosen(cells)
    assert (found.policy, found.today, found.undecided, found.proven) == ("sjf", "fcfs", (), True)
    assert found.value == pytest.approx(cells[1].metrics["jct_mean_s"] / cells[0].metrics["jct_mean_s"])
    assert found.low < found.value < found.high < 1
    assert "also with p99 at most 1.3 x fcfs, run sjf: " in said(cells)


def test_two_that_cannot_be_told_apart_are_undecided():
    quick = cell("sjf", speed=1.3)
    cells = [cell(), quick, replace(nearly(quick, 0.1), policy="srpt"), cell("las", speed=1.1)]
    found = chosen(cells)
    assert (found.policy, found.undecided, found.proven) == (None, ("sjf", "srpt"), False)
    assert re.search(r"it is undecided between sjf and srpt: -50.9 % \[.*\] and -50", said(cells))


def test_nothing_shown_to_be_better_keeps_todays():
    cells = [cell(), nearly(cell("sjf"), 0.2), cell("laps-sd", speed=0.8)]
    found = chosen(cells)
    assert (found.policy, set(found.undecided)) == ("fcfs", {"fcfs", "sjf"})
    assert "keep fcfs: nothing here is shown to beat it (sjf " in said(cells)


def test_half_a_percent_is_no_reason_to_change():
    cells = [cell(), nearly(cell("sjf", scale=0.995), 0)]
    assert chosen(cells).policy == "fcfs"
    assert chosen([cell(), nearly(cell("sjf", scale=0.9), 0)]).policy == "sjf"


def test_who_grows_or_leaves_requests_unfinished_never_wins():
    quick, next_best = cell("sjf", speed=1.5), cell("srpt", speed=1.2)
    assert chosen([cell(), quick, next_best]).policy == "sjf"
    assert chosen([cell(), hurt(quick), next_best]).policy == "srpt"
    assert chosen([cell(), replace(quick, unfinished=1, finished=999), next_best]).policy == "srpt"


def test_where_todays_does_not_keep_up_its_tail_is_no_yardstick():
    cells = [hurt(cell()), cell("sjf", speed=1.5)]
    assert chosen(cells).policy == "sjf"
    assert chosen(cells, "tail").policy is None
    assert "there is no answer: fcfs itself does not keep up" in said(cells)
    assert ", but fcfs does not keep up; p99 " in said(cells)
    nobody = [hurt(each) for each in cells]
    assert chosen(nobody).policy is None
    assert "No scheduler here keeps up" in said(nobody)


def test_who_loses_to_fcfs_is_not_recommended_to_those_who_run_worse():
    cells = [cell("las", speed=0.5), cell(), cell("srpt", speed=0.8)]
    for baseline in ("las", "srpt"):
        found = chosen(cells, baseline=baseline)
        assert (found.today, found.policy) == (baseline, "fcfs")


def test_the_tail_is_kept_to_what_is_borne():
    quick, steady = cell("sjf", speed=1.5), cell("srpt", speed=1.2)
    quick = replace(quick, metrics={**quick.metrics, "jct_p99_s": 2 * cell().metrics["jct_p99_s"]})
    cells = [cell(), quick, steady]
    assert (chosen(cells).policy, chosen(cells, "tail").policy) == ("sjf", "srpt")
    assert chosen(cells).p99 == pytest.approx(2)
    assert not chosen(cells, "tail").proven  # one seed has no interval for a p99
    assert chosen(cells, "tail", tail=2.5).policy == "sjf"
    assert "With p99 at most 1.3 x fcfs run srpt: mean JCT " in said(cells)
    assert "not proven: one seed gives it no interval" in said(cells)


def test_goodput_is_an_aim_where_slos_are_given():
    slo = Slo.parse("e2el:2000")
    cells = [cell(name, seed=seed, speed=speed, slo=slo) for name, speed in QUICK for seed in range(3)]
    assert {each.aim for each in result(cells).choices} == {"mean", "tail"}
    found = chosen(cells, "goodput", slo=slo)
    assert (found.policy, found.value > 1, found.low > 1) == ("sjf", True, True)
    assert re.search(r"For the most goodput run sjf: \d+ % \[.*?\] more requests a second", said(cells, slo=slo))


QUICK = (("fcfs", 1), ("sjf", 1.5), ("las", 1.1))


def test_too_few_requests_decide_nothing():
    cells = [cell(count=100), cell("sjf", count=100, speed=1.5)]
    assert chosen(cells).policy == "fcfs"
    assert "too few requests for an interval" in said(cells)


def test_without_a_choice_there_is_no_verdict():
    assert result([cell(), cell("oracle-srpt-tokens", speed=2)]).choices == ()
    assert result([cell("sjf"), cell("las")], baseline="oracle-srpt-tokens").choices == ()


def test_what_it_takes_is_said_where_it_is_known():
    cells = [cell(), cell("sjf", speed=1.3)]
    assert "It takes" not in said(cells)
    assert "It takes nothing that fcfs does not." in said(cells, needs={"sjf": ()})
    assert "It takes a, b and c." in said(cells, needs={"sjf": ("a", "b", "c")})


# from the command line --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("verdict")
    done = lapsbench(f"{RUN} {POLICIES} --out run --json run.json", where).fine()
    (where / "table.txt").write_text(done.out)
    return where


def test_the_verdict_is_the_first_line_below_the_table(folder):
    above, _, foot = (folder / "table.txt").read_text().partition("\noracle-work-tokens*")
    assert "For the lowest mean JCT" not in above
    assert foot.partition("\n\n")[2].startswith("For the lowest mean JCT")
    order = ["For the lowest mean JCT", "p99 at most 1.3 x fcfs", "Counting the prompt", "Knowing lengths", "*   "]
    places = [foot.index(text) for text in order]
    assert places == sorted(places)


def test_json_holds_the_verdict(folder):
    shown = json.loads((folder / "run.json").read_text())
    assert [(each["load"], each["aim"]) for each in shown["verdict"]] == [(0.8, "mean"), (0.8, "tail")]
    for each in shown["verdict"]:
        assert each.keys() == KEYS
        assert each["price"].keys() == {"jct_p99", "preemptions"}
        assert each["today"] == "fcfs"
        best = each["policy"] or each["undecided"][0]
        ratio = next(
            other["ratio"]
            for other in shown["comparisons"]
            if (other["policy"], other["metric"]) == (best, "jct_mean_s")
        )
        assert each["value"] == ratio
    tail = shown["verdict"][1]
    assert tail["price"]["jct_p99"] <= 1.3
    assert shown["verdicts"][0]["about"] == "choice"
    mean = shown["verdict"][0]
    assert "length predictions (noisy:sigma=0.5)" in mean["needs"]
    assert "a sample of past requests" in mean["needs"]


def test_the_limit_on_the_tail_can_be_chosen(folder, tmp_path):
    line = f"{RUN} {POLICIES} --json -"
    loose, tight = (json.loads(lapsbench(f"{line} --tail {tail}", tmp_path).fine().out) for tail in (20, 1))
    aims = [{each["aim"]: each for each in shown["verdict"]} for shown in (loose, tight)]
    assert aims[0]["tail"]["policy"] == aims[0]["mean"]["policy"]
    assert aims[1]["tail"]["price"]["jct_p99"] <= 1
    done = lapsbench(f"{line} --tail 0.5", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--tail" in done.err


def test_a_kept_run_says_the_same_and_an_older_one_does_too(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    assert lapsbench("report run", tmp_path).fine().out == (folder / "table.txt").read_text()
    path = tmp_path / "run/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["needs"], manifest["scenario"]["tail"]
    path.write_text(json.dumps(manifest))
    out = " ".join(lapsbench("report run", tmp_path).fine().out.split())
    assert "For the lowest mean JCT" in out
    assert "It takes" not in out


def test_the_page_and_markdown_begin_with_the_verdict(folder, tmp_path):
    text = lapsbench(f"report {folder / 'run'} --html {tmp_path / 'p.html'} --markdown -", tmp_path).fine().out
    assert text.index("> **For the lowest mean JCT") < text.index("| policy")
    page = (tmp_path / "p.html").read_text()
    assert page.index('class="choice"><b>At load 0.8: For the lowest mean JCT') < page.index('<table class="result"')
