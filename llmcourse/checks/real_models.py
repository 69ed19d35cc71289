"""Checks of the chapter *real_models*; none of them needs the model."""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llmcourse.checks.base import check
from llmcourse.model.costs import n_parameters
from llmcourse.model.transformer import TransformerConfig

_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@check
def llama_parameters(fn: Callable[[int, int, int, int, int, int], int]) -> None:
    """Check a function that counts the parameters of a model of Llama's form.

    Args:
        fn: Maps the size of the vocabulary, the width, and the numbers of layers,
            heads, key-value heads and hidden units to the number of parameters, with
            one matrix as both embedding and unembedding.
    """
    names = ["vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff"]
    many = (49152, 576, 30, 9, 3, 1536)
    for sizes in ((10, 8, 1, 2, 2, 12), (10, 8, 1, 2, 1, 12), many):
        named: dict[str, Any] = dict(zip(names, sizes, strict=True))
        wanted = n_parameters(TransformerConfig(**named))
        got = fn(*sizes)
        assert got == wanted, (
            f"sizes {sizes}: wanted {wanted:,}, got {got:,}. A layer has four matrices "
            "of attention, of which keys and values have n_kv_heads / n_heads of the "
            "width, three of the network, and two norms; one more norm is at the end"
        )


@check
def dequantize(fn: Callable[[bytes], Sequence[float]]) -> None:
    """Check a function that reads a block of Q4_1.

    Args:
        fn: Maps the 20 bytes of a block to its 32 weights.
    """
    cases = (
        (0.5, -2.0, [0] * 32),
        (0.25, -1.0, [n % 16 for n in range(32)]),
        (0.125, 3.0, [(7 * n + 3) % 16 for n in range(32)]),
    )
    for scale, least, steps in cases:
        nibbles = bytes(steps[n] | steps[n + 16] << 4 for n in range(16))
        got = fn(struct.pack("<ee", scale, least) + nibbles)
        assert len(got) == 32, f"a block holds 32 weights, got {len(got)}"
        for n, (one, step) in enumerate(zip(got, steps, strict=True)):
            wanted = scale * step + least
            assert math.isclose(one, wanted, abs_tol=1e-6), (
                f"scale {scale}, least {least}: weight {n} is {wanted}, got {one}. The "
                "lower halves of the 16 bytes are the weights 0 to 15, the upper ones "
                "the weights 16 to 31"
            )


@check
def gguf_header(fn: Callable[[bytes], Mapping[str, object]]) -> None:
    """Check a function that reads the pairs in the header of a GGUF file.

    Args:
        fn: Maps the bytes of a file to its keys and values.
    """

    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words.encode())) + words.encode()

    tokens = struct.pack("<IQ", 8, 2) + text("a") + text("bc")
    some: list[tuple[str, int, bytes, object]] = [
        ("general.architecture", 8, text("llama"), "llama"),
        ("general.name", 8, text("Größe"), "Größe"),
        ("llama.block_count", 4, struct.pack("<I", 30), 30),
        ("llama.rope.freq_base", 6, struct.pack("<f", 0.5), 0.5),
        ("general.big", 10, struct.pack("<Q", 2**40), 2**40),
        ("tokenizer.add_bos", 7, b"\x00", False),
        ("tokenizer.tokens", 9, tokens, ["a", "bc"]),
        ("tokenizer.types", 9, struct.pack("<IQii", 5, 2, 1, -3), [1, -3]),
    ]
    begun = b"GGUF" + struct.pack("<IQQ", 3, 0, len(some))
    pairs = b"".join(text(k) + struct.pack("<I", n) + v for k, n, v, _ in some)
    got = fn(begun + pairs + b"weights")
    for key, _, _, wanted in some:
        assert key in got, f"the key {key!r} is in the file, got {sorted(got)}"
        assert got[key] == wanted, (
            f"{key}: wanted {wanted!r}, got {got[key]!r}. A text is its number of "
            "bytes, not of letters, in 8 bytes, and then these bytes; a list names the "
            "kind of its values once"
        )
    assert len(got) == len(some), f"the header has {len(some)} pairs, got {len(got)}"


@check
def induction_score(fn: Callable[[Tensor, int], float]) -> None:
    """Check a function that scores a head as an induction head.

    Args:
        fn: Maps a head's attention weights, of shape (T, T), and the length after which
            the text repeats to the mean weight on the token after the earlier copy.
    """
    for period in (3, 5):
        n = 2 * period
        ideal, late = torch.eye(n), torch.eye(n)
        for t in range(period, n):
            ideal[t], late[t] = 0, 0
            ideal[t, t - period + 1] = 1
            late[t, t - period] = 1
        uniform = torch.ones(n, n).tril()
        uniform = uniform / uniform.sum(dim=1, keepdim=True)
        even = sum(1 / (t + 1) for t in range(period, n)) / period
        for weights, wanted, what in (
            (ideal, 1.0, "looks at the token after the earlier copy, and nowhere else"),
            (late, 0.0, "looks at the earlier copy itself, not at what followed it"),
            (torch.eye(n), 0.0, "looks at its own position"),
            (uniform, even, "looks at all positions alike"),
            (0.5 * ideal + 0.5 * late, 0.5, "does half of the one, half of the other"),
        ):
            got = fn(weights, period)
            assert math.isclose(got, wanted, abs_tol=1e-5), (
                f"a head that {what}, period {period}: wanted {wanted:.3f}, got "
                f"{got:.3f}. Take the mean of weights[t, t - period + 1] over all t "
                "from the period on"
            )


@check
def chat_text(fn: Callable[[Sequence[tuple[str, str]]], str]) -> None:
    r"""Check a function that formats a conversation for SmolLM2.

    Args:
        fn: Maps turns, each a role and what was said, to the text, up to the point
            where the assistant is to speak.
    """
    short = [("user", "Hi!")]
    longer = [*short, ("assistant", "Hello."), ("user", "Who\nare you? ")]
    for turns in (short, longer, [("system", "Be brief."), *longer]):
        own = turns[0][0] == "system"
        said = turns if own else [("system", _SYSTEM), *turns]
        wanted = "".join(f"<|im_start|>{r}\n{text}<|im_end|>\n" for r, text in said)
        wanted += "<|im_start|>assistant\n"
        got = fn(turns)
        assert got == wanted, (
            "each turn is <|im_start|>, role, line break, text, <|im_end|>, break, "
            "and the usual system turn comes first only if the conversation has none: "
            f"wanted {wanted!r}, got {got!r}"
        )
