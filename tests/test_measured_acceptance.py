"""Acceptance, measured: the recording implies the decoder's rounds, survives interruption, and is checked."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny
import torch

from lapsbench.decoding.decoder import Decoder
from lapsbench.decoding.generation import generate
from lapsbench.errors import LapsbenchError
from lapsbench.models.architectures import ARCHITECTURES, Architecture
from lapsbench.models.sources import load_draft, load_target
from lapsbench.profile import acceptance
from lapsbench.profile.accept_runs import implied_rounds
from lapsbench.profile.acceptance import Settings, measure
from lapsbench.profile.prompts import Prompt, encode
from lapsbench.profile.reconciliation import reconcile

torch.set_num_threads(1)

CPU = torch.device("cpu")
DRAFTS = ("model", "self:int4", "self:drop=1", "ngram:4")
SETTINGS = Settings(max_new_tokens=20, draft_tokens_max=6, batch=3, check_prompts=2, check_draft_tokens=3)
TEXT = "the cat sat on the mat and the dog ran to the hill where the wind was cold"
PROMPTS = [Prompt(f"p{n}", "even" if n % 2 == 0 else "odd", TEXT[4 * n : 10 * n + 12]) for n in range(7)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A target that may end in two ways, and a draft that is often right."""
    ends = {"eos_token_id": [1, 33]}
    target = tiny.save(tmp_path_factory.mktemp("target"), **ends)
    return target, tiny.save(tmp_path_factory.mktemp("draft"), noise=0.02, **ends)


@pytest.fixture(scope="module")
def pair(folders):
    """pair(draft, dtype): target and draft, loaded."""

    @cache
    def load(draft, dtype=torch.float32):
        target = load_target(folders[0], device=CPU, dtype=dtype)
        return target, load_draft(folders[1] if draft == "model" else draft, target)

    return load


@pytest.fixture(scope="module")
def banked(pair):
    """banked(draft, dtype): its bank, measured once."""
    return cache(lambda draft, dtype=torch.float32: measure(*pair(draft, dtype), PROMPTS, SETTINGS).bank)


def same(one, other):
    for name in ("prompt_id", "category", "prompt_tokens", "output_tokens", "offsets", "accept_runs"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    return one.draft_tokens_max == other.draft_tokens_max


def runs(bank, row):
    return bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]]


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_recording_implies_the_decoders_rounds(pair, banked, draft):
    target, loaded = pair(draft)
    bank = banked(draft)
    prompts = [encode(prompt, target.tokenizer).tokens for prompt in PROMPTS]
    network = target.network(len(PROMPTS), 160)
    for k in (2, SETTINGS.draft_tokens_max):
        outputs = generate(Decoder(network, loaded.attach(network), k), prompts, 20).outputs
        for row, output in enumerate(outputs):
            n = bank.output_tokens[row]
            implied = implied_rounds(runs(bank, row), n, k)
            # this decoder knows no end; where the recording ends, it goes on
            assert implied[:-1] == output.accepted[: len(implied) - 1]
            if n == 20:
                assert implied == output.accepted


def test_the_bank_holds_prompts_categories_and_outputs(pair, banked):
    target, _ = pair("model")
    bank = banked("model")
    prompts = [encode(prompt, target.tokenizer).tokens for prompt in PROMPTS]
    outputs = generate(Decoder(target.network(1, 160), None, 0), prompts, 20).tokens
    ends = [next((place + 1 for place, token in enumerate(tokens) if token in (1, 33)), 20) for tokens in outputs]
    assert list(bank.prompt_id) == [prompt.prompt_id for prompt in PROMPTS]
    assert list(bank.category) == [prompt.category for prompt in PROMPTS]
    assert list(bank.prompt_tokens) == [len(tokens) for tokens in prompts]
    assert list(bank.output_tokens) == ends
    assert min(ends) < 20 == max(ends)  # both kinds of ending are in the test


def test_runs_are_not_cut_short_by_the_end_of_a_recording(pair, banked):
    target, draft = pair("self:int4")
    short = banked("self:int4")
    long = measure(target, draft, PROMPTS, replace(SETTINGS, max_new_tokens=26)).bank
    for row in range(len(PROMPTS)):
        np.testing.assert_array_equal(runs(short, row), runs(long, row)[: short.output_tokens[row]])


class KilledError(Exception):
    """The measurement is killed here."""


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("parts", [1, 2])
def test_an_interrupted_measurement_goes_on_and_measures_nothing_twice(pair, monkeypatch, temperature, parts):
    target, draft = pair("model")
    settings = replace(SETTINGS, temperature=temperature, check_prompts=1)
    whole = measure(target, draft, PROMPTS, settings).bank
    saved = []

    def die(bank):
        saved.append(bank)
        if len(saved) == parts:
            raise KilledError

    with pytest.raises(KilledError):
        measure(target, draft, PROMPTS, settings, save=die)
    assert len(saved[-1]) == 3 * parts
    asked = []
    real = acceptance._record_part

    def counting(target, draft, part, *rest):
        asked.extend(prompt.prompt_id for prompt in part)
        return real(target, draft, part, *rest)

    monkeypatch.setattr(acceptance, "_record_part", counting)
    resumed = measure(target, draft, PROMPTS, settings, done=saved[-1]).bank
    assert same(resumed, whole)
    assert asked == [prompt.prompt_id for prompt in PROMPTS[3 * parts :]]


def test_everything_is_saved_and_progress_counts_prompts(pair):
    saved, seen = [], []
    bank = measure(*pair("model"), PROMPTS, SETTINGS, save=saved.append, progress=lambda *at: seen.append(at)).bank
    assert same(saved[-1], bank)
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_other_prompts_or_drafts_than_before_are_refused(pair, banked):
    bank = banked("model")
    with pytest.raises(LapsbenchError, match="'p0' was recorded before"):
        measure(*pair("model"), PROMPTS[1:], SETTINGS, done=bank)
    with pytest.raises(LapsbenchError, match="up to 6 drafts before, 5 are asked for now"):
        measure(*pair("model"), PROMPTS, replace(SETTINGS, draft_tokens_max=5), done=bank)


def test_prompts_too_long_are_left_out_and_named(pair):
    long = Prompt("long", "odd", "cat " * 80)
    measured = measure(*pair("ngram:4"), [long, *PROMPTS], SETTINGS)
    assert measured.too_long == ("long",)
    assert len(measured.bank) == len(PROMPTS)
    with pytest.raises(LapsbenchError, match="all 1 prompts are too long"):
        measure(*pair("ngram:4"), [long], SETTINGS)


def test_random_weights_are_refused_with_the_reason(pair, monkeypatch):
    monkeypatch.setitem(
        ARCHITECTURES, "small", Architecture("nobody/small", 60, tiny.LlamaConfig, tiny.config().to_dict())
    )
    drawn = load_target("arch:small", device=CPU, dtype=torch.float32)
    with pytest.raises(LapsbenchError, match="--target arch:small: random weights accept drafts by chance"):
        measure(drawn, load_draft("ngram:4", drawn), PROMPTS, SETTINGS)
    target, _ = pair("model")
    with pytest.raises(LapsbenchError, match="--draft arch:small: random weights"):
        measure(target, load_draft("arch:small", target), PROMPTS, SETTINGS)


def test_a_target_without_tokenizer_is_refused(tmp_path):
    mute = load_target(tiny.save(tmp_path / "mute", letters=None), device=CPU, dtype=torch.float32)
    with pytest.raises(LapsbenchError, match="no tokenizer"):
        measure(mute, load_draft("ngram:4", mute), PROMPTS, SETTINGS)


def test_too_many_prompts_at_once_are_said(pair, monkeypatch):
    def fail(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(acceptance, "record", fail)
    with pytest.raises(LapsbenchError, match="3 prompts at once do not fit into the memory of cpu"):
        measure(*pair("model"), PROMPTS, SETTINGS)


# the gate


@pytest.fixture
def gate(pair):
    """gate(bank, draft, dtype, temperature): reconcile that bank on all prompts."""

    def run(bank, draft="model", dtype=torch.float32, temperature=0.0):
        target, loaded = pair(draft, dtype)
        network = target.network(len(PROMPTS), 160)
        prompts = [encode(prompt, target.tokenizer) for prompt in PROMPTS]
        options = {"draft_tokens": 3, "max_new_tokens": 20, "eos": target.eos, "temperature": temperature}
        return reconcile(network, loaded.attach(network), prompts, bank, **options)

    return run


def test_the_gate_prints_both_acceptance_lengths(banked, gate):
    bank = banked("model")
    found = gate(bank)
    assert found.recorded_length == found.decoded_length
    assert 1 < found.recorded_length < 4
    assert f"{found.recorded_length:.3f} recorded, {found.decoded_length:.3f} decoded; 0 of" in found.text


@pytest.mark.parametrize("row", range(len(PROMPTS)))
def test_one_run_that_is_off_by_one_does_not_pass_in_float32(banked, gate, row):
    bank = banked("model")
    tampered = bank.accept_runs.copy()
    first = bank.offsets[row] + 1  # the first round starts when one token exists
    tampered[first] = 0 if tampered[first] else 1
    with pytest.raises(LapsbenchError, match=r"recording and decoder disagree.*\d recorded, .* decoded; 1 of"):
        gate(replace(bank, accept_runs=tampered))


def shifted(bank, by):
    """What a fault in counting positions would record."""
    return replace(bank, accept_runs=np.roll(bank.accept_runs, by))


@pytest.mark.parametrize("by", [-1, 1])
def test_a_shifted_recording_does_not_pass_in_bfloat16(banked, gate, by):
    bank = banked("model", torch.bfloat16)
    assert gate(bank, dtype=torch.bfloat16).agrees
    with pytest.raises(LapsbenchError, match="disagree"):
        gate(shifted(bank, by), dtype=torch.bfloat16)


def test_sampled_acceptance_agrees_and_one_of_nothing_does_not(pair, gate):
    settings = replace(SETTINGS, temperature=1.0, check_prompts=7)
    measured = measure(*pair("model"), PROMPTS, settings)
    assert measured.reconciliation.sampled
    nothing = replace(measured.bank, accept_runs=np.zeros_like(measured.bank.accept_runs))
    with pytest.raises(LapsbenchError, match="standard errors apart"):
        gate(nothing, temperature=1.0)
