"""A text as a vector: of length one, and the mean of what the model makes of it."""

import pytest
import torch

from llmcourse.model.inspection import text_vector
from llmcourse.model.transformer import TINY, Transformer

MODEL = Transformer(TINY, torch.Generator().manual_seed(0)).eval()


def test_worked_example_of_one_token():
    """The mean of one vector is that vector; its logits point where the model's do."""
    vector = text_vector(MODEL, [7])
    logits = MODEL(torch.tensor([[7]]))[0, 0]
    ours = MODEL.embedding.weight @ vector
    torch.testing.assert_close(ours / ours.norm(), logits / logits.norm())


def test_the_length_is_one_and_other_texts_do_not_matter():
    assert float(text_vector(MODEL, [3, 5, 8]).norm()) == pytest.approx(1)
    assert torch.equal(text_vector(MODEL, [3, 5]), text_vector(MODEL, [3, 5]))


def test_no_text_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        text_vector(MODEL, [])
