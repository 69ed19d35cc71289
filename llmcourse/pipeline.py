"""The stages of a language model's life, one after the other, small.

    documents → corpus → tokenizer → token arrays → model → text

Each stage is a function of another module; here they are joined, with sizes that one
processor core finishes in a minute. The chapter *pipeline* walks through the same
stages one by one.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from llmcourse.corpus import build_corpus, split
from llmcourse.documents import Document, Report
from llmcourse.files import new_file
from llmcourse.generation import generate
from llmcourse.losses import cross_entropy
from llmcourse.packing import END_OF_TEXT
from llmcourse.pretrained import save_pretrained
from llmcourse.pretraining import History, PretrainingConfig, Update, pretrain
from llmcourse.sources import tales
from llmcourse.tales import Estimate, entropy_per_token
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer, TransformerConfig

STAGES_TO_COME = ("fine-tuning", "RLHF", "deployment")

Progress = Callable[[str, int, int], None]  # stage, done, of how many


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Sizes of every stage."""

    n_stories: int
    model: TransformerConfig
    pretraining: PretrainingConfig
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a corpus that cannot be split."""
        if self.n_stories < 100:
            raise ValueError(f"n_stories must be at least 100, got {self.n_stories}")


SMALL = PipelineConfig(
    n_stories=6000,
    model=TransformerConfig(
        vocab_size=2048,
        d_model=96,
        n_layers=2,
        n_heads=3,
        n_kv_heads=3,
        d_ff=256,
        context_length=384,  # longer than any tale
    ),
    pretraining=PretrainingConfig(
        steps=4000,
        batch_size=1,
        context_length=208,
        learning_rate=8e-3,
        warmup_steps=200,
        eval_interval=200,
        eval_windows=32,
    ),
)
"""A minute on one core: the sizes of the chapter *pipeline*."""


@dataclass(kw_only=True)
class Pipeline:
    """What every stage made."""

    report: Report  # of the corpus
    splits: dict[str, list[Document]]
    tokenizer: BPETokenizer
    model: Transformer
    history: History = field(default_factory=History)
    floor: Estimate | None = None  # in nats per token; known for tales alone
    loss: float = math.inf  # after training, in nats per token: `document_loss`
    before: str = ""  # what the untrained model writes
    after: str = ""  # what it writes after training


def run(
    config: PipelineConfig = SMALL,
    documents: Iterable[Document] | None = None,
    progress: Progress | None = None,
) -> Pipeline:
    """Take raw text through every stage there is, and return what each made.

    Args:
        config: Sizes of the stages.
        documents: The raw text; generated tales if not given.
        progress: Called with a stage's name, what is done of it and of how many.

    Raises:
        ValueError: If the text is too short for the tokenizer or the training.
    """

    def say(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    own_text = documents is not None
    raw = documents if documents is not None else tales(config.n_stories, config.seed)
    say("corpus", 0, 1)
    kept, report = build_corpus(raw)
    splits = split(kept)
    say("corpus", 1, 1)

    say("tokenizer", 0, 1)
    tokenizer = BPETokenizer.train(
        (document.text for document in splits["train"]),
        vocab_size=config.model.vocab_size,
        special_tokens=[END_OF_TEXT],
    )
    train, valid = (
        token_array(splits[part], tokenizer) for part in ("train", "validation")
    )
    say("tokenizer", 1, 1)

    model = Transformer(config.model, torch.Generator().manual_seed(config.seed))
    result = Pipeline(report=report, splits=splits, tokenizer=tokenizer, model=model)
    if not own_text:
        texts = [document.text for document in splits["validation"]]
        result.floor = entropy_per_token(tokenizer, texts)
    result.before = write(model, tokenizer, seed=config.seed)

    def report_update(event: object) -> None:
        if isinstance(event, Update):
            say("pretraining", event.step, config.pretraining.steps)

    result.history = pretrain(
        model,
        train,
        valid,
        config.pretraining,
        torch.Generator().manual_seed(config.seed),
        progress=report_update,
        start_token=tokenizer.special_tokens[END_OF_TEXT],
    )
    result.after = write(model, tokenizer, seed=config.seed)
    result.loss = document_loss(model, tokenizer, splits["validation"][:100])
    return result


@torch.no_grad()
def document_loss(
    model: Transformer, tokenizer: BPETokenizer, documents: Sequence[Document]
) -> float:
    """Return the loss on documents read from start to end, in nats per token.

    This is what compares with the floor: every token counts once, the end of each
    document too. Documents longer than the model's context are cut there.

    Raises:
        ValueError: If there is no document.
    """
    if not documents:
        raise ValueError("a loss needs at least one document, got none")
    total, n_tokens = 0.0, 0
    for document in documents:
        ids = token_array([document], tokenizer)[: model.config.context_length + 1]
        row = torch.from_numpy(ids)[None]  # (1, T + 1)
        logits = model(row[:, :-1])[0]  # (T, V)
        total += float(cross_entropy(logits, row[0, 1:])) * len(logits)
        n_tokens += len(logits)
    return total / n_tokens


def save(result: Pipeline, folder: str | Path) -> None:
    """Write the model and its tokenizer, the corpus report and the samples.

    Args:
        result: What `run` returned.
        folder: Created if missing; `load_pretrained` opens it.

    Raises:
        OSError: If a file cannot be written.
    """
    folder = Path(folder)
    save_pretrained(result.model, result.tokenizer, folder)
    with new_file(folder / "corpus.txt") as file:
        file.write(f"{result.report}\n".encode())
    with new_file(folder / "samples.txt") as file:
        file.write(f"before\n{result.before}\n\nafter\n{result.after}\n".encode())


def token_array(
    documents: Sequence[Document], tokenizer: BPETokenizer
) -> NDArray[np.int64]:
    """Return the ids of the documents in one array, `<|endoftext|>` around each.

    For corpora that fit into memory; `packing.pack` writes the same to disk, but for
    the mark before the first document.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    ids = [end]
    for document in documents:
        ids += [*tokenizer.encode(document.text), end]
    return np.array(ids, dtype=np.int64)


def write(
    model: Transformer,
    tokenizer: BPETokenizer,
    prompt: str = "",
    *,
    max_new_tokens: int | None = None,
    temperature: float | int = 1.0,
    seed: int = 0,
) -> str:
    """Return the text that a model writes after a prompt, up to its end.

    Args:
        model: A trained model, or an untrained one.
        tokenizer: The model's.
        prompt: How the text begins; with an empty one the model begins itself.
        max_new_tokens: The most tokens to write; what fits the model if not given.
        temperature: As in `generation.generate`.
        seed: The same seed gives the same text.

    Raises:
        ValueError: If the prompt is longer than the model's context.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    ids = torch.tensor([end, *tokenizer.encode(prompt)])
    if max_new_tokens is None:
        max_new_tokens = model.config.context_length - len(ids)
    written = generate(
        model,
        ids,
        max_new_tokens,
        temperature=temperature,
        stop=[end],
        generator=torch.Generator().manual_seed(seed),
    )
    return tokenizer.decode(written.tolist(), skip_special_tokens=True)
