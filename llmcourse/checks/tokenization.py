"""Checks of the chapter *tokenization*."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from llmcourse.checks.base import check
from llmcourse.text.bpe import GPT2_PATTERN, count_pretokens
from llmcourse.text.tokenizers import BPETokenizer

Merges = list[tuple[bytes, bytes]]

FRUIT_MERGES: Final[Merges] = [(b"a", b"n"), (b"b", b"an"), (b"an", b"a")]
_AS_SHOWN: Final = str.maketrans({"\xc3": "\\xc3", "\xb1": "\\xb1"})  # if written as is
_TEXT: Final = (
    "The tanner and the banner-man ran an errand: a banana for Anna, "
    "an ananas for Hannah, and no bananas for the bandit at all."
)


@check
def predict_pieces(answer: Mapping[str, Sequence[str]]) -> None:
    """Check the pieces of three words under the three merges found by hand.

    Args:
        answer: The pieces of ``bananas``, ``Ananas`` and ``mañana``.

    >>> predict_pieces({"bananas": ["ban", "ana", "s"]})
    Traceback (most recent call last):
    AssertionError: the answer lacks 'Ananas': give a list of pieces for each word
    """
    lessons = {
        "bananas": (
            ["ban", "ana", "s"],
            "apply the merges in the order learned: a n everywhere, then b an, "
            "then an a",
        ),
        "Ananas": (
            ["A", "n", "ana", "s"],
            "A and a are different bytes, and the merge a n knows the small one only",
        ),
        "mañana": (
            ["m", "a", "\\xc3", "\\xb1", "ana"],
            "ñ is two bytes in UTF-8, no merge joins them, so each is a piece",
        ),
    }
    for word, (right, lesson) in lessons.items():
        assert word in answer, (
            f"the answer lacks {word!r}: give a list of pieces for each word"
        )
        got = [piece.translate(_AS_SHOWN) for piece in answer[word]]
        assert not any("ñ" in piece for piece in got), (
            f"{word!r} is not cut into {got}: {lesson}"
        )
        assert "".join(got) == "".join(right), (
            f"the pieces of {word!r} must spell it in full, got {got}"
        )
        assert got == right, f"{word!r} is not cut into {got}: {lesson}"


@check
def encode_pretoken(encode: Callable[[bytes, Merges], Sequence[bytes]]) -> None:
    """Check a function that cuts a pre-token by merges, in the order learned."""
    assert encode("xñz".encode(), []) == [b"x", b"\xc3", b"\xb1", b"z"], (
        "without merges every byte is a piece of its own, and ñ is two bytes"
    )
    got = encode(b"anban", FRUIT_MERGES[:1])
    assert got == [b"an", b"b", b"an"], (
        f"a merge is applied wherever its pair occurs: anban is an·b·an, got {got}"
    )
    got = encode(b"ananas", FRUIT_MERGES[:])
    assert got != [b"ana", b"n", b"a", b"s"], (
        "ananas became ana·n·a·s: the longest piece was taken first; "
        "byte-pair encoding applies the earliest-learned merge first"
    )
    assert got == [b"an", b"ana", b"s"], f"ananas is an·ana·s, got {got}"
    for order, right in [((0, 1, 2), "c·a·ban·a"), ((0, 2, 1), "c·a·b·ana")]:
        merges = [FRUIT_MERGES[i] for i in order]
        cut = "·".join(piece.decode() for piece in encode(b"cabana", merges))
        assert cut == right, (
            f"the order of the merges decides: with {merges}, cabana is {right}, "
            f"got {cut}"
        )
    got = encode(b"ana", [(b"n", b"a"), (b"a", b"n"), (b"an", b"a")])
    assert got == [b"a", b"na"], (
        "n·a comes first and leaves a·na, which spells ana, but no merge has these two "
        f"halves: compare both, not what they spell; got {got}"
    )
    got = encode(b"aaaaa", [(b"a", b"a"), (b"aa", b"aa")])
    assert got == [b"aaaa", b"a"], (
        f"merge from left to right, each byte once: aaaaa is aaaa·a, got {got}"
    )
    tokenizer = BPETokenizer.train([_TEXT], vocab_size=296)
    for pretoken in count_pretokens([_TEXT], GPT2_PATTERN):
        want = [tokenizer.pieces[i] for i in tokenizer.encode(pretoken.decode())]
        got = encode(pretoken, tokenizer.merges)
        assert got == want, (
            f"{pretoken!r} must become {want}, as BPETokenizer has it, got {got}"
        )


@check
def longest_match(cut: Callable[[bytes, set[bytes]], Sequence[bytes]]) -> None:
    """Check a function that cuts a pre-token into the longest known pieces."""
    vocab = {b"a", b"b", b"n", b"s", b"an", b"ban", b"ana"}
    got = cut(b"ananas", vocab)
    assert got != [b"an", b"ana", b"s"], (
        "ananas became an·ana·s, which is byte-pair encoding: here no merge counts, "
        "the longest piece from the left is taken"
    )
    assert got == [b"ana", b"n", b"a", b"s"], (
        f"ananas starts with ana, the longest known piece, then n, a, s; got {got}"
    )
    got = cut(b"abbaabba", {b"a", b"b", b"abba"})
    assert got == [b"abba", b"abba"], (
        "a long piece counts even if none of its beginnings is a piece: with abba but "
        f"neither ab nor abb in the vocabulary, abbaabba is two pieces, got {got}"
    )
    got = cut(b"banana", {b"a", b"b", b"n", b"ba", b"anana"})
    assert got == [b"ba", b"n", b"a", b"n", b"a"], (
        "from left to right: banana begins with ba, though the longer anana would fit "
        f"after b; got {got}"
    )
    assert cut(b"", vocab) == [], "nothing is cut into no pieces"


@check
def digit_groups(group: Callable[[str], Sequence[str]]) -> None:
    """Check a function that groups a number's digits in threes from the right."""
    got = group("1234567")
    assert got != ["123", "456", "7"], (
        "1234567 became 123·456·7, counted from the left: the last group must hold "
        "hundreds, tens and units"
    )
    assert got == ["1", "234", "567"], f"1234567 is 1·234·567, got {got}"
    for right in ("7", "123", "123·456", "1·000", "0·042"):
        number = right.replace("·", "")
        got = group(number)
        assert got == right.split("·"), f"{number} is {right}, every digit, got {got}"
