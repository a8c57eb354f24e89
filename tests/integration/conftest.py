"""Integration tests take minutes and a model: they run by `-m integration`, and count as deselected otherwise."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def pytest_configure(config):
    config.addinivalue_line("markers", "integration: takes minutes and a real model; run with -m integration")


def pytest_collection_modifyitems(config, items):
    if "integration" in (config.option.markexpr or ""):
        return
    ours = [item for item in items if HERE in item.path.parents]
    items[:] = [item for item in items if HERE not in item.path.parents]
    config.hook.pytest_deselected(items=ours)
