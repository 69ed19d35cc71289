"""What there is to learn from: answers, how likely they were, how they were judged."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from llmcourse.advantages import Mask, PerToken


class UpdateRecord(NamedTuple):
    """What one update found."""

    entropy: float  # in nats per token
    clip_fraction: float
    value_loss: float | None = None  # in squared points


@dataclass(frozen=True, eq=False)
class Experience:
    """Answers side by side, and how they were judged.

    >>> ids, numbers = torch.tensor([[7, 8, 0], [7, 8, 9]]), torch.zeros(2, 3)
    >>> mask = torch.tensor([[False, True, False], [False, True, True]])
    >>> whole = Experience(ids, mask, numbers, numbers, advantages=torch.ones(2))
    >>> whole.rows(torch.tensor([0])).ids
    tensor([[7, 8]])
    """

    ids: Int[Tensor, "batch position"]
    mask: Mask
    log_probs: PerToken  # under the policy that drew the answers, in nats
    reference_log_probs: PerToken
    advantages: PerToken | Float[Tensor, "batch"]  # one for each token, or each answer
    values: PerToken | None = None  # of a critic before the updates, in points
    returns: PerToken | None = None  # what the critic should have said

    def rows(self, chosen: Int[Tensor, "row"]) -> "Experience":
        """Return some of the answers, as wide as the longest of them."""
        width = int(self.mask[chosen].any(dim=0).nonzero().max()) + 1

        def part(tensor: Tensor) -> Tensor:
            return tensor[chosen] if tensor.ndim == 1 else tensor[chosen, :width]

        return Experience(
            ids=part(self.ids),
            mask=part(self.mask),
            log_probs=part(self.log_probs),
            reference_log_probs=part(self.reference_log_probs),
            advantages=part(self.advantages),
            values=None if self.values is None else part(self.values),
            returns=None if self.returns is None else part(self.returns),
        )
