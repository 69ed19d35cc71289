"""Vectors of passages and questions, and how they are trained."""

import math

import pytest
import torch
from chat_cases import base

from llmcourse.model.transformer import hidden_states
from llmcourse.retrieval.dense import (
    DualEncoder,
    contrastive_loss,
    mean_hidden_states,
    train_encoder,
)

PASSAGES = [
    *("Mia wore a red hat.", "Mia lived in a tall house."),
    *("Tom wore a blue coat.", "Tom lived under the bridge."),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def encoder(passages=PASSAGES):
    return DualEncoder(*base(), passages)


# Worked example


def test_a_vector_is_the_sum_of_weighted_rows_by_hand():
    """Of two passages both have " a" and one has " in", the other " was".

    The weight is ln(1 + (2 - n + ½) / (n + ½)): ln 2 for n = 1, ln 1.2 for n = 2.
    """
    model, tokenizer = base()
    a, in_ = (tokenizer.encode(f" {word}") for word in ("a", "in"))
    assert len(a) == len(in_) == 1
    rows = model.embedding.weight.detach()
    expected = math.log(1.2) * rows[a[0]] + math.log(2) * rows[in_[0]]
    found = encoder(["a in", "a was"]).passage_vectors(["a in"])
    torch.testing.assert_close(found[0], expected / expected.norm())


def test_the_loss_of_two_questions_by_hand():
    """Scores 1 and 0 cost ln(1 + e^-1) each; where both are right there is no other."""
    scores = torch.eye(2)
    loss = contrastive_loss(scores, torch.eye(2).bool())
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert contrastive_loss(scores, torch.ones(2, 2).bool()) == 0


# Law


def test_vectors_have_length_one_and_an_empty_text_has_none():
    vectors = encoder().question_vectors([*PASSAGES, "", "Mia"])
    lengths = vectors.norm(dim=1).tolist()
    assert lengths == pytest.approx([1, 1, 1, 1, lengths[4], 1])
    one = encoder().question_vectors(["Mia"])
    torch.testing.assert_close(vectors[5:], one)


def test_the_first_word_is_one_like_all_others():
    both = encoder().passage_vectors(["hat red", "red hat"])
    torch.testing.assert_close(both[0], both[1])


def test_training_brings_questions_to_their_passages():
    questions = [
        *("What was Mia dressed in?", "Where was Mia's home?"),
        *("What was Tom dressed in?", "Where was Tom's home?"),
    ] * 2
    right = [[0], [1], [2], [3]] * 2
    untrained, trained = encoder(), encoder()
    before = untrained.state_dict()
    losses = train_encoder(
        trained, questions, PASSAGES, right, generator(), steps=60, batch_size=8
    )
    assert losses[-1] < 0.1 < losses[0]
    cosines = trained.question_vectors(questions) @ trained.passage_vectors(PASSAGES).T
    assert cosines.argmax(dim=1).tolist() == [0, 1, 2, 3] * 2
    again = encoder()
    assert losses == train_encoder(
        again, questions, PASSAGES, right, generator(), steps=60, batch_size=8
    )
    model = base()[0]
    torch.testing.assert_close(before, untrained.state_dict())
    assert not torch.equal(trained.passage, encoder().passage)
    assert model.embedding.weight.grad is None


def test_mean_hidden_states_reads_long_texts_in_windows():
    model, tokenizer = base()
    text = " ".join(PASSAGES * 18)
    ids = torch.tensor(tokenizer.encode(text))
    limit = model.config.context_length
    assert limit < len(ids) < 2 * limit
    parts = [
        hidden_states(model, ids[:limit])[-1],
        hidden_states(model, ids[limit:])[-1],
    ]
    found = mean_hidden_states(model, tokenizer, ["Mia", text])
    torch.testing.assert_close(found[1], torch.cat(parts).mean(0))
    torch.testing.assert_close(found[:1], mean_hidden_states(model, tokenizer, ["Mia"]))


# Reference


def test_the_loss_equals_a_loop():
    scores = torch.randn(5, 5, generator=generator())
    is_right = torch.eye(5).bool()
    is_right[1, 3] = is_right[3, 1] = True
    expected = 0.0
    for i in range(5):
        others = [scores[i, j] for j in range(5) if j == i or not is_right[i, j]]
        expected += math.log(sum(math.exp(s) for s in others)) - scores[i, i].item()
    assert contrastive_loss(scores, is_right).item() == pytest.approx(expected / 5)


def test_the_loss_is_computed_where_the_scores_are():
    scores = torch.zeros(2, 2, device="meta")
    loss = contrastive_loss(scores, torch.eye(2, device="meta").bool())
    assert loss.device.type == "meta"


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="passages must be at least 1, got 0"):
        encoder([])
    with pytest.raises(ValueError, match="n_tokens must be at least 1, got 0"):
        mean_hidden_states(*base(), [""])
    with pytest.raises(ValueError, match="n_texts must be at least 1, got 0"):
        mean_hidden_states(*base(), [])
    questions = ["Who?"] * 8
    for right in ([[0]] * 7, [[0]] * 7 + [[]]):
        with pytest.raises(ValueError, match="right passages must be 8, got 7"):
            train_encoder(encoder(), questions, PASSAGES, right, generator())
    with pytest.raises(ValueError, match="multiple of neighbours, got 12 and 8"):
        train_encoder(
            encoder(), questions, PASSAGES, [[0]] * 8, generator(), batch_size=12
        )
