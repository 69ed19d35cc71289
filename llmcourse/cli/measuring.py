"""What `evaluate --all` measures: the numbers on each shipped model's card."""

import json
from collections.abc import Callable, Mapping
from functools import partial

from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.cli.console import bars, out
from llmcourse.cli.running import show
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.recipes import align, base, instruct
from llmcourse.recipes.cards import Table, tables
from llmcourse.training.config import StageProgress
from llmcourse.training.evaluation import TEST_SEED


def _base(name: str, draw: StageProgress) -> list[Table]:
    model = load_pretrained(name)
    quality, _ = base.tale_quality(
        *model, base.N_STORIES, base.N_SAMPLES, TEST_SEED, draw
    )
    return tables("base_tables", quality=quality)


def _instruct(draw: StageProgress) -> list[Table]:
    models = load_pretrained("base-llm"), load_pretrained("instruct-llm")
    return instruct.instruct_tables(
        instruct.instruct_quality(*models, instruct.CARD_EXAM, draw)
    )


# What all methods have in common: how answers are written and compared.
_ALIGN = align.ALIGNED_LLM["grpo"]


def _reward(draw: StageProgress) -> list[Table]:
    policy = load_pretrained(_ALIGN.policy)
    pairs = align.collect(_ALIGN, *policy, draw, held_out=True)
    quality = align.reward_quality(*load_reward_model("reward-model"), pairs)
    return tables("reward_tables", quality=quality)


def _aligned(draw: StageProgress) -> list[Table]:
    models = load_pretrained(_ALIGN.policy), load_pretrained("aligned-llm")
    reward_model, _ = load_reward_model("reward-model")
    exam = instruct.CARD_EXAM
    quality = align.aligned_quality(_ALIGN, *models, reward_model, exam, draw)
    return tables("aligned_tables", quality=quality)


MEASURES: Mapping[str, Callable[[StageProgress], list[Table]]] = {
    "base-llm": partial(_base, "base-llm"),
    "base-llm-small": partial(_base, "base-llm-small"),
    "instruct-llm": _instruct,
    "reward-model": _reward,
    "aligned-llm": _aligned,
}
"""What each shipped model's card states, in the order in which models are made."""


def evaluate_all(quiet: bool, as_json: bool) -> None:
    """Measure every shipped model, or none if one is not installed."""
    for name in MEASURES:
        find_model(name)
    for name, measure in MEASURES.items():
        if not as_json:
            out.print(f"{name}:")
        with bars(quiet) as draw:
            tables = measure(draw)
        if as_json:
            found = [table._asdict() for table in tables]
            print(json.dumps({"model": name, "tables": found}))
            continue
        show(*tables)
        out.print()
