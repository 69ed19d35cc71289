"""How the shipped base model is made: data, tokenizer, sizes and schedule, in full.

    tales ── tokenizer ── one long array of ids ── pretraining ── base-llm

The tales never run out, so the model sees no story twice: what it learns is the
language, not the stories. `llmcourse pretrain --preset base-llm` runs this recipe.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from llmcourse.packing import END_OF_TEXT, tokenizer_fingerprint
from llmcourse.pipeline import SMALL, PipelineConfig
from llmcourse.pretraining import (
    Evaluation,
    History,
    PretrainingConfig,
    Update,
    pretrain,
)
from llmcourse.tales import generate as generate_tales
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer, TransformerConfig

TOKENIZER_STORIES = 8_000  # more do not change the merges by much
HELD_OUT_STORIES = 1_000

BASE_LLM = PipelineConfig(
    n_stories=100_000,
    model=TransformerConfig(
        vocab_size=3072,
        d_model=192,
        n_layers=5,
        n_heads=4,
        n_kv_heads=2,
        d_ff=512,
        context_length=512,
    ),
    pretraining=PretrainingConfig(
        steps=18_000,
        batch_size=4,
        context_length=256,
        learning_rate=4e-3,
        warmup_steps=200,
        eval_interval=500,
        eval_windows=64,
        precision="bfloat16",
    ),
)
"""The model that the rest of the course stands on: half an hour on two cores."""

PRESETS = {"base-llm": BASE_LLM, "small": SMALL}


@dataclass(frozen=True, kw_only=True)
class TaleData:
    """The tales as a model reads them."""

    tokenizer: BPETokenizer
    train: NDArray[np.uint16]
    valid: NDArray[np.uint16]


def prepare(config: PipelineConfig) -> TaleData:
    """Return tokenizer and token arrays of generated tales.

    The held-out tales are drawn with the next seed. With 10⁵¹ possible stories it
    would be a wonder if one of them had been in the training text.

    Raises:
        ValueError: If the vocabulary is too large for the tales or for 16-bit ids.
    """
    first = islice(_texts(config.n_stories, config.seed), TOKENIZER_STORIES)
    tokenizer = BPETokenizer.train(
        first, vocab_size=config.model.vocab_size, special_tokens=[END_OF_TEXT]
    )
    return TaleData(
        tokenizer=tokenizer,
        train=encode_all(_texts(config.n_stories, config.seed), tokenizer),
        valid=encode_all(_texts(HELD_OUT_STORIES, config.seed + 1), tokenizer),
    )


def _texts(n: int, seed: int) -> Iterable[str]:
    return (story.text for story in generate_tales(n, seed))


def encode_all(texts: Iterable[str], tokenizer: BPETokenizer) -> NDArray[np.uint16]:
    """Return the ids of all texts in one array, `<|endoftext|>` around each.

    Raises:
        ValueError: If the vocabulary does not fit into 16 bits.
    """
    if tokenizer.vocab_size > 1 << 16:
        raise ValueError(
            f"16-bit ids need a vocabulary of at most 65536, got {tokenizer.vocab_size}"
        )
    end = tokenizer.special_tokens[END_OF_TEXT]
    parts = [np.array([end], dtype=np.uint16)]
    for text in texts:
        parts.append(np.array([*tokenizer.encode(text), end], dtype=np.uint16))
    return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a recipe made."""

    model: Transformer
    tokenizer: BPETokenizer
    history: History = field(default_factory=History)


def follow(
    config: PipelineConfig,
    checkpoint_folder: str | Path | None = None,
    progress: Callable[[Update | Evaluation], None] | None = None,
    checkpoint_interval: int = 500,
) -> Trained:
    """Make the tales, the tokenizer and the model of a recipe.

    Args:
        config: The recipe.
        checkpoint_folder: As in `pretrain`: a stopped training goes on from there.
        progress: Called with each update and each evaluation.
        checkpoint_interval: Steps from one checkpoint to the next.

    Raises:
        ValueError: As `prepare` and `pretrain`.
        OSError: If a checkpoint cannot be written.
    """
    data = prepare(config)
    model = Transformer(config.model, torch.Generator().manual_seed(config.seed))
    history = pretrain(
        model,
        data.train,
        data.valid,
        config.pretraining,
        torch.Generator().manual_seed(config.seed),
        progress=progress,
        start_token=data.tokenizer.special_tokens[END_OF_TEXT],
        checkpoint_folder=checkpoint_folder,
        checkpoint_interval=checkpoint_interval,
        tokenizer=tokenizer_fingerprint(data.tokenizer),
    )
    return Trained(model=model, tokenizer=data.tokenizer, history=history)
