"""How surprising a token was, and an embedding that says so."""

import copy
import math

import pytest
import torch

from llmcourse.classification import without_unembedding
from llmcourse.surprise_embedding import SurpriseEmbedding, surprises
from llmcourse.transformer import Transformer, TransformerConfig

SIZES = TransformerConfig(
    vocab_size=11,
    d_model=12,
    n_layers=2,
    n_heads=3,
    n_kv_heads=3,
    d_ff=10,
    context_length=9,
)
IDS = torch.tensor([[5, 0, 3, 9, 7], [4, 4, 10, 1, 2]])


def make_model(seed=0):
    return Transformer(SIZES, torch.Generator().manual_seed(seed))


def embed(model, reader, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return SurpriseEmbedding(model.embedding, reader, generator)


# Worked example


def test_who_knows_nothing_is_surprised_alike_by_everything():
    """A reader without a preference among 11 tokens: log 11 each time, as expected."""
    reader = make_model()
    torch.nn.init.zeros_(reader.embedding.weight)
    found = surprises(reader, IDS)
    assert found[:, 0].tolist() == [[0.0, 0.0]] * 2
    assert torch.allclose(found[:, 1:], torch.tensor(math.log(11)))


# Against a reference


def test_surprisal_is_the_cross_entropy_and_entropy_that_of_torch():
    reader = make_model()
    logits = reader(IDS)[:, :-1]
    found = surprises(reader, IDS)
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), IDS[:, 1:].flatten(), reduction="none"
    )
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(found[:, 1:, 0].flatten(), wanted, atol=1e-6)
    assert torch.allclose(found[:, 1:, 1], entropy, atol=1e-6)


# Laws


def test_what_comes_later_surprises_nobody_before():
    reader = make_model()
    other = IDS.clone()
    other[:, 3:] = 6
    before, after = surprises(reader, IDS), surprises(reader, other)
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


def test_each_vector_is_the_token_plus_its_surprise():
    model, reader = make_model(), make_model(3)
    embedding = embed(model, reader)
    told = surprises(reader, IDS) @ embedding.surprise.weight.T
    assert torch.allclose(embedding(IDS), model.embedding(IDS) + told, atol=1e-6)
    assert embedding.surprise.weight.std() > 0.1 * model.embedding.weight.std()


def test_the_reader_is_a_frozen_copy_and_no_part_of_the_weights():
    model = make_model()
    embedding = embed(model, model)
    assert [*embedding.state_dict()] == ["weight", "surprise.weight"]
    assert embedding.weight is model.embedding.weight
    before = surprises(embedding.reader, IDS)
    with torch.no_grad():
        model.blocks[0].attention.query.weight.add_(1.0)
    assert torch.equal(surprises(embedding.reader, IDS), before)
    assert not any(w.requires_grad for w in embedding.reader.parameters())
    assert not embedding.reader.training
    assert embedding.surprise.weight.requires_grad


def test_gradients_reach_table_and_vectors_but_not_the_reader():
    model = make_model()
    embedding = embed(model, make_model(3))
    embedding(IDS).square().sum().backward()
    for weight in (embedding.weight, embedding.surprise.weight):
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    assert all(w.grad is None for w in embedding.reader.parameters())


def test_plain_is_the_table_alone_with_the_same_weights():
    model = make_model()
    plain = embed(model, make_model(3)).plain()
    assert type(plain) is torch.nn.Embedding
    assert plain.weight is model.embedding.weight


def test_a_copy_has_a_reader_of_its_own():
    model = make_model()
    embedding = embed(model, make_model(3))
    copied = copy.deepcopy(embedding)
    assert copied.reader is not embedding.reader
    assert torch.equal(copied(IDS), embedding(IDS))


# Hostile input


def test_a_reader_of_another_vocabulary_is_refused():
    other = Transformer(TransformerConfig(vocab_size=12))
    with pytest.raises(ValueError, match="11 ids, as the model has, got 12"):
        embed(make_model(), other)


def test_ids_outside_the_vocabulary_are_refused_as_ever():
    body = without_unembedding(make_model())
    body.embedding = embed(make_model(), make_model())
    with pytest.raises(ValueError, match="ids must be in 0 … 10, got 0 … 11"):
        body(torch.tensor([[0, 11]]))
