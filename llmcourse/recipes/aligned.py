"""How `reward-model` and `aligned-llm` are made, measured and described.

pairs.json           what the annotator preferred
reward/checkpoints/, reward/model/    the reward model
checkpoints/, model/                  the aligned model
"""

from dataclasses import replace
from typing import Any

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
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained, shipped_models
from llmcourse.recipes.align import (
    AlignConfig,
    collected,
    reader_of,
    train_policy,
    train_reward,
)
from llmcourse.recipes.cards import (
    Facts,
    Row,
    Table,
    between,
    fill_card,
    markdown,
    percent,
    settings,
)
from llmcourse.recipes.instruct import (
    BASE_SPLITS,
    Exam,
    Model,
    before_and_after,
    instruct_quality,
)
from llmcourse.recipes.making import Making, save_model, write_card
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import StageProgress


def make_aligned(
    config: AlignConfig,
    run: Making,
    exam: Exam,
    *,
    reward_name: str = "reward-model",
) -> dict[str, Any]:
    """Train a reward model on comparisons, and a policy by its rewards.

    Args:
        config: The recipe.
        run: Where.
        exam: How thoroughly the policy is measured, before and after.
        reward_name: Of the reward model, on its card.

    Raises:
        ValueError: If the recipe cannot be followed, or the folder holds another.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    policy, tokenizer = load_pretrained(config.policy)
    reader_of(config, tokenizer)  # refused before anything takes time
    folder, place = run.folder / "model", run.folder / "reward"
    run.folder.mkdir(parents=True, exist_ok=True)
    run.say(
        f"{config.policy} answers {config.n_prompts + config.n_held_out:,} prompts "
        f"{config.answers_per_prompt} times; by {config.method.upper()} it learns "
        "what is preferred"
    )
    path = run.folder / "pairs.json"
    pairs = collected(path, config, policy, tokenizer, run.stages)
    reward = config.reward
    saved = run.saved("reward model", reward.steps, reward.eval_interval, "reward")
    save_reward_model(
        train_reward(config, policy, tokenizer, pairs, saved),
        tokenizer,
        place / "model",
        torch.float16,
        pad_token=END_OF_TEXT if has_chat_tokens(tokenizer) else None,
        reader=config.reader,
    )
    judge, _ = load_reward_model(place / "model")  # by the rewards of its file
    interval = getattr(config.training, "eval_interval", 5)
    saved = run.saved("policy", config.steps, interval)
    train_policy(config, policy, tokenizer, pairs, judge, saved)
    save_model(policy.eval(), tokenizer, folder)
    models = load_pretrained(config.policy), load_pretrained(folder)
    quality = {"reward_model": reward_quality(judge, tokenizer, pairs.valid)}
    quality |= aligned_quality(config, *models, judge, exam, run.stages)
    example = pairs.valid[0]
    facts = run.facts() | {
        "n_parameters": n_parameters(policy.config),
        "n_pairs": len(pairs.train),
        "n_prompts": len({pair.prompt for pair in pairs.train}),
        "chat": has_chat_tokens(tokenizer),
        "example": {"prompt": example.prompt, "answer": example.chosen},
        "quality": quality,
    }
    write_card(place / "model", reward_card(reward_name, config, facts), facts)
    write_card(folder, aligned_card(run.name, config, facts), facts)
    return quality


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
    tokens = tokenize_pairs(pairs, tokenizer)
    chosen, rejected = pair_rewards(model, tokens)
    accuracy = pair_accuracy(model, tokens)
    bins = reliability(chosen, rejected)
    gaps = torch.tensor([pair.gold_chosen - pair.gold_rejected for pair in pairs])
    unequal, right = gaps != 0, (chosen > rejected) == (gaps > 0)
    gold = torch.tensor([[p.gold_chosen, p.gold_rejected] for p in pairs])
    both = torch.stack((gold.flatten(), torch.stack((chosen, rejected), 1).flatten()))
    return {
        "accuracy": accuracy._asdict() | {"interval": accuracy.interval._asdict()},
        "ceiling": agreement_rate(pairs),
        "with_gold": right[unequal].double().mean().item(),
        "calibration_error": expected_calibration_error(bins),
        "correlation": both.double().corrcoef()[0, 1].nan_to_num().item(),
    }


def aligned_quality(
    config: AlignConfig,
    start: Model,
    made: Model,
    reward_model: RewardModel,
    exam: Exam,
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
    proxy = text_reward(reward_model, tokenizer)
    before, after = (
        evaluate_policy(
            model,
            start[0],
            tokenizer,
            exam_prompts(exam.n_prompts, tokenizer),
            proxy,
            config.max_new_tokens,
            exam.seed,
            name=f"stories to order {name}",
            progress=stages,
        )
        for name, (model, _) in (("before", start), ("after", made))
    )
    if not has_chat_tokens(tokenizer):
        exam = replace(exam, n_per_kind=0)
    return {
        "n_prompts": exam.n_prompts,
        "before": before.summary(),
        "after": after.summary(),
        "gold": gain_of(before, after).to_json(),
    } | instruct_quality(start, made, exam, stages, BASE_SPLITS)


def reward_table(quality: Facts) -> Table:
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
    return Table(("measure", "value"), rows)


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
    return Table(("measure", "before", "after"), [*rows, *before_and_after(quality)])


def reward_card(name: str, config: AlignConfig, facts: Facts) -> str:
    """Return a reward model's card.

    Args:
        name: Of the model, such as "reward-model".
        config: The recipe of both models.
        facts: As `make_aligned` writes them into `card.json`.
    """
    return fill_card(
        "reward",
        _cases(config, facts) | {"reader": config.reader is not None},
        facts,
        folder="reward/model",
        name=name,
        config=config,
        agreement=100 * config.agreement,
        settings=settings(config.reward),
        table=markdown(reward_table(facts["quality"]["reward_model"])),
    )


def aligned_card(name: str, config: AlignConfig, facts: Facts) -> str:
    """Return an aligned model's card.

    Args:
        name: Of the model, such as "aligned-llm".
        config: The recipe of both models.
        facts: As `make_aligned` writes them into `card.json`.
    """
    return fill_card(
        "aligned",
        _cases(config, facts),
        facts,
        name=name,
        config=config,
        quality=facts["quality"],
        method=config.method.upper(),
        agreement=100 * config.agreement,
        settings=settings(config.training),
        table=markdown(aligned_table(facts["quality"])),
    )


def _cases(config: AlignConfig, facts: Facts) -> dict[str, bool]:
    return {"free": config.policy in shipped_models(), "chat": facts["chat"]}
