"""Start every session with compiled code that matches its source; find public recordings; install policies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from publicdata import HOME, VARIABLE, folders, public_path

PACKAGE = Path(__file__).parents[1] / "lapsbench"
NOT_HERE = "not on this machine:"


def pytest_configure(config):
    """Drop stale policies, once, and have the kernels compiled, once: the workers of pytest-xdist share the cache."""
    if not hasattr(config, "workerinput"):
        drop_stale_policies(PACKAGE, Path(__file__).parent)
        if getattr(config.option, "numprocesses", None):
            compile_kernels()


def compile_kernels():
    """Have both engines compiled, a process each, unless they are: each worker would compile them for itself."""
    command = [sys.executable, "-m", "lapsbench", "replay", "--limit", "50", "--policy", "fcfs", "--quiet", "--engine"]
    running = [
        subprocess.Popen([*command, rules], stdout=subprocess.DEVNULL, cwd=PACKAGE.parent)
        for rules in ("ideal", "vllm")
    ]
    for each in running:
        each.wait()


def drop_stale_policies(package, folder):
    """Remove what Numba cached of the tests' own policies before the newest change to what they see.

    Numba keys a cached function by the time of its own file, and these have the fields of `core.JOB` compiled into
    them: when only those change, Numba loads the old ones.
    """
    sources = [package / "core.py", *package.glob("policies/*.py"), *package.glob("compiled/*.py")]
    newest = max(source.stat().st_mtime for source in sources)
    for index in folder.glob("**/__pycache__/*.nbi"):
        if index.stat().st_mtime < newest:
            for part in [index, *index.parent.glob(f"{index.stem}.*.nbc")]:
                part.unlink(missing_ok=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what reads public recordings, before `-m public` chooses."""
    for item in items:
        if "public" in getattr(item, "fixturenames", ()):
            item.add_marker("public")


@pytest.fixture(scope="session")
def public():
    """Find a public recording, or skip: public("traces/AzureLLMInferenceTrace_conv.csv") -> Path."""

    def find(name):
        path = public_path(name)
        if path is None:
            pytest.skip(f"{NOT_HERE} {name}")
        return path

    return find


def pytest_terminal_summary(terminalreporter):
    """Say how many tests of public recordings were skipped, and what to do about it."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NOT_HERE in str(report.longrepr)]
    if skipped:
        places = " or ".join(map(str, folders()))
        terminalreporter.section("public recordings")
        terminalreporter.write_line(f"{len(skipped)} tests were skipped: their files are not in {places}.")
        terminalreporter.write_line(
            f"`make public-data` fetches those with an address into {HOME}/, and lists the others."
        )
        terminalreporter.write_line(f"Have them elsewhere? {VARIABLE}=DIR")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution, laid out as by pip, whose entry points are policies: install(source, name=object)."""

    def lay_out(source, **policies):
        site = tmp_path / "site"
        info = site / "theirs-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "theirs.py").write_text(source)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = theirs:{target}" for name, target in policies.items()]
        (info / "entry_points.txt").write_text("\n".join(["[lapsbench.policies]", *lines, ""]))
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, "theirs", raising=False)

    return lay_out
