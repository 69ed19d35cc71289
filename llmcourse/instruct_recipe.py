"""How `instruct-llm` is made of `base-llm`: what it learns to answer, and for how long.

    instructions ─┐
                  ├── shuffled ── fine-tuning of base-llm ── instruct-llm
    plain stories ┘

Of an instruction only the answer is learned, of a plain story every token: some of
them keep the model from forgetting what it was. The instructions are of all kinds, with
the wordings and the combinations of hero and plot that training may see.

`llmcourse finetune` runs this recipe, and with `--data` the same on conversations of
your own.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from llmcourse import tales
from llmcourse.chat import CHAT_TOKENS, Message
from llmcourse.conversations import read_conversations, tokenized
from llmcourse.examples import TokenizedExample
from llmcourse.finetuning import FinetuningConfig, finetune
from llmcourse.instructions import KINDS, QUESTIONS, HeldOut, examples
from llmcourse.lora import add_lora
from llmcourse.packing import END_OF_TEXT, tokenizer_fingerprint
from llmcourse.pipeline import Progress
from llmcourse.pretrained import load_pretrained
from llmcourse.special_tokens import add_special_tokens
from llmcourse.tokenization import BPETokenizer
from llmcourse.training_log import Evaluation, History, Update
from llmcourse.transformer import Transformer

TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
"""What gets an adapter, in a model that has it, where low-rank ones are learned."""

_FRAME = 5  # special tokens around one question and its answer
_HELD_OUT_SHARE = 10  # of own conversations, one of so many is held out
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class InstructConfig:
    """What is learned, on which model, and for how long."""

    base: str = "base-llm"  # a model's folder, or the name of a shipped one
    n_examples: int = 8000  # instructions, or all that `sources` hold
    n_stories: int = 800  # plain stories among them
    n_held_out: int = 200  # instructions for the loss during training
    kinds: tuple[str, ...] = KINDS  # one that is named twice is drawn twice as often
    max_tokens: int = 420  # of prompt and answer
    rank: int | None = None  # of low-rank adapters; None: all weights learn
    alpha: float | int = 32  # of the adapters
    sources: tuple[str, ...] = ()  # files of own conversations; none: instructions
    finetuning: FinetuningConfig = field(default_factory=FinetuningConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that no training can have."""
        for name, least in (("n_examples", 1), ("n_stories", 0), ("n_held_out", 1)):
            if getattr(self, name) < least:
                got = getattr(self, name)
                raise ValueError(f"{name} must be at least {least}, got {got}")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")


INSTRUCT_LLM = InstructConfig(
    n_held_out=100,
    # An answer to a question has five tokens where a story has two hundred.
    kinds=(*QUESTIONS, *QUESTIONS, "summarise", "continue", "rewrite", "write"),
    finetuning=FinetuningConfig(
        steps=900,
        batch_size=16,
        learning_rate=1e-3,
        warmup_steps=50,
        eval_interval=150,
        eval_windows=100,
        precision="bfloat16",
    ),
)
"""The model that answers: eight minutes on two cores."""

TINY = InstructConfig(
    n_examples=40,
    n_stories=4,
    n_held_out=5,
    finetuning=FinetuningConfig(
        steps=6, batch_size=4, warmup_steps=2, eval_interval=3, eval_windows=5
    ),
)
"""A few seconds: to see that everything works, not to read what the model answers."""

PRESETS = {"instruct-llm": INSTRUCT_LLM, "tiny": TINY}


def preset(name: str) -> InstructConfig:
    """Return the recipe of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def start(config: InstructConfig) -> tuple[Transformer, BPETokenizer]:
    """Return the base model, made ready to learn, and its tokenizer.

    It gets the special tokens of conversations that it lacks, and adapters if the
    config wants some. Its embedding then learns in full if there are new tokens in it,
    for adapters alone cannot teach them.

    Raises:
        ValueError: If there is no such model, or as `lora.add_lora`.
    """
    model, tokenizer = load_pretrained(config.base)
    generator = torch.Generator().manual_seed(config.seed)
    wanted = (END_OF_TEXT, *CHAT_TOKENS)
    missing = [name for name in wanted if name not in tokenizer.special_tokens]
    if missing:
        model, tokenizer = add_special_tokens(model, tokenizer, missing, generator)
    if config.rank is not None:
        names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        targets = [name for name in TARGETS if name in names]
        add_lora(model, config.rank, config.alpha, targets, generator)
        for layer in (model.embedding, model.unembedding):
            if layer is not None and missing:
                layer.requires_grad_(True)
    return model.train(), tokenizer


@dataclass(frozen=True, kw_only=True)
class InstructData:
    """What is learned, and what is held out to see how well."""

    train: list[TokenizedExample]
    valid: list[TokenizedExample]
    n_stories: int = 0  # plain ones in `train`

    @property
    def n_tokens(self) -> int:
        """Tokens that are read in one pass."""
        return sum(len(example) for example in self.train)

    @property
    def n_targets(self) -> int:
        """Tokens that are learned in one pass."""
        return sum(example.n_targets for example in self.train)


def prepare(
    config: InstructConfig, tokenizer: BPETokenizer, progress: Progress | None = None
) -> InstructData:
    """Return instructions and plain stories as a model learns from them.

    What is held out are instructions of another seed in wordings that are not learned;
    of own conversations it is every tenth one, from all of the files, and if they are
    fewer the last.

    Args:
        config: Says what, how much and of which seed.
        tokenizer: Has the special tokens, see `start`.
        progress: Called with "instructions" or "stories", how many are there, and of
            how many.

    Raises:
        ValueError: If a file holds no conversations, there are fewer than two, or one
            is too long.
    """
    if config.sources:
        found = [turns for path in config.sources for turns in read_conversations(path)]
        learned, held_out = _parted(found)
        what = tokenized(learned, tokenizer, config.finetuning.context_length)
        valid = tokenized(held_out, tokenizer, config.finetuning.context_length)
    else:
        n = config.n_examples
        what = [*_told(_ask(config, tokenizer, n), n, "instructions", progress)]
        valid = [*_ask(config, tokenizer, config.n_held_out, new=True)]
    n = config.n_stories
    stories = [
        *_told(_plain_stories(n, config.seed, tokenizer), n, "stories", progress)
    ]
    return InstructData(train=[*what, *stories], valid=valid, n_stories=n)


def _parted(
    found: list[list[Message]],
) -> tuple[list[list[Message]], list[list[Message]]]:
    """Return the conversations that are learned, and those that are held out."""
    if len(found) < 2:
        raise ValueError(
            "wanted at least 2 conversations, one to learn and one to hold out, "
            f"got {len(found)}"
        )
    held_out = found[_HELD_OUT_SHARE - 1 :: _HELD_OUT_SHARE] or found[-1:]
    kept = {id(turns) for turns in held_out}
    return [turns for turns in found if id(turns) not in kept], held_out


def _ask(
    config: InstructConfig, tokenizer: BPETokenizer, n: int, *, new: bool = False
) -> Iterator[TokenizedExample]:
    """Yield instructions, in wordings that are learned or in new ones."""
    limit = config.finetuning.context_length
    held_out: HeldOut = "phrasing" if new else False
    for example in examples(
        n,
        config.seed + new,
        kinds=config.kinds,
        held_out=held_out,
        tokenizer=tokenizer,
        max_tokens=min(config.max_tokens, limit - _FRAME),
    ):
        turns = [Message("user", example.prompt), Message("assistant", example.answer)]
        yield from tokenized([turns], tokenizer, limit)


def _plain_stories(
    n: int, seed: int, tokenizer: BPETokenizer
) -> Iterator[TokenizedExample]:
    """Yield stories as the base model has learned them, from their start to their end.

    Their seed is far from the base's own, so that they are new to it.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    for story in tales.generate(n, seed + 500_000):
        ids = [end, *tokenizer.encode(story.text), end]
        yield TokenizedExample.of_tokens(ids, [True] * len(ids))


def _told(
    items: Iterable[_Item], n: int, stage: str, progress: Progress | None
) -> Iterator[_Item]:
    """Yield the items, and tell now and then how many it has been."""
    every = max(1, n // 100)
    for number, item in enumerate(items, start=1):
        yield item
        if progress is not None and (number % every == 0 or number == n):
            progress(stage, number, n)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a recipe made; where it has adapters, they are not merged."""

    model: Transformer
    tokenizer: BPETokenizer
    history: History


def follow(
    config: InstructConfig,
    checkpoint_folder: str | Path | None = None,
    progress: Callable[[Update | Evaluation], None] | None = None,
    checkpoint_interval: int = 100,
    *,
    stages: Progress | None = None,
    data: InstructData | None = None,
) -> Tuned:
    """Make the model of a recipe, and its data if need be.

    Args:
        config: The recipe.
        checkpoint_folder: As in `finetune`: a stopped training goes on from there.
        progress: Called with each update and each evaluation.
        checkpoint_interval: Steps from one checkpoint to the next.
        stages: As `progress` of `prepare`.
        data: What `prepare` returned, for the tokenizer of `start`.

    Raises:
        ValueError: As `start`, `prepare` and `finetune`.
        FloatingPointError: If a loss is not finite.
        OSError: If a checkpoint cannot be written.
    """
    model, tokenizer = start(config)
    data = data or prepare(config, tokenizer, stages)
    history = finetune(
        model,
        data.train,
        data.valid,
        config.finetuning,
        torch.Generator().manual_seed(config.seed),
        progress=progress,
        checkpoint_folder=checkpoint_folder,
        checkpoint_interval=checkpoint_interval,
        tokenizer=tokenizer_fingerprint(tokenizer),
    )
    return Tuned(model=model.eval(), tokenizer=tokenizer, history=history)
