"""Questions a : b :: c : ? from a grammar, and their score."""

from itertools import permutations

import pytest
import torch

from llmcourse.text import tales
from llmcourse.text.deduplication import words
from llmcourse.text.embeddings import (
    CLASSES,
    WordVectors,
    entries,
    questions,
    relations,
    score_analogies,
    word_classes,
)

PAIRS = {
    "cow": frozenset({"moo"}),
    "hen": frozenset({"cluck", "cackle"}),
    "dog": frozenset({"bark"}),
}
WORDS = ["cow", "hen", "dog", "moo", "cluck", "cackle", "bark", "tin"]


def vectors(seed: int = 0) -> WordVectors:
    generator = torch.Generator().manual_seed(seed)
    return WordVectors(WORDS, torch.randn(len(WORDS), 5, generator=generator))


# Worked example


def test_questions_of_three_words_by_hand():
    """Two cries of the hen are asked about as b, and both are right as answers."""
    hen = PAIRS["hen"]
    assert list(questions(PAIRS)) == [
        ("cow", "moo", "hen", hen),
        ("cow", "moo", "dog", PAIRS["dog"]),
        ("hen", "cackle", "cow", PAIRS["cow"]),
        ("hen", "cluck", "cow", PAIRS["cow"]),
        ("hen", "cackle", "dog", PAIRS["dog"]),
        ("hen", "cluck", "dog", PAIRS["dog"]),
        ("dog", "bark", "cow", PAIRS["cow"]),
        ("dog", "bark", "hen", hen),
    ]


def test_a_perfect_world_is_scored_by_hand():
    """Each animal has a direction; to make its noise is one step in another.

    Then the sum is exactly the noise of c. Nearest to cow alone, with moo allowed, is
    moo: it shares cow's direction, all others only a little of the step.
    """
    eye = torch.eye(4)
    rows = [*eye[:3], *(eye[:3] + eye[3])]
    world = WordVectors(
        ["cow", "hen", "dog", "moo", "cluck", "bark"], torch.stack(rows)
    )
    pairs = {"cow": {"moo"}, "hen": {"cluck"}, "dog": {"bark"}}
    score = score_analogies(world, {a: frozenset(b) for a, b in pairs.items()})
    assert score.n_questions == 6
    for share in (score.right, score.kind, score.nearest):
        assert share.tolist() == [1, 1, 1]
    assert score.chance.tolist() == [1 / 2] * 3  # of three noises, b is given


# Law


def test_a_relation_with_one_partner_each_gives_all_ordered_pairs():
    pairs = {str(i): frozenset({f"x{i}"}) for i in range(5)}
    asked = [(a, c) for a, _, c, _ in questions(pairs)]
    assert asked == list(permutations(pairs, 2))


def test_no_b_is_a_right_answer_and_no_word_is_asked_about_itself():
    for pairs in relations().values():
        for a, b, c, right in questions(pairs):
            assert b not in right
            assert a != c


def test_scores_do_not_depend_on_lengths_or_a_rotation():
    ours = vectors()
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator())).Q
    lengths = torch.linspace(0.5, 3, len(WORDS))[:, None]
    turned = WordVectors(WORDS, lengths * ours.vectors @ turn)
    one, other = (score_analogies(v, PAIRS) for v in (ours, turned))
    for name in ("right", "kind", "nearest", "chance", "copied"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_shares_are_ordered_as_they_must_be():
    """A right answer is of the right kind; there are as many values as words asked."""
    for seed in range(5):
        score = score_analogies(vectors(seed), PAIRS)
        assert (score.right <= score.kind).all()
        for name in ("right", "kind", "nearest", "chance", "copied"):
            values = getattr(score, name)
            assert values.shape == (3,)
            assert ((values >= 0) & (values <= 1)).all()


def test_the_relations_are_those_of_the_grammar():
    found = relations()
    said = " ".join(words(" ".join(s.text for s in tales.generate(300, seed=0))))
    assert found["trade : work"]["baker"] == {"kneading"}
    assert "the baker was kneading" in said
    assert found["one : many"]["peach"] == {"peaches"}
    assert found["animal : cry"]["owl"] == {"hooted"}
    assert found["number : one less"]["seven"] == {"six"}
    assert found["young : parent"]["gosling"] == {"goose"}
    assert found["female : male"]["aunt"] == {"uncle"}
    assert found["female : male"]["her"] == {"him", "his"}
    for place, things in found["place : thing"].items():
        for other, theirs in found["place : thing"].items():
            assert place == other or not things & theirs


def test_each_word_has_one_class_and_stands_in_a_list_of_it():
    classes = word_classes()
    world = tales.world()
    for word, name in classes.items():
        listed = {e["word"].lower() for e in entries(world, *CLASSES[name])}
        assert word in listed
    assert set(classes.values()) == set(CLASSES)
    assert "robin" in classes
    assert "orange" not in {w for w in classes if classes[w] == "food"}


# Reference


def test_the_score_equals_a_slow_loop():
    ours = vectors(3)
    found = score_analogies(ours, PAIRS)
    asked = list(questions(PAIRS))
    all_right = {b for partners in PAIRS.values() for b in partners}
    by_word: dict[str, list[tuple[float, ...]]] = {}
    for a, b, c, right in asked:
        best = ours.analogy(a, b, c, k=1)[0][0]
        free = ours.analogy(a, b, c, k=1, exclude=False)[0][0]
        alone = next(w for w, _ in ours.nearest(c, k=3) if w not in (a, b))
        row = (
            best in right,
            best in all_right,
            alone in right,
            len(right) / (len(all_right) - 1),
            free in (b, c),
        )
        by_word.setdefault(c, []).append(row)
    means = [torch.tensor(rows).float().mean(dim=0) for rows in by_word.values()]
    wanted = torch.stack(means).unbind(dim=1)
    names = ("right", "kind", "nearest", "chance", "copied")
    for name, values in zip(names, wanted, strict=True):
        torch.testing.assert_close(getattr(found, name), values)
    assert found.n_questions == len(asked)


# Refusal


def test_a_relation_without_known_words_is_refused():
    with pytest.raises(ValueError, match="1 of 2 words with partners"):
        score_analogies(
            vectors(), {"cow": frozenset({"moo"}), "owl": frozenset({"hoot"})}
        )


def test_unknown_lists_are_refused():
    with pytest.raises(ValueError, match="wanted lists of the grammar, got ships"):
        entries(tales.world(), "job", "ships")
