"""Histories: the oldest exchange goes first, and what goes is named."""

import pytest
from chat_cases import chatty

from llmcourse.finetuning.chat import Message, encode_prompt, fit_history

TALK = [
    Message("user", "Who was it?"),
    Message("assistant", "The owl."),
    Message("user", "And why?"),
    Message("assistant", "Because of the bell in the old barn."),
    Message("user", "Where?"),
]
SYSTEM = Message("system", "Be brief.")


@pytest.mark.parametrize("talk", [TALK, [SYSTEM, *TALK]])
def test_as_few_exchanges_go_as_possible(talk):
    """With room for one token less than all, the first exchange goes, and no other."""
    tokenizer = chatty()[1]
    n = len(encode_prompt(talk, tokenizer))
    assert fit_history(talk, tokenizer, n) == (talk, [])
    kept, dropped = fit_history(talk, tokenizer, n - 1)
    assert dropped == TALK[:2]
    assert kept == [turn for turn in talk if turn not in dropped]


def test_what_is_kept_is_what_truncation_keeps():
    tokenizer = chatty()[1]
    least = len(encode_prompt([SYSTEM, TALK[-1]], tokenizer))
    for limit in range(least, least + 60):
        kept, dropped = fit_history([SYSTEM, *TALK], tokenizer, limit)
        ids = encode_prompt([SYSTEM, *TALK], tokenizer, limit, truncate=True)
        assert encode_prompt(kept, tokenizer) == ids
        assert [*dropped, *kept[1:]] == TALK


def test_refusals():
    tokenizer = chatty()[1]
    least = len(encode_prompt(TALK[-1:], tokenizer))
    with pytest.raises(ValueError, match=f"at most {least - 1} tokens.*got {least}"):
        fit_history(TALK, tokenizer, least - 1)
    with pytest.raises(ValueError, match="tokens, the marks of who speaks included"):
        fit_history(TALK, tokenizer, least - 1)
    with pytest.raises(ValueError, match="the system turn and the marks of who speaks"):
        fit_history([SYSTEM, *TALK], tokenizer, least)
    with pytest.raises(ValueError, match="the last turn must be the user's"):
        fit_history(TALK[:2], tokenizer, 99)
