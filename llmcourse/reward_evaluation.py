"""How good a reward model is: does it prefer what was preferred, and as surely?

    accuracy       of 100 pairs, in how many the chosen answer's reward is higher
    calibration    of the pairs that it is 80 % sure of, are 80 % as it says?

An annotator who errs puts a ceiling on the accuracy: no model can foresee an error, so
the best that can be is the annotator's own agreement with gold, `agreement_rate`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from llmcourse.evaluation import Interval, wilson_interval
from llmcourse.preference_examples import TokenizedPair
from llmcourse.preference_training import share_preferred
from llmcourse.reward_model import RewardModel
from llmcourse.reward_scores import pair_rewards


class PairAccuracy(NamedTuple):
    """In what share of pairs the chosen answer is preferred, as a fraction."""

    rate: float
    interval: Interval
    n: int  # pairs


def pair_accuracy(
    model: RewardModel,
    pairs: Sequence[TokenizedPair],
    *,
    level: float | int = 0.95,
    batch_size: int = 32,
) -> PairAccuracy:
    """Return how often a reward model prefers the chosen answer, with an interval.

    A tie counts half; for the interval, ties are shared out, an odd one as an error.

    Args:
        model: Has been trained.
        pairs: Held-out ones.
        level: Of the Wilson interval, see `evaluation.wilson_interval`.
        batch_size: Texts read side by side.

    Raises:
        ValueError: If there are no pairs, if a reward is not a number, or as
            `rewards_of`.
    """
    chosen, rejected = pair_rewards(model, pairs, batch_size)
    margins = chosen - rejected
    if n_odd := int(margins.isnan().sum()):
        raise ValueError(
            f"rewards must be numbers, got others in {n_odd} of {len(pairs)} pairs"
        )
    rate = share_preferred(margins)
    interval = wilson_interval(int(rate * len(pairs) + 1e-6), len(pairs), level)
    return PairAccuracy(rate, interval, len(pairs))


class ReliabilityBin(NamedTuple):
    """Pairs of which a model is about equally sure; all fractions are of one."""

    low: float  # of the predicted probability
    high: float
    n: int  # pairs
    predicted: float  # mean probability of the favoured answer
    observed: float  # share in which it was the chosen one
    interval: Interval  # of what was observed


def reliability(
    chosen: Float[Tensor, "pair"],
    rejected: Float[Tensor, "pair"],
    n_bins: int = 5,
    level: float | int = 0.95,
) -> list[ReliabilityBin]:
    """Return predicted against observed preferences, in bins of equal width.

    Of each pair the answer with the higher reward is the favoured one; it is predicted
    to be chosen with the probability σ of the difference, between 1/2 and 1. Bins
    without a pair are left out. A tie counts half.

    Args:
        chosen: Rewards of the answers that were preferred.
        rejected: Rewards of the others.
        n_bins: Between 1/2 and 1.
        level: Of the Wilson intervals.

    Raises:
        ValueError: If there are no pairs or no bins, or a reward is not a number.

    Source: Guo et al. (2017), "On calibration of modern neural networks", section 2.

    >>> chosen = torch.tensor([3.0, 3.0, 3.0, 0.0]).log()  # 3 to 1 for one of the two
    >>> [only] = reliability(chosen, torch.tensor([1.0, 1.0, 1.0, 3.0]).log(), n_bins=1)
    >>> round(only.predicted, 2), only.observed
    (0.81, 0.75)
    """
    margins = (chosen - rejected).double()
    if not len(margins) or n_bins < 1 or margins.isnan().any():
        raise ValueError(
            "wanted at least one pair, one bin and rewards that are numbers, "
            f"got {len(margins)} pairs and {n_bins} bins"
        )
    sure = margins.abs().sigmoid()
    right = (margins > 0).double() + (margins == 0).double() / 2
    place = ((sure - 0.5) * 2 * n_bins).long().clamp(max=n_bins - 1)
    bins = []
    for number in sorted(set(place.tolist())):
        here, n = place == number, int((place == number).sum())
        observed = right[here].mean().item()
        bins.append(
            ReliabilityBin(
                low=0.5 + 0.5 * number / n_bins,
                high=0.5 + 0.5 * (number + 1) / n_bins,
                n=n,
                predicted=sure[here].mean().item(),
                observed=observed,
                interval=wilson_interval(int(observed * n + 1e-6), n, level),
            )
        )
    return bins


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the mean distance of predicted and observed, as a fraction of one.

    Each bin counts as much as it has pairs. Even of a perfectly calibrated model it is
    above zero, by chance; the more bins for the same pairs, the more so.

    Raises:
        ValueError: If there are no bins.

    Source: Guo et al. (2017), equation 3.
    """
    if not bins:
        raise ValueError("a calibration error needs at least one bin, got none")
    total = sum(each.n for each in bins)
    return sum(each.n * abs(each.predicted - each.observed) for each in bins) / total
