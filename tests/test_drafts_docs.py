"""docs/drafts.md: the controller it prints runs as printed, and every controller and field there is is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import lapsbench

from lapsbench import core
from lapsbench.drafts.registry import FIXED, builtin

PAGE = (Path(__file__).parents[1] / "docs" / "drafts.md").read_text()
(PRINTED,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_controller_is_about_ten_lines():
    assert len(PRINTED.strip().splitlines()) <= 12


@pytest.mark.parametrize("engine", ["ideal", "vllm"])
def test_the_controller_runs_as_printed_and_changes_the_result(tmp_path, engine):
    (tmp_path / "mine.py").write_text(PRINTED)
    small = f"replay --rate 11 --limit 200 --repeats 1 --policy fcfs --policy srpt --engine {engine} -q --json -"
    (flags,) = re.findall(r"--drafts mine\.py\S+", PAGE)
    found = lapsbench(f"{small} {flags}", tmp_path).fine().out
    assert found != lapsbench(f"{small} --drafts goodput", tmp_path).fine().out
    assert found != lapsbench(f"{small} --drafts mine.py:careful", tmp_path).fine().out


def test_every_command_of_the_page_begins_with_what_there_is():
    for line in re.findall(r"^    lapsbench .*$", PAGE, re.MULTILINE):
        assert re.match(r"    lapsbench replay --rate 11 --(draft-tokens|drafts) \S+$", line), line


@pytest.mark.parametrize("found", builtin().values(), ids=lambda found: found.name)
def test_every_controller_is_told_with_its_source_parameters_and_what_it_may_know(found):
    (row,) = re.findall(rf"^\| `{re.escape(found.label)}` \|.*$", PAGE, re.MULTILINE)
    assert found.source in row
    assert ", ".join(found.knows) in row
    for name, value in found.parameters.items():
        assert re.search(rf"`{name}`[^|]*{value:g}", row), name


def test_fixed_is_told_too():
    assert f"| `{FIXED}` |" in PAGE


def test_every_field_of_a_step_is_told_and_no_other():
    told = re.findall(r"^\| (`[^|]*) \|", PAGE.partition("| `step.` |")[2], re.MULTILINE)
    names = {name for cell in told for name in re.findall(r"`(\w+)(?:\[\w\])?`", cell)}
    assert names == {*core.DRAFTING.names} - {"params"}
    assert all(f"`{name}`" in PAGE for name in core.DRAFTED)
