"""A model that is given more special tokens knows all that it knew."""

import pytest
import torch
from model_cases import IDS, make_model, make_tokenizer, seeded, weights_of

from llmcourse.finetuning.chat import add_special_tokens
from llmcourse.model.folders import load_pretrained, save_pretrained

NAMES = ["<|user|>", "<|end|>", "<|assistant|>"]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(params=["llama", "gpt2"])
def family(request):
    return request.param


@pytest.fixture(params=[True, False])
def model(request, family):
    return make_model(family, tied_embeddings=request.param)


# Worked example


def test_worked_example_of_ids(model, tokenizer):
    grown, larger = add_special_tokens(model, tokenizer, NAMES, seeded())
    assert larger.special_tokens == {
        "<|endoftext|>": 0,
        "<|user|>": 262,
        "<|end|>": 263,
        "<|assistant|>": 264,
    }
    assert larger.vocab_size == grown.config.vocab_size == 265
    assert larger.encode("low<|end|>", ["<|end|>"]) == [*tokenizer.encode("low"), 263]


# Law


@torch.no_grad()
def test_the_model_gives_the_old_tokens_the_same_logits(model, tokenizer):
    grown, _ = add_special_tokens(model, tokenizer, NAMES, seeded())
    assert grown(IDS).shape == (2, 7, 265)
    torch.testing.assert_close(grown(IDS)[..., :262], model(IDS))


@torch.no_grad()
def test_the_new_tokens_are_no_likelier_than_a_share_each(model, tokenizer):
    """A logit that is the mean of the others gets at most an equal share of the
    probability (Jensen); the noise, a tenth of the rows' own, may add a little.
    """
    model.norm.weight.mul_(10)  # as decided as a trained model
    grown, _ = add_special_tokens(model, tokenizer, NAMES, seeded())
    probs = grown(IDS).softmax(dim=-1)
    assert probs[..., 262:].max() < 1.5 / 265
    assert probs[..., :262].max() > 10 / 265, "the model must be decided"


def test_the_new_rows_are_apart(model, tokenizer):
    grown, _ = add_special_tokens(model, tokenizer, NAMES, seeded())
    rows = grown.embedding.weight[262:]
    assert torch.pdist(rows).min() > 0.01
    assert torch.equal(
        add_special_tokens(model, tokenizer, NAMES, seeded())[0].embedding.weight,
        grown.embedding.weight,
    )


def test_the_given_model_and_tokenizer_stay_as_they_are(model, tokenizer):
    before = weights_of(model)
    grown, _ = add_special_tokens(model, tokenizer, NAMES, seeded())
    with torch.no_grad():
        for weight in grown.parameters():
            weight.zero_()
    assert model.config.vocab_size == tokenizer.vocab_size == 262
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items())


def test_frozen_embeddings_stay_frozen(model, tokenizer):
    model.embedding.requires_grad_(False)
    grown, _ = add_special_tokens(model, tokenizer, NAMES, seeded())
    assert not grown.embedding.weight.requires_grad
    assert grown.norm.weight.requires_grad


def test_the_larger_model_can_be_saved_and_loaded(model, tokenizer, tmp_path):
    grown, larger = add_special_tokens(model, tokenizer, NAMES, seeded())
    save_pretrained(grown, larger, tmp_path)
    loaded, read = load_pretrained(tmp_path)
    assert read.special_tokens == larger.special_tokens
    ids = torch.tensor([[264, 5, 263]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids), grown(ids))


# Reference


def test_equals_what_transformers_makes_of_the_old_rows(tokenizer, tmp_path):
    """Their `resize_token_embeddings` keeps the old rows, and puts the new ones
    around the same mean.
    """
    transformers = pytest.importorskip("transformers")
    model = make_model()
    save_pretrained(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    theirs.resize_token_embeddings(265)
    grown, _ = add_special_tokens(model, tokenizer, NAMES, seeded())
    old, new = torch.split(theirs.get_input_embeddings().weight, [262, 3])
    torch.testing.assert_close(grown.embedding.weight[:262], old)
    difference = grown.embedding.weight[262:] - new
    assert difference.abs().max() < 0.5 * model.embedding.weight.std()


# Refusal


@pytest.mark.parametrize(
    "names",
    [[], ["<|user|>", "<|user|>"], ["<|endoftext|>"], ["<|a|>", "<|endoftext|>"]],
)
def test_refuses_names_that_are_not_new(tokenizer, names):
    with pytest.raises(
        ValueError, match="names must be of new tokens, each given once, got"
    ):
        add_special_tokens(make_model(), tokenizer, names)


def test_refuses_another_models_tokenizer(tokenizer):
    model = make_model(vocab_size=261)
    with pytest.raises(ValueError, match="the model's 261 ids, got one with 262"):
        add_special_tokens(model, tokenizer, NAMES)
