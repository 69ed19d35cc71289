"""How `base-llm` is made, measured and described; `training.presets` has its sizes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from llmcourse.model.costs import n_parameters, training_flops_per_token
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import Card, Facts, Table, between, learning_rows
from llmcourse.recipes.making import Making, Recipe, given, in_precision, save_model
from llmcourse.text import tales
from llmcourse.text.documents import Document
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import pipeline, presets
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import StageProgress
from llmcourse.training.presets import PipelineConfig
from llmcourse.training.story_evaluation import (
    TEST_SEED,
    Sample,
    tale_loss,
    write_samples,
)
from llmcourse.training.text_loss import text_loss

N_STORIES, N_SAMPLES = 500, 200
"""How many tales a model is measured on, and how many it writes."""


def configured(
    preset: str,
    *,
    seed: int = 0,
    vocab_size: int | None = None,
    precision: str | None = None,
    **training: Any,
) -> PipelineConfig:
    """Return a preset with what is given instead, in the precision that is fast here.

    Args:
        preset: Its name.
        seed: Of tales, weights and order.
        vocab_size: Of the tokenizer.
        precision: Of the training.
        training: Fields of `PretrainingConfig`; None: the preset's.

    Raises:
        ValueError: If there is no such preset, or a value is impossible.
    """
    config = presets.preset(preset)
    return replace(
        config,
        seed=seed,
        model=replace(config.model, **given(vocab_size=vocab_size)),
        pretraining=replace(
            in_precision(config.pretraining, precision), **given(**training)
        ),
    )


@dataclass(kw_only=True)
class BaseRecipe(Recipe):
    """A model that continues text, pretrained on tales or on text of your own."""

    config: PipelineConfig
    sources: tuple[str, ...] = ()  # paths and patterns of own text; none: the tales
    documents: Iterable[Document] = ()  # what they hold
    n_stories: int = N_STORIES
    n_samples: int = N_SAMPLES

    def prepare(self, run: Making) -> None:
        """Encode the text."""
        if self.sources:
            self.data = pipeline.prepare_text(self.config, self.documents)
            run.say(f"{self.data.report}\n")
        else:
            self.data = pipeline.prepare(self.config, run.stages)
        training = self.config.pretraining
        run.say(
            f"{run.name}: {n_parameters(self.config.model):,} parameters, "
            f"{len(self.data.train):,} tokens of text, {training.steps:,} steps of "
            f"{training.batch_size * training.context_length:,} tokens"
        )

    def train(self, run: Making) -> None:
        """Pretrain from random weights."""
        training = self.config.pretraining
        progress = run.training("pretraining", run.folder / "log.jsonl", training.steps)
        saved = Run(
            folder=run.folder / "checkpoints",
            interval=training.eval_interval,
            progress=progress,
        )
        trained = pipeline.follow(self.config, saved, data=self.data)
        save_model(trained.model, trained.tokenizer, run.folder / "model")

    def measure(self, run: Making) -> dict[str, Any]:
        """Return the loss, and how many of the model's own stories are valid."""
        model, tokenizer = load_pretrained(run.folder / "model")
        if self.sources:
            texts = [document.text for document in self.data.held_out]
            return text_quality(model, tokenizer, texts, run.stages)
        n, n_samples = self.n_stories, self.n_samples
        return tale_quality(model, tokenizer, n, n_samples, TEST_SEED, run.stages)[0]

    def facts(self) -> dict[str, Any]:
        """Return the size of the text."""
        return {"n_train_tokens": len(self.data.train)}

    def cards(self, name: str, facts: Facts) -> Mapping[str, Card]:
        """Return the model's card."""
        return {"model": base_card(name, self.config, facts, self.sources)}


def text_quality(
    model: Transformer, tokenizer: BPETokenizer, texts: list[str], stages: StageProgress
) -> dict[str, Any]:
    """Return a model's loss on any texts."""
    return text_loss(model, tokenizer, texts, lambda *at: stages("text", *at)).to_json()


def tale_quality(
    model: Transformer,
    tokenizer: BPETokenizer,
    n_stories: int,
    n_samples: int,
    seed: int,
    stages: StageProgress,
) -> tuple[dict[str, Any], tuple[Sample, ...]]:
    """Return a model's loss on fresh tales with its floor, and tales of its own."""
    loss = tale_loss(
        model, tokenizer, n_stories, seed, lambda *at: stages("stories read", *at)
    )
    if n_samples == 0:
        return loss.to_json(), ()
    written = write_samples(
        model,
        tokenizer,
        n_samples,
        generator=torch.Generator().manual_seed(seed),
        progress=lambda *at: stages("stories written", *at),
    )
    return loss.to_json() | {"samples": written.to_json()}, written.samples


def loss_table(quality: Facts) -> Table:
    """Return a model's loss, its gap to the floor and its valid stories."""
    rows = [
        ("loss", f"{quality['loss']:.4f} nats/token"),
        ("perplexity", f"{quality['perplexity']:.3f}"),
        ("bits per byte", f"{quality['bits_per_byte']:.4f}"),
    ]
    if "floor" in quality:
        gap, excess = quality["paired_gap"], quality["excess_per_story"]
        rows += [
            ("floor", f"{quality['floor']['value']:.4f} nats/token"),
            (
                "gap to the floor",
                f"{gap['value']:.2%} ± {gap['standard_error']:.2%}, "
                f"{excess['value']:.2f} ± {excess['standard_error']:.2f} nats/story",
            ),
        ]
    if samples := quality.get("samples"):
        right = f"{samples['n_valid']} of {samples['n']} {between(samples['interval'])}"
        rows.append(("valid stories at temperature 1", right))
    return Table(("measure", "value"), rows)


def base_card(
    name: str, config: PipelineConfig, facts: Facts, sources: tuple[str, ...] = ()
) -> Card:
    """Return a base model's card.

    Args:
        name: Of the model, such as "base-llm".
        config: Its recipe.
        facts: As `making.make` writes them into `card.json`.
        sources: Paths and patterns of own text; none: the tales.
    """
    sizes, training, n_tokens = (
        config.model,
        config.pretraining,
        facts["n_train_tokens"],
    )
    kind = {"llama": "Llama", "gpt2": "GPT-2"}[sizes.family]
    quality = facts["quality"]
    what = "documents that it has not seen" if sources else "stories of another seed"
    data = (
        f"{config.n_stories:,} short English stories, {n_tokens:,} tokens, written by "
        f"the grammar `llmcourse.text.tales` with seed {config.seed}.\nNo text of any "
        "person or from the web is in it.\nThe probability of each story is known "
        "exactly, and so is the lowest loss that any model can reach."
    )
    limits = (
        "It knows the small world of its stories and nothing else: 2,000 of them use "
        f"{_n_words():,} different words.\nIt sometimes mixes up names and things "
        "between the beginning and the end of a story.\nIt was trained on one story "
        f"at a time, of {training.context_length} tokens at most, and has not learned "
        "to go on beyond its end.\nIt is made for learning how language models work, "
        "for no other use."
    )
    licence = "MIT, as the package: weights, tokenizer and the stories it learned from."
    if sources:
        data = (
            f"{n_tokens:,} tokens of text from {', '.join(f'`{s}`' for s in sources)}, "
            "cleaned and rid of copies; a part was held out."
        )
        limits = (
            f"It was trained on windows of {training.context_length} tokens of one "
            "collection, and knows nothing else.\nWhat it says is no statement of "
            "fact, and it may repeat what it has read, word for word."
        )
        licence = "The licences of the texts above decide."
    return Card(
        name=name,
        summary=(
            f"A language model of {n_parameters(sizes):,} parameters, a small {kind}, "
            "pretrained from random weights in the course *Large Language Models "
            "Explained*.\nIt continues text; it has not been taught to follow "
            "instructions."
        ),
        data=data,
        recipe=[
            (
                "layers, width, feed-forward",
                f"{sizes.n_layers}, {sizes.d_model}, {sizes.d_ff}",
            ),
            ("heads, key-value heads", f"{sizes.n_heads}, {sizes.n_kv_heads}"),
            ("vocabulary", f"{sizes.vocab_size:,} tokens, byte-level BPE"),
            ("context", f"{sizes.context_length} tokens"),
            ("training", _amount(config, n_tokens, is_tales=not sources)),
            *learning_rows(training),
            (
                "first weights",
                "`transformer.mimetic_initialisation`"
                if config.copying_start
                else "random",
            ),
            ("seed", f"{config.seed}"),
        ],
        quality=[
            loss_table(quality),
            f"Measured on {quality['n_documents']:,} {what}, {quality['n_tokens']:,} "
            "tokens, with the weights in the file.\n± is one standard error; in "
            "brackets: 95 % intervals.",
        ],
        limits=limits,
        use=_USE,
        licence=licence,
        is_free=not sources,
        facts=facts,
    )


def _amount(config: PipelineConfig, n_tokens: int, *, is_tales: bool) -> str:
    """Return how much was read in training, and what that took."""
    training = config.pretraining
    windows = f"{training.batch_size} windows of {training.context_length} tokens"
    length: float = training.context_length
    if is_tales and n_tokens / config.n_stories < length:
        windows = f"{training.batch_size} stories"  # a window ends with its story
        length = n_tokens / config.n_stories
    n_read = round(training.steps * training.batch_size * length)
    flops = n_read * training_flops_per_token(config.model, training.context_length)
    return (
        f"{training.steps:,} steps of {windows}: {n_read:,} tokens, {flops:.1e} FLOPs"
    )


def _n_words() -> int:
    stories = " ".join(story.text.lower() for story in tales.generate(2_000, seed=0))
    return len(set(re.findall(r"\w+", stories)))


_USE = """```python
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import write

model, tokenizer = load_pretrained("FOLDER")
print(write(model, tokenizer, "Once upon a time"))
```

In `transformers`:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER", dtype="float32")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
ids = tokenizer("<|endoftext|>Once upon a time", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=200, do_sample=True)[0]))
```

Each document begins with `<|endoftext|>`, and so does the prompt; `write` puts it
there by itself."""
