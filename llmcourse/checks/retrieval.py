"""Checks of the chapter *retrieval*."""

import math
from collections.abc import Callable, Sequence

from llmcourse.checks.base import check


@check
def n_chunks(fn: Callable[[int, int, int], int]) -> None:
    """Check a function that counts the chunks of a text.

    Args:
        fn: Maps the numbers of tokens in the text, in a chunk, and shared by
            neighbours to the number of chunks.
    """
    for n, size, overlap in ((10, 5, 0), (10, 5, 2), (9000, 256, 64), (13, 5, 2)):
        wanted = math.ceil((n - overlap) / (size - overlap))
        got = fn(n, size, overlap)
        case = f"{n} tokens in chunks of {size} that share {overlap}"
        assert got == int(got), f"{case}: chunks are whole, got {got}"
        assert not (overlap and got == math.ceil(n / size)), (
            f"{case}: each chunk but the first brings only {size - overlap} new tokens"
        )
        assert got != math.ceil(n / (size - overlap)) or got == wanted, (
            f"{case}: the last chunk would hold nothing new; the text is at its end "
            f"with chunk {wanted}"
        )
        assert got == wanted, f"{case}: wanted {wanted}, got {got}"
    for n in (4, 2, 1):
        assert fn(n, 5, 2) == 1, f"a text that fits is one chunk: {n} tokens, size 5"


@check
def fuse(fn: Callable[[Sequence[Sequence[str]]], Sequence[str]]) -> None:
    """Check a function that fuses rankings by their reciprocal ranks, k = 60.

    Args:
        fn: Maps rankings, each with the best first, to one ranking of all their items.
    """
    got = fn([["a", "b"], ["c", "b"]])
    assert sorted(got) == ["a", "b", "c"], (
        f"each item of any ranking is once in the result, got {got}"
    )
    assert got[0] == "b", (
        "b is second twice: 2/62 is more than 1/61, so it comes before a and c; are "
        f"you adding up over the rankings? got {got}"
    )
    one = ["d", "a", "c", "b"]
    assert fn([one]) == one, "one ranking alone must stay as it is"
    got = fn([["a", "b", "c"], ["a", "c", "b"], ["b", "d", "a"]])
    assert got[0] == "a", (
        f"a: 1/61 + 1/61 + 1/63, b: 1/62 + 1/63 + 1/61; a comes first, got {got}"
    )
    assert got == ["a", "b", "c", "d"], f"wanted a, b, c, d, got {got}"
    # Three places far down outweigh one first place only if k is large: with the k of
    # this exercise up to place 122, and raising k by 1 adds two places.
    for place, comes_first in ((122, True), (124, False)):
        far = [[*(f"{s}{i}" for i in range(1, place)), "x"] for s in "abc"]
        assert (fn(far)[0] == "x") == comes_first, (
            f"x is at place {place} of all three rankings: 3/{60 + place} is "
            f"{'more' if comes_first else 'less'} than the 1/61 of the first places. "
            "With k = 60, that is: is your k 60, your first rank 1?"
        )


@check
def n_calls(fn: Callable[[int, int], int]) -> None:
    """Check a function that counts the calls of a map-reduce summary.

    Args:
        fn: Maps the number of pieces and the number of summaries that fit into one
            call to the number of calls.
    """
    for n, group, wanted in ((1, 4, 1), (4, 4, 5), (5, 2, 11), (40, 10, 45)):
        got = fn(n, group)
        case = f"{n} pieces, {group} summaries at once"
        assert n == 1 or got != n, (
            f"{case}: {n} calls give {n} summaries; they must be summarised, too"
        )
        assert n == 1 or got == wanted or got != n + math.ceil(n / group), (
            f"{case}: after one more round there are {math.ceil(n / group)} summaries "
            "left; go on until there is one"
        )
        assert got == wanted, f"{case}: wanted {wanted} calls, got {got}"


@check
def line_of(fn: Callable[[str, int], int]) -> None:
    r"""Check a function that finds the line of a place in a text.

    Args:
        fn: Maps a text and the place of a character, counted from 0, to the number of
            its line, counted from 1.
    """
    text = "One.\n\nTwo.\nThree."
    assert fn(text, 0) == 1, "the first character is in line 1; editors count from 1"
    assert fn(text, 3) == 1, "the first line ends with its line break, not before"
    assert fn(text, 4) == 1, (
        "the line break belongs to the line that it ends: count those before the place"
    )
    assert fn(text, 6) == 3, "'Two.' is in line 3: the empty line counts"
    got = [fn(text, place) for place in range(len(text))]
    wanted = [1] * 5 + [2] + [3] * 5 + [4] * 6
    assert got == wanted, f"of {text!r} wanted {wanted}, got {got}"
    assert fn("\n.", 1) == 2, "a text may begin with an empty line, which counts"
