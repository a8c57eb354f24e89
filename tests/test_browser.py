"""The page in a real browser, from a file, with the network off: every plot is drawn, and the console stays silent.

Needs Debian's Chromium, which `make test` installs where it can. Without it these tests are skipped, and say so; with
LAPSBENCH_BROWSER=required, as in `.ci/run`, its absence is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
import samples
from commands import lapsbench
from runs import replayed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-extensions",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",  # the discard port: nothing gets out
    "--enable-logging=stderr",
    "--virtual-time-budget=30000",
)
PLOT = re.compile(r'<div class="plot[^"]*" id="([^"]+)"[^>]*data-state="(\w+)"[^>]*>(.*?)</div>', re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the page of a run of five policies at three loads of a trace in Azure's format."""
    if not CHROMIUM:
        if os.environ.get("LAPSBENCH_BROWSER") == "required":
            pytest.fail("no Chromium: apt-get install chromium")
        pytest.skip("no Chromium; `make browser` as root installs it")
    here = tmp_path_factory.mktemp("browser")
    trace, _ = samples.azure_2023(here)
    replayed(here, "azure", f"--trace {trace} --load 0.7,0.8,0.95 --limit 400 --max-batch 8 --repeats 2")
    lapsbench("report azure --html page.html", here).fine()
    return here


def browse(folder, *flags):
    """Open the page; return its DOM and what the console said."""
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={folder}/browser",
        *flags,
        "--dump-dom",
        f"file://{folder}/page.html",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [1280, 400])
def test_every_plot_is_drawn_and_the_console_is_silent(folder, width):
    dom, console = browse(folder, f"--window-size={width},2000")
    assert console == []
    assert 'data-plots="done"' in dom
    wanted = (folder / "page.html").read_text().count("data-plot=")
    plots = PLOT.findall(dom)
    assert wanted == len(plots) == 26
    assert {state for _, state, _ in plots} == {"drawn"}
    for name, _, inside in plots:
        drawn = re.findall(r'class="mark-(?:line|symbol|rect)[^"]*"[^>]*>(?:<path|<g)', inside)
        assert drawn, name
        assert "NaN" not in inside
