"""How surprising a token was, and an embedding that says so."""

import copy
import math

import pytest
import torch

from llmcourse.alignment.reward_model import RewardModel
from llmcourse.alignment.surprisal import SurprisalEmbedding, SurprisalReader
from llmcourse.finetuning.chat import CHAT_TOKENS, add_special_tokens
from llmcourse.finetuning.classification import without_unembedding
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.tokenizers import BPETokenizer

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
PLACES = torch.arange(5) / 100


def make_model(seed=0):
    return Transformer(SIZES, torch.Generator().manual_seed(seed))


def surprises(reader, ids=IDS, **where):
    return SurprisalReader(model=reader, **where).features(ids)


def embed(model, reader, seed=1, **where):
    generator = torch.Generator().manual_seed(seed)
    reader = SurprisalReader(model=reader, **where)
    return SurprisalEmbedding(model.embedding, reader, generator)


# Worked example


def test_who_knows_nothing_is_surprised_alike_by_everything():
    """A reader without a preference among 11 tokens: log 11 each time, as expected."""
    reader = make_model()
    torch.nn.init.zeros_(reader.embedding.weight)
    found = surprises(reader)
    assert found[:, 0].tolist() == [[0.0, 0.0, 0.0, 0.0]] * 2
    assert torch.allclose(found[:, 1:, :2], torch.tensor(math.log(11)))
    assert torch.equal(found[:, :, 2], PLACES.expand(2, 5))


def test_what_occurs_again_in_an_answer_is_marked():
    """Again after 7, where answers begin; what only the prompt has is new there."""
    ids = torch.tensor([[3, 5, 7, 5, 3, 5, 7, 3], [7, 1, 1, 1, 2, 7, 7, 2]])
    found = surprises(make_model(), ids, start=7)[:, :, 3]
    assert found.tolist() == [[0, 0, 0, 0, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0, 1, 1]]


# Against a reference


def test_surprisal_is_the_cross_entropy_and_entropy_that_of_torch():
    reader = make_model()
    logits = reader(IDS)[:, :-1]
    found = surprises(reader)
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), IDS[:, 1:].flatten(), reduction="none"
    )
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(found[:, 1:, 0].flatten(), wanted, atol=1e-6)
    assert torch.allclose(found[:, 1:, 1], entropy, atol=1e-6)


def test_an_answer_is_read_as_a_text_of_its_own():
    """Wherever it stands, and whatever was asked: what counts is what follows 4."""
    reader = make_model()
    alone = surprises(reader, torch.tensor([[8, 10, 1, 2]]))
    found = surprises(reader, torch.tensor([[9, 4, 10, 1, 2]]), start=4, mark=8)
    assert torch.equal(found[:, :2], torch.zeros(1, 2, 4))
    assert torch.allclose(found[:, 1:], alone, atol=1e-6)


def test_answers_side_by_side_are_read_as_each_alone():
    """Whatever fills them up, be it the id at which answers begin."""
    reader = make_model()
    texts = torch.tensor([[5, 7, 4, 9, 3, 4], [4, 2, 3, 1, 4, 4], [1, 4, 2, 10, 6, 0]])
    found = surprises(reader, texts, start=4, mark=8)
    for text, row, end in zip(texts, found, (5, 4, 6), strict=True):
        alone = surprises(reader, text[None, :end], start=4, mark=8)
        assert torch.allclose(row[:end], alone[0], atol=1e-6)


def test_from_the_first_answer_of_a_conversation_all_is_read():
    reader = make_model()
    texts = torch.tensor([[4, 9, 7, 4, 2, 3], [1, 4, 9, 7, 4, 2]])
    found = surprises(reader, texts, start=4, mark=8)
    assert torch.allclose(found[0, :5], found[1, 1:], atol=1e-6)


def test_ids_that_the_reader_lacks_are_read_as_the_mark():
    reader = make_model()
    found = surprises(reader, torch.tensor([[1, 2, 12, 3, 13]]), start=12, mark=8)
    wanted = surprises(reader, torch.tensor([[8, 3, 8]]))
    assert torch.allclose(found[:, 2:], wanted, atol=1e-6)


# Laws


def test_what_comes_later_surprises_nobody_before():
    reader = make_model()
    other = IDS.clone()
    other[:, 3:] = 6
    before, after = surprises(reader), surprises(reader, other)
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


def test_each_vector_is_the_token_plus_its_surprise():
    model, reader = make_model(), make_model(3)
    embedding = embed(model, reader)
    told = surprises(reader) @ embedding.surprise.weight.T
    assert torch.allclose(embedding(IDS), model.embedding(IDS) + told, atol=1e-6)
    assert embedding.surprise.weight.std() > 0.1 * model.embedding.weight.std()


def test_the_reader_is_a_frozen_copy_and_no_part_of_the_weights():
    model = make_model()
    embedding = embed(model, model)
    assert [*embedding.state_dict()] == ["weight", "surprise.weight"]
    assert embedding.weight is model.embedding.weight
    before = embedding.reader.features(IDS)
    with torch.no_grad():
        model.blocks[0].attention.query.weight.add_(1.0)
    assert torch.equal(embedding.reader.features(IDS), before)
    assert not any(w.requires_grad for w in embedding.reader.model.parameters())
    assert not embedding.reader.model.training
    assert embedding.surprise.weight.requires_grad


def test_gradients_reach_table_and_vectors_but_not_the_reader():
    model = make_model()
    embedding = embed(model, make_model(3))
    embedding(IDS).square().sum().backward()
    for weight in (embedding.weight, embedding.surprise.weight):
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    assert all(w.grad is None for w in embedding.reader.model.parameters())


def test_the_reader_goes_where_the_weights_go():
    """To another device, but not to another type: it would be another reader then."""
    reader = SurprisalReader(model=make_model(3))
    reward_model = RewardModel(make_model(), reader=reader)
    inside = reward_model.surprise.reader
    reward_model.double()
    assert reward_model.surprise(IDS).dtype == torch.float64
    assert inside.fingerprint == reader.fingerprint
    reward_model.to("meta")
    tensors = (*inside.model.parameters(), *inside.model.buffers())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert reader.model.embedding.weight.device.type == "cpu"


def test_a_copy_has_a_reader_of_its_own():
    model = make_model()
    embedding = embed(model, make_model(3))
    copied = copy.deepcopy(embedding)
    assert copied.reader.model is not embedding.reader.model
    assert torch.equal(copied(IDS), embedding(IDS))


@pytest.mark.parametrize("base", [True, False])
def test_a_reader_of_conversations_begins_behind_the_first_assistant(base):
    own = BPETokenizer.train(["a tale"], 260, special_tokens=["<|endoftext|>"])
    model = Transformer(TransformerConfig(vocab_size=260))
    generator = torch.Generator().manual_seed(0)
    _, chat = add_special_tokens(model, own, CHAT_TOKENS, generator)
    reader = SurprisalReader.of(model, own if base else chat, chat)
    assert reader.start == chat.special_tokens["<|assistant|>"]
    assert reader.mark == own.special_tokens["<|endoftext|>"]
    assert SurprisalReader.of(model, own, own).start is None


# Hostile input


def test_a_text_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="have the id 9, .*, but text 1 has none"):
        surprises(make_model(), start=9)


def test_a_reader_with_other_tokens_is_refused():
    words = BPETokenizer.train(["a tale"], 259)
    vocab, end = words.vocab, {"<|endoftext|>": 259}
    same = {"vocab": vocab, "merges": words.merges, "pattern": words.pattern}
    chat = {name: 260 + n for n, name in enumerate(CHAT_TOKENS)}
    told = BPETokenizer(**same, special_tokens=end | chat)
    turned = dict(zip(vocab, [*vocab.values()][::-1], strict=True))
    for change, what in (
        ({"vocab": turned}, "other vocab"),
        ({"merges": []}, "other merges"),
        ({"pattern": r"\s|\S+"}, "other pattern"),
        ({"special_tokens": {"<|end|>": 259}}, "other special tokens"),
        ({"special_tokens": end | {CHAT_TOKENS[1]: 260}}, "other special tokens"),
    ):
        own = BPETokenizer(**(same | {"special_tokens": end} | change))
        with pytest.raises(ValueError, match=f"26. of them, got 26. and {what}"):
            SurprisalReader.of(make_model(), own, told)


def test_ids_outside_the_vocabulary_are_refused_as_ever():
    body = without_unembedding(make_model())
    body.embedding = embed(make_model(), make_model())
    with pytest.raises(ValueError, match="ids must be in 0 … 10, got 0 … 11"):
        body(torch.tensor([[0, 11]]))
