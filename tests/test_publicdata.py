"""Public recordings: found in one place, fetched against a server on loopback, missed aloud."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import publicdata
import pytest
from publicdata import FILES, ROOT, public_path

from lapsbench.traces.catalog import CATALOG, RECORDINGS, Entry

CONV = "traces/AzureLLMInferenceTrace_conv.csv"
ADDRESSED = {name: {**CATALOG, **RECORDINGS}[entry] for name, entry in FILES.items() if entry}
DOCS = (ROOT / "docs/traces.md").read_text()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that is served as the mirror; the cache is its own."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("LAPSBENCH_MIRROR", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("LAPSBENCH_CACHE", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Two files of our own, one with an address and one without, and a home for them."""
    monkeypatch.setenv("LAPSBENCH_DATA", str(tmp_path / "home"))
    sha256 = hashlib.sha256(b"rounds").hexdigest()
    entry = Entry("ours", "https://nowhere.example/ours.jsonl", sha256, 1, 6, "CC0", "for tests")
    monkeypatch.setattr("lapsbench.traces.catalog.RECORDINGS", {"ours": entry})
    monkeypatch.setattr(publicdata, "FILES", {"acceptance/mine.jsonl": "ours", "traces/nowhere.csv": None})


# --- found


def test_a_folder_of_ones_own_is_the_only_one_looked_in(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPSBENCH_DATA", str(tmp_path))
    assert [name for name in FILES if public_path(name)] == []
    (tmp_path / "traces").mkdir()
    (tmp_path / CONV).write_text("x")
    assert public_path(CONV) == tmp_path / CONV


def test_a_file_is_looked_for_in_the_repository_and_then_beside_it(tmp_path, monkeypatch):
    monkeypatch.delenv("LAPSBENCH_DATA", raising=False)
    monkeypatch.setattr(publicdata, "ROOT", tmp_path / "clone")
    assert public_path(CONV) is None
    for place in ("shared/data", "clone/data"):
        (tmp_path / place / CONV).parent.mkdir(parents=True)
        (tmp_path / place / CONV).touch()
        assert public_path(CONV) == tmp_path / place / CONV


@pytest.mark.parametrize("name", ADDRESSED)
def test_the_catalogue_has_the_hashes_of_the_files_at_hand(name, public):
    content = public(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == ADDRESSED[name].sha256
    assert len(content) == ADDRESSED[name].size_bytes


@pytest.mark.parametrize("name", FILES)
def test_every_public_file_is_in_the_docs_with_how_to_get_it(name):
    row = re.search(rf"^\| `{re.escape(name)}` \|.*$", DOCS, re.MULTILINE)[0]
    assert ("no public address" in row) == (FILES[name] is None)


# --- fetched


def test_what_has_an_address_is_fetched_and_the_rest_is_listed(mirror, known, tmp_path, capsys):
    (mirror / "ours.jsonl").write_bytes(b"rounds")
    assert publicdata.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "acceptance/mine.jsonl: fetched, CC0"
    assert said[1].startswith("traces/nowhere.csv: no public address")
    assert (tmp_path / "home/acceptance/mine.jsonl").read_bytes() == b"rounds"
    (mirror / "ours.jsonl").unlink()
    assert publicdata.main() == 0
    assert "mine.jsonl: here" in capsys.readouterr().out


def test_another_file_than_expected_is_refused_and_one_that_was_damaged_is_fetched_again(
    mirror, known, tmp_path, capsys
):
    (mirror / "ours.jsonl").write_bytes(b"other")
    assert publicdata.main() == 1
    assert "its sha256 is not" in capsys.readouterr().err
    assert public_path("acceptance/mine.jsonl") is None
    (tmp_path / "home/acceptance").mkdir(parents=True)
    (tmp_path / "home/acceptance/mine.jsonl").write_bytes(b"damaged")
    (mirror / "ours.jsonl").write_bytes(b"rounds")
    assert publicdata.main() == 0
    assert (tmp_path / "home/acceptance/mine.jsonl").read_bytes() == b"rounds"


def test_the_public_files_come_from_a_mirror_as_published(mirror, tmp_path, public):
    for name, entry in ADDRESSED.items():
        shutil.copy(public(name), mirror / entry.file)
    script = [sys.executable, ROOT / "bench/publicdata.py"]
    done = subprocess.run(
        script, check=True, capture_output=True, text=True, env=os.environ | {"LAPSBENCH_DATA": str(tmp_path / "home")}
    )
    assert done.stdout.count(": fetched, ") == len(ADDRESSED)
    assert done.stdout.count("no public address") == len(FILES) - len(ADDRESSED)
    assert all((tmp_path / "home" / name).is_file() for name in ADDRESSED)


# --- missed


def test_a_bare_run_says_how_many_tests_were_skipped_and_how_to_get_the_files(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_predictors.py"]
    environment = os.environ | {"LAPSBENCH_DATA": str(tmp_path)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert re.search(r"\b3 tests were skipped: their files are not in .*\.", done.stdout)
    assert "make public-data" in done.stdout
    chosen = subprocess.run(
        [*command, "-m", "public"], check=True, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert re.search(r"^3 skipped, \d+ deselected", chosen.stdout, re.MULTILINE)
