"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import struct

import pytest

from llmcourse.checks import real_models as checks

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def right_parameters(v, d, n_layers, n_heads, n_kv_heads, d_ff, shared=1):
    attention = 2 * d * d + 2 * d * d * n_kv_heads // n_heads
    return shared * v * d + n_layers * (attention + 3 * d * d_ff + 2 * d) + d


def right_dequantize(block):
    scale, least = struct.unpack("<ee", block[:4])
    steps = [*(b & 15 for b in block[4:]), *(b >> 4 for b in block[4:])]
    return [scale * step + least for step in steps]


def pairs_dequantize(block):
    scale, least = struct.unpack("<ee", block[:4])
    steps = [step for b in block[4:] for step in (b & 15, b >> 4)]
    return [scale * step + least for step in steps]


def head(data):
    """Read the head of a GGUF file, as `struct` and a cursor do."""
    place = 4

    def number(letter):
        nonlocal place
        (found,) = struct.unpack_from(f"<{letter}", data, place)
        place += struct.calcsize(letter)
        return found

    def text():
        nonlocal place
        n = number("Q")
        found = data[place : place + n].decode()
        place += n
        return found

    def value(kind):
        if kind == 9:
            inner, n = number("I"), number("Q")
            return [value(inner) for _ in range(n)]
        return text() if kind == 8 else number("BbHhIif?  Qqd"[kind])

    number("I"), number("Q")
    return {text(): value(number("I")) for _ in range(number("Q"))}


def right_score(weights, period):
    rows = range(period, len(weights))
    return sum(float(weights[t, t - period + 1]) for t in rows) / len(rows)


def right_text(turns, always=False):
    if always or turns[0][0] != "system":
        turns = [("system", SYSTEM), *turns]
    text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)
    return text + "<|im_start|>assistant\n"


def test_right_answers_pass():
    checks.llama_parameters(right_parameters)
    checks.dequantize(right_dequantize)
    checks.gguf_head(head)
    checks.induction_score(right_score)
    checks.chat_text(right_text)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda data: head(data) | {"more": 1}, "the head has 8 pairs, got 9"),
        (lambda data: {**head(data), "general.big": 0}, "general.big: wanted"),
        (lambda data: dict([*head(data).items()][:-1]), "is in the file"),
    ],
)
def test_wrong_heads_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.gguf_head(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda *sizes: right_parameters(*sizes, shared=2),
        lambda v, d, n, h, kv, f: right_parameters(v, d, n, h, h, f),
        lambda v, d, n, h, kv, f: right_parameters(v, d, n, h, kv, f) - d,
    ],
)
def test_wrong_counts_fail(wrong):
    with pytest.raises(AssertionError, match="one more norm is at the end"):
        checks.llama_parameters(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (pairs_dequantize, "lower halves"),
        (lambda block: right_dequantize(block)[:16], "32 weights"),
        (lambda block: [w + 0.5 for w in right_dequantize(block)], "lower halves"),
    ],
)
def test_wrong_weights_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.dequantize(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda w, p: float(w.diagonal(-p).mean()), "after the earlier copy"),
        (lambda w, p: right_score(w, p) * p / (p + 1), "after the earlier copy"),
        (lambda w, p: float(w.diagonal(1 - p).mean()), "looks at"),
    ],
)
def test_wrong_scores_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.induction_score(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda turns: right_text(turns, always=True),
        lambda turns: right_text(turns).removesuffix("<|im_start|>assistant\n"),
        lambda turns: right_text(turns).replace("\n", ""),
    ],
)
def test_wrong_texts_fail(wrong):
    with pytest.raises(AssertionError, match="system turn comes first only if"):
        checks.chat_text(wrong)
