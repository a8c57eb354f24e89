"""Models by name: what is loaded, what is known about it, and one line for whatever is wrong."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny
import torch
from huggingface_hub import constants

from lapsbench.errors import LapsbenchError
from lapsbench.models import gguf_cache, sources
from lapsbench.models.architectures import ARCHITECTURES, Architecture
from lapsbench.models.gguf_cache import digest
from lapsbench.models.sources import load_draft, load_target

torch.set_num_threads(1)

CPU, META = torch.device("cpu"), torch.device("meta")
PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-0.5b": 494_032_768,
    "vicuna-7b": 6_738_415_616,
    "vicuna-68m": 68_030_208,
    "opt-6.7b": 6_658_473_984,
    "opt-125m": 125_239_296,
}


def load(name, dtype=torch.float32, device=CPU, **options):
    return load_target(name, device=device, dtype=dtype, **options)


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tmp_path / "tiny")


@pytest.fixture
def small(monkeypatch):
    """An architecture that fits a test: 50 tokens of 64 count."""
    sizes = tiny.config(64).to_dict()
    monkeypatch.setitem(ARCHITECTURES, "small", Architecture("nobody/small", 50, tiny.LlamaConfig, sizes))
    return "arch:small"


def refusal(call, *args, **options):
    """The one line a call is refused with."""
    with pytest.raises(LapsbenchError) as caught:
        call(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


# what is loaded


def test_a_folder_gives_model_tokenizer_and_facts(folder, capsys):
    loaded = load(folder)
    assert (loaded.label, loaded.random, loaded.eos, loaded.vocabulary) == ("tiny", False, (1,), 60)
    assert loaded.parameters == sum(parameter.numel() for parameter in tiny.model().parameters())
    assert loaded.weights_bytes == 4 * loaded.parameters
    assert loaded.tokenizer.decode(loaded.tokenizer("abc")["input_ids"]) == "a b c"
    json.dumps(dict(loaded.facts))
    assert capsys.readouterr() == ("", "")


def test_the_weights_come_in_the_dtype_asked_for(folder):
    loaded = load(folder, torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert loaded.weights_bytes == 2 * loaded.parameters


def test_a_folder_without_tokenizer_loads(tmp_path):
    assert load(tiny.save(tmp_path / "bare", letters=None)).tokenizer is None


def test_facts_tell_other_weights_of_the_same_sizes_apart(tmp_path):
    one, same, other = (
        load(tiny.save(tmp_path / name, seed=seed)).facts for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one["weights_sample_sha256"] == same["weights_sample_sha256"] != other["weights_sample_sha256"]
    assert one["config_sha256"] == same["config_sha256"] == other["config_sha256"]


def test_a_model_may_end_in_several_tokens(tmp_path):
    assert load(tiny.save(tmp_path / "two", eos_token_id=[1, 7])).eos == (1, 7)


def test_on_meta_a_model_has_sizes_and_no_weights(folder):
    outline, loaded = load(folder, device=META), load(folder)
    assert outline.device == META
    assert (outline.parameters, outline.weights_bytes) == (loaded.parameters, loaded.weights_bytes)
    assert outline.facts["config_sha256"] == loaded.facts["config_sha256"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_architectures_have_the_published_number_of_weights(name):
    loaded = load(f"arch:{name}", torch.bfloat16, META)
    assert loaded.parameters == PUBLISHED[name]
    assert loaded.random


def test_no_architecture_is_untested():
    assert set(ARCHITECTURES) == set(PUBLISHED)


def test_random_weights_are_seeded_and_leave_torch_alone(small):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = load(small, seed=1), load(small, seed=1), load(small, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.facts["weights_sample_sha256"] == same.facts["weights_sample_sha256"]
    assert one.facts["weights_sample_sha256"] != other.facts["weights_sample_sha256"]
    assert load(small, torch.float16).dtype == torch.float16
    assert "costs only" in one.label


def test_a_gguf_converted_before_is_not_converted_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPSBENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF, or so it says")
    tiny.save(tmp_path / "cache" / "models" / f"model-{digest(file)[:16]}-float32")
    loaded = load(str(file))
    assert (loaded.label, loaded.facts["gguf_sha256"]) == ("model", digest(file))


# drafts


@pytest.mark.parametrize("name", ["self:layers=0", "self:drop=1", "self:int4", "ngram:4"])
def test_drafts_made_from_the_target_need_no_loading(folder, name):
    draft = load_draft(name, load(folder))
    assert draft.loaded is None
    assert not draft.random
    assert draft.attach(load(folder).network(2, 64)).label.startswith(name)


def test_a_draft_of_its_own_gets_the_targets_slots_and_room(folder, tmp_path):
    target = load(folder)
    draft = load_draft(tiny.save(tmp_path / "draft", seed=1, num_hidden_layers=1), target)
    network = draft.attach(target.network(3, 64)).network
    assert (network.slots, network.room) == (3, 64)


def test_a_draft_made_from_random_weights_is_random(small):
    assert load_draft("self:drop=1", load(small)).random
    assert load_draft(small, load(small)).random


def test_embeddings_padded_differently_are_one_vocabulary(small, monkeypatch):
    sizes = tiny.config(56).to_dict()
    monkeypatch.setitem(ARCHITECTURES, "less", Architecture("nobody/less", 50, tiny.LlamaConfig, sizes))
    target = load(small)
    draft = load_draft("arch:less", target)
    assert draft.attach(target.network(1, 64)).network.vocabulary == 50


def test_another_vocabulary_is_refused(folder, tmp_path):
    other = tiny.save(tmp_path / "other", vocabulary=50, letters=tiny.LETTERS[:46])
    text = refusal(load_draft, other, load(folder))
    assert "50 tokens is not the target's of 60" in text


def test_a_vocabulary_of_the_same_size_and_other_words_is_refused(folder, tmp_path):
    assert "vocabulary" in refusal(load_draft, tiny.save(tmp_path / "other", letters=tiny.LETTERS[::-1]), load(folder))


# what can be wrong


def test_an_unknown_architecture_names_the_known_ones():
    text = refusal(load, "arch:gpt-17")
    assert all(name in text for name in ("gpt-17", *ARCHITECTURES))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "not the name of a model"),
        ("/no/such/folder", "no such folder"),
        ("no/such/file.gguf", "no such file"),
        ("pypi:no-such-package", "pip install"),
        ("pypi:", "no such package"),
        ("pypi:numpy", "0 GGUF files"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name, said):
    assert said in refusal(load, name)


def test_the_hub_out_of_reach_is_said(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text = refusal(load, "nobody/nothing-of-the-sort")
    assert "cannot be reached" in text
    assert "folder" in text


def test_a_folder_without_config_is_refused(tmp_path):
    assert "no config.json" in refusal(load, str(tmp_path))
    (tmp_path / "model.gguf").touch()
    assert refusal(load, str(tmp_path)).endswith("try " + str(tmp_path / "model.gguf"))


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "no-such-thing"}', '{"model_type": "vit"}'])
def test_a_config_that_says_nothing_useful_is_refused(folder, tmp_path, text):
    (tmp_path / "tiny" / "config.json").write_text(text)
    assert "cannot be loaded" in refusal(load, folder)


def test_a_package_that_loading_needs_is_named(folder, monkeypatch):
    def fail(*args, **options):
        raise ValueError("accelerate is required when loading a GGUF file `pip install accelerate`.")

    monkeypatch.setattr(sources.AutoConfig, "from_pretrained", fail)
    assert refusal(load, folder).endswith("try pip install accelerate")


def test_cut_off_weights_are_refused(folder, tmp_path):
    weights = tmp_path / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "cannot be loaded" in refusal(load, folder)


def test_weights_that_are_not_there_are_refused(folder, tmp_path):
    (tmp_path / "tiny" / "model.safetensors").unlink()
    assert "cannot be loaded" in refusal(load, folder)


def test_weights_for_fewer_layers_are_refused_not_made_up(folder, tmp_path):
    file = tmp_path / "tiny" / "config.json"
    file.write_text(file.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    assert "weights are missing" in refusal(load, folder)


def test_gguf_without_its_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_cache.importlib.util, "find_spec", lambda _: None)
    (tmp_path / "model.gguf").touch()
    assert refusal(load, str(tmp_path / "model.gguf")).endswith("try pip install gguf")


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing_behind(tmp_path, monkeypatch):
    pytest.importorskip("gguf", reason="reads GGUF files: pip install gguf accelerate")
    monkeypatch.setenv("LAPSBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"not at all" * 100)
    assert "model.gguf" in refusal(load, str(tmp_path / "model.gguf"))
    assert not list((tmp_path / "cache").rglob("*.part"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory_is_said(small, monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(sources, "build", fail)
    assert "do not fit into the memory of cpu" in refusal(load, small)
