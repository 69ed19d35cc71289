"""The card of `reward-model`: what it learned from, and what it is worth.

As in `base_card`, every number comes from the recipe or from a measurement.
"""

from llmcourse.model.costs import n_parameters
from llmcourse.recipes.align_card import (
    AlignMaking,
    RewardQuality,
    card_of,
    common_rows,
    data_of,
    rebuild_of,
)
from llmcourse.recipes.base_card import table

_READ = {
    "last": "last token",
    "mean": "mean over all tokens",
    "mean and max": "mean over all tokens for half of the features, their maximum for "
    "the others",
}


def reward_card(name: str, making: AlignMaking, quality: RewardQuality) -> str:
    """Return a reward model's card, in Markdown.

    Args:
        name: Of the model, such as "reward-model".
        making: How it was made.
        quality: How good it is.
    """
    training = making.config.reward
    rows = [
        ("start", f"`{making.config.policy}`, with a head for one number"),
        ("training", _training(making)),
        ("reward", f"read from the {_READ[making.config.pooling]}"),
        *_told(making.config.reader),
        ("loss", "Bradley–Terry"),
        ("center rewards coefficient", f"{training.center_rewards_coefficient:g}"),
        ("learning rate", _rate(training.learning_rate, training.warmup_steps)),
        ("precision", f"{training.precision} in training, float16 in the file"),
    ]
    asked = "an order" if making.chat else "a beginning"
    summary = (
        f"A reward model of {n_parameters(making.sizes):,} parameters: it reads "
        f"{asked} and a story and says how much the story would be liked.\nMade in the "
        "course *Large Language Models Explained* to train `aligned-llm`."
    )
    limits = (
        "It judges stories of its small world, as its policy writes them, and nothing "
        "else.\nIts zero is the mean of the policy's answers; only differences mean "
        "something.\nA policy that is optimised against it for long finds what it "
        "overrates."
    )
    return card_of(
        "text-classification",
        f"# {name}\n\n{summary}",
        {
            "Data": data_of(making),
            "Recipe": table(("setting", "value"), [*rows, *common_rows(making)]),
            "Quality": reward_quality(quality),
            "Limits": limits,
            "Use": _use_reward(making),
            "Rebuild": rebuild_of(making, "reward/model"),
        },
        making.config.policy,
    )


def _training(making: AlignMaking) -> str:
    """Say how many steps of what there were, and how often all pairs were read."""
    training, n, what = making.config.reward, making.n_pairs, "pairs"
    if training.by_prompt:
        n, what = making.n_prompts, "prompts, each with all its pairs"
    passes = training.steps * training.batch_size / n
    return (
        f"{training.steps:,} steps of {training.batch_size} {what}: {passes:.1f} passes"
    )


def _told(reader: str | None) -> list[tuple[str, str]]:
    if reader is None:
        return []
    told = f"its place, and its surprisal and entropy for `{reader}`"
    return [("told of each token", told)]


def reward_quality(quality: RewardQuality) -> str:
    """Return what a reward model is worth, as tables in Markdown."""
    accuracy = quality.accuracy
    low, high = (100 * end for end in accuracy.interval)
    rows = [
        (
            "prefers what the annotator preferred",
            f"{100 * accuracy.rate:.1f} % of {accuracy.n} held-out pairs "
            f"({low:.0f} % … {high:.0f} %)",
        ),
        (
            "the annotator's own agreement with gold, the ceiling",
            f"{100 * quality.ceiling:.1f} %",
        ),
        ("prefers what is really better", f"{100 * quality.with_gold:.1f} %"),
        ("correlation with gold, single answers", f"{quality.correlation:.2f}"),
        ("calibration error", f"{100 * quality.calibration_error:.1f} points of 100"),
    ]
    bins = [
        (
            f"{100 * each.low:.0f} % … {100 * each.high:.0f} %",
            f"{each.n}",
            f"{100 * each.predicted:.1f} %",
            f"{100 * each.observed:.1f} %",
        )
        for each in quality.bins
    ]
    head = ("sure of a pair", "pairs", "predicted", "observed")
    return f"{table(('measure', 'value'), rows)}\n\n{table(head, bins)}"


def _rate(rate: float | int, warmup: int) -> str:
    return f"{rate:g} after {warmup} steps of warm-up, then half a cosine"


def _use_reward(making: AlignMaking) -> str:
    return f"""```python
from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.alignment.reward_model import text_reward

model, tokenizer = load_reward_model("FOLDER")
prompt = {making.example.prompt!r}
answers = [{making.example.chosen!r}, "Bang."]
print(text_reward(model, tokenizer, chat={making.chat})([prompt] * 2, answers))
```

FOLDER is the path of this folder; of a shipped model, the name does too."""
