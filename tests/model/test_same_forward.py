"""What else computes the forward pass gives what `Transformer` gives, or refuses.

The fused-weight decoder has its own lines for it; the slots of a batch and the
attention weights call the model in another way. Whatever a config or a model has, they
follow it.
"""

from dataclasses import replace

import pytest
import torch
from model_cases import LLAMA as TINY
from model_cases import generate_uncached
from torch import nn

from llmcourse.finetuning.lora import add_lora
from llmcourse.model.attention import GroupedQueryAttention, attention_weights
from llmcourse.model.decoding import FusedDecoder
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.long_context import ATTENTION_KINDS, set_attention
from llmcourse.model.positions import RopeScaling
from llmcourse.model.quantization import quantize_model
from llmcourse.model.transformer import Block, Transformer
from llmcourse.serving.batching import read_next, read_prompt

LLAMA = replace(TINY, vocab_size=23, n_layers=3, context_length=128, rope_base=500.0)
GPT2 = replace(LLAMA, family="gpt2", n_kv_heads=6)
YARN = RopeScaling(kind="yarn", factor=4, original_length=32)
CONFIGS = {
    "grouped": LLAMA,
    "multi-head": replace(LLAMA, n_kv_heads=6),
    "multi-query": replace(LLAMA, n_kv_heads=1),
    "untied": replace(LLAMA, tied_embeddings=False),
    "linear": replace(LLAMA, rope_scaling=RopeScaling(kind="linear", factor=4)),
    "yarn": replace(LLAMA, rope_scaling=YARN, n_kv_heads=3),
    "llama3": replace(LLAMA, rope_scaling=replace(YARN, kind="llama3", fast=4)),
    "wide heads": replace(LLAMA, head_width=10),
    "qwen2": replace(LLAMA, qkv_bias=True),
    "qwen3": replace(LLAMA, qk_norm=True, head_width=6, norm_eps=0.3),
    "large epsilon": replace(LLAMA, norm_eps=0.3),
    "learned": replace(LLAMA, positions="learned"),
    "no positions": replace(LLAMA, positions="none"),
    "gpt2": GPT2,
    "gpt2-rope": replace(GPT2, positions="rope"),
    "gpt2-untied": replace(GPT2, tied_embeddings=False, norm_eps=0.3),
}


def make_model(config=LLAMA):
    """Return a model in which every weight, bias and norm matters."""
    generator = torch.Generator().manual_seed(2)
    model = Transformer(config, generator).eval()
    for weight in model.parameters():
        mean = 0.1 if weight.ndim > 1 else 1.0
        nn.init.normal_(weight, mean=mean, std=0.3, generator=generator)
    return model


def random_ids(n, seed=1):
    return torch.randint(23, (n,), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def expected(model, ids):
    """Return the logits after the last 5 of the ids, in one forward pass."""
    return model(ids[None])[0, -5:]


@torch.no_grad()
def by_fusing(model, ids):
    decoder, cache = FusedDecoder(model), model.new_cache()
    model(ids[None, :-5], cache)
    return torch.cat([decoder(new[None, None], cache)[0] for new in ids[-5:]])


def by_slots(model, ids):
    caches = [model.new_cache() for _ in range(3)]
    read_prompt(model, ids[:-5], caches[1])
    return torch.stack([read_next(model, {1: int(new)}, caches)[1] for new in ids[-5:]])


@torch.no_grad()
def by_weights(model, ids):
    """Replace what each layer attends with by the weights that were returned."""
    layers = iter(attention_weights(model, ids))
    for block in model.blocks:
        weights = next(layers)  # (H, T, S)

        def attend(query, key, value, weights=weights):
            return weights @ value.repeat_interleave(
                query.shape[1] // value.shape[1], dim=1
            )

        block.attention.attend = attend
    return model(ids[None])[0, -5:]


WAYS = {"fused": by_fusing, "slots": by_slots, "weights": by_weights}
ACCEPTED = [(name, way) for name in CONFIGS for way in WAYS]

# Reference


@pytest.mark.parametrize(("name", "way"), ACCEPTED)
def test_equals_the_model(name, way):
    model, ids = make_model(CONFIGS[name]), random_ids(45)
    want = expected(model, ids)
    assert want.std() > 0.5
    torch.testing.assert_close(WAYS[way](model, ids), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["slots", "weights"])
@pytest.mark.parametrize("name", ["grouped", "gpt2-untied"])
@pytest.mark.parametrize("change", ["adapters", "quantized", "no positions"])
def test_equals_a_model_that_was_changed(name, way, change):
    """Adapters and quantized matrices are parts that are called; so is the rest."""
    model, ids = make_model(CONFIGS[name]), random_ids(45)
    if change == "adapters":
        generator = torch.Generator().manual_seed(0)
        add_lora(model, rank=2, alpha=4.0, generator=generator)
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.3, generator=generator)
    elif change == "quantized":
        model = quantize_model(model)
    else:
        model.rotary = model.positions = None
    want = expected(model, ids)
    torch.testing.assert_close(WAYS[way](model, ids), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize(
    "name",
    [
        *("grouped", "yarn", "llama3", "learned", "no positions", "gpt2-untied"),
        *("gpt2-rope", "wide heads", "qwen2", "qwen3"),
    ],
)
def test_what_is_written_equals_what_is_written_without_a_cache(name, kind):
    """However the model attends and counts positions, and without an error."""
    model = make_model(CONFIGS[name])
    set_attention(model, kind, window=5)
    fast = generate(model, random_ids(3), 14, sampling=GREEDY)
    assert torch.equal(fast, generate_uncached(model, random_ids(3), 14))


# Models with parts of their own


class OtherEmbedding(nn.Embedding):
    """Looks at the token before, too."""

    def forward(self, ids):
        return super().forward(ids) + super().forward(ids.roll(1, dims=-1))


class OtherBlock(Block):
    """Has an attention and a network that read the same."""

    def forward(self, x, *arguments):
        attended = self.attention(self.attention_norm(x), *arguments)
        return x + attended + self.feed_forward(self.feed_forward_norm(x))


class OtherAttention(GroupedQueryAttention):
    """Attends half as much."""

    def forward(self, x, *arguments):
        return super().forward(x, *arguments) / 2


class OtherTransformer(Transformer):
    """Has cooler logits."""

    def forward(self, *arguments):
        return super().forward(*arguments) / 2


def other_embedding(model):
    table = OtherEmbedding(23, 24)
    table.load_state_dict(model.embedding.state_dict())
    model.embedding = table


def other_attend(model):
    model.blocks[1].attention.attend = lambda query, key, value: query


def other_block(model):
    model.blocks[1].__class__ = OtherBlock


def other_attention(model):
    model.blocks[1].attention.__class__ = OtherAttention


def other_model(model):
    model.__class__ = OtherTransformer


def hooked_block(model):
    model.blocks[1].register_forward_hook(lambda part, read, written: written / 2)


def hooked_attention(model):
    model.blocks[1].attention.register_forward_hook(lambda p, r, written: written / 2)


def biased(model):
    model.blocks[1].attention.output = nn.Linear(24, 24)


def biased_key(model):
    model.blocks[0].attention.key = nn.Linear(
        24, model.blocks[0].attention.key.out_features
    )


def without_positions(model):
    model.rotary = None


CHANGES = {
    "fused": [
        *(other_embedding, other_attend, other_block, other_attention, other_model),
        *(hooked_block, hooked_attention),
    ],
    "weights": [other_attend],
}
SAID = {
    "fused": "FusedDecoder needs a model",
    "weights": "full attention is needed here",
}


OTHER_PARTS = (
    *(other_block, other_attention, other_model, hooked_block, hooked_attention),
    *(biased, without_positions),
)


@pytest.mark.parametrize(
    ("way", "change"),
    [
        *((way, change) for way in ("slots", "weights") for change in OTHER_PARTS),
        *(("fused", change) for change in (biased, biased_key, without_positions)),
    ],
)
def test_equals_a_model_with_parts_of_its_own(way, change):
    """The model itself is called, whatever its parts do."""
    model, ids = make_model(), random_ids(45)
    plain = expected(model, ids)
    change(model)
    want = expected(model, ids)
    assert not torch.allclose(want, plain, atol=0.1)
    torch.testing.assert_close(WAYS[way](model, ids), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_slots_follow_every_kind_of_attention(kind):
    model, ids = make_model(), random_ids(45)
    set_attention(model, kind, window=5)
    want = expected(model, ids)
    torch.testing.assert_close(by_slots(model, ids), want, rtol=1e-4, atol=1e-4)


# Refusal


@pytest.mark.parametrize(
    ("way", "change"), [(way, change) for way in CHANGES for change in CHANGES[way]]
)
def test_refuses_a_model_that_reads_otherwise(way, change):
    model = make_model()
    change(model)
    with pytest.raises(ValueError, match=SAID[way]):
        WAYS[way](model, random_ids(9))
    assert generate(model, random_ids(3), 12).shape == (15,)


@pytest.mark.parametrize("way", CHANGES)
@pytest.mark.parametrize("kind", ["window", "linear"])
def test_refuses_other_kinds_of_attention(way, kind):
    model = make_model()
    set_attention(model, kind)
    with pytest.raises(ValueError, match=SAID[way]):
        WAYS[way](model, random_ids(9))
