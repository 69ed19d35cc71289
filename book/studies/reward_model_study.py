"""What a reward model gains by what it is told of each token: four kinds, three seeds.

    python book/studies/reward_model_study.py --out reward_models.json

Each kind learns from the same comparisons of answers to 500 orders, other ones for each
seed, and is asked about the same held-out pairs. The kinds differ in what is read and
in how the vectors of all tokens become one:

    tokens          tokens alone; the mean
    maximum         tokens alone; half of the features by their maximum
    surprisal       surprisal, entropy and place, too; mean and maximum
    repetition      and whether the token has occurred before in the answer

The comparisons are those of `llmcourse align --preset aligned-llm`: `pairs.json` from
its folder, beside the results; without that file they are made anew, which takes half
an hour on one core. A training takes about a quarter of an hour. The chapter
*reward_hacking* shows the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from study_command import resumed, run_study_command, with_points
from torch import Tensor

from llmcourse.alignment.gold_reward import reward_parts
from llmcourse.alignment.preferences import (
    PreferencePair,
    agreement_rate,
    tokenize_pairs,
)
from llmcourse.alignment.reward_model import (
    RewardModel,
    pair_rewards,
    share_preferred,
    train_reward_model,
)
from llmcourse.alignment.surprisal import SurprisalReader
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes import align
from llmcourse.recipes.align import AlignConfig, collected, reader_of
from llmcourse.studies import Study
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import weights_fingerprint
from llmcourse.training.config import fall_back_to_float32

KINDS = ("tokens", "maximum", "surprisal", "repetition")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What one reward model is worth, as shares of held-out pairs."""

    kind: str
    seed: int  # of the orders, of their order, and of the first weights
    right: float  # as the annotator, who errs
    with_gold: float  # as gold says
    one_breaks: float  # the same, where one of the two stories breaks
    n_pairs: int
    n_one_breaks: int
    ceiling: float  # how often the annotator agrees with gold


@dataclass(frozen=True, kw_only=True)
class RewardModelStudyConfig:
    """What all reward models of the study share."""

    preset: str = "aligned-llm"
    seeds: tuple[int, ...] = (0, 1, 2)
    n_orders: int = 500  # for each seed
    steps: int = 250


class WithoutRepetition(SurprisalReader):
    """A reader that doesn't say whether a token is repeated."""

    def features(self, ids: Tensor) -> Tensor:
        """Return what every reader does, with zeros in the last column."""
        found = super().features(ids).clone()
        found[..., 3] = 0
        return found


def run_study(
    path: str | Path,
    config: RewardModelStudyConfig = RewardModelStudyConfig(),
    progress: Callable[[Judged], None] | None = None,
) -> Study[Judged]:
    """Train all reward models, write the results after each, and return them.

    Args:
        path: The file of the results; `pairs.json` beside it has the comparisons.
        config: What they share.
        progress: Called with each model that was trained.

    Raises:
        ValueError: If a file holds results of another recipe, or if there are fewer
            orders than the seeds need.
        OSError: If a file cannot be read or written.
    """
    path = Path(path)
    shared = align.PRESETS[config.preset]["grpo"]
    policy, tokenizer = load_pretrained(shared.policy)
    recipe = asdict(config) | {"seeds": list(config.seeds)}
    recipe["policy"] = weights_fingerprint(policy)
    study = resumed(path, recipe, Judged)
    done = {(point.seed, point.kind) for point in study.points}
    wanted = [(seed, kind) for seed in config.seeds for kind in KINDS]
    if not {*wanted} - done:
        return study
    pairs = collected(path.with_name("pairs.json"), shared, policy, tokenizer)
    for seed, kind in wanted:
        if (seed, kind) not in done:
            own = _of_orders(pairs.train, seed, config.n_orders)
            model = _train(kind, seed, config, shared, policy, tokenizer, own)
            found = _judged(model, tokenizer, pairs.valid)
            point = Judged(kind=kind, seed=seed, **found)
            study = with_points(study, [point], path, progress)
    return study


def _of_orders(
    pairs: Sequence[PreferencePair], number: int, n: int
) -> list[PreferencePair]:
    """Return the pairs of n orders, other ones for each number."""
    orders = [*dict.fromkeys(pair.prompt for pair in pairs)]
    if len(orders) < (number + 1) * n:
        raise ValueError(f"wanted {(number + 1) * n} orders, got {len(orders)}")
    chosen = {*orders[number * n : (number + 1) * n]}
    return [pair for pair in pairs if pair.prompt in chosen]


def _train(
    kind: str,
    seed: int,
    config: RewardModelStudyConfig,
    shared: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    pairs: Sequence[PreferencePair],
) -> RewardModel:
    """Return a reward model of one kind."""
    pooling = "mean" if kind == "tokens" else "mean and max"
    reader = reader_of(shared, tokenizer)
    if reader is not None and kind == "surprisal":
        reader = WithoutRepetition(**vars(reader))
    if kind in ("tokens", "maximum"):
        reader = None
    generator = torch.Generator().manual_seed(seed)
    model = RewardModel(policy, generator, pooling, reader).train()
    training = replace(
        fall_back_to_float32(shared.reward),
        steps=config.steps,
        eval_interval=config.steps,
        eval_examples=1,  # all held-out pairs are read at the end
        warmup_steps=min(shared.reward.warmup_steps, config.steps // 2),
    )
    tokens = tokenize_pairs(pairs, tokenizer, training.context_length)
    order = torch.Generator().manual_seed(seed)
    train_reward_model(model, tokens, tokens[:1], training, order)
    return model.eval()


def _judged(
    model: RewardModel, tokenizer: BPETokenizer, pairs: Sequence[PreferencePair]
) -> dict[str, Any]:
    """Return the shares of held-out pairs in which a reward model is right."""
    tokens = tokenize_pairs(pairs, tokenizer, model.config.context_length)
    chosen, rejected = pair_rewards(model, tokens)
    margins = chosen - rejected
    gaps = torch.tensor([pair.gold_chosen - pair.gold_rejected for pair in pairs])
    one_breaks = torch.tensor(
        [_breaks(p, p.chosen) != _breaks(p, p.rejected) for p in pairs]
    )
    agrees, unequal = margins * gaps.sign(), gaps != 0
    return {
        "right": share_preferred(margins),
        "with_gold": share_preferred(agrees[unequal]),
        "one_breaks": share_preferred(agrees[unequal & one_breaks]),
        "n_pairs": len(pairs),
        "n_one_breaks": int((unequal & one_breaks).sum()),
        "ceiling": agreement_rate(pairs),
    }


def _breaks(pair: PreferencePair, text: str) -> bool:
    """Say whether an answer is no whole tale."""
    return reward_parts(pair.prompt, text).coherence < 1


if __name__ == "__main__":
    run_study_command(run_study, __doc__)
