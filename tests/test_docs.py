"""What the docs print is true: their policies run as printed, and their tables say what the code says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from commands import SCRIPT
from strategies import Scenario, constant, differences, workload

from lapsbench import core
from lapsbench.policies.registry import builtin, find

DOCS = Path(__file__).parents[1] / "docs"
WORK = Scenario(workload([0, *range(30)], [10, *[1] * 30], prompt_tokens=3), core.Engine(1, 0), constant())
"""A long request, and for half a minute a short one every second: just what the engine serves."""


def blocks(page):
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def rows(page):
    """Return the cells of every table row of a page, backticks taken off the first."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def saved(tmp_path, block):
    path = tmp_path / "mine.py"
    path.write_text(block)
    return path


def test_the_ten_line_policy_is_about_ten_lines():
    assert len(blocks("write-a-policy.md")[0].splitlines()) <= 10


def test_the_ten_line_policy_runs_as_printed(tmp_path):
    path = saved(tmp_path, blocks("write-a-policy.md")[0])
    assert f"--policy {path.name}:aged_srpt" in (DOCS / "write-a-policy.md").read_text()
    found = find(f"{path}:aged_srpt")
    outcome = WORK.replay(found)
    assert outcome.status.tolist() == [core.FINISHED] * len(WORK.work)
    assert not differences(outcome, WORK.twin(found))


def test_the_ten_line_policy_does_what_it_says(tmp_path):
    path = saved(tmp_path, blocks("write-a-policy.md")[0])
    aged, patient = (WORK.replay(find(f"{path}:aged_srpt:tokens_per_s={rate}")) for rate in (0.5, 0))
    assert not differences(patient, WORK.replay(find("srpt")))
    assert patient.finished_s[0] == 40.0
    assert aged.finished_s[0] < 30.0  # the long one no longer waits for all the short ones


def test_the_decorated_policy_runs_as_printed(tmp_path):
    found = find(f"{saved(tmp_path, blocks('write-a-policy.md')[1])}:short_prompts")
    assert (found.preemptive, found.source) == (False, "our wiki")
    assert not WORK.replay(found).stopped


def test_every_field_a_policy_sees_is_in_the_docs_and_no_other():
    told = re.findall(r"^\| (`[^|]*) \|", (DOCS / "write-a-policy.md").read_text(), re.MULTILINE)
    names = {name for cell in told for name in re.findall(r"`(\w+)`", cell)}
    arguments = {
        "preemptive",
        "source",
        "knows",
        "rerank",
        "calibrate",
        "client_weights",
        "aliases",
        "oracle",
        "bounds",
    }
    assert names - arguments == {*core.JOB.names, *core.SYSTEM.names} - {"params", *core.DRAFTED}


def test_the_sizes_in_the_docs_are_those_of_the_code():
    text = (DOCS / "write-a-policy.md").read_text()
    assert f"{core.SCRATCH} numbers" in text
    assert f"at most {core.PARAMETERS}" in text
    assert f"{core.TABLE:,} numbers" in text


@pytest.mark.parametrize("found", builtin().values(), ids=lambda found: found.name)
def test_every_policy_is_in_the_docs_with_its_parameters_and_what_it_may_know(found):
    row = next(row for row in rows("policies.md") if row[0] == f"`{found.label}`")
    _, _, preempts, parameters, knows = row
    assert preempts == "until then" if found.name == "trail" else preempts == ("yes" if found.preemptive else "no")
    assert re.findall(r"`(\w+=[\w.]+)`", parameters) == [f"{k}={v:g}" for k, v in found.parameters.items()]
    told = knows.replace("predicted class", "predicted length class")
    assert sorted(told.split(", ")) == sorted(found.knows)


@pytest.mark.parametrize("page", [path.name for path in sorted(DOCS.glob("*.md"))])
def test_every_file_and_page_the_docs_name_exists(page):
    text, root = (DOCS / page).read_text(), DOCS.parent
    for name in re.findall(r"`((?:lapsbench|tests|bench|docs)/[\w./-]+\.(?:py|md))`", text):
        assert (root / name).exists(), name
    for name in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (DOCS / name).exists(), name


def test_the_workflow_for_ci_runs_as_printed(tmp_path):
    text = (DOCS / "lapsbench.yml").read_text()
    steps = re.findall(r"run: \|\n((?: {10}.*\n)+)", text)
    replay = re.search(r"REPLAY: (.*)", text)[1]
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
    wanted = {"REPLAY": f"{replay} --repeats 2", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    for step in steps:
        subprocess.run(["bash", "-ec", step], check=True, cwd=tmp_path, env=os.environ | wanted | {"PATH": path})
    assert "every request fared identically" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "report.html").exists()


def test_the_pictures_are_small():
    for name in ("table.svg", "page.png"):
        assert 10_000 < (DOCS / name).stat().st_size < 300_000
        assert f"(docs/{name})" in (DOCS.parent / "README.md").read_text()


def test_every_function_the_walk_names_exists():
    package = DOCS.parent / "lapsbench"
    names = re.findall(r"`((?:\w+/)?\w+)\.([A-Za-z]\w*(?:\.\w+)?)`", (DOCS / "walk.md").read_text())
    named = [(module, path) for module, path in names if path not in ("py", "csv", "parquet")]
    assert len(named) > 20
    for module, path in named:
        source = (package / f"{module}.py").read_text()
        for part in path.split("."):
            assert re.search(rf"\b(?:def|class) {part}\b|^{part} = ", source, re.MULTILINE), f"{module}.{path}"
