"""A text as one vector: what a language model makes of it, averaged.

    ids ── model ── a vector for each position ── mean ── length 1

The vectors are those from which the next token would be predicted, so texts whose
continuations are alike lie close to each other.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from llmcourse.inspection import hidden_states
from llmcourse.transformer import Transformer


@torch.no_grad()
def text_vector(model: Transformer, ids: list[int]) -> Float[Tensor, "d_model"]:
    """Return the vector of a text, of length 1 (no unit).

    Args:
        model: Reads the text.
        ids: Of the text.

    Raises:
        ValueError: If there are no ids, or as the model.

    >>> from llmcourse.transformer import TINY
    >>> round(text_vector(Transformer(TINY), [4, 8, 15]).norm().item(), 5)
    1.0
    """
    if not ids:
        raise ValueError("a text needs at least one token to be a vector, got none")
    stream = hidden_states(model, torch.tensor(ids))[-1]  # (T, D)
    last: Tensor = model.norm(stream)
    return normalize(last.mean(dim=0), dim=0)
