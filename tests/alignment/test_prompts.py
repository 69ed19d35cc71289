"""Prompts: the marks that a policy reads, and a reward does not."""

import pytest

from llmcourse.alignment.preferences import Prompt, chat_prompt, story_prompt
from llmcourse.finetuning.chat import CHAT_TOKENS
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

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
    prompt = chat_prompt("a box?", TOKENIZER)
    assert prompt.text == "a box?"
    text = "<|endoftext|><|user|>a box?<|end|><|assistant|>"
    assert TOKENIZER.decode(prompt.ids) == text


def test_what_looks_like_a_mark_in_a_text_is_none():
    for make in (story_prompt, chat_prompt):
        ids = make("<|endoftext|>", TOKENIZER).ids
        assert ids.count(TOKENIZER.special_tokens[END_OF_TEXT]) == 1


def test_prompts_that_cannot_be():
    with pytest.raises(ValueError, match="at least one id, got none: 'x'"):
        Prompt("x", ())
    plain = BPETokenizer.train(["a fox"], vocab_size=256)
    for make in (story_prompt, chat_prompt):
        with pytest.raises(ValueError, match="endoftext"):
            make("x", plain)
