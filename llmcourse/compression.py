"""Compressors as language models: what they make of a text, in bits per byte.

    text ── gzip, bz2, xz ── file        bits of the file / bytes of the text

Whoever can predict a text can write it short, and the other way round: a token of
probability p takes -log2 p bits. So a compressor's output is a loss, to be compared
with a model's, see `losses.bits_per_byte`.

Source: Shannon (1948), section 9; Delétang et al. (2024), "Language modeling is
compression".
"""

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping
from types import MappingProxyType

COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {
        # Without the time of day, so that the same text has the same size.
        "gzip": lambda data: gzip.compress(data, compresslevel=9, mtime=0),
        "bz2": lambda data: bz2.compress(data, compresslevel=9),
        "xz": lambda data: lzma.compress(data, preset=9),
    }
)
"""gzip looks back 32 KiB, bz2 sorts blocks of 900 kB, xz looks back 64 MiB."""


def compressed_bits_per_byte(text: str, before: str = "") -> dict[str, float]:
    """Return what each compressor makes of a text, in bits per byte of UTF-8.

    Args:
        text: The text.
        before: What a compressor may learn from: it is compressed with and without
            the text behind it, and what the text adds is counted.

    Raises:
        ValueError: If the text is empty.

    >>> alone = compressed_bits_per_byte("the hen ran; " * 99)
    >>> alone["xz"] < 1  # of 8, since it repeats itself
    True
    """
    data, known = text.encode(), before.encode()
    if not data:
        raise ValueError("bits per byte need a text, got an empty one")
    bits = {}
    for name, compress in COMPRESSORS.items():
        own = len(compress(known)) if known else 0
        bits[name] = 8 * (len(compress(known + data)) - own) / len(data)
    return bits
