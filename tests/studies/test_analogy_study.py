"""Skip-gram with other seeds: what is stored is of the recipe, and it runs again."""

from analogy_study import RECIPE, SEEDS, AnalogyRun, run_analogy_study

from llmcourse.studies import load_study, stored_study
from llmcourse.text.embeddings import relations

# Worked example


def test_the_stored_study_is_of_the_recipe_in_the_code():
    study = stored_study("analogies", AnalogyRun)
    assert study.recipe == RECIPE
    assert tuple(run.seed for run in study.points) == SEEDS
    assert all(run.right.keys() == relations().keys() for run in study.points)


# Law


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    path, trained = tmp_path / "analogies.json", []
    for seeds in ((1,), (1, 2)):
        run_analogy_study(path, seeds, n_stories=300, progress=trained.append)
    assert [run.seed for run in trained] == [1, 2]
    assert load_study(path, AnalogyRun).points == tuple(trained)
    assert trained[0] != trained[1]
