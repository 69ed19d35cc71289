"""A study survives its file, and what is none is refused."""

import pytest
from baselines_study import BaselinePoint

from llmcourse.alignment.evaluation import StudyPoint
from llmcourse.studies import Study, load_study, save_study, stored_study
from llmcourse.training.scaling import Point

KINDS = {
    "scaling": Point,
    "rlhf": StudyPoint,
    "baselines": BaselinePoint,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_gives_back_the_study(name, tmp_path):
    study = stored_study(name, KINDS[name])
    path = tmp_path / "study.json"
    save_study(study, path)
    assert load_study(path, KINDS[name]) == study
    lines = path.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("  {") for line in lines) == len(study.points)
    save_study(Study(recipe={"a": 1}), path)
    assert load_study(path, KINDS[name]) == Study(recipe={"a": 1})


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_study_is_refused(name, tmp_path):
    path = tmp_path / "odd.json"
    texts = ("", "{", "[]", '{"recipe": {}}', '{"recipe": {}, "points": [{"a": 1}]}')
    for text in texts:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="must hold a study"):
            load_study(path, KINDS[name])
