"""Low-rank adapters: they start as nothing, learn alone, and can become the weight."""

import copy
import math

import pytest
import torch
from model_cases import (
    CONFIGS,
    IDS,
    make_model,
    make_tokenizer,
    seeded,
    weights_of,
)
from torch import nn

from llmcourse.finetuning.lora import (
    LoRALinear,
    add_lora,
    add_lora_to,
    count_parameters,
    lora_layers,
    merge_lora,
    remove_lora,
)
from llmcourse.model.folders import load_pretrained, save_pretrained

BOTH = pytest.mark.parametrize("family", CONFIGS)


def adapted_model(family="llama", targets=("query", "value", "up"), *, learned=True):
    """Return a model whose adapters have learned something, if only noise."""
    model = make_model(family)
    add_lora(model, rank=4, alpha=6, targets=targets, generator=seeded(1))
    if learned:
        with torch.no_grad():
            for _, layer in lora_layers(model):
                layer.lora_b.normal_(std=0.3, generator=seeded(2))
    return model


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def unmerge_lora(model):
    for _, layer in lora_layers(model):
        layer.unmerge()


# Worked example


def test_worked_example_of_a_correction():
    """W is 2 × 3, A is 1 × 3 and B is 2 × 1, alpha / rank is 2. From x = (1, 2, 3),
    W makes (1, 2) and A makes 1 + 3 = 4, B makes (4, -8) of that, doubled (8, -16):
    together (9, -14). The correction as a matrix is 2 B A.
    """
    layer = nn.Linear(3, 2, bias=False)
    adapted = LoRALinear(layer, rank=1, alpha=2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        adapted.lora_a.copy_(torch.tensor([[1.0, 0.0, 1.0]]))
        adapted.lora_b.copy_(torch.tensor([[1.0], [-2.0]]))
    x = torch.tensor([1.0, 2.0, 3.0])
    assert adapted(x).tolist() == [9.0, -14.0]
    assert adapted.correction().tolist() == [[2.0, 0.0, 2.0], [-4.0, 0.0, -4.0]]
    adapted.merge()
    assert adapted.weight.tolist() == [[3.0, 0.0, 2.0], [-4.0, 1.0, -4.0]]
    assert adapted(x).tolist() == [9.0, -14.0]


def test_worked_example_of_counting():
    """Two layers; a query of 24 × 24 and a value of 24 × 8 at rank 4 get
    4 · 48 + 4 · 32 = 320 each, 640 in all, beside what the model has.
    """
    plain, model = make_model(), make_model()
    add_lora(model, rank=4, alpha=8)
    total = sum(weight.numel() for weight in plain.parameters())
    assert count_parameters(plain) == (total, total)
    assert count_parameters(model) == (640, total + 640)
    assert sum(w.numel() for n, w in model.named_parameters() if "lora_" in n) == 640


# Law


@BOTH
def test_an_adapter_starts_as_nothing(family):
    model = adapted_model(family, learned=False)
    assert torch.equal(model(IDS), make_model(family)(IDS))


@BOTH
def test_only_adapters_learn(family):
    """The first gradient is B's alone: A's passes through B, which is zero."""
    model = adapted_model(family, learned=False)
    model(IDS).square().sum().backward()
    moved = {n for n, w in model.named_parameters() if w.grad is not None}
    assert moved == {n for n, _ in model.named_parameters() if "lora" in n}
    for _, layer in lora_layers(model):
        assert layer.lora_b.grad.abs().max() > 0
        assert layer.lora_a.grad.abs().max() == 0


@BOTH
@torch.no_grad()
def test_merged_equals_unmerged(family):
    """The same sums in another order; what the adapters do is far larger."""
    model = adapted_model(family)
    unmerged, before = model(IDS), weights_of(model)
    merge_lora(model)
    torch.testing.assert_close(model(IDS), unmerged, atol=1e-5, rtol=1e-4)
    assert (unmerged - make_model(family)(IDS)).abs().max() > 0.1
    merge_lora(model)  # once is enough
    torch.testing.assert_close(model(IDS), unmerged, atol=1e-5, rtol=1e-4)
    assert not [name for name, _ in model.named_parameters() if "lora_" in name]
    unmerge_lora(model)
    unmerge_lora(model)
    assert_same_weights(weights_of(model), before)
    assert torch.equal(model(IDS), unmerged)


@torch.no_grad()
def test_the_correction_has_the_rank():
    """Of a random 24 × 24 matrix B A at rank 4, four singular values are not zero."""
    model = adapted_model()
    for name, layer in lora_layers(model):
        values = torch.linalg.svdvals(layer.correction())
        assert (values > 1e-4).sum() == 4, name


@torch.no_grad()
def test_alpha_and_rank_scale_the_correction():
    layer = nn.Linear(7, 5)
    adapted = LoRALinear(layer, 2, 3, seeded())
    adapted.lora_b.fill_(1.0)
    once = adapted.correction()
    adapted.alpha = 12
    torch.testing.assert_close(adapted.correction(), 4 * once)
    # The same B A in twice as many rows, half of them zero, is halved.
    wide = LoRALinear(layer, 4, 3, seeded())
    wide.lora_a.zero_()[:2] = adapted.lora_a
    wide.lora_b.fill_(1.0)
    torch.testing.assert_close(wide.correction(), once / 2)


@BOTH
def test_a_merged_model_is_saved_like_any_other(family, tmp_path):
    model, tokenizer = adapted_model(family), make_tokenizer()
    with pytest.raises(ValueError, match=r"lora_a' is not a weight of a"):
        save_pretrained(model, tokenizer, tmp_path)
    merge_lora(model)
    save_pretrained(model, tokenizer, tmp_path)
    loaded, _ = load_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS), model(IDS))


@BOTH
def test_removed_adapters_leave_the_model_as_it_was(family):
    model = adapted_model(family)
    remove_lora(model)
    assert_same_weights(weights_of(model), weights_of(make_model(family)))
    assert all(weight.requires_grad for weight in model.parameters())
    assert not list(lora_layers(model))
    assert torch.equal(model(IDS), make_model(family)(IDS))
    add_lora(model, rank=2, alpha=2)  # and it can have others


@torch.no_grad()
def test_removed_after_merging_they_stay_for_good():
    model = adapted_model()
    merge_lora(model)
    merged = model(IDS)
    remove_lora(model)
    assert torch.equal(model(IDS), merged)
    assert weights_of(model).keys() == weights_of(make_model()).keys()


def test_a_copy_of_a_model_has_adapters_of_its_own():
    model = adapted_model()
    merge_lora(model)
    other = copy.deepcopy(model)
    unmerge_lora(other)
    with torch.no_grad():
        next(lora_layers(other))[1].lora_a.zero_()
    unmerge_lora(model)
    assert next(lora_layers(model))[1].lora_a.abs().max() > 0


def test_the_same_generator_gives_the_same_adapters():
    one, two = adapted_model(learned=False), adapted_model(learned=False)
    assert_same_weights(weights_of(one), weights_of(two))
    first = next(lora_layers(one))[1].lora_a.detach()
    assert first.std().item() == pytest.approx(24**-0.5, rel=0.3)  # of 96 numbers


# Reference


@BOTH
@torch.no_grad()
def test_equals_a_model_with_the_products_added(family):
    """Every correction, computed with loops and added to a plain model's weight."""
    model, plain = adapted_model(family), make_model(family)
    for name, layer in lora_layers(model):
        a, b = layer.lora_a.double(), layer.lora_b.double()
        target = plain.get_submodule(name).weight
        for row in range(target.shape[0]):
            for column in range(target.shape[1]):
                total = sum(b[row, r] * a[r, column] for r in range(4))
                target[row, column] += total * 6 / 4
    torch.testing.assert_close(model(IDS), plain(IDS), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_equals_pefts(bias):
    """Their layer around the same linear layer, with the same A, B and alpha."""
    peft = pytest.importorskip("peft")
    network = nn.Sequential(nn.Linear(7, 5, bias=bias))
    ours = LoRALinear(copy.deepcopy(network[0]), 3, 4, seeded())
    ours.lora_b.normal_(generator=seeded(1))
    config = peft.LoraConfig(r=3, lora_alpha=4, target_modules=["0"])
    theirs = peft.get_peft_model(network, config)
    layer = theirs.base_model.model[0]
    layer.lora_A["default"].weight.copy_(ours.lora_a)
    layer.lora_B["default"].weight.copy_(ours.lora_b)
    x = torch.randn(2, 6, 7, generator=seeded(2))
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.correction(), layer.get_delta_weight("default"))
    ours.merge()
    torch.testing.assert_close(ours(x), theirs.merge_and_unload()(x))


# Refusal


SIZES_THAT_CANNOT_BE = pytest.mark.parametrize(
    ("rank", "alpha"),
    [(0, 1), (-1, 1), (2, 0), (2, -1.0), (2, math.inf), (2, math.nan)],
)


def assert_untouched(model):
    assert not list(lora_layers(model))
    assert all(weight.requires_grad for weight in model.parameters())


def test_refuses_a_rank_above_the_width():
    """It would take memory for a correction that has no more freedom."""
    model = make_model()
    width = model.config.d_model
    with pytest.raises(ValueError, match=f"rank must be in 1 … {width}, got 100000"):
        add_lora(model, 100_000, 1)
    assert_untouched(model)
    add_lora(model, width, 1)


@SIZES_THAT_CANNOT_BE
def test_refuses_sizes_that_are_not_positive(rank, alpha):
    model = make_model()
    with pytest.raises(ValueError, match="(rank|alpha) must be"):
        add_lora(model, rank, alpha)
    assert_untouched(model)
    with pytest.raises(ValueError, match="(rank|alpha) must be"):
        LoRALinear(model.blocks[0].attention.query, rank, alpha)
    assert_untouched(model)


@SIZES_THAT_CANNOT_BE
def test_a_bad_second_size_leaves_the_first_layer_as_it_was(rank, alpha):
    model = make_model()
    good, bad = "blocks.0.attention.query", "blocks.1.attention.query"
    with pytest.raises(ValueError, match="(rank|alpha) must be"):
        add_lora_to(model, {good: (2, 2), bad: (rank, alpha)})
    assert_untouched(model)


@pytest.mark.parametrize("name", ["blocks.7.attention.query", "query", "embedding"])
def test_refuses_layers_that_there_are_not(name):
    model = make_model()
    with pytest.raises(
        ValueError, match=rf"must be linear layers .*, got \['{name}'\]"
    ):
        add_lora_to(model, {"blocks.0.attention.query": (2, 2), name: (2, 2)})
    assert_untouched(model)


@pytest.mark.parametrize("targets", [["gate"], ["query", "keys"], [], ["embedding"]])
def test_refuses_targets_that_there_are_not(targets):
    """GPT-2's network has no gate."""
    names = r"\['down', 'key', 'output', 'query', 'up', 'value'\]"
    with pytest.raises(ValueError, match=f"targets must be some of {names}, got"):
        add_lora(make_model("gpt2"), 2, 2, targets)


def test_refuses_adapters_on_adapters():
    model = adapted_model()
    with pytest.raises(ValueError, match="has 6 adapters already"):
        add_lora(model, 2, 2, ["down"])
    with pytest.raises(ValueError, match="has 6 adapters already"):
        add_lora_to(model, {"blocks.0.feed_forward.down": (2, 2)})


@pytest.mark.parametrize("function", [merge_lora, remove_lora])
def test_refuses_a_model_without_adapters(function):
    with pytest.raises(ValueError, match="must have adapters, got one without"):
        function(make_model())
