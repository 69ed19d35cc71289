"""The checks of the chapter on the corpus: a right answer each, and wrong ones."""

import random
from hashlib import sha256
from typing import Any

import pytest

from llmcourse.checks import corpus as checks
from llmcourse.text.deduplication import words


def containment(a, b):
    return len(a & b) / len(a) if a else 0.0


def choose_bands(n_hashes, threshold):
    divisors = [b for b in range(1, n_hashes + 1) if n_hashes % b == 0]
    best = min(divisors, key=lambda b: abs((1 / b) ** (b / n_hashes) - threshold))
    return best, n_hashes // best


def place(text):
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") / 2**64


def is_held_out(text, share):
    return place(text) < share


def find_leaks(train, test, n):
    def runs(text):
        tokens = words(text)
        return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}

    seen = set().union(*map(runs, train))
    return [i for i, text in enumerate(test) if runs(text) & seen]


def test_a_function_of_ones_own_may_be_called_hash():
    made: dict[str, Any] = {"place": place}
    exec(  # as in a notebook, where the name is a global one
        "def hash(text): return place(text)\n"
        "def is_held_out(text, share): return hash(text) < share",
        made,
    )
    checks.is_held_out(made["is_held_out"])


@pytest.mark.parametrize("fn", [containment, choose_bands, is_held_out, find_leaks])
def test_right_answers_pass(fn):
    getattr(checks, fn.__name__)(fn)


def containment_in_place(a, b):
    size = len(a)
    a &= b
    return len(a) / size if size else 0.0


def in_tenths(text, share):
    return int(10 * place(text)) < 10 * share


def salted(text):
    return hash(text) % 1000


def by_a_helper(text, share):
    return salted(text) < 1000 * share


def as_strings(train, test, n):
    known = [" ".join(words(text)) for text in train]

    def runs(text):
        tokens = words(text)
        return [" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]

    return [
        i
        for i, text in enumerate(test)
        if any(run in other for run in runs(text) for other in known)
    ]


def without_the_last_run(train, test, n):
    def runs(text):
        tokens = words(text)
        return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n)}

    seen = set().union(*map(runs, train))
    return [i for i, text in enumerate(test) if runs(text) & seen]


def case_sensitive(train, test, n):
    def runs(text):
        return {
            tuple(text.split()[i : i + n]) for i in range(len(text.split()) - n + 1)
        }

    seen = set().union(*map(runs, train))
    return [i for i, text in enumerate(test) if runs(text) & seen]


def joined(train, test, n):
    return find_leaks([" ".join(train)], test, n)


def bag_of_words(train, test, n):
    seen = {word for text in train for word in words(text)}
    return [i for i, text in enumerate(test) if len(seen & set(words(text))) >= n]


@pytest.mark.parametrize(
    ("name", "wrong", "lesson"),
    [
        (
            "containment",
            lambda a, b: len(a & b) / len(a | b or {0}),
            "not of the union",
        ),
        ("containment", lambda a, b: len(a & b) / min(len(a), len(b)), "direction"),
        ("containment", containment_in_place, "changes what"),
        (
            "containment",
            lambda a, b: 1.0 if a <= b else len(a & b) / len(a),
            "shares nothing",
        ),
        ("choose_bands", lambda k, t: (round(k / 5), 5), "divide it"),
        ("choose_bands", lambda k, t: (k // 4, 4), "come nearer"),
        ("choose_bands", lambda k, t: choose_bands(k, 1 - t), "come nearer"),
        ("choose_bands", lambda k, t: choose_bands(k, min(t, 0.9)), "1 bands come"),
        ("choose_bands", lambda k, t: choose_bands(k, max(t, 0.3)), "12 bands come"),
        ("is_held_out", lambda text, share: random.random() < share, "changed sides"),
        (
            "is_held_out",
            lambda text, share: hash(text) % 1000 < 1000 * share,
            "hashlib",
        ),
        ("is_held_out", by_a_helper, "hashlib"),
        (
            "is_held_out",
            lambda text, share: sum(hash(w) for w in text.split()) % 97 < 97 * share,
            "hashlib",
        ),
        ("is_held_out", lambda text, share: place(text) < share / 2, "about 300"),
        ("is_held_out", in_tenths, "about 300"),
        ("is_held_out", lambda text, share: place(f"{text}{share}") < share, "left"),
        (
            "is_held_out",
            lambda text, share: place(text) < max(share, 0.05),
            "holds out nothing",
        ),
        ("find_leaks", bag_of_words, "compare runs"),
        ("find_leaks", case_sensitive, "in one form"),
        ("find_leaks", joined, "by itself"),
        ("find_leaks", lambda train, test, n: find_leaks(train, test, 4), "is n used"),
        (
            "find_leaks",
            lambda train, test, n: find_leaks(train, test, 4 if n == 3 else n),
            "runs of 3 words.*is n used",
        ),
        ("find_leaks", lambda train, test, n: [2], "share four words"),
        ("find_leaks", as_strings, "tuples of words"),
        ("find_leaks", lambda train, test, n: as_strings(test, train, n), "."),
        ("find_leaks", without_the_last_run, "at the end"),
    ],
)
def test_wrong_answers_fail_with_the_lesson(name, wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        getattr(checks, name)(wrong)
