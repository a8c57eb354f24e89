"""Pages and comparisons of runs of millions of requests, in small: in parts, what exact ones say but for a sketch."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from commands import lapsbench

from lapsbench import reading, versus
from lapsbench.core import PART
from lapsbench.metrics.gate import parse_gate
from lapsbench.metrics.sketch import ERROR
from lapsbench.report.plots import curves
from lapsbench.store import run, saved

RUN = "replay --trace trace.csv --repeats 1 --policy fcfs --policy srpt --rate 0.8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of 3,000 requests on engines of two sizes, their files in parts of 700 requests."""
    room = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(3)
    columns = {
        "arrival_s": rng.exponential(1.0, 3000).cumsum().round(6),
        "prompt_tokens": np.ceil(rng.lognormal(5, 1, 3000)).astype(int),
        "output_tokens": np.ceil(rng.lognormal(4, 1, 3000)).astype(int),
    }
    pl.DataFrame(columns).write_csv(room / "trace.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "PART", 700)
        for out, batch in (("a", 1), ("b", 2)):
            lapsbench(f"{RUN} --max-batch {batch} --engine ideal --out {out} -q", room).fine()
    return room


def small(patch):
    for module in (versus, curves):
        patch.setattr(module, "LARGE", 1500)
    patch.setattr(saved, "PART", 700)


def test_a_page_in_parts_is_that_of_the_whole_within_its_error(folder, monkeypatch):
    small(monkeypatch)
    found = curves.curves(reading.open_run(str(folder / "a")))
    monkeypatch.undo()
    exact = curves.curves(reading.open_run(str(folder / "a")))
    assert found.timeline == exact.timeline
    assert len(found.distributions) == len(exact.distributions)
    for mine, theirs in zip(found.distributions, exact.distributions, strict=True):
        assert mine.pop("value") == pytest.approx(theirs.pop("value"), rel=ERROR + 1e-3, abs=1e-9)
        assert mine == theirs
    assert sum(row["requests"] for row in found.slowdown) == sum(row["requests"] for row in exact.slowdown)
    for mine, theirs in zip(found.slowdown, exact.slowdown, strict=True):
        assert mine["mean"] == pytest.approx(theirs["mean"], rel=0.1)  # a request more or less in a class


@pytest.mark.parametrize("sides", ["a b", "b a", "a a"])
def test_a_comparison_in_parts_is_that_of_the_whole_within_its_error(folder, monkeypatch, sides):
    gates = [parse_gate("ttft_p50 > +900%"), parse_gate("tpot_p99 > +900%")]
    names = [str(folder / name) for name in sides.split()]
    exact = versus.compare_runs(*names, gates).changes
    small(monkeypatch)
    found = versus.compare_runs(*names, gates).changes
    assert len(found) == len(exact) == 8
    for mine, theirs in zip(found, exact, strict=True):
        assert (mine.metric, mine.policy, mine.method, mine.units) == (
            theirs.metric,
            theirs.policy,
            theirs.method,
            theirs.units,
        )
        assert mine.ratio == pytest.approx(theirs.ratio, rel=2.1 * ERROR)
        for side in ("low", "high"):
            assert getattr(mine, side) == pytest.approx(getattr(theirs, side), rel=5 * ERROR)
    told = lapsbench(f"compare {sides}", folder).fine()
    assert "quantiles come from sketches: each within 0.1 %" in told.err
    assert ("identical" in told.out) == (sides == "a a")


def test_other_work_is_refused_in_parts_too(folder, monkeypatch):
    lapsbench(f"{RUN} --limit 2500 --max-batch 1 --engine ideal --out few -q", folder).fine()
    lapsbench(f"{RUN.replace('0.8', '0.7')} --max-batch 1 --engine ideal --out slow -q", folder).fine()
    small(monkeypatch)
    done = lapsbench("compare a few", folder)
    assert done.code == 1
    assert "are different work: 3,000 requests and 2,500" in done.err
    assert lapsbench("compare a few --allow-different-work", folder).code == 0
    assert "are different work: requests arrive at other times" in lapsbench("compare a slow", folder).err


def test_files_that_are_cut_otherwise_are_compared(folder, monkeypatch):
    lapsbench(f"{RUN} --max-batch 2 --engine ideal --out whole -q", folder).fine()
    assert PART > 3000  # one part
    small(monkeypatch)
    words = lapsbench("compare b whole --markdown -", folder).fine().out
    assert "same" in words
    assert words.count("worse") == 0
