"""Run folders for the tests of reports: a small replay, and copies of it in which a policy is slower."""

from __future__ import annotations

import shutil

import polars as pl
from commands import lapsbench

FIVE = ("fcfs", "srpt", "laps-sd", "oracle-srpt-tokens", "oracle-srpt-rounds")


def replayed(folder, name, options, policies=FIVE):
    """Replay and keep a run; return what was printed on stdout."""
    chosen = " ".join(f"--policy {policy}" for policy in policies)
    return lapsbench(f"replay {options} {chosen} --out {name}", folder).fine().out


def slowed(folder, source, name, policy, factor):
    """Copy a run with every JCT of one policy stretched; `factor` is a number, or an expression of polars."""
    shutil.copytree(folder / source, folder / name)
    rows = pl.read_parquet(folder / source / "requests.parquet")
    jct = pl.col("finished_s") - pl.col("arrival_s")
    slower = pl.when(pl.col("policy") == policy).then(pl.col("arrival_s") + factor * jct).otherwise("finished_s")
    rows.with_columns(slower.alias("finished_s")).write_parquet(folder / name / "requests.parquet")


def summary(run):
    """Return summary.parquet as a dictionary of values: (policy, load, seed, metric with statistic) -> value."""
    rows = pl.read_parquet(run / "summary.parquet").rows()
    return {(policy, load, seed, metric, statistic): value for policy, load, seed, metric, statistic, value, *_ in rows}
