"""The repository stands alone: it cites nothing that a reader of a clone lacks, and its contract is in docs/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from publicdata import ROOT

from lapsbench import schema

FOLDERS = (".ci", "bench", "docs", "lapsbench", "profiles", "tests", "traces")
TEXTS = {".py", ".md", ".sh", ".toml", ".jsonl", ".json", ".html", ".c", ".yml", ".txt", ""}
INVARIANTS = (ROOT / "docs/invariants.md").read_text()


def texts():
    """Yield every file of the repository that a person reads, and what it says."""
    paths = [*ROOT.iterdir(), *(path for name in FOLDERS for path in (ROOT / name).rglob("*"))]
    for path in paths:
        if path.suffix in TEXTS and path.is_file() and "__pycache__" not in path.parts and path.name != ".git":
            yield path, path.read_text()


def test_only_one_module_knows_where_public_data_lie():
    beside = str(Path("..") / "shared")  # spelt out, this file would name it too
    assert [path for path, text in texts() if beside in text] == [ROOT / "bench/publicdata.py"]


def test_nothing_cites_a_page_or_an_issue_that_a_clone_has_not():
    cited = re.compile(rf"\b(?:{'DES' + 'IGN'}\b|from issue \d|issue #?\d)")
    assert [(str(path), found[0]) for path, text in texts() if (found := cited.search(text))] == []


@pytest.mark.parametrize("named", re.findall(r"`(tests/\w+\.py::\w+)`", INVARIANTS))
def test_every_invariant_has_the_test_that_is_named(named):
    path, _, name = named.partition("::")
    assert f"\ndef {name}(" in (ROOT / path).read_text()


def test_every_invariant_names_what_holds_it():
    rows = [line for line in INVARIANTS.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert all("`tests/" in row or "`.ci/run`" in row for row in rows)


@pytest.mark.parametrize(
    ("page", "schemas"),
    [
        ("files.md", (schema.REQUESTS, schema.TRACE, schema.TRACE_OPTIONAL)),
        ("profiles.md", (schema.COST, schema.ACCEPTANCE)),
        ("metrics.md", (schema.SUMMARY,)),
    ],
)
def test_every_column_of_every_file_is_in_the_docs(page, schemas):
    told = set(re.findall(r"`(\w+)`", (ROOT / "docs" / page).read_text()))
    assert {name for each in schemas for name in each.names} <= told
