"""A transformer with a head for classes."""

from dataclasses import replace

import pytest
import torch
from model_cases import seeded

from llmcourse.finetuning.classification import Classifier, accuracy, classify
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.lora import add_lora
from llmcourse.model.transformer import Transformer, TransformerConfig, hidden_states

SIZES = TransformerConfig(
    vocab_size=13, d_model=16, n_layers=3, n_heads=2, n_kv_heads=2, d_ff=20
)
TEXTS = [[5, 0, 3, 9, 7], [4], [12, 1, 1], [8, 6, 2, 11]]


def make(family="llama", *, tied=True):
    sizes = replace(SIZES, family=family, tied_embeddings=tied)
    model = Transformer(sizes, seeded())
    return model, Classifier(model, 5, seeded(1))


# Worked example


def test_worked_example_of_a_head():
    """A head that reads one coordinate of the vector and doubles it scores by it."""
    model, classifier = make()
    with torch.no_grad():
        classifier.head.weight.zero_()
        classifier.head.weight[3, 7] = 2.0
        classifier.head.bias[0] = -1.0
    ids = torch.tensor([TEXTS[0]])
    feature = model.norm(hidden_states(model, ids)[-1])[..., 7]
    zero = torch.zeros_like(feature)
    expected = torch.stack([zero - 1, zero, zero, 2 * feature, zero], dim=-1)
    torch.testing.assert_close(classifier(ids), expected)


# Law


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_texts_together_are_classified_as_alone(family):
    """The padding of shorter texts changes nothing, whatever the batches."""
    _, classifier = make(family)
    examples = [TokenizedExample.of_label(ids, 0) for ids in TEXTS]
    alone = torch.cat([classify(classifier, [example]) for example in examples])
    for batch_size in (1, 3, 4):
        torch.testing.assert_close(classify(classifier, examples, batch_size), alone)
    torch.testing.assert_close(alone.sum(dim=-1), torch.ones(4))


def test_the_label_is_not_looked_at():
    _, classifier = make()
    one, two = ([TokenizedExample.of_label(TEXTS[0], label)] for label in (0, 4))
    assert torch.equal(classify(classifier, one), classify(classifier, two))


def test_accuracy_counts_the_likeliest_classes():
    _, classifier = make()
    found = classify(classifier, [TokenizedExample.of_label(ids, 0) for ids in TEXTS])
    labels = found.argmax(dim=-1).tolist()
    labels[1] = (labels[1] + 1) % 5
    examples = [
        TokenizedExample.of_label(i, y) for i, y in zip(TEXTS, labels, strict=True)
    ]
    assert accuracy(classifier, examples) == 0.75


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_layers_are_the_models_own_and_it_still_predicts(family, tied):
    model, classifier = make(family, tied=tied)
    ids = torch.tensor(TEXTS[:1])
    logits = model(ids)
    assert logits.shape == (1, 5, 13)
    ours = {id(weight) for weight in model.parameters()}
    theirs = {id(weight) for weight in classifier.parameters()}
    assert len(theirs - ours) == 2  # the head's
    missing = [name for name, w in model.named_parameters() if id(w) not in theirs]
    assert missing == ([] if tied else ["unembedding.weight"])
    with torch.no_grad():
        model.blocks[0].feed_forward.up.weight.mul_(3)
    assert not torch.equal(model(ids), logits)
    assert classifier.config.d_model == 16


def test_frozen_the_body_gets_no_gradient():
    _, classifier = make()
    classifier.freeze_body()
    classifier(torch.tensor(TEXTS[:1])).sum().backward()
    learned = [n for n, w in classifier.named_parameters() if w.grad is not None]
    assert learned == ["head.weight", "head.bias"]


def test_adapters_of_the_body_learn_beside_the_head():
    _, classifier = make()
    add_lora(classifier.body, 2, 4, ["query"], seeded())
    learned = [n for n, w in classifier.named_parameters() if w.requires_grad]
    assert all("head" in name or "attention.query.lora" in name for name in learned)
    assert len(learned) == 2 + 3 * 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_head_is_of_the_models_type(dtype):
    model, _ = make()
    logits = Classifier(model.to(dtype), 3)(torch.tensor(TEXTS[:1]))
    assert logits.dtype == dtype


# Reference


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_equals_the_head_on_the_residual_stream(family):
    """What another part of the package saw inside the model, multiplied."""
    model, classifier = make(family)
    ids = torch.tensor(TEXTS[0])
    features = model.norm(hidden_states(model, ids)[-1])  # (T, D)
    scores = features[-1] @ classifier.head.weight.T + classifier.head.bias
    torch.testing.assert_close(classifier(ids[None])[0, -1], scores)


# Refusal


def test_refuses_a_classifier_that_cannot_be():
    model = Transformer(SIZES, seeded())
    with pytest.raises(ValueError, match="n_classes must be positive, got 0"):
        Classifier(model, 0)


def test_refuses_no_texts():
    _, classifier = make()
    for call in (classify, accuracy):
        with pytest.raises(
            ValueError, match="examples of a batch must be at least 1, got 0"
        ):
            call(classifier, [])


def test_refuses_texts_longer_than_the_context():
    model = Transformer(replace(SIZES, context_length=4), seeded())
    with pytest.raises(ValueError, match="context_length is 4 tokens, got"):
        classify(Classifier(model, 2), [TokenizedExample.of_label(TEXTS[0], 0)])
