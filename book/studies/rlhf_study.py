"""The runs of the study of alignment: gold and proxy reward against the KL divergence.

    python book/studies/rlhf_study.py --out rlhf.json

has twenty-four trainings, about two hours on one core, and goes on where it was
stopped. The policy that learns is `base-llm-small`, asked to go on with the first words
of stories.
Two questions:

    frontier            PPO, GRPO and DPO on the same pairs, over four seeds
    over-optimisation   GRPO without a KL penalty, by four reward models of each size:
                        they learned from 100, 1,000 and 5,040 pairs

The policy's answers are judged while it learns: those of each iteration, of PPO and
GRPO, and answers to prompts of their own at each evaluation of DPO. The chapter
*reward_hacking* plots what comes out. The largest reward models' pairs contain those
of the smaller, of which each has pairs of its own.

Source: the questions are those of Gao, Schulman and Hilton (2023), "Scaling laws for
reward model overoptimization".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from study_command import resumed, run_study_command, with_points
from torch import Tensor

from llmcourse.alignment.dpo import DPOConfig
from llmcourse.alignment.evaluation import Experiment, StudyPoint, evaluate_policy
from llmcourse.alignment.gold_reward import gold_reward
from llmcourse.alignment.preferences import exam_prompts
from llmcourse.alignment.reward_model import (
    RewardFunction,
    RewardModel,
    batched,
    text_reward,
)
from llmcourse.model.folders import load_pretrained
from llmcourse.recipes import align
from llmcourse.recipes.align import (
    AlignConfig,
    Preferences,
    collected,
    reward_quality,
    train_policy,
    train_reward,
)
from llmcourse.studies import Study
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Evaluation, Record, fall_back_to_float32

_Rewards: TypeAlias = dict[tuple[int, int], tuple[RewardModel, float]]


_FRONTIER = (("ppo", 0.02), ("grpo", 0.02), ("dpo", 0.1))
EXPERIMENTS = (
    *(
        Experiment(method=method, n_pairs=5040, cost=cost, seed=seed)
        for seed in range(4)
        for method, cost in _FRONTIER
    ),
    *(
        Experiment(method="grpo", n_pairs=n, cost=0, seed=seed, reward_seed=seed)
        for seed in range(4)
        for n in (100, 1000, 5040)
    ),
)
"""The frontier first, then what happens without a penalty."""


@dataclass(frozen=True, kw_only=True)
class RlhfStudyConfig:
    """What all policies of the study share."""

    policy: str = "base-llm-small"
    preset: str = "study"
    n_prompts: int = 840
    pairs_per_prompt: int = 6  # all that four answers make
    n_held_out: int = 125
    iterations: int = 30  # of PPO and GRPO
    dpo_steps: int = 120
    reward_steps: int = 475  # on all pairs
    n_eval_answers: int = 64  # answers at each evaluation of DPO
    agreement: float | int = 0.85
    seed: int = 0  # of the pairs: all policies learn from the same


def configs(experiment: Experiment, study: RlhfStudyConfig) -> AlignConfig:
    """Return the recipe of an experiment.

    The reward model makes as many passes over few pairs as over many, but for a
    hundred steps at the least. bfloat16 is used where the processor has it.

    >>> few = Experiment(method="grpo", n_pairs=100, cost=0)
    >>> recipe = configs(few, RlhfStudyConfig())
    >>> recipe.method, recipe.training.kl_coef
    ('grpo', 0)
    """
    config = align.PRESETS[study.preset][experiment.method]
    training, reward = config.training, config.reward
    if isinstance(training, DPOConfig):
        steps = study.dpo_steps
        every = max(1, steps // 3)
        training = fall_back_to_float32(
            replace(training, beta=experiment.cost, steps=steps, eval_interval=every)
        )
    else:
        training = replace(
            training, kl_coef=experiment.cost, iterations=study.iterations
        )
    share = experiment.n_pairs / (study.n_prompts * study.pairs_per_prompt)
    most = study.reward_steps
    steps = min(most, max(round(most * share), 100))
    reward = fall_back_to_float32(replace(reward, steps=steps, eval_interval=steps))
    names = ["policy", "n_prompts", "pairs_per_prompt", "n_held_out", "agreement"]
    shared: dict[str, Any] = {name: getattr(study, name) for name in [*names, "seed"]}
    return replace(config, **shared, reward=reward, training=training)


def run_rlhf_study(
    path: str | Path,
    experiments: Sequence[Experiment] = EXPERIMENTS,
    config: RlhfStudyConfig = RlhfStudyConfig(),
    progress: Callable[[StudyPoint], None] | None = None,
) -> Study[StudyPoint]:
    """Train all policies, write the points after each, and return them.

    Policies that the file has are not trained again. The pairs stay beside it.

    Args:
        path: The file of the results.
        experiments: Which policies.
        config: What they share.
        progress: Called with each point.

    Raises:
        ValueError: If the file holds results of another recipe.
        OSError: If it cannot be written.
    """
    study = resumed(path, asdict(config), StudyPoint)
    done = {point.experiment for point in study.points}
    pairs = Path(path).with_suffix(".pairs.json")
    rewards: _Rewards = {}
    for experiment in experiments:
        if experiment not in done:
            points = _points(experiment, config, pairs, rewards)
            study = with_points(study, points, path, progress)
    return study


def _points(
    experiment: Experiment,
    study: RlhfStudyConfig,
    path: Path,
    rewards: _Rewards,
) -> Iterator[StudyPoint]:
    """Train one policy; yield where it stood. Reward models are kept in `rewards`."""
    config = configs(experiment, study)
    (policy, tokenizer), (start, _) = map(load_pretrained, [config.policy] * 2)
    found = collected(path, config, policy, tokenizer)
    few = _part_of(found, experiment)
    key = experiment.n_pairs, experiment.reward_seed
    if key not in rewards:
        own = replace(config, seed=experiment.reward_seed)
        model = train_reward(own, policy, tokenizer, few)
        worth = reward_quality(model, tokenizer, few.valid)
        rewards[key] = model, worth["accuracy"]["rate"]
    model, accuracy = rewards[key]
    proxy = text_reward(model, tokenizer)
    watched = _Watched(proxy)
    seen: list[tuple[int, dict[str, float]]] = []

    def watch(record: Record) -> None:
        if not isinstance(record, Evaluation):
            return
        if experiment.method == "dpo":
            prompts = exam_prompts(study.n_eval_answers, tokenizer)
            most = config.max_new_tokens
            judged = evaluate_policy(policy, start, tokenizer, prompts, proxy, most)
            seen.append((record.step, judged.summary()))
        else:
            found = {"gold": watched.gold, "kl": record.metrics["kl"]}
            seen.append((record.step, found | {"proxy": record.metrics["reward"]}))

    seeded = replace(config, seed=experiment.seed)
    run = Run(progress=watch)
    train_policy(seeded, policy, tokenizer, few, model, run, proxy=watched)
    for step, means in seen:
        kept: dict[str, Any] = {
            name: round(means[name], 4) for name in ("kl", "gold", "proxy")
        }
        yield StudyPoint(
            **asdict(experiment), step=step, accuracy=round(accuracy, 4), **kept
        )


def _part_of(found: Preferences, experiment: Experiment) -> Preferences:
    """Return the pairs of a reward model: others for each seed, while there are any."""
    n = experiment.n_pairs
    first = n * (experiment.reward_seed % max(1, len(found.train) // n))
    return Preferences(train=found.train[first : first + n], valid=found.valid)


class _Watched:
    """A reward that remembers the gold reward of what it was last asked about."""

    def __init__(self, proxy: RewardFunction) -> None:
        self.proxy, self.gold = proxy, 0.0

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        self.gold = batched(gold_reward)(prompts, texts).mean().item()
        return self.proxy(prompts, texts)


if __name__ == "__main__":
    run_study_command(run_rlhf_study, __doc__)
