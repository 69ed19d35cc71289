"""A reward model: a language model that reads an answer and says how good it is.

    prompt, answer ── the model's layers ── norm ──┬── unembedding ── next token
                                                   └── head ── reward  (at the end,
                                                       or of mean and maximum over all)

It learns from comparisons. They only tell differences, so its zero is free:
`reward_model.centre` puts it where the mean reward of some texts is. Its scale is not:
the probability that an annotator prefers one answer is σ of the difference.

Source: Stiennon et al. (2020), "Learning to summarize with human feedback"; Ouyang et
al. (2022), section 3.5 (reward modeling).

What a reward model says of texts and of pairs, and where its zero lies.

texts    rewards_of     one number each
pairs    pair_rewards   two: of the chosen answer and of the rejected one
strings  text_reward    a function of prompts and answers, as a policy is trained by

Rewards: whatever gives every answer a score.

A rule, a learned model or a test's own function, all are the same to a policy: they
read prompts and answers as text and return one number for each.

How good a reward model is: does it prefer what was preferred, and as surely?

    accuracy       of 100 pairs, in how many the chosen answer's reward is higher
    calibration    of the pairs that it is 80 % sure of, are 80 % as it says?

An annotator who errs puts a ceiling on the accuracy: no model can foresee an error, so
the best that can be is the annotator's own agreement with gold, `agreement_rate`.

A reward model's second sense: how surprising a reader of stories finds each token.

    ids ──┬── table ────────────────────────────────────────────────(+)── layers
          └── reader ── surprisal, entropy, place ── three vectors ──┘

Whether a word fits is what a language model knows best, and what a reward model would
have to work out anew from pairs: a name that was never mentioned, a word that breaks
the story. So it is told, by a reader: a frozen language model that reads the answer
alone, as if it were a text of its own. For each token it gives

    surprisal   −log p(token | those before it in the answer), in nats
    entropy     what it expected the surprisal to be, in nats
    place       how many tokens it has read before, in hundreds

and each of the three numbers is multiplied by a learned vector and added to the
token's. Of the prompt, which the reader does not see, all three are zero. Where texts
have no answers in them, all of a text is read.

`tests/benchmarks/bench_reward_model.py` measures what that brings for the stories of
`instruct-llm`, with `base-llm` as the reader, which has learned nothing but stories.

Source: the idea is ours; Gehrmann et al. (2019), "GLTR", show readers a token's
probability and the entropy there, to help them tell written from generated text.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.alignment.losses import bradley_terry_loss, entropy
from llmcourse.alignment.pairs import (
    Comparison,
    PairsConfig,
    pairs_recipe,
    share_preferred,
    train_on_pairs,
)
from llmcourse.alignment.preferences import (
    PromptPairs,
    TokenizedPair,
    pairs_by_prompt,
    tokenize_answer,
    tokenize_prompt,
)
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.chat import CHAT_TOKENS
from llmcourse.finetuning.classification import without_unembedding
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import Run, weights_fingerprint
from llmcourse.training.config import History
from llmcourse.training.intervals import Interval, wilson_interval

_N_TOLD = 3  # numbers that come with each token


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A language model that reads answers, and where they are.

    It may lack the tokens of conversations.
    """

    model: Transformer
    start: int | None = None  # what follows the first one is read; None: all of a text
    mark: int | None = None  # is read for `start` and for ids the model does not know

    @property
    def name(self) -> str:
        """A text that tells this reader from others."""
        return f"{weights_fingerprint(self.model)} from {self.start} by {self.mark}"

    @classmethod
    def of(
        cls, model: Transformer, own: BPETokenizer, tokenizer: BPETokenizer
    ) -> "Reader":
        """Return a reader of texts that are made of another tokenizer's ids.

        Args:
            model: The language model.
            own: Its tokenizer.
            tokenizer: The texts', which has the same tokens; those of conversations
                may be missing in the reader's.

        Raises:
            ValueError: If there are other differences.
        """
        wanted, there = dict(tokenizer.special_tokens), own.special_tokens
        for name in CHAT_TOKENS:
            if name not in there:
                wanted.pop(name, None)
        same = ("merges", "vocab", "pattern")
        unlike = [n for n in same if getattr(own, n) != getattr(tokenizer, n)]
        if unlike or wanted != there:
            raise ValueError(
                "the reader must have the tokens of who is told, but for those of "
                f"conversations; other {', '.join(unlike) or 'special tokens'}: "
                f"it has {own.vocab_size} tokens of {tokenizer.vocab_size}"
            )
        chat = has_chat_tokens(tokenizer)
        return cls(
            model=model,
            start=tokenizer.special_tokens["<|assistant|>"] if chat else None,
            mark=tokenizer.special_tokens.get(END_OF_TEXT),
        )

    @torch.no_grad()
    def surprises(
        self, ids: Int[Tensor, "batch position"]
    ) -> Float[Tensor, "batch position 3"]:
        """Return surprisal, entropy and place of each token.

        The first that is read is no surprise.

        Args:
            ids: Texts side by side; what comes later changes nothing before it. From
                the first `start` of any of them to the end there is room in the
                reader's context.

        Raises:
            ValueError: If a text has no `start`, or as `Transformer`.

        >>> from llmcourse.model.transformer import TINY
        >>> reader = Reader(model=Transformer(TINY), start=7)
        >>> told = reader.surprises(torch.tensor([[5, 7, 0, 3], [7, 6, 0, 1]]))
        >>> told.shape, told[:, :, 2].mul(100).int().tolist()
        (torch.Size([2, 4, 3]), [[0, 0, 1, 2], [0, 1, 2, 3]])
        """
        first, there = self._first(ids), torch.arange(ids.shape[1], device=ids.device)
        length = int(ids.shape[1] - first.min())
        left = there[:length] + first[:, None]  # the answers begin side by side
        told = self._read(ids.gather(1, left.clamp(max=ids.shape[1] - 1)))
        places = there - first[:, None]
        back = places.clamp(min=0).unsqueeze(-1)  # and are at their places again
        found = told.gather(1, back.expand(-1, -1, 2))
        both = torch.cat((found, back / 100), dim=-1)
        return both.where(places.unsqueeze(-1) > 0, 0.0)

    def _first(self, ids: Tensor) -> Tensor:
        """Return where the reading of each text begins (B)."""
        if self.start is None:
            return ids.new_zeros(len(ids))
        there = ids == self.start
        if (without := (~there.any(dim=1)).nonzero()).numel():
            raise ValueError(
                f"each text must have the id {self.start}, where an answer begins, got "
                f"text {int(without[0])} without"
            )
        return there.int().argmax(dim=1)

    def _read(self, answers: Tensor) -> Tensor:
        """Return surprisal and entropy of each token; of the first, zeros."""
        if self.mark is not None:
            known = answers < self.model.config.vocab_size
            if self.start is not None:
                known[:, 0] = False
            answers = answers.where(known, self.mark)
        logits = self.model(answers).float()[:, :-1]  # (B, T - 1, V)
        log_probs = logits.log_softmax(dim=-1)
        surprisal = -log_probs.gather(-1, answers[:, 1:, None]).squeeze(-1)
        both = torch.stack((surprisal, entropy(logits)), dim=-1)
        return nn.functional.pad(both, (0, 0, 1, 0))


class SurpriseEmbedding(nn.Embedding):
    """A token embedding that adds how surprising each token was to a reader.

    The reader is no part of the weights: it is neither trained nor saved with them. It
    is where they are, but keeps the type of its own.

    Args:
        table: The embedding of the tokens; its weights are shared, not copied.
        reader: Its model is copied and frozen.
        generator: Source of the first vectors; None draws from torch's global one.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> embedding = SurpriseEmbedding(model.embedding, Reader(model=model))
    >>> embedding(torch.tensor([[5, 0, 3]])).shape, embedding.surprise.weight.shape
    (torch.Size([1, 3, 64]), torch.Size([64, 3]))
    """

    def __init__(
        self,
        table: nn.Embedding,
        reader: Reader,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            table.num_embeddings, table.embedding_dim, _weight=table.weight.detach()
        )
        self.weight = table.weight
        self.surprise = nn.Linear(_N_TOLD, table.embedding_dim, bias=False)
        # A nat of surprise weighs as much as a token's vector, about.
        std = table.weight.detach().std().item()
        nn.init.normal_(self.surprise.weight, std=std, generator=generator)
        self.surprise.to(table.weight)
        frozen = copy.deepcopy(reader.model).eval().requires_grad_(False)
        self.reader = replace(reader, model=frozen.to(table.weight.device))

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "SurpriseEmbedding":
        """Change the weights, as `to` does, and take the reader to their device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.reader.model.to(self.weight.device)
        return self

    def forward(
        self, input: Int[Tensor, "batch position"]
    ) -> Float[Tensor, "batch position d_model"]:
        """Return each token's vector, with its surprise added to it."""
        tokens = super().forward(input)
        told: Tensor = self.surprise(self.reader.surprises(input).to(tokens))
        return tokens + told

    def plain(self) -> nn.Embedding:
        """Return the embedding of the tokens alone, with the same weights."""
        size = self.num_embeddings, self.embedding_dim
        table = nn.Embedding(*size, _weight=self.weight.detach())
        table.weight = self.weight
        return table


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
            see `reward_model`; None: the model reads tokens alone.

    Raises:
        ValueError: If another way of pooling is asked for.

    Source: Stiennon et al. (2020), "Learning to summarize with human feedback" (also
    the deviation of the head's first weights, 1 / √(d_model + 1)); Collobert et al.
    (2011), "Natural language processing (almost) from scratch" (the maximum over the
    positions of a text).

    >>> from llmcourse.model.transformer import TINY
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
    eval_examples: int = 256
    center_rewards_coefficient: float | int = 0.01  # see `losses.bradley_terry_loss`
    by_prompt: bool = False  # whether batches are of prompts, not of single pairs

    def __post_init__(self) -> None:
        """Raise ValueError for a value that no training can have."""
        super().__post_init__()
        if not self.center_rewards_coefficient >= 0:
            raise ValueError(
                "center_rewards_coefficient must not be negative, "
                f"got {self.center_rewards_coefficient}"
            )


def train_reward_model(
    model: RewardModel,
    pairs: Sequence[TokenizedPair],
    valid: Sequence[TokenizedPair],
    config: RewardConfig,
    generator: torch.Generator,
    *,
    run: Run = Run(),
) -> History:
    """Train a reward model in place; return the losses, in nats per pair.

    Metrics are as in `pairs.train_on_pairs`. The loss includes the
    centring term; by prompt, an update's is the mean over prompts of the mean over
    their pairs, and that of an evaluation still the mean over pairs.

    Args:
        model: Changed in place where it is not frozen.
        pairs: What to learn.
        valid: Held-out pairs.
        config: How long and how fast.
        generator: Decides the order of the pairs, or prompts.
        run: Where the training is saved, and who follows it.

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
    objective = f"Bradley-Terry{pooled}{told}"
    recipe = pairs_recipe(pairs, valid, model.config, config, generator, objective)
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
        losses = [
            bradley_terry_loss(c, r, config.center_rewards_coefficient) for c, r in each
        ]
        return Comparison(torch.stack(losses).mean(), chosen - rejected)

    return train_on_pairs(
        model,
        rows,
        [PromptPairs((pair,)) for pair in valid],  # `eval_examples` counts pairs
        compare,
        config,
        generator,
        recipe=recipe,
        run=run,
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


@torch.no_grad()
def rewards_of(
    model: RewardModel, texts: Sequence[Int[Tensor, "_"]], batch_size: int = 32
) -> Float[Tensor, "text"]:
    """Return the reward of any number of texts, without unit and in their order.

    Args:
        model: Reads them.
        texts: Each a prompt with its answer, as ids.
        batch_size: Texts read side by side.

    Raises:
        ValueError: If a batch has no texts, as `pad_texts`, or as `RewardModel`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    lengths = torch.tensor([len(text) for text in texts])
    order = lengths.argsort(stable=True).tolist()
    rewards = torch.empty(len(texts))
    for start in range(0, max(1, len(order)), batch_size):
        part = order[start : start + batch_size]
        ids, last = pad_texts([texts[number] for number in part])
        device = model.head.weight.device
        rewards[part] = model(ids.to(device), last.to(device)).float().cpu()
    return rewards


def pair_rewards(
    model: RewardModel, pairs: Sequence[TokenizedPair], batch_size: int = 32
) -> tuple[Float[Tensor, "pair"], Float[Tensor, "pair"]]:
    """Return the rewards of the chosen answers, and of the rejected ones.

    Arguments and errors as `rewards_of`.
    """
    texts = [text for pair in pairs for text in pair.texts()]
    rewards = rewards_of(model, texts, batch_size)
    return rewards[::2], rewards[1::2]


def centre(
    model: RewardModel, texts: Sequence[Int[Tensor, "_"]], batch_size: int = 32
) -> None:
    """Move the zero of the rewards, so that the mean over some texts is zero.

    Differences of rewards, and so all preferences, stay as they are.

    Args:
        model: Changed in place.
        texts: The reference: what the policy writes before it is trained, say.
        batch_size: Texts read side by side.

    Raises:
        ValueError: As `rewards_of`.
    """
    model.offset += rewards_of(model, texts, batch_size).double().mean()


def text_reward(
    model: RewardModel,
    tokenizer: BPETokenizer,
    *,
    chat: bool = False,
    batch_size: int = 32,
) -> Callable[[Sequence[str], Sequence[str]], Float[Tensor, "text"]]:
    """Return the function that gives the rewards of answers to prompts, as texts.

    Every answer is read as one that has ended, and as far as the model's context goes.

    Args:
        model: Reads them.
        tokenizer: The model's.
        chat: Whether the answers are turns of conversations.
        batch_size: Texts read side by side.

    Raises:
        ValueError: When called: if there are no answers, or not as many as prompts;
            or as `rewards_of`.
    """

    def rewards(prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        ids = []
        for prompt, text in zip(prompts, texts, strict=True):
            start = tokenize_prompt(prompt, tokenizer, chat=chat)
            *answer, end = tokenize_answer(text, tokenizer, chat=chat)
            room = max(0, model.config.context_length - len(start) - 1)
            ids.append(torch.tensor([*start, *answer[:room], end]))
        return rewards_of(model, ids, batch_size)

    return rewards


RewardFunction: TypeAlias = Callable[[Sequence[str], Sequence[str]], Tensor]
"""Scores (batch,) of answers, in points, from their prompts and their texts."""


def batched(reward: Callable[[str, str], float | int]) -> RewardFunction:
    """Return a reward of many answers from that of one, such as `gold_reward`.

    >>> batched(lambda prompt, text: len(text))(["", ""], ["a", "abc"])
    tensor([1., 3.])
    """

    def scores(prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        pairs = zip(prompts, texts, strict=True)
        return torch.tensor([float(reward(prompt, text)) for prompt, text in pairs])

    return scores


class PairAccuracy(NamedTuple):
    """In what share of pairs the chosen answer is preferred, as a fraction."""

    rate: float
    interval: Interval
    n: int  # pairs


def pair_accuracy(
    model: RewardModel,
    pairs: Sequence[TokenizedPair],
    *,
    level: float | int = 0.95,
    batch_size: int = 32,
) -> PairAccuracy:
    """Return how often a reward model prefers the chosen answer, with an interval.

    A tie counts half; for the interval, ties are shared out, an odd one as an error.

    Args:
        model: Has been trained.
        pairs: Held-out ones.
        level: Of the Wilson interval, see `intervals.wilson_interval`.
        batch_size: Texts read side by side.

    Raises:
        ValueError: If there are no pairs, if a reward is not a number, or as
            `rewards_of`.
    """
    chosen, rejected = pair_rewards(model, pairs, batch_size)
    margins = chosen - rejected
    if n_odd := int(margins.isnan().sum()):
        raise ValueError(
            f"rewards must be numbers, got others in {n_odd} of {len(pairs)} pairs"
        )
    rate = share_preferred(margins)
    interval = wilson_interval(int(rate * len(pairs) + 1e-6), len(pairs), level)
    return PairAccuracy(rate, interval, len(pairs))


class ReliabilityBin(NamedTuple):
    """Pairs of which a model is about equally sure; all fractions are of one."""

    low: float  # of the predicted probability
    high: float
    n: int  # pairs
    predicted: float  # mean probability of the favoured answer
    observed: float  # share in which it was the chosen one
    interval: Interval  # of what was observed


def reliability(
    chosen: Float[Tensor, "pair"],
    rejected: Float[Tensor, "pair"],
    n_bins: int = 5,
    level: float | int = 0.95,
) -> list[ReliabilityBin]:
    """Return predicted against observed preferences, in bins of equal width.

    Of each pair the answer with the higher reward is the favoured one; it is predicted
    to be chosen with the probability σ of the difference, between 1/2 and 1. Bins
    without a pair are left out. A tie counts half.

    Args:
        chosen: Rewards of the answers that were preferred.
        rejected: Rewards of the others.
        n_bins: Between 1/2 and 1.
        level: Of the Wilson intervals.

    Raises:
        ValueError: If there are no pairs or no bins, or a reward is not a number.

    Source: Guo et al. (2017), "On calibration of modern neural networks", section 2.

    >>> chosen = torch.tensor([3.0, 3.0, 3.0, 0.0]).log()  # 3 to 1 for one of the two
    >>> [only] = reliability(chosen, torch.tensor([1.0, 1.0, 1.0, 3.0]).log(), n_bins=1)
    >>> round(only.predicted, 2), only.observed
    (0.81, 0.75)
    """
    margins = (chosen - rejected).double()
    if not len(margins) or n_bins < 1 or margins.isnan().any():
        raise ValueError(
            "wanted at least one pair, one bin and rewards that are numbers, "
            f"got {len(margins)} pairs and {n_bins} bins"
        )
    sure = margins.abs().sigmoid()
    right = (margins > 0).double() + (margins == 0).double() / 2
    place = ((sure - 0.5) * 2 * n_bins).long().clamp(max=n_bins - 1)
    bins = []
    for number in sorted(set(place.tolist())):
        here, n = place == number, int((place == number).sum())
        observed = right[here].mean().item()
        bins.append(
            ReliabilityBin(
                low=0.5 + 0.5 * number / n_bins,
                high=0.5 + 0.5 * (number + 1) / n_bins,
                n=n,
                predicted=sure[here].mean().item(),
                observed=observed,
                interval=wilson_interval(int(observed * n + 1e-6), n, level),
            )
        )
    return bins


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the mean distance of predicted and observed, as a fraction of one.

    Each bin counts as much as it has pairs. Even of a perfectly calibrated model it is
    above zero, by chance; the more bins for the same pairs, the more so.

    Raises:
        ValueError: If there are no bins.

    Source: Guo et al. (2017), equation 3.
    """
    if not bins:
        raise ValueError("a calibration error needs at least one bin, got none")
    total = sum(each.n for each in bins)
    return sum(each.n * abs(each.predicted - each.observed) for each in bins) / total
