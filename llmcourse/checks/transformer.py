"""Checks of the chapter *transformer*."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import isclose

import torch
from torch import Tensor
from torch.nn.functional import layer_norm as torch_layer_norm
from torch.nn.functional import scaled_dot_product_attention

from llmcourse.checks.base import check, check_shape
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.positions import apply_rope, rope_tables
from llmcourse.model.transformer import TINY, Transformer, TransformerConfig


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _near(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=1e-4)


@check
def cached_mask(fn: Callable[[int, int], Tensor]) -> None:
    """Check a causal mask for queries that are the last of the keys' positions.

    Args:
        fn: From the numbers of queries and keys to True where a query may look.

    Raises:
        AssertionError: If it is wrong; the text says why.
    """
    mask = fn(2, 5)
    check_shape(mask, (2, 5), "one row for each query, one column for each key")
    assert mask.dtype == torch.bool, f"a mask holds True and False, got {mask.dtype}"
    assert bool(mask[0, 0]), (
        "True means: may look. Every query may look at the first position"
    )
    assert not bool(mask[0, 4]), (
        "with 2 queries and 5 keys the first query stands at the fourth position: "
        "the fifth key is its future"
    )
    assert bool(mask[0, 3]), "a query may look at its own position"
    assert mask.int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], (
        "the queries are the last of the keys' positions, the fourth and the fifth "
        f"here; got {mask.int().tolist()}"
    )
    assert torch.equal(fn(4, 4), torch.ones(4, 4).tril().bool()), (
        "with as many queries as keys it is the lower triangle"
    )
    assert bool(fn(1, 6).all()), "a single query is the last position: it sees all"


def _torch_head(
    x: Tensor,
    matrices: list[Tensor],
    is_causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    query, key, value = ((x @ matrix)[None] for matrix in matrices)
    return scaled_dot_product_attention(
        query, key, value, is_causal=is_causal, scale=scale
    )[0]


@check
def attention_head(fn: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check one causal attention head.

    Args:
        fn: From (T, D) vectors and three (D, d_head) matrices, for queries, keys and
            values, to (T, d_head) context vectors.

    Raises:
        AssertionError: If it is wrong; the text says why.
    """
    x, matrices = _random(7, 6, seed=8), [_random(6, 5, seed=i) for i in (1, 2, 3)]
    got = fn(x, *matrices)
    check_shape(got, (7, 5), "one vector of the head's width for each position")
    right = partial(_torch_head, x, matrices)
    assert not _near(got, right(is_causal=False)), (
        "every position looks at its future, too: mask the scores before the softmax"
    )
    assert not _near(got, right(scale=1.0)), (
        "divide the scores by the root of the head's width: without it wide heads "
        "have large scores, and a softmax of large scores looks at one position only"
    )
    assert not _near(got, right(scale=6**-0.5)), (
        "divide by the root of the head's width, 5, not of the model's, 6: the score "
        "is a sum over the head's coordinates"
    )
    assert _near(got[0], x[0] @ matrices[2]), (
        "the first position sees itself alone, so its context is its own value: the "
        "weights of each row must sum to one over the positions that it may see"
    )
    assert _near(got, right()), (
        "the context is softmax(query · key / √d_head) times the values, row by row"
    )
    assert _near(fn(10 * x, *matrices), _torch_head(10 * x, matrices)), (
        "scores may be in the hundreds: mask with -inf, and take torch's softmax or "
        "subtract each row's largest score, for e to the 100 is infinite"
    )


@check
def layer_norm(fn: Callable[[Tensor], Tensor]) -> None:
    """Check a LayerNorm without weight and bias, with 1e-5 added to the variance.

    Args:
        fn: From vectors, in the last dimension, to normalised vectors.

    Raises:
        AssertionError: If it is wrong; the text says why.
    """
    x = 3 * _random(2, 5, 4, seed=0) + 7
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
    assert _near(fn(flat), torch.zeros(1, 4)), (
        "a vector of equal coordinates has variance 0 and must become 0: add eps "
        "before the root is taken"
    )
    small = 1e-3 * _random(3, 4, seed=1)
    assert _near(fn(small), torch_layer_norm(small, (4,))), (
        "eps, 1e-5, is added to the variance, not to the deviation"
    )


@check
def rope_score(fn: Callable[[Tensor, Tensor, int], float]) -> None:
    """Check a function that scores a query and a key by their distance alone.

    Args:
        fn: From a query, a key, each (d_head,), and how far the key lies behind the
            query, in tokens, to the dot product of the two after RoPE.

    Raises:
        AssertionError: If it is wrong; the text says why.
    """
    query, key = _random(8, seed=0), _random(8, seed=1)
    cos, sin = rope_tables(401, d_head=8)

    def turned(x: Tensor, position: int) -> Tensor:
        here = slice(position, position + 1)
        return apply_rope(x[None], cos[here], sin[here])[0]

    assert isclose(fn(query, key, 0), query @ key, abs_tol=1e-4), (
        "at distance 0 both are turned by the same angles, and the dot product is what "
        "it was before"
    )
    backwards = turned(query, 0) @ turned(key, 7)
    assert not isclose(fn(query, key, 7), backwards, abs_tol=1e-4), (
        "this is the score of a key that lies 7 tokens after the query: turn the query "
        "forwards, or the key backwards"
    )
    for position, distance in ((7, 7), (20, 7), (400, 390)):
        right = turned(query, position) @ turned(key, position - distance)
        got = fn(query, key, distance)
        assert isclose(got, right, abs_tol=1e-4), (
            f"query at {position}, key at {position - distance}: RoPE's score is "
            f"{right:.4f}, you got {got:.4f}; coordinate i is paired with "
            "i + d_head / 2, and pair i turns by distance · 10,000^(-2i / d_head)"
        )


@check
def parameter_count(fn: Callable[[TransformerConfig], int]) -> None:
    """Check a closed form for the parameters of a model of Llama's shape.

    Args:
        fn: From a config to the number of parameters.

    Raises:
        AssertionError: If it is wrong; the text says why.
    """
    grouped = replace(TINY, n_kv_heads=1)
    untied = replace(TINY, tied_embeddings=False)
    lopsided = TransformerConfig(
        vocab_size=37, d_model=24, n_layers=3, n_heads=6, n_kv_heads=2, d_ff=20
    )
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
        fn: From a model, the ids of a prompt (T,) and a number n to the n ids that the
            model writes, each the most probable one.

    Raises:
        AssertionError: If it is wrong; the text says why.
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
