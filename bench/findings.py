"""Ask the main question over batch sizes, loads and predictors: the tables of docs/findings.md."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

POLICIES = (
    "las",
    "sjf",
    "gittins",
    "boost",
    "srpt",
    "srpt-accept",
    "laps-sd",
    "oracle-srpt-tokens",
    "oracle-srpt-rounds",
)
BATCHES = (1, 8, 64)
LOADS = (0.7, 0.9)
LAPSBENCH = str(Path(sys.executable).with_name("lapsbench"))


Ratios = dict[str, dict[str, float]]


def ratios(*flags: str, without: str = "") -> Ratios:
    """Replay once; return mean-JCT ratios to fcfs with their intervals, by policy."""
    command = [LAPSBENCH, "replay", "--json", "-", "--quiet", "--policy", "fcfs", *flags]
    for policy in POLICIES:
        command += ["--policy", policy] if policy != without else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    comparisons = json.loads(done.stdout)["comparisons"]
    return {each["policy"]: each for each in comparisons if each["metric"] == "jct_mean_s"}


def table(heading: str, rows: list[tuple[str, Ratios]]) -> str:
    """Return a Markdown table: a row per set-up, a column per policy."""
    lines = [f"| {heading} | " + " | ".join(POLICIES) + " |", "|---" * (len(POLICIES) + 1) + "|"]
    for name, found in rows:
        cells = (f"{found[policy]['ratio']:.2f}" if policy in found else "-" for policy in POLICIES)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    engines = [
        (f"batch {batch}, load {load}", ratios("--max-batch", str(batch), "--load", str(load)))
        for batch, load in product(BATCHES, LOADS)
    ]
    print(table("chat, noisy predictions", engines), end="\n\n")
    guesses = [
        (guess, ratios("--max-batch", "8", "--load", "0.9", "--predict", guess))
        for guess in ("oracle", "noisy:sigma=0.35", "noisy:sigma=0.5", "noisy:sigma=0.9", "classes", "none")
    ]
    print(table("chat, batch 8, load 0.9", guesses), end="\n\n")
    memories = [  # las is left out: where memory is short it only preempts
        (
            f"KV {tokens:,}, {mode}",
            ratios("--load", "0.9", "--kv-tokens", str(tokens), "--on-preempt", mode, without="las"),
        )
        for tokens, mode in product((60_000, 120_000), ("keep", "swap", "recompute"))
    ]
    print(table("chat, batch 64, load 0.9", memories))


if __name__ == "__main__":
    main()
