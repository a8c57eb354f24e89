"""The speculative decoder says what the target says, and the recording knows its rounds beforehand."""

from __future__ import annotations

import contextlib
import copy
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lapsbench.decoding.decoder import Decoder, Sampling
from lapsbench.decoding.drafts import ModelDraft
from lapsbench.decoding.generation import generate
from lapsbench.decoding.graphs import Runner
from lapsbench.decoding.lookup import look_up
from lapsbench.decoding.network import Network
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.models.derived import drop_layers, in_4_bits, keep_layers, round_to_4_bits
from lapsbench.models.spec import Drop, Int4, Layers, Named, Ngram, make_draft, parse_draft
from lapsbench.profile.accept_runs import greedy_runs, implied_rounds, runs_of

torch.set_num_threads(1)

VOCABULARY = 61
ROOM = 96
FAMILIES = ("llama", "qwen2", "opt")
DRAFTS = ("tiny", "ngram:4", "self:layers=0,2", "self:drop=1", "self:int4")
NO_TOKENS = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
NEW = 13
KS = range(1, 9)

# tiny models, and what they say by plain decoding


def config(family, vocabulary=VOCABULARY, **changes):
    shape = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    shape |= {"max_position_embeddings": 256, **NO_TOKENS}
    if family == "opt":
        return OPTConfig(**(shape | {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3} | changes))
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[family]
    return kind(**(shape | {"intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.3} | changes))


def build(family, seed=0, **changes):
    """A random model; its weights are wide, so that it speaks its mind."""
    kind = {"llama": LlamaForCausalLM, "qwen2": Qwen2ForCausalLM, "opt": OPTForCausalLM}[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(config(family, **changes)).eval()


@cache
def target_model(family):
    return build(family)


@cache
def reference(family):
    """The same model, on transformers' own attention and without a cache."""
    return build(family)


def noisy(model, scale, seed=1):
    """A copy with noise on its weights: a draft that is often right."""
    copied = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return copied


def plain(family, prompt, new_tokens):
    """Greedy decoding that recomputes everything for every token."""
    return list(_plain(family, tuple(prompt), new_tokens))


@cache
def _plain(family, prompt, new_tokens):
    sequence = list(prompt)
    for _ in range(new_tokens):
        with torch.no_grad():
            logits = reference(family)(torch.tensor([sequence]), use_cache=False).logits
        sequence.append(int(logits[0, -1].argmax()))
    return tuple(sequence[len(prompt) :])


def pair(family, draft, slots, room=ROOM):
    """A target and a draft with so many slots."""
    target = Network(target_model(family), slots=slots, room=room)
    if draft is None:
        return target, None
    if draft == "tiny":
        network = Network(noisy(reference(family), 0.02), slots=slots, room=room)
        return target, ModelDraft(network, "tiny")
    return target, make_draft(parse_draft(draft), target, load=None)


def prompts_of(lengths, seed=0):
    """Random prompts; the longer half repeats itself, which is what prompt lookup lives on."""
    generator = torch.Generator().manual_seed(seed)
    prompts = []
    for length in lengths:
        words = torch.randint(VOCABULARY, (length,), generator=generator).tolist()
        prompts.append((words[: length // 3 + 1] * 3)[:length] if length > 8 else words)
    return prompts


PROMPTS = prompts_of((1, 30, 5, 17, 2, 9, 24, 12))


@cache
def decoded(family, draft, k, slots=5, prompts=5):
    target, drafting = pair(family, draft, slots)
    return generate(Decoder(target, drafting, k), PROMPTS[:prompts], NEW)


def expected(family, prompts=5):
    return [plain(family, prompt, NEW) for prompt in PROMPTS[:prompts]]


# generation


@pytest.mark.parametrize("draft", DRAFTS)
def test_a_draft_that_is_not_asked_changes_nothing(draft):
    assert decoded("llama", draft, 0).tokens == expected("llama")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("draft", [None, *DRAFTS])
def test_every_architecture_decodes_as_it_does_alone(family, draft):
    assert decoded(family, draft, 3).tokens == expected(family)


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
@pytest.mark.parametrize("draft", DRAFTS)
def test_a_batch_of_ragged_prompts_says_what_each_says_alone(draft, batch):
    for k in KS:
        assert decoded("llama", draft, k, slots=batch, prompts=batch).tokens == expected("llama", batch)


def test_plain_decoding_is_what_transformers_generates():
    prompt = torch.tensor([PROMPTS[1]])
    ids = build("llama").generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW, do_sample=False, pad_token_id=0
    )
    assert ids[0, len(PROMPTS[1]) :].tolist() == plain("llama", PROMPTS[1], NEW)


def test_more_prompts_than_slots_take_turns():
    assert decoded("llama", "tiny", 4, slots=3, prompts=8).tokens == expected("llama", 8)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    draft=st.sampled_from(DRAFTS),
    k=st.integers(0, 8),
    slots=st.integers(1, 4),
    new=st.integers(1, 10),
    ended_by=st.none() | st.integers(0, 9),
)
def test_any_ragged_batch_equals_plain_decoding_up_to_the_end_of_sequence(
    lengths, seed, draft, k, slots, new, ended_by
):
    prompts = prompts_of(lengths, seed)
    said = [plain("llama", prompt, new) for prompt in prompts]
    eos = said[0][ended_by] if ended_by is not None and ended_by < new else None
    if eos is not None:
        said = [tokens[: tokens.index(eos) + 1] if eos in tokens else tokens for tokens in said]
    target, drafting = pair("llama", draft, slots)
    generation = generate(Decoder(target, drafting, k), prompts, new, eos=eos)
    assert generation.tokens == said
    for output in generation.outputs:
        assert len(output.tokens) == 1 + sum(output.accepted) + len(output.accepted)
        assert all(0 <= a <= d <= k for a, d in zip(output.accepted, output.drafted, strict=True))


def test_padding_is_not_counted_as_drafted():
    output = decoded("llama", "ngram:4", 8).outputs[0]  # its prompt is one token: at first there is nothing to look up
    assert output.drafted[0] == 0
    assert output.accepted[0] == 0


def test_an_end_of_sequence_inside_an_accepted_run_cuts_it():
    target, draft = pair("llama", "self:int4", 1)
    whole = generate(Decoder(target, draft, 6), PROMPTS[1:2], NEW).outputs[0]
    start = 1 + sum(a + 1 for a in whole.accepted[: np.argmax(whole.accepted)])
    assert max(whole.accepted) >= 2, "the test needs a run"
    eos = whole.tokens[start]
    cut = generate(Decoder(target, draft, 6), PROMPTS[1:2], NEW, eos=eos).outputs[0]
    assert cut.tokens == whole.tokens[: whole.tokens.index(eos) + 1]


def test_a_target_that_drafts_for_itself_is_always_right():
    network = Network(build("llama"), slots=4, room=ROOM)
    generation = generate(Decoder(pair("llama", None, 4)[0], ModelDraft(network, "twin"), 4), PROMPTS[:4], 16)
    assert [output.accepted for output in generation.outputs] == [[4, 4, 4]] * 4


@pytest.mark.parametrize(("prompt", "new"), [([], 4), ([1] * ROOM, 4), ([1], ROOM), ([1], 0)])
def test_what_does_not_fit_is_refused(prompt, new):
    decoder = Decoder(*pair("llama", "ngram:4", 1), 4)
    with pytest.raises(LapsbenchError, match="tokens"):
        generate(decoder, [prompt], new)


# recording


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("draft", DRAFTS)
def test_the_recording_implies_the_rounds_the_decoder_took(draft, k):
    outputs = decoded("llama", draft, k).outputs
    runs = recorded("llama", draft)
    implied = [implied_rounds(run, NEW, k) for run in runs]
    assert implied == [output.accepted for output in outputs]


@pytest.mark.parametrize("family", ["qwen2", "opt"])
@pytest.mark.parametrize("draft", DRAFTS)
def test_the_recording_holds_for_other_architectures(family, draft):
    implied = [implied_rounds(run, NEW, 3) for run in recorded(family, draft)]
    assert implied == [output.accepted for output in decoded(family, draft, 3).outputs]


@cache
def recorded(family, draft):
    _, drafting = pair(family, draft, 2)
    return greedy_runs(drafting, PROMPTS[:5], expected(family), 8)


def test_recordings_tell_drafts_apart():
    rates = {draft: np.mean([np.mean(run > 0) for run in recorded("llama", draft)]) for draft in DRAFTS}
    assert rates["self:int4"] > rates["self:drop=1"] > 0


@pytest.mark.parametrize("draft", ["tiny", "ngram:4"])
def test_a_run_is_what_a_round_started_there_accepts(draft):
    prompt, output = PROMPTS[1], expected("llama")[1]
    target, drafting = pair("llama", draft, 1)
    decoder = Decoder(target, drafting, 8)
    sampling = Sampling.seeded(0.0, 0, target.device)
    for g, run in enumerate(recorded("llama", draft)[1]):
        known = torch.tensor(prompt + output[:g])
        batch = decoder.batch(1)
        decoder.prefill(0, known[:-1])
        decoder.draft_prefill(0, known[:-1])
        batch.history[0, : len(known)] = known
        batch.lengths[0], batch.limits[0] = len(known) - 1, ROOM
        emission = decoder.round(decoder.spanning(batch, len(known)), sampling)
        assert min(int(emission.emitted[0]) - 1, NEW - g) == run, g


def test_chunks_do_not_change_a_recording(monkeypatch):
    whole = {draft: recorded("llama", draft) for draft in ("tiny", "ngram:4")}
    monkeypatch.setattr("lapsbench.profile.forcing.PASS_TOKENS", 7)
    monkeypatch.setattr("lapsbench.profile.accept_runs.LOOKUP_ROWS", 3)
    for draft, runs in whole.items():
        again = greedy_runs(pair("llama", draft, 2)[1], PROMPTS[:5], expected("llama"), 8)
        assert all(np.array_equal(a, b) for a, b in zip(again, runs, strict=True))
        assert all(run.dtype == np.uint8 and len(run) == NEW for run in runs)


def test_runs_count_matches_up_to_the_cap():
    matches = np.array([True, True, True, False, True, True])
    assert runs_of(matches, 2).tolist() == [2, 2, 1, 0, 2, 1]
    assert implied_rounds(np.array([0, 2, 1, 0, 5, 5], dtype=np.uint8), 6, 4) == [2, 1]


# prompt lookup


@pytest.mark.parametrize(
    ("known", "proposed"),
    [
        ([1, 2, 3, 9, 1, 2, 3], [9, 1, 2, 3]),
        ([1, 2, 5, 7, 2, 6, 1, 2], [5, 7, 2, 6]),  # the longer match, not the later one
        ([2, 5, 2, 6, 2], [5, 2, 6, 2]),  # the earliest of equals
        ([4, 4], [4]),
        ([4, 4, 4], [4]),  # the longest match ends at the end
        ([1, 2, 3], []),
        ([7], []),
    ],
)
def test_prompt_lookup_proposes_what_followed_the_longest_match(known, proposed):
    history = torch.tensor([[*known, *known, 0, 0]])  # what lies past the known tokens must not matter
    tokens, counts = look_up(history, torch.tensor([len(known)]), 4, 4)
    assert tokens[0, : counts[0]].tolist() == proposed


# cache


def test_a_shorter_length_rolls_a_row_back():
    target, _ = pair("llama", None, 2)
    first = target.prefill(0, torch.tensor(PROMPTS[1]))
    ten = torch.tensor([10])
    again = target.forward(torch.tensor([PROMPTS[1][10:]]), ten)[0, -1]
    torch.testing.assert_close(again, first)
    target.forward(torch.tensor([[5, 6, 7]]), ten)
    back = target.forward(torch.tensor([PROMPTS[1][10:]]), ten)[0, -1]
    torch.testing.assert_close(back, first)


def test_slots_outside_the_batch_are_not_touched():
    target, _ = pair("llama", None, 3)
    target.cache.fill_random(torch.Generator().manual_seed(0))
    before = [layer.keys.clone() for layer in target.cache.slot_layers]
    target.forward(torch.tensor([[5, 6]]), torch.tensor([4]), first=1)
    for layer, keys in zip(target.cache.slot_layers, before, strict=True):
        assert torch.equal(layer.keys[[0, 2]], keys[[0, 2]])
        assert torch.equal(layer.keys[1, :, :4], keys[1, :, :4])
        assert not torch.equal(layer.keys[1, :, 4:6], keys[1, :, 4:6])
        assert torch.equal(layer.keys[1, :, 6:], keys[1, :, 6:])


@pytest.mark.parametrize("chunk", [1, 4, 512])
def test_prefill_in_chunks_gives_the_same_logits(chunk):
    target, _ = pair("opt", None, 2)
    whole = target.prefill(0, torch.tensor(PROMPTS[1]))
    torch.testing.assert_close(target.prefill(1, torch.tensor(PROMPTS[1]), chunk=chunk), whole)


def test_sizes_are_counted_in_bytes():
    target, _ = pair("llama", None, 2)
    assert target.kv_bytes_per_token == 2 * 3 * 2 * 8 * 4  # keys and values, layers, heads, width, float32
    stored = sum(layer.keys.nbytes + layer.values.nbytes for layer in target.cache.slot_layers)
    assert stored == target.kv_bytes_per_token * 2 * ROOM
    assert target.weights_bytes == sum(p.nbytes for p in target_model("llama").parameters())


def test_more_room_than_positions_is_refused():
    with pytest.raises(LapsbenchError, match="256 positions"):
        Network(build("llama"), slots=1, room=300)


def test_a_sliding_window_is_refused_where_it_would_be_felt():
    shape = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    model = MistralForCausalLM(
        MistralConfig(**shape, num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=16)
    )
    with pytest.raises(LapsbenchError, match="sliding window of 16"):
        Network(model, slots=1, room=32)
    assert Network(model, slots=1, room=16).room == 16


# drafts made from the target


def test_kept_layers_share_the_targets_weights():
    target = build("llama")
    smaller = keep_layers(target, [0, 2])
    assert smaller.config.num_hidden_layers == 2
    assert smaller.lm_head.weight is target.lm_head.weight
    assert smaller.model.embed_tokens.weight is target.model.embed_tokens.weight
    assert smaller.model.layers[1].mlp.up_proj.weight is target.model.layers[2].mlp.up_proj.weight
    assert [layer.self_attn.layer_idx for layer in target.model.layers] == [0, 1, 2]


def test_dropping_a_layer_is_keeping_the_others():
    target, ids = build("opt"), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        dropped, kept = (draft(ids).logits for draft in (drop_layers(target, [1]), keep_layers(target, [0, 2])))
    assert torch.equal(dropped, kept)


def test_4_bits_round_the_layers_and_leave_the_head():
    target = build("llama")
    rounded = in_4_bits(target)
    weight, rough = target.model.layers[0].mlp.up_proj.weight, rounded.model.layers[0].mlp.up_proj.weight
    assert 0 < (weight - rough).abs().max() < (weight.amax(1) - weight.amin(1)).max() / 15
    assert all(len(row.unique()) <= 16 for row in rough)
    assert rounded.lm_head.weight is target.lm_head.weight


def test_4_bits_have_a_scale_for_each_group():
    weight = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    whole, grouped = round_to_4_bits(weight, 192), round_to_4_bits(weight, 4)
    assert (grouped - weight).abs().mean() < (whole - weight).abs().mean()
    assert torch.equal(round_to_4_bits(torch.ones(2, 5)), torch.ones(2, 5))


# draft specifications


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ngram:4", Ngram(4)),
        ("self:layers=0-3,29", Layers((0, 1, 2, 3, 29))),
        ("self:drop=13-16", Drop((13, 14, 15, 16))),
        ("self:int4", Int4()),
        ("arch:Llama-3.2-1B", Named("arch:Llama-3.2-1B")),
        ("owner/model", Named("owner/model")),
    ],
)
def test_a_draft_is_read_as_typed(text, spec):
    assert parse_draft(text) == spec


@pytest.mark.parametrize(
    "text",
    ["", " ", "ngram:", "ngram:0", "ngram:x", "ngram:99", "self:", "self:int8", "self:int4=1", "self:layers"],
)
def test_nonsense_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse_draft(text)
    assert str(caught.value).startswith("--draft: ")
    assert "ngram:4" in str(caught.value)


@pytest.mark.parametrize("numbers", ["", "3-1", "1,1", "a", "1,,2", "-1", "0-999999999"])
@pytest.mark.parametrize("kind", ["layers", "drop"])
def test_nonsense_for_layers_is_refused(kind, numbers):
    with pytest.raises(UsageError, match=f"self:{kind}={numbers}.*; try ngram:4"):
        parse_draft(f"self:{kind}={numbers}")


@pytest.mark.parametrize(("text", "message"), [("self:layers=0-3", "0 to 2, not 3"), ("self:drop=7", "not 7")])
def test_a_layer_the_target_lacks_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        pair("llama", text, 1)


def test_dropping_every_layer_is_refused():
    with pytest.raises(UsageError, match="no layers"):
        pair("llama", "self:drop=0-2", 1)


def test_a_draft_of_another_vocabulary_is_refused():
    target, _ = pair("llama", None, 1)
    other = build("qwen2", vocabulary=50)
    with pytest.raises(LapsbenchError, match=r"50 tokens in its vocabulary, the target 61"):
        make_draft(Named("other"), target, lambda _: other)
    with pytest.raises(LapsbenchError, match="vocabulary"):
        Decoder(target, ModelDraft(Network(other, slots=1, room=ROOM), "other"), 2)


def test_padding_of_the_vocabulary_may_differ():
    target, _ = pair("llama", None, 1)
    draft = make_draft(Named("padded"), target, lambda _: build("llama", vocabulary=64), vocabulary=VOCABULARY)
    assert draft.network.forward(torch.tensor([[1]]), torch.tensor([0])).shape == (1, 1, VOCABULARY)
    said = generate(Decoder(target, draft, 3), PROMPTS[:1], NEW)
    assert said.tokens == expected("llama", 1)


def test_labels_say_what_the_numbers_are_worth():
    assert pair("llama", "self:int4", 1)[1].label.endswith("no real speed: rounded, not packed)")
    assert pair("llama", "self:layers=0-1", 1)[1].label == "self:layers=0-1 (untrained)"
    assert pair("llama", "ngram:4", 1)[1].label == "ngram:4"


def test_a_draft_with_less_room_is_refused():
    target, _ = pair("llama", None, 2)
    small = Network(build("llama"), slots=1, room=ROOM)
    with pytest.raises(LapsbenchError, match="holds 1 sequences"):
        Decoder(target, ModelDraft(small, "small"), 2)


# graphs


def test_without_cuda_a_step_is_simply_called():
    runner, given_inputs = Runner(torch.device("cpu")), []

    def step(tokens):
        given_inputs.append(tokens)
        return tokens + 1

    tokens = torch.tensor([1])
    assert runner.call("step", 1, step, tokens).item() == 2
    assert runner.call("step", 1, lambda tokens: tokens + 5, tokens).item() == 6
    assert given_inputs == [tokens]
    assert not runner.captures
    runner.release()


class Recorder:
    """Stands in for torch.cuda where there is none: writes down what a capture asks for, in order."""

    def __init__(self):
        self.log = []

    def graph_pool_handle(self):
        self.log.append("pool")
        return len(self.log)

    def current_stream(self, _device):
        return self.Stream(None, "main")

    def stream(self, stream):
        return contextlib.nullcontext(self.log.append(f"on {stream.name}"))

    @contextlib.contextmanager
    def graph(self, _graph, pool):
        self.log.append(f"capture in {pool}")
        yield
        self.log.append("captured")

    def Stream(self, _device, name="side"):  # noqa: N802
        waits = lambda other: self.log.append(f"{name} waits for {other.name}")  # noqa: E731
        return SimpleNamespace(name=name, wait_stream=waits)

    def CUDAGraph(self):  # noqa: N802
        return SimpleNamespace(replay=lambda: self.log.append("replay"))


def test_capture_goes_by_the_book(monkeypatch):
    recorder, inputs = Recorder(), []
    for name in ("graph_pool_handle", "current_stream", "stream", "graph", "Stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, getattr(recorder, name))
    runner = Runner(torch.device("cuda"))
    assert runner.captures
    assert not Runner(torch.device("cuda"), eager=True).captures

    def step(tokens):
        inputs.append(tokens)
        recorder.log.append("step")
        return tokens + 1

    mine = torch.tensor([1])
    runner.call("draft", 1, step, mine)
    book = ["side waits for main", "on side", *["step"] * 3, "main waits for side", "pool"]
    assert recorder.log[:7] == book
    assert recorder.log[7:] == ["capture in 7", "step", "captured", "replay"]
    assert mine is not inputs[0], "a graph has inputs of its own"
    assert all(tokens is inputs[0] for tokens in inputs)
    runner.call("draft", 1, step, torch.tensor([41]))
    assert recorder.log[11:] == ["replay"]
    assert inputs[0].item() == 41
    assert mine.item() == 1
    for name, shape in (("draft", 2), ("verify", 1)):
        runner.call(name, shape, step, mine)
    captures = [line for line in recorder.log if line.startswith("capture in")]
    assert captures[0] == captures[1] != captures[2], "steps share no memory, shapes of a step do"
    with pytest.raises(ValueError, match="argument"):
        runner.call("draft", 1, step, mine, mine)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("draft", ["twin", "ngram:4"])
def test_captured_steps_say_what_eager_ones_say(draft):
    model = build("llama").to("cuda")
    target = Network(model, slots=4, room=ROOM)
    twin = ModelDraft(Network(build("llama").to("cuda"), slots=4, room=ROOM), "twin")
    drafting = twin if draft == "twin" else make_draft(parse_draft(draft), target, load=None)
    said = [generate(Decoder(target, drafting, 4, eager=eager), PROMPTS[:6], NEW).outputs for eager in (True, False)]
    assert said[0] == said[1]


def test_configs_are_what_the_tests_say():
    assert config("llama").num_key_value_heads < config("llama").num_attention_heads  # grouped queries are tested
