"""These tests take vLLM, which has an environment of its own: `make vllm`."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]


def pytest_addoption(parser):
    """Let a person soak longer."""
    parser.addoption("--soak", type=int, default=200, help="requests of the soak test; 2,000 take minutes")


def pytest_sessionfinish(session):
    """Tell whoever started this worker of pytest-xdist what it has seen."""
    if hasattr(session.config, "workeroutput"):
        from cases import SEEN
        from serving import PROVEN

        session.config.workeroutput |= {"seen": asdict(SEEN), "proven": [asdict(each) for each in PROVEN]}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Add up what the workers have seen."""
    from cases import SEEN
    from serving import PROVEN, Proof

    told = getattr(node, "workeroutput", {})
    for name, count in told.get("seen", {}).items():
        setattr(SEEN, name, getattr(SEEN, name) + count)
    PROVEN.extend(Proof(**each) for each in told.get("proven", []))


def pytest_terminal_summary(terminalreporter):
    """Say over what the two were held equal."""
    from cases import SEEN
    from serving import PROVEN

    if SEEN.cases:
        seen = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in asdict(SEEN).items())
        terminalreporter.write_line(f"reference against vLLM: {seen}")
    if PROVEN:
        steps, preemptions = (sum(getattr(each, name) for each in PROVEN) for name in ("steps", "preemptions"))
        terminalreporter.write_line(
            f"step proof: all of {steps:,} steps in {len(PROVEN)} runs of the real engine, {preemptions:,} preemptions"
        )
        for each in PROVEN:
            terminalreporter.write_line(f"  {each.case}: {each.steps} steps, {each.preemptions} preemptions")
