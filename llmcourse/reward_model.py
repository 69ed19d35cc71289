"""A reward model: a language model that reads an answer and says how good it is.

    prompt, answer ── the model's layers ── norm ──┬── unembedding ── next token
                                                   └── head ── reward  (at the end,
                                                       or of mean and maximum over all)

It learns from comparisons. They only tell differences, so its zero is free:
`reward_scores.centre` puts it where the mean reward of some texts is. Its scale is not:
the probability that an annotator prefers one answer is σ of the difference.

Source: Stiennon et al. (2020), "Learning to summarize with human feedback"; Ouyang et
al. (2022), section 3.5 (reward modeling).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.classification import without_unembedding
from llmcourse.preference_examples import PromptPairs, TokenizedPair, pairs_by_prompt
from llmcourse.preference_losses import bradley_terry_loss
from llmcourse.preference_training import (
    Comparison,
    PairsConfig,
    run_on_pairs,
    train_on_pairs,
)
from llmcourse.progress import TrainingProgress
from llmcourse.surprise_embedding import Reader, SurpriseEmbedding
from llmcourse.training_log import History
from llmcourse.transformer import Transformer, TransformerConfig

Pooling: TypeAlias = Literal["last", "mean", "mean and max"]


class RewardModel(nn.Module):
    """A transformer with a head that gives one number for a text.

    The layers are the given model's own, not copies: see `from_model`. The head's first
    weights are small and random.

    Args:
        model: Has been pretrained, or fine-tuned.
        generator: Source of the head's first weights; None draws from torch's global
            one.
        pooling: "last" reads the vector at a text's last token, "mean" the mean of
            the vectors of all its tokens: what a small model learns from few pairs,
            for it need not learn first where to look. "mean and max" takes the mean
            of the first half of the features and the maximum of the others: a single
            broken word spoils a story, and is lost in a mean.
        reader: If given, each token comes with how surprising it was to this reader,
            see `surprise_embedding`; None: the model reads tokens alone.

    Raises:
        ValueError: If another way of pooling is asked for.

    Source: Stiennon et al. (2020), "Learning to summarize with human feedback" (also
    the deviation of the head's first weights, 1 / √(d_model + 1)); Collobert et al.
    (2011), "Natural language processing (almost) from scratch" (the maximum over the
    positions of a text).

    >>> from llmcourse.transformer import TINY
    >>> reward_model = RewardModel.from_model(Transformer(TINY))
    >>> reward_model(torch.tensor([[5, 0, 3], [7, 8, 0]]), torch.tensor([2, 1])).shape
    torch.Size([2])
    """

    offset: Tensor

    def __init__(
        self,
        model: Transformer,
        generator: torch.Generator | None = None,
        pooling: Pooling = "last",
        reader: Reader | None = None,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            known = ", ".join(get_args(Pooling))
            raise ValueError(f"pooling must be one of {known}, got {pooling!r}")
        self.pooling = pooling
        self.body = without_unembedding(model)
        if reader is not None:
            table = self.body.embedding
            self.body.embedding = SurpriseEmbedding(table, reader, generator)
        self.head = nn.Linear(model.config.d_model, 1, bias=False)
        std = (model.config.d_model + 1) ** -0.5
        nn.init.normal_(self.head.weight, std=std, generator=generator)
        self.head.to(model.embedding.weight)
        self.register_buffer("offset", model.embedding.weight.new_zeros(()))

    @classmethod
    def from_model(
        cls,
        model: Transformer,
        generator: torch.Generator | None = None,
        pooling: Pooling = "last",
        reader: Reader | None = None,
    ) -> "RewardModel":
        """Return a reward model that starts as a copy of a model, which stays as it is.

        Adapters are copied too, and what is frozen is frozen in the copy.

        Args:
            model: See the class.
            generator: See there.
            pooling: See there.
            reader: See there.
        """
        return cls(copy.deepcopy(model), generator, pooling, reader)

    @property
    def surprise(self) -> SurpriseEmbedding | None:
        """What tells it of surprises, if anything does."""
        table = self.body.embedding
        return table if isinstance(table, SurpriseEmbedding) else None

    @property
    def config(self) -> TransformerConfig:
        """Shape and sizes of the model inside."""
        return self.body.config

    def forward(
        self, ids: Int[Tensor, "batch position"], last: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        """Return the reward of each text, without unit.

        Args:
            ids: Prompts with their answers, filled up on the right with any ids.
            last: Position of each answer's last token.

        Raises:
            ValueError: If a last position is outside the text, or as `Transformer` and
                `Reader.surprises`.
        """
        if len(last) and not 0 <= int(last.min()) <= int(last.max()) < ids.shape[1]:
            raise ValueError(
                f"last must be in 0 … {ids.shape[1] - 1}, got {last.tolist()}"
            )
        features: Tensor = self.body(ids)  # (B, T, D)
        rewards: Tensor = self.head(self._pooled(features, last.to(features.device)))
        return rewards.squeeze(-1) - self.offset

    def _pooled(self, features: Tensor, last: Tensor) -> Tensor:
        """Return one vector for each text (B, D)."""
        if self.pooling == "last":
            return features[torch.arange(len(last), device=last.device), last]
        places = torch.arange(features.shape[1], device=last.device)
        mask = (places <= last[:, None]).unsqueeze(-1)  # (B, T, 1)
        mean = features.where(mask, 0.0).sum(dim=1) / (last + 1).unsqueeze(-1)
        if self.pooling == "mean":
            return mean
        highest = features.where(mask, -torch.inf).amax(dim=1)
        half = features.shape[-1] // 2
        return torch.cat((mean[:, :half], highest[:, half:]), dim=-1)


def pad_texts(
    texts: Sequence[Int[Tensor, "_"]],
) -> tuple[Int[Tensor, "batch position"], Int[Tensor, "batch"]]:
    """Return texts side by side, filled up with zeros, and where each of them ends.

    Raises:
        ValueError: If there are no texts, or one is empty.

    >>> pad_texts([torch.tensor([5, 6, 7]), torch.tensor([8])])
    (tensor([[5, 6, 7],
             [8, 0, 0]]), tensor([2, 0]))
    """
    if not texts or not all(len(text) for text in texts):
        lengths = [len(text) for text in texts]
        raise ValueError(f"texts with at least one token are wanted, got {lengths}")
    ids = nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    return ids, torch.tensor([len(text) - 1 for text in texts])


@dataclass(frozen=True, kw_only=True)
class RewardConfig(PairsConfig):
    """How long and how fast a reward model learns.

    With `by_prompt` a batch is `batch_size` prompts, each with all of its pairs, and
    every answer is read once for all comparisons that it is part of: of four answers
    and their six pairs a third of the reading is left. A step then learns from six
    times as many pairs, so a pass takes fewer steps.

    Source: Ouyang et al. (2022), section 3.5 (all comparisons of a prompt at once).
    """

    steps: int = 60
    learning_rate: float | int = 1e-3
    eval_windows: int = 256
    centring: float | int = 0.01  # see `preference_losses.bradley_terry_loss`
    by_prompt: bool = False  # whether batches are of prompts, not of single pairs

    def __post_init__(self) -> None:
        """Raise ValueError for a value that no training can have."""
        super().__post_init__()
        if not self.centring >= 0:
            raise ValueError(f"centring must not be negative, got {self.centring}")


def train_reward_model(
    model: RewardModel,
    pairs: Sequence[TokenizedPair],
    valid: Sequence[TokenizedPair],
    config: RewardConfig,
    generator: torch.Generator,
    *,
    progress: TrainingProgress | None = None,
    checkpoint_folder: str | Path | None = None,
    checkpoint_interval: int = 100,
    tokenizer: str | None = None,
) -> History:
    """Train a reward model in place; return the losses, in nats per pair.

    Metrics are as in `preference_training.train_on_pairs`. The loss includes the
    centring term; by prompt, an update's is the mean over prompts of the mean over
    their pairs, and that of an evaluation still the mean over pairs.

    Args:
        model: Changed in place where it is not frozen.
        pairs: What to learn.
        valid: Held-out pairs.
        config: How long and how fast.
        generator: Decides the order of the pairs, or prompts.
        progress: As in `pretraining.pretrain`, like those that follow.
        checkpoint_folder: See there.
        checkpoint_interval: See there.
        tokenizer: See there.

    Raises:
        ValueError: If a pair is too long or holds ids that the model does not have,
            if there are fewer pairs, or prompts, than a batch, or no pair held out; if
            the whole model is frozen; or if the folder's checkpoints are of another
            training.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    pooled = "" if model.pooling == "last" else f", pooled by {model.pooling}"
    told = "" if model.surprise is None else f", told by {model.surprise.reader.name}"
    grouped = ", all pairs of a prompt at once" if config.by_prompt else ""
    objective = f"Bradley-Terry, centring {config.centring}{pooled}{told}{grouped}"
    run = run_on_pairs(
        pairs, valid, model.config, config, generator, tokenizer, objective
    )
    apart = [PromptPairs((pair,)) for pair in pairs]
    rows = pairs_by_prompt(pairs) if config.by_prompt else apart
    if len(rows) < config.batch_size:
        what = "prompts" if config.by_prompt else "pairs"
        raise ValueError(f"a batch needs {config.batch_size} {what}, got {len(rows)}")

    def compare(batch: Sequence[PromptPairs]) -> Comparison:
        sizes = [len(prompt.pairs) for prompt in batch]
        chosen, rejected = _batch_rewards(model, batch, config)
        sides = chosen.split_with_sizes(sizes), rejected.split_with_sizes(sizes)
        each = zip(*sides, strict=True)
        losses = [bradley_terry_loss(c, r, config.centring) for c, r in each]
        return Comparison(torch.stack(losses).mean(), chosen - rejected)

    return train_on_pairs(
        model,
        rows,
        [PromptPairs((pair,)) for pair in valid],  # `eval_windows` counts pairs
        compare,
        run,
        generator,
        progress=progress,
        checkpoint_folder=checkpoint_folder,
        checkpoint_interval=checkpoint_interval,
    )


def _batch_rewards(
    model: RewardModel, batch: Sequence[PromptPairs], config: RewardConfig
) -> tuple[Tensor, Tensor]:
    """Return the rewards of a batch's chosen and rejected answers, with gradients.

    Each text of a prompt is read once, in however many of its pairs it is.
    """
    both = [(n, pair.texts()) for n, row in enumerate(batch) for pair in row.pairs]
    texts = [(n, pair[side]) for side in (0, 1) for n, pair in both]
    keys = [(n, *text.tolist()) for n, text in texts]
    different = {key: text for key, (_, text) in zip(keys, texts, strict=True)}
    places = {key: number for number, key in enumerate(different)}
    ids, last = pad_texts([*different.values()])
    device = model.head.weight.device
    low_precision = config.precision == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
        rewards = model(ids.to(device), last.to(device))
    where = torch.tensor([places[key] for key in keys], device=device)
    chosen, rejected = rewards.float()[where].chunk(2)
    return chosen, rejected
