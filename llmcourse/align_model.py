"""From a recipe to two folders: reward model and aligned model, measured, with cards.

pairs.jsonl           what the annotator preferred
reward/model/         the reward model
model/                the aligned model
reward/checkpoints/, checkpoints/    to go on from
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from llmcourse.align_card import (
    AlignMaking,
    AlignQuality,
    RewardQuality,
    aligned_card,
)
from llmcourse.align_evaluation import gain_of, judge
from llmcourse.align_prompts import exam_prompts
from llmcourse.align_recipe import AlignConfig
from llmcourse.align_training import align, collected, reader_of, teach
from llmcourse.answering import has_chat_tokens
from llmcourse.chat import save_chat_files
from llmcourse.files import new_file
from llmcourse.instruction_evaluation import Score, forgetting, instruction_scores
from llmcourse.packing import END_OF_TEXT
from llmcourse.preference_examples import tokenize_pairs
from llmcourse.preferences import Pair, agreement_rate
from llmcourse.pretrained import load_pretrained, save_pretrained
from llmcourse.progress import StageProgress, TrainingProgress
from llmcourse.reward_card import reward_card
from llmcourse.reward_evaluation import (
    expected_calibration_error,
    pair_accuracy,
    reliability,
)
from llmcourse.reward_files import load_reward_model, save_reward_model
from llmcourse.reward_model import RewardModel
from llmcourse.reward_scores import pair_rewards, text_reward
from llmcourse.story_evaluation import TEST_SEED
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer

ASKED_SPLITS = ("held-out wordings",)
"""Which instructions are asked before and after."""

Model = tuple[Transformer, BPETokenizer]


@dataclass(frozen=True, kw_only=True)
class AlignExam:
    """How thoroughly a policy is measured, before and after."""

    n_prompts: int = 400  # one answer each
    n_per_kind: int = 30  # instructions of each kind; 0: none
    n_stories: int = 200  # plain ones, for what is forgotten
    seed: int = TEST_SEED


def make_aligned(
    config: AlignConfig,
    folder: str | Path,
    *,
    names: tuple[str, str] = ("reward-model", "aligned-llm"),
    command: str = "llmcourse align",
    exam: AlignExam | None = None,
    teaching: TrainingProgress | None = None,
    progress: TrainingProgress | None = None,
    stages: StageProgress | None = None,
    machine: str = "",
) -> AlignQuality:
    """Make a reward model and an aligned model in a folder; return how good they are.

    A folder that holds checkpoints of the same recipe goes on from them.

    Args:
        config: The recipe.
        folder: Gets what the top of this module says; created if missing.
        names: Of the two models, for their cards.
        command: What makes them again, for their cards.
        exam: How thoroughly they are measured.
        teaching: Called with what happens in the reward model's training.
        progress: Called with what happens in the policy's, see `align_training.align`.
        stages: Called with the name of what is done besides, how much of it, and of
            how much.
        machine: For the cards, what they were trained on, in words.

    Raises:
        ValueError: If there is no such policy, or as the functions of
            `align_training`.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    folder, exam = Path(folder), exam or AlignExam()
    folder.mkdir(parents=True, exist_ok=True)
    policy, tokenizer = load_pretrained(config.policy)
    reader_of(config, tokenizer)  # refused before anything takes time
    chat = has_chat_tokens(tokenizer)
    pairs = collected(folder / "pairs.jsonl", config, policy, tokenizer, stages)
    place = folder / "reward" / "model"
    taught = teach(
        config, policy, tokenizer, pairs, place.parent / "checkpoints", teaching
    )
    pad = END_OF_TEXT if chat else None
    save_reward_model(
        taught.model,
        tokenizer,
        place,
        torch.float16,
        pad_token=pad,
        reader=config.reader,
    )
    reward_model, _ = load_reward_model(place)
    making = AlignMaking(
        config=config,
        sizes=policy.config,
        n_pairs=len(pairs.train),
        n_prompts=len({pair.prompt for pair in pairs.train}),
        example=pairs.valid[0],
        chat=chat,
        command=command,
        n_threads=torch.get_num_threads(),
        machine=machine,
    )
    worth = measure_reward(reward_model, tokenizer, pairs.valid)
    places = folder / "checkpoints", progress
    align(config, policy, tokenizer, pairs, reward_model, *places)
    # Not earlier: what is refused as another training must leave the card as it was.
    _write(place, reward_card(names[0], making, worth))
    save(policy.eval(), tokenizer, folder / "model")
    start, made = load_pretrained(config.policy), load_pretrained(folder / "model")
    quality = measure(config, start, made, reward_model, worth, exam, stages)
    _write(folder / "model", aligned_card(names[1], making, quality))
    return quality


def _asked(
    model: Model, exam: AlignExam, stage: str, stages: StageProgress | None
) -> dict[str, Score]:
    told = stages or (lambda *_: None)
    return instruction_scores(
        *model,
        exam.n_per_kind,
        exam.seed,
        splits=ASKED_SPLITS,
        progress=lambda *at: told(stage, *at),
    )


def _write(folder: Path, card: str) -> None:
    with new_file(folder / "README.md") as file:
        file.write(card.encode())


def save(policy: Transformer, tokenizer: BPETokenizer, folder: Path) -> None:
    """Write a policy, with a chat template if it answers in conversations.

    Raises:
        OSError: If a file cannot be written.
    """
    save_pretrained(policy, tokenizer, folder, torch.float16)
    if has_chat_tokens(tokenizer):
        save_chat_files(tokenizer, folder, policy.config.context_length)


def measure_reward(
    model: RewardModel, tokenizer: BPETokenizer, pairs: list[Pair]
) -> RewardQuality:
    """Return what a reward model is worth.

    Args:
        model: Has learned.
        tokenizer: The model's.
        pairs: Held out.

    Raises:
        ValueError: If there are no pairs, or none differs in gold.
    """
    tokens = tokenize_pairs(pairs, tokenizer, chat=has_chat_tokens(tokenizer))
    chosen, rejected = pair_rewards(model, tokens)
    bins = reliability(chosen, rejected)
    gaps = torch.tensor([pair.gold_chosen - pair.gold_rejected for pair in pairs])
    unequal, right = gaps != 0, (chosen > rejected) == (gaps > 0)
    gold = torch.tensor([[p.gold_chosen, p.gold_rejected] for p in pairs])
    both = torch.stack((gold.flatten(), torch.stack((chosen, rejected), 1).flatten()))
    return RewardQuality(
        accuracy=pair_accuracy(model, tokens),
        ceiling=agreement_rate(pairs),
        with_gold=right[unequal].double().mean().item(),
        bins=tuple(bins),
        calibration_error=expected_calibration_error(bins),
        correlation=both.double().corrcoef()[0, 1].nan_to_num().item(),
    )


def measure(
    config: AlignConfig,
    start: Model,
    made: Model,
    reward_model: RewardModel,
    reward: RewardQuality,
    exam: AlignExam,
    stages: StageProgress | None = None,
) -> AlignQuality:
    """Return what a policy was before and after.

    Instructions are asked only of a policy that answers in conversations.

    Args:
        config: The recipe.
        start: The policy before, and its tokenizer.
        made: The same after.
        reward_model: Gives the proxy reward.
        reward: What it is worth.
        exam: How thoroughly to measure.
        stages: As in `make_aligned`.
    """
    tokenizer = start[1]
    chat = has_chat_tokens(tokenizer)
    prompts = exam_prompts(exam.n_prompts, tokenizer)
    proxy = text_reward(reward_model, tokenizer, chat=chat)
    before, after = (
        judge(
            model[0],
            start[0],
            tokenizer,
            prompts,
            proxy,
            config.max_new_tokens,
            exam.seed,
            name=f"stories {name}",
            progress=stages,
        )
        for name, model in (("before", start), ("after", made))
    )
    scores = [
        _asked(model, exam, f"answers {name}", stages)
        for name, model in (("before", start), ("after", made))
        if chat and exam.n_per_kind
    ]
    return AlignQuality(
        before=before.summary(),
        after=after.summary(),
        gold=gain_of(before, after),
        n_prompts=exam.n_prompts,
        reward=reward,
        scores_before=scores[0] if scores else None,
        scores=scores[1] if scores else None,
        forgetting=forgetting(start, made, exam.n_stories, exam.seed),
    )
