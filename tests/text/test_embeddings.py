"""Similarities, projections, skip-gram, analogies."""

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from embedding_cases import nearest
from model_cases import seeded
from torch.nn.functional import logsigmoid

from llmcourse.text import tales
from llmcourse.text.deduplication import words
from llmcourse.text.embeddings import (
    CLASSES,
    SkipGramConfig,
    WordVectors,
    analogy_query,
    context_pairs,
    count_texts,
    entries,
    keep_probability,
    neighbour_purity,
    noise_distribution,
    project,
    questions,
    relations,
    score_analogies,
    similarities,
    skipgram_gradients,
    train_skipgram,
    word_classes,
)

KINDS = ("cosine", "euclidean", "dot")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def analogy(vectors, a, b, c, k, exclude=True):
    """Return the words nearest to b − a + c."""
    ids = [vectors.ids[word] for word in (a, b, c)]
    query = analogy_query(*vectors.vectors[ids])
    found, _ = nearest(vectors.vectors, query, k, exclude=ids if exclude else ())
    return [vectors.words[i] for i in found.tolist()]


# Worked example


def test_three_similarities_name_three_neighbours():
    """To (1, 1), by hand.

        (9, 0)    dot 9      cosine 0.71   distance √65
        (4, 4)    dot 8      cosine 1      distance √18
        (1, 0)    dot 1      cosine 0.71   distance 1

    So the longest wins by dot product, the one in the same direction by cosine, and
    the one that lies closest by distance.
    """
    vectors = torch.tensor([[9.0, 0.0], [4.0, 4.0], [1.0, 0.0]])
    query = torch.tensor([1.0, 1.0])
    scores = {kind: similarities(query, vectors, kind) for kind in KINDS}
    ids = {kind: found.argmax().item() for kind, found in scores.items()}
    assert ids == {"dot": 0, "cosine": 1, "euclidean": 2}
    values = [scores[kind].max().item() for kind in ("dot", "cosine", "euclidean")]
    assert values == pytest.approx([9, 1, -1], abs=1e-6)


def test_an_analogy_by_hand():
    """The second coordinate says "young": cow : calf :: hen : chick."""
    words = ["cow", "calf", "hen", "chick", "tin"]
    rows = [[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [-1, 0, 0]]
    vectors = WordVectors(words, torch.tensor(rows))
    assert analogy(vectors, "cow", "calf", "hen", 1) == ["chick"]
    assert {*analogy(vectors, "cow", "calf", "hen", 5, exclude=False)} == {*words}
    assert {*analogy(vectors, "cow", "calf", "hen", 2)} == {"chick", "tin"}


def test_projection_of_a_cross_by_hand():
    """Four points on two lines at right angles: the longer line comes first.

    Variances 2 · 3² and 2 · 1², so 9 tenths and 1 tenth.
    """
    cross = torch.tensor([[3.0, 0, 7], [-3, 0, 7], [0, 1, 7], [0, -1, 7]])
    points, directions, explained = project(cross, 2)
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    torch.testing.assert_close(directions, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(points, cross[:, :2], atol=1e-6, rtol=0)
    assert explained.tolist() == pytest.approx([0.9, 0.1])


# Law


def test_cosines_do_not_see_lengths_and_distances_do_not_see_shifts():
    queries, vectors = noise(2, 3), noise(5, 3, seed=1)
    scaled = similarities(7 * queries, vectors * noise(5, 1, seed=2).abs())
    torch.testing.assert_close(scaled, similarities(queries, vectors))
    moved = similarities(queries + 4, vectors + 4, "euclidean")
    torch.testing.assert_close(moved, similarities(queries, vectors, "euclidean"))


@pytest.mark.parametrize("kind", KINDS)
def test_turning_all_vectors_changes_no_similarity(kind):
    vectors = noise(5, 4)
    turn = torch.linalg.qr(noise(4, 4, seed=1)).Q
    torch.testing.assert_close(
        similarities(vectors @ turn, vectors @ turn, kind),
        similarities(vectors, vectors, kind),
        atol=1e-5,
        rtol=1e-5,
    )


def test_on_unit_vectors_all_three_order_alike():
    vectors = torch.nn.functional.normalize(noise(11, 4), dim=1)
    orders = [similarities(vectors[0], vectors, k).argsort().tolist() for k in KINDS]
    assert orders[0] == orders[1] == orders[2]


def test_nearest_is_ordered_and_leaves_the_word_itself_out():
    found = WordVectors([*"abcdefghi"], noise(9, 3)).nearest("e", 8)
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    assert {word for word, _ in found} == {*"abcdfghi"}


def test_directions_are_orthonormal_and_points_keep_distances_if_all_are_kept():
    vectors = noise(7, 3)
    points, directions, explained = project(vectors, 3)
    torch.testing.assert_close(directions @ directions.T, torch.eye(3))
    torch.testing.assert_close(
        torch.cdist(points, points), torch.cdist(vectors, vectors)
    )
    assert explained.sum().item() == pytest.approx(1)
    assert explained.tolist() == sorted(explained.tolist(), reverse=True)


def test_a_projection_does_not_depend_on_where_the_vectors_are():
    vectors = noise(7, 3)
    torch.testing.assert_close(
        project(vectors + 20).points, project(vectors).points, atol=1e-4, rtol=1e-4
    )


def test_purity_is_one_for_tight_groups_and_chance_for_none():
    """400 random vectors in 4 equal groups: 1/4 by chance, ± 0.1 is 4.6 deviations."""
    labels = torch.arange(400) % 4
    tight = torch.eye(4)[labels] + 0.01 * noise(400, 4)
    assert neighbour_purity(tight, labels).tolist() == [1.0] * 400
    mixed = neighbour_purity(noise(400, 5, seed=1), labels).mean().item()
    assert mixed == pytest.approx(1 / 4, abs=0.1)


# Reference


def test_similarities_equal_slow_loops():
    queries, vectors = noise(2, 3, 4), noise(5, 4, seed=1)
    for kind in KINDS:
        found = similarities(queries, vectors, kind)
        for i, j, v in [
            (i, j, v) for i in range(2) for j in range(3) for v in range(5)
        ]:
            x, y = queries[i, j].tolist(), vectors[v].tolist()
            dot = sum(a * b for a, b in zip(x, y, strict=True))
            wanted = {
                "dot": dot,
                "cosine": dot / math.hypot(*x) / math.hypot(*y),
                "euclidean": -math.dist(x, y),
            }
            assert found[i, j, v].item() == pytest.approx(wanted[kind], abs=1e-5)


def test_small_distances_survive_far_from_the_origin():
    """What squares would lose: 1,000 and 1,000.001 differ."""
    vectors = torch.tensor([[1000.0, 1000.0], [1000.0, 1000.125]])
    found = similarities(vectors[0], vectors, "euclidean")
    assert found.tolist() == [0.0, -0.125]


def test_projection_equals_the_eigenvectors_of_the_covariance():
    vectors = noise(13, 5) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5])
    _, directions, explained = project(vectors, 2)
    values, columns = torch.linalg.eigh(torch.cov(vectors.T))
    wanted = columns.flip(1).T[:2]
    overlap = (directions * wanted).sum(dim=1).abs()
    torch.testing.assert_close(overlap, torch.ones(2), atol=1e-5, rtol=0)
    share = values.flip(0)[:2] / values.sum()
    torch.testing.assert_close(explained, share, atol=1e-5, rtol=1e-5)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_purity_equals_a_slow_loop():
    vectors, labels = noise(7, 3), torch.tensor([0, 1, 2, 0, 1, 0, 0])
    found = neighbour_purity(vectors, labels)
    for i in range(7):
        (j,), _ = nearest(vectors, vectors[i], 1, exclude=[i])
        assert found[i].item() == (labels[j] == labels[i])


def test_an_analogy_query_counts_all_three_alike():
    a, b, c = noise(3, 4)
    torch.testing.assert_close(analogy_query(5 * a, b, 0.1 * c), analogy_query(a, b, c))
    wanted = b / b.norm() - a / a.norm() + c / c.norm()
    torch.testing.assert_close(analogy_query(a, b, c), wanted)


def test_some_words_keep_their_vectors():
    vectors = WordVectors(["a", "b", "c"], noise(3, 2))
    some = vectors.only(["c", "a"])
    assert some.words == ["c", "a"]
    assert "b" not in some
    assert len(some) == 2
    torch.testing.assert_close(some["c"], vectors["c"])


# Refusal


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: similarities(v.vectors, v.vectors, "angle"), "got 'angle'"),
        (lambda v: v["d"], "3 known words, got 'd'"),
        (lambda v: v.only(["a", "d"]), "got 'd'"),
        (lambda v: v.nearest("a", 3), "in 1 … 2"),
        (lambda v: v.nearest("a", 0), "got 0"),
        (lambda v: v.nearest("d", 1), "got 'd'"),
        (lambda v: WordVectors(["a", "a", "b"], v.vectors), "2 of them distinct"),
        (lambda v: WordVectors(["a", "b"], v.vectors), "got 3 for 2"),
        (lambda v: project(v.vectors, 3), "in 1 … 2"),
        (lambda v: project(v.vectors * 0), "all equal"),
        (
            lambda v: neighbour_purity(v.vectors[:1], torch.tensor([7])),
            "n_vectors must be at least 2, got 1",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(WordVectors(["a", "b", "c"], noise(3, 2)))


# A language in which hens and cows are fed and boats and trains are taken.
TEXTS = [
    f"they {verb} the {noun} at {time}"
    for verb, nouns in (("fed", ("hen", "cow")), ("took", ("boat", "train")))
    for noun in nouns
    for time in ("dawn", "noon", "night")
]
SMALL = SkipGramConfig(
    d_model=7,
    window=3,
    n_negatives=2,
    min_count=1,
    subsampling=1.0,
    epochs=60,
    batch_size=32,
    learning_rate=0.2,
)


# Worked example


def test_one_step_by_hand():
    """Center (1, 0), company (0, 1), noise (0, −2): both scores 0, both σ = 1/2.

    The errors are −1/2 and +1/2. By the center: −½ (0, 1) + ½ (0, −2) = (0, −1.5).
    By the targets: −½ (1, 0) and ½ (1, 0). After a step of size 1 the center is
    (1, 1.5), the company (½, 1), the noise (−½, −2), and the scores are 2 and −3.5.
    """
    center = torch.tensor([[1.0, 0.0]])
    targets = torch.tensor([[[0.0, 1.0], [0.0, -2.0]]])
    loss, by_center, by_targets = skipgram_gradients(center, targets)
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert by_center.tolist() == [[0.0, -1.5]]
    assert by_targets.tolist() == [[[-0.5, 0.0], [0.5, 0.0]]]
    after = (targets - by_targets) @ (center - by_center).unsqueeze(-1)
    assert after.flatten().tolist() == [2.0, -3.5]


def test_pairs_of_two_texts_by_hand():
    """a b c | d e with a window of 2: all within a text, none across."""
    ids, text_of = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 0, 0, 1, 1])
    pairs = zip(*(row.tolist() for row in context_pairs(ids, text_of, 2)), strict=True)
    assert sorted(pairs) == [
        *[(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)],
        *[(3, 4), (4, 3)],
    ]


def test_words_are_counted_without_case_and_punctuation():
    counted = count_texts(["The hen, the COW.", "the hen; a tin!"], min_count=2)
    assert counted.words == ["the", "hen"]
    assert counted.counts.tolist() == [3, 2]
    assert counted.ids.tolist() == [0, 1, 0, 0, 1]
    assert counted.text_of.tolist() == [0, 0, 0, 1, 1]


# Law


def test_noise_and_thinning_are_probabilities_between_their_extremes():
    counts = torch.tensor([90, 9, 1])
    noise = noise_distribution(counts)
    assert noise.sum().item() == pytest.approx(1)
    assert noise[2] > counts[2] / counts.sum()  # the rare gain, the frequent lose
    assert noise[0] < counts[0] / counts.sum()
    torch.testing.assert_close(noise_distribution(counts, 1), counts / counts.sum())
    torch.testing.assert_close(noise_distribution(counts, 0), torch.full((3,), 1 / 3))
    keep = keep_probability(counts, 0.1)
    assert keep.tolist() == pytest.approx([1 / 3, 1.0, 1.0])


def test_random_windows_give_near_words_more_weight():
    """At distance d of 4 a pair is kept with probability (5 − d) / 4.

    1,000 words on the line give about 2,000 draws at each distance; 0.05 is over 4
    standard deviations of the share.
    """
    ids = torch.arange(1000)
    center, context = context_pairs(ids, torch.zeros(1000).long(), 4, seeded())
    by_distance = Counter((center - context).abs().tolist())
    for distance in range(1, 5):
        share = by_distance[distance] / (2 * (1000 - distance))
        assert share == pytest.approx((5 - distance) / 4, abs=0.05)


def test_ignored_targets_change_nothing():
    center, targets = torch.randn(3, 4, generator=seeded()), torch.randn(3, 5, 4)
    counted = torch.ones(3, 5, dtype=torch.bool)
    counted[:, 3:] = False
    some = skipgram_gradients(center, targets, counted)
    few = skipgram_gradients(center, targets[:, :3])
    torch.testing.assert_close(some[0], few[0])
    torch.testing.assert_close(some[1], few[1])
    torch.testing.assert_close(some[2][:, :3], few[2])
    assert not some[2][:, 3:].any()


def test_words_in_the_same_company_come_to_lie_together():
    trained = train_skipgram(TEXTS, seeded(), SMALL)
    for word, same in (("hen", "cow"), ("boat", "train"), ("dawn", "noon")):
        others = [
            w
            for w, _ in trained.vectors.only(
                ["hen", "cow", "boat", "train", "dawn", "noon"]
            ).nearest(word, k=1)
        ]
        assert others == [same]


def test_training_lowers_the_loss_from_its_first_value():
    """Contexts start at zero, so each score that counts costs log 2 nats at first.

    With 2 noise words that is between log 2 (both are by chance the company itself)
    and 3 log 2 a pair.
    """
    sizes = {"min_count": 1, "n_negatives": 2, "subsampling": 1.0}
    first = train_skipgram(TEXTS[:1], seeded(), SkipGramConfig(**sizes, epochs=1))
    assert len(first.losses) == 1
    assert math.log(2) < first.losses[0] <= 3 * math.log(2)
    losses = train_skipgram(TEXTS, seeded(), SMALL).losses
    assert losses[-1] < losses[0] < 3 * math.log(2)


def test_the_same_generator_gives_the_same_vectors():
    one, same, other = (
        train_skipgram(TEXTS, seeded(seed), SMALL).vectors.vectors for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


# Reference


def test_gradients_equal_autograd():
    generator = seeded(1)
    center = torch.randn(3, 5, generator=generator, requires_grad=True)
    targets = torch.randn(3, 4, 5, generator=generator, requires_grad=True)
    loss, by_center, by_targets = skipgram_gradients(center.detach(), targets.detach())
    losses = []
    for c, t in zip(center, targets, strict=True):
        losses.append(-logsigmoid(t[0] @ c) - sum(logsigmoid(-u @ c) for u in t[1:]))
    torch.testing.assert_close(loss, torch.stack(losses).mean().detach())
    wanted = torch.autograd.grad(sum(losses), (center, targets))
    torch.testing.assert_close((by_center, by_targets), wanted)


def test_gradients_do_not_overflow():
    center, targets = torch.full((1, 2), 300.0), torch.full((1, 3, 2), 300.0)
    loss, by_center, _ = skipgram_gradients(center, targets)
    assert loss.isfinite()
    torch.testing.assert_close(by_center, torch.full((1, 2), 600.0))


def test_pairs_equal_a_slow_loop():
    generator = seeded(2)
    ids = torch.randint(9, (23,), generator=generator)
    text_of = torch.tensor([0] * 5 + [1] * 1 + [2] * 17)
    for window in (1, 3, 30):
        slow = Counter(
            (ids[i].item(), ids[j].item())
            for i in range(23)
            for j in range(23)
            if i != j and abs(i - j) <= window and text_of[i] == text_of[j]
        )
        center, context = context_pairs(ids, text_of, window)
        fast = Counter(zip(center.tolist(), context.tolist(), strict=True))
        assert fast == slow


def test_at_the_best_vectors_the_score_is_the_log_ratio_of_pairs_to_noise():
    """Of a pair seen 6 times and drawn as noise 2 times, σ(score) = 6/8.

    Then the gradient is zero: score = log (6 / 2).
    Source: Levy and Goldberg (2014), section 3.
    """
    center = torch.tensor([[1.0]])
    score = torch.tensor([[[math.log(3)], [math.log(3)]]])
    _, _, by_targets = skipgram_gradients(center, score)
    as_company, as_noise = by_targets[0, :, 0].tolist()
    assert 6 * as_company + 2 * as_noise == pytest.approx(0, abs=1e-6)


# Refusal


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SkipGramConfig(window=0), "window must be positive, got 0"),
        (lambda: SkipGramConfig(learning_rate=-0.1), "learning_rate must be positive"),
        (lambda: count_texts(["a b", "b"], min_count=3), "occur 3 times"),
        (lambda: count_texts([]), "got none"),
        (lambda: train_skipgram(["hen", "hen"], seeded(), SMALL), "side by side"),
    ],
)
def test_what_cannot_be_trained_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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
        (best,) = analogy(ours, a, b, c, 1)
        (free,) = analogy(ours, a, b, c, 1, exclude=False)
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


# Refusal


def test_a_relation_without_known_words_is_refused():
    with pytest.raises(
        ValueError, match="questions about known words must be at least 1, got 0"
    ):
        score_analogies(
            vectors(), {"cow": frozenset({"moo"}), "owl": frozenset({"hoot"})}
        )


def test_every_question_can_be_answered():
    for pairs in relations().values():
        assert all(right - {a, b, c} for a, b, c, right in questions(pairs))
    mutual = {"hot": frozenset({"cold"}), "cold": frozenset({"hot"})}
    with pytest.raises(
        ValueError, match="questions about known words must be at least 1, got 0"
    ):
        score_analogies(WordVectors(["hot", "cold"], torch.eye(2)), mutual)
