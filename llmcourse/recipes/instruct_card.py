"""The card of a fine-tuned model: what it learned to answer, how well, what it forgot.

As in `base_card`, every number comes from the recipe or from a measurement.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from llmcourse.finetuning.instruction_evaluation import Count, Forgetting, Score
from llmcourse.finetuning.instruction_tuning import InstructConfig, InstructMaking
from llmcourse.finetuning.instructions import HELD_OUT_PAIRS, QUESTIONS, examples
from llmcourse.model.costs import n_parameters
from llmcourse.recipes.base_card import table
from llmcourse.training.story_evaluation import TEST_SEED


@dataclass(frozen=True, kw_only=True)
class InstructQuality:
    """What a fine-tuned model reaches, and its base did."""

    loss_before: float  # nats per target, held out, when the last part began
    loss: float  # the same when it ended
    n_held_out: int
    scores: Mapping[str, Score] | None = None  # by split; of instructions
    base_scores: Mapping[str, Score] | None = None  # of the base, some of the splits
    forgetting: Forgetting | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all numbers."""
        losses = {"before": self.loss_before, "after": self.loss}
        found: dict[str, Any] = {"held_out_loss": losses}
        for name, scores in (("after", self.scores), ("before", self.base_scores)):
            if scores is not None:
                found |= {f"instructions_{name}": scores_to_json(scores)}
        if self.forgetting is not None:
            found["forgetting"] = self.forgetting.to_json()
        return found


def scores_to_json(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Return the scores of all splits as JSON can hold them."""
    return {split: score.to_json() for split, score in scores.items()}


def instruct_card(name: str, making: InstructMaking, quality: InstructQuality) -> str:
    """Return a fine-tuned model's card, in Markdown.

    Args:
        name: Of the model, such as "instruct-llm".
        making: How it was made.
        quality: How good it is, and how good its base was.
    """
    sections = (
        _front_matter(making),
        f"# {name}\n\n{_summary(making)}",
        f"## Data\n\n{_data(making)}",
        f"## Recipe\n\n{_recipe(making)}",
        f"## Quality\n\n{_quality(making, quality)}",
        f"## Limits\n\n{_limits(making)}",
        f"## Use\n\n{_use()}",
        f"## Rebuild\n\n{_rebuild(making)}",
        f"## Licence\n\n{_licence(making)}",
    )
    return "\n\n".join(sections) + "\n"


def _front_matter(making: InstructMaking) -> str:
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if making.is_all_ours:
        lines += ["license: mit", "language: en"]
    return "\n".join(["---", *lines, "---"])


def _summary(making: InstructMaking) -> str:
    what = "conversations" if making.config.sources else "instructions about tales"
    return (
        f"A language model of {n_parameters(making.sizes):,} parameters that answers: "
        f"`{making.config.base}`, fine-tuned on {what} in the course *Large Language "
        "Models Explained*."
    )


def _data(making: InstructMaking) -> str:
    config = making.config
    n_asked = making.n_examples - config.n_stories
    plain = f"{config.n_stories:,} plain stories, so that it forgets less"
    more = f", and {plain}" if config.n_stories else ""
    sizes = (
        f"In all {making.n_tokens:,} tokens to read, of which {making.n_targets:,} are "
        f"to be learned: {_learned(config)}."
    )
    if config.sources:
        names = ", ".join(f"`{source}`" for source in config.sources)
        cut = ", long ones without their first exchanges" if config.truncate else ""
        return f"{n_asked:,} conversations from {names}{cut}{more}.\n{sizes}"
    return (
        f"{_asked(n_asked, config)}{more}.{_earlier(config)}\n"
        "All of it is written by `llmcourse.finetuning.instructions` and "
        "`llmcourse.text.tales`: no text of any person or from the web is in it.\n"
        f"One wording of every task, and {len(HELD_OUT_PAIRS)} combinations of a "
        f"hero's kind and a plot, were held out of the instructions.\n{sizes}"
    )


def _learned(config: InstructConfig) -> str:
    """Say which of the tokens are targets."""
    found = ["the answers"]
    if config.whole_every and not config.sources:
        found.append("all of the instructions that are learned whole")
    if config.n_stories:
        found.append("all of the plain stories")
    return ", and ".join(found)


def _asked(n: int, part: InstructConfig, known: Collection[str] = ()) -> str:
    """Say how many instructions were learned, of which kinds if not known, and how."""
    counts, said = Counter(part.kinds), []
    kinds = f" of the kind{'s' * (len(counts) > 1)} {', '.join(counts)}"
    if often := [kind for kind in counts if counts[kind] > min(counts.values())]:
        said.append(f"{', '.join(often)} more often than the others")
    if part.most_follow_ups and counts.keys() & {*QUESTIONS}:
        said.append(f"questions with up to {part.most_follow_ups} follow-ups")
    if part.whole_every:
        which = f"one of every {part.whole_every}" if part.whole_every > 1 else "each"
        said.append(f"{which} learned whole")
    how = f" ({'; '.join(said)})" if said else ""
    return f"{n:,} instructions{'' if {*counts} == {*known} else kinds}{how}"


def _earlier(config: InstructConfig) -> str:
    """Say what was learned before."""
    said = []
    for part in config.earlier():
        plan, asked = part.finetuning, _asked(part.n_examples, part, config.kinds)
        plain = f" and {part.n_stories:,} plain stories" if part.n_stories else ""
        said.append(
            f"in {plan.steps:,} steps of {plan.batch_size} examples, at a rate of "
            f"{plan.learning_rate:g}, {asked}{plain} of seed {part.seed}"
        )
    told = f"\nBefore that it learned {'; then '.join(said)}; the losses start there."
    return told if said else ""


def _recipe(making: InstructMaking) -> str:
    config, training, sizes = making.config, making.config.finetuning, making.sizes
    passes = training.steps * training.batch_size / making.n_examples
    learned, speed = f"{making.n_learned:,} numbers", training.embedding_speed
    if config.rank is not None:
        learned += f", low-rank adapters of rank {config.rank}, alpha {config.alpha:g}"
        learned += ", and the embeddings" * making.embeddings_learned
    rows = {
        "base": f"`{config.base}`",
        "learned": learned,
        "vocabulary": f"{sizes.vocab_size:,} tokens, those of conversations included",
        "context": f"{sizes.context_length} tokens",
        "training": (
            f"{training.steps:,} steps of {training.batch_size} examples"
            + (", packed in one row" if config.packed else "")
            + f": {passes:.1f} passes"
        ),
        "optimizer": (
            f"AdamW, betas {training.betas[0]} and {training.betas[1]}, weight decay "
            f"{training.weight_decay}, gradient norm at most {training.clip_norm}"
        ),
        "learning rate": (
            f"{training.learning_rate:g} after {training.warmup_steps} steps of "
            f"warm-up, then half a cosine to {training.final_share:g} of it"
            + (f"; token embeddings {speed:g} times as fast" if speed != 1 else "")
        ),
        "seed": f"{config.seed}",
        "precision": f"{training.precision} in training, float16 in the file",
        "software": f"torch {torch.__version__}, {_threads(making)}",
    }
    if making.machine:
        rows["machine"] = making.machine
    return table(("setting", "value"), list(rows.items()))


def _quality(making: InstructMaking, quality: InstructQuality) -> str:
    losses = f"{quality.loss_before:.3f} → {quality.loss:.3f} nats/token of the answers"
    rows = [(f"loss on {quality.n_held_out:,} held-out conversations", losses)]
    parts = []
    if quality.scores is not None:
        parts += [scores_table(quality.scores), _CAPTION]
    for split, score in (quality.base_scores or {}).items():
        rows.append((f"base model, {split}", share_of(score.overall)))
    if quality.forgetting is not None:
        f = quality.forgetting
        rows.append(
            (
                f"loss on {f.n_stories:,} plain stories, above the floor",
                f"{f.before:.4f} → {f.after:.4f} nats/token "
                f"({f.increase.value:+.4f} ± {f.increase.standard_error:.4f})",
            )
        )
    last = "'s last part" if making.config.first else ""
    notes = [f"The first row is of the training{last}.", *[_OTHERS] * (len(rows) > 1)]
    return "\n\n".join([*parts, table(("measure", "value"), rows), "\n".join(notes)])


_CAPTION = (
    "Exactly right answers, checked by rule, to new instructions; the likeliest "
    "tokens are taken.\nIn brackets: 95 % intervals."
)
_OTHERS = (
    "The others are measured as in the file; → goes from the base to this model, ± is "
    "one s.e."
)


def scores_table(scores: Mapping[str, Score]) -> str:
    """Return a table in Markdown: a row for each kind, a column for each split."""
    splits = list(scores)
    kinds = list(scores[splits[0]].by_kind)
    counts = {kind: [scores[split].by_kind[kind] for split in splits] for kind in kinds}
    rows = [(kind, *(f"{c.right} of {c.n}" for c in counts[kind])) for kind in kinds]
    last = ("all kinds", *(share_of(scores[split].overall) for split in splits))
    return table(("kind", *splits), [*rows, last])


def share_of(count: Count) -> str:
    """Return a share of right answers with its interval, in words.

    >>> share_of(Count(9, 10))
    '90.0 % of 10 (60 % … 98 %)'
    """
    low, high = (100 * end for end in count.interval)
    return f"{100 * count.share:.1f} % of {count.n} ({low:.0f} % … {high:.0f} %)"


def _limits(making: InstructMaking) -> str:
    if not making.is_all_ours:
        learned = "these conversations" if making.config.sources else "the tasks above"
        return (
            f"It knows what its base knew and {learned}.\nWhat it says is no "
            "statement of fact, and it may repeat what it has read, word for word."
        )
    most = max(p.max_tokens for p in (*making.config.earlier(), making.config))
    return (
        "It knows the small world of its stories, and the tasks above, and nothing "
        f"else.\nOf conversations longer than {most} tokens it has seen none.\nIt "
        "answers whatever it is asked, right or wrong, with the same confidence.\nIt "
        "is made for learning how language models work, for no other use."
    )


def _use() -> str:
    example = next(examples(1, TEST_SEED, kinds=["write"]))
    return f'''FOLDER is the path of this folder; of a shipped model, the name does too.

```python
from llmcourse.finetuning.answering import answer
from llmcourse.model.folders import load_pretrained

model, tokenizer = load_pretrained("FOLDER")
question = """{example.prompt}"""
print(answer(model, tokenizer, question))
```

In `transformers`:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER", dtype="float32")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
messages = [{{"role": "user", "content": """{example.prompt}"""}}]
ids = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=200)[0]))
```

In a terminal: `llmcourse chat --model FOLDER`.'''


def _rebuild(making: InstructMaking) -> str:
    return (
        f"```bash\n{making.command}\n```\n\n"
        "The model is then in the folder `model` of that folder.\nOn the same "
        f"processor, with {_threads(making)}, the same base model and the same version "
        "of torch, its bits are the same; elsewhere the last digits of the loss differ."
    )


def _licence(making: InstructMaking) -> str:
    if not making.is_all_ours:
        more = " and those of the conversations above" * bool(making.config.sources)
        return f"The licence of the base{more} decide{'s' * (not more)}."
    return "MIT, as the package: weights, tokenizer and all that it learned from."


def _threads(making: InstructMaking) -> str:
    return f"{making.n_threads} thread{'s' * (making.n_threads > 1)}"
