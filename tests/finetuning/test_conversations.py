"""Conversations from files: all that is meant, and a line for all that is wrong."""

import pytest
from chat_cases import chatty, line_of

from llmcourse.finetuning.chat import (
    Message,
    encode_chat,
    read_conversations,
    tokenized,
)

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


def test_truncating_is_named_where_it_would_help():
    """It would where the first exchanges can go, and not where there is but one."""
    tokenizer = chatty()[1]
    with pytest.raises(ValueError, match="conversation 1: .* --truncate on the comm"):
        tokenized(TALKS[1:], tokenizer, 20)
    for truncate in (False, True):
        with pytest.raises(ValueError, match="conversation 1: ") as refused:
            tokenized(TALKS[1:], tokenizer, 3, truncate=truncate)
        assert "--truncate" not in str(refused.value)


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
        (
            line_of([Message("user", "Hi"), Message("assistant", " ")]),
            "the assistant must say something, got an empty turn",
        ),
        (line_of(TALKS[0] * 2 + TALKS[0][1:]), "must take turns"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, message):
    path = written(tmp_path / "talks.jsonl", line_of(TALKS[0]), line)
    with pytest.raises(ValueError, match=message) as refused:
        read_conversations(path)
    assert str(refused.value).startswith("line 2 of")


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (
            [line_of(TALKS[0]).encode(), b'{"messages": "\xe9"}'],
            "line 2 of .*0xe9 as ch",
        ),
        ([line_of(TALKS[0]).encode("utf-16")], "line 1 of .*0xff as character 1$"),
        ([b"", b"\xf0\x9f"], "line 2 of .*0xf0 as character 1$"),
    ],
)
def test_bytes_that_are_not_utf_8_are_named(tmp_path, lines, place):
    path = tmp_path / "talks.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=place) as refused:
        read_conversations(path)
    assert "must be UTF-8" in str(refused.value)


def test_files_with_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got no file"):
        read_conversations(tmp_path / "no.jsonl")
    with pytest.raises(ValueError, match="must hold a conversation, got none"):
        read_conversations(written(tmp_path / "empty.jsonl", "", " "))
