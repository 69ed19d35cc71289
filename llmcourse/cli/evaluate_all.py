"""What `evaluate --all` measures of each shipped model: what its card states.

Another model that ships gets a line in `MEASURES`, and a function that prints.
"""

from collections.abc import Callable, Mapping

from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.cli.align import print_gain, print_reward
from llmcourse.cli.console import bars, out
from llmcourse.cli.results import (
    measure,
    print_forgetting,
    print_loss,
    print_samples,
    print_scores,
)
from llmcourse.finetuning.instruction_evaluation import forgetting, instruction_scores
from llmcourse.model.folders import load_pretrained, shipped_models
from llmcourse.recipes.align_card import RewardQuality
from llmcourse.recipes.align_model import AlignExam, measure_reward
from llmcourse.recipes.align_model import measure as measure_policy
from llmcourse.recipes.align_recipe import AlignConfig, held_out_pairs, preset
from llmcourse.recipes.instruct_model import BASE_SPLITS, Exam
from llmcourse.training.config import StageProgress
from llmcourse.training.story_evaluation import TEST_SEED

BASE, REWARD = "base-llm", "reward-model"
_N_STORIES, _N_SAMPLES = 500, 200  # as the card of the base model


def base(name: str, draw: StageProgress) -> None:
    """Print loss, floor, and how many of its own stories are valid."""
    loss, written = measure(
        *load_pretrained(name), _N_STORIES, _N_SAMPLES, TEST_SEED, draw
    )
    print_loss(loss)
    if written:
        print_samples(written, show=0)


def instruct(name: str, draw: StageProgress) -> None:
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


def reward(name: str, draw: StageProgress) -> None:
    """Print how often the reward model is right on held-out pairs."""
    print_reward(_worth(name, draw))


def _worth(name: str, draw: StageProgress) -> RewardQuality:
    config = _recipe()
    pairs = held_out_pairs(config, *load_pretrained(config.policy), draw)
    return measure_reward(*load_reward_model(name), pairs)


def aligned(name: str, draw: StageProgress) -> None:
    """Print rewards and instructions before and after, and what is lost of stories."""
    config, exam = _recipe(), AlignExam()
    start, made = load_pretrained(config.policy), load_pretrained(name)
    worth = _worth(REWARD, draw)
    model, _ = load_reward_model(REWARD)
    print_gain(measure_policy(config, start, made, model, worth, exam, draw))


def _recipe() -> AlignConfig:
    """Return what all methods have in common: how answers are asked and compared."""
    return preset("aligned-llm", "grpo")


MEASURES: Mapping[str, Callable[[str, StageProgress], None]] = {
    BASE: base,
    "instruct-llm": instruct,
    REWARD: reward,
    "aligned-llm": aligned,
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
