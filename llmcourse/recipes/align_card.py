"""The card of `aligned-llm`: what it learned, and what became of it.

As in `base_card`, every number comes from the recipe or from a measurement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from llmcourse.alignment.evaluation import Gain
from llmcourse.alignment.preferences import PreferencePair
from llmcourse.alignment.reward_model import PairAccuracy, ReliabilityBin
from llmcourse.finetuning.instruction_evaluation import Forgetting, Score
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import shipped_models
from llmcourse.model.transformer import TransformerConfig
from llmcourse.recipes.align_recipe import AlignConfig
from llmcourse.recipes.base_card import table
from llmcourse.recipes.instruct_card import scores_to_json, share_of
from llmcourse.training.intervals import WinRate


@dataclass(frozen=True, kw_only=True)
class AlignMaking:
    """How reward model and aligned model were made."""

    config: AlignConfig
    sizes: TransformerConfig
    n_pairs: int  # learned from
    n_prompts: int  # whose answers differ, and are compared in these pairs
    example: PreferencePair  # a held-out one
    chat: bool  # whether the policy answers in conversations
    command: str  # that makes both again, on a command line
    n_threads: int = 1
    machine: str = ""  # in words, if it matters: what it was trained on, how long


@dataclass(frozen=True, kw_only=True)
class RewardQuality:
    """What a reward model is worth on held-out pairs."""

    accuracy: PairAccuracy
    ceiling: float  # share in which the annotator agrees with gold, on the same pairs
    with_gold: float  # share in which the reward model does
    bins: tuple[ReliabilityBin, ...]
    calibration_error: float  # a fraction
    correlation: float  # of the rewards with gold, over single answers

    def to_json(self) -> dict[str, Any]:
        """Return all numbers."""
        return vars(self) | {
            "accuracy": self.accuracy._asdict()
            | {"interval": self.accuracy.interval._asdict()},
            "bins": [
                each._asdict() | {"interval": each.interval._asdict()}
                for each in self.bins
            ],
        }


@dataclass(frozen=True, kw_only=True)
class AlignQuality:
    """What a policy was before and after."""

    before: Mapping[str, float]  # means of `evaluation.PolicyEvaluation`
    after: Mapping[str, float]
    gold: Gain
    n_prompts: int
    reward: RewardQuality
    scores_before: Mapping[str, Score] | None = None  # instructions, by split
    scores: Mapping[str, Score] | None = None
    forgetting: Forgetting | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all numbers."""
        found: dict[str, Any] = {
            "before": dict(self.before),
            "after": dict(self.after),
            "gold": self.gold.to_json(),
            "reward_model": self.reward.to_json(),
        }
        for name, scores in (("after", self.scores), ("before", self.scores_before)):
            if scores is not None:
                found |= {f"instructions_{name}": scores_to_json(scores)}
        if self.forgetting is not None:
            found["forgetting"] = self.forgetting.to_json()
        return found


def aligned_card(name: str, making: AlignMaking, quality: AlignQuality) -> str:
    """Return an aligned model's card, in Markdown.

    Args:
        name: Of the model, such as "aligned-llm".
        making: How it was made.
        quality: What it was before and after.
    """
    config = making.config
    summary = (
        f"A language model of {n_parameters(making.sizes):,} parameters: "
        f"`{config.policy}`, trained to write what is preferred, by "
        f"{config.method.upper()}, in the course *Large Language Models Explained*."
    )
    knows = "what its start knew"
    if config.policy in shipped_models():
        knows = "the small world of its stories and nothing else"
    limits = (
        f"It knows {knows}.\nWhat is preferred is decided by a rule, "
        "`llmcourse.alignment.gold_reward`, that stands for people's wishes; it is "
        "no statement about real people's.\nIt is made for "
        "learning how language models work, for no other use."
    )
    rows = [("start", f"`{config.policy}`"), ("method", config.method.upper())]
    rows += [(n.replace("_", " "), f"{v}") for n, v in vars(config.training).items()]
    return card_of(
        "text-generation",
        f"# {name}\n\n{summary}",
        {
            "Data": data_of(making),
            "Recipe": table(("setting", "value"), [*rows, *common_rows(making)]),
            "Quality": aligned_quality(quality),
            "Limits": limits,
            "Use": _use(making),
            "Rebuild": rebuild_of(making, "model"),
        },
        config.policy,
    )


def aligned_quality(quality: AlignQuality) -> str:
    """Return what a policy was before and after, as a table in Markdown."""
    gold, before, after = quality.gold, quality.before, quality.after
    low, high = gold.interval
    rows = [
        ("gold reward", f"{gold.before:.2f}", f"{gold.after:.2f} of 10 points"),
        (
            "gain in gold reward",
            "",
            f"{gold.gain:+.2f} points ({low:+.2f} … {high:+.2f}), "
            f"{gold.in_sd:+.2f} standard deviations of the start",
        ),
        ("the better answer, by gold", "", better_of(gold.better)),
        ("proxy reward", f"{before['proxy']:+.2f}", f"{after['proxy']:+.2f}"),
        ("KL from the start", "0", f"{after['kl']:.1f} nats per answer"),
        ("length", f"{before['length']:.0f}", f"{after['length']:.0f} tokens"),
        (
            "come to an end",
            f"{100 * before['finished']:.0f} %",
            f"{100 * after['finished']:.0f} %",
        ),
    ]
    rows += _kept(quality)
    return (
        f"{table(('measure', 'before', 'after'), rows)}\n\n"
        f"Rewards are means over {quality.n_prompts} answers at temperature 1, to "
        "prompts of a seed that no training has, with the weights as they are in the "
        "file.\nIn brackets: 95 % intervals."
    )


def better_of(found: WinRate) -> str:
    """Return a win rate with its interval, in words.

    >>> from llmcourse.training.intervals import Interval
    >>> better_of(WinRate(wins=6, ties=2, losses=2, interval=Interval(0.4, 0.9)))
    '70 % (40 % … 90 %), equal in 20 %'
    """
    low, high = (100 * end for end in found.interval)
    ties = f"equal in {100 * found.ties / found.n:.0f} %"
    return f"{100 * found.rate:.0f} % ({low:.0f} % … {high:.0f} %), {ties}"


def _kept(quality: AlignQuality) -> list[tuple[str, str, str]]:
    """Return rows on what the policy could do before."""
    rows = []
    for split, score in (quality.scores or {}).items():
        there = (quality.scores_before or {}).get(split)
        before = share_of(there.overall) if there else ""
        rows.append((f"instructions, {split}", before, share_of(score.overall)))
    if (lost := quality.forgetting) is not None:
        name = f"loss on {lost.n_stories:,} plain stories, above the floor"
        rows.append((name, f"{lost.before:.4f}", f"{lost.after:.4f} nats/token"))
    return rows


def card_of(task: str, title: str, sections: Mapping[str, str], start: str) -> str:
    """Return a card of these sections.

    Args:
        task: What Hugging Face calls what it does.
        title: With a summary.
        sections: By their headings.
        start: The model that it was made of, whose licence it has.
    """
    lines = ["library_name: transformers", f"pipeline_tag: {task}"]
    licence = f"That of `{start}` decides."
    if start in shipped_models():
        lines += ["license: mit", "language: en"]
        licence = "MIT, as the package: weights and all they learned from."
    front = "\n".join(["---", *lines, "---"])
    parts = [f"## {name}\n\n{text}" for name, text in sections.items()]
    return "\n\n".join([front, title, *parts, f"## Licence\n\n{licence}"]) + "\n"


def data_of(making: AlignMaking) -> str:
    """Return what was asked, compared and by whom, in words."""
    config = making.config
    asked = "orders to write a story" if making.chat else "first words of stories"
    return (
        f"{config.n_prompts:,} {asked}, each answered {config.answers_per_prompt} "
        f"times by `{config.policy}` at temperature 1, make {making.n_pairs:,} pairs; "
        f"those of {config.n_held_out:,} others are held out.\nThe annotator is a "
        "program: it follows the model of Bradley and Terry on a known gold reward, "
        f"`llmcourse.alignment.gold_reward`, and agrees with it in "
        f"{100 * config.agreement:g} % of pairs on average.\nNo text "
        "of any person or from the web is in it."
    )


def common_rows(making: AlignMaking) -> list[tuple[str, str]]:
    """Return the rows that both recipes have."""
    threads = f"{making.n_threads} thread{'s' * (making.n_threads > 1)}"
    rows = [
        ("seed", f"{making.config.seed}"),
        ("software", f"torch {torch.__version__}, {threads}"),
    ]
    return rows + [("machine", making.machine)] * bool(making.machine)


def _use(making: AlignMaking) -> str:
    how = "finetuning.answering import answer"
    if not making.chat:
        how = "model.generation import write"
    call = "answer" if making.chat else "write"
    return f"""```python
from llmcourse.{how}
from llmcourse.model.folders import load_pretrained

model, tokenizer = load_pretrained("FOLDER")
print({call}(model, tokenizer, {making.example.prompt!r}))
```

FOLDER is the path of this folder; of a shipped model, the name does too."""


def rebuild_of(making: AlignMaking, place: str) -> str:
    """Return how to make both models again, and where one then is."""
    return (
        f"```bash\n{making.command}\n```\n\nThe model is then in the folder `{place}` "
        "of that folder.\nOn the same processor, with as many threads, the same start "
        "and the same version of torch, its bits are the same."
    )
