"""Model cards: what stands in the README.md beside a model's weights.

A card says what a model is, what it learned from and how, how good it is, where it
fails, and how to make it again. Its numbers are taken from the recipe and from
measurements, none is typed by hand.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llmcourse.model.costs import n_parameters, training_flops_per_token
from llmcourse.text import tales
from llmcourse.training.pipeline import PipelineConfig
from llmcourse.training.story_evaluation import Samples, TaleLoss
from llmcourse.training.text_loss import TextLoss


@dataclass(frozen=True, kw_only=True)
class Making:
    """How a model was made."""

    config: PipelineConfig
    n_train_tokens: int  # in the training text, each counted once
    command: str  # that makes it again, on a command line
    sources: Sequence[str] = ()  # paths and patterns of own text; none: the tales
    n_threads: int = 1
    machine: str = ""  # in words, if it matters: what it was trained on, how long


def card(
    name: str,
    making: Making,
    quality: TaleLoss | TextLoss,
    samples: Samples | None = None,
) -> str:
    """Return a model's card, in Markdown.

    Args:
        name: Of the model, such as "base-llm".
        making: How it was made.
        quality: Its loss, on tales or on other text.
        samples: What it wrote by itself, where that can be judged.
    """
    sections = (
        _front_matter(making),
        f"# {name}\n\n{_summary(making)}",
        f"## Data\n\n{_data(making)}",
        f"## Recipe\n\n{_recipe(making)}",
        f"## Quality\n\n{_quality(quality, samples)}",
        f"## Limits\n\n{_limits(making)}",
        f"## Use\n\n{_use()}",
        f"## Rebuild\n\n{_rebuild(making)}",
        f"## Licence\n\n{_licence(making)}",
    )
    return "\n\n".join(sections) + "\n"


def _front_matter(making: Making) -> str:
    """Return what the Hugging Face hub reads, and readers may skip."""
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if not making.sources:
        lines += ["license: mit", "language: en"]
    return "\n".join(["---", *lines, "---"])


def _summary(making: Making) -> str:
    sizes = making.config.model
    kind = {"llama": "Llama", "gpt2": "GPT-2"}[sizes.family]
    return (
        f"A language model of {n_parameters(sizes):,} parameters, of the shape of a "
        f"small {kind}, pretrained from random weights in the course *Large Language "
        "Models Explained*.\nIt continues text; it has not been taught to follow "
        "instructions."
    )


def _data(making: Making) -> str:
    config = making.config
    if making.sources:
        names = ", ".join(f"`{source}`" for source in making.sources)
        return (
            f"{making.n_train_tokens:,} tokens of text from {names}, cleaned and rid "
            "of copies; a part was held out."
        )
    return (
        f"{config.n_stories:,} short English stories, {making.n_train_tokens:,} "
        "tokens, written by the grammar `llmcourse.text.tales` with seed "
        f"{config.seed}.\nNo text of any person or from the web is in it.\nThe "
        "probability of each story is known exactly, and so is the lowest loss that "
        "any model can reach."
    )


def _recipe(making: Making) -> str:
    config = making.config
    training, sizes = config.pretraining, config.model
    rows = {
        "layers, width, feed-forward": (
            f"{sizes.n_layers}, {sizes.d_model}, {sizes.d_ff}"
        ),
        "heads, key-value heads": f"{sizes.n_heads}, {sizes.n_kv_heads}",
        "vocabulary": f"{sizes.vocab_size:,} tokens, byte-level BPE",
        "context": f"{sizes.context_length} tokens",
        "training": _amount(making),
        "optimizer": (
            f"AdamW, betas {training.betas[0]} and {training.betas[1]}, weight decay "
            f"{training.weight_decay}, gradient norm at most {training.clip_norm}"
        ),
        "learning rate": (
            f"{training.learning_rate:g} after {training.warmup_steps} steps of "
            f"warm-up, then half a cosine to {training.final_share:g} of it; token "
            f"embeddings {training.embedding_speed:g} times as fast"
        ),
        "first weights": (
            "`transformer.mimetic_initialisation`" if config.copying_start else "random"
        ),
        "seed": f"{config.seed}",
        "precision": f"{training.precision} in training, float16 in the file",
        "software": f"torch {torch.__version__}, {_threads(making)}",
    }
    if making.machine:
        rows["machine"] = making.machine
    return table(("setting", "value"), list(rows.items()))


def _amount(making: Making) -> str:
    """Return how much was read in training, and what that took."""
    config, training = making.config, making.config.pretraining
    windows = f"{training.batch_size} windows of {training.context_length} tokens"
    length: float = training.context_length
    mean_length = making.n_train_tokens / config.n_stories
    if not making.sources and mean_length < length:
        windows = f"{training.batch_size} stories"  # a window ends with its story
        length = mean_length
    n_read = round(training.steps * training.batch_size * length)
    flops = n_read * training_flops_per_token(config.model, training.context_length)
    return (
        f"{training.steps:,} steps of {windows}: {n_read:,} tokens, "
        f"{flops:.1e} operations"
    )


def _quality(quality: TaleLoss | TextLoss, samples: Samples | None) -> str:
    text = quality.text if isinstance(quality, TaleLoss) else quality
    rows = [
        ("loss", f"{text.loss:.4f} nats/token"),
        ("perplexity", f"{text.perplexity:.3f}"),
        ("bits per byte", f"{text.bits_per_byte:.4f}"),
    ]
    what = "documents that it has not seen"
    if isinstance(quality, TaleLoss):
        gap, excess = quality.paired_gap, quality.excess
        what = "stories of another seed"
        rows += [
            ("floor", f"{quality.floor.value:.4f} nats/token"),
            (
                "gap to the floor",
                f"{gap.value:.2%} ± {gap.standard_error:.2%}, "
                f"{excess.value:.2f} ± {excess.standard_error:.2f} nats/story",
            ),
        ]
    if samples is not None:
        low, high = samples.interval
        rows.append(
            (
                "valid stories at temperature 1",
                f"{samples.n_valid} of {len(samples.samples)} "
                f"(95 % interval {low:.0%} … {high:.0%})",
            )
        )
    caption = (
        f"Measured on {text.n_documents:,} {what}, {text.n_tokens:,} tokens, with the "
        "weights as they are in the file; ± is one standard error."
    )
    return f"{table(('measure', 'value'), rows)}\n\n{caption}"


def _limits(making: Making) -> str:
    window = making.config.pretraining.context_length
    if making.sources:
        return (
            f"It was trained on windows of {window} tokens of one collection, and "
            "knows nothing else.\nWhat it says is no statement of fact, and it may "
            "repeat what it has read, word for word."
        )
    stories = " ".join(story.text.lower() for story in tales.generate(2_000, seed=0))
    words = len(set(re.findall(r"\w+", stories)))
    return (
        f"It knows the small world of its stories and nothing else: {words:,} "
        "different words stand in 2,000 of them.\nNames and things are sometimes "
        "mixed up between the beginning and the end of a story.\nIt was trained on "
        f"one story at a time, of {window} tokens at most, and has not learned to go "
        "on beyond its end.\nIt is made for learning how language models work, for no "
        "other use."
    )


def _use() -> str:
    return """FOLDER is the path of this folder; of a shipped model, the name does too.

```python
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

The mark `<|endoftext|>` begins each document, so it stands before the prompt;
`write` puts it there by itself."""


def _rebuild(making: Making) -> str:
    return (
        f"```bash\n{making.command}\n```\n\n"
        "The model is then in the folder `model` of that folder.\nOn the same "
        f"processor, with {_threads(making)} and the same version of torch, "
        "its bits are the same; elsewhere the last digits of the loss differ."
    )


def _licence(making: Making) -> str:
    if making.sources:
        return "The weights were learned from the texts above: their licences decide."
    return "MIT, as the package: weights, tokenizer and the stories it learned from."


def _threads(making: Making) -> str:
    return f"{making.n_threads} thread{'s' * (making.n_threads > 1)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    >>> print(table(("kind", "right"), [("who", "3 of 4")]))
    | kind | right |
    | --- | --- |
    | who | 3 of 4 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
