"""What a model says of answers that are already written, by reading them once.

    prompt answer ── layers ──┬── unembedding ── log-probability, entropy
                              └── value head ── what will the answer be worth?

Row and column of every result are those of the answers: at a token's place stands what
the model said of it before it had read it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from llmcourse.advantages import Mask, PerToken
from llmcourse.classification import Classifier
from llmcourse.policy_losses import entropy
from llmcourse.transformer import Transformer


class Scores(NamedTuple):
    """What a model says of answers; 0 where there is no token of one."""

    log_probs: PerToken  # in nats
    entropy: PerToken  # of the next token's distribution, in nats
    features: Float[Tensor, "token d_model"]  # of what came before, tokens in order


class Scorer:
    """Reads answers with a model, whose logits it computes only where they count.

    Args:
        model: Its layers are used, not copied.

    >>> from llmcourse.transformer import TINY
    >>> scorer = Scorer(Transformer(TINY))
    >>> ids, mask = torch.tensor([[5, 0, 3]]), torch.tensor([[False, False, True]])
    >>> scorer(ids, mask).log_probs.shape
    torch.Size([1, 3])
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        own = torch.Generator(model.embedding.weight.device)
        self._body = Classifier(model, n_classes=1, generator=own).body

    def __call__(
        self, ids: Int[Tensor, "batch position"], mask: Bool[Tensor, "batch position"]
    ) -> Scores:
        """Return what the model says of the tokens where the mask is True.

        Raises:
            ValueError: If the first token of a row counts, as nothing comes before
                it; or as `Transformer`.
        """
        if bool(mask[:, 0].any()):
            raise ValueError("an answer needs a prompt before it, got mask True at 0")
        features = self._body(ids[:, :-1])[mask[:, 1:]]  # (N, D)
        unembedding = self.model.unembedding
        scorer = self.model.embedding if unembedding is None else unembedding
        logits = linear(features, scorer.weight).float()  # (N, V)
        drawn = logits.log_softmax(dim=-1).gather(1, ids[mask][:, None])[:, 0]
        return Scores(
            log_probs=spread(drawn, mask),
            entropy=spread(entropy(logits), mask),
            features=features,
        )

    def in_parts(
        self,
        ids: Int[Tensor, "batch position"],
        mask: Bool[Tensor, "batch position"],
        size: int,
    ) -> Iterator[Scores]:
        """Yield the scores of `size` answers at a time, so that memory lasts.

        Raises:
            ValueError: As for all at once.
        """
        for start in range(0, len(ids), size):
            yield self(ids[start : start + size], mask[start : start + size])


def spread(values: Float[Tensor, "token"], mask: Mask) -> PerToken:
    """Return values at the places where a mask is True, in order, and 0 elsewhere.

    >>> spread(torch.tensor([5.0, 7.0]), torch.tensor([[False, True], [True, False]]))
    tensor([[0., 5.],
            [7., 0.]])
    """
    grid = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return grid.masked_scatter(mask, values)


class ValueHead(nn.Module):
    """Guesses from a policy's features what the answer will be worth, in points.

    Its gradient goes no further than the head: guessing well must not cost the policy
    what it knows. One hidden layer makes up for that.

    Args:
        d_model: Width of the features.
        generator: Source of the first weights; None draws from torch's global one.
    """

    def __init__(self, d_model: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(2 * d_model, 1)
        nn.init.normal_(self.hidden.weight, std=d_model**-0.5, generator=generator)
        for weight in (self.hidden.bias, self.output.weight, self.output.bias):
            nn.init.zeros_(weight)

    def forward(
        self, features: Float[Tensor, "token d_model"]
    ) -> Float[Tensor, "token"]:
        """Return a value for each of the features, in points."""
        values: Tensor = self.output(gelu(self.hidden(features.detach())))
        return values[:, 0]
