"""Small models of both families, with weights drawn from a seed, and a tokenizer."""

from dataclasses import replace
from functools import cache

import torch

from llmcourse.model.generation import GREEDY, draw
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

LLAMA = TransformerConfig(
    vocab_size=262,
    d_model=24,
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    d_ff=20,
    context_length=11,
)
SMALL = TransformerConfig(
    vocab_size=13,
    d_model=16,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    d_ff=20,
    context_length=9,
)
CONFIGS = {"llama": LLAMA, "gpt2": replace(LLAMA, family="gpt2", n_kv_heads=6)}
IDS = torch.tensor([[5, 261, 0, 17, 3, 200, 41], [9, 9, 1, 30, 77, 2, 8]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_model(family="llama", **sizes):
    return Transformer(replace(CONFIGS[family], **sizes), seeded()).eval()


@cache
def make_tokenizer():
    return BPETokenizer.train(["low lower lowest"], LLAMA.vocab_size, [END_OF_TEXT])


@torch.no_grad()
def generate_uncached(model, ids, max_new_tokens, sampling=GREEDY, generator=None):
    """Return what `generate` does, everything read again at each step."""
    written = ids if ids.ndim == 2 else ids[None]
    for _ in range(max_new_tokens):
        new = draw(model(written)[:, -1], sampling, generator)
        written = torch.cat((written, new), dim=1)
    return written if ids.ndim == 2 else written[0]


def weights_of(model):
    return {name: w.detach().clone() for name, w in model.state_dict().items()}


def with_random_weights(model):
    """Give a model weights that are all of some size; return it."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            mean = 1.0 if weight.ndim == 1 else 0.0  # near one, as norms are
            weight.normal_(mean, 0.2, generator=generator)
    return model.eval()
