"""Rewards: whatever gives every answer a score.

A rule, a learned model or a test's own function, all are the same to a policy: they
read prompts and answers as text and return one number for each.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

RewardFunction: TypeAlias = Callable[[Sequence[str], Sequence[str]], Tensor]
"""Scores (batch,) of answers, in points, from their prompts and their texts."""


def batched(reward: Callable[[str, str], float | int]) -> RewardFunction:
    """Return a reward of many answers from that of one, such as `gold_reward`.

    >>> batched(lambda prompt, text: len(text))(["", ""], ["a", "abc"])
    tensor([1., 3.])
    """

    def scores(prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        pairs = zip(prompts, texts, strict=True)
        return torch.tensor([float(reward(prompt, text)) for prompt, text in pairs])

    return scores
