"""How `base-llm` is made, measured and described; `training.presets` has its sizes."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import write
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import N_BY_WORD
from llmcourse.recipes.making import Making, given, in_precision, save_model, write_card
from llmcourse.text.corpus import STEPS
from llmcourse.text.documents import Document, Step
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import evaluation, parallel, pipeline, presets
from llmcourse.training.checkpoints import texts_fingerprint, weights_fingerprint
from llmcourse.training.config import StageProgress
from llmcourse.training.evaluation import TEST_SEED
from llmcourse.training.pipeline import kept_or_made
from llmcourse.training.presets import PipelineConfig

N_STORIES, N_SAMPLES = 500, 500
"""How many tales a model is measured on, and writes."""
_SAMPLE = 120  # tokens that a model of your own text writes


def configured(
    preset: str,
    *,
    seed: int = 0,
    vocab_size: int | None = None,
    layers: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    context_length: int | None = None,
    precision: str | None = None,
    base: str | None = None,
    **training: Any,
) -> PipelineConfig:
    """Return a preset with the given settings, in the precision that is fast here.

    Args:
        preset: Its name.
        seed: Of tales, weights and order.
        vocab_size: Of the tokenizer.
        layers: Of the model.
        width: Of the model; its feed-forward layers scale with it.
        heads: Of attention, each with keys and values of its own.
        context_length: Of the windows; the model reads at least as much.
        precision: Of the training.
        base: A model's folder or name, to continue from: it keeps its tokenizer and
            sizes, and learns at a tenth of the preset's rate.
        training: Fields of `PretrainingConfig`; None: the preset's.

    Raises:
        ValueError: If there is no such preset, a value is impossible, or sizes are
            given for a model that has its own.
    """
    config = presets.PRESETS[preset]
    if base is not None:
        own = given(layers=layers, width=width, heads=heads, vocab_size=vocab_size)
        if own:
            raise ValueError(
                f"{base!r} has its own {' and '.join(own)}: leave these out, or train "
                "a new model"
            )
        config = _going_on(config, base)
    sizes = config.model
    model = replace(
        sizes,
        context_length=max(sizes.context_length, context_length or 0),
        **given(
            vocab_size=vocab_size,
            n_layers=layers,
            d_model=width,
            d_ff=width and round(sizes.d_ff * width / sizes.d_model),
            n_heads=heads,
            n_kv_heads=heads,
        ),
    )
    wanted = given(context_length=context_length, **training)
    pretraining = replace(in_precision(config.pretraining, precision), **wanted)
    return replace(config, seed=seed, model=model, pretraining=pretraining)


def _going_on(config: PipelineConfig, base: str) -> PipelineConfig:
    """Return a recipe that continues from a model, at a tenth of the learning rate."""
    model = load_pretrained(base)[0].config
    training = replace(
        config.pretraining,
        learning_rate=config.pretraining.learning_rate / 10,
        context_length=min(config.pretraining.context_length, model.context_length),
    )
    return replace(
        config, model=model, pretraining=training, copying_start=False, base=base
    )


def make_base(
    config: PipelineConfig,
    run: Making,
    *,
    sources: tuple[str, ...] = (),
    documents: Iterable[Document] = (),
    steps: Iterable[Step] = STEPS,
    n_stories: int = N_STORIES,
    n_samples: int = N_SAMPLES,
) -> dict[str, Any]:
    """Pretrain a model that continues text; return how good it is.

    If several processes train together, the first writes and measures; the others
    return nothing.

    Args:
        config: The recipe.
        run: Where to write and how to report.
        sources: Paths and patterns of your own text; none: the tales.
        documents: Their contents.
        steps: How they are processed, as in `build_corpus`.
        n_stories: How many tales it is measured on.
        n_samples: How many it writes.

    Raises:
        ValueError: If the recipe cannot be followed, or the folder holds another.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    training, folder = config.pretraining, run.folder / "model"
    packed = [source for source in sources if pipeline.is_packed(source)]
    if packed and (len(sources) > 1 or config.base is not None):
        raise ValueError(
            f"{packed[0]!r} is a corpus with its own tokenizer: it cannot be joined "
            "with other text, nor be read by a model that has another"
        )
    if not sources and config.seed == TEST_SEED:
        raise ValueError(f"seed must not be that of the measured tales, {TEST_SEED}")
    if packed:
        data = pipeline.packed_data(packed[0])
    else:
        data = _data(config, run, [*documents] if sources else None, [*steps])
    if sources:
        config = pipeline.fit_recipe(config, data)
    if data.report is not None:
        run.say(f"{data.report}\n")
    run.say(
        f"{run.name}: {n_parameters(config.model):,} parameters, "
        f"{len(data.train):,} tokens of text, {training.steps:,} steps of "
        f"{training.batch_size * training.context_length:,} tokens"
    )
    saved = run.saved("pretraining", training.steps, training.eval_interval)
    trained = pipeline.run_recipe(
        config, saved, data=data, device=run.device, change=run.change
    )
    if parallel.rank() > 0:
        return {}
    save_model(trained.model, trained.tokenizer, folder)
    model, tokenizer = load_pretrained(folder)
    if sources:
        texts = [document.text for document in data.held_out]
        told = partial(run.stages, "text")
        quality = evaluation.text_loss(model, tokenizer, texts, told).to_json()
        quality["baselines"] = pipeline.baselines(data, texts)
        most = min(_SAMPLE, config.model.context_length - 1)
        quality["written"] = [
            write(model, tokenizer, seed=n, max_new_tokens=most) for n in range(3)
        ]
    else:
        quality, _ = tale_quality(
            model, tokenizer, n_stories, n_samples, TEST_SEED, run.stages
        )
    facts = run.facts() | {"n_train_tokens": len(data.train), "quality": quality}
    write_card(folder, "base", facts, name=run.name, config=config, sources=sources)
    return quality


def _data(
    config: PipelineConfig,
    run: Making,
    documents: list[Document] | None,
    steps: list[Any],
) -> pipeline.TrainingData:
    """Return the training data, from documents or tales, and keep it in the folder."""
    vocab_size, seed = config.model.vocab_size, config.seed
    made_of: dict[str, Any] = {"vocab_size": vocab_size, "seed": seed}
    if documents is None:
        made_of |= {"tales": config.n_stories, "first": [*config.first]}
        make = partial(pipeline.prepare, config, run.stages)
        return kept_or_made(run.folder, made_of, make)
    texts = (document.text for document in documents)
    made_of["texts"] = texts_fingerprint(texts)[:16]
    # A step with settings is a `functools.partial`, which has no name.
    made_of["steps"] = [getattr(s, "__name__", None) or s.keywords for s in steps]
    make = partial(pipeline.prepare_text, config, documents, run.stages, steps=steps)
    tokenizer = None
    if config.base is not None:
        model, tokenizer = load_pretrained(config.base)
        made_of["base"] = weights_fingerprint(model)[:16]
    return kept_or_made(run.folder, made_of, make, tokenizer)


def tale_quality(
    model: Transformer,
    tokenizer: BPETokenizer,
    n_stories: int,
    n_samples: int,
    seed: int,
    stages: StageProgress,
) -> tuple[dict[str, Any], list[evaluation.Sample]]:
    """Return a model's loss on new tales, with its floor, and tales that it wrote."""
    told = partial(stages, "stories read")
    quality = evaluation.tale_loss(model, tokenizer, n_stories, seed, told).to_json()
    with suppress(ValueError):  # raised if a token holds parts of two words
        n, told = min(n_stories, N_BY_WORD), partial(stages, "words weighed")
        features = evaluation.costliest_features(model, tokenizer, n, seed, told)
        quality["costliest"] = [feature._asdict() for feature in features[:5]]
    if n_samples == 0:
        return quality, []
    generator = torch.Generator().manual_seed(seed)
    told = partial(stages, "stories written")
    written = evaluation.write_samples(
        model, tokenizer, n_samples, generator=generator, progress=told
    )
    return quality | {"samples": evaluation.count_valid(written).to_json()}, written
