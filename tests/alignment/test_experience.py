"""Some of the answers, as wide as they need to be."""

import torch

from llmcourse.alignment.policy import RolloutBatch


def test_rows_are_cut_to_the_longest_of_them():
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]).bool()
    numbers = torch.arange(15.0).view(3, 5)
    whole = RolloutBatch(
        ids=torch.arange(15).view(3, 5),
        mask=mask,
        log_probs=numbers,
        reference_log_probs=-numbers,
        advantages=torch.tensor([5.0, 6.0, 7.0]),
        values=2 * numbers,
    )
    part = whole.rows(torch.tensor([2, 0]))
    assert part.ids.tolist() == [[10, 11, 12], [0, 1, 2]]
    assert part.mask.tolist() == [[False, True, False], [False, True, True]]
    assert torch.equal(part.reference_log_probs, -part.log_probs)
    assert torch.equal(part.values, 2 * part.log_probs)
    assert part.advantages.tolist() == [7, 5]
    assert part.returns is None
