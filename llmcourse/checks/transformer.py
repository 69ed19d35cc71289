"""Checks of the chapter *transformer*."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import layer_norm as torch_layer_norm

from llmcourse.checks.base import check, check_shape, near, random
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.transformer import TINY, Transformer, TransformerConfig


@check
def layer_norm(fn: Callable[[Tensor], Tensor]) -> None:
    """Check a LayerNorm without weight and bias, with 1e-5 added to the variance.

    Args:
        fn: Maps vectors (in the last dimension) to normalised vectors.
    """
    x = 3 * random(2, 5, 4, seed=0) + 7
    got = fn(x)
    check_shape(got, x.shape, "the shape stays as it is")
    means = got.mean(dim=-1)
    assert bool((means.abs() < 1e-3).all()), (
        "each vector's coordinates must have mean 0: subtract the mean over the last "
        f"dimension first; the farthest from 0 is {means.abs().max():.3f}"
    )
    mean_squares = got.square().mean(dim=-1)
    assert not bool(((mean_squares - 3 / 4).abs() < 1e-2).all()), (
        "the squares are divided by 3, one less than there are coordinates: take their "
        "mean over all 4"
    )
    assert bool(((mean_squares - 1).abs() < 1e-2).all()), (
        "each vector's mean square must be 1 after centring, the first one's is "
        f"{mean_squares[0, 0]:.3f}"
    )
    flat = torch.full((1, 4), 2.0)
    assert near(fn(flat), torch.zeros(1, 4)), (
        "a vector of equal coordinates has variance 0 and must become 0: add eps "
        "before the root is taken"
    )
    small = 1e-3 * random(3, 4, seed=1)
    assert near(fn(small), torch_layer_norm(small, (4,))), (
        "eps, 1e-5, is added to the variance, not to the deviation"
    )


@check
def parameter_count(fn: Callable[[TransformerConfig], int]) -> None:
    """Check a formula for the parameters of a model of Llama's form.

    Args:
        fn: Maps a config to the number of parameters.
    """
    grouped = replace(TINY, n_kv_heads=1)
    untied = replace(TINY, tied_embeddings=False)
    lopsided = replace(
        TINY, vocab_size=37, d_model=24, n_layers=3, n_heads=6, n_kv_heads=2, d_ff=20
    )
    lopsided = replace(lopsided, head_width=8)
    lessons = {
        TINY: (
            "embedding V · D, once for reading and scoring; in each block query, key, "
            "value and output of D · D, three matrices of D · F, two norms of D; one "
            "norm at the end"
        ),
        grouped: "key and value have n_kv_heads heads only: D · n_kv_heads · d_head",
        untied: "untied embeddings have a second matrix of V · D to score with",
        lopsided: "all sizes differ here: which of them did you take for another?",
    }
    for config, lesson in lessons.items():
        right = sum(weight.numel() for weight in Transformer(config).parameters())
        got = fn(config)
        assert got == right, (
            f"the model has {right:,} parameters, got {got:,}, which is "
            f"{got - right:+,}. {lesson}"
        )


@check
def write_with_cache(fn: Callable[[Transformer, Tensor, int], Sequence[int]]) -> None:
    """Check greedy decoding with a key-value cache.

    Args:
        fn: Maps a model, the ids of a prompt (T,) and a number n to the n ids that the
            model writes, each the most probable next one.
    """
    model = Transformer(TINY, torch.Generator().manual_seed(0)).eval()
    prompt, n_new = torch.tensor([5, 0, 3, 3]), 6
    ids = generate(model, prompt, n_new, sampling=GREEDY).tolist()
    read: list[int] = []
    hook = model.embedding.register_forward_hook(
        lambda _, inputs, output: read.append(inputs[0].numel())
    )
    try:
        got = fn(model, prompt, n_new)
    finally:
        hook.remove()
    right = ids[len(prompt) :]
    assert got != ids, "return the new tokens only, without the prompt"
    assert len(got) == n_new, f"{n_new} new tokens were asked for, got {len(got)}"
    assert sum(read) < sum(range(len(prompt), len(ids))), (
        f"the model read {sum(read)} positions, the whole text again for each token: "
        "give it a cache, and after the prompt only the newest token"
    )
    assert got == right, (
        f"without a cache the model writes {right}, got {got}: each new token is read "
        "once, in order, right after it was written"
    )
    enough = len(prompt) + n_new - 1
    assert sum(read) in (enough, enough + 1), (
        f"{enough} positions have to be read, the prompt and all new tokens but the "
        f"last, got {sum(read)}"
    )
