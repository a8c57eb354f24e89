"""Sampling with a draft gives what sampling without one gives, and acceptance recorded for it is the decoder's."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lapsbench.decoding import verify
from lapsbench.decoding.decoder import Decoder, Sampling
from lapsbench.decoding.drafts import ModelDraft, NgramDraft
from lapsbench.decoding.generation import generate
from lapsbench.decoding.network import Network
from lapsbench.decoding.verify import accept_greedy, accept_sampled, distribution, most_likely, pick
from lapsbench.profile.accept_runs import implied_rounds, runs_of, sampled_chances, sampled_runs

torch.set_num_threads(1)

DRAWS = 20_000
VOCABULARY = 11
PROMPT = [8, 10, 6, 8, 10]  # 6 is a likely continuation: prompt lookup is often right
ROOM = 16
LEVEL = 0.001


@cache
def model(noise=0.0):
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": VOCABULARY, "eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = LlamaForCausalLM(LlamaConfig(**shape, **tokens, num_key_value_heads=1, initializer_range=0.35)).eval()
        changed = copy.deepcopy(made)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
    return changed


def decoder_of(draft, k, slots=DRAWS):
    target = Network(model(), slots=slots, room=ROOM)
    if draft == "model":
        return Decoder(target, ModelDraft(Network(model(0.1), slots=slots, room=ROOM), "noisy"), k)
    return Decoder(target, NgramDraft(4) if draft == "ngram" else None, k)


@cache
def sampled(draft, k, tokens=3, temperature=1.0, seed=0, draws=DRAWS):
    """Tokens [draws, tokens] that follow the prompt, and what the first round accepted of how many drafts.

    All draws in one batch, built of the decoder's parts: 20,000 prefills would take minutes.
    """
    decoder = decoder_of(draft, k, draws)
    batch = decoder.spanning(decoder.batch(draws), len(PROMPT) + tokens)
    prompt = torch.tensor(PROMPT).repeat(draws, 1)
    empty = torch.zeros(draws, dtype=torch.int64)
    decoder.target.forward(prompt[:, :-1], empty)
    if draft == "model":
        decoder.draft.network.forward(prompt[:, :-1], empty)
    batch.history[:, : len(PROMPT)] = prompt
    batch.lengths.fill_(len(PROMPT) - 1)
    batch.limits.fill_(len(PROMPT) + tokens)
    sampling, rounds = Sampling.seeded(temperature, seed, torch.device("cpu")), []
    while int(batch.remaining.max()):
        rounds.append(decoder.round(batch, sampling))
    return batch.history[:, len(PROMPT) : len(PROMPT) + tokens].numpy(), rounds


def exact(tokens, temperature=1.0):
    """The probability [V ** tokens] of every continuation, straight from the target."""
    grid = torch.cartesian_prod(*[torch.arange(VOCABULARY)] * tokens).view(-1, tokens)
    sequences = torch.cat([torch.tensor(PROMPT).repeat(len(grid), 1), grid], dim=1)
    with torch.no_grad():
        p = distribution(copy.deepcopy(model())(sequences, use_cache=False).logits, temperature)
    steps = p[:, len(PROMPT) - 1 : -1].gather(2, grid[..., None])[..., 0]
    return steps.double().prod(dim=1).numpy()


def counted(tokens):
    """How often each continuation came, in the order of `exact`."""
    numbers = tokens @ (VOCABULARY ** np.arange(tokens.shape[1])[::-1])
    return np.bincount(numbers, minlength=VOCABULARY ** tokens.shape[1])


def agreement(counts, probabilities):
    """The p-value of the counts under the probabilities; rare outcomes together."""
    want = probabilities / probabilities.sum() * counts.sum()
    often = want >= 5
    table = np.array([np.append(row[often], row[~often].sum()) for row in (counts, want)])
    return chisquare(*table[:, table[1] > 0]).pvalue


def alike(one, other):
    """The p-value of two tables of counts being of one distribution; rare outcomes together."""
    often = one + other >= 10
    table = [np.append(counts[often], counts[~often].sum()) for counts in (one, other)]
    return chi2_contingency(np.array(table)[:, np.sum(table, axis=0) > 0]).pvalue


# lossless


@pytest.mark.parametrize(("draft", "k"), [("model", 1), ("model", 2), ("model", 4), ("ngram", 3)])
def test_pairs_of_tokens_are_distributed_as_without_a_draft(draft, k):
    drafted, rounds = sampled(draft, k)
    alone, _ = sampled(None, 0, seed=1)
    accepted = sum(int((emission.emitted - 1).clamp(min=0).sum()) for emission in rounds)
    assert accepted > DRAWS / 10, "the test needs drafts that are accepted"
    for first in (0, 1):  # tokens 1 and 2, tokens 2 and 3
        pairs = slice(first, first + 2)
        assert alike(counted(drafted[:, pairs]), counted(alone[:, pairs])) > LEVEL
    assert agreement(counted(drafted[:, :2]), exact(2)) > LEVEL
    assert agreement(counted(drafted), exact(3)) > LEVEL


def test_a_low_temperature_is_as_lossless():
    drafted, _ = sampled("model", 3, temperature=0.5)
    assert agreement(counted(drafted[:, :2]), exact(2, 0.5)) > LEVEL
    assert agreement(counted(drafted[:, :2]), exact(2, 1.0)) < 1e-9


def test_the_comparison_would_notice_a_wrong_correction(monkeypatch):
    # drawing the correction from p instead of the residual: the commonest mistake
    monkeypatch.setattr(verify, "_next_weights", lambda p, _d, a, _c, _q: p[torch.arange(len(a)), a])
    drafted, _ = sampled.__wrapped__("model", 2)
    assert agreement(counted(drafted[:, :2]), exact(2)) < 1e-9


def test_generate_samples_the_same_for_the_same_seed():
    prompts = [PROMPT, [1], [4, 4, 4]]
    said = [
        generate(decoder_of("model", 3, slots=2), prompts, 6, temperature=1.0, seed=seed).outputs for seed in (4, 4, 5)
    ]
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_generate_samples_its_first_token_too():
    firsts = generate(decoder_of(None, 0, slots=1), [PROMPT] * 600, 1, temperature=1.0).tokens
    assert agreement(counted(np.array(firsts)), exact(1)) > LEVEL


# acceptance under sampling


def test_recorded_rounds_are_distributed_as_the_decoders():
    _, rounds = sampled("model", 4, tokens=6, draws=4000)
    outputs = sampled(None, 0, tokens=6, seed=2, draws=4000)[0].tolist()
    # the first round here starts at g = 0: nothing was emitted by prefill
    decoder = decoder_of("model", 4, slots=500)
    prompts = [PROMPT] * len(outputs)
    runs = sampled_runs(decoder.target, decoder.draft, prompts, outputs, 4, temperature=1.0, seed=0)
    implied = np.bincount([run[0] for run in runs], minlength=5)
    took = np.bincount((rounds[0].emitted - 1).numpy(), minlength=5)
    assert alike(implied, took) > LEVEL
    assert min(implied) > 0, "the test needs runs of every length"


def test_the_chance_given_the_token_averages_to_the_overlap():
    outputs = sampled(None, 0, tokens=1, seed=3, draws=4000)[0].tolist()
    decoder = decoder_of("model", 1, slots=500)
    chances = sampled_chances(decoder.target, decoder.draft, [PROMPT] * len(outputs), outputs, 1.0)
    overlap = chances[0].overlap[0]
    with torch.no_grad():
        p, q = (
            distribution(m(torch.tensor([PROMPT]), use_cache=False).logits[0, -1], 1.0) for m in (model(), model(0.1))
        )
    assert overlap == pytest.approx(float(torch.minimum(p, q).sum()), abs=1e-5)
    given = np.array([chance.given[0] for chance in chances])
    assert given.mean() == pytest.approx(overlap, abs=4 * given.std() / np.sqrt(len(given)))


def test_prompt_lookup_leaves_nothing_to_draw():
    decoder = decoder_of("ngram", 3, slots=1)
    outputs = [[6, 8, 10, 6, 1]]
    runs = [
        sampled_runs(decoder.target, decoder.draft, [PROMPT], outputs, 8, temperature=1.0, seed=seed)[0].tolist()
        for seed in (0, 1)
    ]
    # after 8 10 6 8 10 follow 6 8 10, which is all that is known; of these three stand, and so on
    assert runs[0] == runs[1] == [3, 3, 2, 1, 0]


def test_runs_are_drawn_by_a_named_seed():
    decoder = decoder_of("model", 3, slots=2)
    outputs = [[6, 8, 10, 6, 1, 2], [1, 2, 3]]
    drawn = [
        sampled_runs(decoder.target, decoder.draft, [PROMPT, [2]], outputs, 8, temperature=1.0, seed=seed)
        for seed in (0, 0, *range(1, 9))
    ]
    assert all(np.array_equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert any(not np.array_equal(drawn[0][0], other[0]) for other in drawn[2:])


# the rules, by hand


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_equal_logits_the_first_is_taken(dtype):
    """What is most likely is what `argmax` says, of bfloat16 too, where ties are common."""
    logits = torch.randn(5, 4, 4000, generator=torch.Generator().manual_seed(3)).to(dtype)
    logits[0, 0] = 1.0
    assert (logits == logits.amax(-1, keepdim=True)).sum() > logits[..., 0].numel()
    assert torch.equal(most_likely(logits), logits.argmax(dim=-1))


def test_greedy_acceptance_stops_at_the_first_mismatch():
    best = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    drafted = torch.tensor([[1, 2, 3], [1, 9, 3], [9, 2, 3], [1, 2, 3]])
    accepted, following = accept_greedy(best, drafted, torch.tensor([3, 3, 3, 2]))
    assert accepted.tolist() == [3, 1, 0, 2]
    assert following.tolist() == [4, 2, 1, 3]


def test_a_draft_surer_than_the_target_stands_with_their_ratio():
    p = torch.tensor([[[0.2, 0.8], [0.5, 0.5]]]).repeat(4, 1, 1)
    q = torch.tensor([[[0.8, 0.2]]]).repeat(4, 1, 1)
    drafted = torch.zeros(4, 1, dtype=torch.int64)
    uniform = torch.tensor([[0.0, 0.4], [0.24, 0.9], [0.26, 0.0], [0.99, 0.999]], dtype=torch.float64)
    accepted, following = accept_sampled(p, drafted, torch.ones(4, dtype=torch.int64), q, uniform)
    assert accepted.tolist() == [1, 1, 0, 0]
    assert following.tolist() == [0, 1, 1, 1]  # the bonus from the second p; the residual is all on token 1


def test_padding_never_stands_even_where_it_would_be_right():
    p = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    uniform = torch.zeros(1, 2, dtype=torch.float64)
    accepted, following = accept_sampled(p, torch.tensor([[1]]), torch.tensor([0]), None, uniform)
    assert (accepted.item(), following.item()) == (0, 1)


def test_a_token_of_no_weight_is_never_picked():
    weights = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).repeat(5, 1)
    uniform = torch.tensor([0.0, 0.4999, 0.5, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert pick(weights, uniform).tolist() == [1, 1, 3, 3, 3]


def test_picks_follow_their_weights_in_a_large_vocabulary():
    weights = torch.full((1, 100_000), 1e-5).expand(50, -1)
    uniform = torch.linspace(0, 0.9999, 50, dtype=torch.float64)
    torch.testing.assert_close(pick(weights, uniform), (uniform * 100_000).long(), atol=1, rtol=0)


def test_implied_rounds_of_drawn_runs_emit_the_output():
    runs = runs_of(np.random.default_rng(0).random(50) < 0.6, 8)
    for k in range(9):
        accepted = implied_rounds(runs, 50, k)
        assert 1 + sum(accepted) + len(accepted) == 50
        assert max(accepted) <= k
