"""How `reward-model` and `aligned-llm` are made, measured and described.

    orders ── policy ── some answers each ── annotator ── pairs ──┬── reward model
                                                                  └── DPO
    orders ── policy ── answers ── reward model ── PPO or GRPO

The policy answers orders to write a story; a policy that has never seen a conversation
is given the first words of stories instead. The annotator errs as often as the recipe
says. The models never see the gold reward that guides the annotator.

    FOLDER/pairs.json                             what the annotator preferred
    FOLDER/reward/checkpoints/, reward/model/     the reward model
    FOLDER/checkpoints/, model/                   the aligned model

A new method needs a line in `_by_method` and a branch in `train_policy`.

Source: Ouyang et al. (2022), section 3.
"""

from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import torch

from llmcourse.alignment import preferences
from llmcourse.alignment import reward_model as rewards
from llmcourse.alignment.dpo import DPOConfig, dpo
from llmcourse.alignment.evaluation import PolicyEvaluation, evaluate_policy, gain_of
from llmcourse.alignment.grpo import GRPOConfig, grpo
from llmcourse.alignment.policy import PolicyIteration
from llmcourse.alignment.ppo import PPOConfig, ppo
from llmcourse.alignment.preferences import EXAM_SEED, PreferencePair, make_prompts
from llmcourse.alignment.reward_model import RewardConfig, RewardFunction, RewardModel
from llmcourse.alignment.rollouts import sample_in_batches
from llmcourse.alignment.surprisal import SurprisalReader
from llmcourse.arguments import check_range
from llmcourse.finetuning.chat import has_chat_tokens
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.instruction_tuning import INSTRUCT_LLM, plain_stories, prepare
from llmcourse.intervals import wilson_interval
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.instruct import BASE_SPLITS, Exam, Model, instruct_quality
from llmcourse.recipes.making import Making, given, in_precision, save_model, write_card
from llmcourse.studies import Study, load_study, save_study
from llmcourse.text.packing import tokenizer_fingerprint
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import parallel
from llmcourse.training.checkpoints import (
    Run,
    check_config_matches,
    weights_fingerprint,
)
from llmcourse.training.config import Evaluation, StageProgress

Training: TypeAlias = PPOConfig | GRPOConfig | DPOConfig

_N_CENTRED = 200  # about so many held-out answers set the zero of the rewards
_SURE = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # borders between classes of probabilities


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """What is compared, by whom, and how the policy learns from it."""

    policy: str = "instruct-llm"  # a model's folder, or the name of a shipped one
    n_prompts: int = 750  # whose answers are compared for training
    n_held_out: int = 125  # the same, to measure the reward model
    answers_per_prompt: int = 4
    pairs_per_prompt: int = 6  # all pairs of four answers
    agreement: float | int = 0.85  # how often the annotator agrees with gold
    max_new_tokens: int = 260  # of an answer
    reward: RewardConfig = field(default_factory=RewardConfig)
    pooling: str = "mean"  # of the reward model
    reader: str | None = None  # model for token surprisals, named like `policy`
    training: Training = field(default_factory=GRPOConfig)
    n_training_prompts: int = 1000  # that PPO and GRPO draw from
    n_texts: int = 2000  # for their `ptx_coef`, if it is not 0, see `ptx_texts`
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for impossible settings."""
        check_range(0.5, 1, agreement=self.agreement)
        check_range(2, answers_per_prompt=self.answers_per_prompt, n_texts=self.n_texts)
        pairs_need = self.reward.batch_size if self.reward.by_prompt else 1
        check_range(pairs_need, n_prompts=self.n_prompts)
        if not isinstance(self.training, DPOConfig):
            least = self.training.prompts_per_iteration
            check_range(least, n_training_prompts=self.n_training_prompts)
        if {self.seed, self.seed + 2} & {EXAM_SEED, EXAM_SEED + 1}:
            raise ValueError(f"seed must not be one of the exam's, got {self.seed}")

    @property
    def method(self) -> str:
        """Name of the method: "ppo", "grpo" or "dpo"."""
        return self.training.method


def _by_method(
    policy: dict[str, Any], dpo: DPOConfig, **shared: Any
) -> dict[str, AlignConfig]:
    """Return a recipe per method, from the settings of PPO and GRPO and from DPO's."""
    trainings: tuple[Training, ...] = (PPOConfig(**policy), GRPOConfig(**policy), dpo)
    return {each.method: AlignConfig(training=each, **shared) for each in trainings}


_PAIRS: dict[str, Any] = {"batch_size": 16, "warmup_steps": 20, "precision": "bfloat16"}
_REWARD = RewardConfig(
    **_PAIRS, steps=285, learning_rate=7e-4, eval_interval=95, eval_examples=100
)
_DPO = DPOConfig(
    **_PAIRS, steps=280, learning_rate=1e-4, eval_interval=140, eval_examples=64
)
_POLICY: dict[str, Any] = {
    "iterations": 400,
    "prompts_per_iteration": 8,
    "answers_per_prompt": 8,
    "minibatch_size": 32,
    "epochs": 1,
    "learning_rate": 3e-4,
    "cooldown": 0.2,
    "kl_coef": 0.02,
    "max_new_tokens": 260,
}
ALIGNED_LLM = _by_method(
    _POLICY
    | {"iterations": 300, "learning_rate": 6e-4, "cooldown": 0.3, "kl_coef": 0.01}
    | {"ptx_coef": 1.0, "ptx_batch_size": 16, "precision": "bfloat16"},
    _DPO,
    n_prompts=4000,
    answers_per_prompt=8,
    pairs_per_prompt=28,
    reward=RewardConfig(
        steps=1500,
        batch_size=4,  # prompts, with 32 answers and 112 pairs
        by_prompt=True,
        learning_rate=4e-3,
        optimizer="muon",
        warmup_steps=20,
        eval_interval=125,
        eval_examples=400,
        precision="bfloat16",
    ),
    pooling="mean and max",
    reader="base-llm",
)
"""The model that people like better, by method.

The reward model reads each answer twice, each time compared with the seven others to
the same order. Because the reward is mostly noise, groups are large and the learning
rate falls over the last third of the iterations. PPO and DPO were not tuned for this
starting model; from an earlier one, DPO at this learning rate gained nothing.
"""

_SHORT: dict[str, Any] = {
    "iterations": 30,
    "cooldown": 0,
    "answers_per_prompt": 4,
    "minibatch_size": 8,
    "learning_rate": 5e-4,
}
STUDY = _by_method(
    _POLICY | _SHORT, replace(_DPO, steps=120, learning_rate=6e-4), reward=_REWARD
)
"""What the runs of `rlhf_study` have in common: short training."""

_QUICK: dict[str, Any] = {
    "steps": 2,
    "batch_size": 4,
    "warmup_steps": 1,
    "eval_interval": 1,
    "eval_examples": 4,
}
_TINY_POLICY: dict[str, Any] = {
    "iterations": 2,
    "prompts_per_iteration": 2,
    "answers_per_prompt": 2,
    "max_new_tokens": 12,
    "minibatch_size": 2,
    "epochs": 1,
}
TINY = _by_method(
    _TINY_POLICY,
    DPOConfig(**_QUICK),
    n_prompts=6,
    n_held_out=3,
    max_new_tokens=12,
    n_training_prompts=6,
    reward=RewardConfig(**_QUICK),
)
"""Takes seconds: to see that everything works, not that anything is learned."""

PRESETS = {"aligned-llm": ALIGNED_LLM, "study": STUDY, "tiny": TINY}
"""The recipes by name, each by method."""


def configured(
    config: AlignConfig,
    *,
    steps: int | None = None,
    learning_rate: float | None = None,
    kl_coef: float | None = None,
    precision: str | None = None,
    loss: str | None = None,
    **others: Any,
) -> AlignConfig:
    """Return a recipe with the given settings, in the precision that is fast here.

    Args:
        config: The recipe; arguments that are None leave it as it is.
        steps: Of DPO, or iterations of the other methods.
        learning_rate: Of the policy.
        kl_coef: Penalty for leaving the start; beta of DPO.
        precision: Of the runs that have one.
        loss: Of DPO, from `losses.PAIR_LOSSES`.
        others: Fields of `AlignConfig`.

    Raises:
        ValueError: If a value is impossible, or is for another method.

    >>> configured(TINY["grpo"], steps=7, kl_coef=0.5).training.iterations
    7
    >>> configured(TINY["dpo"], steps=7, kl_coef=0.5).training.beta
    0.5
    """
    training, wanted = config.training, given(learning_rate=learning_rate)
    training = in_precision(training, precision)
    if isinstance(training, DPOConfig):
        wanted |= given(steps=steps, beta=kl_coef, loss_type=loss)
    elif loss is None:
        wanted |= given(iterations=steps, kl_coef=kl_coef)
    else:
        raise ValueError(f"--loss is an option of --method dpo, not of {config.method}")
    return replace(
        config,
        **given(**others),
        reward=in_precision(config.reward, precision),
        training=replace(training, **wanted),
    )


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Pairs to learn from, and held-out pairs with other prompts."""

    train: list[PreferencePair]
    valid: list[PreferencePair]

    @classmethod
    def of(cls, **parts: list[dict[str, Any]]) -> "Preferences":
        """Return preferences from their form in JSON."""
        pairs = {k: [PreferencePair(**pair) for pair in v] for k, v in parts.items()}
        return cls(**pairs)


def collect(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    progress: StageProgress | None = None,
    *,
    held_out: bool = False,
) -> list[PreferencePair]:
    """Let the policy answer, and return what the annotator prefers.

    An answer that was cut off counts as one that ended there.

    Args:
        config: Says how many, and how good the annotator is.
        policy: Writes the answers, at temperature 1.
        tokenizer: The policy's.
        progress: Called with "answers to compare" or "answers held out", the number
            so far, and the total.
        held_out: Whether to use the held-out prompts, which have a seed of their own.

    Raises:
        ValueError: If no prompt has two different answers, if all of them are worth
            the same, or as in `sample_rollouts`.
    """
    n_prompts, seed, stage = config.n_prompts, config.seed, "answers to compare"
    if held_out:
        n_prompts, seed, stage = config.n_held_out, EXAM_SEED + 1, "answers held out"
    prompts = make_prompts(n_prompts, seed, tokenizer)
    generator = torch.Generator().manual_seed(seed)
    n = config.answers_per_prompt
    repeated = [prompt for prompt in prompts for _ in range(n)]
    told, most = progress and partial(progress, stage), config.max_new_tokens
    parts = sample_in_batches(
        policy, repeated, most, tokenizer, generator, told, shared=True
    )
    texts = iter([text for part in parts for text in part.texts])
    answered = [(prompt.text, [*islice(texts, n)]) for prompt in prompts]
    return preferences.sample_pairs(
        [(prompt, own) for prompt, own in answered if len({*own}) > 1],
        generator,
        agreement=config.agreement,
        pairs_per_prompt=config.pairs_per_prompt,
    )


def collected(
    path: str | Path,
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    progress: StageProgress | None = None,
) -> Preferences:
    """Return what the annotator prefers, from a file or else collected and kept there.

    Args:
        path: The file: JSON that records its recipe, like a study's.
        config: Says how many pairs, and how good the annotator is.
        policy: Writes the answers.
        tokenizer: The policy's.
        progress: As in `collect`.

    Raises:
        ValueError: If the file belongs to another recipe or is damaged, if there is no
            folder for it, or as in `collect`.
        OSError: If it cannot be read or written.
    """
    path = Path(path)
    decide = (
        *("n_prompts", "n_held_out", "answers_per_prompt", "pairs_per_prompt"),
        *("agreement", "max_new_tokens", "seed"),
    )
    recipe = {name: getattr(config, name) for name in decide}
    recipe["policy"] = weights_fingerprint(policy)
    if path.exists():
        study = load_study(path, Preferences.of)
        refusal = f"{str(path)!r} holds pairs of another recipe or policy"
        check_config_matches(refusal, study.recipe, recipe)
        if len(study.points) != 1:
            raise ValueError(f"{str(path)!r} must hold pairs, got {len(study.points)}")
        return study.points[0]
    found = Preferences(
        train=collect(config, policy, tokenizer, progress),
        valid=collect(config, policy, tokenizer, progress, held_out=True),
    )
    if parallel.rank() == 0:
        save_study(Study(recipe=recipe, points=(found,)), path)
    return found


def train_reward(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    pairs: Preferences,
    run: Run = Run(),
) -> RewardModel:
    """Return a reward model that starts as the policy and learns from the pairs.

    Its zero is the mean reward of held-out answers.

    Args:
        config: Says how long and how fast.
        policy: Is not changed.
        tokenizer: The policy's.
        pairs: The pairs.
        run: Where to save checkpoints and report progress.

    Raises:
        ValueError: As in `reader_of` and `train_reward_model`.
        FloatingPointError: If a loss is not finite.
        OSError: If a checkpoint cannot be written.
    """
    most = min(policy.config.context_length, config.reward.context_length)
    train = preferences.tokenize_pairs(pairs.train, tokenizer, most)
    valid = preferences.tokenize_pairs(pairs.valid, tokenizer, most)
    generator = torch.Generator().manual_seed(config.seed)
    reader = reader_of(config, tokenizer)
    model = RewardModel(policy, generator, config.pooling, reader).train()
    order = torch.Generator().manual_seed(config.seed)
    run = replace(run, tokenizer=tokenizer_fingerprint(tokenizer))
    rewards.train_reward_model(model, train, valid, config.reward, order, run=run)
    texts = {tuple(t.tolist()): t for pair in valid for t in pair.texts()}  # each once
    every = max(1, len(texts) // _N_CENTRED)
    rewards.centre(model.eval(), [*texts.values()][::every])
    return model


def reader_of(config: AlignConfig, tokenizer: BPETokenizer) -> SurprisalReader | None:
    """Return the model that gives the reward model token surprisals, if there is one.

    Args:
        config: Names the reader.
        tokenizer: The policy's.

    Raises:
        ValueError: If there is no such model, or if its tokens differ.
    """
    if config.reader is None:
        return None
    model, own = load_pretrained(config.reader)
    return SurprisalReader.of(model, own, tokenizer, config.reader)


def train_policy(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    pairs: Preferences,
    reward_model: RewardModel,
    run: Run = Run(),
    *,
    proxy: RewardFunction | None = None,
) -> None:
    """Train a policy in place by the method of the recipe.

    An iteration of PPO and GRPO is reported as an evaluation: its step is its number,
    its loss the negative mean proxy reward, and its metrics hold the rest.

    Args:
        config: Says how long and how fast.
        policy: Changed in place; its state at the start is the reference.
        tokenizer: The policy's.
        pairs: The pairs, from which DPO learns.
        reward_model: Gives the rewards for PPO and GRPO.
        run: Where to save checkpoints and report progress; its interval counts
            iterations of PPO and GRPO.
        proxy: Replaces the reward model's own rewards.

    Raises:
        ValueError: As in `dpo`, `ppo` and `grpo`.
        FloatingPointError: If a loss is not finite.
        OSError: If a checkpoint cannot be written.
    """
    training = config.training
    generator = torch.Generator().manual_seed(config.seed)
    if isinstance(training, DPOConfig):
        most = min(policy.config.context_length, training.context_length)
        held_out = pairs.valid[: training.eval_examples]
        train = preferences.tokenize_pairs(pairs.train, tokenizer, most)
        valid = preferences.tokenize_pairs(held_out, tokenizer, most)
        start = deepcopy(policy).eval()
        run = replace(run, tokenizer=tokenizer_fingerprint(tokenizer))
        dpo(policy, train, valid, training, generator, reference=start, run=run)
        return

    def report(found: PolicyIteration) -> None:
        metrics = {k: v for k, v in asdict(found).items() if v is not None}
        step = metrics.pop("iteration")
        run.log(Evaluation(step=step, loss=-found.reward, metrics=metrics))

    prompts = make_prompts(config.n_training_prompts, config.seed + 2, tokenizer)
    reward = proxy or rewards.text_reward(reward_model, tokenizer)
    learn: Any = grpo if isinstance(training, GRPOConfig) else ppo
    stop = [preferences.end_of_answer(tokenizer)]
    options: dict[str, Any] = {"tokenizer": tokenizer, "stop": stop}
    if training.ptx_coef:
        options["texts"] = ptx_texts(config, policy, tokenizer)
    told = replace(run, progress=report)
    learn(policy, prompts, reward, training, generator, run=told, **options)


def ptx_texts(
    config: AlignConfig, policy: Transformer, tokenizer: BPETokenizer
) -> list[TokenizedExample]:
    """Return the texts that a policy also learns from in each update, for PPO-ptx.

    Half are instructions of the kinds that `instruct-llm` has learned, half plain
    stories; for a policy that has never seen a conversation, all are stories.

    Args:
        config: Says how many.
        policy: Says how long they may be.
        tokenizer: The policy's.

    Raises:
        ValueError: If instructions of some kind do not fit.
    """
    n, seed, longest = config.n_texts, config.seed + 3, policy.config.context_length
    if not has_chat_tokens(tokenizer):
        return [*plain_stories(n, seed, tokenizer, longest)]
    wanted = replace(
        INSTRUCT_LLM,
        n_examples=n - n // 2,
        n_stories=n // 2,
        n_held_out=1,
        max_tokens=min(INSTRUCT_LLM.max_tokens, longest),
        finetuning=replace(INSTRUCT_LLM.finetuning, context_length=longest),
        seed=seed,
    )
    return prepare(wanted, tokenizer).train


def make_aligned(config: AlignConfig, run: Making, exam: Exam) -> dict[str, Any]:
    """Train a reward model on comparisons, and a policy on its rewards.

    Args:
        config: The recipe.
        run: Where to write and how to report.
        exam: How thoroughly the policy is measured, before and after.

    Raises:
        ValueError: If the recipe cannot be followed, or the folder holds another.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    policy, tokenizer = load_pretrained(config.policy)
    reader_of(config, tokenizer)  # to fail before anything slow
    folder, reward_folder = run.folder / "model", run.folder / "reward" / "model"
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
    reward_model = train_reward(config, policy, tokenizer, pairs, saved)
    if parallel.rank() == 0:
        rewards.save_reward_model(reward_model, tokenizer, reward_folder, torch.float16)
    parallel.wait()
    reward_model, _ = rewards.load_reward_model(reward_folder)  # as stored, in float16
    if isinstance(training := config.training, DPOConfig):
        saved = run.saved("policy", training.steps, training.eval_interval)
    else:
        saved = run.saved("policy", training.iterations, 5)
    train_policy(config, policy, tokenizer, pairs, reward_model, saved)
    if parallel.rank() > 0:
        return {}
    save_model(policy.eval(), tokenizer, folder)
    models = load_pretrained(config.policy), load_pretrained(folder)
    quality = {"reward_model": reward_quality(reward_model, tokenizer, pairs.valid)}
    quality |= aligned_quality(config, *models, reward_model, exam, run.stages)
    example = pairs.valid[0]
    facts = run.facts() | {
        "n_parameters": n_parameters(policy.config),
        "n_pairs": len(pairs.train),
        "chat": has_chat_tokens(tokenizer),
        "example": {"prompt": example.prompt, "answer": example.chosen},
        "quality": quality,
    }
    write_card(reward_folder, "reward", facts, name="reward-model", config=config)
    write_card(folder, "aligned", facts, name=run.name, config=config)
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
    tokens = preferences.tokenize_pairs(pairs, tokenizer, model.config.context_length)
    chosen, rejected = rewards.pair_rewards(model, tokens)
    margins, share = chosen - rejected, rewards.share_preferred
    rate, n = share(margins), len(pairs)
    # Ties count half; for the interval, half of them are right, rounded down.
    interval = wilson_interval(int(rate * n + 1e-6), n)
    worth = [(pair.gold_chosen, pair.gold_rejected) for pair in pairs]
    gold = torch.tensor(worth, dtype=torch.double)
    gaps = gold[:, 0] - gold[:, 1]
    said = margins.abs().sigmoid()  # how sure it is of its preference
    classes = torch.bucketize(said, torch.tensor(_SURE[1:-1]))
    calibration = [
        {
            "n": int(there.sum()),
            "said": said[there].mean().item(),
            "right": share(margins[there]),
        }
        for there in (classes == number for number in range(len(_SURE) - 1))
    ]
    ours = torch.stack((chosen, rejected), dim=1).double()
    both = torch.stack((gold.flatten(), ours.flatten()))
    return {
        "accuracy": {"rate": rate, "interval": interval._asdict(), "n": n},
        "ceiling": preferences.agreement_rate(pairs),
        "with_gold": share((margins * gaps.sign())[gaps != 0]),
        "correlation": both.corrcoef()[0, 1].nan_to_num().item(),
        "calibration": [found for found in calibration if found["n"]],
    }


def aligned_quality(
    config: AlignConfig,
    start: Model,
    made: Model,
    reward_model: RewardModel,
    exam: Exam,
    stages: StageProgress,
) -> dict[str, Any]:
    """Return how good a policy is before and after training.

    Instructions are asked only of a policy that answers in conversations.

    Args:
        config: The recipe.
        start: The policy before, and its tokenizer.
        made: The same after.
        reward_model: Gives the proxy reward.
        exam: How thoroughly to measure.
        stages: Called with the name of the work, how much is done, and the total.
    """
    tokenizer = start[1]
    prompts = preferences.exam_prompts(exam.n_prompts, tokenizer)
    proxy = rewards.text_reward(reward_model, tokenizer)

    def answers(name: str, model: Transformer, seed: int) -> PolicyEvaluation:
        told, most = partial(stages, f"stories to order {name}"), config.max_new_tokens
        return evaluate_policy(
            model, start[0], tokenizer, prompts, proxy, most, seed, told
        )

    seeds = range(exam.seed, exam.seed + exam.n_seeds)
    drawn = [
        (answers("before", start[0], seed), answers("after", made[0], seed))
        for seed in seeds
    ]
    again = answers("once more", start[0], seeds.stop)
    if not has_chat_tokens(tokenizer):
        exam = replace(exam, n_per_kind=0)
    before, after = zip(*drawn, strict=True)
    gains = [gain_of(*pair) for pair in drawn]
    return {
        "n_prompts": exam.n_prompts,
        "before": _means([each.summary() for each in before]),
        "after": _means([each.summary() for each in after]),
        "gold": gains[0],
        "gains": [gain["gain"] for gain in gains],
        "gain_in_sd": fmean(gain["in_sd"] for gain in gains),
        "win_rates": [gain["better"]["rate"] for gain in gains],
        "control": gain_of(before[0], again),
    } | instruct_quality(start, made, exam, stages, BASE_SPLITS)


def _means(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: fmean(each[name] for each in found) for name in found[0]}
