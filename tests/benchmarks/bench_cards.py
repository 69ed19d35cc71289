"""What the cards of the shipped models state, measured again.

    python tests/benchmarks/bench_cards.py [MODEL ...]

prints the tables of each model's card, of all four if none is named.
"""

import sys
from collections.abc import Callable

from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.cli.console import bars
from llmcourse.cli.running import show
from llmcourse.model.folders import load_pretrained
from llmcourse.recipes.align import (
    ALIGNED_LLM,
    aligned_quality,
    aligned_table,
    collect,
    reward_quality,
    reward_table,
)
from llmcourse.recipes.base import N_SAMPLES, N_STORIES, loss_table, tale_quality
from llmcourse.recipes.cards import Table
from llmcourse.recipes.instruct import Exam, instruct_quality, instruct_tables
from llmcourse.training.config import StageProgress
from llmcourse.training.story_evaluation import TEST_SEED

# What all methods have in common: how answers are written and compared.
RECIPE = ALIGNED_LLM["grpo"]


def base(draw: StageProgress) -> list[Table]:
    """Return the tables of `base-llm`."""
    model = load_pretrained("base-llm")
    return [loss_table(tale_quality(*model, N_STORIES, N_SAMPLES, TEST_SEED, draw)[0])]


def instruct(draw: StageProgress) -> list[Table]:
    """Return the tables of `instruct-llm`."""
    models = load_pretrained("base-llm"), load_pretrained("instruct-llm")
    return instruct_tables(instruct_quality(*models, Exam(), draw))


def reward(draw: StageProgress) -> list[Table]:
    """Return the table of `reward-model`."""
    pairs = collect(RECIPE, *load_pretrained(RECIPE.policy), draw, held_out=True)
    return [reward_table(reward_quality(*load_reward_model("reward-model"), pairs))]


def aligned(draw: StageProgress) -> list[Table]:
    """Return the table of `aligned-llm`."""
    models = load_pretrained(RECIPE.policy), load_pretrained("aligned-llm")
    judge, _ = load_reward_model("reward-model")
    quality = aligned_quality(RECIPE, *models, judge, Exam(), draw)
    return [aligned_table(quality)]


MEASURES: dict[str, Callable[[StageProgress], list[Table]]] = {
    "base-llm": base,
    "instruct-llm": instruct,
    "reward-model": reward,
    "aligned-llm": aligned,
}


def main(names: list[str]) -> None:
    """Print the tables of some models, or of all."""
    for name in names or MEASURES:
        print(f"{name}:", flush=True)
        with bars(quiet=False) as draw:
            tables = MEASURES[name](draw)
        show(*tables)
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
