"""Make every table of docs/findings.md again, in place: when knowing acceptance pays.

It knows no more than `lapsbench replay --json -` says: a table is a list of flags, a replay each, and the ratios found.
Tables that need public recordings are left as they are where those are missing (`make public-data`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import learnable
import numpy as np
import polars as pl
from publicdata import HOME, ROOT, public_path

PAGE = ROOT / "docs/findings.md"
LAPSBENCH = str(Path(sys.executable).with_name("lapsbench"))
MADE, CELLS = "runs/findings", "runs/findings-cells"
BANKS = {
    "68m": "acceptance/specbench_vicuna-7b_sps-68m.jsonl",
    "eagle": "acceptance/specbench_vicuna-7b_eagle.jsonl",
    "llama": "acceptance/specdecodebench_llama3.1-8b_sharegpt.jsonl",
}
DRAFTS = {"68m": 8, "eagle": 5, "llama": 3}
"""The k at which a bank is replayed: rounds are exact at the k they were recorded with, 68m up to 20."""
REAL = {bank: f"--profile {MADE}/{bank} --draft-tokens {k}" for bank, k in DRAFTS.items()}
OURS = {"h100-llama3.1-8b-eagle3": 3, "cpu-smollm2-135m-int4": 4, "cpu-smollm2-135m-ngram": 4}
CONV = "traces/AzureLLMInferenceTrace_conv.csv"
AZURE = f"--trace {HOME}/{CONV} --limit 5000"
CODE = "traces/AzureLLMInferenceTrace_code.csv"
CODE3 = "traces/azure_llm_code_v3_1024.csv"
MOONCAKE = "traces/mooncake_conversation_trace.jsonl"
CPU = [f"--profile cpu-smollm2-135m-{draft}" for draft in ("int4", "drop", "ngram")]
WIDE = "--acceptance synthetic:spread=0.6"
LENGTHS = (0, 0.25, 0.5, 1)
TOKENS, ROUNDS = "oracle-srpt-tokens", "oracle-srpt-rounds"
WIDTH = "spread / mean"

Found = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Column:
    """What is changed by running `policy` instead of `over`, under more flags."""

    heading: str
    policy: str
    over: str
    metric: str = "jct_mean_s"
    flags: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A replay a row (and a row's flags are its name), all against `baseline`."""

    name: str
    policies: tuple[str, ...]
    baseline: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    flags: str = ""
    width: bool = False

    def command(self) -> str:
        """Return what a reader types to get a row."""
        policies = " ".join(f"--policy {policy}" for policy in self.policies)
        return " ".join(f"lapsbench replay ROW {self.flags} --baseline {self.baseline} {policies}".split())

    def missing(self) -> list[str]:
        """Return the public files that a row takes and that are not on this machine."""
        asked = " ".join([self.flags, *self.rows])
        needed = [name for name in (CONV, CODE, CODE3, MOONCAKE) if name in asked]
        needed += [CONV] if f"{MADE}/conv-" in asked else []
        needed += [BANKS[bank] for bank, flags in REAL.items() if any(flags in row for row in self.rows)]
        return [name for name in needed if public_path(name) is None]


SCHEDULERS = ("fcfs", "sjf", "srpt", "laps-sd", "work", "srpt-work", "least-work", "work-patient")
OVER_FCFS = (
    *(Column(each, each, "fcfs") for each in SCHEDULERS[1:]),
    Column("p99 of work", "work", "fcfs", "jct_p99_s"),
    Column("of work-patient", "work-patient", "fcfs", "jct_p99_s"),
)
KNOWN = (
    "fcfs", "sjf", "srpt", "work", "srpt-work", "least-work", "srpt-accept", "srpt-accept:category=1", "laps-sd",
    "oracle-own-mean", "oracle-work-tokens", "oracle-work-rounds",
)  # fmt: skip
WORTH = (
    Column("lengths: srpt over fcfs", "srpt", "fcfs"),
    Column("prompts: srpt-work over srpt", "srpt-work", "srpt"),
    Column("least-work over srpt", "least-work", "srpt"),
    Column("acceptance, watched: srpt-accept over srpt", "srpt-accept", "srpt"),
    Column("with its category's mean", "srpt-accept:category=1", "srpt"),
    Column("laps-sd over srpt", "laps-sd", "srpt"),
    Column("acceptance, told: oracle-own-mean* over srpt-work", "oracle-own-mean", "srpt-work"),
    Column("every round: oracle-work-rounds* over oracle-work-tokens*", "oracle-work-rounds", "oracle-work-tokens"),
)
GAPS = (
    Column("knowing lengths", TOKENS, "fcfs"),
    Column("its p99", TOKENS, "fcfs", "jct_p99_s"),
    Column("knowing acceptance too", ROUNDS, TOKENS),
    Column("its p99", ROUNDS, TOKENS, "jct_p99_s"),
)
RIVALS = ("las", "gittins", "boost", "srpt-accept", "laps-sd")
AGAINST_SRPT = (
    Column("srpt over fcfs", "srpt", "fcfs"),
    *(Column(f"{each} over srpt", each, "srpt") for each in RIVALS),
)
PLAIN = "laps-sd:prior_rounds=1000000"
CONSTANTS = (
    "laps-sd:queues=4",
    "laps-sd:growth=4",
    "laps-sd:eps=0.2",
    "laps-sd:window=1,eps=1000",
    "laps-sd:window=0,eps=1000",
    "srpt-accept:prior_rounds=32",
    "srpt-accept:prior_rounds=128",
)
PAPER = (
    *(Column(f"laps-sd over {each}", "laps-sd", each) for each in ("fcfs", "las", "mlfq", "srpt")),
    Column("laps-sd over itself blind to acceptance", "laps-sd", PLAIN),
)
PREDICTORS = ("oracle", "noisy:sigma=0.35", "noisy:sigma=0.5", "noisy:sigma=0.9", "classes", "none")


def batches(*sizes: int) -> tuple[str, ...]:
    """Return the flag for each batch size."""
    return tuple(f"--max-batch {size}" for size in sizes)


def alike(*, batch: int) -> tuple[Column, ...]:
    """Return what the bound, srpt-accept and laps-sd do to srpt with perfect lengths."""
    short = {ROUNDS: "bound", "srpt-accept": "srpt-accept", "laps-sd": "laps-sd"}
    flag = f"--max-batch {batch}"
    return tuple(Column(f"batch {batch}: {name}", each, "srpt", flags=flag) for each, name in short.items())


BOUND_P99 = Column("its p99", ROUNDS, "srpt", "jct_p99_s", "--max-batch 1")
ALIKE = (alike(batch=1)[0], BOUND_P99, *alike(batch=1)[1:], *alike(batch=8))


SERVED = "--engine vllm --batched-tokens 2048"
FOUR = ("--trace chat", f"{AZURE}", f"--trace {HOME}/{CODE} --limit 5000", f"--trace {HOME}/{CODE3}")
"""Chat is ours, the others are public: conversation and code of 2023, code of 2024."""
UNSEEN = f"--trace {HOME}/{MOONCAKE} --limit 5000"
"""Nothing was chosen on it."""


def settings(engine: str, *sizes: int) -> tuple[str, ...]:
    """Return four traces at full load by batch, and at batch 64 with less load."""
    full = [f"{trace} {batch} --load 0.9" for trace in FOUR for batch in batches(*sizes)]
    return tuple(
        f"{row} {engine}".strip() for row in (*full, *(f"{trace} --max-batch 64 --load 0.7" for trace in FOUR))
    )


TABLES = (
    Table("vllm", SCHEDULERS, "fcfs", OVER_FCFS, settings("--kv-tokens 120000", 8, 64), SERVED),
    Table(
        "tight",
        SCHEDULERS,
        "fcfs",
        OVER_FCFS,
        tuple(f"{trace} --kv-tokens 60000{cache}" for trace in FOUR for cache in ("", " --prefix-cache off")),
        f"{SERVED} --max-batch 64 --load 0.9",
    ),
    Table("ideal", SCHEDULERS, "fcfs", OVER_FCFS, settings("", 1, 8, 64), "--engine ideal"),
    Table(
        "unseen",
        SCHEDULERS,
        "fcfs",
        OVER_FCFS,
        tuple(
            f"{engine} {batch} --load {load}"
            for engine in (f"{SERVED} --kv-tokens 120000", "--engine ideal")
            for batch in batches(8, 64)
            for load in (0.7, 0.9)
        ),
        UNSEEN,
    ),
    Table(
        "worth",
        KNOWN,
        "srpt",
        WORTH,
        tuple(
            f"{flags} --trace {MADE}/conv-{bank}.parquet {batch} {engine}"
            for bank, flags in REAL.items()
            for batch, engine in (
                *((batch, "--engine ideal") for batch in batches(1, 8, 64)),
                ("--max-batch 64", f"{SERVED} --kv-tokens 120000"),
            )
        ),
        "--load 0.9",
    ),
    Table(
        "worth-chat",
        KNOWN,
        "srpt",
        WORTH,
        tuple(
            f"{flags} --trace {MADE}/chat-{bank}.parquet {batch}"
            for bank, flags in REAL.items()
            for batch in batches(1, 8, 64)
        ),
        "--engine ideal --load 0.9",
    ),
    Table(
        "cpu",
        ("fcfs", TOKENS, ROUNDS),
        TOKENS,
        GAPS,
        tuple(f"{bank} {batch}" for bank in CPU for batch in batches(1, 8)),
        "--engine ideal --load 0.9 --limit 3000",
    ),
    Table(
        "spread",
        (TOKENS, ROUNDS),
        TOKENS,
        tuple(Column(f"batch {size}", ROUNDS, TOKENS, flags=f"--max-batch {size}") for size in (1, 8, 64)),
        (
            *(f"--acceptance synthetic:spread={spread}" for spread in (0, 0.15, 0.3, 0.45, 0.6, 0.9)),
            "--acceptance synthetic:spread=0.3,memory=0.4",
            "--profile h100-llama3.1-8b-eagle3",
            *REAL.values(),
        ),
        "--engine ideal --load 0.9",
        width=True,
    ),
    Table(
        "alike",
        ("srpt", ROUNDS, "srpt-accept", "laps-sd"),
        "srpt",
        ALIKE,
        tuple(
            f"--trace {MADE}/alike-{sigma}.parquet --acceptance synthetic:spread={spread}"
            for spread in (0.3, 0.6)
            for sigma in LENGTHS
        ),
        "--engine ideal --load 0.9 --predict oracle",
    ),
    Table(
        "alike-real",
        ("srpt", ROUNDS, "srpt-accept", "laps-sd"),
        "srpt",
        ALIKE,
        tuple(f"--trace {MADE}/alike-0.parquet {bank}" for bank in REAL.values()),
        "--engine ideal --load 0.9 --predict oracle",
    ),
    Table(
        "alike-noisy",
        ("srpt", "srpt-accept", "laps-sd"),
        "srpt",
        (*alike(batch=1)[1:], *alike(batch=8)[1:]),
        tuple(f"--trace {MADE}/alike-0.5.parquet {bank}" for bank in (WIDE, *REAL.values())),
        "--engine ideal --load 0.9",
    ),
    Table(
        "got",
        ("fcfs", "srpt", *RIVALS),
        "srpt",
        AGAINST_SRPT,
        tuple(f"{batch} --load {load}" for batch in batches(1, 8, 64) for load in (0.7, 0.9)),
        "--engine ideal",
    ),
    Table(
        "got-real",
        ("fcfs", "srpt", *RIVALS),
        "srpt",
        AGAINST_SRPT,
        tuple(f"{bank} {batch}" for bank in REAL.values() for batch in batches(1, 8)),
        f"--engine ideal {AZURE} --load 0.9 --repeats 3",
    ),
    Table(
        "predictors",
        ("fcfs", "srpt", *RIVALS),
        "srpt",
        AGAINST_SRPT,
        tuple(f"--predict {each} {batch}" for batch in batches(1, 8) for each in PREDICTORS),
        "--engine ideal --load 0.9 --repeats 3",
    ),
    Table(
        "unpredicted",
        ("fcfs", "work", "least-work", "work-patient", "laps-sd"),
        "fcfs",
        (
            *(Column(each, each, "fcfs") for each in ("work", "least-work", "work-patient", "laps-sd")),
            Column("p99 of least-work", "least-work", "fcfs", "jct_p99_s"),
            Column("of work-patient", "work-patient", "fcfs", "jct_p99_s"),
        ),
        tuple(
            f"{trace} {batch}"
            for trace in ("--trace chat", AZURE, f"--trace {HOME}/{CODE} --limit 5000", UNSEEN)
            for batch in batches(1, 8, 64)
        ),
        "--predict none --load 0.9 --repeats 3",
    ),
    Table(
        "constants",
        ("srpt", "srpt-accept", "laps-sd", *CONSTANTS),
        "srpt",
        tuple(Column(each, each, "srpt") for each in ("laps-sd", *CONSTANTS[:5], "srpt-accept", *CONSTANTS[5:])),
        tuple(f"--predict {each} {batch}" for batch in batches(1, 8) for each in ("oracle", "noisy:sigma=0.5")),
        "--engine ideal --load 0.9",
    ),
    Table(
        "paper",
        ("fcfs", "las", "mlfq", "srpt", "laps-sd", PLAIN),
        "laps-sd",
        PAPER,
        tuple(f"--load {load} {lengths}".strip() for lengths in ("", "--predict none") for load in (0.7, 0.8, 0.9)),
        "--engine ideal --max-batch 1",
    ),
    Table(
        "paper-real",
        ("fcfs", "srpt", "laps-sd", PLAIN),
        "laps-sd",
        PAPER[::3] + PAPER[-1:],
        tuple(f"{bank} --load {load}" for bank in REAL.values() for load in (0.7, 0.9)),
        "--engine ideal --max-batch 1",
    ),
)


def lapsbench(*words: str) -> str:
    """Run the command line from the repository's root; return what it prints."""
    words = tuple(str(public_path(word.removeprefix(f"{HOME}/")) or word) for word in words)
    return subprocess.run([LAPSBENCH, *words], check=True, capture_output=True, text=True, cwd=ROOT).stdout


@cache
def replay(flags: str, policies: tuple[str, ...], baseline: str) -> Found:
    """Replay once; return the ratios to the baseline by policy and metric."""
    chosen = [word for policy in policies for word in ("--policy", policy)]
    cells = f"{CELLS}/{sha256(' '.join([flags, *chosen]).encode()).hexdigest()[:16]}"  # whatever the baseline
    kept = ("--json", "-", "--quiet", "--out", cells, "--baseline", baseline)
    told = json.loads(lapsbench("replay", *kept, *flags.split(), *chosen))
    return {(each["policy"], each["metric"]): each for each in told["comparisons"]}


def change(table: Table, row: str, column: Column) -> str:
    """Return one cell: by how much the column's policy changes the other's metric."""
    flags = f"{row} {table.flags} {column.flags}"
    turned = column.policy == table.baseline
    baseline = column.policy if turned else column.over
    upper = column.over if turned else column.policy
    found = replay(flags, table.policies, baseline)[upper, column.metric]
    ends = [found[key] for key in ("ratio", "low", "high")]
    if turned:
        ends = [end and 1 / end for end in (ends[0], ends[2], ends[1])]
    return told(*ends)


def told(ratio: float, low: float | None, high: float | None) -> str:
    """Return a change in percent with its interval; one that straddles no change is undecided."""
    if low is None or high is None:
        return f"{100 * (ratio - 1):+.1f} %, no interval"
    ends = f"[{100 * (low - 1):+.1f}, {100 * (high - 1):+.1f}]"
    if low <= 1 <= high:
        return f"{'none' if low >= 0.99 and high <= 1.01 else 'undecided'} {ends}"
    return f"{100 * (ratio - 1):+.1f} % {ends}"


def width(flags: str) -> str:
    """Return the standard deviation of requests' own tokens a round over their mean, of those with 8 rounds or more."""
    with TemporaryDirectory() as folder:
        lapsbench("replay", "--quiet", "--policy", "fcfs", "--repeats", "1", "--out", f"{folder}/run", *flags.split())
        kept = pl.read_parquet(f"{folder}/run/requests.parquet").filter(pl.col("rounds") >= 8)
    own = (1 + kept["accepted_tokens"] / kept["rounds"]).to_numpy()
    return f"{own.std() / own.mean():.2f}"


def text(table: Table) -> str:
    """Return a table in Markdown, with the command that makes a row."""
    headings = ["ROW", *([WIDTH] if table.width else []), *(column.heading for column in table.columns)]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in table.rows:
        cells = [width(f"{row} {table.flags}")] if table.width else []
        cells += [change(table, row, column) for column in table.columns]
        lines.append(f"| `{row}` | " + " | ".join(cells) + " |")
    several = dict.fromkeys(column.flags for column in table.columns if column.flags)
    more = f", and `{'`, `'.join(several)}`" if several else ""
    return "\n".join([*lines, "", f"`{table.command()}`{more}"])


def of_categories(bank: str) -> None:
    """Write chat and the busy part of Azure's conversations, each request with the category of a prompt of the bank."""
    prompts = pl.read_parquet(ROOT / MADE / bank / "acceptance.parquet", columns=["category"])
    for name, source in (("conv", f"{HOME}/{CONV}"), ("chat", "chat")):
        path = ROOT / MADE / f"{name}-{bank}.parquet"
        lapsbench("traces", "convert", source, str(path), "--quiet")
        trace = pl.read_parquet(path)
        if name == "conv":
            trace = trace.filter(pl.col("arrival_s").is_between(1500, 2400))
        drawn = prompts["category"][np.random.default_rng(0).integers(0, len(prompts), len(trace))]
        trace.with_columns(category=drawn).write_parquet(path)


def own_lengths(bank: str) -> None:
    """Write 30,000 Poisson arrivals of the bank's own prompts, lengths and recordings as one; runaways are left out."""
    prompts = pl.read_parquet(ROOT / MADE / bank / "acceptance.parquet").filter(pl.col("output_tokens") <= 2048)
    random = np.random.default_rng(0)
    drawn = prompts[random.integers(0, len(prompts), 30_000)].select("prompt_id", "output_tokens")
    arrivals = pl.Series("arrival_s", random.exponential(1, len(drawn)).cumsum())
    trace = drawn.with_columns(arrivals, prompt_tokens=pl.lit(200, pl.Int32))
    trace.write_parquet(ROOT / MADE / f"{bank}.parquet")


def prepare() -> None:
    """Make the profiles and traces that the rows name, all anew."""
    shutil.rmtree(ROOT / MADE, ignore_errors=True)
    (ROOT / MADE).mkdir(parents=True)
    for sigma in LENGTHS:
        lengths = ("--prompt", "lognormal:median=200,sigma=0", "--output", f"lognormal:median=200,sigma={sigma}")
        out = f"{MADE}/alike-{sigma}.parquet"
        lapsbench("traces", "make", out, "--rate", "1", "--arrivals", "poisson", *lengths, "--quiet")
    for bank, source in BANKS.items():
        if public_path(source) is None:
            continue
        cost = ("--cost", "h100-llama3.1-8b-eagle3")
        lapsbench("profiles", "import", source, *cost, "--out", f"{MADE}/{bank}", "--prompt-tokens", "1155", "--quiet")
        own_lengths(bank)
        if public_path(CONV) is not None:
            of_categories(bank)


def main() -> None:
    """Put each table, or those named, between its marks on the page."""
    prepare()
    for table in TABLES:
        if len(sys.argv) > 1 and table.name not in sys.argv[1:]:
            continue
        if missing := table.missing():
            print(f"{table.name}: left as it is without {', '.join(missing)}; try make public-data", file=sys.stderr)
            continue
        put(table.name, text(table))
        print(f"{table.name}: made", flush=True)
    if len(sys.argv) == 1 or "learnable" in sys.argv[1:]:
        there = {f"{ROOT}/{MADE}/{bank}": k for bank, k in DRAFTS.items() if public_path(BANKS[bank]) is not None}
        if len(there) == len(DRAFTS):
            put("learnable", learnable.table(there | OURS) + "\n\n`python bench/learnable.py PROFILE:K ...`\n")


def put(name: str, made: str) -> None:
    """Write a table between its marks.

    Raises:
        SystemExit: the page has no such marks.
    """
    page = PAGE.read_text()
    before, mark, rest = page.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not end:
        raise SystemExit(f"{PAGE}: no marks for the table {name}")
    PAGE.write_text(f"{before}{mark}{made}\n{end}{after}")


if __name__ == "__main__":
    main()
