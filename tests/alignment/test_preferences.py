"""Preference pairs: an annotator who errs as Bradley and Terry say."""

import math
import random
from dataclasses import replace

import pytest
import torch

from llmcourse.alignment.preferences import (
    PreferencePair,
    TokenizedPair,
    agreement_rate,
    annotator_beta,
    check_pairs,
    end_of_answer,
    pairs_fingerprint,
    preference_probability,
    prompt_of,
    sample_pairs,
    story_prompt,
    tokenize_answer,
    tokenize_pairs,
)
from llmcourse.finetuning.chat import CHAT_TOKENS, END_OF_TURN, Message, encode_chat
from llmcourse.model.transformer import TransformerConfig
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def value(prompt: str, text: str) -> float:
    """A gold that can be read off."""
    return float(text)


def numbers(n_prompts: int, n_texts: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    rng = random.Random(seed)
    return [
        (f"prompt {i}", [f"{rng.gauss(7, 1.3):.6f}" for _ in range(n_texts)])
        for i in range(n_prompts)
    ]


def test_probability_by_hand() -> None:
    """σ(ln 3) = 3/4; twice the difference, σ(2 ln 3) = 9/10."""
    beta = math.log(3)
    assert preference_probability(2, 1, beta) == pytest.approx(3 / 4)
    assert preference_probability(3, 1, beta) == pytest.approx(9 / 10)
    assert preference_probability(1, 3, beta) == pytest.approx(1 / 10)
    assert preference_probability(5, 5, beta) == 0.5


def test_beta_by_hand() -> None:
    """All differences 2 and agreement 3/4: 2 beta = ln 3. A zero changes nothing."""
    assert annotator_beta([2.0, -2.0, 0.0], 0.75) == pytest.approx(math.log(3) / 2)
    assert annotator_beta([2.0, 1.0], 0.5) == 0
    assert annotator_beta([2.0, 1.0], 1) == math.inf


def test_probabilities_of_the_two_orders_sum_to_one() -> None:
    rng = random.Random(1)
    for beta in (0, 0.3, 7.0, 1e6, math.inf):
        for _ in range(20):
            a, b = rng.uniform(0, 10), rng.uniform(0, 10)
            both = (
                preference_probability(a, b, beta),
                preference_probability(b, a, beta),
            )
            assert sum(both) == pytest.approx(1)
        assert preference_probability(a, a, beta) == 0.5


def test_extreme_differences_do_not_overflow() -> None:
    assert preference_probability(-1e300, 1e300, 1e5) == 0
    assert preference_probability(1e300, -1e300, 1e5) == 1


@pytest.mark.parametrize("agreement", [0.51, 0.66, 0.75, 0.9, 0.999])
def test_beta_gives_the_expected_agreement(agreement: float) -> None:
    """Against the mean of the probabilities, one by one."""
    rng = random.Random(2)
    differences = [rng.gauss(0, 2) for _ in range(301)]
    beta = annotator_beta(differences, agreement)
    expected = [preference_probability(abs(d), 0, beta) for d in differences]
    assert math.fsum(expected) / 301 == pytest.approx(agreement, abs=1e-12)


def test_beta_scales_with_the_unit_and_knows_no_sign() -> None:
    """In tenths of points the same annotator has a tenth of the beta."""
    differences = [0.5, -1.5, 3.0, 0.1]
    beta = annotator_beta(differences, 0.8)
    assert annotator_beta([10 * d for d in differences], 0.8) == pytest.approx(
        beta / 10
    )
    assert annotator_beta([-d for d in differences], 0.8) == beta
    assert annotator_beta(differences, 0.9) > beta


@pytest.mark.parametrize("agreement", [0.6, 0.75, 0.95])
def test_measured_agreement_is_the_parameter(agreement: float) -> None:
    """Of 4,000 pairs, within 4 standard deviations: a false alarm has p < 1e-4.

    The labels are independent draws whose mean probability is the parameter, so the
    deviation of the rate is at most √(p (1 − p) / n).
    """
    pairs = sample_pairs(
        numbers(4000, 3), generator(), agreement=agreement, reward=value
    )
    deviation = math.sqrt(agreement * (1 - agreement) / len(pairs))
    assert abs(agreement_rate(pairs) - agreement) < 4 * deviation


def test_close_pairs_are_decided_by_chance_and_clear_ones_are_not() -> None:
    """Shares of 1,000 and more pairs; each margin is over 5 deviations."""
    pairs = sample_pairs(numbers(6000, 2), generator(3), agreement=0.75, reward=value)
    by_gap = sorted(pairs, key=lambda p: abs(p.gold_chosen - p.gold_rejected))
    assert agreement_rate(by_gap[:1000]) < 0.65
    assert agreement_rate(by_gap[-1000:]) > 0.85


def test_a_constant_added_to_gold_changes_nothing() -> None:
    """Only differences count. By an eighth, so that sums of floats are exact."""
    candidates = [(f"p{i}", [str(i / 8), str(i % 5)]) for i in range(7, 60)]

    def higher(prompt: str, text: str) -> float:
        return float(text) + 1024

    pairs = sample_pairs(candidates, generator(), reward=value)
    shifted = sample_pairs(candidates, generator(), reward=higher)
    assert [(p.chosen, p.rejected) for p in pairs] == [
        (p.chosen, p.rejected) for p in shifted
    ]
    assert all(
        s.gold_chosen - p.gold_chosen == 1024
        for p, s in zip(pairs, shifted, strict=True)
    )


def test_names_and_order_are_no_advantage() -> None:
    """Of equal gold the earlier answer wins half: 2,000 coins, 4 deviations."""
    candidates = [(f"p{i}", ["first", "second"]) for i in range(2000)]

    def nearly_equal(prompt: str, text: str) -> float:
        return 1.0 if prompt == "p0" and text == "first" else 0.0

    pairs = sample_pairs(candidates, generator(4), reward=nearly_equal)
    first = sum(pair.chosen == "first" for pair in pairs)
    assert abs(first - 1000) < 4 * math.sqrt(2000 / 4)


def test_an_annotator_who_never_errs() -> None:
    pairs = sample_pairs(numbers(50, 3), generator(), agreement=1, reward=value)
    assert agreement_rate(pairs) == 1


def test_pairs_hold_what_was_compared() -> None:
    candidates = numbers(5, 4)
    pairs = sample_pairs(candidates, generator(), pairs_per_prompt=3, reward=value)
    assert [pair.prompt for pair in pairs] == [
        p for p, _ in candidates for _ in range(3)
    ]
    texts = dict(candidates)
    for pair in pairs:
        assert {pair.chosen, pair.rejected} <= set(texts[pair.prompt])
        assert pair.gold_chosen == float(pair.chosen)
        assert pair.gold_rejected == float(pair.rejected)
    couples = {(p.prompt, frozenset((p.chosen, p.rejected))) for p in pairs}
    assert len(couples) == 15  # none twice


def test_few_answers_make_few_pairs() -> None:
    pairs = sample_pairs(
        [("p", ["1", "2", "1"])], generator(), pairs_per_prompt=9, reward=value
    )
    assert len(pairs) == 1


def test_seed_decides_the_pairs() -> None:
    candidates = numbers(40, 3)
    first = sample_pairs(candidates, generator(5), reward=value)
    assert first == sample_pairs(candidates, generator(5), reward=value)
    assert first != sample_pairs(candidates, generator(6), reward=value)


def test_gold_reward_is_the_default() -> None:
    pair = sample_pairs([("", ["Once upon a time", "Nonsense"])], generator())[0]
    assert {pair.gold_chosen, pair.gold_rejected} > {0.0}


def test_refusals() -> None:
    with pytest.raises(
        ValueError, match="different answers to 'p' must be at least 2, got 1"
    ):
        sample_pairs([("p", ["1", "1"])], generator(), reward=value)
    with pytest.raises(ValueError, match="two different answers, got none"):
        sample_pairs([], generator())
    with pytest.raises(ValueError, match="pairs_per_prompt must be positive, got 0"):
        sample_pairs([("p", ["1", "2"])], generator(), pairs_per_prompt=0)
    with pytest.raises(ValueError, match="agreement must be in 0.5 … 1, got 0.4"):
        annotator_beta([1.0], 0.4)
    with pytest.raises(ValueError, match="agreement must be in 0.5 … 1, got 1.1"):
        annotator_beta([1.0], 1.1)
    for differences in ([], [0.0], [1.0, math.nan], [math.inf]):
        with pytest.raises(ValueError, match="wanted finite differences"):
            annotator_beta(differences, 0.7)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        preference_probability(1, 0, -1)
    with pytest.raises(
        ValueError, match="pairs that differ in gold must be at least 1, got 0"
    ):
        agreement_rate(
            [
                PreferencePair(
                    prompt="p",
                    chosen="a",
                    rejected="b",
                    gold_chosen=1.0,
                    gold_rejected=1.0,
                )
            ]
        )


TOKENIZER = BPETokenizer.train(
    ["a fox, a box"], vocab_size=261, special_tokens=(END_OF_TEXT, *CHAT_TOKENS)
)


def test_a_story_begins_after_the_mark_between_texts():
    prompt = story_prompt("a fox", TOKENIZER)
    assert prompt.text == "a fox"
    assert TOKENIZER.decode(prompt.ids) == "<|endoftext|>a fox"
    assert prompt.ids[0] == TOKENIZER.special_tokens[END_OF_TEXT]
    assert len(story_prompt("", TOKENIZER).ids) == 1


def test_a_question_is_a_turn_of_the_user():
    prompt = prompt_of("a box?", TOKENIZER)
    assert prompt.text == "a box?"
    text = "<|endoftext|><|user|>a box?<|end|><|assistant|>"
    assert TOKENIZER.decode(prompt.ids) == text


def test_what_looks_like_a_mark_in_a_text_is_none():
    for make in (story_prompt, prompt_of):
        ids = make("<|endoftext|>", TOKENIZER).ids
        assert ids.count(TOKENIZER.special_tokens[END_OF_TEXT]) == 1


def test_prompts_that_cannot_be():
    plain = BPETokenizer.train(["a fox"], vocab_size=256)
    for make in (story_prompt, prompt_of):
        with pytest.raises(ValueError, match="endoftext"):
            make("x", plain)


SIZES = TransformerConfig(
    vocab_size=13, d_model=16, n_heads=2, n_kv_heads=1, d_ff=20, context_length=9
)


def tokenizer_of(*special):
    texts = ["a hen met a hen", "a fox met a hen and ran"]
    size = 262 + len(special)
    return BPETokenizer.train(texts, vocab_size=size, special_tokens=special)


STORIES = tokenizer_of(END_OF_TEXT)
CHATS = tokenizer_of(END_OF_TEXT, *CHAT_TOKENS)


def make_pair(**changes):
    pair = PreferencePair(
        prompt="a hen",
        chosen=" met a fox",
        rejected=" ran",
        gold_chosen=2.0,
        gold_rejected=1.0,
    )
    return replace(pair, **changes)


def of_ids(*parts):
    return TokenizedPair(*(torch.tensor(part, dtype=torch.int64) for part in parts))


# Worked example


def test_worked_example_of_a_pair():
    """Prompt 0 5; answers 7 8 0 and 9 0. To predict them, the last token is not read,
    and the prompt's last position already has the answer's first token to predict.
    """
    pair = of_ids([0, 5], [7, 8, 0], [9, 0])
    assert len(pair) == 5
    texts = [text.tolist() for text in pair.texts()]
    assert texts == [[0, 5, 7, 8, 0], [0, 5, 9, 0]]
    chosen, rejected = pair.examples()
    assert chosen.ids.tolist() == [0, 5, 7, 8]
    assert chosen.targets[chosen.mask].tolist() == [7, 8, 0]
    assert rejected.targets[rejected.mask].tolist() == [9, 0]


def test_worked_example_of_a_story():
    end = STORIES.special_tokens[END_OF_TEXT]
    assert prompt_of("", STORIES).ids == (end,)
    assert prompt_of("a hen", STORIES).ids == (end, *STORIES.encode("a hen"))
    assert tokenize_answer(" ran", STORIES) == [*STORIES.encode(" ran"), end]


# Law


@pytest.mark.parametrize("tokenizer", [STORIES, CHATS], ids=["stories", "chats"])
def test_a_pair_can_be_read_again(tokenizer):
    """Nothing is lost, and both answers end with the mark that ends answers."""
    pair = make_pair()
    [found] = tokenize_pairs([pair], tokenizer)
    assert tuple(found.prompt.tolist()) == prompt_of(pair.prompt, tokenizer).ids
    for ids, text in ((found.chosen, pair.chosen), (found.rejected, pair.rejected)):
        assert ids[-1].item() == end_of_answer(tokenizer)
        assert tokenizer.decode(ids[:-1].tolist()) == text


@pytest.mark.parametrize(("tokenizer", "n_marks"), [(STORIES, 1), (CHATS, 4)])
def test_special_tokens_in_a_text_stay_text(tokenizer, n_marks):
    """Who writes the end of a turn does not end it."""
    pair = make_pair(prompt=END_OF_TURN, chosen=END_OF_TEXT)
    [found], special = tokenize_pairs([pair], tokenizer), tokenizer.special_tokens
    for ids, n in ((found.chosen, 1), (found.prompt, n_marks)):
        assert sum(id_ in special.values() for id_ in ids.tolist()) == n


def test_fingerprints_tell_pairs_apart():
    pair, others = of_ids([0], [1, 2], [3]), of_ids([0], [3], [1, 2])
    again = of_ids([0], [1, 2], [3])
    assert pairs_fingerprint([pair]) == pairs_fingerprint([again])
    shifted = of_ids([0, 1], [2], [3])
    many = [[pair], [others], [shifted], [pair, others], [others, pair]]
    assert len({pairs_fingerprint(each) for each in many}) == 5


# Reference


def test_a_chat_is_that_of_a_whole_conversation():
    """Prompt and answer, encoded apart, are what fine-tuning learns in one."""
    pair = make_pair(chosen="a fox", rejected="ran")
    [found] = tokenize_pairs([pair], CHATS)
    for text, example, answer in zip(
        found.texts(), found.examples(), (pair.chosen, pair.rejected), strict=True
    ):
        turns = [Message("user", pair.prompt), Message("assistant", answer)]
        ids, mask = encode_chat(turns, CHATS)
        assert text.tolist() == ids
        assert [False, *example.mask.tolist()] == mask


# Refusal


@pytest.mark.parametrize(("ours", "models"), [(4, 9), (20, 4)])
def test_refuses_pairs_longer_than_the_context(ours, models):
    fine, long = of_ids([0], [1, 2, 3], [4]), of_ids([0, 5], [1], [2, 3, 4])
    config = replace(SIZES, context_length=models)
    check_pairs([fine], config, ours)
    with pytest.raises(ValueError, match="answer must be in 1 … 4, got 5"):
        check_pairs([fine, long], config, ours)


@pytest.mark.parametrize("bad", [-1, 13])
def test_refuses_ids_outside_the_vocabulary(bad):
    for parts in (([bad], [1], [2]), ([0], [bad], [2]), ([0], [1], [bad])):
        with pytest.raises(ValueError, match="ids must be in 0 … 12, got"):
            check_pairs([of_ids(*parts)], SIZES, 9)


def test_refuses_no_pairs():
    with pytest.raises(ValueError, match="pairs to learn from .* got 0"):
        check_pairs([], SIZES, 9)


def test_refuses_a_tokenizer_without_the_marks():
    plain = BPETokenizer.train(["a hen"], vocab_size=258)
    with pytest.raises(ValueError, match=r"<\|endoftext\|>, got one with none"):
        prompt_of("a", plain)
    with pytest.raises(ValueError, match=r"<\|endoftext\|>, got one with none"):
        tokenize_answer("a", plain)


@pytest.mark.parametrize("tokenizer", [STORIES, CHATS], ids=["stories", "chats"])
def test_an_answer_that_is_too_long_is_cut_before_its_end(tokenizer):
    pair = make_pair(chosen="a fox ran " * 9, rejected="ran")
    [whole] = tokenize_pairs([pair], tokenizer)
    most = len(whole.prompt) + 5
    [cut] = tokenize_pairs([pair], tokenizer, most)
    assert cut.chosen.tolist() == [*whole.chosen[:4].tolist(), whole.chosen[-1].item()]


def test_answers_that_would_be_cut_alike_are_refused():
    pair = make_pair(prompt="hi", chosen="abcdefgh good", rejected="abcdefgh bad")
    with pytest.raises(ValueError, match="must differ as tokens in the first 8"):
        tokenize_pairs([pair], CHATS, most=8)
    assert len(tokenize_pairs([pair], CHATS, most=400)) == 1
