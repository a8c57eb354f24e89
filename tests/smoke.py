"""Run the command line as a user would, on shipped data, and check what comes out: `smoke.py LAPSBENCH`."""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl


def lapsbench(script, *arguments):
    return subprocess.run([script, *arguments], check=True, capture_output=True, text=True, timeout=300).stdout


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def conserved(first, text):
    cells = json.loads(text)["cells"]
    rows = pl.read_parquet(first / "requests.parquet")
    for cell in cells:
        if cell["arrivals"] != cell["finished"] + cell["rejected"] + cell["unfinished"]:
            sys.exit(f"smoke: requests went missing in {cell}")
    if len(rows) != sum(cell["arrivals"] for cell in cells):
        sys.exit("smoke: requests.parquet has not one row per request")
    return f"{len(cells)} cells, {len(rows):,} rows"


def main(script):
    with tempfile.TemporaryDirectory() as room:
        first, second, page = Path(room) / "first", Path(room) / "second", Path(room) / "page.html"
        text = lapsbench(script, "replay", "--smoke", "--out", str(first), "--json", "-")
        table = lapsbench(script, "replay", "--smoke", "--out", str(second))
        for name in ("requests.parquet", "summary.parquet", "manifest.json"):
            if digest(first / name) != digest(second / name):
                sys.exit(f"smoke: {name} differs between two runs of the same command")
        if lapsbench(script, "report", str(first)) != table:
            sys.exit("smoke: report prints another table than replay")
        lapsbench(script, "compare", str(first), str(second), "--fail-if", "jct_mean > +0%")
        lapsbench(script, "report", str(first), "--html", str(page))
        print(f"smoke: {conserved(first, text)}, the same bytes twice, a page of {page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1])
