"""Scores count what is right; what is forgotten is a difference on the same stories."""

import math
from copy import copy
from functools import cache
from statistics import stdev

import pytest
import torch
from chat_cases import base, chatty
from torch.nn.functional import cross_entropy

from llmcourse.finetuning import instruction_evaluation
from llmcourse.finetuning.instruction_evaluation import (
    SPLITS,
    Score,
    first_sentence,
    forgetting,
    instruction_scores,
)
from llmcourse.finetuning.instructions import examples
from llmcourse.intervals import Count, wilson_interval
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.text.tokenizer_files import BPEOptions

FEW = {"n_per_kind": 2, "seed": 7, "kinds": ("who", "continue", "list")}


@cache
def drawn(n, seed, kind, held_out, max_tokens):
    """Return instructions as a list, drawn once; both tokenizers cut them alike."""
    return list(
        examples(
            n,
            seed,
            kinds=[kind],
            held_out=held_out,
            tokenizer=base()[1],
            max_tokens=max_tokens,
        )
    )


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    def again(n, seed, *, kinds, held_out, tokenizer, max_tokens):
        assert tokenizer.merges == base()[1].merges
        (kind,) = kinds
        return drawn(n, seed, kind, held_out, max_tokens)

    monkeypatch.setattr(instruction_evaluation, "examples", again)


def asked_in(split):
    """Return what `FEW` asks of one split, kind by kind."""
    kinds = FEW["kinds"]
    return [e for kind in kinds for e in drawn(2, 7, kind, SPLITS[split], 420)]


@pytest.fixture
def oracle(monkeypatch):
    """Put in the model's place somebody who knows all answers; may change them."""

    def install(change=lambda example: example.answer):
        known = {
            example.prompt: change(example)
            for split in SPLITS
            for example in asked_in(split)
        }
        seen = []

        def answers(model, tokenizer, questions, *, max_new_tokens, **_):
            prompts = [turns[-1].content for turns in questions]
            seen.extend(zip(prompts, max_new_tokens, strict=True))
            return [known[prompt] for prompt in prompts]

        monkeypatch.setattr(instruction_evaluation, "answer_batch", answers)
        return seen

    return install


def test_a_score_of_six_answers():
    """Of 2 in each of 3 kinds, 2, 1 and 0 are right: 3 of 6 in all."""
    score = Score({"a": Count(2, 2), "b": Count(1, 2), "c": Count(0, 2)})
    assert score.overall == (3, 6)
    assert score.overall.share == 0.5
    assert score.overall.interval == wilson_interval(3, 6)
    found = score.to_json()
    assert found["overall"]["right"] == 3
    assert found["by_kind"]["b"]["share"] == 0.5


def test_who_knows_all_has_all_right_in_every_split(oracle):
    seen = oracle()
    scores = instruction_scores(*chatty(), **FEW)
    assert list(scores) == list(SPLITS)
    for split, score in scores.items():
        assert score.by_kind == dict.fromkeys(FEW["kinds"], (2, 2)), split
    asked = [e for split in SPLITS for e in asked_in(split)]
    prompts = [example.prompt for example in asked]
    assert sorted(question for question, _ in seen) == sorted(prompts)


def test_tales_alone_are_drawn(monkeypatch):
    seen = {}

    def answers(model, tokenizer, questions, *, sampling, **_):
        seen[sampling.temperature] = [turns[-1].content for turns in questions]
        return [""] * len(questions)

    monkeypatch.setattr(instruction_evaluation, "answer_batch", answers)
    instruction_scores(*chatty(), **FEW)
    asked = [e for split in SPLITS for e in asked_in(split)]
    open_ended = [e.prompt for e in asked if e.kind == "continue"]
    assert seen[0.5] == open_ended
    assert sorted(seen[0] + seen[0.5]) == sorted(e.prompt for e in asked)


def test_the_limits_leave_room_for_every_right_answer(oracle):
    model, tokenizer = chatty()
    seen = oracle()
    instruction_scores(model, tokenizer, **FEW)
    limits = dict(seen)
    for example in asked_in("held-out wordings"):
        for text in example.accepted or (example.answer,):
            assert len(tokenizer.encode(text)) + 1 <= limits[example.prompt]


def test_wrong_answers_are_counted_where_they_are(oracle):
    oracle(lambda e: "The moon." if e.kind == "who" else e.answer)
    for score in instruction_scores(*chatty(), **FEW).values():
        assert score.by_kind == {"who": (0, 2), "continue": (2, 2), "list": (2, 2)}


def test_who_only_continues_may_say_it_in_the_first_sentence(oracle):
    def rambling(example):
        return f" {example.answer} And then it rained."

    oracle(rambling)
    asked = asked_in("held-out wordings")
    short = [e for e in asked if e.answer == first_sentence(e.answer)]
    score = instruction_scores(*base(), **FEW)["held-out wordings"]
    assert score.overall == (len(short), 6)
    assert score.by_kind["who"] == score.by_kind["list"] == (2, 2)
    model, tokenizer = base()
    by_template = copy(tokenizer)
    by_template.options = BPEOptions(chat_template="{{ messages }}")
    for knows in (chatty(), (model, by_template)):
        oracle(rambling)
        score = instruction_scores(*knows, **FEW)["held-out wordings"]
        assert score.overall == (0, 6)


def test_a_random_model_is_asked_for_real_and_knows_nothing():
    seen = []
    few = FEW | {"kinds": ("how many",), "splits": ("held-out wordings",)}
    scores = instruction_scores(*chatty(), **few, progress=lambda *at: seen.append(at))
    assert scores["held-out wordings"].overall == (0, 2)
    assert seen[-1] == (2, 2)


def prices_of(model, tokenizer, texts):
    """Return what each text costs in nats, and how many tokens that is, one by one."""
    end, prices, n_tokens = tokenizer.special_tokens["<|endoftext|>"], [], 0
    for text in texts:
        ids = torch.tensor([end, *tokenizer.encode(text), end])
        with torch.no_grad():
            logits = model(ids[None, :-1])[0]
        prices.append(cross_entropy(logits, ids[1:], reduction="sum").item())
        n_tokens += len(ids) - 1
    return prices, n_tokens


def test_forgetting_is_the_loss_above_the_exact_price():
    other = Transformer(base()[0].config, torch.Generator().manual_seed(5))
    found = forgetting(base(), (other, base()[1]), 3, seed=4)
    stories = list(tales.generate(3, 4))
    texts, exact = [s.text for s in stories], -sum(s.log_prob for s in stories)
    before, n_tokens = prices_of(*base(), texts)
    after, _ = prices_of(other, base()[1], texts)
    for prices, value in ((before, found.before), (after, found.after)):
        assert math.isclose(value, (sum(prices) - exact) / n_tokens, rel_tol=1e-5)
    assert math.isclose(found.increase.value, found.after - found.before, abs_tol=1e-9)
    changes = [b - a for a, b in zip(before, after, strict=True)]
    error = stdev(changes) / math.sqrt(3) / (n_tokens / 3)
    assert math.isclose(found.increase.standard_error, error, rel_tol=1e-3)


def test_who_learned_nothing_forgot_nothing():
    found = forgetting(base(), base(), 2)
    assert found.before == found.after
    assert found.increase == (0, 0)
    assert found.to_json()["increase"] == {"value": 0, "standard_error": 0}


def test_refusals():
    with pytest.raises(ValueError, match="n_per_kind must be at least 1, got 0"):
        instruction_scores(*chatty(), 0)
    with pytest.raises(ValueError, match="kinds must be at least 1, got 0"):
        instruction_scores(*chatty(), 1, kinds=[])
    with pytest.raises(ValueError, match="split must be 'seen .*, got 'new'"):
        instruction_scores(*chatty(), 1, splits=["new"])
    with pytest.raises(ValueError, match="wanted kinds from"):
        instruction_scores(*chatty(), 1, kinds=["when"])
    with pytest.raises(ValueError, match="n_stories must be at least 2, got 1"):
        forgetting(base(), base(), 1)
