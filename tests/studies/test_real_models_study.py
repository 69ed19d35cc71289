"""The study of the chapter *real_models*: of the page's functions, and it goes on."""

import pytest

pytest.importorskip("gguf", reason='needs pip install "llmcourse[interop]"')

import real_models_study
from real_models_study import (
    NAMES,
    PAGE,
    RUNS,
    RealModelsPoint,
    run_real_models_study,
)
from study_command import page_functions

from llmcourse.studies import load_study, save_study, stored_study

# Worked example


def test_the_stored_study_is_of_the_functions_on_the_page():
    page, code = page_functions(PAGE, NAMES)
    study = stored_study("real_models", RealModelsPoint)
    assert study.recipe == {"code": code}
    assert sorted((point.name, point.seed) for point in study.points) == sorted(RUNS)
    for point in study.points:
        assert len(point.answers) == len(page["EXAM"])
        assert len(point.other) == len(page["OTHER"])


# Law


def test_a_study_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    one = stored_study("real_models", RealModelsPoint).points[0]

    def point(page, name, seed):
        return RealModelsPoint(**vars(one) | {"name": name, "seed": seed})

    monkeypatch.setattr(real_models_study, "load_pretrained", lambda _: (None, None))
    monkeypatch.setattr(real_models_study, "point", point)
    path, told = tmp_path / "study.json", []
    run_real_models_study(path, [("LoRA", 0)], told.append)
    run_real_models_study(path, [("LoRA", 0), ("LoRA", 1)], told.append)
    assert [(point.name, point.seed) for point in told] == [("LoRA", 0), ("LoRA", 1)]
    assert load_study(path, RealModelsPoint).points == tuple(told)


# Refusal


def test_results_of_another_page_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "study.json"
    save_study(stored_study("real_models", RealModelsPoint), path)
    monkeypatch.setattr(real_models_study, "page_functions", lambda *_: ({}, "other"))
    with pytest.raises(ValueError, match="results of another recipe"):
        run_real_models_study(path)
