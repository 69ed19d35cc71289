"""Sequences side by side: each is read as if it were alone."""

from dataclasses import replace

import pytest
import torch

from llmcourse.model.quantization import quantize_model
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.serving.batching import SlotCache, read_next, read_prompt

LLAMA = TransformerConfig(
    vocab_size=53,
    d_model=48,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    d_ff=36,
    context_length=80,
)
CONFIGS = {
    "llama": LLAMA,
    "gpt2": replace(LLAMA, family="gpt2", n_kv_heads=6),
    "untied": replace(LLAMA, tied_embeddings=False, n_kv_heads=6),
}
EACH = pytest.mark.parametrize("name", CONFIGS)


def make(name="llama"):
    return Transformer(CONFIGS[name], torch.Generator().manual_seed(0)).eval()


def some_ids(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 53, (n,), generator=generator)


# Worked example


def test_worked_example_of_lengths():
    """Two prompts of 3 and 5 tokens in slots 2 and 0; then slot 2 reads two more."""
    model = make()
    cache = SlotCache(model, n_slots=4)
    read_prompt(model, some_ids(3), cache, 2)
    read_prompt(model, some_ids(5), cache, 0)
    assert cache.lengths == [5, 0, 3, 0]
    for new in (7, 8):
        read_next(model, {2: new}, cache)
    assert cache.lengths == [5, 0, 5, 0]
    cache.free(0)
    assert cache.lengths == [0, 0, 5, 0]


# Laws


@EACH
def test_each_slot_equals_the_model_without_a_cache(name):
    """Lengths on both sides of 32 and 64, where the number of keys doubles."""
    model = make(name)
    cache = SlotCache(model, n_slots=4)
    texts = {0: some_ids(40, 1), 1: some_ids(70, 2), 3: some_ids(36, 3)}
    starts = {0: 25, 1: 58, 3: 1}
    for slot, start in starts.items():
        logits = read_prompt(model, texts[slot][:start], cache, slot)
        with torch.no_grad():
            want = model(texts[slot][None, :start])[0, -1]
        torch.testing.assert_close(logits, want, rtol=1e-4, atol=1e-5)
    for step in range(10):
        places = {slot: start + step for slot, start in starts.items()}
        ids = {slot: int(texts[slot][place]) for slot, place in places.items()}
        logits = read_next(model, ids, cache)
        for slot, place in places.items():
            with torch.no_grad():
                want = model(texts[slot][None, : place + 1])[0, -1]
            torch.testing.assert_close(logits[slot], want, rtol=1e-4, atol=1e-5)


@EACH
def test_neither_place_nor_company_changes_a_bit(name):
    model = make(name)
    prompt, rest = some_ids(27, 4), some_ids(12, 5).tolist()

    def alone_in(slot):
        cache = SlotCache(model, n_slots=17)
        read_prompt(model, prompt, cache, slot)
        return torch.stack([read_next(model, {slot: i}, cache)[slot] for i in rest])

    cache = SlotCache(model, n_slots=17)
    for slot, n in ((4, 50), (0, 3), (1, 27)):
        read_prompt(model, some_ids(n, 6 + slot), cache, slot)
    read_prompt(model, prompt, cache, 3)
    crowded = torch.stack(
        [read_next(model, dict.fromkeys((4, 0, 1), 9) | {3: i}, cache)[3] for i in rest]
    )
    for slot in (*range(5), 15, 16):
        assert torch.equal(alone_in(slot), crowded)


def test_what_a_slot_held_before_does_not_matter():
    model = make()
    cache, fresh = SlotCache(model, 2), SlotCache(model, 2)
    read_prompt(model, some_ids(60, 8), cache, 1)
    read_next(model, {1: 5}, cache)
    cache.free(1)
    for held in (cache, fresh):
        read_prompt(model, some_ids(4, 9), held, 1)
    assert torch.equal(
        read_next(model, {1: 6}, cache)[1], read_next(model, {1: 6}, fresh)[1]
    )


def test_a_quantized_model_has_slots_too():
    model = quantize_model(make("untied"))
    cache, ids = SlotCache(model, 3), some_ids(9)
    read_prompt(model, ids[:8], cache, 1)
    with torch.no_grad():
        want = model(ids[None])[0, -1]
    torch.testing.assert_close(
        read_next(model, {1: int(ids[8])}, cache)[1], want, rtol=1e-4, atol=1e-5
    )


# Reference


def test_bytes_are_those_of_the_formula():
    """2 · layers · slots · key-value heads · positions · width · 4 bytes."""
    assert SlotCache(make(), 5, 7).n_bytes == 2 * 3 * 5 * 2 * 7 * 8 * 4


# Refusals


def test_slots_that_are_empty_or_full_are_refused():
    model = make()
    cache = SlotCache(model, n_slots=2, capacity=6)
    with pytest.raises(ValueError, match=r"slot 1 must hold 1 … 5 .* got 0"):
        read_next(model, {1: 3}, cache)
    read_prompt(model, some_ids(6), cache, 1)
    with pytest.raises(ValueError, match="got 6"):
        read_next(model, {1: 3}, cache)
    with pytest.raises(ValueError, match=r"at most 6 positions, got 1 of 7"):
        read_prompt(model, some_ids(7), cache, 0)
    with pytest.raises(ValueError, match="got 2 of"):
        cache.fill(0, model.new_cache(2))
    with pytest.raises(ValueError, match="context_length is 80"):
        read_prompt(model, some_ids(0), cache, 0)
    with pytest.raises(ValueError, match="must all be at least 1"):
        SlotCache(model, n_slots=0)
