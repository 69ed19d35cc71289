"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import math

import pytest

from llmcourse.checks import retrieval as checks


def right_chunks(n, size, overlap):
    return max(1, math.ceil((n - overlap) / (size - overlap)))


def right_fuse(rankings, k=60, first=1):
    sums = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=first):
            sums[item] = sums.get(item, 0) + 1 / (k + rank)
    return sorted(sums, key=lambda item: -sums[item])


def right_calls(n, group):
    calls = n
    while n > 1:
        n = math.ceil(n / group)
        calls += n
    return calls


def right_line(text, place):
    return text.count("\n", 0, place) + 1


def test_right_answers_pass():
    checks.n_chunks(right_chunks)
    checks.fuse(right_fuse)
    checks.n_calls(right_calls)
    checks.line_of(right_line)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda n, size, overlap: math.ceil(n / size), "new tokens"),
        (lambda n, size, overlap: math.ceil(n / (size - overlap)), "nothing new"),
        (lambda n, size, overlap: (n - overlap) / (size - overlap), "whole"),
        (lambda n, size, overlap: right_chunks(n, size, overlap) + 1, "wanted 2"),
    ],
)
def test_wrong_numbers_of_chunks(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.n_chunks(wrong)


def test_a_text_that_fits_is_one_chunk():
    def wrong(n, size, overlap):
        return math.ceil((n - overlap) / (size - overlap)) if n > size else 0

    with pytest.raises(AssertionError, match="fits is one chunk: 4 tokens"):
        checks.n_chunks(wrong)

    def without_one(n, size, overlap):
        return math.ceil((n - overlap) / (size - overlap))

    with pytest.raises(AssertionError, match="fits is one chunk: 2 tokens"):
        checks.n_chunks(without_one)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda rankings: [item for r in rankings for item in r], "is once in"),
        (lambda rankings: list(dict.fromkeys(rankings[0] + rankings[-1])), "adding up"),
        (lambda rankings: right_fuse(rankings, k=1), "k = 60"),
        (lambda rankings: right_fuse(rankings, k=10), "k = 60"),
        (lambda rankings: right_fuse(rankings, k=600), "k = 60"),
        (lambda rankings: right_fuse(rankings, k=59), "k = 60"),
        (lambda rankings: right_fuse(rankings, k=61), "k = 60"),
        (lambda rankings: right_fuse(rankings, first=2), "first rank 1"),
        (lambda rankings: right_fuse(rankings, first=0), "first rank 1"),
        (lambda rankings: sorted({i for r in rankings for i in r}), "b is second"),
    ],
)
def test_wrong_fusions(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.fuse(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda n, group: n, "must be summarised, too"),
        (lambda n, group: n + math.ceil(n / group) * (n > 1), "until there is one"),
        (lambda n, group: right_calls(n, group) + 1, "wanted 1 calls"),
    ],
)
def test_wrong_numbers_of_calls(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.n_calls(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda text, place: text.count("\n", 0, place), "count from 1"),
        (lambda text, place: text.count("\n", 0, place + 1) + 1, "it ends"),
        (lambda text, place: len(text[:place].split("\n\n")) * 2 - 1, "wanted"),
        (lambda text, place: 1, "the empty line counts"),
        (lambda text, place: text.count("\n", 1, place) + 1, "begin with an empty"),
    ],
)
def test_wrong_lines(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.line_of(wrong)
