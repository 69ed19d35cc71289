"""Fingerprints of weights and of texts: alike for equals, and for nothing else."""

import torch

from llmcourse.training.checkpoints import texts_fingerprint, weights_fingerprint


def test_fingerprints_tell_apart():
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    assert weights_fingerprint(one) == weights_fingerprint(one)
    assert weights_fingerprint(one) != weights_fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert weights_fingerprint(one) == weights_fingerprint(other)
    lists = (["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab"], [])
    assert len({texts_fingerprint(texts) for texts in lists}) == 5
