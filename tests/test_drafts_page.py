"""Drafts that vary, on the page and in Markdown: the terminal's table, and which k ran at which size of batch."""

from __future__ import annotations

import json
import re

import pytest
from commands import lapsbench
from test_browser import CHROMIUM, PLOT, browse

SMALL = "replay --limit 300 --max-batch 16 --repeats 2 --load 0.6,0.9 --policy fcfs --policy oracle-work-tokens -q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with runs of a schedule, of a controller for each request, and of one k, and their reports."""
    here = tmp_path_factory.mktemp("drafts")
    for name, drafts in {
        "stairs": "--draft-tokens 1-3:6,4-9:2,10-:0",
        "each": "--drafts per-request",
        "plain": "--draft-tokens 3",
    }.items():
        printed = lapsbench(f"{SMALL} {drafts} --out {name} --json {name}.json", here).fine().out
        (here / f"{name}.txt").write_text(printed)
        lapsbench(f"report {name} --html {name}.html --markdown {name}.md", here).fine()
    return here


def plots(folder, name):
    """Return description and rows of each plot of drafts."""
    section = (folder / f"{name}.html").read_text().partition('<h2 id="drafting">')[2].partition("</section>")[0]
    specs = map(json.loads, re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', section, re.DOTALL))
    return {spec["description"]: spec["datasets"]["rows"] for spec in specs}


def printed_rows(folder, name):
    """Return the rows of the terminal's tables of drafts, as they are read."""
    tables = (folder / f"{name}.txt").read_text().split("draft together, under fcfs\n")[1:]
    lines = [line for table in tables for line in table.partition("\n\n")[0].splitlines()[3:]]
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


@pytest.mark.parametrize(("name", "controller"), [("stairs", "by-batch"), ("each", "per-request")])
def test_the_page_and_the_markdown_hold_the_rows_that_replay_printed(folder, name, controller):
    wanted = printed_rows(folder, name)
    assert len(wanted) == 2 * len({row[0] for row in wanted})  # at both loads
    page, text = ((folder / f"{name}.{kind}").read_text() for kind in ("html", "md"))
    text = text.replace("\u00a0", " ")
    tables = [each for each in re.findall(r"<table.*?</table>", page, re.DOTALL) if "draft together, under" in each]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for each in tables for row in each.split("<tr>")[2:]]
    assert sorted(rows) == sorted(wanted)  # the page begins with the highest load
    for row in wanted:
        assert f"| {' | '.join(row)} |" in text
    assert f"![Drafts by size of batch: {controller} under fcfs, load 0.9]({name}-drafting.svg)" in text
    assert "drafts a round" in (folder / f"{name}-drafting.svg").read_text()


def test_every_policy_has_a_plot_of_which_k_ran_at_which_batch(folder):
    found = plots(folder, "stairs")
    assert list(found) == [
        f"Drafts by size of batch, by-batch under {policy}, load 0.9" for policy in ("fcfs", "oracle-work-tokens*")
    ]
    for rows in found.values():
        assert sum(row["share"] for row in rows) == pytest.approx(1, abs=0.01)
        weight = {(row["last"], row["drafts"]): row["share"] for row in rows}
        # vLLM fixes k one step ahead, so that a step at the edge may still have its neighbour's
        for batch, k in ((1, 6), (2, 6), (6, 2), (7, 2), (14, 0), (15, 0)):
            mine = sum(share for (size, _), share in weight.items() if size == batch)
            assert weight[batch, k] > 0.8 * mine


def test_the_weights_are_the_time_that_the_json_tells(folder):
    cells = json.loads((folder / "each.json").read_text())["cells"]
    for description, rows in plots(folder, "each").items():
        policy = re.search(r"under ([\w-]+)", description)[1]
        mine = [c["drafting"]["by_batch"] for c in cells if (c["policy"], c["load"]) == (policy, 0.9)]
        for first, last in ((1, 1), (2, 3), (4, 7), (8, 15)):
            shares = [row["step_fraction"] for found in mine for row in found if row["first"] == first]
            drawn = sum(row["share"] for row in rows if first <= row["first"] and row["last"] <= last)
            assert min(shares) - 0.01 <= drawn <= max(shares) + 0.06  # of time in which somebody did a round


def test_a_run_taken_up_again_draws_the_same(folder):
    lapsbench(f"{SMALL} --draft-tokens 1-3:6,4-9:2,10-:0 --out stairs", folder).fine()
    before = (folder / "stairs.html").read_text()
    lapsbench("report stairs --html again.html", folder).fine()
    assert (folder / "again.html").read_text() == before


def test_nothing_is_shown_where_k_is_fixed(folder):
    for kind in ("html", "md"):
        text = (folder / f"plain.{kind}").read_text()
        assert "draft together" not in text
        assert 'id="drafting"' not in text
    assert not (folder / "plain-drafting.svg").exists()
    lapsbench("report plain stairs --html both.html", folder).fine()
    assert len(plots(folder, "both")) == 2


def test_256_places_share_columns(tmp_path):
    lapsbench("replay --limit 700 --max-batch 256 --rate 60 --policy fcfs --drafts goodput -q --out wide", tmp_path)
    lapsbench("report wide --html wide.html", tmp_path).fine()
    (rows,) = plots(tmp_path, "wide").values()
    assert max(row["last"] for row in rows) > 64
    assert len({row["first"] for row in rows}) <= 64


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium; `make browser` as root installs it")
@pytest.mark.parametrize("width", [1280, 400])
def test_the_plots_are_drawn(folder, width):
    (folder / "page.html").write_text((folder / "each.html").read_text())
    dom, console = browse(folder, f"--window-size={width},2000")
    assert console == []
    inside = dom.partition('<h2 id="drafting">')[2].partition("</section>")[0]
    states = [(state, "mark-rect" in drawn) for _, state, drawn in PLOT.findall(inside)]
    assert states == [("drawn", True)] * 2
