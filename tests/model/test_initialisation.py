"""A start from which a model learns to copy: what it is, and that it does."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from llmcourse.model.transformer import (
    Transformer,
    TransformerConfig,
    mimetic_initialisation,
)

SIZES = TransformerConfig(
    vocab_size=31,
    d_model=24,
    n_layers=2,
    n_heads=4,
    n_kv_heads=4,
    d_ff=20,
    context_length=40,
)
SHAPES = [
    replace(SIZES, family=family, tied_embeddings=tied, n_kv_heads=n_kv_heads)
    for family, tied, n_kv_heads in [
        ("llama", True, 4),
        ("llama", True, 2),
        ("llama", False, 1),
        ("gpt2", True, 4),
        ("gpt2", False, 4),
    ]
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def started(config, seed=0):
    model = Transformer(config, seeded(seed))
    mimetic_initialisation(model, seeded(seed))
    return model


# Worked example


def test_worked_example_of_all_heads_together():
    """With a key-value head per query head, what is handed on is 9 times the token."""
    attention = started(SIZES).blocks[-1].attention
    handed_on = attention.output.weight @ attention.value.weight
    torch.testing.assert_close(handed_on, 9 * torch.eye(24), atol=1e-4, rtol=0)


# Law


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_the_last_block_hands_on_a_projection_of_the_mean(config):
    """Every token found alike: the mean of all, times 9, as far as values have room."""
    block = started(config).blocks[-1]
    x = torch.randn(1, 6, 24, generator=seeded(1))
    rotary = Transformer(config, seeded()).rotary
    given = block.attention(x, rotary and rotary(slice(0, 6)))[0, -1]
    rows = block.attention.value.weight / 3  # orthonormal
    expected = 9 * rows.T @ (rows @ x[0].mean(0))
    torch.testing.assert_close(given, expected, atol=0.15, rtol=0.05)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_the_first_guess_stays_all_tokens_alike(config):
    ids = torch.randint(31, (3, 20), generator=seeded(1))
    probs = started(config)(ids).softmax(-1)
    assert probs.max() < 0.5
    assert probs.mean(dim=(0, 1)).max() < 0.15


def test_only_the_last_block_and_the_scales_change():
    plain, model = Transformer(SIZES, seeded()), started(SIZES)
    changed = {
        name
        for (name, old), new in zip(
            plain.named_parameters(), model.parameters(), strict=True
        )
        if not torch.equal(old, new)
    }
    last = "blocks.1.attention"
    matrices = {f"{last}.{name}.weight" for name in ("query", "key", "value", "output")}
    assert changed == {"embedding.weight", "norm.weight"} | matrices


def test_the_same_generator_gives_the_same_start():
    first, again, other = (
        torch.cat([w.flatten() for w in started(SIZES, seed).parameters()])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def recalls(n, generator):
    """Return rows with a fact among noise, asked for at the end: … fact … 2 fact."""
    rows = torch.randint(15, 31, (n, 24), generator=generator)  # noise
    facts = torch.randint(3, 15, (n,), generator=generator)  # 12 of one kind
    places = torch.randint(1, 18, (n,), generator=generator)
    rows[torch.arange(n), places] = facts
    rows[:, -2], rows[:, -1] = 2, facts
    return rows


def loss_of_the_fact(model, rows):
    return cross_entropy(model(rows[:, :-1])[:, -1], rows[:, -1])


def test_it_learns_to_recall_sooner_than_from_the_usual_start():
    """Guessing among 12 costs log 12 = 2.5 nats."""
    usual, model = Transformer(SIZES, seeded()), started(SIZES)
    after = []
    for pupil in (usual, model):
        generator = seeded(4)
        optimizer = torch.optim.AdamW(pupil.parameters(), lr=3e-3)
        for _ in range(150):
            rows = recalls(32, generator)
            logits = pupil(rows[:, :-1]).flatten(0, 1)
            cross_entropy(logits, rows[:, 1:].flatten()).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            after.append(loss_of_the_fact(pupil, recalls(400, generator)).item())
    assert after[1] < 0.5
    assert after[1] < after[0] / 2
