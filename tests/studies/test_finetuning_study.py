"""The study that the chapter *fine_tuning* plots: what is stored, and that it runs."""

from dataclasses import asdict
from itertools import pairwise

import pytest
from finetuning_study import (
    FinetuningPoint,
    FinetuningStudyConfig,
    Job,
    jobs,
    plots,
    pronouns,
    run_finetuning_study,
)

from llmcourse.studies import load_study, save_study, stored_study

SMALL = FinetuningStudyConfig(
    steps=dict.fromkeys(("plot", "pronoun", "no grandparents"), 2),
    batch_size=4,
    n_held_out=20,
    n_tales=2,
)
JOB = Job("no grandparents", "pretrained", 1, 1e-3, 8)

# Worked example


def test_the_stored_study_is_of_the_recipe_in_the_code():
    study = stored_study("finetuning", FinetuningPoint)
    assert study.recipe == asdict(FinetuningStudyConfig())
    done = [
        (point.task, point.start, point.rank, point.rate, point.n_labels, point.seed)
        for point in study.points
    ]
    wanted = [(*asdict(job).values(), seed) for job in jobs() for seed in (0, 1, 2)]
    assert sorted(done, key=str) == sorted(wanted, key=str)


# Law


def test_classes_come_equally_often():
    labels = [label for _, label in plots(30, seed=3)]
    assert labels == [*range(10)] * 3
    assert sum(label for _, label in pronouns(40, seed=3)) == 20


def test_each_rank_is_tried_at_the_same_rates_as_all_weights():
    rates = {}
    for job in jobs():
        if job.task == "pronoun":
            rates.setdefault(job.rank, []).append(job.rate)
    assert list(rates) == [None, 1, 2, 4, 8, 16]
    assert all(found == rates[None] for found in rates.values())
    assert all(b == 2 * a for a, b in pairwise(rates[None]))


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    path, told = tmp_path / "study.json", []
    run_finetuning_study(path, [JOB], [0], SMALL, told.append)
    study = run_finetuning_study(path, [JOB], [0], SMALL, told.append)
    assert len(told) == 1
    assert study.points == load_study(path, FinetuningPoint).points == tuple(told)
    (point,) = told
    assert 0 <= point.right <= 1
    assert 0 <= point.grandparents <= 1


# Refusal


def test_another_recipe_is_refused(tmp_path):
    path = tmp_path / "study.json"
    save_study(stored_study("finetuning", FinetuningPoint), path)
    with pytest.raises(ValueError, match="holds results of another recipe: .* must be"):
        run_finetuning_study(path, [JOB], [0], SMALL)
