"""Losses by position: they are the losses of the text, told apart."""

import pytest
import torch

from llmcourse.model.folders import load_pretrained
from llmcourse.text.tales import generate
from llmcourse.training.text_loss import PositionLosses, position_losses, text_loss

TEXTS = [story.text for story in generate(5, seed=1_000_002)]

# Worked example


def test_worked_example_of_two_documents():
    """Of 1 + 5, 2, 3 nats; only the first document has a second and third token."""
    found = PositionLosses(
        totals=torch.tensor([6.0, 2, 3], dtype=torch.float64),
        counts=torch.tensor([2, 1, 1]),
    )
    assert found.loss == 11 / 4
    assert found.between((0, 1, 3)) == [3.0, 2.5]
    assert found.between((0, 99)) == [11 / 4]


# Law


def test_counts_fall_from_the_number_of_documents():
    found = position_losses(*load_pretrained("base-llm"), TEXTS)
    counts = found.counts.tolist()
    assert counts[0] == len(TEXTS)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 1


# Reference


def test_all_together_they_are_the_loss_of_the_text():
    model, tokenizer = load_pretrained("base-llm")
    wanted = text_loss(model, tokenizer, TEXTS)
    found = position_losses(model, tokenizer, TEXTS)
    assert int(found.counts.sum()) == wanted.n_tokens
    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)


# Refusal


def test_refusals():
    model, tokenizer = load_pretrained("base-llm")
    with pytest.raises(ValueError, match="at least one text"):
        position_losses(model, tokenizer, [])
    with pytest.raises(ValueError, match="must fit into 512 tokens"):
        position_losses(model, tokenizer, [" ".join(TEXTS)])
    found = position_losses(model, tokenizer, TEXTS[:1])
    with pytest.raises(ValueError, match="no document reaches the positions 300"):
        found.between((0, 300, 400))
