"""How many rows of a validation are close: what is said under its table."""

from __future__ import annotations

from lapsbench.validation.figures import kept


def row(policy, metric="jct_mean_s", *, error=0.0, corrected=0.0, half=None):
    about = {"draft_tokens": 3, "load": 0.9, "policy": policy, "metric": metric}
    return about | {"error": error, "corrected_error": corrected, "half_interval": half}


def counted(table, over=()):
    return {each["what"]: (each["kept"], each["of"]) for each in kept(table, over)}


def test_a_mean_may_be_off_by_half_its_interval_up_to_a_limit():
    table = [
        row("close", corrected=0.029, half=0.001),
        row("wide", corrected=-0.045, half=0.2),
        row("beyond", corrected=0.051, half=0.2),
        row("narrow", corrected=0.04, half=0.035),
        row("once", corrected=0.031),
    ]
    tails = [row("close", "jct_p99_s"), row("off", "jct_p99_s", corrected=0.081)]
    assert counted(table + tails) == {"mean JCT": (2, 5), "mean JCT, raw": (5, 5), "p99 of JCT": (1, 2)}


def test_the_worst_is_named():
    table = [row("fcfs", error=0.01), row("srpt", error=-0.2), row("fcfs", "jct_p99_s")]
    worst = kept(table, ())[1]["worst"]
    assert worst == {"policy": "srpt", "load": 0.9, "draft_tokens": 3, "error": -0.2}


def test_ratios_are_off_by_their_difference():
    table = [row("fcfs"), row("fcfs", "jct_p99_s")]
    over = [
        {"draft_tokens": 3, "load": 0.9, "policy": "srpt", "executed": 0.9, "corrected": 0.871},
        {"draft_tokens": 3, "load": 0.9, "policy": "laps-sd", "executed": 0.9, "corrected": 0.94},
    ]
    assert counted(table, over)["ratios"] == (1, 2)
