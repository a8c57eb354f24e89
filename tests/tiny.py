"""Tiny models with a tokenizer of letters, saved as folders: what a user would name on the command line."""

from __future__ import annotations

import string

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LETTERS = string.ascii_letters + " .?!"
TEMPLATE = (
    "{% for message in messages %}<{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
)


def tokenizer(letters=LETTERS, template=None):
    words = ["[unk]", "[end]", "<", ">", *letters]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[unk]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[unk]", eos_token="[end]")
    fast.chat_template = template
    return fast


def config(vocabulary=60, **changes):
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3}
    tokens = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": None}
    return LlamaConfig(**(shape | tokens | changes))


def model(seed=0, noise=0.0, **changes):
    """A random model, or one with noise on the weights of the model of that seed: a draft that is often right."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = LlamaForCausalLM(config(**changes)).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(noise * torch.randn(parameter.shape))
    return made


def save(folder, seed=0, noise=0.0, letters=LETTERS, template=TEMPLATE, **changes):
    """Save model and tokenizer; return the folder as text. `letters=None` for no tokenizer."""
    model(seed, noise, **changes).save_pretrained(folder)
    if letters is not None:
        tokenizer(letters, template).save_pretrained(folder)
    return str(folder)
