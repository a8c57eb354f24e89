"""Reports: the table as printed, a page and Markdown whose every number is in summary.parquet, the same bytes twice."""

from __future__ import annotations

import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import samples
from commands import lapsbench
from runs import FIVE, replayed, summary

from lapsbench.core import Workload
from lapsbench.metrics.catalog import BY_NAME
from lapsbench.metrics.estimates import ALL, BOTH, OWN, estimate_rows
from lapsbench.policies.registry import builtin
from lapsbench.report.plots.styles import KNOWN, SPARE, styles

MEGABYTES = 2_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of five policies at three loads, of a trace like Azure's, its page, and what was printed."""
    here = tmp_path_factory.mktemp("report")
    trace, _ = samples.azure_2023(here)
    options = f"--trace {trace} --load 0.7,0.8,0.95 --limit 400 --max-batch 8 --repeats 2 --slo ttft:500"
    (here / "table.txt").write_text(replayed(here, "azure", options))
    lapsbench("report azure --html page.html --markdown page.md", here).fine()
    return here


class Page(HTMLParser):
    """The cells of a page's tables, the JSON in its scripts, and what it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.specs, self.fetched, self.ids, self.references = [], [], [], [], []
        self._place = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.references += found.get("aria-labelledby", "").split()
        self.fetched += [found[name] for name in ("src", "href") if name in found]
        if tag == "table":
            self.tables.append({"class": found.get("class"), "caption": "", "rows": []})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append({"tag": tag, "text": "", **found})
            self._place = self.tables[-1]["rows"][-1][-1]
        elif tag == "caption":
            self._place = self.tables[-1]
        elif tag == "script" and found.get("type") == "application/json":
            self._place = "json"

    def handle_endtag(self, tag):
        if tag in ("td", "th", "caption", "script"):
            self._place = None

    def handle_data(self, data):
        if self._place == "json":
            self.specs.append(json.loads(data))
        elif self._place is not None:
            key = "text" if "tag" in self._place else "caption"
            self._place[key] += data


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "page.html").read_text())


def result_cells(page):
    """Yield load, policy and cell of every number in the result tables."""
    for table in page.tables:
        if table["class"] == "result":
            load = float(table["caption"].split()[1])
            for row in table["rows"][1:]:
                yield from ((load, row[0]["text"].rstrip("*"), cell) for cell in row if "data-metric" in cell)


def shown(text):
    """Return what a number may have been before it was rounded: the text as a number, and half of its last digit."""
    plain = text.split(" ")[0].replace(",", "")
    digits = len(plain.partition(".")[2])
    return float(plain), 0.5 * 10**-digits * 1.000001


def stored(numbers, policy, load, metric):
    if metric.endswith("_ratio"):
        return numbers[policy, load, None, "jct_s", "mean_ratio"]
    found = BY_NAME[metric]
    return numbers[policy, load, None, found.quantity, found.statistic]


# numbers ---------------------------------------------------------------------------------------------------------


def test_the_table_is_the_one_replay_printed(folder):
    done = lapsbench("report azure", folder).fine()
    assert done.out == (folder / "table.txt").read_text()
    assert done.err.startswith("try  ")
    assert lapsbench("report azure --quiet", folder).fine().err == ""


def test_every_number_of_the_tables_is_in_the_summary(folder, page):
    numbers = summary(folder / "azure")
    seen = 0
    for load, policy, cell in result_cells(page):
        wanted = stored(numbers, policy, load, cell["data-metric"])
        assert float(cell["data-value"]) == wanted
        number, room = shown(cell["text"])
        assert min(abs(number - scale * wanted) for scale in (1, 1000)) <= max(
            room, abs(number) * 0.05 * (number < 0.1)
        )
        seen += 1
    assert seen == 3 * 5 * 9


def test_every_metric_is_listed_to_the_last_digit(folder, page):
    rows = pl.read_parquet(folder / "azure/summary.parquet").filter(pl.col("seed").is_null()).rows()
    wanted = {(row[0], row[1], row[3], row[4]): row[5:8] for row in rows}
    table = next(table for table in page.tables if table["class"] == "numbers")
    assert len(table["rows"]) - 1 == 15 * len(BY_NAME)
    for policy, load, metric, *ends in ([cell["text"] for cell in row] for row in table["rows"][1:]):
        found = BY_NAME[metric]
        key = (policy.rstrip("*"), float(load), found.quantity, found.statistic)
        assert tuple(float(end) if end else None for end in ends) == wanted[key]


def test_every_number_of_the_markdown_is_in_the_summary(folder):
    numbers = summary(folder / "azure")
    text = (folder / "page.md").read_text()
    on_stdout = lapsbench("report azure --markdown -", folder).fine().out
    assert text.startswith(on_stdout.rstrip())
    seen = 0
    for load, table in re.findall(r"\*\*load (\S+) .*?\*\*\n\n((?:\|.*\n)+)", on_stdout):
        lines = [[cell.strip(" *") for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        column = lines[0].index("JCT mean s")
        for row in lines[2:]:
            number, room = shown(row[column])
            policy = row[0].replace("\\", "").rstrip("*")
            assert abs(number - numbers[policy, float(load), None, "jct_s", "mean"]) <= room
            seen += 1
    assert seen == 15


def test_plots_of_metrics_draw_the_summary(folder, page):
    numbers = summary(folder / "azure")
    rows = [row for spec in page.specs for row in spec["datasets"]["rows"]]
    means = [row for row in rows if row.keys() == {"policy", "load", "value", "low", "high"}]
    assert len(means) == 2 * 15  # mean and p99
    known = {value for (*_, metric, _), value in numbers.items() if metric == "jct_s"}
    assert {row["value"] for row in means} <= known
    steps = [row for row in rows if row.get("kind") == "total"]
    assert len(steps) == 3 * 3
    assert {row["to"] for row in steps} <= known


def test_distributions_are_those_of_the_measured_requests(folder, page):
    spec = next(spec for spec in page.specs if spec["description"] == "Share of requests by latency, JCT, load 0.95")
    cuts = pl.read_parquet(folder / "azure/summary.parquet").filter(policy="fcfs", load=0.95, metric="warmup")
    rows = pl.read_parquet(folder / "azure/requests.parquet").filter(policy="fcfs", load=0.95)
    rows = rows.join(cuts.select("seed", cut="n"), on="seed").filter(pl.col("request") >= pl.col("cut"))
    jct = (rows["finished_s"] - rows["arrival_s"]).to_numpy()
    for row in [row for row in spec["datasets"]["rows"] if row["policy"] == "fcfs"][::10]:
        below = float((jct <= row["value"] * 1.0006).mean())
        assert math.isclose(below, row["share"], abs_tol=0.01)


# the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_one_small_file_that_fetches_nothing(folder, page):
    text = (folder / "page.html").read_text()
    assert len(text.encode()) < MEGABYTES
    assert page.fetched == ["data:,"]
    assert "url(" not in text.split("</style>")[0]


def test_a_page_of_every_policy_at_five_loads_is_still_small(tmp_path):
    every = [f"{name}:patience_s=20" if name == "work-patient" else name for name in builtin()]
    replayed(tmp_path, "all", "--load 0.5,0.6,0.7,0.8,0.9 --limit 600 --max-batch 8 --repeats 2", every)
    lapsbench("report all --html page.html", tmp_path).fine()
    assert (tmp_path / "page.html").stat().st_size < 1.5 * MEGABYTES


def test_the_page_has_every_section_and_one_line_on_what_to_look_for(folder, page):
    text = (folder / "page.html").read_text()
    sections = {"choice", "jct", "load", "worth", "slowdown", "tokens", "preemptions", "acceptance", "busy"}
    assert sections | {"numbers", "provenance"} <= set(page.ids)
    assert text.count("<b>Look for:</b>") == len(sections)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)


def test_the_first_screen_has_the_question_the_verdict_and_the_table(folder):
    text = (folder / "page.html").read_text()
    order = ["<h1>Which request scheduler", 'class="verdict"', "load 0.95 (", "<th scope=", 'id="jct"']
    assert [text.index(each) for each in order] == sorted(text.index(each) for each in order)


def test_tables_are_for_screen_readers(page):
    for table in page.tables:
        assert table["caption"]
        assert {cell.get("scope") for cell in table["rows"][0]} == {"col"}
        assert all(row[0].get("scope") == "row" for row in table["rows"][1:])


def test_provenance_says_where_the_numbers_come_from(folder):
    text = (folder / "page.html").read_text()
    manifest = json.loads((folder / "azure/manifest.json").read_text())
    for wanted in (
        manifest["profile"]["sha256_32"],
        manifest["trace"]["sha256_32"],
        "published figures, not measured here",
        f"numpy {manifest['versions']['numpy']}",
        "--load 0.7,0.8,0.95 --max-batch 8 --limit 400 --repeats 2 --slo ttft:500",
    ):
        assert wanted in text


def test_the_same_run_gives_the_same_bytes(folder):
    names = ("page.html", "page.md", *(path.name for path in folder.glob("page-*.svg")))
    before = {name: (folder / name).read_bytes() for name in names}
    lapsbench("report azure --html page.html --markdown page.md", folder).fine()
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_a_name_is_never_markup(folder, tmp_path):
    (tmp_path / "a<b>&_|.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,9\n0.1,5,30\n")
    lapsbench('replay --trace "a<b>&_|.csv" --policy fcfs --policy srpt --repeats 1 --out run', tmp_path).fine()
    lapsbench("report run --html p.html --markdown p.md", tmp_path).fine()
    assert "a&lt;b&gt;&amp;_|" in (tmp_path / "p.html").read_text()
    assert "a\\<b>&\\_\\|" in (tmp_path / "p.md").read_text()


# Markdown --------------------------------------------------------------------------------------------------------


def test_markdown_has_pictures_beside_it(folder):
    names = re.findall(r"!\[.*?\]\((.*?)\)", (folder / "page.md").read_text())
    assert len(names) == 6
    for name in names:
        assert (folder / name).read_text().startswith("<svg")
    assert "![" not in lapsbench("report azure --markdown -", folder).fine().out


# several runs ----------------------------------------------------------------------------------------------------


def test_several_runs_stand_side_by_side(folder):
    replayed(folder, "small", "--load 0.9 --limit 300 --max-batch 8 --repeats 1", ("fcfs", "srpt"))
    printed = lapsbench("report small azure", folder).fine().out
    assert printed.index("small\n") < printed.index("azure\n")
    lapsbench("report small azure --html two.html --markdown two.md", folder).fine()
    found = Page((folder / "two.html").read_text())
    beside = found.tables[0]
    assert [cell["text"] for cell in beside["rows"][0]][1:3] == [
        "JCT mean s, small, load 0.9",
        "JCT mean s, azure, load 0.95",
    ]
    laps = next(row for row in beside["rows"] if row[0]["text"] == "laps-sd")
    assert laps[1]["text"] == "-"
    number, room = shown(laps[2]["text"])
    assert abs(number - summary(folder / "azure")["laps-sd", 0.95, None, "jct_s", "mean"]) <= room
    assert "### Side by side" in (folder / "two.md").read_text()
    assert "Not shown" not in (folder / "two.html").read_text()


# honesty ---------------------------------------------------------------------------------------------------------


def test_a_summary_that_contradicts_the_requests_is_refused(folder, tmp_path):
    shutil.copytree(folder / "azure", tmp_path / "run")
    path = tmp_path / "run/summary.parquet"
    rows = pl.read_parquet(path)
    rows.with_columns(
        value=pl.when(pl.col("metric") == "jct_s").then(pl.col("value") * 0.9).otherwise("value")
    ).write_parquet(path)
    done = lapsbench("report run", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "summary.parquet: does not say what requests.parquet does: jct_s" in done.err


BAD = {
    "report": (2, "Missing argument"),
    "report nowhere": (1, "nowhere: no such run folder"),
    "report .": (1, "is not a run folder"),
    "report azure azure": (2, "azure: is given twice"),
    "report azure --html -": (2, "a page is for a file"),
    "report azure --html /nowhere/x.html": (1, "--html /nowhere/x.html: cannot write"),
    "report azure --markdown ''": (2, "--markdown: is empty"),
}


@pytest.mark.parametrize(("line", "wanted"), BAD.items())
def test_what_cannot_be_reported_is_said_in_one_line(folder, line, wanted):
    done = lapsbench(line, folder)
    assert (done.code, done.out) == (wanted[0], "")
    assert wanted[1] in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": "lapsbench.run/1"}', '{"schema": "other/1"}'])
def test_a_damaged_manifest_is_one_line(folder, tmp_path, text):
    shutil.copytree(folder / "azure", tmp_path / "run")
    (tmp_path / "run/manifest.json").write_text(text)
    done = lapsbench("report run", tmp_path)
    assert done.code == 1
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "key", ["cells", "engine", "scenario", "trace", "profile", "baseline", "capacity_rps", "predict"]
)
def test_a_manifest_that_lacks_something_is_one_line(folder, tmp_path, key):
    shutil.copytree(folder / "azure", tmp_path / "run")
    manifest = json.loads((folder / "azure/manifest.json").read_text())
    (tmp_path / "run/manifest.json").write_text(json.dumps({name: manifest[name] for name in manifest if name != key}))
    done = lapsbench("report run", tmp_path)
    assert done.code == 1
    assert key in done.err
    assert done.err.count("\n") == 1


def test_requests_that_another_program_wrote_again_are_read(folder, tmp_path):
    shutil.copytree(folder / "azure", tmp_path / "run")
    path = tmp_path / "run/requests.parquet"
    table = pq.read_table(path).replace_schema_metadata(pq.read_metadata(path).metadata)
    pq.write_table(table, path)  # one row group now, and the list of cells kept
    assert pq.read_metadata(path).num_row_groups == 1
    assert lapsbench("report run", tmp_path).fine().out == (folder / "table.txt").read_text()
    pq.write_table(table.replace_schema_metadata({}), path)  # and now lost, with what only a whole cell has
    assert "does not say what requests.parquet does: steps" in lapsbench("report run", tmp_path).err
    assert "every request fared identically" in lapsbench(f"compare {folder / 'azure'} run", tmp_path).fine().out


def test_an_unfinished_run_is_one_line(folder, tmp_path):
    shutil.copytree(folder / "azure", tmp_path / "run")
    (tmp_path / "run/requests.parquet").unlink()
    assert "run: the run is not finished; try the same" in lapsbench("report run", tmp_path).err


def test_requests_of_an_earlier_command_are_not_taken_for_those_of_an_interrupted_one(tmp_path):
    replayed(tmp_path, "run", "--load 0.9 --limit 50 --repeats 1", ("fcfs",))
    replayed(tmp_path, "next", "--load 0.9 --limit 60 --repeats 1", ("fcfs",))
    shutil.copy(tmp_path / "next/manifest.json", tmp_path / "run/manifest.json")  # then it was interrupted
    assert "run: the run is not finished" in lapsbench("report run", tmp_path).err
    assert "run: the run is not finished" in lapsbench("compare next run", tmp_path).err


# corners ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        "--limit 1 --repeats 1",
        "--limit 40 --draft-tokens 0 --repeats 1",
        "--limit 200 --kv-tokens 3000 --on-preempt recompute --max-batch 4 --repeats 1 --load 0.9",
        "--limit 60 --rate 3 --repeats 2",
    ],
)
def test_odd_runs_have_pages_too(tmp_path, options):
    printed = replayed(tmp_path, "run", f"--trace chat {options}", ("fcfs", "srpt"))
    assert lapsbench("report run", tmp_path).fine().out == printed
    lapsbench("report run --html p.html --markdown p.md", tmp_path).fine()
    Page((tmp_path / "p.html").read_text())


def test_styles_are_the_same_in_every_report():
    assert len(set(KNOWN.values())) == len(KNOWN)
    assert styles(["srpt", "fcfs"])["fcfs"] == styles(["fcfs", "laps-sd"])["fcfs"] == KNOWN["fcfs"]
    some = styles([*FIVE, "mine.py:rank", "laps-sd:eps=0"])
    assert len(set(some.values())) == 7
    assert len(styles([f"mine{number}" for number in range(len(SPARE) + 1)])) == len(SPARE) + 1


# how soon acceptance is known ------------------------------------------------------------------------------------


def recorded(outputs, runs):
    """Return requests that follow recordings of their own, each of one value."""
    outputs = np.asarray(outputs, np.int32)
    starts = np.concatenate([[0], np.cumsum(outputs)[:-1]]).astype(np.int64)
    count, zeros = len(outputs), np.zeros(len(outputs), np.int32)
    return Workload(
        arrival_s=np.zeros(count),
        prompt_tokens=np.ones(count, np.int32),
        output_tokens=outputs,
        predicted_tokens=np.ones(count),
        predicted_class=zeros,
        client=zeros,
        clients=1,
        recording_start=starts,
        recording_tokens=outputs,
        recording_shift=zeros,
        accept_runs=np.repeat(np.asarray(runs, np.uint8), outputs),
    )


def test_a_request_of_one_pace_is_known_after_one_round():
    # half accept nothing, half accept 2 of 3: 1 and 3 tokens a round, 100 rounds each
    work = recorded([101] * 50 + [301] * 50, [0] * 50 + [2] * 50)
    rows = {(row["estimate"], row["rounds"]): row for row in estimate_rows(work, 3)}
    assert rows[OWN, 1]["error_p50"] == rows[OWN, 64]["error_p90"] == 0.0
    assert rows[ALL, 1]["error_p90"] == pytest.approx(1.0)  # 2 tokens a round where it is 1
    assert rows[BOTH, 8]["error_p90"] == pytest.approx(0.5)  # halfway between
    assert rows[OWN, 1]["requests"] == 100
    assert max(at for _, at in rows) == 64  # 96 leaves fewer than 8 rounds


def test_nothing_drafted_is_nothing_estimated():
    work = recorded([101] * 50, [2] * 50)
    assert estimate_rows(work, 0) == []
    assert estimate_rows(recorded([1, 1], [0, 0]), 3) == []


def test_the_walk_of_rounds_is_the_simulators(folder):
    rows = pl.read_parquet(folder / "azure/requests.parquet").filter(policy="fcfs", load=0.7, seed=0)
    page = (folder / "page.html").read_text()
    at = 16
    judged = rows.filter(pl.col("rounds") >= at + 8)
    assert f'"estimate":"{OWN}","rounds":{at},' in page
    assert f'"requests":{len(judged)},' in page.partition(f'"estimate":"{OWN}","rounds":{at},')[2][:120]
