"""A reward model: a language model that reads an answer and says how good it is.

    prompt, answer ── the model's layers ── norm ──┬── unembedding ── next token
                                                   └── head ── reward  (at the end,
                                                       or of mean and maximum over all)

It learns from comparisons. They only determine differences, so its zero is arbitrary:
`reward_model.centre` moves it to the mean reward of some texts. Its scale is not: the
probability that an annotator prefers one answer is σ of the difference.

Source: Stiennon et al. (2020), "Learning to summarize with human feedback"; Ouyang et
al. (2022), section 3.5 (reward modeling).

    train    train_reward_model           on pairs, with the Bradley-Terry loss
    use      rewards_of, pair_rewards     of texts and pairs, as ids
             text_reward, batched         a function to train a policy on
    store    save_reward_model, load_reward_model

Training is fine-tuning on pairs, `train_on_pairs`, as in DPO: they differ in what a
pair gives, two rewards or two ratios of probabilities. Where answers occur in several
pairs, as those to one prompt do, a batch may hold all pairs of a prompt: a reward
model then reads each answer once (Ouyang et al., section 3.5).

The annotator's errors put a ceiling on the accuracy: no model can foresee them, so the
best possible is the annotator's own agreement with gold, `agreement_rate`.

A stored model is a folder that Hugging Face `transformers` can load, too::

    config.json          LlamaForSequenceClassification, one label, `reward_offset`
    model.safetensors    the layers, and `score.weight` for the head
    tokenizer.json       and the other files of any model: see `folders`

There, the reward of a text is its one logit minus `reward_offset`, which `transformers`
keeps but does not subtract; between two texts it makes no difference. `transformers`
reads the last token's vector and has no reader of surprisal (see `surprisal`). A model
with another `reward_pooling`, or with a reader, would load there and be wrong. So its
`model_type` is one of ours, which `transformers` refuses, and `base_model_type` says
what is inside. With a reader, the file also has `surprise.weight`, and `reward_reader`
gives the reader's name and a digest of its weights, to find it when the model is
loaded.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.alignment import preferences
from llmcourse.alignment.losses import Comparison, bradley_terry_loss
from llmcourse.alignment.preferences import PromptPairs, TokenizedPair
from llmcourse.alignment.surprisal import SurprisalEmbedding, SurprisalReader
from llmcourse.arguments import check_one_of, check_range
from llmcourse.finetuning.chat import has_chat_tokens
from llmcourse.finetuning.classification import without_unembedding
from llmcourse.finetuning.finetuning import FinetuningConfig, batches_of
from llmcourse.model import folders
from llmcourse.model.hugging_face import config_to_json
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import parallel
from llmcourse.training.checkpoints import Run, weights_fingerprint
from llmcourse.training.config import History, autocast
from llmcourse.training.loop import train

_AT_ONCE = 32  # texts read in one batch

POOLINGS = ("last", "mean", "mean and max")


class RewardModel(nn.Module):
    """A transformer with a head that gives one number for a text.

    It starts as a copy of a model, adapters included, and what is frozen stays frozen
    in the copy. The head's initial weights are small and random.

    Args:
        model: A pretrained or fine-tuned model; it is not changed.
        generator: Source of the head's initial weights; None draws from torch's global
            one.
        pooling: "last" reads the vector at a text's last token, "mean" the mean of
            the vectors of all its tokens, which a small model learns from few pairs,
            as it need not first learn where to look. "mean and max" takes the mean
            of the first half of the features and the maximum of the others: a single
            broken word spoils a story, but is lost in a mean.
        reader: If given, each token comes with how surprising it was to this reader,
            see `surprisal`; None: the model reads tokens alone.

    Raises:
        ValueError: If the way of pooling is unknown.

    Source: Stiennon et al. (2020), "Learning to summarize with human feedback" (also
    the deviation of the head's initial weights, 1 / √(d_model + 1)); Collobert et al.
    (2011), "Natural language processing (almost) from scratch" (the maximum over the
    positions of a text).

    >>> from llmcourse.model.transformer import TINY
    >>> reward_model = RewardModel(Transformer(TINY))
    >>> reward_model(torch.tensor([[5, 0, 3], [7, 8, 0]]), torch.tensor([2, 1])).shape
    torch.Size([2])
    """

    offset: Tensor

    def __init__(
        self,
        model: Transformer,
        generator: torch.Generator | None = None,
        pooling: str = "last",
        reader: SurprisalReader | None = None,
    ) -> None:
        super().__init__()
        check_one_of("pooling", pooling, POOLINGS)
        self.pooling = pooling
        self.body = without_unembedding(copy.deepcopy(model))
        if reader is not None:
            table = self.body.embedding
            self.body.embedding = SurprisalEmbedding(table, reader, generator)
        self.head = nn.Linear(model.config.d_model, 1, bias=False)
        std = (model.config.d_model + 1) ** -0.5
        nn.init.normal_(self.head.weight, std=std, generator=generator)
        self.head.to(model.embedding.weight)
        self.register_buffer("offset", model.embedding.weight.new_zeros(()))

    @property
    def surprise(self) -> SurprisalEmbedding | None:
        """The embedding that adds surprisal, if there is one."""
        table = self.body.embedding
        return table if isinstance(table, SurprisalEmbedding) else None

    @property
    def config(self) -> TransformerConfig:
        """Shape and sizes of the model inside."""
        return self.body.config

    def forward(
        self, ids: Int[Tensor, "batch position"], last: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        """Return the (unitless) reward of each text.

        Args:
            ids: Prompts with their answers, padded on the right with any ids.
            last: Position of each answer's last token, see `pad_texts`.

        Raises:
            ValueError: As in `Transformer` and `SurprisalReader.features`.
        """
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
    """Return texts as rows, padded with zeros, and the position where each one ends.

    Raises:
        ValueError: If there are no texts, or one is empty.

    >>> pad_texts([torch.tensor([5, 6, 7]), torch.tensor([8])])
    (tensor([[5, 6, 7],
             [8, 0, 0]]), tensor([2, 0]))
    """
    check_range(1, n_texts=len(texts))
    lengths = [len(text) for text in texts]
    check_range(1, **{"tokens of a text": min(lengths)})
    ids = nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    return ids, torch.tensor(lengths) - 1


@dataclass(frozen=True, kw_only=True)
class PairsConfig(FinetuningConfig):
    """How long and how fast a model learns from pairs: fine-tuning's settings.

    `batch_size` counts pairs or, with `by_prompt`, prompts with all of their pairs;
    `context_length` is the most tokens that prompt and answer may have together, and
    `eval_examples` the most held-out pairs to evaluate.
    """

    batch_size: int = 16
    warmup_steps: int = 10
    eval_interval: int = 20
    by_prompt: bool = False  # whether a batch is of prompts, with all their pairs


def train_on_pairs(
    model: "Transformer | RewardModel",
    pairs: Sequence[TokenizedPair],
    valid: Sequence[TokenizedPair],
    config: PairsConfig,
    generator: torch.Generator,
    compare: Callable[[Sequence[TokenizedPair]], Comparison],
    objective: str,
    *,
    run: Run,
) -> History:
    """Train a model in place to agree with the preferences; return the losses.

    Losses are in nats per pair, means over pairs. The metrics of updates and
    evaluations are "margin", the mean by which the chosen answer's reward is higher,
    and "accuracy", the share of pairs in which it is higher, ties counting half.

    Args:
        model: Changed in place where it is not frozen.
        pairs: What to learn.
        valid: Held-out pairs; `eval_examples` of them are evaluated.
        config: How long and how fast.
        generator: Decides the order of the pairs.
        compare: Makes a comparison of pairs with the current model.
        objective: The loss in words, with all that it depends on.
        run: Where to save checkpoints and report progress.

    Raises:
        ValueError: If a pair is too long or holds ids that the model does not have,
            if there are fewer pairs (with `by_prompt`, prompts) than a batch, or no
            pair held out; if the whole model is frozen; or if the folder's checkpoints
            belong to another run, or to one that began with another model.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    for part in (pairs, valid):
        preferences.check_pairs(part, model.config, config.context_length)
    seen: list[Tensor] = []
    groups: dict[object, list[TokenizedPair]] = {}  # those of a prompt, or single pairs
    for number, pair in enumerate(pairs):
        key = tuple(pair.prompt.tolist()) if config.by_prompt else number
        groups.setdefault(key, []).append(pair)
    rows = [PromptPairs(tuple(group)) for group in groups.values()]

    def loss(part: Sequence[PromptPairs]) -> Tensor:
        found = compare([pair for row in part for pair in row.pairs])
        seen.append(found.margins.detach())
        return found.loss

    def metrics() -> dict[str, float]:
        margins = torch.cat(seen).double()
        seen.clear()
        n = len(margins)
        sums = margins.new_tensor((margins.sum(), n * share_preferred(margins), n))
        margin, accuracy, n = parallel.add(sums).tolist()  # over all processes' pairs
        return {"margin": margin / n, "accuracy": accuracy / n}

    held_out = [PromptPairs((pair,)) for pair in valid]
    return train(
        model,
        *batches_of(rows, held_out, config, generator),
        loss,
        config,
        weight=lambda part: sum(len(row.pairs) for row in part),
        metrics=metrics,
        recipe={
            "model": asdict(model.config),
            "train_tokens": preferences.pairs_fingerprint(pairs),
            "valid_tokens": preferences.pairs_fingerprint(valid),
            "seed": generator.initial_seed(),
            "start": weights_fingerprint(model),  # from before the first step
            "objective": objective,
        },
        run=run,
    )


def share_preferred(margins: Float[Tensor, "pair"]) -> float:
    """Return the share of pairs with a positive margin, as a fraction; ties count half.

    >>> share_preferred(torch.tensor([0.5, -2.0, 3.0, 0.0]))
    0.625
    """
    return ((margins > 0).double() + (margins == 0).double() / 2).mean().item()


@dataclass(frozen=True, kw_only=True)
class RewardConfig(PairsConfig):
    """How long and how fast a reward model learns."""

    steps: int = 60
    learning_rate: float | int = 1e-3
    eval_examples: int = 256
    center_rewards_coefficient: float | int = 0.01  # see `losses.bradley_terry_loss`

    def __post_init__(self) -> None:
        """Raise ValueError for an impossible setting."""
        super().__post_init__()
        check_range(0, center_rewards_coefficient=self.center_rewards_coefficient)


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

    Metrics and errors are as in `train_on_pairs`; the loss includes the centring term.

    Args:
        model: Changed in place where it is not frozen.
        pairs: What to learn.
        valid: Held-out pairs.
        config: How long and how fast.
        generator: Decides the order of the pairs.
        run: Where to save checkpoints and report progress.
    """
    objective = "Bradley-Terry"
    if model.pooling != "last":
        objective += f", pooled by {model.pooling}"
    if model.surprise is not None:
        objective += f", with the surprisal of {model.surprise.reader.fingerprint}"

    def compare(batch: Sequence[TokenizedPair]) -> Comparison:
        texts, rows = _distinct([p.texts()[side] for side in (0, 1) for p in batch])
        with autocast(config.precision, model.head.weight.device):
            rewards = _read(model, texts)
        chosen, rejected = rewards.float()[rows].chunk(2)
        loss = bradley_terry_loss(chosen, rejected, config.center_rewards_coefficient)
        return Comparison(loss, chosen - rejected)

    return train_on_pairs(
        model, pairs, valid, config, generator, compare, objective, run=run
    )


def _distinct(texts: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Return the texts without duplicates, and the index of each one among these."""
    places: dict[tuple[int, ...], int] = {}
    rows = [places.setdefault(tuple(text.tolist()), len(places)) for text in texts]
    return [torch.tensor(ids) for ids in places], rows


def _read(model: RewardModel, texts: Sequence[Tensor]) -> Tensor:
    """Return the rewards of texts, read in one batch."""
    ids, last = pad_texts(texts)
    device = model.head.weight.device
    rewards: Tensor = model(ids.to(device), last.to(device))
    return rewards


@torch.no_grad()
def rewards_of(
    model: RewardModel, texts: Sequence[Int[Tensor, "_"]]
) -> Float[Tensor, "text"]:
    """Return the (unitless) rewards of any number of texts, in their order.

    Args:
        model: Reads them.
        texts: Each a prompt with its answer, as ids.

    Raises:
        ValueError: As in `pad_texts`, or as in `RewardModel`.
    """
    lengths = torch.tensor([len(text) for text in texts])
    rewards = torch.empty(len(texts))
    for part in torch.split(lengths.argsort(stable=True), _AT_ONCE):
        found = _read(model, [texts[number] for number in part.tolist()])
        rewards[part] = found.float().cpu()
    return rewards


def pair_rewards(
    model: RewardModel, pairs: Sequence[TokenizedPair]
) -> tuple[Float[Tensor, "pair"], Float[Tensor, "pair"]]:
    """Return the rewards of the chosen answers, and of the rejected ones.

    An answer that occurs in several pairs is read once. Errors as in `rewards_of`.
    """
    texts, rows = _distinct([text for pair in pairs for text in pair.texts()])
    rewards = rewards_of(model, texts)[rows]
    return rewards[::2], rewards[1::2]


def centre(model: RewardModel, texts: Sequence[Int[Tensor, "_"]]) -> None:
    """Move the zero of the rewards, so that the mean over some texts is zero.

    Differences of rewards, and so all preferences, stay as they are.

    Args:
        model: Changed in place.
        texts: The reference, such as what the policy writes before training.

    Raises:
        ValueError: As in `rewards_of`.
    """
    model.offset += rewards_of(model, texts).double().mean()


RewardFunction: TypeAlias = Callable[[Sequence[str], Sequence[str]], Tensor]
"""Scores (batch,) of answers, from their prompts and their texts: gold in points, a
reward model's unitless."""


def text_reward(model: RewardModel, tokenizer: BPETokenizer) -> RewardFunction:
    """Return a function that gives the rewards of answers to prompts, as texts.

    Every answer is read as if complete, as far as the model's context goes.

    Args:
        model: Reads them.
        tokenizer: The model's.

    Raises:
        ValueError: When called: if there are no answers, or not as many as prompts;
            or as in `rewards_of`.
    """

    def rewards(prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        ids = []
        for prompt, text in zip(prompts, texts, strict=True):
            start = preferences.prompt_of(prompt, tokenizer).ids
            room = model.config.context_length - len(start)
            answer = preferences.tokenize_answer(text, tokenizer, room)
            ids.append(torch.tensor([*start, *answer]))
        return rewards_of(model, ids)

    return rewards


def batched(reward: Callable[[str, str], float | int]) -> RewardFunction:
    """Turn a reward of one answer, such as `gold_reward`, into a reward of many.

    >>> batched(lambda prompt, text: len(text))(["", ""], ["a", "abc"])
    tensor([1., 3.])
    """

    def scores(prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        pairs = zip(prompts, texts, strict=True)
        return torch.tensor([float(reward(prompt, text)) for prompt, text in pairs])

    return scores


_HEAD = "score.weight"
_SURPRISE = "surprise.weight"
_OWN_TYPE = "llmcourse_reward_model"  # which `transformers` does not know


def save_reward_model(
    model: RewardModel,
    tokenizer: BPETokenizer,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write reward model and tokenizer into a folder: all files, or none.

    In `transformers`, batches of conversations can be padded with `<|endoftext|>`.
    Stories must be read one at a time: they end with this token, and `transformers`
    would take it for padding and read the reward before it.

    Args:
        model: The reward model.
        tokenizer: The model's.
        folder: Created if missing.
        dtype: Of the weights in the file; half precision takes half the space.

    Raises:
        ValueError: If a reader of surprisal has no name, or if none or a different one
            is found by that name; or as in `save_pretrained`.
        OSError: If a file cannot be written.
    """
    kind = config_to_json(model.config)["model_type"]
    names = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gpt2": "GPT2"}
    settings: dict[str, Any] = {
        "architectures": [f"{names[kind]}ForSequenceClassification"],
        "num_labels": 1,
        "id2label": {"0": "reward"},
        "label2id": {"reward": 0},
        "tie_word_embeddings": True,  # no unembedding: it loads here as a plain model
        "reward_offset": model.offset.item(),
        "reward_pooling": model.pooling,
    }
    if has_chat_tokens(tokenizer):
        settings["pad_token_id"] = tokenizer.special_tokens[END_OF_TEXT]
    if model.pooling != "last" or model.surprise is not None:
        settings["model_type"] = _OWN_TYPE
        settings["base_model_type"] = kind
    body = model.body
    if model.surprise is not None:
        who = model.surprise.reader
        settings["reward_reader"] = {
            "name": who.name,
            "sha256": weights_fingerprint(who.model),
            "start": who.start,
            "mark": who.mark,
        }
        _reader(settings["reward_reader"])  # to fail now rather than when it is loaded
        body = without_unembedding(body)
        table = model.surprise.weight.detach()
        body.embedding = nn.Embedding(len(table), table.shape[1], _weight=table)
    heads = _heads(model)
    folders.save_pretrained(
        body, tokenizer, folder, dtype, settings=settings, heads=heads
    )


def load_reward_model(name_or_path: str | Path) -> tuple[RewardModel, BPETokenizer]:
    """Return the reward model and the tokenizer of a folder.

    Args:
        name_or_path: A folder as `save_reward_model` writes it, or as `transformers`
            writes a sequence classifier with one label; or a shipped model's name.

    Raises:
        ValueError: If there is no head for one number, if the offset is no number, if
            the pooling is unknown, if its reader is not the one from training, or as in
            `folders.load_pretrained`.
        OSError: If a file cannot be read.
    """
    folder = folders.find_model(name_or_path)
    recorded = folders.read_json(folder / "config.json").get("reward_reader")
    heads = [_HEAD] if recorded is None else [_HEAD, _SURPRISE]
    found = folders.read_folder(folder, heads)
    offset = found.settings.get("reward_offset", 0.0)
    if not isinstance(offset, int | float) or not math.isfinite(offset):
        raise ValueError(f"reward_offset must be a number, got {offset!r}")
    pooling = found.settings.get("reward_pooling", "last")
    reader = None if recorded is None else _reader(recorded)
    model = RewardModel(found.model, torch.Generator(), pooling, reader)
    with torch.no_grad():
        for name, weight in _heads(model).items():
            stored, wanted = tuple(found.heads[name].shape), tuple(weight.shape)
            if stored != wanted:
                raise ValueError(f"{name} must have the shape {wanted}, got {stored}")
            weight.copy_(found.heads[name])
        model.offset.fill_(offset)
    return model.eval(), found.tokenizer


def _heads(model: RewardModel) -> dict[str, Tensor]:
    """Return the weights that a language model lacks, by their names in the file."""
    heads: dict[str, Tensor] = {_HEAD: model.head.weight}
    if model.surprise is not None:
        heads[_SURPRISE] = model.surprise.surprise.weight
    return heads


def _reader(recorded: Any) -> SurprisalReader:
    """Return the reader whose surprisals a reward model gets."""
    match recorded:
        case {
            "name": str(name),
            "sha256": str(digest),
            "start": int() | None as start,
            "mark": int() | None as mark,
        }:
            reader, _ = folders.load_pretrained(name)
        case _:
            raise ValueError(
                "reward_reader must have a name, a sha256, a start and a mark, got "
                f"{recorded!r}"
            )
    if (found := weights_fingerprint(reader)) != digest:
        raise ValueError(
            f"the reward model was trained with a reader {name!r} whose weights have "
            f"the digest {digest[:8]}…, got one with {found[:8]}…"
        )
    return SurprisalReader(model=reader, name=name, start=start, mark=mark)
