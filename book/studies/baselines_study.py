"""What an aligned model is worth beside cheap baselines, and what it has lost.

    python book/studies/baselines_study.py --out baselines.json

carries out orders to write a story, other ones for each seed, in eleven ways: the
model before it was aligned; the pick of sixteen answers of its own, by chance, by
probability, by the reward model, and by gold; the aligned model; and a model with the
mean weights of both. The three models have two temperatures each.

    start ── 16 answers to an order ──┬── one of them, by chance or by some score
                                      └── the first: temperature 1
    aligned ── 1 answer

A pick is a policy, too, and its KL divergence from the start is known: at most
ln n − (n − 1) / n for the best of n. The others' is measured. Ten minutes or so on one
core; it goes on where it was stopped. The chapter *reward_hacking* prints what comes
out.

    --start instruct-llm --aligned aligned-llm --reward reward-model

names other models, by name or folder.

Source: best of n as a baseline, Stiennon et al. (2020), Gao et al. (2023); diversity
within and across prompts, Kirk et al. (2024).
"""

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any

import torch
from study_command import resumed, run_study_command, with_points
from torch import Tensor

from llmcourse.alignment.gold_reward import gold_reward, reward_parts
from llmcourse.alignment.preferences import (
    EXAM_SEED,
    Prompt,
    end_of_answer,
    make_prompts,
)
from llmcourse.alignment.reward_model import (
    RewardFunction,
    load_reward_model,
    text_reward,
)
from llmcourse.alignment.rollouts import Rollouts, Scorer, sample_rollouts
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.studies import Study
from llmcourse.text import tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import weights_fingerprint

N_BEST = 16
COOL = 0.5  # the temperature of `llmcourse chat`
WORDS_READ = 100  # of each story, so that long ones are not less diverse
AT_ONCE = 256  # answers that are written side by side
ORDERED = re.compile(r"\b(happy|sad|surprising) ending\b")


@dataclass(frozen=True, kw_only=True)
class BaselinesConfig:
    """What all ways share."""

    start: str = "instruct-llm"
    aligned: str = "aligned-llm"
    reward: str = "reward-model"
    n_orders: int = 32  # for each seed
    n_seeds: int = 8
    max_new_tokens: int = 260


@dataclass(frozen=True, kw_only=True)
class BaselinePoint:
    """What one way made of the orders of one seed."""

    way: str
    seed: int
    gold: list[float]  # of each order, in points
    proxy: float  # mean
    kl: float  # from the start, in nats per answer
    coherent: int  # stories that hold together to their end
    complete: int  # of these, with all that the order names
    endings: dict[str, int]  # of these
    obeyed: list[int]  # orders whose ending was kept, orders that name one
    distinct_4: float  # different runs of four words, of all
    distinct_within: float  # the same among four answers to one order; -1: no such
    openings: int  # different first three words


def cooled(model: Transformer, temperature: float) -> Transformer:
    """Return a copy that draws at temperature 1 as the model does at another one.

    The last norm's weights are divided, and so are all logits.
    """
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.norm.weight /= temperature
    return copied


def averaged(one: Transformer, other: Transformer) -> Transformer:
    """Return a model with the mean weights of two."""
    copied = copy.deepcopy(one)
    with torch.no_grad():
        for weight, theirs in zip(copied.parameters(), other.parameters(), strict=True):
            weight.lerp_(theirs, 0.5)
    return copied


def distinct(texts: Sequence[str], n: int = 4, most: int = WORDS_READ) -> float:
    """Return the share of different runs of n words among all, of some texts together.

    >>> distinct(["a b c d", "a b c e"], n=2)  # a b, b c, c d, c e of six
    0.6666666666666666
    """
    runs: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = text.split()[:most]
        runs.update(zip(*(words[i:] for i in range(n)), strict=False))
    return len(runs) / max(1, runs.total())


def run_baselines_study(
    path: str | Path,
    config: BaselinesConfig = BaselinesConfig(),
    progress: Callable[[BaselinePoint], None] | None = None,
) -> Study[BaselinePoint]:
    """Carry out all orders, write the points after each seed, and return them.

    Args:
        path: The file of the results.
        config: Which models, how many orders.
        progress: Called with each point.

    Raises:
        ValueError: If the file holds results of other models or another recipe.
        OSError: If it cannot be written.
    """
    models = _Models(config)
    recipe = asdict(config) | {"weights": models.fingerprints}
    study = resumed(path, recipe, BaselinePoint)
    done = {point.seed for point in study.points}
    for seed in range(config.n_seeds):
        if seed not in done:
            found = models.points_of(seed)
            study = with_points(study, found, path, progress)
    return study


class _Models:
    """The three models, and what is asked of them."""

    def __init__(self, config: BaselinesConfig) -> None:
        self.config = config
        self.start, self.tokenizer = load_pretrained(config.start)
        self.aligned, _ = load_pretrained(config.aligned)
        judge, words = load_reward_model(config.reward)
        self.proxy: RewardFunction = text_reward(judge, words)
        each = (self.start, self.aligned, judge)
        self.fingerprints = [weights_fingerprint(model)[:16] for model in each]

    def points_of(self, seed: int) -> Iterator[BaselinePoint]:
        """Yield what each way makes of the orders of a seed."""
        config = self.config
        orders = make_prompts(
            config.n_orders * config.n_seeds, EXAM_SEED, self.tokenizer
        )[seed :: config.n_seeds]
        generator = torch.Generator().manual_seed(seed)

        def write(policy: Transformer, n: int) -> Rollouts:
            return _written(policy, orders, n, config, self.tokenizer, generator)

        many = write(self.start, N_BEST)
        worth = self.proxy([p.text for p in many.prompts], many.texts)
        likely = many.log_probs.sum(dim=1) / many.lengths
        best = torch.tensor([*map(gold_reward, _asked(many), many.texts)])
        chance = torch.rand(len(many), generator=generator)
        for name, score, n in (
            ("start, temperature 1", None, 1),
            ("random one of 16", chance, N_BEST),
            ("most probable of 16", likely, N_BEST),
            ("best of 4", worth, 4),
            ("best of 16", worth, N_BEST),
            ("best of 16 by gold", best, N_BEST),
        ):
            kept = _kept(score, n, len(orders))
            picked = [many.texts[i] for i in kept]
            kl = 0.0 if score is None or score is chance else log(n) - (n - 1) / n
            group = many.texts if score is None else ()
            yield self._point(name, seed, orders, picked, worth[kept], kl, group)
        mean = averaged(self.start, self.aligned)
        for name, policy, n in (
            ("start, temperature 0.5", cooled(self.start, COOL), 1),
            ("aligned, temperature 1", self.aligned, 4),
            ("aligned, temperature 0.5", cooled(self.aligned, COOL), 1),
            ("mean weights, temperature 1", mean, 4),
            ("mean weights, temperature 0.5", cooled(mean, COOL), 1),
        ):
            some = write(policy, n)
            theirs = Scorer(self.start).log_probs(some.ids, some.answer_mask, 32)
            kl = (some.log_probs - theirs).sum(dim=1).mean().item()
            first, group = some.texts[::n], some.texts if n > 1 else ()
            proxy = self.proxy([order.text for order in orders], first)
            yield self._point(name, seed, orders, first, proxy, kl, group)

    def _point(
        self,
        way: str,
        seed: int,
        orders: Sequence[Prompt],
        texts: Sequence[str],
        proxy: Tensor,
        kl: float,
        group: Sequence[str],
    ) -> BaselinePoint:
        """Return what some stories are worth, and how diverse they are.

        Args:
            way: Its name.
            seed: Of the sampling.
            orders: What was asked.
            texts: A story for each.
            proxy: Their learned rewards.
            kl: How far from the start.
            group: Several answers to each order, side by side; or none.
        """
        asked = [order.text for order in orders]
        endings = [_ending(*pair) for pair in zip(asked, texts, strict=True)]
        told = [ORDERED.search(order) for order in asked]
        wanted = [
            match[1] == ending
            for match, ending in zip(told, endings, strict=True)
            if match
        ]
        size = len(group) // len(orders)
        within = [
            distinct(group[i : i + 4]) for i in range(0, len(group), max(1, size))
        ]
        parts = [*map(reward_parts, asked, texts)]
        return BaselinePoint(
            way=way,
            seed=seed,
            gold=[round(part.score, 2) for part in parts],
            proxy=round(proxy.mean().item(), 3),
            kl=round(kl, 2),
            coherent=sum(part.coherence == 1 for part in parts),
            complete=sum(part.coherence == part.asked == 1 for part in parts),
            endings=dict(Counter(ending for ending in endings if ending)),
            obeyed=[sum(wanted), len(wanted)],
            distinct_4=round(distinct(texts), 4),
            distinct_within=round(sum(within) / len(within), 4) if within else -1.0,
            openings=len({tuple(text.split()[:3]) for text in texts}),
        )


def _written(
    policy: Transformer,
    orders: Sequence[Prompt],
    n: int,
    config: BaselinesConfig,
    tokenizer: BPETokenizer,
    generator: torch.Generator,
) -> Rollouts:
    """Return n answers to each order, side by side."""
    asked = [order for order in orders for _ in range(n)]
    parts = [
        sample_rollouts(
            policy,
            asked[i : i + AT_ONCE],
            config.max_new_tokens,
            tokenizer=tokenizer,
            stop=[end_of_answer(tokenizer)],
            generator=generator,
        )
        for i in range(0, len(asked), AT_ONCE)
    ]
    width = max(part.ids.shape[1] for part in parts)

    def joined(name: str) -> Tensor:
        rows = [getattr(part, name) for part in parts]
        grown = [
            torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in rows
        ]
        return torch.cat(grown)

    return Rollouts(
        prompts=tuple(asked),
        texts=tuple(text for part in parts for text in part.texts),
        ids=joined("ids"),
        answer_mask=joined("answer_mask"),
        log_probs=joined("log_probs"),
        finished=torch.cat([part.finished for part in parts]),
    )


def _asked(rollouts: Rollouts) -> list[str]:
    return [prompt.text for prompt in rollouts.prompts]


def _kept(score: Tensor | None, n: int, n_orders: int) -> list[int]:
    """Return which answer to each order has the highest score among its first n."""
    if score is None:
        return [N_BEST * order for order in range(n_orders)]
    best = score.view(n_orders, N_BEST)[:, :n].argmax(dim=1).tolist()
    return [N_BEST * order + place for order, place in enumerate(best)]


def _ending(order: str, text: str) -> str:
    """Return how a story ends, or nothing if it falls apart."""
    if reward_parts(order, text).coherence < 1:
        return ""
    return str(tales.parse(text.strip()).facts.get("ending", ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from the command line; progress goes to standard error."""
    defaults = BaselinesConfig()
    names = ("start", "aligned", "reward", "n_orders", "n_seeds")
    options = {name: getattr(defaults, name) for name in names}

    def study(
        path: Path, progress: Callable[[BaselinePoint], None], **chosen: Any
    ) -> object:
        return run_baselines_study(path, BaselinesConfig(**chosen), progress)

    run_study_command(study, __doc__, arguments, options=options)


if __name__ == "__main__":
    main()
