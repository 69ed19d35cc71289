"""Checks of the chapter *pipeline*."""

from collections.abc import Callable

import torch
from torch import Tensor

from llmcourse.checks.base import check, check_shape


@check
def shift(fn: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check a function that cuts windows into inputs and targets.

    Args:
        fn: Maps (B, T + 1) ids to two tensors of (B, T) ids.
    """
    windows = torch.tensor([[7, 3, 9, 4], [1, 1, 2, 8]])
    ids, targets = fn(windows)
    assert ids.shape == targets.shape == (2, 3), (
        "four tokens make three examples: the first three are read, each of the last "
        f"three is predicted once; the shapes are {[*ids.shape]} and {[*targets.shape]}"
    )
    assert ids.dtype == targets.dtype == windows.dtype, "ids are whole numbers"
    assert not torch.equal(ids, targets), (
        "inputs and targets are the same: the model would only have to copy"
    )
    assert torch.equal(ids, windows[:, :-1]), "the model reads all tokens but the last"
    assert torch.equal(targets, windows[:, 1:]), (
        "the target at each place is the token one place further on"
    )


@check
def bigram_probs(fn: Callable[[Tensor, int], Tensor]) -> None:
    """Check a function that estimates a bigram model by counting.

    Args:
        fn: Maps ids and the vocabulary's size V to a table (V, V) of probabilities.
    """
    ids = torch.tensor([0, 1, 0, 2, 0, 1])
    table = fn(ids, 5).float()
    each = "every token needs a row and a column, also one that never occurs"
    check_shape(table, (5, 5), each)
    sums = table.sum(dim=1)
    assert torch.allclose(sums, torch.ones(5)), (
        "each row is a distribution over what comes next and must sum to 1; "
        f"the sums of the rows are {[round(x, 3) for x in sums.tolist()]}"
    )
    assert bool((table > 0).all()), (
        "a pair that was not seen has probability 0, and its loss would be infinite: "
        "add one to every count"
    )
    wanted = torch.tensor([1.0, 3.0, 2.0, 1.0, 1.0]) / 8
    assert torch.allclose(table[0], wanted), (
        "after 0 came 1 twice and 2 once; with one added to each count the row is "
        f"(1, 3, 2, 1, 1)/8, got {[round(x, 3) for x in table[0].tolist()]}"
    )
    wanted = torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0]) / 6
    assert torch.allclose(table[1], wanted), (
        "after 1 came 0 once, and after the 1 at the end came nothing: the row is "
        f"(2, 1, 1, 1, 1)/6, got {[round(x, 3) for x in table[1].tolist()]}"
    )
