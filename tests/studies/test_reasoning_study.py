"""The study that the chapter *reasoning* plots: what is stored, and that it runs."""

from dataclasses import asdict, replace

import pytest
import reasoning_study
import torch
from chat_cases import chatty
from reasoning_study import (
    FROM_WEAK,
    Bench,
    ReasoningPoint,
    ReasoningStudyConfig,
    run_reasoning_study,
)

from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.model.folders import load_pretrained
from llmcourse.studies import load_study, save_study, stored_study
from llmcourse.training.checkpoints import weights_fingerprint

SMALL = ReasoningStudyConfig(
    looks=(1, 2),
    weak=1,
    batch_size=2,
    warmup_steps=1,
    iterations=1,
    groups=2,
    group_size=2,
    n_questions=4,
    n_answers=2,
    few_answers=2,
    n_tales=1,
    max_new_tokens=3,
)
WAYS = ["start", "worked", *FROM_WEAK, "worked", "direct", "direct"]


@pytest.fixture
def small(monkeypatch):
    """Begin with a model of random weights."""
    monkeypatch.setattr(reasoning_study, "load_pretrained", lambda name: chatty())


# Worked example


def test_the_stored_study_is_of_the_recipe_in_the_code_and_the_shipped_model():
    study = stored_study("reasoning", ReasoningPoint)
    config = ReasoningStudyConfig()
    start = weights_fingerprint(load_pretrained("instruct-llm")[0])[:16]
    recipe = {**asdict(config), "looks": list(config.looks), "start": start}
    assert study.recipe == recipe
    looks = [config.batch_size * steps for steps in config.looks]
    weak = config.batch_size * config.weak
    wanted = {(way, n) for way in ("direct", "worked") for n in looks}
    wanted |= {(way, weak) for way in FROM_WEAK}
    seeds = {point.seed for point in study.points}
    assert len(seeds) >= 3
    for seed in seeds:
        own = [point for point in study.points if point.seed == seed]
        runs = [(point.way, point.n_labels) for point in own if point.way != "start"]
        assert sorted(runs) == sorted(wanted)
    for point in study.points:
        assert len(point.right) == len(point.process) == config.n_questions
        pairs = zip(point.process, point.right, strict=True)
        assert all(0 <= chain <= right <= point.n_answers for chain, right in pairs)


def test_soft_targets_weigh_each_next_token_by_the_teacher():
    student, teacher = chatty()[0], chatty()[0]
    with torch.no_grad():
        teacher.embedding.weight.mul_(2)
    example = TokenizedExample.of_tokens([1, 2, 3], [False, True, True])
    found = reasoning_study.soft_loss(student, teacher, [example])
    wanted = 0.0
    for place in range(2):
        ids = torch.tensor([[1, 2][: place + 1]])
        theirs = teacher(ids)[0, -1].softmax(-1)
        prices = -student(ids)[0, -1].log_softmax(-1)
        wanted += sum(p * price for p, price in zip(theirs, prices, strict=True)) / 2
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


# Law


def test_a_study_goes_on_where_it_was_stopped(tmp_path, small):
    path, told = tmp_path / "study.json", []
    study = run_reasoning_study(path, [0], SMALL, told.append)
    assert [point.way for point in told] == WAYS
    again = run_reasoning_study(path, [0], SMALL, told.append)
    assert len(told) == len(WAYS)
    assert again == study
    assert load_study(path, ReasoningPoint).points == study.points


def test_runs_that_are_missing_are_done_alone_and_alike(tmp_path, small):
    path = tmp_path / "study.json"
    whole = run_reasoning_study(path, [1], SMALL)
    assert [point.way for point in whole.points] == WAYS[1:]
    for gone in (*FROM_WEAK, "worked", "direct"):
        kept = [point for point in whole.points if point.way != gone]
        save_study(replace(whole, points=tuple(kept)), path)
        again = run_reasoning_study(path, [1], SMALL).points
        lost = [point for point in whole.points if point.way == gone]
        assert [asdict(point) for point in again[len(kept) :]] == [*map(asdict, lost)]


# Refusal


def test_another_recipe_is_refused(tmp_path, small):
    path = tmp_path / "study.json"
    run_reasoning_study(path, [0], SMALL)
    with pytest.raises(ValueError, match="holds results of another recipe: .* must be"):
        run_reasoning_study(path, [0])


def test_another_start_is_refused(tmp_path, small, monkeypatch):
    path = tmp_path / "study.json"
    run_reasoning_study(path, [0], SMALL)
    model, tokenizer = chatty()
    with torch.no_grad():
        model.embedding.weight.mul_(2)
    monkeypatch.setattr(
        reasoning_study, "load_pretrained", lambda _: (model, tokenizer)
    )
    with pytest.raises(ValueError, match="results of another recipe: start"):
        run_reasoning_study(path, [0], SMALL)


def test_batches_have_at_least_two_examples(small):
    bench = Bench(SMALL)
    pairs = [("a", "b")] * 5
    assert [len(batch) for batch in bench.batches(pairs)] == [2, 2]
