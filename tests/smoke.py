"""Run the command line as a user would, on shipped data, and check what comes out: `smoke.py LAPSBENCH`."""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl


def replay(lapsbench, out):
    command = [
        lapsbench,
        "replay",
        "--load",
        "0.9",
        "--limit",
        "1500",
        "--repeats",
        "2",
        "--out",
        str(out),
        "--json",
        "-",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(lapsbench):
    with tempfile.TemporaryDirectory() as room:
        first, second = Path(room) / "first", Path(room) / "second"
        text = replay(lapsbench, first)
        if text != replay(lapsbench, second):
            sys.exit("smoke: the same command printed something else the second time")
        for name in ("requests.parquet", "summary.parquet"):
            if digest(first / name) != digest(second / name):
                sys.exit(f"smoke: {name} differs between two runs of the same command")
        cells = json.loads(text)["cells"]
        rows = pl.read_parquet(first / "requests.parquet")
        for cell in cells:
            if cell["arrivals"] != cell["finished"] + cell["rejected"] + cell["unfinished"]:
                sys.exit(f"smoke: requests went missing in {cell}")
        if len(rows) != sum(cell["arrivals"] for cell in cells):
            sys.exit("smoke: requests.parquet has not one row per request")
        print(f"smoke: {len(cells)} cells, {len(rows):,} rows, the same bytes twice")


if __name__ == "__main__":
    main(sys.argv[1])
