"""How `reward-model` and `aligned-llm` are made, measured and described.

pairs.jsonl          what the annotator preferred
reward/checkpoints/, reward/model/    the reward model
checkpoints/, model/                  the aligned model
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from llmcourse.alignment.evaluation import evaluate_policy, gain_of
from llmcourse.alignment.preferences import (
    PreferencePair,
    agreement_rate,
    exam_prompts,
    tokenize_pairs,
)
from llmcourse.alignment.reward_model import (
    RewardModel,
    expected_calibration_error,
    load_reward_model,
    pair_accuracy,
    pair_rewards,
    reliability,
    save_reward_model,
    text_reward,
)
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import forgetting, instruction_scores
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained, shipped_models
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.align import (
    AlignConfig,
    collected,
    reader_of,
    train_policy,
    train_reward,
)
from llmcourse.recipes.cards import (
    Card,
    Facts,
    Row,
    Table,
    between,
    counted,
    forgetting_row,
    learning_rows,
    percent,
)
from llmcourse.recipes.instruct import BASE_SPLITS, scores_to_json
from llmcourse.recipes.making import Making, Recipe, save_model
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import StageProgress
from llmcourse.training.story_evaluation import TEST_SEED

Model: TypeAlias = tuple[Transformer, BPETokenizer]


@dataclass(frozen=True, kw_only=True)
class AlignExam:
    """How thoroughly a policy is measured, before and after."""

    n_prompts: int = 400  # one answer each
    n_per_kind: int = 30  # instructions of each kind; 0: none
    n_stories: int = 200  # plain ones, for what is forgotten
    seed: int = TEST_SEED


@dataclass(kw_only=True)
class AlignRecipe(Recipe):
    """A reward model that learns from comparisons, and a policy that learns by it."""

    config: AlignConfig
    exam: AlignExam = field(default_factory=AlignExam)
    reward_name: str = "reward-model"

    def prepare(self, run: Making) -> None:
        """Let the policy answer, and the annotator compare."""
        config = self.config
        self.policy, self.tokenizer = load_pretrained(config.policy)
        reader_of(config, self.tokenizer)  # refused before anything takes time
        run.say(
            f"{config.policy} answers {config.n_prompts + config.n_held_out:,} prompts "
            f"{config.answers_per_prompt} times; by {config.method.upper()} it learns "
            "what is preferred"
        )
        path = run.folder / "pairs.jsonl"
        self.pairs = collected(path, config, self.policy, self.tokenizer, run.stages)

    def train(self, run: Making) -> None:
        """Train the reward model, and by its rewards, as in its file, the policy."""
        config, place = self.config, run.folder / "reward"
        (place / "checkpoints").mkdir(parents=True, exist_ok=True)
        trained = train_reward(
            config,
            self.policy,
            self.tokenizer,
            self.pairs,
            Run(
                folder=place / "checkpoints",
                interval=config.reward.eval_interval,
                progress=run.training(
                    "reward model", place / "log.jsonl", config.reward.steps
                ),
            ),
        )
        save_reward_model(
            trained.model,
            self.tokenizer,
            place / "model",
            torch.float16,
            pad_token=END_OF_TEXT if has_chat_tokens(self.tokenizer) else None,
            reader=config.reader,
        )
        self.reward_model, _ = load_reward_model(place / "model")
        train_policy(
            config,
            self.policy,
            self.tokenizer,
            self.pairs,
            self.reward_model,
            Run(
                folder=run.folder / "checkpoints",
                interval=getattr(config.training, "eval_interval", 5),
                progress=run.training("policy", run.folder / "log.jsonl", config.steps),
            ),
        )
        save_model(self.policy.eval(), self.tokenizer, run.folder / "model")

    def measure(self, run: Making) -> dict[str, Any]:
        """Return how good both models are."""
        start = load_pretrained(self.config.policy)
        made = load_pretrained(run.folder / "model")
        reward = reward_quality(self.reward_model, self.tokenizer, self.pairs.valid)
        exam, stages = self.exam, run.stages
        return {"reward_model": reward} | aligned_quality(
            self.config, start, made, self.reward_model, exam, stages
        )

    def facts(self) -> dict[str, Any]:
        """Return the sizes of model and data, and an example."""
        example = self.pairs.valid[0]
        return {
            "n_parameters": n_parameters(self.policy.config),
            "n_pairs": len(self.pairs.train),
            "n_prompts": len({pair.prompt for pair in self.pairs.train}),
            "chat": has_chat_tokens(self.tokenizer),
            "example": {"prompt": example.prompt, "answer": example.chosen},
        }

    def cards(self, name: str, facts: Facts) -> Mapping[str, Card]:
        """Return the cards of both models."""
        return {
            "reward/model": reward_card(self.reward_name, self.config, facts),
            "model": aligned_card(name, self.config, facts),
        }


def reward_quality(
    model: RewardModel, tokenizer: BPETokenizer, pairs: list[PreferencePair]
) -> dict[str, Any]:
    """Return how good a reward model is.

    Args:
        model: A trained one.
        tokenizer: The model's.
        pairs: Held out.

    Raises:
        ValueError: If there are no pairs, or none differs in gold.
    """
    tokens = tokenize_pairs(pairs, tokenizer, chat=has_chat_tokens(tokenizer))
    chosen, rejected = pair_rewards(model, tokens)
    accuracy, bins = pair_accuracy(model, tokens), reliability(chosen, rejected)
    gaps = torch.tensor([pair.gold_chosen - pair.gold_rejected for pair in pairs])
    unequal, right = gaps != 0, (chosen > rejected) == (gaps > 0)
    gold = torch.tensor([[p.gold_chosen, p.gold_rejected] for p in pairs])
    both = torch.stack((gold.flatten(), torch.stack((chosen, rejected), 1).flatten()))
    return {
        "accuracy": accuracy._asdict() | {"interval": accuracy.interval._asdict()},
        "ceiling": agreement_rate(pairs),
        "with_gold": right[unequal].double().mean().item(),
        "bins": [b._asdict() | {"interval": b.interval._asdict()} for b in bins],
        "calibration_error": expected_calibration_error(bins),
        "correlation": both.double().corrcoef()[0, 1].nan_to_num().item(),
    }


def aligned_quality(
    config: AlignConfig,
    start: Model,
    made: Model,
    reward_model: RewardModel,
    exam: AlignExam,
    stages: StageProgress,
) -> dict[str, Any]:
    """Return what a policy was before and after.

    Instructions are asked only of a policy that answers in conversations.

    Args:
        config: The recipe.
        start: The policy before, and its tokenizer.
        made: The same after.
        reward_model: Gives the proxy reward.
        exam: How thoroughly to measure.
        stages: Called with what is done, how much of it, and of how much.
    """
    tokenizer = start[1]
    chat = has_chat_tokens(tokenizer)
    prompts = exam_prompts(exam.n_prompts, tokenizer)
    proxy = text_reward(reward_model, tokenizer, chat=chat)
    found: dict[str, Any] = {"n_prompts": exam.n_prompts}
    judged = {}
    for name, (model, _) in (("before", start), ("after", made)):
        judged[name] = evaluate_policy(
            model,
            start[0],
            tokenizer,
            prompts,
            proxy,
            config.max_new_tokens,
            exam.seed,
            name=f"stories {name}",
            progress=stages,
        )
        found[name] = judged[name].summary()
    found["gold"] = gain_of(judged["before"], judged["after"]).to_json()
    for name, (model, _) in (("before", start), ("after", made)):
        if chat and exam.n_per_kind:
            scores = instruction_scores(
                model,
                tokenizer,
                exam.n_per_kind,
                exam.seed,
                splits=BASE_SPLITS,
                progress=lambda *at, name=name: stages(f"answers {name}", *at),
            )
            found[f"instructions_{name}"] = scores_to_json(scores)
    found["forgetting"] = forgetting(start, made, exam.n_stories, exam.seed).to_json()
    return found


def reward_tables(quality: Facts) -> list[Table]:
    """Return how often a reward model is right, against what can be reached."""
    accuracy = quality["accuracy"]
    rows = [
        (
            "agreement with the annotator",
            f"{percent(accuracy['rate'])} of {accuracy['n']} held-out pairs "
            f"{between(accuracy['interval'])}",
        ),
        (
            "ceiling: agreement of the annotator with the gold reward",
            percent(quality["ceiling"]),
        ),
        ("agreement with the gold reward", percent(quality["with_gold"])),
        (
            "correlation with the gold reward, single answers",
            f"{quality['correlation']:.2f}",
        ),
        (
            "calibration error",
            f"{100 * quality['calibration_error']:.1f} points of 100",
        ),
    ]
    bins = [
        (
            f"{percent(each['low'], 0)} … {percent(each['high'], 0)}",
            f"{each['n']}",
            percent(each["predicted"]),
            percent(each["observed"]),
        )
        for each in quality["bins"]
    ]
    head = ("predicted probability", "pairs", "mean prediction", "observed")
    return [Table(("measure", "value"), rows), Table(head, bins)]


def aligned_table(quality: Facts) -> Table:
    """Return what a policy was before and after."""
    gold, before, after = (quality[name] for name in ("gold", "before", "after"))
    better, (low, high) = gold["better"], gold["interval"].values()
    ties = better["ties"] / quality["n_prompts"]
    rows: list[Row] = [
        ("gold reward", f"{gold['before']:.2f}", f"{gold['after']:.2f} of 10 points"),
        (
            "gain in gold reward",
            "",
            f"{gold['gain']:+.2f} points ({low:+.2f} … {high:+.2f}), "
            f"{gold['in_sd']:+.2f} standard deviations of the start",
        ),
        (
            "win rate against the start, by gold reward",
            "",
            f"{percent(better['rate'], 0)} {between(better['interval'])}, ties "
            f"{percent(ties, 0)}",
        ),
        ("proxy reward", f"{before['proxy']:+.2f}", f"{after['proxy']:+.2f}"),
        ("KL from the start", "0", f"{after['kl']:.1f} nats per answer"),
        ("length", f"{before['length']:.0f}", f"{after['length']:.0f} tokens"),
        (
            "finished answers",
            percent(before["finished"], 0),
            percent(after["finished"], 0),
        ),
    ]
    for split, score in quality.get("instructions_after", {}).items():
        earlier = quality["instructions_before"][split]["overall"]
        name = f"instructions, {split}"
        rows.append((name, counted(earlier), counted(score["overall"])))
    if "forgetting" in quality:
        rows.append(forgetting_row(quality["forgetting"]))
    return Table(("measure", "before", "after"), rows)


def reward_card(name: str, config: AlignConfig, facts: Facts) -> Card:
    """Return a reward model's card.

    Args:
        name: Of the model, such as "reward-model".
        config: The recipe of both models.
        facts: As `making.make` writes them into `card.json`.
    """
    training, n, what = config.reward, facts["n_pairs"], "pairs"
    if training.by_prompt:
        n, what = facts["n_prompts"], "prompts, each with all its pairs"
    passes = training.steps * training.batch_size / n
    amount = f"{training.steps:,} steps of {training.batch_size} {what}"
    reader = f"position, surprisal and entropy under `{config.reader}`"
    asked = "an order" if facts["chat"] else "a beginning"
    example = facts["example"]
    return Card(
        name=name,
        task="text-classification",
        summary=(
            f"A reward model of {facts['n_parameters']:,} parameters: it reads {asked} "
            "and a story and predicts how much the story would be liked.\nMade in the "
            "course *Large Language Models Explained* to train `aligned-llm`."
        ),
        data=_data(config, facts),
        recipe=[
            ("start", f"`{config.policy}`, with a head for one number"),
            ("training", f"{amount}: {passes:.1f} passes"),
            ("pooling", _POOLING[config.pooling]),
            *([("features of each token", reader)] if config.reader else []),
            (
                "loss",
                f"Bradley–Terry, centring {training.center_rewards_coefficient:g}",
            ),
            *learning_rows(training),
            ("seed", f"{config.seed}"),
        ],
        quality=reward_tables(facts["quality"]["reward_model"]),
        limits=(
            "It judges stories of its small world, as its policy writes them, and "
            "nothing else.\nIts zero is the mean of the policy's answers; only "
            "differences mean something.\nA policy that is optimised against it for "
            "long finds what it overrates."
        ),
        use=f"""```python
from llmcourse.alignment.reward_model import load_reward_model, text_reward

model, tokenizer = load_reward_model("FOLDER")
prompt = {example["prompt"]!r}
answers = [{example["answer"]!r}, "Bang."]
print(text_reward(model, tokenizer, chat={facts["chat"]})([prompt] * 2, answers))
```""",
        folder="reward/model",
        **_common(config, facts),
    )


_POOLING = {
    "last": "last token",
    "mean": "mean over all tokens",
    "mean and max": "mean over all tokens for half of the features, maximum for the "
    "others",
}


def aligned_card(name: str, config: AlignConfig, facts: Facts) -> Card:
    """Return an aligned model's card.

    Args:
        name: Of the model, such as "aligned-llm".
        config: The recipe of both models.
        facts: As `making.make` writes them into `card.json`.
    """
    is_free = config.policy in shipped_models()
    knows = "the small world of its stories and nothing else"
    knows = knows if is_free else "what its start knew"
    method, quality = config.method.upper(), facts["quality"]
    room, call = "model.generation", "write"
    if facts["chat"]:
        room, call = "finetuning.answering", "answer"
    settings = vars(config.training).items()
    return Card(
        name=name,
        summary=(
            f"A language model of {facts['n_parameters']:,} parameters: "
            f"`{config.policy}`, trained by {method} to write what is preferred, in "
            "the course *Large Language Models Explained*."
        ),
        data=_data(config, facts),
        recipe=[
            ("start", f"`{config.policy}`"),
            ("method", method),
            *((key.replace("_", " "), f"{value}") for key, value in settings),
            ("seed", f"{config.seed}"),
        ],
        quality=[
            aligned_table(quality),
            f"Rewards are means over {quality['n_prompts']} answers at temperature 1, "
            "to prompts of a seed that no training has, with the weights in the file."
            "\nIn brackets: 95 % intervals; ± is one standard error.",
        ],
        limits=(
            f"It knows {knows}.\nA rule, `llmcourse.alignment.gold_reward`, decides "
            "what is preferred; it stands for people's wishes and says nothing about "
            "those of real people.\nIt is made for learning how language models work, "
            "for no other use."
        ),
        use=f"""```python
from llmcourse.{room} import {call}
from llmcourse.model.folders import load_pretrained

model, tokenizer = load_pretrained("FOLDER")
prompt = {facts["example"]["prompt"]!r}
print({call}(model, tokenizer, prompt))
```""",
        **_common(config, facts),
    )


def _data(config: AlignConfig, facts: Facts) -> str:
    asked = "orders to write a story" if facts["chat"] else "first words of stories"
    return (
        f"{config.n_prompts:,} {asked}, each answered {config.answers_per_prompt} "
        f"times by `{config.policy}` at temperature 1, make {facts['n_pairs']:,} "
        f"pairs; the pairs of {config.n_held_out:,} other prompts are held out.\nThe "
        "annotator is a program: it follows the model of Bradley and Terry on a known "
        "gold reward, `llmcourse.alignment.gold_reward`, and agrees with it in "
        f"{100 * config.agreement:g} % of pairs on average.\nNo text of any person or "
        "from the web is in it."
    )


def _common(config: AlignConfig, facts: Facts) -> dict[str, Any]:
    """Return the fields that both cards share."""
    is_free = config.policy in shipped_models()
    licence = "MIT, as the package: weights and all they learned from."
    if not is_free:
        licence = f"The licence of `{config.policy}` decides."
    return {"licence": licence, "is_free": is_free, "facts": facts}
