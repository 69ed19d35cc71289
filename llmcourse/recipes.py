"""How the shipped base model is made: data, tokenizer, sizes and schedule, in full.

    tales ── tokenizer ── one long array of ids ── pretraining ── base-llm

The tales never run out, so the model sees no story twice: what it learns is the
language, not the stories. `llmcourse pretrain --preset base-llm` runs this recipe, and
with `--data` the same on text of your own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from llmcourse.corpus import build_corpus, tales
from llmcourse.documents import Document, Report
from llmcourse.packing import END_OF_TEXT, end_of_text, tokenizer_fingerprint
from llmcourse.pipeline import (
    SMALL,
    PipelineConfig,
    check_held_out,
    split_or_cut,
    token_array,
)
from llmcourse.pretraining import History, PretrainingConfig, pretrain
from llmcourse.progress import StageProgress, TrainingProgress, telling
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer, TransformerConfig

TOKENIZER_STORIES = 8_000  # more do not change the merges by much
HELD_OUT_STORIES = 1_000

BASE_LLM = PipelineConfig(
    n_stories=100_000,
    model=TransformerConfig(
        vocab_size=3072,
        d_model=256,
        n_layers=3,
        n_heads=8,
        n_kv_heads=8,
        d_ff=544,
        context_length=512,
    ),
    pretraining=PretrainingConfig(
        steps=16_000,
        batch_size=4,
        context_length=288,  # longer than any tale
        learning_rate=3e-3,
        embedding_speed=4,
        warmup_steps=100,
        eval_interval=1000,
        eval_windows=100,
        precision="bfloat16",
    ),
    copying_start=True,
)
"""The model that the rest of the course stands on: half an hour on one core."""

TINY = PipelineConfig(
    n_stories=300,
    model=TransformerConfig(
        vocab_size=512,
        d_model=32,
        n_layers=1,
        n_heads=2,
        n_kv_heads=1,
        d_ff=64,
        context_length=512,
    ),
    pretraining=PretrainingConfig(
        steps=40,
        batch_size=4,
        context_length=64,
        learning_rate=1e-2,
        warmup_steps=4,
        eval_interval=10,
        eval_windows=8,
    ),
)
"""A few seconds: to see that everything works, not to read what the model writes."""

PRESETS = {"base-llm": BASE_LLM, "small": SMALL, "tiny": TINY}


def preset(name: str) -> PipelineConfig:
    """Return the recipe of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A text as a model reads it."""

    tokenizer: BPETokenizer
    train: NDArray[np.uint16]
    valid: NDArray[np.uint16]
    start_token: int | None  # where windows begin; None: anywhere
    held_out: tuple[Document, ...] = ()  # of own text: what `valid` is made of
    report: Report | None = None  # of own text: what cleaning removed


def prepare(
    config: PipelineConfig, progress: StageProgress | None = None
) -> TrainingData:
    """Return tokenizer and token arrays of generated tales.

    The held-out tales are drawn with the next seed. With 10⁵¹ possible stories it
    would be a wonder if one of them had been in the training text.

    Args:
        config: Says how many tales, of which seed, and the size of the vocabulary.
        progress: Called with "tales", how many are encoded, and of how many.

    Raises:
        ValueError: If the vocabulary is too large for the tales or for 16-bit ids.
    """
    n, seed = config.n_stories, config.seed
    tokenizer = _train_tokenizer(islice(tales(n, seed), TOKENIZER_STORIES), config)
    told = telling(tales(n, seed), n, "tales", progress)
    return TrainingData(
        tokenizer=tokenizer,
        train=token_array(told, tokenizer, np.uint16),
        valid=token_array(tales(HELD_OUT_STORIES, seed + 1), tokenizer, np.uint16),
        start_token=end_of_text(tokenizer),
    )


def prepare_text(config: PipelineConfig, documents: Iterable[Document]) -> TrainingData:
    """Return tokenizer and token arrays of any text, cleaned, a part of it held out.

    Windows begin anywhere, for of a long document they would else never reach the end.

    Args:
        config: Says the size of the vocabulary and the length of the windows.
        documents: The raw text.

    Raises:
        ValueError: If there is too little text for the vocabulary or the windows, or
            if the vocabulary is too large for 16-bit ids.
    """
    kept, report = build_corpus(documents)
    splits = split_or_cut(kept)
    held_out = (*splits["validation"], *splits["test"])
    tokenizer = _train_tokenizer(splits["train"], config)
    train = token_array(splits["train"], tokenizer, np.uint16)
    valid = token_array(held_out, tokenizer, np.uint16)
    check_held_out(len(valid), config.pretraining.context_length)
    return TrainingData(
        tokenizer=tokenizer,
        train=train,
        valid=valid,
        start_token=None,
        held_out=held_out,
        report=report,
    )


def _train_tokenizer(
    documents: Iterable[Document], config: PipelineConfig
) -> BPETokenizer:
    return BPETokenizer.train(
        (document.text for document in documents),
        vocab_size=config.model.vocab_size,
        special_tokens=[END_OF_TEXT],
    )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a recipe made."""

    model: Transformer
    tokenizer: BPETokenizer
    history: History = field(default_factory=History)


def follow(
    config: PipelineConfig,
    checkpoint_folder: str | Path | None = None,
    progress: TrainingProgress | None = None,
    checkpoint_interval: int = 500,
    *,
    data: TrainingData | None = None,
) -> Trained:
    """Make the model of a recipe, and its data if need be.

    Args:
        config: The recipe.
        checkpoint_folder: As in `pretrain`: a stopped training goes on from there.
        progress: Called with each update and each evaluation.
        checkpoint_interval: Steps from one checkpoint to the next.
        data: What `prepare` or `prepare_text` returned; if not given, tales are
            prepared.

    Raises:
        ValueError: As `prepare` and `pretrain`.
        OSError: If a checkpoint cannot be written.
    """
    data = data or prepare(config)
    model = config.new_model()
    history = pretrain(
        model,
        data.train,
        data.valid,
        config.pretraining,
        torch.Generator().manual_seed(config.seed),
        progress=progress,
        start_token=data.start_token,
        checkpoint_folder=checkpoint_folder,
        checkpoint_interval=checkpoint_interval,
        tokenizer=tokenizer_fingerprint(data.tokenizer),
    )
    return Trained(model=model, tokenizer=data.tokenizer, history=history)
