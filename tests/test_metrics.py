"""Numbers people act on: definitions by hand, statistics against independent formulas, honest nulls."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lapsbench.core import FINISHED, REJECTED, UNFINISHED, Outcome
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.metrics.catalog import BY_NAME, METRICS
from lapsbench.metrics.comparison import compare, ratio
from lapsbench.metrics.definitions import request_metrics
from lapsbench.metrics.intervals import Sums, ratio_interval, t_quantile
from lapsbench.metrics.pool import pooled
from lapsbench.metrics.saturation import live_requests, saturation
from lapsbench.metrics.slo import Slo
from lapsbench.metrics.summary import summarize
from lapsbench.metrics.verdicts import verdicts
from lapsbench.metrics.warmup import warmup_cut

NAN = math.nan


def outcome(admitted, first, finished, *, rounds, accepted, status=None, alone=None, **other):
    count = len(finished)
    return Outcome(
        admitted_s=np.array(admitted, float),
        first_token_s=np.array(first, float),
        finished_s=np.array(finished, float),
        rounds=np.array(rounds, np.int32),
        accepted_tokens=np.array(accepted, np.int32),
        preemptions=other.get("preemptions", np.zeros(count, np.int32)),
        recomputed_tokens=np.zeros(count, np.int64),
        status=np.zeros(count, np.uint8) if status is None else np.array(status, np.uint8),
        itl_max_s=np.full(count, other.get("itl_max", 0.5)),
        alone_s=np.ones(count) if alone is None else np.array(alone, float),
        steps=10,
        makespan_s=1.0,
        lookups=other.get("lookups", 100),
        lookups_beyond=other.get("lookups_beyond", 4),
        stopped=other.get("stopped", ""),
    )


def queue(count, rho, seed, speed=1.0):
    """Arrivals and finishing times of an M/M/1 queue, first come first served."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rho, count))
    service = rng.exponential(1, count) / speed
    work = np.cumsum(service)
    return arrival, work + np.maximum.accumulate(arrival - np.concatenate(([0.0], work[:-1]))), service


def cell(policy="fcfs", *, seed=0, load=0.7, count=1000, speed=1.0, rho=0.7, scale=1.0, warmup=0, slo=None, **other):
    """One summarized run of that queue; 11 tokens in 4 rounds each."""
    arrival, finished, service = (scale * times for times in queue(count, rho, seed, speed))
    result = outcome(
        finished - service,
        finished - service / 2,
        finished,
        rounds=np.full(count, 4),
        accepted=np.full(count, 6),
        alone=service,
        itl_max=scale / 2,
        **other,
    )
    oracle = policy.startswith("oracle")
    tokens = np.full(count, 11, np.int32)
    return summarize(
        arrival, tokens, result, policy=policy, load=load, seed=seed, oracle=oracle, warmup=warmup, slo=slo
    )


def ladder(tokens=2.0, rounds=2.2, aware=1.3, accept=1.5):
    speeds = {"fcfs": 1, "srpt": 1.4, "laps-sd:W=4": aware, "srpt-accept": accept}
    speeds |= {"oracle-srpt-tokens": tokens, "oracle-srpt-rounds": rounds}
    return [cell(name, speed=speed, count=2000) for name, speed in speeds.items()]


def small(slo=None, warmup=0):
    """Four requests: one of a single token, one plain, one rejected, one cut short."""
    arrival = np.array([0.0, 1.0, 2.0, 3.0])
    tokens = np.array([1, 11, 5, 9], np.int32)
    result = outcome(
        [0.0, 2.0, NAN, 4.0],
        [2.0, 3.0, NAN, 5.0],
        [2.0, 8.0, NAN, NAN],
        rounds=[0, 4, 0, 2],
        accepted=[0, 6, 0, 3],
        status=[FINISHED, FINISHED, REJECTED, UNFINISHED],
        alone=[2.0, 3.5, NAN, 2.0],
        preemptions=np.array([0, 2, 0, 1], np.int32),
    )
    made = summarize(arrival, tokens, result, policy="fcfs", load=None, seed=0, warmup=warmup, slo=slo)
    return request_metrics(arrival, tokens, result), made


def test_definitions_by_hand():
    requests, _ = small()
    np.testing.assert_equal(requests.queue_s, [0, 1, NAN, 1])
    np.testing.assert_equal(requests.ttft_s, [2, 2, NAN, 2])
    np.testing.assert_equal(requests.tpot_s, [NAN, 0.5, NAN, NAN])
    np.testing.assert_equal(requests.itl_s, [NAN, 1.25, NAN, NAN])
    np.testing.assert_equal(requests.jct_s, [2, 7, NAN, NAN])
    np.testing.assert_equal(requests.slowdown, [1, 2, NAN, NAN])
    np.testing.assert_equal(requests.acceptance_length, [NAN, 2.5, NAN, 2.5])


def test_summary_by_hand():
    _, made = small(Slo.parse("tpot:500,e2el:2000"))
    assert (made.arrivals, made.finished, made.rejected, made.unfinished, made.measured) == (4, 2, 1, 1, 2)
    expected = {
        "jct_mean_s": 4.5,
        "jct_p50_s": 4.5,
        "jct_p99_s": 6.95,
        "ttft_mean_s": 2.0,
        "tpot_mean_s": 0.5,
        "itl_mean_s": 1.25,
        "queue_mean_s": 0.5,
        "slowdown_mean": 1.5,
        "acceptance_length_pooled": 2.5,
        "horizon_s": 8.0,
        "throughput_rps": 0.25,
        "throughput_tokens_per_s": 1.5,
        "goodput_rps": 0.125,  # the single-token request: a null TPOT passes, a JCT of exactly 2 s too
        "goodput_fraction": 0.25,
        "preemptions_per_request": 0.75,
        "offered_rps": 4 / 3,
        "lookups_beyond_fraction": 0.04,
    }
    assert {name: made.metrics[name] for name in expected} == pytest.approx(expected)
    assert list(made.metrics) == [metric.name for metric in METRICS]


def test_undefined_is_null_and_never_zero():
    nothing = outcome(
        [NAN], [NAN], [NAN], rounds=[0], accepted=[0], status=[REJECTED], alone=[NAN], lookups=0, lookups_beyond=0
    )
    made = summarize(np.zeros(1), np.ones(1, np.int32), nothing, policy="fcfs", load=None, seed=0)
    defined = {name: value for name, value in made.metrics.items() if value is not None}
    assert defined == {"preemptions_per_request": 0.0, "recomputed_tokens": 0.0, "steps": 10.0}


def test_the_warmup_cut_moves_latencies_but_not_throughput():
    whole, cut = small()[1].metrics, small(warmup=1)[1].metrics
    assert cut["jct_mean_s"] == 7.0
    for metric in METRICS:
        if not metric.windowed:
            assert cut[metric.name] == whole[metric.name]


def test_lost_requests_are_an_error():
    broken = outcome([0.0], [1.0], [NAN], rounds=[1], accepted=[1], status=[FINISHED])
    with pytest.raises(LapsbenchError, match="1 arrivals, but 1 finished"):
        summarize(np.zeros(1), np.ones(1, np.int32), broken, policy="fcfs", load=None, seed=0)


def test_quantiles_interpolate_linearly():
    arrival, finished, _ = queue(997, 0.7, 5)
    ordered = np.sort(finished - arrival)
    place = 0.99 * 996
    below = int(place)
    expected = ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
    assert cell(count=997, seed=5).metrics["jct_p99_s"] == pytest.approx(expected)


def test_slo_reads_milliseconds_and_writes_them_back():
    slo = Slo.parse(" ttft:500, e2el:30000")
    assert slo == Slo(ttft_s=0.5, tpot_s=None, e2el_s=30.0)
    assert str(slo) == "ttft:500,e2el:30000"


@pytest.mark.parametrize("text", ["", "itl:5", "ttft", "ttft:", "ttft:x", "ttft:0", "ttft:-1", "ttft:nan", "ttft:inf"])
def test_slo_refuses(text):
    with pytest.raises(UsageError, match="--slo"):
        Slo.parse(text)


def test_slo_refuses_a_key_given_twice():
    with pytest.raises(UsageError, match="ttft is given twice"):
        Slo.parse("ttft:5,ttft:6")


def test_warmup_cuts_the_start_and_nothing_else():
    rng = np.random.default_rng(0)
    steady = rng.normal(10, 1, 2000)
    ramp = np.concatenate([np.linspace(0, 10, 200), np.zeros(1800)])
    assert warmup_cut(steady) < 100
    assert 40 <= warmup_cut(steady + ramp - 10 * (np.arange(2000) < 60)) <= 100
    assert warmup_cut(np.arange(2000.0)) == 100  # never more than a twentieth
    assert warmup_cut(np.full(2000, 3.3)) == 0
    assert warmup_cut(np.arange(199.0)) == 0
    assert warmup_cut(np.full(300, NAN)) == 0


def test_warmup_is_the_minimum_of_the_published_statistic():
    series = np.random.default_rng(2).gamma(2, 1, 2000) + np.exp(-np.arange(2000) / 10) * 20
    means = series.reshape(400, 5).mean(axis=1)
    errors = [means[d:].var() / (400 - d) for d in range(21)]
    assert warmup_cut(series) == 5 * int(np.argmin(errors)) > 0


def test_live_requests_count_everybody_between_arrival_and_finish():
    arrival, finished, _ = queue(300, 0.9, 1)
    finished[7] = NAN
    moments = np.linspace(arrival[0], arrival[-1], 40_001)[:-1] + (arrival[-1] - arrival[0]) / 80_000
    live = [(arrival <= now).sum() - (finished <= now).sum() for now in moments]
    np.testing.assert_allclose(live_requests(arrival, finished), np.reshape(live, (20, -1)).mean(axis=1), rtol=0.02)


@pytest.mark.parametrize(("rho", "labels"), [(0.7, {"STABLE"}), (1.02, {"STABLE", "GROWING"}), (1.1, {"OVERLOADED"})])
def test_saturation_of_a_queue(rho, labels):
    seen = {saturation(*queue(10_000, rho, seed)[:2]).label for seed in range(8)}
    assert seen <= labels


def test_a_burst_is_not_growth():
    arrival, finished, _ = queue(2000, 0.5, 3)
    arrival = np.sort(np.concatenate([arrival, np.full(200, arrival[-1] * 0.9)]))
    finished = np.sort(np.concatenate([finished, arrival[-1] * 0.9 + np.arange(200.0)]))
    assert saturation(arrival, finished).label == "STABLE"


def test_saturation_is_not_judged_without_a_trace_to_judge():
    assert saturation(np.arange(100.0), np.arange(100.0) + 1) is None
    assert saturation(np.zeros(1000), np.arange(1000.0)) is None


def test_t_quantile_is_students():
    for freedom in range(1, 200):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=5e-4)


def test_two_seeds_give_the_paired_t_interval_of_log_ratios():
    ones = np.ones(2)
    found = ratio_interval(Sums(np.array([2.0, 3.0]), ones), Sums(np.array([4.0, 4.0]), ones), serial=False)
    logs = np.log([0.5, 0.75])
    half = stats.t.ppf(0.975, 1) * logs.std(ddof=1) / 2**0.5
    assert found.value == pytest.approx(5 / 8)
    assert math.log(found.high / found.low) == pytest.approx(2 * half, rel=1e-6)


def test_jackknife_leaves_out_one_part_on_both_sides():
    rng = np.random.default_rng(1)
    a, b, n = rng.gamma(5, 1, 12), rng.gamma(5, 1, 12), rng.integers(5, 9, 12).astype(float)
    found = ratio_interval(Sums(a, n), Sums(b, n), serial=False)
    without = [math.log(np.delete(a, i).sum() / np.delete(b, i).sum()) for i in range(12)]
    error = math.sqrt(11 / 12 * np.sum((without - np.mean(without)) ** 2)) * stats.t.ppf(0.975, 11)
    assert found.value == pytest.approx(a.sum() / b.sum())
    assert (found.low, found.high) == pytest.approx(
        (found.value * math.exp(-error), found.value * math.exp(error)), 1e-3
    )


def test_pairing_beats_comparing_apart():
    same, other = cell(), cell("srpt", speed=1.05)
    apart = cell("srpt", speed=1.05, seed=9)
    paired = ratio_interval(other.blocks["jct_mean_s"], same.blocks["jct_mean_s"], serial=True)
    unpaired = ratio_interval(apart.blocks["jct_mean_s"], same.blocks["jct_mean_s"], serial=True)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 2


def test_one_seed_compares_blocks_and_more_compare_seeds():
    one = ratio([cell(), cell("srpt", speed=1.2)], "srpt", "fcfs", 0.7)
    many = [cell(name, speed=speed, seed=seed) for name, speed in (("fcfs", 1), ("srpt", 1.2)) for seed in range(4)]
    four = ratio(many, "srpt", "fcfs", 0.7)
    assert (one.method, one.units, four.method, four.units) == ("blocks", 25, "seeds", 4)
    assert one.low < one.ratio < one.high < 1
    assert four.ratio == pytest.approx(pooled(many[4:], "jct_mean_s").value / pooled(many[:4], "jct_mean_s").value)


def test_a_policy_that_leaves_requests_unfinished_gets_no_latency_ratio():
    arrival, finished, service = queue(1000, 0.7, 0)
    finished[900:] = NAN
    four = np.full(1000, 4)
    status = np.where(np.isnan(finished), UNFINISHED, FINISHED)
    cut = outcome(arrival, finished - service / 2, finished, rounds=four, accepted=four, status=status, alone=service)
    short = summarize(arrival, four, cut, policy="srpt", load=0.7, seed=0)
    assert short.measured == 900
    assert len(short.blocks["jct_mean_s"]) == 25
    assert ratio([cell(), short], "srpt", "fcfs", 0.7).ratio is None  # what it left out were its slowest


def test_only_seeds_both_ran_are_compared():
    cells = [cell(seed=0), cell(seed=1), cell("srpt", seed=1, speed=1.2), cell("srpt", seed=2, speed=1.2)]
    assert ratio(cells, "srpt", "fcfs", 0.7) == ratio(cells[1:3], "srpt", "fcfs", 0.7)


def test_what_has_no_interval_says_so():
    short = ratio([cell(count=150), cell("srpt", count=150, speed=1.2)], "srpt", "fcfs", 0.7)
    tail = ratio([cell(), cell("srpt", speed=1.2)], "srpt", "fcfs", 0.7, "jct_p99_s")
    never = ratio([cell(), cell("srpt")], "srpt", "fcfs", 0.7, "preemptions_per_request")
    for found in (short, tail, never):
        assert (found.low, found.high, found.method) == (None, None, "none")
    assert short.ratio < 1
    assert tail.ratio < 1
    assert never.ratio is None


def test_the_baseline_is_its_own_equal():
    found = {each.metric: each for each in compare([cell()], "fcfs")}
    assert (found["jct_mean_s"].low, found["jct_mean_s"].ratio, found["jct_mean_s"].high) == (1, 1, 1)


def test_the_docs_name_every_metric():
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    assert [metric.name for metric in METRICS if f"`{metric.name}`" not in text] == []


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_scaling_time_scales_times(seed, scale):
    before, after = cell(seed=seed, count=250), cell(seed=seed, count=250, scale=scale)
    for name, value in before.metrics.items():
        unit = scale if name.endswith("_s") and "per_s" not in name else 1 / scale
        unit = unit if name.endswith(("_s", "_rps")) else 1
        assert (after.metrics[name] is None) == (value is None)
        assert value is None or after.metrics[name] == pytest.approx(value * unit, rel=1e-6)
    assert BY_NAME.keys() == after.metrics.keys()


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(6)))
def test_the_order_of_policies_changes_nothing(order):
    cells = ladder()
    mixed = [cells[place] for place in order]
    assert set(compare(mixed, "fcfs")) == set(compare(cells, "fcfs"))
    assert verdicts(mixed)[0] == verdicts(cells)[0]


def test_pooled_interval_over_seeds_is_students():
    cells = [cell(seed=seed) for seed in range(5)]
    values = np.array([each.metrics["jct_mean_s"] for each in cells])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    found = pooled(cells, "jct_mean_s")
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
