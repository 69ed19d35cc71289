"""Drawing tokens: the distribution, the loop, and the cache."""

import math
from dataclasses import replace

import pytest
import torch
from model_cases import generate_uncached, seeded

from llmcourse.model import generation
from llmcourse.model.generation import (
    GREEDY,
    Sampling,
    generate,
    inverse_cdf,
    next_token_distribution,
    stream,
    stream_text,
    write,
)
from llmcourse.model.transformer import TINY, Transformer, TransformerConfig
from llmcourse.text.tokenizers import BPETokenizer

MODEL_CONFIG = replace(TINY, vocab_size=19, context_length=24)


def make_model():
    """Return a model that is far from sure and far from indifferent."""
    generator = torch.Generator().manual_seed(2)
    model = Transformer(MODEL_CONFIG, generator)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=generator)
    return model


PROMPTS = torch.tensor([[3, 1, 4], [1, 5, 9]])

# Worked example


def test_worked_example_of_four_tokens():
    """Probabilities 0.4, 0.3, 0.2, 0.1.

    Temperature 1/2 squares them: 16, 9, 4, 1 of 30. Top-k 2 leaves 4 : 3. Top-p
    0.7 needs the first two exactly, 0.71 a third. Top-k 3 leaves 4 : 3 : 2, of
    which top-p 0.5 needs the first two again (4/9 are not enough).
    """
    logits = torch.tensor([0.3, 0.1, 0.4, 0.2]).log()
    for options, expected in (
        ({"temperature": 0.5}, [9 / 30, 1 / 30, 16 / 30, 4 / 30]),
        ({"top_k": 2}, [3 / 7, 0, 4 / 7, 0]),
        ({"top_p": 0.69}, [3 / 7, 0, 4 / 7, 0]),
        ({"top_p": 0.71}, [3 / 9, 0, 4 / 9, 2 / 9]),
        ({"top_k": 3, "top_p": 0.5}, [3 / 7, 0, 4 / 7, 0]),
        ({"temperature": 0}, [0, 0, 1, 0]),
    ):
        probs = next_token_distribution(logits, Sampling(**options))
        torch.testing.assert_close(probs, torch.tensor(expected, dtype=torch.float32))


def test_worked_example_of_a_number_on_a_bar_of_probabilities():
    """Ends at 0.25, 0.25, 1: a token without probability is never drawn."""
    probs = torch.tensor([[0.25, 0.0, 0.75]]).expand(4, 3)
    drawn = inverse_cdf(probs, torch.tensor([0.0, 0.2499, 0.25, 0.9999999]))
    assert drawn.tolist() == [0, 0, 2, 2]


# Law


@pytest.mark.parametrize("temperature", [0, 1e-30, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("top_k", [None, 1, 5, 99])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.5, 1.0])
def test_probabilities_sum_to_one(temperature, top_k, top_p):
    logits = 30 * torch.randn(2, 3, 11, generator=seeded())
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    probs = next_token_distribution(logits, sampling)
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(2, 3))
    assert torch.equal(probs.argmax(-1), logits.argmax(-1))


@pytest.mark.parametrize(
    ("n", "top_p", "kept"), [(10, 0.6, 6), (3, 2 / 3, 2), (50, 0.1, 5)]
)
def test_top_p_that_is_reached_exactly_keeps_no_more(n, top_p, kept):
    for dtype in (torch.float32, torch.float64):
        probs = next_token_distribution(
            torch.zeros(n, dtype=dtype), Sampling(top_p=top_p)
        )
        assert int((probs > 0).sum()) == kept


def test_of_two_scores_with_the_same_probability_the_higher_is_kept():
    scores = torch.tensor([0.0, 1e-45, 30.0], dtype=torch.float64)
    probs = next_token_distribution(scores, Sampling(top_k=2))
    assert probs.nonzero().flatten().tolist() == [1, 2]


def test_top_k_keeps_exactly_k_of_equals():
    probs = next_token_distribution(torch.zeros(7), Sampling(top_k=3))
    assert sorted(probs.tolist()) == pytest.approx([0] * 4 + [1 / 3] * 3)


def test_options_that_keep_all_change_nothing():
    logits = torch.randn(5, 11, generator=seeded())
    plain = logits.softmax(-1)
    for options in ({}, {"top_k": 11}, {"top_k": 400}, {"top_p": 1.0}):
        torch.testing.assert_close(
            next_token_distribution(logits, Sampling(**options)), plain
        )


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0}, {}, {"temperature": 1.5, "top_k": 7}, {"top_p": 0.8}],
)
def test_the_cache_changes_nothing(options):
    model, sampling = make_model(), Sampling(**options)
    cached = generate(model, PROMPTS, 21, sampling=sampling, generator=seeded())
    plain = generate_uncached(model, PROMPTS, 21, sampling, seeded())
    assert torch.equal(cached, plain)
    assert torch.equal(cached[:, :3], PROMPTS)
    assert cached.shape == (2, 24)  # the whole context is used


def test_the_same_seed_writes_the_same_and_another_does_not():
    first, again, other = (
        generate(make_model(), PROMPTS, 20, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_greedy_needs_no_luck():
    model = make_model()
    first, other = (
        generate(model, PROMPTS, 20, sampling=GREEDY, generator=seeded(s))
        for s in (1, 2)
    )
    assert torch.equal(first, other)
    barely = generate(
        model, PROMPTS, 20, sampling=Sampling(top_k=1), generator=seeded()
    )
    assert torch.equal(first, barely)


def test_a_stream_yields_what_generate_writes():
    model = make_model()
    written = generate(model, PROMPTS[0], 15, generator=seeded())
    ids = list(stream(model, PROMPTS[0], 15, generator=seeded()))
    assert written.tolist() == PROMPTS[0].tolist() + ids
    stop = ids[6]
    end = ids.index(stop) + 1
    stopped = generate(model, PROMPTS[0], 15, stop=[stop], generator=seeded())
    assert stopped.tolist() == PROMPTS[0].tolist() + ids[:end]
    ids_again = stream(model, PROMPTS[0], 15, stop={stop}, generator=seeded())
    assert list(ids_again) == ids[:end]


def test_a_stop_in_the_prompt_stops_nothing():
    model = make_model()
    free = generate(model, PROMPTS[0], 5, sampling=GREEDY)
    stop = [3, 1, 4]
    assert not set(free[3:].tolist()) & set(stop), "choose other prompts"
    assert torch.equal(generate(model, PROMPTS[0], 5, sampling=GREEDY, stop=stop), free)


def test_a_stopped_row_repeats_its_stop_and_the_others_go_on():
    model = make_model()
    free = generate(model, PROMPTS, 12, generator=seeded())
    stop = int(free[0, 5])
    ends = [
        row.tolist().index(stop) if stop in row.tolist() else 11 for row in free[:, 3:]
    ]
    assert ends[0] != ends[1], "choose another seed"
    stopped = generate(model, PROMPTS, 12, stop=[stop], generator=seeded())
    assert stopped.shape[1] == 3 + max(ends) + 1
    for row, free_row, end in zip(stopped[:, 3:], free[:, 3:], ends, strict=True):
        assert torch.equal(row[: end + 1], free_row[: end + 1])
        assert (row[end + 1 :] == stop).all()


def test_a_stream_reads_no_further_than_asked():
    """The model is called once for the prompt and once for each id after the first."""
    model, calls = make_model(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    ids = stream(model, PROMPTS[0], 15)
    assert len(calls) == 0
    next(ids)
    assert len(calls) == 1
    next(ids)
    assert len(calls) == 2


def test_a_waiting_stream_leaves_torch_as_it_was():
    ids = stream(make_model(), PROMPTS[0], 15)
    next(ids)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_what_is_written_can_be_trained_on():
    """No trace of the mode in which it was computed sticks to the result."""
    model = make_model()
    written = generate(model, PROMPTS, 4, generator=seeded())
    model(written).sum().backward()
    assert model.embedding.weight.grad.abs().sum() > 0


# Reference


def test_frequencies_follow_the_distribution():
    """20,000 draws from 19 tokens: Pearson's statistic has 18 degrees of freedom and
    exceeds 60 by chance once in 500,000.
    """
    model, n = make_model(), 20_000
    ids = generate(model, PROMPTS[:1].repeat(n, 1), 1, generator=seeded())[:, -1]
    with torch.no_grad():
        expected = n * model(PROMPTS[:1])[0, -1].softmax(-1)
    counts = torch.bincount(ids, minlength=19)
    assert ((counts - expected) ** 2 / expected).sum() < 60


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 5, 0.9), (1.3, 8, 0.4), (1.0, 3, 1.0)]
)
def test_equals_the_filters_of_transformers(temperature, top_k, top_p):
    transformers = pytest.importorskip("transformers")
    logits = 3 * torch.randn(5, 19, generator=seeded(3))
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    filtered = logits
    for warp in (
        transformers.TemperatureLogitsWarper(temperature),
        transformers.TopKLogitsWarper(top_k),
        transformers.TopPLogitsWarper(top_p),
    ):
        filtered = warp(None, filtered)
    torch.testing.assert_close(
        next_token_distribution(logits, sampling),
        filtered.softmax(-1),
    )


# Refusal


@pytest.mark.parametrize("temperature", [-0.1, math.inf, math.nan])
def test_refuses_a_temperature_that_is_none(temperature):
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        Sampling(temperature=temperature)


@pytest.mark.parametrize("top_k", [0, -1])
def test_refuses_to_keep_no_token(top_k):
    with pytest.raises(ValueError, match=f"top_k must be at least 1, got {top_k}"):
        Sampling(top_k=top_k)


@pytest.mark.parametrize("top_p", [0, -0.5, 1.01, math.nan])
def test_refuses_a_share_that_is_none(top_p):
    with pytest.raises(ValueError, match=r"top_p must be in \(0, 1\], got"):
        Sampling(top_p=top_p)


def test_refuses_what_does_not_fit_before_the_first_token():
    with pytest.raises(ValueError, match=r"context_length = 24, got 3 \+ 22"):
        generate(make_model(), PROMPTS, 22)
    with pytest.raises(ValueError, match=r"context_length = 24, got 3 \+ 22"):
        stream(make_model(), PROMPTS[0], 22)


def test_refuses_an_empty_prompt_and_a_negative_number():
    nothing = torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match="n_prompt must be at least 1, got 0"):
        generate(make_model(), nothing, 5)
    with pytest.raises(ValueError, match="max_new_tokens must be at least 0, got -1"):
        stream(make_model(), PROMPTS[0], -1)


def test_refuses_ids_outside_the_vocabulary():
    with pytest.raises(ValueError, match="ids must be in 0 … 18"):
        generate(make_model(), torch.tensor([3, 19]), 5)


# Text as it is drawn: whole characters, the same as all at once

END = "<|endoftext|>"
SIZES = TransformerConfig(
    vocab_size=257,
    d_model=8,
    n_layers=1,
    n_heads=2,
    n_kv_heads=1,
    d_ff=12,
    context_length=23,
)


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(["bytes alone"], 257, [END])


@pytest.fixture(scope="module")
def model():
    return Transformer(SIZES, torch.Generator().manual_seed(0))


def test_a_character_comes_when_its_last_byte_is_there(model, tokenizer, monkeypatch):
    """Each token is a byte here: 1 for a, 2 for é, 3 for 狐, 4 for 🦊."""
    drawn = []

    def fake(*_, **options):
        for id_ in tokenizer.encode("aé狐🦊"):
            drawn.append(id_)
            yield id_
        yield options["stop"][0]

    monkeypatch.setattr(generation, "stream", fake)
    seen = [(piece, len(drawn)) for piece in stream_text(model, tokenizer)]
    assert seen == [("a", 1), ("é", 3), ("狐", 6), ("🦊", 10)]


@pytest.mark.parametrize("prompt", ["", "é", "One"])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.5, top_k=9, top_p=0.8)]
)
def test_pieces_make_the_text_that_generation_writes(
    model, tokenizer, prompt, sampling
):
    end = tokenizer.special_tokens[END]
    ids = torch.tensor([end, *tokenizer.encode(prompt)])
    new = generate(
        model,
        ids,
        23 - len(ids),
        stop=[end],
        sampling=sampling,
        generator=torch.Generator().manual_seed(5),
    )
    text = tokenizer.decode(new.tolist(), skip_special_tokens=True)
    assert text.startswith(prompt)
    assert write(model, tokenizer, prompt, seed=5, sampling=sampling) == text
    pieces = list(stream_text(model, tokenizer, prompt, seed=5, sampling=sampling))
    assert prompt + "".join(pieces) == text
    assert all(pieces)


def test_max_new_tokens_is_obeyed_and_none_writes_nothing(model, tokenizer):
    assert write(model, tokenizer, "One", max_new_tokens=0) == "One"
    pieces = list(stream_text(model, tokenizer, "One", max_new_tokens=2))
    assert 0 < len(pieces) <= 2


def test_a_prompt_that_fills_the_context_is_returned(model, tokenizer):
    assert write(model, tokenizer, "x" * 22) == "x" * 22


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "x" * 23}, r"context_length = 23, got 24 \+ 0"),
        ({"prompt": "x", "max_new_tokens": 22}, "must fit into context_length = 23"),
        ({"max_new_tokens": -1}, "max_new_tokens must be at least 0, got -1"),
    ],
)
def test_refusals_come_before_the_first_piece(model, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        stream_text(model, tokenizer, **options)
    with pytest.raises(ValueError, match=message):
        write(model, tokenizer, **options)


def test_a_tokenizer_without_an_end_is_refused(model):
    bare = BPETokenizer.train(["bytes alone"], 257, ["<pad>"])
    with pytest.raises(ValueError, match="special token"):
        stream_text(model, bare)


@pytest.mark.parametrize("temperature", [0, 1])
def test_one_row_that_is_no_number_is_noticed(temperature):
    logits, sampling = torch.zeros(2, 3), Sampling(temperature=temperature)
    logits[1, 2] = math.nan
    with pytest.raises(FloatingPointError, match="needs logits, got NaN"):
        generation.draw(logits, sampling, seeded())


@pytest.mark.parametrize("temperature", [0, 1])
def test_weights_that_are_no_numbers_write_nothing(temperature):
    model = Transformer(MODEL_CONFIG, torch.Generator().manual_seed(0))
    torch.nn.init.constant_(model.norm.weight, math.nan)
    with pytest.raises(FloatingPointError, match="needs logits, got NaN"):
        generate(
            model, torch.tensor([1, 2]), 1, sampling=Sampling(temperature=temperature)
        )
