"""What `evaluate --all` measures of each shipped model: what its card states.

Another model that ships gets a line in `MEASURES`, and a function that prints.
"""

from collections.abc import Callable, Mapping

from llmcourse.cli.console import bars, out, say
from llmcourse.cli.results import (
    measure,
    print_forgetting,
    print_loss,
    print_samples,
    print_scores,
)
from llmcourse.instruct_model import BASE_SPLITS, Exam
from llmcourse.instruction_evaluation import forgetting, instruction_scores
from llmcourse.pipeline import Progress
from llmcourse.pretrained import load_pretrained, shipped_models
from llmcourse.story_evaluation import TEST_SEED

BASE = "base-llm"
_N_STORIES, _N_SAMPLES = 500, 200  # as the card of the base model


def base(name: str, draw: Progress) -> None:
    """Print loss, floor, and how many of its own stories are valid."""
    loss, written = measure(
        *load_pretrained(name), _N_STORIES, _N_SAMPLES, TEST_SEED, draw
    )
    print_loss(loss)
    if written:
        print_samples(written, show=0)


def instruct(name: str, draw: Progress) -> None:
    """Print which share of instructions is followed, before too, and what is lost."""
    exam, model = Exam(), load_pretrained(name)
    found = instruction_scores(
        *model,
        exam.n_per_kind,
        exam.seed,
        progress=lambda *at: draw("answers", *at),
    )
    print_scores(found)
    if BASE not in shipped_models():
        return
    before = instruction_scores(
        *load_pretrained(BASE),
        exam.n_per_kind,
        exam.seed,
        splits=BASE_SPLITS,
        progress=lambda *at: draw("answers of the base", *at),
    )
    for split, score in before.items():
        print_scores({f"the base, {split}": score}, by_kind=False)
    print_forgetting(
        forgetting(load_pretrained(BASE), model, exam.n_stories, exam.seed)
    )


def not_yet(name: str, draw: Progress) -> None:
    """Say that a model has no measurement here."""
    say(f"{name}: no measurement is known for it")


MEASURES: Mapping[str, Callable[[str, Progress], None]] = {
    BASE: base,
    "instruct-llm": instruct,
    "reward-model": not_yet,
    "aligned-llm": instruct,
}
"""By name, in the order in which the models are made."""


def evaluate_all(quiet: bool) -> None:
    """Measure every model that ships; name those that do not."""
    shipped = shipped_models()
    for name, measure_and_print in MEASURES.items():
        if name not in shipped:
            out.print(f"{name}: skipped, does not come with the package yet\n")
            continue
        out.print(f"{name}:")
        with bars(quiet) as draw:
            measure_and_print(name, draw)
        out.print()
