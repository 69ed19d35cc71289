"""A start from which a model soon learns to copy what it has read.

    … her crimson cardigan … in her ?       the colour stands 30 tokens back

To say "crimson" again, a head must find the colour, and hand on what it found. Each
half is useless without the other, so from random weights neither gets a gradient
worth the name: loss stays on a plateau, where every fact is a guess among its kind.
The heads of the last block start here with the second half in place:

    query, key      almost 0      every token read is found alike
    value, output   V, Vᵀ         whatever is found is handed on as it is

A mean over all tokens, handed on, is of little use, but of some: finding the right
one has a gradient from the first step.
"""

import torch
from torch import nn

from llmcourse.transformer import Block, Transformer

_FIND = 0.01  # deviation of query's and key's weights; usual is 1 / √d_model
_HAND_ON = 3.0  # length of value's and output's vectors: out of the noise's reach
_EMBEDDING = 1.0  # deviation: as large as what the blocks will add, so not drowned


@torch.no_grad()
def start_copying(model: Transformer, generator: torch.Generator | None = None) -> None:
    """Give a new model the start described above; change it in place.

    Its embeddings become ten times as large, for a token cannot be handed on if it
    cannot be made out in the residual stream; the last norm makes up for it, so the
    first guesses stay "all tokens alike" if embeddings also score. Train them at
    `embedding_speed` 4 or so: AdamW's steps do not grow with what they change.

    Args:
        model: Just made; what it may have learned in its last block is lost.
        generator: Draws V; None draws from torch's global one.

    Source: Trockman and Kolter (2023), "Mimetic initialization of self-attention
    layers", found such products in trained models; here only those of the last block.

    >>> from llmcourse.transformer import TINY
    >>> model = Transformer(TINY)
    >>> start_copying(model)
    >>> heads = model.blocks[-1].attention
    >>> handed_on = heads.output.weight @ heads.value.weight  # (d_model, d_model)
    >>> torch.allclose(handed_on, handed_on.T, atol=1e-5)
    True
    """
    scale = _EMBEDDING / model.embedding.weight.std()
    model.embedding.weight.mul_(scale)
    if model.unembedding is None:
        model.norm.weight.div_(scale)
    block = model.blocks[-1]
    assert isinstance(block, Block)
    attention = block.attention
    n_kv_heads = model.config.n_kv_heads
    n_groups = model.config.n_heads // n_kv_heads
    wide = torch.empty(attention.value.weight.shape)
    nn.init.orthogonal_(wide, generator=generator)  # rows, (n_kv_heads · d_head, D)
    attention.value.weight.copy_(_HAND_ON * wide)
    per_head = wide.view(n_kv_heads, -1, wide.shape[1])
    per_query_head = per_head.repeat_interleave(n_groups, dim=0).flatten(0, 1)
    attention.output.weight.copy_(_HAND_ON / n_groups * per_query_head.T)
    for finder in (attention.query, attention.key):
        nn.init.normal_(finder.weight, std=_FIND, generator=generator)
