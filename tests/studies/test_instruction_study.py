"""The study of the chapter *instruction_tuning*: what is stored, and that it runs."""

from dataclasses import asdict

import pytest
from instruction_study import (
    NAMES,
    PAGE,
    TESTS,
    WAYS,
    InstructionPoint,
    InstructionStudyConfig,
    run_instruction_study,
)
from study_command import page_functions

from llmcourse.studies import load_study, save_study, stored_study

PAGES, CODE = page_functions(PAGE, NAMES)
SMALL = InstructionStudyConfig(n_asked=1, n_stories=2)

# Worked example


def test_the_stored_study_is_of_the_recipe_in_the_code():
    study = stored_study("instruction", InstructionPoint)
    assert study.recipe == asdict(InstructionStudyConfig()) | {"code": CODE}
    done = sorted((point.way, point.seed) for point in study.points)
    assert done == sorted((way, seed) for way in WAYS for seed in (0, 1, 2))
    for point in study.points:
        assert point.right.keys() == TESTS.keys()
        assert all(
            found.keys() == set(PAGES["NAMES"]) for found in point.right.values()
        )


# Law


def test_a_conversation_tells_the_story_once_and_asks_five_questions():
    (about,) = PAGES["draw_questions"](1, seed=4, wordings=(0,))
    turns = PAGES["conversation"](about)
    assert sorted(question.topic for question in about) == sorted(PAGES["NAMES"])
    assert sum(about[0].story in turn.content for turn in turns) == 1
    assert [turn.role for turn in turns] == ["user", "assistant"] * 5
    assert all(turn.content.startswith("It was ") for turn in turns[1::2])


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    path, told = tmp_path / "study.json", []
    run_instruction_study(path, ["a sixteenth"], [0], SMALL, told.append)
    study = run_instruction_study(path, ["a sixteenth"], [0], SMALL, told.append)
    assert len(told) == 1
    assert study.points == load_study(path, InstructionPoint).points == tuple(told)


# Refusal


def test_another_recipe_is_refused(tmp_path):
    path = tmp_path / "study.json"
    save_study(stored_study("instruction", InstructionPoint), path)
    with pytest.raises(ValueError, match="holds results of another recipe: .* must be"):
        run_instruction_study(path, ["a sixteenth"], [0], SMALL)
