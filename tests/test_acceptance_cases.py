"""Small recordings of every engine, as it writes them: what is read, what is left out, and what is said of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import lapsbench

from lapsbench.acceptance.readers import read_acceptance
from lapsbench.acceptance.readers.reader import Wanted
from lapsbench.acceptance.rounds import rounds_of
from lapsbench.errors import LapsbenchError
from lapsbench.store.profile import open_profile

CASES = Path(__file__).parent / "cases" / "acceptance"
COSTS = "h100-llama3.1-8b-eagle3"
MEANS = {
    "eagle_answers.jsonl": (246 / 78, 4),
    "llamacpp_timings.jsonl": (89 / 34, 3),
    "trtllm_perf.json": (112 / 40, 3),
    "vllm_metrics.log": (2.10, 3),
}


def read(name, **wanted):
    return read_acceptance(str(CASES / name), Wanted(**wanted))


def written(tmp_path, *records, name="answers.jsonl"):
    (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(tmp_path / name)


def vllm(accepted, completion_tokens, drafted=None, k=5, **more):
    steps = {"per_step_accepted": accepted, "num_spec_tokens": k, **({"per_step_drafted": drafted} if drafted else {})}
    usage = {"prompt_tokens": 9, "completion_tokens": completion_tokens}
    return {"id": "r", "usage": usage, "metrics": {"speculative_decoding": {**steps, **more}}}


def told(reading):
    return " | ".join((reading.reconciliation, *reading.notes))


def accepted(bank, k=None, row=0):
    """Return the accepted drafts of a recording's rounds, in order."""
    runs = bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]]
    place, rounds = 1, []
    while place < len(runs):
        rounds.append(min(int(runs[place]), k or bank.draft_tokens_max))
        place += rounds[-1] + 1
    return rounds


@pytest.mark.parametrize(
    ("name", "answers", "recordings", "k", "length"),
    [
        ("vllm_ngram.jsonl", 3, 3, 5, 189 / 156),
        ("vllm_eos_short.jsonl", 40, 40, 5, 1.5),
        ("vllm_detailed_eos_overcount.jsonl", 2, 2, 4, 7 / 3),
        ("vllm_null.jsonl", 3, 1, 3, 52 / 43),
        ("mixed_k.jsonl", 2, 2, 2, 2.0),
        ("sg_leftout.jsonl", 2, 1, 3, 39 / 20),
        ("sglang_ext.jsonl", 1, 1, 3, 63 / 21),
        ("sglang_openai_choices.jsonl", 1, 1, 3, 9 / 4),
        ("sglang_short_answers.jsonl", 200, 200, 3, None),
        ("aiperf_spec_records.jsonl", 1, 1, 3, 23 / 10),
        ("inference_lab_acceptance.parquet", 20, 20, 3, 2.45),
    ],
)
def test_a_recording_becomes_a_bank_with_the_answers_own_tokens_a_round(name, answers, recordings, k, length):
    reading = read(name)
    assert (reading.answers, len(reading.bank), reading.bank.draft_tokens_max) == (answers, recordings, k)
    assert reading.pooled == pytest.approx(length or reading.stated, abs=1e-9)
    assert reading.agrees, reading.reconciliation
    left_out = sum(int(note.split()[0]) for note in reading.notes if note.endswith(": left out"))
    assert left_out == answers - recordings


def test_every_case_is_tried():
    source = Path(__file__).read_text()
    assert all(f'"{path.name}"' in source for path in CASES.iterdir())


# --- vLLM: what is not listed, and what overshoots


def test_rounds_without_drafts_are_found_by_their_tokens():
    reading = read("vllm_ngram.jsonl")
    truth = [json.loads(line)["truth_rounds"] for line in (CASES / "vllm_ngram.jsonl").read_text().splitlines()]
    assert rounds_of(reading.bank, 5).rounds.tolist() == truth
    assert reading.bank.output_tokens.tolist() == [64, 64, 64]
    assert "acceptance length 2.720 by the file's rounds, 1.212 in the bank, 1.212 by its completion" in told(reading)
    assert "131 rounds without drafts in 3 answers" in told(reading)
    assert "1.196 to 1.295 tokens a round are possible" in told(reading)


def test_rounds_keep_their_order_and_the_places_of_the_others_are_drawn_once(tmp_path):
    path = written(tmp_path, vllm([3, 1, 4], 1 + 11 + 20, [5, 5, 5]))
    first, again = (accepted(read_acceptance(path).bank) for _ in range(2))
    assert first == again
    assert [each for each in first if each] == [3, 1, 4]
    assert len(first) == 23


def test_an_answer_that_nothing_was_drafted_for_is_rounds_of_one_token(tmp_path):
    plain = {"id": "n", "usage": {"completion_tokens": 31}, "metrics": {"speculative_decoding": None}}
    reading = read_acceptance(written(tmp_path, vllm([2, 0], 5), plain))
    assert rounds_of(reading.bank, 5).rounds.tolist() == [2, 30]
    with pytest.raises(LapsbenchError, match="holds no rounds"):
        read_acceptance(written(tmp_path, plain))


def test_the_last_round_ends_with_the_answer():
    bank = read("vllm_detailed_eos_overcount.jsonl").bank
    assert [accepted(bank, row=row) for row in (0, 1)] == [[1], [2, 1]]
    assert bank.output_tokens.tolist() == [3, 6]
    assert "40 last rounds cut at completion tokens" in told(read("vllm_eos_short.jsonl"))


@pytest.mark.parametrize(
    ("record", "doubt"),
    [
        (vllm([4, 4, 0], 9), "1 answers have fewer tokens than their rounds"),
        (vllm([2, 1], 6, num_accepted_draft_tokens=4, num_spec_steps=2), "1 answers have other totals"),
    ],
)
def test_what_does_not_fit_is_never_said_to_agree(tmp_path, record, doubt):
    good = [vllm([1, 1], 5) for _ in range(500)]
    reading = read_acceptance(written(tmp_path, *good, record))
    assert not reading.agrees
    assert f"DISAGREE ({doubt}" in reading.reconciliation


def test_drafts_fewer_than_k_are_said_and_more_accepted_than_drafted_is_refused(tmp_path):
    assert "2 rounds drafted fewer than k" in told(read_acceptance(written(tmp_path, vllm([2, 0, 1], 7, [2, 5, 3]))))
    for record, reason in (
        (vllm([2, 4], 9, [2, 3]), "row 1: a round accepts 4 of 3 drafts"),
        (vllm([2, 4], 9, [2]), "row 1: lists what 2 rounds accepted and what 1 drafted"),
        (vllm([7], 9), "row 1: a round accepts 7 drafts, more than the 5"),
    ):
        with pytest.raises(LapsbenchError, match=reason):
            read_acceptance(written(tmp_path, record))


def test_answers_recorded_at_several_k_are_read_at_the_least():
    assert "recorded at k = 2 to 5: read at the least, for which 1 recordings are cut" in told(read("mixed_k.jsonl"))
    assert "2.000 in the bank (cut, at k = 2), 2.400 by its completion tokens: agree" in told(read("mixed_k.jsonl"))


def test_errors_and_answers_without_rounds_are_counted():
    assert "1 errors: left out" in told(read("vllm_null.jsonl"))
    assert "1 without rounds: left out" in told(read("vllm_null.jsonl"))


def test_a_first_record_that_is_an_error_does_not_hide_the_format(tmp_path):
    reading = read_acceptance(written(tmp_path, {"id": "x", "error": {"code": 504}}, vllm([2, 0], 5)))
    assert (reading.format, reading.answers, len(reading.bank)) == ("vLLM", 2, 1)


# --- SGLang


def test_sglangs_totals_leave_out_prefills_token_and_what_was_left_out():
    short = read("sglang_short_answers.jsonl")
    assert short.reconciliation.endswith("2.099 by its completion tokens: agree")
    assert "1 without rounds of speculation: left out" in told(read("sg_leftout.jsonl"))


def test_the_k_of_sglang_is_what_it_proposed_also_where_nobody_accepted_as_much():
    assert read("sglang_openai_choices.jsonl").bank.draft_tokens_max == 3  # 12 drafts in 4 rounds, 2 accepted at most


# --- SpecDecode-Bench


def test_a_value_at_g_is_of_a_round_that_starts_when_g_tokens_are_out(tmp_path):
    record = {"id": "a", "prompt_token_ids": [1], "acc_eagle": {"acc_len": [1, 3, 2, 1, 2]}}
    bank = read_acceptance(written(tmp_path, record, {**record, "acc_eagle": {"acc_len": [1]}})).bank
    assert bank.accept_runs.tolist() == [0, 2, 1, 0, 1]
    assert bank.output_tokens.tolist() == [5]
    assert accepted(bank) == [2, 1]
    assert accepted(bank, k=1) == [1, 0, 1]


# --- inference-lab's Parquet


def test_rounds_of_a_parquet_file_come_in_their_order_and_one_draft_at_a_time(tmp_path):
    rows = {
        "speculator": ["mtp"] * 3 + ["ngram"] * 2,
        "category": ["math"] * 5,
        "prompt_idx": [0, 0, 1, 0, 0],
        "turn": [0, 0, 0, 0, 0],
        "round_idx": [1, 0, 0, 0, 1],
        "accept": [2, 0, 1, 0, 0],
        "acc0": [1, 0, 1, 0, 0],
        "acc1": [1, 0, 0, 0, 0],
    }
    pq.write_table(pa.table(rows), tmp_path / "rounds.parquet")
    path = str(tmp_path / "rounds.parquet")
    reading = read_acceptance(path)
    assert [accepted(reading.bank, row=row) for row in (0, 1)] == [[0, 2], [1]]
    assert reading.bank.prompt_id.tolist() == ["math.0.0", "math.1.0"]
    assert "draft mtp; the file also has ngram: --draft" in told(reading)
    assert accepted(read_acceptance(path, Wanted(draft="ngram")).bank) == [0, 0]


def test_a_parquet_file_that_is_none_of_rounds_is_one_clear_line(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    done = lapsbench(f"replay --limit 20 --acceptance {tmp_path}/other.parquet", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "column 'prompt_idx' is missing; found a" in done.err


# --- a mean only


@pytest.mark.parametrize(("name", "mean", "k"), [(name, *what) for name, what in MEANS.items()])
@pytest.mark.parametrize("line", ["profiles import {}", "replay --limit 20 --acceptance {}"])
def test_a_file_that_holds_a_mean_says_the_flags_that_use_it(tmp_path, line, name, mean, k):
    done = lapsbench(line.format(shlex.quote(str(CASES / name))), tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    ready = re.search(r"try (replay --acceptance-length (\S+) --draft-tokens (\d+))$", done.err.strip())
    assert float(ready[2]) == pytest.approx(mean, abs=5e-4)
    assert int(ready[3]) == k
    lapsbench(f"{ready[1]} --limit 20 --policy fcfs --repeats 1", tmp_path).fine()


def test_a_log_line_that_contradicts_itself_is_said_to():
    with pytest.raises(LapsbenchError, match=r"2\.31 by its rates at each position: DISAGREE"):
        read("vllm_metrics.log")


def test_lines_of_a_log_are_pooled_over_their_rounds(tmp_path):
    line = "INFO SpecDecoding metrics: Mean acceptance length: {}, Accepted: {} tokens, Drafted: {} tokens, {}\n"
    rates = "Per-position acceptance rate: {}, Avg Draft acceptance rate: 1%"
    text = line.format("2.00", 100, 200, rates.format("0.6, 0.4")) + "other line\n"
    (tmp_path / "vllm.log").write_text(text + line.format("1.50", 150, 600, rates.format("0.4, 0.1")))
    with pytest.raises(LapsbenchError, match=r"1\.625 tokens a round \(vLLM's log, 2 log lines, of rounds that dr"):
        read_acceptance(str(tmp_path / "vllm.log"))


def test_a_mean_of_one_is_no_reason_to_draft(tmp_path):
    timings = {"predicted_n": 20, "draft_n": 9, "draft_n_accepted": 0}
    with pytest.raises(LapsbenchError, match="accepts nothing: 1 tokens a round"):
        read_acceptance(written(tmp_path, {"timings": timings}))


# --- from the command line


def test_what_was_read_is_replayed_and_the_label_says_what_it_is(tmp_path):
    line = f"profiles import {CASES}/vllm_ngram.jsonl --cost {COSTS} --out p"
    assert "1.212 by its completion tokens: agree" in lapsbench(line, tmp_path).fine().err
    assert np.isclose(rounds_of(open_profile(str(tmp_path / "p")).bank, 5).tokens_per_round, 189 / 156)
    done = lapsbench(
        f"replay --limit 60 --acceptance {CASES}/sglang_ext.jsonl --draft-tokens 3 --policy fcfs --repeats 1", tmp_path
    ).fine()
    assert "acceptance read from" in done.out


def test_import_asks_for_what_is_missing_only_where_there_is_something_to_import(tmp_path):
    for line, flag in (("", "--cost"), (f" --cost {COSTS}", "--out")):
        done = lapsbench(f"profiles import {CASES}/vllm_ngram.jsonl{line}", tmp_path)
        assert (done.code, done.out) == (2, "")
        assert f"{flag}: is missing" in done.err
