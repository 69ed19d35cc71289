"""From documents to a trained model: data, tokenizer and training.

    documents ── corpus ── tokenizer ── token arrays ── pretraining ── model ── text

`run` takes text through every stage, small enough for a minute on one core; the chapter
*pipeline* walks through the same stages one by one. `run_recipe` makes the model of a
recipe such as `base-llm`, which sees no story twice, so what it learns is the language,
not the stories. The command for it is `llmcourse pretrain --preset base-llm`; with
`--data` it trains on text of your own.

The data of a run is kept with it, so that a stopped run resumes at once: cleaning and
tokenizing 100 MB takes minutes, reading the ids a moment.

    FOLDER/prepared/tokenizer.json
    FOLDER/prepared/tokens.safetensors    ids, held-out texts, what they were made from
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import nn

from llmcourse.arguments import check_range
from llmcourse.model.costs import PeakMemory
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.text import packing
from llmcourse.text.corpus import PROGRESS, STEPS, build_corpus, split
from llmcourse.text.documents import Document, Report, Step, tales
from llmcourse.text.grammar import Story
from llmcourse.text.ngrams import NGramModel, compressed_bits_per_byte
from llmcourse.text.tales import Estimate, entropy_per_token, generate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import checkpoints, parallel
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import (
    History,
    Record,
    StageProgress,
    Update,
    report_progress,
)
from llmcourse.training.evaluation import text_loss
from llmcourse.training.losses import bits_per_byte
from llmcourse.training.presets import SMALL, PipelineConfig
from llmcourse.training.pretraining import pretrain

TOKENIZER_STORIES = 8_000  # more do not change the merges by much
HELD_OUT_STORIES = 1_000


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A text as a model reads it."""

    tokenizer: BPETokenizer
    train: NDArray[np.unsignedinteger] | packing.Shards
    valid: NDArray[np.unsignedinteger] | packing.Shards
    start_token: int | None  # where windows begin; None: anywhere
    held_out: tuple[Document, ...] = ()  # of your own text: what `valid` is made from
    report: Report | None = None  # of your own text, if new: what cleaning removed


def prepare(
    config: PipelineConfig, progress: StageProgress | None = None
) -> TrainingData:
    """Return the tokenizer and token arrays of generated tales.

    The held-out tales are drawn with the next seed. With 10⁵¹ possible stories, it
    would be a miracle if one of them were also in the training text.

    Args:
        config: Sets the number of tales, their seed, and the size of the vocabulary.
        progress: Called with "tales", how many are encoded, and of how many.

    Raises:
        ValueError: If the vocabulary is too large for the tales or for 16-bit ids.
    """
    n, seed = config.n_stories, config.seed
    tokenizer = _train_tokenizer(islice(tales(n, seed), TOKENIZER_STORIES), config)
    tracked = report_progress(curriculum(config), n, "tales", progress)
    return TrainingData(
        tokenizer=tokenizer,
        train=token_array(tracked, tokenizer, np.uint16),
        valid=token_array(tales(HELD_OUT_STORIES, seed + 1), tokenizer, np.uint16),
        start_token=packing.end_of_text(tokenizer),
    )


_FIRST_PART = 1 / 12  # of the tales, in which those with chosen lines become fewer


def curriculum(config: PipelineConfig) -> Iterator[Document]:
    """Yield the tales of a recipe, in the order in which they are trained on.

    The first tale must have one of the lines in `config.first`, filled with its own
    facts; the chance that a tale must have one falls to zero over the first twelfth,
    and all other tales are as they come. So a model meets first what few tales ask
    for. In trials, one run each, it then learned what it did not learn otherwise.

    Args:
        config: Sets the number of tales, their seed, and the lines to begin with.
    """
    rng = random.Random(config.seed)
    drawn = generate(1 << 62, config.seed)  # as many as are asked for
    for number in range(config.n_stories):
        chance = 1 - number / (_FIRST_PART * config.n_stories)
        wanted = config.first if rng.random() < chance else ()
        story = next(s for s in drawn if not wanted or _has_line(s, wanted))
        yield Document(story.text, name=f"tales/{config.seed}/{number}")


def _has_line(story: Story, lines: Iterable[str]) -> bool:
    """Return whether a story has one of these lines, filled with its own facts."""
    facts = defaultdict(str, story.facts)
    return any(line.format_map(facts) in story.text for line in lines)


def prepare_text(
    config: PipelineConfig,
    documents: Iterable[Document],
    progress: StageProgress | None = None,
    *,
    from_starts: bool = False,
    steps: Iterable[Step] = STEPS,
) -> TrainingData:
    """Return the tokenizer and token arrays of any text, cleaned and partly held out.

    A short text gets a smaller vocabulary, as large as it can fill: see `fit_recipe`.

    Args:
        config: Sets the size of the vocabulary, or the model whose tokenizer it is.
        documents: The raw text.
        progress: Called with "corpus", "tokenizer" or "tokens", how much of it is done,
            and of how much.
        from_starts: Whether windows begin with a document. Otherwise they begin
            anywhere, since starts alone would miss the rest of a long document.
        steps: What is done to the text, as in `build_corpus`.

    Raises:
        ValueError: If no text is left to learn from.
    """
    steps = [*steps]
    tracked = report_progress(steps, len(steps), "corpus", progress)
    kept, report = build_corpus(documents, tracked)
    splits = split_or_cut(kept)
    texts, n = splits["train"], len(splits["train"])
    learned = report_progress(texts, n, "tokenizer", progress)
    tokenizer = _train_tokenizer(learned, config, allow_fewer=True)
    held_out = (*splits["validation"], *splits["test"])
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    encoded = report_progress(texts, n, "tokens", progress)
    train = token_array(encoded, tokenizer, dtype)
    valid = token_array(held_out, tokenizer, dtype)
    return TrainingData(
        tokenizer=tokenizer,
        train=train,
        valid=valid,
        start_token=packing.end_of_text(tokenizer) if from_starts else None,
        held_out=held_out,
        report=report,
    )


def is_packed(folder: str | Path) -> bool:
    """Return whether a folder holds a corpus that `llmcourse corpus` has written.

    Raises:
        ValueError: If it holds only part of one, which cannot be learned from.
    """
    if (Path(folder) / PROGRESS).is_file():
        raise ValueError(
            f"{str(folder)!r} holds a corpus that was not finished: go on with "
            "`llmcourse corpus … --stream --resume`"
        )
    lacks = [name for name in _PACKED if not (Path(folder) / name).is_file()]
    if lacks and not {*_PACKED[:2]} <= {*lacks}:
        raise ValueError(
            f"{str(folder)!r} holds a corpus without {', '.join(lacks)}: it was not "
            "finished, or has too little text to hold out"
        )
    return not lacks


_PACKED = ("train.bin", "validation.bin", "tokenizer.json")
_HELD_OUT_TOKENS = 300_000  # of a packed corpus, to evaluate on


def packed_data(folder: str | Path) -> TrainingData:
    """Return a corpus that `llmcourse corpus` has written, mapped into memory.

    It may be larger than memory. Models are evaluated on the first of its held-out
    documents.

    Raises:
        ValueError: If a file is damaged, or from another tokenizer.
    """
    folder = Path(folder)
    tokenizer = BPETokenizer.load(folder / "tokenizer.json")
    arrays = [folder / name for name in _PACKED[:2]]
    train, valid = (packing.load_tokens(path, tokenizer) for path in arrays)
    ids = valid[:_HELD_OUT_TOKENS]
    parts = np.split(ids, np.flatnonzero(ids == packing.end_of_text(tokenizer)))
    whole = parts[:-1] or parts  # the last one is cut, also if it is the only one
    texts = [tokenizer.decode(p.tolist(), skip_special_tokens=True) for p in whole]
    return TrainingData(
        tokenizer=tokenizer,
        train=train,
        valid=valid,
        start_token=None,
        held_out=tuple(map(Document, texts)),
    )


def split_or_cut(documents: Sequence[Document]) -> dict[str, list[Document]]:
    """Return the parts of a text: split by document, or, if those are too few, cut.

    One long file falls on one side of any split. If training or validation would be
    left with less than a hundredth of the text, each document's last twentieth is
    held out instead.

    Args:
        documents: What `build_corpus` kept.
    """
    splits = split(documents)
    sizes = {name: sum(len(d.text) for d in part) for name, part in splits.items()}
    if min(sizes["train"], sizes["validation"]) * 100 >= sum(sizes.values()):
        return splits
    pairs = [_cut(document) for document in documents]
    train, validation = ([pair[i] for pair in pairs if pair[i].text] for i in (0, 1))
    return {"train": train, "validation": validation, "test": []}


def _cut(document: Document) -> tuple[Document, Document]:
    """Return a document cut in two, before a word near its last twentieth."""
    text = document.text
    least, most = len(text) * 9 // 10, len(text) * 19 // 20
    place = 1 + max(text.rfind(" ", least, most), text.rfind("\n", least, most))
    place = place or most  # no white space near
    return replace(document, text=text[:place]), replace(document, text=text[place:])


def _train_tokenizer(
    documents: Iterable[Document], config: PipelineConfig, *, allow_fewer: bool = False
) -> BPETokenizer:
    if config.base is not None:
        return load_pretrained(config.base)[1]
    return BPETokenizer.train(
        (document.text for document in documents),
        vocab_size=config.model.vocab_size,
        special_tokens=[packing.END_OF_TEXT],
        allow_fewer=allow_fewer,
    )


def fit_recipe(config: PipelineConfig, data: TrainingData) -> PipelineConfig:
    """Return the recipe adapted to your own text.

    The model has as many ids as the tokenizer, and no tales are to come first.

    Raises:
        ValueError: If too little text is held out to measure on.
    """
    window = config.pretraining.context_length + 1
    check_range(window, **{"tokens of the held-out part of the text": len(data.valid)})
    sizes = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(config, model=sizes, first=())


def token_array(
    documents: Iterable[Document], tokenizer: BPETokenizer, dtype: DTypeLike = np.int64
) -> NDArray[Any]:
    """Return the ids of the documents in one array, `<|endoftext|>` around each.

    For corpora that fit into memory; `packing.pack` writes the same to disk, except
    for the mark before the first document.

    Args:
        documents: Read one after the other.
        tokenizer: A tokenizer that has `<|endoftext|>`.
        dtype: Type of the ids; uint16 takes a quarter of int64's memory.

    Raises:
        ValueError: If the vocabulary does not fit into the type, or there is no
            `<|endoftext|>` in it.
    """
    largest = {f"largest id of type {np.dtype(dtype)}": tokenizer.vocab_size - 1}
    check_range(0, np.iinfo(dtype).max, **largest)
    end = packing.end_of_text(tokenizer)
    parts = [np.array([end], dtype=dtype)]
    for document in documents:
        parts.append(np.array([*tokenizer.encode(document.text), end], dtype=dtype))
    return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a recipe produced."""

    model: Transformer
    tokenizer: BPETokenizer
    history: History


def run_recipe(
    config: PipelineConfig,
    run: Run = Run(),
    *,
    data: TrainingData | None = None,
    device: str = "cpu",
    change: Callable[[nn.Module], None] = lambda model: None,
) -> TrainingResult:
    """Make the model of a recipe, and its data if needed.

    Args:
        config: The recipe.
        run: Where the run is saved, and who follows it, as in `pretrain`.
        data: What `prepare` or `prepare_text` returned; if not given, tales are
            prepared.
        device: Device to train on.
        change: Called with the model before it learns: `loop.checkpoint_blocks` and
            `parallel.shard` save memory, `loop.compile_model` saves time.

    Raises:
        ValueError: As in `prepare` and `pretrain`.
        OSError: If a checkpoint cannot be written.
    """
    data = data or prepare(config)
    model = config.new_model().to(device)
    change(model)
    history = pretrain(
        model,
        data.train,
        data.valid,
        config.pretraining,
        torch.Generator().manual_seed(config.seed),
        start_token=data.start_token,
        in_order=bool(config.first),
        run=replace(run, tokenizer=packing.tokenizer_fingerprint(data.tokenizer)),
    )
    model = parallel.unshard(model)
    return TrainingResult(model=model, tokenizer=data.tokenizer, history=history)


def baselines(data: TrainingData, texts: Sequence[str]) -> dict[str, float]:
    """Return the bits per byte that programs without a neural network need for texts.

    They learn from the end of the training text, as much of it as takes a few seconds.

    Args:
        data: What the model was trained on.
        texts: Held-out documents, their ends counted as in `text_loss`.
    """
    tokenizer, known = data.tokenizer, data.train[-300_000:].tolist()
    end = packing.end_of_text(tokenizer)
    ids = [id_ for text in texts for id_ in (*tokenizer.encode(text), end)]
    nats = NGramModel([known], 3, tokenizer.vocab_size).loss([ids])
    n_bytes = sum(len(text.encode()) for text in texts)
    before = tokenizer.decode(known, skip_special_tokens=True)
    bits = compressed_bits_per_byte("\n".join(texts), before, ["gzip"])
    return bits | {"trigrams": bits_per_byte(nats, len(ids), n_bytes)}


class TrainingEstimate(NamedTuple):
    """What a run takes, as far as a few steps can tell."""

    n_parameters: int
    peak_bytes: int  # of all tensors: weights, gradients, the optimizer, a batch
    seconds: float  # of all steps, without preparing text and evaluating


def estimate_training(
    config: PipelineConfig, change: Callable[[nn.Module], None] = lambda model: None
) -> TrainingEstimate:
    """Estimate what training a recipe takes, from a few steps on random tokens.

    Args:
        config: The recipe.
        change: As in `run_recipe`.

    Raises:
        ValueError: As in `pretrain`.
    """
    brisk = replace(config.pretraining, steps=8, eval_interval=8, eval_examples=1)
    generator = torch.Generator().manual_seed(config.seed)
    size = (4 * brisk.batch_size * (brisk.context_length + 1),)
    tokens = torch.randint(config.model.vocab_size, size, generator=generator).numpy()
    times: list[float] = []

    def steps(run: Run = Run()) -> Transformer:
        model = config.new_model()
        change(model)
        pretrain(model, tokens, tokens, brisk, generator, run=run)
        return model

    model = steps(Run(progress=lambda record: times.append(perf_counter())))
    with PeakMemory() as memory:  # afterwards, torch no longer compiles such a model
        steps()
    each = median(after - before for before, after in pairwise(times))
    n_parameters = sum(weight.numel() for weight in model.parameters())
    return TrainingEstimate(n_parameters, memory.peak, each * config.pretraining.steps)


@dataclass(frozen=True, kw_only=True)
class Pipeline(TrainingResult):
    """What every stage produced."""

    data: TrainingData
    floor: Estimate | None  # in nats per token; known for tales alone
    loss: float  # after training, on held-out documents, in nats per token
    bits_per_byte: dict[str, float]  # on the same, of the "model" and of `baselines`


def run(
    config: PipelineConfig = SMALL,
    documents: Iterable[Document] | None = None,
    progress: StageProgress | None = None,
    steps: Iterable[Step] = STEPS,
) -> Pipeline:
    """Take raw text through every stage, and return what each produced.

    Args:
        config: Sizes of the stages.
        documents: The raw text; generated tales if not given. Windows begin with a
            tale, since few tales are longer, but anywhere in other texts.
        progress: Called with a stage's name, how much of it is done, and of how much.
        steps: What is done to the text, as in `build_corpus`.

    Raises:
        ValueError: If the text is too short for the training.
    """
    is_tales = documents is None
    raw = tales(config.n_stories, config.seed) if documents is None else documents
    data = prepare_text(config, raw, progress, from_starts=is_tales, steps=steps)
    config = fit_recipe(config, data)

    def tell(record: Record) -> None:
        if isinstance(record, Update) and progress is not None:
            progress("pretraining", record.step, config.pretraining.steps)

    trained = run_recipe(config, Run(progress=tell), data=data)
    texts = [document.text for document in data.held_out]
    loss = text_loss(trained.model, data.tokenizer, texts[:100])
    return Pipeline(
        **vars(trained),
        data=data,
        floor=entropy_per_token(data.tokenizer, texts) if is_tales else None,
        loss=loss.loss,
        bits_per_byte={"model": loss.bits_per_byte} | baselines(data, texts[:100]),
    )


def kept_or_made(
    folder: str | Path,
    made_of: Mapping[str, Any],
    make: Callable[[], TrainingData],
    tokenizer: BPETokenizer | None = None,
) -> TrainingData:
    """Return the data kept in a run's folder, or else make it and keep it.

    Data that is damaged, or was made from something else and not yet trained on, is
    made anew. Data that is read back lacks the report of cleaning.

    Args:
        folder: The run's folder, with its `checkpoints`.
        made_of: What determines the data: names and plain values.
        make: Makes the data.
        tokenizer: The data's tokenizer; if not given, it is read from the folder.

    Raises:
        ValueError: If the folder has checkpoints of a run on other data.
        OSError: If the data cannot be written.
    """
    folder = Path(folder)
    place = folder / "prepared"
    before = {}
    # Nothing is there yet, or it is damaged.
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        state = checkpoints.read_state(place / "tokens.safetensors")
        known = tokenizer or BPETokenizer.load(place / "tokenizer.json")
        before = dict(state["made_of"])
        digest = packing.tokenizer_fingerprint(known)
        if before == made_of and digest == state["tokenizer"]:
            return TrainingData(
                tokenizer=known,
                train=state["train"].numpy(),
                valid=state["valid"].numpy(),
                start_token=state["start_token"],
                held_out=tuple(map(Document, state["held_out"])),
            )
    if before and checkpoints.checkpoint_paths(folder / "checkpoints"):
        refusal = f"{str(folder)!r} holds checkpoints of another run"
        checkpoints.check_config_matches(refusal, before, made_of)
    data = make()
    if parallel.rank() == 0:
        place.mkdir(parents=True, exist_ok=True)
        data.tokenizer.save(place / "tokenizer.json")
        state = {
            "made_of": made_of,
            "start_token": data.start_token,
            "train": torch.from_numpy(data.train[:]),
            "valid": torch.from_numpy(data.valid[:]),
            "held_out": [document.text for document in data.held_out],
            "tokenizer": packing.tokenizer_fingerprint(data.tokenizer),
        }
        checkpoints.write_state(place / "tokens.safetensors", state)
    return data
