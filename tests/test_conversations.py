"""Conversations from files: all that is meant, and a line for all that is wrong."""

import pytest
from chat_cases import chatty, line_of

from llmcourse.chat import Message, encode_chat
from llmcourse.conversations import read_conversations, tokenized

TALKS = [
    [Message("user", "Hi\nthere"), Message("assistant", "Hé!")],
    [
        Message("system", ""),
        Message("user", "<|end|>"),
        Message("assistant", "No."),
        Message("user", "So?"),
        Message("assistant", "狐"),
    ],
]


def written(path, *lines, encoding="utf-8"):
    path.write_text("\n".join(lines), encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_conversations_come_back_in_order(tmp_path, encoding):
    lines = [line_of(TALKS[0], source="me"), "  ", line_of(TALKS[1]), ""]
    path = written(tmp_path / "talks.jsonl", *lines, encoding=encoding)
    assert read_conversations(path) == TALKS


def test_only_the_assistant_is_learned():
    tokenizer = chatty()[1]
    for talk, found in zip(TALKS, tokenized(TALKS, tokenizer, 99), strict=True):
        ids, mask = encode_chat(talk, tokenizer)
        assert [*found.ids.tolist(), found.targets[-1].item()] == ids
        assert found.mask.tolist() == mask[1:]


def test_the_limit_is_what_is_read():
    tokenizer = chatty()[1]
    n_read = len(encode_chat(TALKS[1], tokenizer)[0]) - 1
    assert len(tokenized(TALKS, tokenizer, n_read)[1]) == n_read
    with pytest.raises(ValueError, match=f"conversation 2: .* got {n_read + 1}"):
        tokenized(TALKS, tokenizer, n_read - 1)
    (short,) = tokenized(TALKS[1:], tokenizer, n_read - 1, truncate=True)
    assert len(short) < n_read - 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of .*must be JSON"),
        ("[1]", r"wanted \{\"messages\": \[...\]\}, got '\[1\]'"),
        ('{"messages": "Hi"}', r"wanted \{\"messages\""),
        ('{"messages": []}', "must have a turn of the user"),
        ('{"messages": ["Hi"]}', "texts as role and content, got Hi"),
        ('{"messages": [{"role": "user"}]}', "texts as role and content"),
        ('{"messages": [{"role": "user", "content": 3}]}', "texts as role and content"),
        ('{"messages": [{"role": "bot", "content": ""}]}', "role must be one of"),
        (line_of(TALKS[0][:1]), "must end with the assistant.*ends with the user"),
        (line_of(TALKS[0] * 2 + TALKS[0][1:]), "must take turns"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, message):
    path = written(tmp_path / "talks.jsonl", line_of(TALKS[0]), line)
    with pytest.raises(ValueError, match=message) as refused:
        read_conversations(path)
    assert str(refused.value).startswith("line 2 of")


def test_files_with_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got no file"):
        read_conversations(tmp_path / "no.jsonl")
    with pytest.raises(ValueError, match="must hold a conversation, got none"):
        read_conversations(written(tmp_path / "empty.jsonl", "", " "))
