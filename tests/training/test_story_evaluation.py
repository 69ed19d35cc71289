"""A model against the grammar: prices of the same stories, and stories of its own."""

import json
import math
from dataclasses import replace
from statistics import mean, stdev

import pytest
import torch

from llmcourse.intervals import wilson_interval
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import evaluation as module
from llmcourse.training.evaluation import (
    Sample,
    _other_words,
    costliest_features,
    count_valid,
    exact_losses,
    tale_loss,
    write_samples,
)

END = "<|endoftext|>"
STORIES = list(tales.generate(5, seed=17))
SIZES = TransformerConfig(
    vocab_size=400,
    d_model=8,
    n_layers=1,
    n_heads=2,
    n_kv_heads=1,
    d_ff=12,
    context_length=7,
)


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train([story.text for story in STORIES], 400, [END])


@pytest.fixture(scope="module")
def model():
    return Transformer(SIZES, torch.Generator().manual_seed(0))


@pytest.fixture
def clueless():
    """A model to which all tokens are alike: every logit is zero."""
    model = Transformer(SIZES)
    with torch.no_grad():
        model.norm.weight.zero_()
    return model


def test_features_share_the_excess_among_them(tokenizer):
    model = Transformer(replace(SIZES, context_length=512))
    features = costliest_features(model, tokenizer, n_stories=5, seed=17)
    found = tale_loss(model, tokenizer, n_stories=5, seed=17)
    total = math.fsum(feature.excess for feature in features)
    assert total == pytest.approx(found.excess.value, rel=1e-5)
    assert [f.excess for f in features] == sorted(f.excess for f in features)[::-1]
    assert {"hero", "garment", "hobby"} <= {feature.name for feature in features}
    for feature in features:
        assert any(feature.example in story.text for story in STORIES)


def test_exact_losses_sum_to_the_price_of_the_story(tokenizer):
    for story in STORIES:
        exact = exact_losses(tokenizer, story.text)
        assert len(exact) == len(story.text.split())
        assert math.fsum(exact) == pytest.approx(-story.log_prob)
        assert min(exact) > -1e-9


def test_words_that_go_on_in_the_same_tokens_are_no_others():
    """With " seeds" as one token, " seed" alone says that no s follows."""
    texts = [" seed seed seeds"] * 9
    parts = BPETokenizer.train(texts, 300, special_tokens=[END], allow_fewer=True)
    assert parts.tokens(" seeds")[0] == " seeds"
    assert _other_words(parts, "It was a seed") == ["It was a seeds"]
    letters = BPETokenizer.train(["x"], 258, special_tokens=[END], allow_fewer=True)
    assert _other_words(letters, "It was a seed") == []
    assert _other_words(parts, "It was a seed,") == []


def test_stories_longer_than_the_context_have_no_features(model, tokenizer):
    assert costliest_features(model, tokenizer, n_stories=2, seed=17) == []


def test_excess_of_a_clueless_model(clueless, tokenizer):
    """It pays log 400 for each token, whatever the grammar says of the story."""
    found = tale_loss(clueless, tokenizer, n_stories=5, seed=17)
    counts = [len(tokenizer.encode(story.text)) + 1 for story in STORIES]
    excess = [
        n * math.log(400) + story.log_prob
        for n, story in zip(counts, STORIES, strict=True)
    ]
    assert found.excess.value == pytest.approx(mean(excess))
    assert found.excess.standard_error == pytest.approx(stdev(excess) / 5**0.5)
    entropy = tales.world().entropy()
    assert found.floor.value == pytest.approx(entropy / mean(counts))
    assert found.gap == pytest.approx(mean(counts) * math.log(400) / entropy - 1)
    assert found.text.n_tokens == sum(counts)
    assert found.text.n_bytes == sum(len(story.text.encode()) for story in STORIES)


def test_the_two_gaps_differ_by_the_luck_of_the_draw(model, tokenizer):
    """Gap = price / entropy − 1; paired: (price − exact price) / entropy."""
    found = tale_loss(model, tokenizer, n_stories=3, seed=4)
    exact = mean(-story.log_prob for story in tales.generate(3, seed=4))
    luck = exact / tales.world().entropy() - 1
    assert found.gap - found.paired_gap.value == pytest.approx(luck)
    above = found.text.loss - found.sample_floor  # nats per token
    assert above * found.text.n_tokens / 3 == pytest.approx(found.excess.value)


def test_stories_of_another_seed_are_others(model, tokenizer):
    one, other = (tale_loss(model, tokenizer, n_stories=2, seed=s) for s in (1, 2))
    assert one.sample_floor != other.sample_floor
    assert one == tale_loss(model, tokenizer, n_stories=2, seed=1)


def write(monkeypatch, tokenizer, texts):
    """Let `generate` return these texts, each up to its end, padded with ends."""
    end = tokenizer.special_tokens[END]
    rows = iter([[end, *tokenizer.encode(text), end] for text in texts])

    def fake(model, prompts, max_new_tokens, **options):
        assert options["stop"] == [end]
        assert prompts.tolist() == [[end]] * len(prompts)
        chosen = [next(rows) for _ in prompts]
        longest = max(map(len, chosen))
        return torch.tensor([row + [end] * (longest - len(row)) for row in chosen])

    monkeypatch.setattr(module, "generate", fake)


def test_samples_are_valid_where_the_grammar_can_write_them(
    model, tokenizer, monkeypatch
):
    texts = [story.text for story in STORIES]
    texts[1] = texts[1].replace(" was ", " were ")
    texts[3] = texts[3][:-1]  # the last full stop
    write(monkeypatch, tokenizer, texts)
    monkeypatch.setattr(module, "_SAMPLES_AT_ONCE", 2)
    seen = []
    found = write_samples(model, tokenizer, 5, progress=lambda *at: seen.append(at))
    assert [sample.text for sample in found] == texts
    assert [sample.error is None for sample in found] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert count_valid(found) == (3, 5)
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_an_untrained_model_writes_nonsense_the_same_way_twice(model, tokenizer):
    def samples(seed):
        generator = torch.Generator().manual_seed(seed)
        return write_samples(model, tokenizer, 3, generator=generator)

    found = samples(1)
    assert count_valid(found).right == 0  # false alarms: none of 400 tokens is a story
    assert all(END not in sample.text for sample in found)
    assert found == samples(1)
    assert found != samples(2)


def test_json_has_derived_numbers_too(model, tokenizer):
    loss = tale_loss(model, tokenizer, n_stories=2)
    found = json.loads(json.dumps(loss.to_json()))
    assert found["gap"] == loss.gap
    assert found["paired_gap"]["value"] == loss.paired_gap.value
    assert found["loss"] == loss.text.loss
    valid = count_valid([Sample("a", None), Sample("b", "no")])
    found = json.loads(json.dumps(valid.to_json()))
    assert (found["right"], found["n"], found["share"]) == (1, 2, 0.5)
    assert found["interval"] == wilson_interval(1, 2)._asdict()


@pytest.mark.parametrize("n", [-1, 0, 1])
def test_too_few_stories_are_refused(model, tokenizer, n):
    with pytest.raises(ValueError, match=f"n_stories must be at least 2, got {n}"):
        tale_loss(model, tokenizer, n_stories=n)


def test_no_samples_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        write_samples(model, tokenizer, 0)
