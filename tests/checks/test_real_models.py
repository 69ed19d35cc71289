"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import struct

import pytest

from llmcourse.checks import real_models as checks
from llmcourse.model.gguf_files import _Header

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


def header(data):
    """Read the pairs as the package does."""
    found = _Header(data)
    _version, _n_tensors, n_pairs = (found.number(form) for form in "IQQ")
    return {found.text(): found.value(found.number("I")) for _ in range(n_pairs)}


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
    checks.gguf_header(header)
    checks.induction_score(right_score)
    checks.chat_text(right_text)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda data: header(data) | {"more": 1}, "the header has 8 pairs, got 9"),
        (lambda data: {**header(data), "general.big": 0}, "general.big: wanted"),
        (lambda data: dict([*header(data).items()][:-1]), "is in the file"),
    ],
)
def test_wrong_headers_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.gguf_header(wrong)


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
