"""What `evaluate --all` measures: the numbers on each shipped model's card."""

from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.cli.console import bars, out, print_json
from llmcourse.cli.running import show
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.recipes import align, base, instruct
from llmcourse.recipes.cards import Table, tables
from llmcourse.training.config import StageProgress
from llmcourse.training.evaluation import TEST_SEED

MODELS = ("base-llm", "base-llm-small", "instruct-llm", "reward-model", "aligned-llm")
"""All shipped models, in the order in which they are made."""

# What all methods have in common: how answers are written and compared.
_ALIGN = align.ALIGNED_LLM["grpo"]


def card_tables(name: str, draw: StageProgress) -> list[Table]:
    """Measure what a shipped model's card states, and return its tables."""
    if name == "reward-model":
        policy = load_pretrained(_ALIGN.policy)
        pairs = align.collect(_ALIGN, *policy, draw, held_out=True)
        quality = align.reward_quality(*load_reward_model(name), pairs)
        return tables("reward_tables", quality=quality)
    model, exam = load_pretrained(name), instruct.CARD_EXAM
    if name == "instruct-llm":
        base_model = load_pretrained("base-llm")
        quality = instruct.instruct_quality(base_model, model, exam, draw)
        return instruct.instruct_tables(quality)
    if name == "aligned-llm":
        models = load_pretrained(_ALIGN.policy), model
        reward_model, _ = load_reward_model("reward-model")
        quality = align.aligned_quality(_ALIGN, *models, reward_model, exam, draw)
        return tables("aligned_tables", quality=quality)
    quality, _ = base.tale_quality(
        *model, base.N_STORIES, base.N_SAMPLES, TEST_SEED, draw
    )
    return tables("base_tables", quality=quality)


def evaluate_all(quiet: bool, as_json: bool) -> None:
    """Measure every shipped model, or none if one is not installed."""
    for name in MODELS:
        find_model(name)
    for name in MODELS:
        if not as_json:
            out.print(f"{name}:")
        with bars(quiet) as draw:
            found = card_tables(name, draw)
        if as_json:
            told = [table._asdict() for table in found]
            print_json({"model": name, "tables": told})
        else:
            show(*found)
            out.print()
