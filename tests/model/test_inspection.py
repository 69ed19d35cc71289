"""The residual stream and the attention weights of a model, as it computes them."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import linear

from llmcourse.model.attention import attention_weights
from llmcourse.model.transformer import Transformer, TransformerConfig, hidden_states

CONFIG = TransformerConfig(
    vocab_size=11,
    d_model=24,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    d_ff=20,
    context_length=9,
)
CONFIGS = {
    "llama": CONFIG,
    "gpt2": replace(CONFIG, family="gpt2", n_kv_heads=6, tied_embeddings=False),
}


@pytest.fixture(params=CONFIGS)
def model(request):
    model = Transformer(CONFIGS[request.param], torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # scores far enough from zero that weights differ
        for block in model.blocks:
            for part in (block.attention.query, block.attention.key):
                part.weight.normal_(std=0.7, generator=generator)
                if part.bias is not None:
                    part.bias.normal_(std=0.3, generator=generator)
    return model


IDS = torch.tensor([[5, 0, 3, 3, 10, 7, 1], [2, 2, 9, 0, 4, 6, 8]])  # (B 2, T 7)


# Worked example


def test_a_single_token_looks_at_itself_alone(model):
    weights = attention_weights(model, torch.tensor([4]))
    torch.testing.assert_close(weights, torch.ones(3, 6, 1, 1))


# Law


def test_weights_sum_to_one_and_the_future_has_none(model):
    weights = attention_weights(model, IDS)
    assert weights.shape == (3, 2, 6, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 6, 7))
    assert weights.triu(1).abs().max() == 0
    assert weights.std(dim=-1).max() > 0.1  # not all alike


def test_one_sequence_is_a_row_of_a_batch(model):
    for function in (hidden_states, attention_weights):
        together, alone = function(model, IDS), function(model, IDS[1])
        torch.testing.assert_close(together[:, 1], alone)


def test_looking_changes_nothing_and_leaves_nothing_behind(model):
    before, mode = model(IDS), model.training
    hidden_states(model, IDS)
    attention_weights(model, IDS)
    assert torch.equal(model(IDS), before)
    assert model.training == mode
    assert not any(module._forward_pre_hooks for module in model.modules())


# Reference


def test_the_stream_is_what_the_blocks_pass_on(model):
    """The last state gives the logits; each block takes one state to the next."""
    states = hidden_states(model, IDS)
    assert states.shape == (4, 2, 7, 24)
    scorer = model.embedding if model.unembedding is None else model.unembedding
    logits = linear(model.norm(states[-1]), scorer.weight)
    torch.testing.assert_close(logits, model(IDS))
    first = model.embedding(IDS)
    if model.positions is not None:
        first = first + model.positions.weight[:7]
    torch.testing.assert_close(states[0], first)


def test_the_weights_are_those_that_the_layer_used(model):
    """Mixing the values by them gives what the layer itself returned."""
    for layer, block in enumerate(model.blocks):
        attention = block.attention
        seen = {}
        hook = attention.register_forward_hook(
            lambda _, inputs, output, seen=seen: seen.update(x=inputs[0], y=output)
        )
        with torch.no_grad():
            model(IDS)
        hook.remove()
        weights = attention_weights(model, IDS)[layer]  # (B, H, T, S)
        value = attention.value(seen["x"]).unflatten(-1, (-1, 4)).transpose(1, 2)
        value = value.repeat_interleave(6 // value.shape[1], dim=1)
        context = weights @ value  # (B, H, T, d_head)
        mine = attention.output(context.transpose(1, 2).flatten(-2))
        torch.testing.assert_close(mine, seen["y"])


# Refusal


@pytest.mark.parametrize("function", [hidden_states, attention_weights])
@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([11, 0], "ids must be"),
        ([0] * 10, "context_length is 9"),
        ([], "n_ids must be at least 1, got 0"),
    ],
)
def test_refuses_what_the_model_refuses_and_leaves_no_hook(model, function, ids, said):
    with pytest.raises(ValueError, match=said):
        function(model, torch.tensor(ids, dtype=torch.long))
    assert not any(module._forward_pre_hooks for module in model.modules())
