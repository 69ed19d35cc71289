"""Checks of the chapter *attention*."""

from collections.abc import Callable
from functools import partial
from math import isclose
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from llmcourse.checks.base import check, check_shape, near, random
from llmcourse.model.positions import apply_rope, rope_tables


@check
def cached_mask(fn: Callable[[int, int], Tensor]) -> None:
    """Check a causal mask for queries at the last of the keys' positions.

    Args:
        fn: Maps the numbers of queries and keys to a mask, True where a query may look.
    """
    mask = fn(2, 5)
    check_shape(mask, (2, 5), "one row for each query, one column for each key")
    assert mask.dtype == torch.bool, f"a mask holds True and False, got {mask.dtype}"
    assert bool(mask[0, 0]), (
        "True means: may look. Every query may look at the first position"
    )
    assert not bool(mask[0, 4]), (
        "with 2 queries and 5 keys the first query is at the fourth position: "
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


def _torch_head(x: Tensor, matrices: list[Tensor], **options: Any) -> Tensor:
    query, key, value = ((x @ matrix)[None] for matrix in matrices)
    options = {"is_causal": True} | options
    return scaled_dot_product_attention(query, key, value, **options)[0]


@check
def attention_head(fn: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check one causal attention head.

    Args:
        fn: Maps (T, D) vectors and three (D, d_head) matrices, for queries, keys and
            values, to (T, d_head) context vectors.
    """
    x, matrices = random(7, 6, seed=8), [random(6, 5, seed=i) for i in (1, 2, 3)]
    got = fn(x, *matrices)
    check_shape(got, (7, 5), "one vector of the head's width for each position")
    right = partial(_torch_head, x, matrices)
    assert not near(got, right(is_causal=False)), (
        "every position looks at its future, too: mask the scores before the softmax"
    )
    assert not near(got, right(scale=1.0)), (
        "divide the scores by the root of the head's width: without it wide heads "
        "have large scores, and a softmax of large scores looks at one position only"
    )
    assert not near(got, right(scale=6**-0.5)), (
        "divide by the root of the head's width, 5, not of the model's, 6: the score "
        "is a sum over the head's coordinates"
    )
    assert near(got[0], x[0] @ matrices[2]), (
        "the first position sees itself alone, so its context is its own value: the "
        "weights of each row must sum to one over the positions that it may see"
    )
    assert near(got, right()), (
        "the context is softmax(query · key / √d_head) times the values, row by row"
    )
    assert near(fn(10 * x, *matrices), _torch_head(10 * x, matrices)), (
        "scores may be in the hundreds: mask with -inf, and take torch's softmax or "
        "subtract each row's largest score, for e to the 100 is infinite"
    )


@check
def rope_score(fn: Callable[[Tensor, Tensor, int], float]) -> None:
    """Check a function that scores a query and a key by their distance alone.

    Args:
        fn: Maps a query and a key, each (d_head,), and how many tokens the key comes
            before the query to their dot product after RoPE.
    """
    query, key = random(8, seed=0), random(8, seed=1)
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
