"""The study of the chapter *transformer*: of the page's functions, and it goes on."""

from itertools import product

import pytest
import transformer_study
from study_command import page_functions
from transformer_study import (
    EVERY,
    NAMES,
    PAGE,
    SEEDS,
    TALES,
    WALKS,
    TransformerPoint,
    run_transformer_study,
)

from llmcourse.studies import load_study, save_study, stored_study

# Worked example


def test_the_stored_study_is_of_the_functions_on_the_page():
    _, code = page_functions(PAGE, NAMES)
    study = stored_study("transformer", TransformerPoint)
    assert study.recipe == {"code": code, "every": EVERY}
    found = sorted((point.name, point.seed) for point in study.points)
    assert found == sorted(product([*WALKS, *TALES], SEEDS))
    for point in study.points:
        steps = WALKS[point.name][2] if point.task == "walks" else EVERY
        assert len(point.losses) * EVERY == steps


# Law


def test_a_study_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setitem(WALKS, "one layer", (1, "", 2 * EVERY))
    path, told = tmp_path / "study.json", []
    run_transformer_study(path, ("one layer",), (0,), told.append)
    run_transformer_study(path, ("one layer",), (0, 1), told.append)
    assert [point.seed for point in told] == [0, 1]
    assert load_study(path, TransformerPoint).points == tuple(told)
    assert told[0].losses[0] > told[0].losses[1] != told[1].losses[1]


# Refusal


def test_results_of_another_page_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "study.json"
    save_study(stored_study("transformer", TransformerPoint), path)
    monkeypatch.setattr(transformer_study, "page_functions", lambda *_: ({}, "other"))
    with pytest.raises(ValueError, match="results of another recipe"):
        run_transformer_study(path, ("one layer",))
