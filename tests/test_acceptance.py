"""Acceptance: recordings onto a trace, rounds of recordings, and generated banks that look like the real ones."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapsbench.acceptance.readers import read_acceptance
from lapsbench.acceptance.rounds import Assignment, rounds_of, rounds_of_requests, whole
from lapsbench.acceptance.sample import HANDFUL, assign
from lapsbench.acceptance.synthetic import Synthetic, generate
from lapsbench.core import Bank, Trace
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.store.profile import open_profile

SHIPPED = "h100-llama3.1-8b-eagle3"


def strings(values):
    return np.array(list(values), dtype=object)


def bank_of(recordings, category=None, draft_tokens_max=255):
    sizes = np.array([len(recording) for recording in recordings], dtype=np.int32)
    names = strings(f"p{number}" for number in range(len(recordings)))
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    runs = np.concatenate([np.array(recording, dtype=np.uint8) for recording in recordings])
    return Bank(names, names if category is None else strings(category), sizes, sizes, offsets, runs, draft_tokens_max)


def trace_of(output_tokens, **columns):
    output_tokens = np.array(output_tokens, dtype=np.int32)
    return Trace("test", np.arange(len(output_tokens), dtype=float), output_tokens, output_tokens, **columns)


def recorded(path):
    """Read recordings of EAGLE-3: acc_len[g - 1] tokens from a round after g tokens, bonus included."""
    lines = path.read_text().splitlines()
    lengths = [np.array(json.loads(line)["acc_eagle"]["acc_len"][:1024]) - 1 for line in lines]
    return bank_of([np.concatenate([[0], values]) for values in lengths])


def emissions(output_tokens, recordings, accept_runs, draft_tokens):
    """Tokens of every round of every request: docs/model.md in plain Python."""
    told = []
    for i, n in enumerate(output_tokens.tolist()):
        start, length = int(recordings.recording_start[i]), int(recordings.recording_tokens[i])
        shift, g, rounds = int(recordings.recording_shift[i]), 1, []
        while g < n:
            position = g if g < length else (g % length + shift * (g // length)) % length
            emitted = min(min(int(accept_runs[start + position]), draft_tokens) + 1, n - g)
            rounds.append(emitted)
            g += emitted
        told.append(rounds)
    return told


def own_means(rounds):
    return np.array([np.mean(one) for one in rounds if len(one)])


def memory(rounds):
    """Lag-1 correlation about each request's own mean, over requests long enough to tell."""
    centred = [np.array(one) - np.mean(one) for one in rounds if len(one) >= 40]
    return sum(np.sum(x[1:] * x[:-1]) for x in centred) / sum(np.sum(x**2) for x in centred)


def pooled(rounds):
    return np.mean(np.concatenate(rounds))


# rounds


def test_rounds_of_a_recording_by_hand():
    # rounds start at g = 1 (prefill emits token 0): 1 + 1, then at 3: 3 + 1, then at 7: cut from 3 to 1
    bank = bank_of([[9, 1, 0, 3, 0, 0, 0, 2]])
    told = rounds_of(bank, 4)
    assert (told.rounds.tolist(), told.accepted_tokens.tolist()) == ([3], [4])
    assert told.tokens_per_round == pytest.approx(7 / 3)


def test_without_drafts_every_token_is_a_round():
    told = rounds_of(bank_of([[3, 3, 3, 3], [5]]), 0)
    assert (told.rounds.tolist(), told.accepted_tokens.tolist()) == ([3, 0], [0, 0])


def test_one_token_needs_no_round():
    told = rounds_of(bank_of([[7]]), 3)
    assert (told.rounds.tolist(), told.accepted_tokens.tolist()) == ([0], [0])
    assert np.isnan(told.tokens_per_round)


def test_past_its_end_a_recording_goes_on_by_turned_blocks():
    # L = 3, shift 1: positions 0 1 2 | 1 2 0 | 2 0 1; k = 1 makes tokens 2 long where the run is 1
    bank = bank_of([[0, 1, 0]])
    turned = Assignment(np.array([0]), np.array([3], dtype=np.int32), np.array([1], dtype=np.int32))
    told = rounds_of_requests(np.array([9], dtype=np.int32), turned, bank.accept_runs, 1)
    # g = 1 (run 1) -> 3 (position 1: run 1) -> 5 (position 0) -> 6 (2) -> 7 (0) -> 8 (1: run 1, cut) -> 9
    assert (told.rounds.tolist(), told.accepted_tokens.tolist()) == ([6], [2])


recordings = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(recordings, st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 10), st.integers(0, 9))
def test_rounds_equal_a_plain_loop(made, output_tokens, draft_tokens, seed):
    bank = bank_of(made)
    own = rounds_of(bank, draft_tokens)
    loop = emissions(bank.output_tokens, whole(bank), bank.accept_runs, draft_tokens)
    assert own.rounds.tolist() == [len(one) for one in loop]
    assert own.accepted_tokens.tolist() == [sum(one) - len(one) for one in loop]

    trace = trace_of(output_tokens)
    given_out = assign(trace, bank, seed)
    told = rounds_of_requests(trace.output_tokens, given_out, bank.accept_runs, draft_tokens)
    loop = emissions(trace.output_tokens, given_out, bank.accept_runs, draft_tokens)
    assert told.rounds.tolist() == [len(one) for one in loop]
    assert told.accepted_tokens.tolist() == [sum(one) - len(one) for one in loop]
    assert (told.rounds + told.accepted_tokens).tolist() == [n - 1 for n in output_tokens]


# who gets which recording


def test_a_request_gets_a_whole_recording_and_a_shift_inside_it():
    bank = bank_of([[1] * size for size in (3, 50, 7)])
    given_out = assign(trace_of(np.full(500, 20)), bank, 0)
    starts, sizes = bank.offsets[:-1].tolist(), bank.output_tokens.tolist()
    pairs = set(zip(given_out.recording_start.tolist(), given_out.recording_tokens.tolist(), strict=True))
    assert pairs == set(zip(starts, sizes, strict=True))
    assert np.all((given_out.recording_shift >= 0) & (given_out.recording_shift < given_out.recording_tokens))
    assert set(given_out.recording_shift[given_out.recording_tokens == 3].tolist()) == {0, 1, 2}
    dtypes = (given_out.recording_start.dtype, given_out.recording_tokens.dtype, given_out.recording_shift.dtype)
    assert dtypes == (np.int64, np.int32, np.int32)


def test_a_prompt_id_pins_the_recording_and_a_missing_one_does_not():
    bank = bank_of([[1] * size for size in range(1, 30)])
    pins = strings(["p4", None, "p20", ""] * 50)
    given_out = assign(trace_of(np.full(200, 5), prompt_id=pins), bank, 0)
    assert set(given_out.recording_tokens[pins == "p4"].tolist()) == {5}
    assert set(given_out.recording_tokens[pins == "p20"].tolist()) == {21}
    assert len(set(given_out.recording_tokens[1::4].tolist())) > 5
    assert len(set(given_out.recording_tokens[3::4].tolist())) > 5


def test_an_unknown_prompt_id_is_told():
    trace = trace_of([5, 5], prompt_id=strings(["p0", "p77"]))
    with pytest.raises(LapsbenchError, match=r"column prompt_id, row 2: prompt_id 'p77' is not in .*; try"):
        assign(trace, bank_of([[1, 2]]), 0)


def test_an_empty_bank_is_told():
    empty = Bank(*(np.empty(0, dtype=d) for d in (object, object, "i4", "i4")), np.zeros(1, "i8"), np.empty(0, "u1"), 8)
    with pytest.raises(LapsbenchError, match="no recordings"):
        assign(trace_of([5]), empty, 0)


def test_a_category_in_both_is_matched_and_any_other_takes_all():
    bank = bank_of([[1] * (10 + number) for number in range(40)], category=["chat", "code"] * 20)
    wanted = strings(["code", "poetry", "chat", None] * 100)
    given_out = assign(trace_of(np.full(400, 5), category=wanted), bank, 0)
    odd = given_out.recording_tokens % 2 == 1
    assert np.all(odd[wanted == "code"])
    assert not np.any(odd[wanted == "chat"])
    for name in ("poetry", None):
        assert 0.3 < np.mean(odd[wanted == np.array(name)]) < 0.7


def test_recordings_at_least_as_long_as_the_request_come_first():
    bank = bank_of([[1] * size for size in range(1, 101)])
    given_out = assign(trace_of(np.full(2000, 60)), bank, 0)
    assert set(given_out.recording_tokens.tolist()) == set(range(60, 101))


def test_where_few_recordings_are_long_enough_the_longest_handful_serves():
    bank = bank_of([[1] * size for size in range(1, 101)])
    given_out = assign(trace_of(np.full(2000, 99)), bank, 0)
    assert set(given_out.recording_tokens.tolist()) == set(range(101 - HANDFUL, 101))


def test_draws_are_even_among_candidates():
    bank = bank_of([[1] * 50] * 20)
    counts = np.unique(assign(trace_of(np.full(20_000, 10)), bank, 0).recording_start, return_counts=True)[1]
    assert len(counts) == 20
    assert counts.min() > 850
    assert counts.max() < 1150


def test_one_seed_is_one_assignment_and_a_limited_trace_keeps_it():
    bank = bank_of([[1] * size for size in range(1, 101)])
    lengths = np.random.default_rng(0).integers(1, 120, 300)
    first, again, other, part = (
        assign(trace_of(values), bank, seed)
        for values, seed in ((lengths, 1), (lengths, 1), (lengths, 2), (lengths[:50], 1))
    )
    for name in Assignment.__slots__:
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert np.array_equal(getattr(first, name)[:50], getattr(part, name))
    assert not np.array_equal(first.recording_start, other.recording_start)


def drift(rounds):
    """Rise of tokens per round from the first third to the last, over requests with rounds enough to tell."""
    long = [one[:-1] for one in rounds if len(one) > 31]  # the last is cut at the end of the answer
    first = np.concatenate([one[: len(one) // 3] for one in long])
    last = np.concatenate([one[-(len(one) // 3) :] for one in long])
    return last.mean() / first.mean() - 1


def public_bank(public, source):
    path = public(f"acceptance/{source}.jsonl")
    return recorded(path) if source.startswith("specdecodebench") else read_acceptance(str(path)).bank


def keeps_what_the_bank_shows(bank):
    rows = np.random.default_rng(1).integers(0, len(bank), 2000)
    trace = trace_of(bank.output_tokens[rows], category=bank.category[rows])
    before = emissions(bank.output_tokens, whole(bank), bank.accept_runs, 3)
    after = emissions(trace.output_tokens, assign(trace, bank, 0), bank.accept_runs, 3)
    assert pooled(after) == pytest.approx(pooled(before), rel=0.05)
    assert own_means(after).mean() == pytest.approx(own_means(before).mean(), rel=0.05)
    assert own_means(after).std() == pytest.approx(own_means(before).std(), rel=0.15)
    assert memory(after) == pytest.approx(memory(before), abs=0.04)
    assert drift(after) == pytest.approx(drift(before), abs=0.05)


def test_sampling_keeps_mean_spread_memory_and_drift_of_the_bank():
    keeps_what_the_bank_shows(open_profile(SHIPPED).bank)


@pytest.mark.parametrize(
    "source",
    [
        "specdecodebench_llama3.1-8b_gsm8k",
        "specdecodebench_llama3.1-8b_sharegpt",
        "specbench_vicuna-7b_sps-68m",
        "specbench_vicuna-7b_eagle",
    ],
)
def test_sampling_keeps_what_public_recordings_show(source, public):
    keeps_what_the_bank_shows(public_bank(public, source))


def keeps_the_mean_of_long_recordings(bank):
    trace = trace_of(np.full(2000, 3 * int(bank.output_tokens.max())))
    longest = np.sort(bank.output_tokens)[-16:].min()
    told = emissions(bank.output_tokens, whole(bank), bank.accept_runs, 3)
    of_the_longest = [one for one, n in zip(told, bank.output_tokens, strict=True) if n >= longest]
    sampled = rounds_of_requests(trace.output_tokens, assign(trace, bank, 0), bank.accept_runs, 3)
    assert sampled.tokens_per_round == pytest.approx(pooled(of_the_longest), rel=0.05)


def test_requests_longer_than_their_recording_keep_its_mean():
    keeps_the_mean_of_long_recordings(open_profile(SHIPPED).bank)


def test_requests_longer_than_public_recordings_keep_their_mean(public):
    keeps_the_mean_of_long_recordings(public_bank(public, "specbench_vicuna-7b_sps-68m"))


def test_a_million_requests_take_seconds_at_most():
    bank = open_profile(SHIPPED).bank
    lengths = np.random.default_rng(0).integers(1, 1500, 1_000_000)
    trace = trace_of(lengths, category=strings(["chat", "math", "poetry", "coding"] * 250_000))
    begun = time.perf_counter()
    assign(trace, bank, 0)
    assert time.perf_counter() - begun < 3  # 0.2 s on two shared cores


# generated banks


def made(wanted, seed=0, requests=400, tokens=300):
    sizes = np.full(requests, tokens, dtype=np.int32)
    names = strings(str(number) for number in range(requests))
    return generate(wanted, seed, prompt_id=names, category=names, prompt_tokens=sizes, output_tokens=sizes)


def test_the_shipped_bank_has_the_published_statistics():
    bank = open_profile(SHIPPED).bank
    rounds = emissions(bank.output_tokens, whole(bank), bank.accept_runs, 3)
    assert pooled(rounds) == pytest.approx(2.25, abs=0.02)
    assert np.percentile(own_means(rounds), [5, 50, 95]) == pytest.approx([1.61, 2.28, 2.80], abs=0.15)
    assert memory(rounds) == pytest.approx(0.10, abs=0.05)


def test_the_shipped_bank_has_the_lengths_of_chat():
    lengths = open_profile(SHIPPED).bank.output_tokens
    assert len(lengths) == 400
    assert np.median(lengths) == pytest.approx(129, abs=3)
    assert lengths.mean() == pytest.approx(211, rel=0.03)
    assert lengths.max() == 1024


@pytest.mark.parametrize(("mean", "spread", "k"), [(2.25, 0.3, 3), (1.35, 0.1, 3), (2.5, 1.1, 7), (3.5, 0.6, 5)])
def test_a_generated_bank_has_the_mean_and_spread_asked_for(mean, spread, k):
    bank = made(Synthetic(mean, spread, memory=0, drift=0, draft_tokens=k, draft_tokens_max=8), tokens=1000)
    told = rounds_of(bank, k)
    assert told.tokens_per_round == pytest.approx(mean, abs=0.01)
    own = 1 + told.accepted_tokens / told.rounds
    assert own.std() == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.2])
def test_a_generated_bank_remembers_as_much_as_asked_for(wanted):
    bank = made(Synthetic(memory=wanted, drift=0), tokens=1000, requests=200)
    assert memory(emissions(bank.output_tokens, whole(bank), bank.accept_runs, 3)) == pytest.approx(wanted, abs=0.03)


def test_a_generated_bank_drifts_as_much_as_asked_for():
    bank = made(Synthetic(memory=0, drift=0.2), tokens=1000)
    rounds = emissions(bank.output_tokens, whole(bank), bank.accept_runs, 3)
    ends = [(np.mean(one[: len(one) // 5]), np.mean(one[-len(one) // 5 :])) for one in rounds]
    first, last = np.mean(ends, axis=0)
    # between the middles of the first and last fifth lie four fifths of the way
    assert last / first - 1 == pytest.approx(0.8 * 0.2, abs=0.04)


def test_a_generated_recording_is_consistent_at_every_position():
    bank = made(Synthetic(draft_tokens_max=8), requests=50)
    for start, end in zip(bank.offsets[:-1], bank.offsets[1:], strict=True):
        runs = bank.accept_runs[start:end].astype(int)
        inside = (runs[:-1] > 0) & (runs[:-1] < 8)
        assert np.array_equal(runs[1:][inside], runs[:-1][inside] - 1)
    assert bank.accept_runs.max() == 8


SHAREGPT_BY_DEPTH = (0.69, 0.69, 0.70, 0.72, 0.75)
"""How likely a draft is right where those before it were: the public ShareGPT recordings, 1,024 tokens of each."""


def by_depth(runs):
    survival = np.array([np.mean(runs >= depth) for depth in range(6)])
    return survival[1:] / survival[:-1]


def test_generated_drafts_are_about_as_likely_at_every_depth():
    assert by_depth(open_profile(SHIPPED).bank.accept_runs) == pytest.approx(SHAREGPT_BY_DEPTH, abs=0.06)


def test_public_drafts_are_about_as_likely_at_every_depth(public):
    runs = recorded(public("acceptance/specdecodebench_llama3.1-8b_sharegpt.jsonl")).accept_runs
    assert by_depth(runs) == pytest.approx(SHAREGPT_BY_DEPTH, abs=0.01)


def test_generation_is_a_function_of_its_seed():
    first, again, other = (made(Synthetic(), seed=seed, requests=20).accept_runs for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": 1.0},
        {"mean": 4.0},
        {"mean": float("nan")},
        {"spread": -0.1},
        {"spread": 2.0},
        {"memory": 0.9},
        {"memory": -0.1},
        {"drift": 2.0},
        {"draft_tokens": 0},
        {"draft_tokens_max": 2},
        {"draft_tokens_max": 300},
    ],
)
def test_what_no_bank_can_look_like_is_a_usage_error(change):
    with pytest.raises(UsageError, match="synthetic acceptance"):
        Synthetic(**change)
