"""The runs of the chapter *real_models*: eight one-word answers, learned in three ways.

    python book/studies/real_models_study.py --out real_models.json

asks SmolLM2 the chapter's questions as it is, told to be brief, with the eight answers
in its prompt, and after each of nine short trainings: some ten minutes on one core. It
goes on where it was stopped. The model comes by `llmcourse download smollm2`.

What is trained, and how, are the chapter's own functions, taken from its source: the
recipe holds a hash of them, so results of an older page are not taken for new ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study_command import page_functions, resumed, run_study_command, with_points

from llmcourse.model.folders import load_pretrained
from llmcourse.studies import Study

PAGE = Path(__file__).parents[1] / "src" / "real_models.py"
NAMES = [
    "LESSONS",
    "EXAM",
    "OTHER",
    "PLAIN",
    "BRIEFLY",
    "answers_of",
    "examples_first",
    "example",
    "with_adapters",
    "fine_tuned",
    "pair",
    "preferring",
]
SEEDS = 0, 1, 2
ASKED = "as it is", "told", "shown"
RATES = {"DPO, 3e-4": 3e-4, "DPO, 1e-3": 1e-3}
RUNS = [(name, 0) for name in ASKED]
RUNS += [(name, seed) for name in ("LoRA", *RATES) for seed in SEEDS]


@dataclass(frozen=True, kw_only=True)
class RealModelsPoint:
    """What a model says after one of the ways to make it brief."""

    name: str
    seed: int
    answers: list[str]  # to the exam's questions
    other: list[str]  # to requests for longer texts, at most 30 tokens
    plain: float  # loss of a plain text, in nats per token
    chosen: float  # log-probability of the lessons' answers, a mean, in nats
    rejected: float  # of the answers that the model gave to the lessons before


def point(page: dict[str, Any], name: str, seed: int) -> RealModelsPoint:
    """Ask the model as it is, or a copy that has learned."""
    learner = page["model"]
    if name == "LoRA":
        learner, _ = page["fine_tuned"](seed)
    elif name in RATES:
        learner, *_ = page["preferring"](seed, RATES[name])
    exam, answers_of = list(page["EXAM"]), page["answers_of"]
    if name == "shown":
        answers = [page["examples_first"](question) for question in exam]
        other = [page["examples_first"](request) for request in page["OTHER"]]
    else:
        form = page["BRIEFLY"] if name == "told" else "{}"
        answers = answers_of(learner, [form.format(question) for question in exam])
        other = answers_of(learner, list(page["OTHER"]), 30)
    chosen, rejected = log_probs(page, learner)
    return RealModelsPoint(
        name=name,
        seed=seed,
        answers=answers,
        other=other,
        plain=round(plain_loss(page, learner), 4),
        chosen=chosen,
        rejected=rejected,
    )


def plain_loss(page: dict[str, Any], learner: Any) -> float:
    """Return the loss of the plain text, in nats per token."""
    torch = page["torch"]
    with torch.no_grad():
        _, losses = page["token_losses"](learner, page["tokenizer"], page["PLAIN"])
    return float(losses.mean())


def log_probs(page: dict[str, Any], learner: Any) -> tuple[float, float]:
    """Return the mean log-probabilities of the lessons' answers, and of its own."""
    torch, lessons = page["torch"], page["LESSONS"]
    own = page["answers_of"](page["model"], list(lessons))
    pairs = [
        page["pair"](*one, text) for one, text in zip(lessons.items(), own, strict=True)
    ]
    with torch.no_grad():
        found = page["pair_log_probs"](learner, pairs, page["DPOConfig"]())
    return round(float(found.chosen.mean()), 3), round(float(found.rejected.mean()), 3)


def run_real_models_study(
    path: str | Path,
    runs: list[tuple[str, int]] = RUNS,
    progress: Callable[[RealModelsPoint], None] | None = None,
) -> Study[RealModelsPoint]:
    """Train what is not in the file yet, and return all."""
    page, code = page_functions(PAGE, NAMES)
    study = resumed(path, {"code": code}, RealModelsPoint)
    done = {(one.name, one.seed) for one in study.points}
    if missing := [run for run in runs if run not in done]:
        page["model"], page["tokenizer"] = load_pretrained("smollm2")
        for run in missing:
            study = with_points(study, [point(page, *run)], path, progress)
    return study


if __name__ == "__main__":
    run_study_command(run_real_models_study, __doc__)
