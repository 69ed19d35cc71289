"""The law recovers what made the points; the study trains, stores and goes on."""

import math
from dataclasses import replace

import pytest
import scaling_study
import torch
from scaling_study import Experiment, StudyConfig, configs, run_study
from study_command import run_study_command

from llmcourse.model.costs import n_parameters
from llmcourse.studies import Study, load_study, save_study, stored_study
from llmcourse.training.scaling import (
    Law,
    Point,
    fit,
    plot_scaling,
)

LAW = Law(floor=0.7, a=30.0, alpha=0.35, b=500.0, beta=0.6)
SIZES, TEXTS = (2e4, 8e4, 3e5, 1e6), (1e5, 4e5, 2e6)


def points_of(law: Law, noise: float = 0.0, seed: int = 0) -> list[Point]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Point(
            n_parameters=int(n),
            n_tokens=int(d),
            loss=law.loss(n, d) + noise * float(torch.randn((), generator=generator)),
        )
        for n in SIZES
        for d in TEXTS
    ]


def test_a_law_by_hand():
    """0.5 + 8 / √16 + 27 / ∛27 = 0.5 + 2 + 9."""
    law = Law(floor=0.5, a=8.0, alpha=0.5, b=27.0, beta=1 / 3)
    assert law.loss(16, 27) == pytest.approx(11.5)


@pytest.mark.parametrize(
    "law",
    [
        LAW,
        replace(LAW, floor=0.0),
        Law(floor=1.5, a=3.0, alpha=0.2, b=9e4, beta=1.1),
    ],
)
def test_the_fit_finds_the_law_that_made_the_points(law):
    found = fit(points_of(law))
    assert misfit(found, points_of(law)) < 1e-4
    assert found.floor == pytest.approx(law.floor, abs=0.01)
    assert found.alpha == pytest.approx(law.alpha, abs=0.01)
    assert found.beta == pytest.approx(law.beta, abs=0.01)
    assert found.loss(1e8, 1e8) == pytest.approx(law.loss(1e8, 1e8), abs=0.02)


def misfit(law, points):
    squares = [(law.loss(p.n_parameters, p.n_tokens) - p.loss) ** 2 for p in points]
    return math.sqrt(math.fsum(squares) / len(points))


def test_no_law_of_a_plain_search_fits_better():
    """Random steps from the fit, of all five numbers, find nothing closer."""
    points = points_of(LAW, noise=0.03)
    found = fit(points)
    best, generator = misfit(found, points), torch.Generator().manual_seed(1)
    for scale in (0.3, 0.03, 0.003):
        for _ in range(300):
            step = (scale * torch.randn(5, generator=generator)).exp().tolist()
            other = Law(
                **{
                    name: value * factor
                    for (name, value), factor in zip(
                        vars(found).items(), step, strict=True
                    )
                }
            )
            assert misfit(other, points) > best - 1e-6


TINY = StudyConfig(
    n_stories=100, vocab_size=300, n_layers=1, d_head=4, context_length=9, n_held_out=3
)
RUNS = (Experiment(d_model=4, steps=3), Experiment(d_model=8, steps=2, seed=5))


def test_a_study_stores_what_it_trains_and_goes_on(tmp_path):
    path, told = tmp_path / "scaling.json", []
    study = run_study(path, RUNS[:1], TINY, told.append)
    assert told == list(study.points)
    point = study.points[0]
    model, training = configs(RUNS[0], TINY)
    assert point.n_parameters == n_parameters(model)
    assert point.n_tokens == 3 * 9 == training.steps * training.context_length
    assert abs(point.loss - math.log(300)) < 1.0  # three steps teach little
    assert 0 < study.recipe["floor"] < point.loss

    told.clear()
    both = run_study(path, RUNS, TINY, told.append)
    assert both.points[:1] == study.points
    assert [p.seed for p in told] == [5]
    assert load_study(path, Point) == both
    afresh = run_study(tmp_path / "other.json", RUNS, TINY)
    assert afresh == both  # the same seeds, the same losses


def test_the_command_writes_the_study(tmp_path, capsys):
    path = tmp_path / "out.json"

    def run(out, progress):
        return run_study(out, RUNS[:1], TINY, progress)

    threads = torch.get_num_threads()
    try:
        run_study_command(run, "Study.", ["--out", str(path)])
    finally:
        torch.set_num_threads(threads)
    assert len(load_study(path, Point).points) == 1
    assert "n_tokens=27" in capsys.readouterr().err


def test_the_stored_study_is_that_of_the_recipe():
    study = stored_study("scaling", Point)
    floor = study.recipe["floor"]
    assert study.recipe == vars(StudyConfig()) | {"floor": floor}
    wanted = [scaling_study.point_key(e) for e in scaling_study.EXPERIMENTS]
    found = [(p.n_parameters, p.n_tokens, p.seed) for p in study.points]
    assert sorted(found) == sorted(wanted)
    assert all(floor < p.loss < math.log(3072) for p in study.points)


def test_refusals(tmp_path):
    points = points_of(LAW)
    with pytest.raises(ValueError, match="points must be at least 5, got 4"):
        fit(points[:4])
    with pytest.raises(
        ValueError, match="different n_tokens must be at least 3, got 1"
    ):
        fit(points[::3] * 2)
    path = tmp_path / "other.json"
    save_study(Study(recipe={"n_stories": 7}), path)
    with pytest.raises(ValueError, match="holds results of another recipe: .* must be"):
        run_study(path, RUNS, TINY)


def test_a_law_is_drawn_through_the_points_of_each_size(ax):
    law = Law(floor=0.5, a=8.0, alpha=0.5, b=27.0, beta=1 / 3)
    points = [
        Point(n_parameters=n, n_tokens=d, loss=law.loss(n, d) + 0.25)
        for n in (16, 64)
        for d in (27, 1000, 8000)
    ]
    plot_scaling(ax, points, law, 0.4)
    line, marks, other, _, floor = ax.lines
    assert marks.get_xdata().tolist() == [27, 1000, 8000]
    assert marks.get_ydata() == pytest.approx([11.75, 5.45, 4.1])
    assert [line.get_ydata()[i] for i in (0, -1)] == pytest.approx([11.5, 3.85])
    assert line.get_xdata()[-1] == pytest.approx(8000)
    assert other.get_ydata()[0] == pytest.approx(law.loss(64, 27))
    assert set(floor.get_ydata()) == {0.4}
    assert [text.get_text() for text in ax.texts] == ["   16", "   64", "floor"]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert line.get_color() == marks.get_color() != other.get_color()


def test_no_weight_is_negative_and_the_rest_is_solved_again() -> None:
    """Losses that do not depend on the text: its weight is 0, and the rest is exact."""
    flat = Law(floor=0.5, a=30.0, alpha=0.35, b=0.0, beta=1.0)
    points = points_of(flat, noise=0.01)
    law = fit(points)
    off = [law.loss(p.n_parameters, p.n_tokens) - p.loss for p in points]
    true = [flat.loss(p.n_parameters, p.n_tokens) - p.loss for p in points]
    assert min(law.floor, law.a, law.b) >= 0
    assert sum(x * x for x in off) <= 1.001 * sum(x * x for x in true)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, -1.0])
def test_losses_that_are_none_are_refused(loss: float) -> None:
    points = points_of(LAW)
    with pytest.raises(ValueError, match=f"loss must be .*, got {loss}"):
        fit([*points[1:], replace(points[0], loss=loss)])
