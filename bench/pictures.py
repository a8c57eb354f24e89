"""Make the README's pictures: `pictures.py RUN PAGE_RUN`. The table as SVG; the page as PNG, by Chromium."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from lapsbench.reading import Run, open_run
from lapsbench.report.page import page
from lapsbench.report.plots import Subject
from lapsbench.report.plots.curves import curves
from lapsbench.report.table import render

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIZE = (1200, 1420)
CHROMIUM = "chromium"


def table(run: Run) -> str:
    """Return the terminal's table as SVG."""
    options = {"file": io.StringIO(), "force_terminal": True, "color_system": "truecolor", "highlight": False}
    console = Console(**options, width=104, record=True)
    render(run.result, console, Console(file=io.StringIO()))
    svg = console.export_svg(title="lapsbench replay", theme=MONOKAI, unique_id="table")
    # no font is fetched: the reader's own monospace does
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def picture(run: Run, target: Path) -> None:
    """Write the first screens of the page as PNG."""
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "page.html"
        file.write_text(page([Subject(run, curves(run))]), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000"]
        window = [f"--window-size={SIZE[0]},{SIZE[1]}", f"--user-data-dir={room}/browser", f"--screenshot={target}"]
        subprocess.run([CHROMIUM, *flags, *window, f"file://{file}"], check=True, capture_output=True, timeout=180)


def main() -> None:
    """Make both."""
    (DOCS / "table.svg").write_text(table(open_run(sys.argv[1])), encoding="utf-8")
    if shutil.which(CHROMIUM) is None:
        sys.exit("pictures: no Chromium, so docs/page.png stays as it is; try `make browser` as root")
    picture(open_run(sys.argv[2]), DOCS / "page.png")


if __name__ == "__main__":
    main()
