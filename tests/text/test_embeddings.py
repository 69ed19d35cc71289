"""Similarities, neighbours, sums of vectors, projections, clusters."""

import math

import pytest
import torch

from llmcourse.text.embeddings import (
    WordVectors,
    analogy_query,
    nearest,
    neighbour_purity,
    project,
    similarities,
)

KINDS = ("cosine", "euclidean", "dot")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
    found = {kind: nearest(vectors, query, 1, kind) for kind in KINDS}
    ids = {kind: ids.item() for kind, (ids, _) in found.items()}
    assert ids == {"dot": 0, "cosine": 1, "euclidean": 2}
    values = [found[kind][1].item() for kind in ("dot", "cosine", "euclidean")]
    assert values == pytest.approx([9, 1, -1], abs=1e-6)


def test_an_analogy_by_hand():
    """The second coordinate says "young": cow : calf :: hen : chick."""
    words = ["cow", "calf", "hen", "chick", "tin"]
    rows = [[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [-1, 0, 0]]
    vectors = WordVectors(words, torch.tensor(rows))
    assert vectors.analogy("cow", "calf", "hen", k=1)[0][0] == "chick"
    with_all = vectors.analogy("cow", "calf", "hen", k=5, exclude=False)
    assert {word for word, _ in with_all} == set(words)
    assert {w for w, _ in vectors.analogy("cow", "calf", "hen", k=2)} == {
        "chick",
        "tin",
    }


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


def test_nearest_is_ordered_and_leaves_out_the_excluded():
    vectors = noise(9, 3)
    ids, values = nearest(vectors, vectors[4], 6, exclude=[4, 7, 4])
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    assert not {4, 7} & set(ids.tolist())
    assert len(set(ids.tolist())) == 6


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
    assert neighbour_purity(tight, labels, k=3).tolist() == [1.0] * 400
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
    for kind in KINDS:
        found = neighbour_purity(vectors, labels, 2, kind)
        for i in range(7):
            ids, _ = nearest(vectors, vectors[i], 2, kind, exclude=[i])
            same = [labels[j].item() == labels[i].item() for j in ids]
            assert found[i].item() == sum(same) / 2


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
        (lambda v: nearest(v.vectors, v["a"], 3, exclude=[0]), "in 1 … 2"),
        (lambda v: nearest(v.vectors, v["a"], 0), "got 0"),
        (lambda v: v["d"], "3 known words, got 'd'"),
        (lambda v: v.only(["a", "d"]), "got 'd'"),
        (lambda v: v.nearest("a", 3), "in 1 … 2"),
        (lambda v: v.analogy("a", "b", "c", 1), "in 1 … 0"),
        (lambda v: WordVectors(["a", "a", "b"], v.vectors), "2 of them distinct"),
        (lambda v: WordVectors(["a", "b"], v.vectors), "got 3 for 2"),
        (lambda v: project(v.vectors, 3), "in 1 … 2"),
        (lambda v: project(v.vectors * 0), "all equal"),
        (lambda v: neighbour_purity(v.vectors, torch.arange(3), 3), "in 1 … 2"),
    ],
)
def test_what_cannot_be_answered_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(WordVectors(["a", "b", "c"], noise(3, 2)))
