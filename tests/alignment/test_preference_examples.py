"""Prompts, answers and pairs as tokens."""

from dataclasses import replace

import pytest
import torch

from llmcourse.alignment.preferences import (
    PreferencePair,
    PromptPairs,
    TokenizedPair,
    check_pairs,
    end_of_answer,
    fingerprint_of_pairs,
    pairs_by_prompt,
    tokenize_answer,
    tokenize_pairs,
    tokenize_prompt,
)
from llmcourse.finetuning.chat import CHAT_TOKENS, END_OF_TURN, Message, encode_chat
from llmcourse.model.transformer import TransformerConfig
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

SIZES = TransformerConfig(
    vocab_size=13, d_model=16, n_heads=2, n_kv_heads=1, d_ff=20, context_length=9
)


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["a hen met a hen", "a fox met a hen and ran"]
    return BPETokenizer.train(
        texts, vocab_size=266, special_tokens=(END_OF_TEXT, *CHAT_TOKENS)
    )


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


def test_worked_example_of_a_story(tokenizer):
    end = tokenizer.special_tokens[END_OF_TEXT]
    assert tokenize_prompt("", tokenizer) == [end]
    assert tokenize_prompt("a hen", tokenizer) == [end, *tokenizer.encode("a hen")]
    assert tokenize_answer(" ran", tokenizer) == [*tokenizer.encode(" ran"), end]


# Law


@pytest.mark.parametrize("chat", [False, True])
def test_a_pair_can_be_read_again(tokenizer, chat):
    """Nothing is lost, and both answers end with the mark that ends answers."""
    pair = make_pair()
    [found] = tokenize_pairs([pair], tokenizer, chat=chat)
    assert found.prompt.tolist() == tokenize_prompt(pair.prompt, tokenizer, chat=chat)
    for ids, text in ((found.chosen, pair.chosen), (found.rejected, pair.rejected)):
        assert ids[-1].item() == end_of_answer(tokenizer, chat=chat)
        assert tokenizer.decode(ids[:-1].tolist()) == text


def test_special_tokens_in_a_text_stay_text(tokenizer):
    """Who writes the end of a turn does not end it."""
    for chat in (False, True):
        found = TokenizedPair.of(
            make_pair(prompt=END_OF_TURN, chosen=END_OF_TEXT), tokenizer, chat=chat
        )
        special = set(tokenizer.special_tokens.values())
        assert sum(id_ in special for id_ in found.chosen.tolist()) == 1
        n_marks = 4 if chat else 1
        assert sum(id_ in special for id_ in found.prompt.tolist()) == n_marks


def test_fingerprints_tell_pairs_apart():
    pair, others = of_ids([0], [1, 2], [3]), of_ids([0], [3], [1, 2])
    again = of_ids([0], [1, 2], [3])
    assert fingerprint_of_pairs([pair]) == fingerprint_of_pairs([again])
    shifted = of_ids([0, 1], [2], [3])
    many = [[pair], [others], [shifted], [pair, others], [others, pair]]
    assert len({fingerprint_of_pairs(each) for each in many}) == 5


# Reference


def test_a_chat_is_that_of_a_whole_conversation(tokenizer):
    """Prompt and answer, encoded apart, are what fine-tuning learns in one."""
    pair = make_pair(chosen="a fox", rejected="ran")
    found = TokenizedPair.of(pair, tokenizer, chat=True)
    for text, example, answer in zip(
        found.texts(), found.examples(), (pair.chosen, pair.rejected), strict=True
    ):
        turns = [Message("user", pair.prompt), Message("assistant", answer)]
        ids, mask = encode_chat(turns, tokenizer)
        assert text.tolist() == ids
        assert [False, *example.mask.tolist()] == mask


def test_pairs_of_a_prompt_come_together_and_none_is_lost():
    """Also where the same prompt comes again later."""
    parts = ([1, 2], [1], [1, 2], [3], [1])
    pairs = [of_ids(prompt, [5] * n + [6], [0]) for n, prompt in enumerate(parts)]
    found = pairs_by_prompt(pairs)
    numbers = [[pairs.index(pair) for pair in prompt.pairs] for prompt in found]
    assert numbers == [[0, 2], [1, 4], [3]]
    assert [len(prompt) for prompt in found] == [2 + 3, 1 + 5, 1 + 4]


# Refusal


def test_refuses_pairs_that_teach_nothing():
    with pytest.raises(ValueError, match=r"two different answers, got \[7, 0\] twice"):
        of_ids([0], [7, 0], [7, 0])
    for parts in (([], [1], [2]), ([0], [], [2]), ([0], [1], [])):
        with pytest.raises(ValueError, match="a pair needs a token in prompt, chosen"):
            of_ids(*parts)


@pytest.mark.parametrize(("ours", "models"), [(4, 9), (20, 4), (None, 4)])
def test_refuses_pairs_longer_than_the_context(ours, models):
    fine, long = of_ids([0], [1, 2, 3], [4]), of_ids([0, 5], [1], [2, 3, 4])
    config = replace(SIZES, context_length=models)
    check_pairs([fine], config, ours)
    with pytest.raises(ValueError, match="at most 4 tokens, but 1 of 2 pairs .* to 5"):
        check_pairs([fine, long], config, ours)


@pytest.mark.parametrize("bad", [-1, 13])
def test_refuses_ids_outside_the_vocabulary(bad):
    for parts in (([bad], [1], [2]), ([0], [bad], [2]), ([0], [1], [bad])):
        with pytest.raises(ValueError, match="ids must be in 0 … 12, got"):
            check_pairs([of_ids(*parts)], SIZES)


def test_refuses_no_pairs():
    with pytest.raises(ValueError, match="pairs are needed, .* got none"):
        check_pairs([], SIZES)


def test_refuses_a_tokenizer_without_the_marks():
    plain = BPETokenizer.train(["a hen"], vocab_size=258)
    with pytest.raises(ValueError, match=r"<\|endoftext\|>, got one with none"):
        tokenize_prompt("a", plain)
    with pytest.raises(ValueError, match=r"must have <\|end\|>, got one with"):
        tokenize_answer("a", plain, chat=True)


def test_refuses_a_prompt_with_nothing_to_compare():
    with pytest.raises(ValueError, match="at least one pair of answers, got none"):
        PromptPairs(())
    pairs = of_ids([1], [2], [3]), of_ids([2], [2], [3])
    with pytest.raises(ValueError, match="wanted pairs of one prompt, got 2 prompts"):
        PromptPairs(pairs)
