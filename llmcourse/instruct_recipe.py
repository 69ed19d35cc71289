"""How `instruct-llm` is made of `base-llm`: what it learns to answer, and for how long.

    instructions ─┐
                  ├── shuffled ── fine-tuning of base-llm ── instruct-llm
    plain stories ┘

Of an instruction the answers are learned, now and then all of it, and of a plain story
every token: some of them keep the model from forgetting what it was. The instructions
are of all kinds, with the wordings and the combinations of hero and plot that training
may see.

`llmcourse finetune` runs this recipe, and with `--data` the same on conversations of
your own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llmcourse.chat import CHAT_TOKENS
from llmcourse.finetuning import finetune
from llmcourse.instruct_data import INSTRUCT_LLM as INSTRUCT_LLM
from llmcourse.instruct_data import PRESETS as PRESETS
from llmcourse.instruct_data import TINY as TINY
from llmcourse.instruct_data import InstructConfig as InstructConfig
from llmcourse.instruct_data import InstructData as InstructData
from llmcourse.instruct_data import prepare as prepare
from llmcourse.instruct_data import preset as preset
from llmcourse.lora import add_lora
from llmcourse.packing import END_OF_TEXT, tokenizer_fingerprint
from llmcourse.pretrained import load_pretrained, shipped_models
from llmcourse.progress import StageProgress, TrainingProgress
from llmcourse.special_tokens import add_special_tokens
from llmcourse.tokenization import BPETokenizer
from llmcourse.training_log import History
from llmcourse.transformer import Transformer, TransformerConfig

TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
"""What gets an adapter, in a model that has it, where low-rank ones are learned."""


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


def fitted(config: InstructConfig, context_length: int) -> InstructConfig:
    """Return the recipe with conversations, in all parts, that fit a model's context.

    >>> short = fitted(INSTRUCT_LLM, 128)
    >>> [part.finetuning.context_length for part in (*short.earlier(), short)]
    [128, 128, 128]
    """
    training, first = config.finetuning, config.first
    longest = min(training.context_length, context_length)
    return replace(
        config,
        finetuning=replace(training, context_length=longest),
        first=first and fitted(first, context_length),
    )


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a recipe made; where it has adapters, they are not merged."""

    model: Transformer
    tokenizer: BPETokenizer
    history: History


@dataclass(frozen=True, kw_only=True)
class InstructMaking:
    """How a model was fine-tuned."""

    config: InstructConfig
    sizes: TransformerConfig
    n_examples: int  # learned in one pass, plain stories too
    n_tokens: int  # read in one pass
    n_targets: int  # learned in one pass
    n_learned: int  # numbers in the weights that are not frozen
    embeddings_learned: bool = False  # besides low-rank adapters, if there are any
    command: str  # that makes it again, on a command line
    n_threads: int = 1
    machine: str = ""  # in words, if it matters: what it was trained on, how long

    @property
    def is_all_ours(self) -> bool:
        """Whether a shipped model learned nothing but instructions about tales."""
        return not self.config.sources and self.config.base in shipped_models()

    @classmethod
    def of(
        cls, config: InstructConfig, data: InstructData, **rest: Any
    ) -> "InstructMaking":
        """Return how a model was made of this data."""
        return cls(
            config=config,
            n_examples=len(data.train),
            n_tokens=data.n_tokens,
            n_targets=data.n_targets,
            **rest,
        )


def follow(
    config: InstructConfig,
    checkpoint_folder: str | Path | None = None,
    progress: TrainingProgress | None = None,
    checkpoint_interval: int = 100,
    *,
    stages: StageProgress | None = None,
    data: InstructData | None = None,
    before: Sequence[TrainingProgress] = (),
) -> Tuned:
    """Make the model of a recipe, and its data if need be: one part after the other.

    Args:
        config: The recipe.
        checkpoint_folder: As in `finetune`: a stopped training goes on from there;
            the part before has a folder `first` in it.
        progress: Called with each update and each evaluation.
        checkpoint_interval: Steps from one checkpoint to the next.
        stages: As `progress` of `prepare`.
        data: What `prepare` returned, for the tokenizer of `start`.
        before: As `progress`, for each of the earlier parts; or none of them.

    Raises:
        ValueError: If `before` is of another length, or as `start`, `prepare` and
            `finetune`.
        FloatingPointError: If a loss is not finite.
        OSError: If a checkpoint cannot be written.
    """
    if before and len(before) != len(config.earlier()):
        raise ValueError(
            f"before must have a function for each of {len(config.earlier())} parts, "
            f"got {len(before)}"
        )
    if config.first is None:
        model, tokenizer = start(config)
    else:
        part = follow(
            config.first,
            None if checkpoint_folder is None else Path(checkpoint_folder, "first"),
            before[-1] if before else None,
            checkpoint_interval,
            stages=stages,
            before=before[:-1],
        )
        model, tokenizer = part.model.train(), part.tokenizer
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
        packed=config.packed,
    )
    return Tuned(model=model.eval(), tokenizer=tokenizer, history=history)
