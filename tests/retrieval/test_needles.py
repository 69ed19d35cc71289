"""Needles: where they lie, how long the text is, and who finds them."""

import random

import pytest
import torch

from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.retrieval.needles import Haystack, count_found


@pytest.fixture(scope="module")
def shipped():
    return load_pretrained("base-llm")


@pytest.fixture(scope="module")
def haystack(shipped):
    return Haystack(shipped[1], n_stories=100)


# Worked example


def test_a_needle_without_hay(haystack):
    needle = haystack.hide(40, 0.5, random.Random(0))
    first, fact, question = needle.text.split(". ")[0], needle.text, needle.text[-30:]
    assert "was a kind" in first
    assert f"often wore a fine {needle.answer} " in fact
    assert "wrapped it up in h" in question


# Law


@pytest.mark.parametrize("n_tokens", [60, 150, 400])
@pytest.mark.parametrize("depth", [0, 0.5, 1])
def test_length_and_depth_are_as_asked(haystack, n_tokens, depth):
    needle = haystack.hide(n_tokens, depth, random.Random(1))
    size = len(haystack.tokenizer.encode(needle.text)) + 1
    assert n_tokens - 12 < size <= n_tokens
    before, after = needle.text.split("often wore")
    if n_tokens == 400:
        share = len(before) / len(before + after)
        assert share == pytest.approx(depth, abs=0.15)


def test_no_other_colour_is_mentioned(haystack):
    text = haystack.hide(400, 0.5, random.Random(2)).text
    words = text.replace(".", "").split()
    assert sum(word in haystack.colours for word in words) == 1


def test_the_shipped_model_finds_it_nearby_and_one_without_training_guesses(
    shipped, haystack
):
    near = count_found(shipped[0], haystack, 60, 0.5, n=10)
    assert near.n == 10
    assert near.right >= 8
    new = Transformer(shipped[0].config, torch.Generator().manual_seed(0))
    assert count_found(new, haystack, 60, 0.5, n=10).right <= 5


# Reference


def test_what_is_found_is_the_most_probable_colour(shipped, haystack):
    """The same needles, each asked for alone; some of them are not found."""
    (model, tokenizer), rng, right = shipped, random.Random(3), 0
    for _ in range(12):
        needle = haystack.hide(300, 1, rng)
        ids = torch.tensor([[0, *tokenizer.encode(needle.text)]])
        with torch.inference_mode():
            scores = model(ids)[0, -1]
        best = max(haystack.colours, key=lambda x: scores[tokenizer.encode(f" {x}")[0]])
        right += best == needle.answer
    assert count_found(model, haystack, 300, 1, n=12, seed=3) == (right, 12)
    assert 0 < right < 12


# Refusal


def test_refusals(haystack):
    with pytest.raises(ValueError, match="depth must be in 0 … 1, got 2"):
        haystack.hide(100, 2, random.Random(0))
    with pytest.raises(ValueError, match="n_tokens must be at least [0-9]+, got 10"):
        haystack.hide(10, 0, random.Random(0))
