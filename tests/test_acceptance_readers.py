"""Recorded acceptance of every engine becomes a bank that counts as the file does; the public files as they lie."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import samples

from lapsbench.acceptance.readers import read_acceptance
from lapsbench.acceptance.readers.reader import Wanted
from lapsbench.acceptance.rounds import rounds_of
from lapsbench.errors import LapsbenchError, UsageError


@pytest.fixture
def published(public):
    """Find a public file."""
    return lambda name: str(public(f"acceptance/{name}"))


@pytest.fixture(params=["ours", pytest.param("public", marks=pytest.mark.public)])
def shared(request, tmp_path):
    """Find what holds of any file of a format in a small one of our own, and in the public one."""
    if request.param == "ours":
        return lambda name: str(samples.acceptance(tmp_path, name))
    return request.getfixturevalue("published")


@pytest.fixture
def file(tmp_path):
    def write(*records, name="acceptance.jsonl"):
        text = records[0] if isinstance(records[0], str) else "".join(json.dumps(each) + "\n" for each in records)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def refused(source, wanted=None, kind=LapsbenchError):
    with pytest.raises(kind) as caught:
        read_acceptance(source, wanted)
    text = str(caught.value)
    assert "; try " in text
    assert "\n" not in text
    return text


def sound(bank):
    """Say what every Bank promises to the rest of the program."""
    assert bank.accept_runs.dtype == np.uint8
    assert bank.offsets[-1] == len(bank.accept_runs)
    assert np.diff(bank.offsets).tolist() == bank.output_tokens.tolist()
    assert bank.accept_runs.max() <= bank.draft_tokens_max
    assert bank.prompt_tokens.min() >= 1
    return True


def recording(bank, row=0):
    return bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]].tolist()


# --- the public files, as they lie


@pytest.mark.parametrize(
    ("name", "length", "recordings", "limit"),
    [
        ("specbench_vicuna-7b_eagle.jsonl", 3.58, 560, 5),
        ("specbench_vicuna-7b_sps-68m.jsonl", 2.50, 560, 20),
        ("mtbench_vicuna-7b_rest.jsonl", 1.98, 160, 10),
        ("dflash_qwen3-4b_t0.rounds.jsonl", 4.64, 96, 7),
        ("dflash_qwen3-4b_t0.samples.jsonl", 4.64, 96, 7),
    ],
)
def test_public_recordings_have_their_pooled_acceptance_lengths(name, length, recordings, limit, published):
    reading = read_acceptance(published(name))
    assert sound(reading.bank)
    assert round(reading.read, 2) == length
    assert len(reading.bank) == recordings
    assert reading.bank.draft_tokens_max == limit
    assert reading.agrees
    assert reading.reconciliation.endswith("agree")


@pytest.mark.parametrize("name", ["specbench_vicuna-7b_eagle.jsonl", "specbench_vicuna-7b_sps-68m.jsonl"])
def test_the_bank_of_a_public_file_counts_its_rounds_one_by_one(name, shared):
    reading = read_acceptance(shared(name))
    entries = [json.loads(line)["choices"][0]["accept_lengths"] for line in Path(shared(name)).read_text().splitlines()]
    told = rounds_of(reading.bank, reading.bank.draft_tokens_max)
    assert told.rounds.sum() == sum(map(len, entries))
    assert told.accepted_tokens.sum() == sum(map(sum, entries)) - sum(map(len, entries))
    assert reading.pooled == pytest.approx(reading.read, abs=1e-12)


def test_rest_counts_from_behind_the_token_of_prefill_and_that_is_mended(published):
    reading = read_acceptance(published("mtbench_vicuna-7b_rest.jsonl"))
    assert reading.read == pytest.approx(1.98089, abs=1e-5)
    assert reading.pooled == pytest.approx(reading.stated, abs=1e-12)
    assert "the first round of 160 turns" in " ".join(reading.notes)


@pytest.mark.parametrize("draft", ["eagle", "ngram"])
@pytest.mark.parametrize("name", ["gsm8k", "sharegpt"])
def test_specdecodebench_takes_as_many_rounds_at_every_k_as_counted_from_acc_len(name, draft, shared):
    path = shared(f"specdecodebench_llama3.1-8b_{name}.jsonl")
    bank = read_acceptance(path, Wanted(draft=draft)).bank
    assert sound(bank)
    lists = [json.loads(line)[f"acc_{draft}"]["acc_len"] for line in Path(path).read_text().splitlines()]
    assert bank.output_tokens.tolist() == [len(values) for values in lists]
    for k in (1, 2, 3, 5, 8, bank.draft_tokens_max):
        direct = []
        for values in lists:
            rounds, place = 0, 1  # prefill gives the first token
            while place < len(values):
                place += min(values[place], k + 1)
                rounds += 1
            direct.append(rounds)
        assert rounds_of(bank, k).rounds.tolist() == direct


def test_prompts_and_categories_come_along(published):
    gsm8k = read_acceptance(published("specdecodebench_llama3.1-8b_gsm8k.jsonl")).bank
    assert (gsm8k.prompt_id[0], gsm8k.prompt_tokens[0]) == ("134", 103)
    dflash = read_acceptance(published("dflash_qwen3-4b_t0.rounds.jsonl")).bank
    assert set(dflash.category) == {"gsm8k", "humaneval", "mt-bench"}
    assert dflash.prompt_tokens[0] == 57
    eagle = read_acceptance(published("specbench_vicuna-7b_eagle.jsonl")).bank
    assert eagle.prompt_id[:3].tolist() == ["81.1", "81.2", "82.1"]
    assert "math_reasoning" in eagle.category


# --- the rule, by hand


def question(entries, steps, new_tokens, key="accept_lengths", **more):
    return {"question_id": 7, "category": "qa", "choices": [{key: entries, "new_tokens": new_tokens, **steps, **more}]}


def test_a_round_says_what_a_later_start_within_it_would_accept(file):
    bank = read_acceptance(file(question([3, 1, 2], {"decoding_steps": [2, 1]}, [4, 2]))).bank
    # behind the token of prefill: a round of 3 tokens, one of 1; the second turn a round of 2
    assert recording(bank, 0) == [0, 2, 1, 0, 0]
    assert recording(bank, 1) == [0, 1, 0]
    assert bank.output_tokens.tolist() == [5, 3]
    assert bank.draft_tokens_max == 2


def test_a_recording_is_censored_at_the_engines_k(file):
    path = file(question([3, 1], {"decoding_steps": [2]}, [4]))
    assert read_acceptance(path, Wanted(draft_tokens_max=5)).bank.draft_tokens_max == 5
    assert "accepts 2 drafts, more than the 1" in refused(path, Wanted(draft_tokens_max=1))


def test_rounds_of_zero_tokens_are_refused_where_they_cannot_be_mended(file):
    text = refused(file(question([1, 0], {"decoding_steps": [2]}, [1])))
    assert "row 1: turn 1 has a round of no tokens" in text


def test_steps_that_do_not_cut_the_list_are_refused(file):
    assert "3 rounds in accept_lengths, 4 by its steps" in refused(
        file(question([1, 1, 1], {"decoding_steps": [4]}, [3]))
    )


# --- engines


def response(accepted, drafted=None, **more):
    steps = {
        "per_step_accepted": accepted,
        "per_step_drafted": drafted or [4] * len(accepted),
        "num_spec_steps": len(accepted),
        "num_accepted_draft_tokens": sum(accepted),
        "num_spec_tokens": 4,
        **more,
    }
    return {"id": "cmpl-1", "usage": {"prompt_tokens": 12}, "metrics": {"speculative_decoding": steps}}


def test_vllm_lists_its_rounds(file):
    reading = read_acceptance(file(response([2, 0, 4]), response([1])))
    assert recording(reading.bank) == [0, 2, 1, 0, 0, 4, 3, 2, 1, 0]
    assert reading.bank.draft_tokens_max == 4
    assert reading.bank.prompt_tokens.tolist() == [12, 12]
    assert reading.read == reading.stated == 1 + 7 / 4
    assert reading.agrees


def test_vllm_totals_that_disagree_are_said_to(file):
    reading = read_acceptance(file(response([2, 0, 4], num_accepted_draft_tokens=9)))
    assert not reading.agrees
    assert "DISAGREE" in reading.reconciliation


def test_vllm_summaries_have_a_histogram_only(file):
    record = response([], acceptance_histogram=[2, 1, 0, 1], num_spec_steps=4, num_accepted_draft_tokens=4)
    del record["metrics"]["speculative_decoding"]["per_step_accepted"]
    first, again = (read_acceptance(file(record)) for _ in range(2))
    assert first.read == 2.0
    assert recording(first.bank) == recording(again.bank)
    assert "tell no order" in " ".join(first.notes)


def test_sglang_counts_its_bonus_in_the_length_but_not_in_the_histogram(file):
    meta = {
        "id": "a",
        "prompt_tokens": 9,
        "completion_tokens": 106,
        "spec_verify_ct": 43,
        "spec_accept_length": 106 / 43,
    }
    histogram = {"spec_accept_histogram": [11, 14, 11, 4, 0, 3]}
    reading = read_acceptance(file({"text": "", "meta_info": meta | histogram}))
    assert reading.read == pytest.approx(1 + 63 / 43)
    assert reading.stated == pytest.approx(105 / 43)  # a token is prefill's
    assert reading.bank.draft_tokens_max == 5
    assert rounds_of(reading.bank, 5).rounds.tolist() == [43]


def test_sglang_without_a_histogram_is_spread_evenly(file):
    meta = {"completion_tokens": 11, "spec_verify_ct": 4, "spec_accept_token_num": 6}
    reading = read_acceptance(file(json.dumps([{"meta_info": meta}], indent=1)))
    assert reading.read == 2.5
    assert recording(reading.bank) == [0, 1, 0, 2, 1, 0, 1, 0, 2, 1, 0]


def test_inference_labs_rounds_are_cut_into_recordings(file):
    rows = "".join(f"{i % 3},{'code' if i < 70 else ''},0.5,0.5\n" for i in range(100))
    reading = read_acceptance(file(f"commits,category,a0,a1\n{rows}", name="rounds.csv"))
    assert reading.bank.category.tolist() == ["code", "code", ""]
    assert reading.bank.draft_tokens_max == 2
    assert reading.read == reading.pooled == 1 + sum(i % 3 for i in range(100)) / 100
    assert "row 2, column 'commits'" in refused(file("commits,category,a0\n1,x,0\nx,x,0\n", name="bad.csv"))


# --- bad input


def test_packed_files_read(tmp_path, file):
    record = json.dumps(response([2, 0])).encode()
    (tmp_path / "packed").write_bytes(gzip.compress(record))
    assert len(read_acceptance(str(tmp_path / "packed")).bank) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither JSON nor a table of rounds"),
        ("hello\n", "neither JSON nor a table of rounds"),
        ('{"a": 1}\n', "no known format of acceptance has these keys: 'a'"),
        ("[]", "no known format of acceptance"),
        ('{"meta_info": {"spec_verify_ct": 3}}\n[1]\n', "row 2: is not a JSON object"),
        ('{"meta_info": {"spec_verify_ct": 3}}\n{"meta_inf', "row 2: is not JSON"),
        ('{"meta_info": {"spec_verify_ct": -3, "completion_tokens": 5}}\n', "row 1: spec_verify_ct is -3, not a count"),
        ('{"meta_info": {"spec_verify_ct": 0, "completion_tokens": 5}}\n', "holds no rounds"),
        ('{"acc_eagle": {"acc_len": [1, 0]}}\n', "row 1: acc_eagle.acc_len holds 0, not a whole number from 1 up"),
        ('{"acc_eagle": {"acc_len": [1, "x"]}}\n', "holds something that is not a number"),
        ('{"acc_eagle": {"acc_len": [1, 1000000000]}}\n', "a round accepts 999,999,999 drafts"),
        ('{"uid": 1, "accepted_draft": 1000000000}\n', "a round accepts 1,000,000,000 drafts"),
        ('{"uid": 1, "accepted_draft": null}\n', "row 1: accepted_draft is None, not a count"),
        ('{"uid": 1, "n_output_tokens": 4, "rounds": 2}\n', "holds totals of answers, no rounds"),
    ],
)
def test_what_is_no_acceptance_is_one_clear_line(file, text, reason):
    assert reason in refused(file(text, name="bad.txt"))


def test_an_unknown_draft_is_a_usage_error(file):
    text = refused(file({"acc_eagle": {"acc_len": [1]}}), Wanted(draft="medusa"), kind=UsageError)
    assert "--draft: the file has no draft 'medusa'; try eagle" in text
