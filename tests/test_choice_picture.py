"""Mean against tail: a point a policy, the frontier, and what more or less patience would do, from the run folder."""

import json
import re

import polars as pl
import pytest
from commands import lapsbench

SMALL = "replay --limit 1200 --max-batch 16 --repeats 2 --load 0.7,0.8"
PATIENT = "--policy fcfs --policy sjf --policy work --policy work-patient --policy oracle-work-tokens"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    where = tmp_path_factory.mktemp("picture")
    lapsbench(f"{SMALL} {PATIENT} --out run --json run.json", where).fine()
    lapsbench(f"{SMALL} {PATIENT} --out quiet --json quiet.json -q", where).fine()
    return where


def plots(page):
    """Return the rows of each plot of the section, first the load whose details are shown."""
    section = page.partition('<h2 id="choice">')[2].partition("<section")[0]
    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', section, re.DOTALL)
    return [json.loads(spec)["datasets"]["rows"] for spec in specs]


def shown(room, run):
    lapsbench(f"report {run} --html {run}.html", room).fine()
    return (room / f"{run}.html").read_text()


def kind(rows, name):
    return [row for row in rows if row["kind"] == name]


def test_every_load_has_a_point_a_policy_and_its_intervals(room):
    page = shown(room, "run")
    assert page.index('id="choice"') < page.index('id="jct"')
    cells = json.loads((room / "run.json").read_text())["cells"]
    found = plots(page)
    for load, rows in zip((0.8, 0.7), found, strict=True):
        points = {row["policy"].rstrip("*"): row for row in kind(rows, "policy")}
        assert points.keys() == {cell["policy"] for cell in cells}
        for name, point in points.items():
            means = [c["metrics"]["jct_mean_s"] for c in cells if (c["policy"], c["load"]) == (name, load)]
            assert point["mean"] == pytest.approx(sum(means) / 2)
            assert point["mean_low"] < point["mean"] < point["mean_high"]


def test_the_frontier_holds_no_oracle_and_nobody_who_is_beaten_in_both(room):
    for rows in plots(shown(room, "run")):
        real = [row for row in kind(rows, "policy") if row["real"]]
        edge = {row["policy"] for row in kind(rows, "frontier")}
        beaten = {
            row["policy"]
            for row in real
            if any(other["mean"] < row["mean"] and other["p99"] < row["p99"] for other in real)
        }
        assert edge
        assert edge <= {row["policy"] for row in real} - beaten
        assert "oracle-work-tokens*" not in edge


def test_five_patiences_make_a_line_and_no_cells(room):
    for rows in plots(shown(room, "run")):
        line = kind(rows, "line")
        patience = [row["patience_s"] for row in line]
        assert len(set(patience)) == 5
        assert patience == sorted(patience)
        assert line[0]["mean"] >= line[-1]["mean"]  # the more patient, the nearer to work
    cells = [json.loads((room / f"{run}.json").read_text())["cells"] for run in ("run", "quiet")]
    assert cells[0] == cells[1]
    rows = [pl.read_parquet(room / run / "requests.parquet") for run in ("run", "quiet")]
    assert rows[0].equals(rows[1])


@pytest.mark.parametrize("flags", ["-q", "--smoke", "--policy fcfs --policy sjf"])
def test_no_line_where_it_is_not_wanted(room, flags):
    policies = "" if "--policy" in flags else PATIENT
    lapsbench(f"replay --limit 1200 --max-batch 16 --load 0.7 --repeats 1 {policies} {flags} --out plain", room).fine()
    page = shown(room, "plain")
    assert "five values of its patience" not in page
    for rows in plots(page):
        assert not kind(rows, "line")


def test_a_patience_of_ones_own_is_the_middle_of_the_line(room):
    line = "--policy fcfs --policy work-patient:patience_s=5"
    lapsbench(f"replay --limit 1200 --max-batch 16 --load 0.7 --repeats 1 {line} --out own", room).fine()
    (rows,) = plots(shown(room, "own"))
    assert [row["patience_s"] for row in kind(rows, "line")] == [2, 3.5, 5, 7, 10]


def test_a_markdown_report_has_it_too(room):
    lapsbench("report run --markdown run.md", room).fine()
    assert "(run-choice.svg)" in (room / "run.md").read_text()
    assert "work-patient" in (room / "run-choice.svg").read_text()
