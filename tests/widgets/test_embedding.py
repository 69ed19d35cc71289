"""The embedding explorer: what Python packs, and its JavaScript in Node.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import base64
import json
import math

import pytest
import torch
from embedding_cases import nearest

from llmcourse.text.embeddings import (
    SIMILARITIES,
    WordVectors,
    analogy_query,
    project,
)
from llmcourse.widgets.embedding import EmbeddingExplorer, pack

WORDS = ["cow", "hen", "red", "tin", "dog", "blue", "fig"]
MANY = [f"word{i}" for i in range(13)]
CLASSES = {"cow": "animal", "hen": "animal", "dog": "animal", "red": "colour"}


def vectors(n: int = 7, width: int = 5, seed: int = 0) -> WordVectors:
    generator = torch.Generator().manual_seed(seed)
    words = WORDS if n == 7 else [f"word{i}" for i in range(n)]
    return WordVectors(words, torch.randn(n, width, generator=generator))


def unpacked(explorer: EmbeddingExplorer) -> torch.Tensor:
    """Return what the page computes with."""
    raw = torch.frombuffer(
        bytearray(base64.b64decode(explorer.packed)), dtype=torch.int8
    )
    return raw.view(-1, explorer.width).float() * explorer.scale


def packed_state(explorer: EmbeddingExplorer) -> list[object]:
    return [explorer.packed, explorer.width, explorer.scale]


# Worked example


def test_packing_by_hand(javascript):
    """The largest coordinate, 2.54, is 127 units of 0.02; −1.01 is −50.5 of them."""
    packed, unit = pack(torch.tensor([[2.54, 0.0], [-1.0, 0.51]]))
    assert unit == pytest.approx(0.02)
    rows = javascript(EmbeddingExplorer, "m.unpack(...x)", [packed, 2, unit])
    assert rows == [pytest.approx([2.54, 0.0]), pytest.approx([-1.0, 0.52], abs=0.011)]


def test_places_keep_the_scale_and_turn_the_second_axis_up(javascript):
    """A wide cross in a box of 100 by 60, margin 10: 80 / 4 units a unit."""
    points = [[-2, 0], [2, 0], [0, 1], [0, -1]]
    places = javascript(EmbeddingExplorer, "m.places(x, 100, 60, 10)", points)
    assert places == [[10, 30], [90, 30], [50, 10], [50, 50]]


def test_labels_are_spread_until_none_covers_another(javascript):
    labels = [{"x": x, "y": y, "width": 40} for x, y in [(0, 5), (10, 0), (90, 0)]]
    placed = javascript(EmbeddingExplorer, "m.spread(x, 10)", labels)
    assert sorted((p["x"], p["y"]) for p in placed) == [(0, 10), (10, 0), (90, 0)]


# Law


def test_packing_loses_at_most_half_a_unit():
    given = vectors(23, 11)
    explorer = EmbeddingExplorer(given, {})
    lost = (unpacked(explorer) - given.vectors).abs().max().item()
    assert lost <= explorer.scale / 2 * (1 + 1e-4)
    assert explorer.scale == pytest.approx(given.vectors.abs().max().item() / 127)


def test_the_state_is_small_and_holds_what_was_given():
    explorer = EmbeddingExplorer(
        vectors(), CLASSES | {"owl": "bird"}, word="dog", analogy=("cow", "red", "hen")
    )
    assert explorer.words == WORDS
    assert explorer.classes == ["animal", "colour"]  # of words that are shown
    assert explorer.class_of == [0, 0, 1, -1, 0, -1, -1]
    assert (explorer.chosen, explorer.analogy) == (4, [0, 2, 1])
    points = project(vectors().vectors).points
    wanted = (points / points.abs().max()).tolist()
    for found, place in zip(explorer.points, wanted, strict=True):
        assert found == pytest.approx(place, abs=6e-4)
    assert repr(explorer) == "EmbeddingExplorer(7 words, 2 classes)"
    large = EmbeddingExplorer(vectors(600, 48), {})
    state = {name: large.get_state()[name] for name in large.keys}
    assert len(json.dumps(state)) < 90_000
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


# Reference


def test_neighbours_in_the_page_equal_the_packages_own(javascript):
    explorer = EmbeddingExplorer(vectors(31, 6), {})
    rows = unpacked(explorer)
    cases = [[i, kind] for i in (0, 13, 30) for kind in SIMILARITIES]
    found = javascript(
        EmbeddingExplorer,
        "x.cases.map(([i, kind]) => { const v = m.unpack(...x.state);"
        " return m.nearest(v, v[i], 5, kind, [i]); })",
        {"state": packed_state(explorer), "cases": cases},
    )
    for (i, kind), pairs in zip(cases, found, strict=True):
        ids, values = nearest(rows, rows[i], 5, kind, exclude=[i])
        assert [j for j, _ in pairs] == ids.tolist()
        assert [v for _, v in pairs] == pytest.approx(values.tolist(), abs=1e-5)


@pytest.mark.parametrize("repeat", [False, True])
def test_answers_in_the_page_equal_the_packages_own(javascript, repeat):
    explorer = EmbeddingExplorer(vectors(31, 6, seed=1), {})
    rows = unpacked(explorer)
    questions = [[0, 5, 9], [7, 2, 7], [30, 1, 4]]
    found = javascript(
        EmbeddingExplorer,
        "x.questions.map((q) => m.answers(m.unpack(...x.state), q, 4, x.repeat))",
        {"state": packed_state(explorer), "questions": questions, "repeat": repeat},
    )
    for question, pairs in zip(questions, found, strict=True):
        query = analogy_query(*rows[question])
        ids, values = nearest(rows, query, 4, exclude=[] if repeat else question)
        assert [i for i, _ in pairs] == ids.tolist()
        assert [v for _, v in pairs] == pytest.approx(values.tolist(), abs=1e-5)


def test_a_vector_of_zeros_has_cosine_zero(javascript):
    found = javascript(
        EmbeddingExplorer, "m.similarities(x, x[0], 'cosine')", [[1, 1], [0, 0], [1, 0]]
    )
    assert found == pytest.approx([1, 0, math.sqrt(0.5)])


# Refusal


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EmbeddingExplorer(vectors(3), {}), "words must be in 4 … 1000, got 3"),
        (lambda: EmbeddingExplorer(vectors(1001), {}), "got 1001"),
        (
            lambda: EmbeddingExplorer(
                vectors(13), {f"word{i}": str(i) for i in range(13)}
            ),
            "classes must be in 0 … 12, got 13",
        ),
        (lambda: EmbeddingExplorer(vectors(), {}, word="owl"), "got 'owl'"),
        (
            lambda: EmbeddingExplorer(vectors(), {}, analogy=("cow", "hen", "owl")),
            "got 'owl'",
        ),
        (lambda: pack(torch.zeros(2, 3)), "not all zero"),
        (lambda: pack(torch.tensor([[1.0, math.inf]])), "finite"),
        (lambda: pack(torch.tensor([[1.0, math.nan]])), "finite"),
    ],
)
def test_what_cannot_be_shown_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
