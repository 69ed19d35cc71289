"""The decoder transformer: the model's own logits, from other products."""

from dataclasses import replace

import pytest
import torch
from model_cases import LLAMA

from llmcourse.finetuning.lora import add_lora
from llmcourse.model.decoding import FusedDecoder, can_fuse
from llmcourse.model.generation import GREEDY, Sampling, generate
from llmcourse.model.transformer import Transformer, TransformerConfig

SMALL = replace(LLAMA, vocab_size=19, n_layers=3, n_kv_heads=3, context_length=40)
UNTIED = replace(SMALL, n_kv_heads=6, tied_embeddings=False, norm_eps=0.1)
NORMED = replace(SMALL, qk_norm=True, norm_eps=0.1)
GPT2 = replace(SMALL, family="gpt2", n_kv_heads=6, norm_eps=0.1)


def make_model(config=SMALL):
    """Return a model in which every weight, those of norms too, tells."""
    generator = torch.Generator().manual_seed(2)
    model = Transformer(config, generator)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return model


def random_ids(*shape):
    return torch.randint(19, shape, generator=torch.Generator().manual_seed(1))


def read(reader, model, ids, pieces):
    """Return the logits after the last position of each piece."""
    cache = model.new_cache(len(ids))
    with torch.inference_mode():
        logits = [reader(piece, cache)[:, -1] for piece in ids.split(pieces, dim=1)]
    assert cache.length == ids.shape[1]
    return torch.stack(logits, dim=1), cache


# Worked example


def test_worked_example_of_one_coordinate_pair():
    """All blocks write nothing, so the token's own vector is scored.

    Token 1 is (3, 4): divided by its root mean square √12.5, weighted with (2, 1),
    and multiplied with itself: (3 · 2 · 3 + 4 · 1 · 4) / √12.5 = 34 / √12.5.
    """
    config = TransformerConfig(
        vocab_size=2, d_model=2, n_layers=1, n_heads=1, n_kv_heads=1, d_ff=1
    )
    model = Transformer(config)
    torch.nn.init.zeros_(model.blocks[0].attention.output.weight)
    torch.nn.init.zeros_(model.blocks[0].feed_forward.down.weight)
    model.embedding.weight.data = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    model.norm.weight.data = torch.tensor([2.0, 1.0])
    logits = FusedDecoder(model)(torch.tensor([[1]]), model.new_cache())
    torch.testing.assert_close(logits, torch.tensor([[[0.0, 34 / 12.5**0.5]]]))


# Law


def test_the_model_stays_as_it_is():
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    read(FusedDecoder(model), model, random_ids(2, 7), [4, 3])
    assert before.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.is_contiguous(), name


# Reference


@pytest.mark.parametrize("config", [SMALL, UNTIED, NORMED, GPT2])
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 1, 2, 1]])
def test_equals_the_model(config, pieces):
    """Its logits have deviation 3 or so; both keep the same keys and values."""
    model, ids = make_model(config), random_ids(2, 7)
    expected, their_cache = read(model, model, ids, pieces)
    logits, cache = read(FusedDecoder(model), model, ids, pieces)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-6)
    for mine, theirs in (
        (cache.keys, their_cache.keys),
        (cache.values, their_cache.values),
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("config", [SMALL, NORMED, GPT2])
def test_differs_from_the_model_by_rounding_only(config):
    """In double precision, rounding is 10⁻¹⁶ of what is added up."""
    model, ids = make_model(config).double(), random_ids(2, 30)
    expected, _ = read(model, model, ids, [1] * 30)
    logits, _ = read(FusedDecoder(model), model, ids, [1] * 30)
    torch.testing.assert_close(logits, expected, atol=1e-12, rtol=1e-12)


def test_goes_on_where_the_model_stopped():
    model, ids = make_model(), random_ids(2, 9)
    expected = model(ids)[:, -1:]
    cache = model.new_cache(2)
    model(ids[:, :4], cache)
    logits = FusedDecoder(model)(ids[:, 4:], cache)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling()])
def test_what_is_written_does_not_depend_on_it(monkeypatch, sampling):
    model, prompt = make_model(), random_ids(3, 4)

    def write():
        generator = torch.Generator().manual_seed(0)
        return generate(model, prompt, 36, sampling=sampling, generator=generator)

    written = write()
    monkeypatch.setattr("llmcourse.model.generation.can_fuse", lambda _: False)
    assert torch.equal(written, write())


# Refusal


def test_refuses_models_that_it_would_not_equal():
    with_lora, hooked, inner = make_model(), make_model(), make_model()
    add_lora(with_lora, rank=2, alpha=4.0, generator=torch.Generator().manual_seed(0))
    hooked.register_forward_hook(lambda *_: None)
    inner.blocks[1].attention.register_forward_pre_hook(lambda *_: None)
    patched = make_model()
    patched.blocks[1].feed_forward.forward = torch.zeros_like
    for model in (with_lora, hooked, inner, patched, make_model().bfloat16()):
        assert not can_fuse(model)
        with pytest.raises(ValueError, match="FusedDecoder needs a model"):
            FusedDecoder(model)
        assert generate(model, random_ids(1, 3), 12).shape == (1, 15)


def test_a_large_model_is_not_copied(monkeypatch):
    model = make_model()
    n_weights = sum(weight.numel() for weight in model.parameters())
    for most, expected in ((n_weights, True), (n_weights - 1, False)):
        monkeypatch.setattr("llmcourse.model.decoding._MOST_WEIGHTS", most)
        assert can_fuse(model) is expected


def test_refuses_no_ids_and_too_many():
    model = make_model()
    decoder, cache = FusedDecoder(model), model.new_cache(capacity=50)
    with pytest.raises(ValueError, match="got 0 cached and 0 new ones"):
        decoder(random_ids(1, 0), cache)
    decoder(random_ids(1, 39), cache)
    with pytest.raises(ValueError, match="is 40 tokens, got 39 cached and 2 new ones"):
        decoder(random_ids(1, 2), cache)
