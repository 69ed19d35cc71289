"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import re

import pytest

from llmcourse.checks import instruction_tuning as checks


def right_counts(turns):
    answers = [n for role, n in turns if role == "assistant"]
    return 1 + sum(n + 2 for _, n in turns), sum(n + 1 for n in answers)


def right_mask(ids, special):
    mask, writing = [], False
    for id_ in ids:
        mask.append(writing)
        writing = (writing and id_ != special["<|end|>"]) or (
            id_ == special["<|assistant|>"]
        )
    return mask


def right_stories(n_answers, answer_targets, share, story_targets):
    return share / (1 - share) * n_answers * answer_targets / story_targets


def right_disarm(text, names):
    while any(name in text for name in names):
        for name in names:
            text = text.replace(name, "")
    return text


def test_right_answers_pass():
    checks.count_targets(right_counts)
    checks.count_targets(lambda turns: list(right_counts(turns)))
    checks.answer_mask(right_mask)
    checks.stories_for_share(right_stories)
    checks.disarm(right_disarm)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda turns: (*right_counts(turns), 0), "must return tuple"),
        (lambda turns: (right_counts(turns)[0] - 1, 0), "begins with"),
        (lambda turns: (sum(n for _, n in turns), 0), "who speaks"),
        (
            lambda turns: (
                right_counts(turns)[0],
                sum(n for role, n in turns if role == "assistant"),
            ),
            "learn to stop",
        ),
        (
            lambda turns: (
                right_counts(turns)[0],
                [n for role, n in turns if role == "assistant"][-1] + 1,
            ),
            "last one alone",
        ),
        (lambda turns: (right_counts(turns)[0], turns[-1][1] + 1), "makes 6"),
        (lambda turns: (right_counts(turns)[0],) * 2, "makes 3"),
    ],
)
def test_wrong_counts_of_targets_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.count_targets(wrong)


def mask_from_speaker(ids, special):
    """The token that says who speaks is counted too."""
    right = right_mask(ids, special)
    return [
        counts or id_ == special["<|assistant|>"]
        for counts, id_ in zip(right, ids, strict=True)
    ]


def mask_without_end(ids, special):
    """The end of an answer is left out."""
    right = right_mask(ids, special)
    return [
        counts and id_ != special["<|end|>"]
        for counts, id_ in zip(right, ids, strict=True)
    ]


def mask_to_the_last(ids, special):
    """Everything after the first answer's beginning counts."""
    start = ids.index(special["<|assistant|>"])
    return [place > start for place in range(len(ids))]


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda ids, special: right_mask(ids, special)[1:], "one bool for each"),
        (mask_from_speaker, "whose turn"),
        (lambda ids, _: [place != 5 for place in range(len(ids))], "only read"),
        (lambda ids, _: [False] * len(ids), "first token on"),
        (mask_without_end, "never stops"),
        (mask_to_the_last, "speaks again"),
        (
            lambda ids, special: (
                right_mask(ids, special) if len(ids) < 10 else [False] * len(ids)
            ),
            "two answers",
        ),
    ],
)
def test_wrong_masks_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=re.escape(lesson)):
        checks.answer_mask(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda n, _answer, share, _story: share * n, "examples' number"),
        (lambda n, answer, share, story: share * n * answer / story, "in the whole"),
        (
            lambda n, answer, share, story: 2 * right_stories(n, answer, share, story),
            "wanted",
        ),
    ],
)
def test_wrong_numbers_of_stories_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.stories_for_share(wrong)


def disarm_once(text, names):
    for name in names:
        text = text.replace(name, "")
    return text


def any_mark(text, names):
    """Take out whatever looks like a special token."""
    while re.search(r"<\|\w+\|>", text):
        text = re.sub(r"<\|\w+\|>", "", text)
    return text


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (disarm_once, "Go on until none"),
        (
            lambda text, names: disarm_once(disarm_once(text, names), names),
            "Go on until none",
        ),
        (lambda text, names: right_disarm(text, names).strip(), "must stay"),
        (lambda text, names: " ".join(right_disarm(text, names).split()), "must stay"),
        (any_mark, "must stay"),
        (lambda text, _: re.sub(r"<\|?|\|?>", "", text), "must stay"),
        (lambda text, names: right_disarm(text, names[:2]), "every occurrence"),
        (lambda text, names: right_disarm(text, names[2:]), "without special"),
        (lambda text, names: right_disarm(text, names)[:8], "must stay"),
        (
            lambda text, names: "" if "<|e<|" in text else right_disarm(text, names),
            "is 'ab'",
        ),
    ],
)
def test_wrong_ways_to_disarm_a_text_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.disarm(wrong)
