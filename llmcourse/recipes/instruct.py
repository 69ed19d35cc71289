"""How `instruct-llm` is made, measured and described.

What it learns from, and how long, says `finetuning.instruction_tuning`.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, TypeAlias

from llmcourse.finetuning import instruction_tuning
from llmcourse.finetuning.chat import read_conversations
from llmcourse.finetuning.finetuning import FinetuningConfig
from llmcourse.finetuning.instruction_evaluation import (
    Score,
    forgetting,
    instruction_scores,
)
from llmcourse.finetuning.instruction_tuning import (
    InstructConfig,
    fitted,
    follow,
    n_held_out,
    prepare,
    start,
)
from llmcourse.finetuning.instructions import HELD_OUT_PAIRS, QUESTIONS, examples
from llmcourse.finetuning.lora import (
    count_parameters,
    merge_lora,
    remove_lora,
    save_adapter,
)
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained, shipped_models
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import (
    Card,
    Facts,
    Row,
    Table,
    counted,
    forgetting_row,
    learning_rows,
)
from llmcourse.recipes.making import Making, Recipe, given, in_precision, save_model
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import CountProgress, StageProgress
from llmcourse.training.pipeline import TrainingResult
from llmcourse.training.story_evaluation import TEST_SEED

BASE_SPLITS = ("held-out wordings",)
"""What the base model is asked too, to see what it could do before."""

Model: TypeAlias = tuple[Transformer, BPETokenizer]


@dataclass(frozen=True, kw_only=True)
class Exam:
    """How thoroughly a model is measured."""

    n_per_kind: int = 30  # instructions of each kind, in each split; 0: none
    n_stories: int = 200  # plain stories, for what was forgotten; 0: none
    seed: int = TEST_SEED

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that no measurement can have."""
        if self.n_per_kind < 0:
            raise ValueError(f"n_per_kind must be at least 0, got {self.n_per_kind}")
        if self.n_stories < 0 or self.n_stories == 1:
            raise ValueError(
                f"n_stories must be 0, or at least 2 for a standard error, got "
                f"{self.n_stories}"
            )


def configured(
    preset: str,
    *,
    seed: int | None = None,
    sources: tuple[str, ...] = (),
    sizes: Mapping[str, Any] | None = None,
    precision: str | None = None,
    **training: Any,
) -> InstructConfig:
    """Return a preset with what is given instead, in the precision that is fast here.

    Args:
        preset: Its name.
        seed: Of the last part; the others get seeds of their own.
        sources: Files of own conversations; with them there are no earlier parts.
        sizes: Fields of `InstructConfig`; None: the preset's.
        precision: Of all parts.
        training: Fields of `FinetuningConfig`, of the last part; None: the preset's,
            but of own conversations three passes, and at least a hundred steps.

    Raises:
        ValueError: If there is no such preset, or a value is impossible.
    """
    config = instruction_tuning.preset(preset)
    wanted, sizes = given(**training), given(**(sizes or {}))
    if sources and "steps" not in wanted:
        wanted["steps"] = _steps_for(sources, config.finetuning)
    steps = wanted.get("steps", config.finetuning.steps)
    if steps < config.finetuning.eval_interval:
        wanted["eval_interval"] = max(1, steps // 5)
    shared = {name: sizes[name] for name in ("base", "rank", "packed") if name in sizes}
    first = None
    for n, part in enumerate([] if sources else config.earlier(), start=1):
        first = replace(
            part,
            **shared,
            # What is held out has the seed after a part's own: no part may learn it.
            seed=part.seed if seed is None else seed + 2 * n,
            first=first,
            finetuning=in_precision(part.finetuning, precision),
        )
    return replace(
        config,
        **sizes,
        **given(seed=seed),
        first=first,
        sources=sources,
        finetuning=replace(in_precision(config.finetuning, precision), **wanted),
    )


def _steps_for(sources: tuple[str, ...], training: FinetuningConfig) -> int:
    """Return the steps of three passes, but a hundred at least, or the preset's."""
    n = sum(len(read_conversations(path)) for path in sources)
    learned = n - n_held_out(n)
    return min(training.steps, max(100, ceil(3 * learned / training.batch_size)))


@dataclass(kw_only=True)
class InstructRecipe(Recipe):
    """A model that answers, fine-tuned on instructions or on own conversations."""

    config: InstructConfig
    exam: Exam = field(default_factory=Exam)

    def prepare(self, run: Making) -> None:
        """Tokenize what is learned, for the context of the base."""
        model, tokenizer = start(self.config)
        self.config = config = fitted(self.config, model.config.context_length)
        what = ", ".join(config.sources) or f"{config.n_examples:,} instructions"
        run.say(
            f"{run.name}: {config.base} learns {what} and {config.n_stories:,} plain "
            f"stories in {config.finetuning.steps:,} steps of "
            f"{config.finetuning.batch_size} examples"
        )
        self.data = prepare(config, tokenizer, run.stages)

    def train(self, run: Making) -> None:
        """Fine-tune, one part after the other; adapters are kept apart and merged."""
        *earlier, _ = parts = [*self.config.earlier(), self.config]
        before = [
            run.training(
                f"part {n}", run.folder / f"log-{n}.jsonl", part.finetuning.steps
            )
            for n, part in enumerate(earlier, start=1)
        ]
        steps = self.config.finetuning.steps
        tuned = follow(
            self.config,
            Run(
                folder=run.folder / "checkpoints",
                # Of all parts: a short last one must not make the long ones write more.
                interval=max(part.finetuning.eval_interval for part in parts),
                progress=run.training("fine-tuning", run.folder / "log.jsonl", steps),
            ),
            stages=run.stages,
            data=self.data,
            before=before,
        )
        self._keep(tuned)
        model = tuned.model
        if self.config.rank is not None:
            if not model.embedding.weight.requires_grad:
                save_adapter(model, run.folder / "adapter", self.config.base)
            merge_lora(model)
            remove_lora(model)
        save_model(model, tuned.tokenizer, run.folder / "model")

    def _keep(self, tuned: TrainingResult) -> None:
        """Keep what the card says of the training."""
        losses = [found.loss for found in tuned.history.evaluations]
        n = min(len(self.data.valid), self.config.finetuning.eval_examples)
        self._losses = {"before": losses[0], "after": losses[-1], "n": n}
        sizes = tuned.model.config
        self._facts = {
            "n_parameters": n_parameters(sizes),
            "vocab_size": sizes.vocab_size,
            "context_length": sizes.context_length,
            "n_examples": len(self.data.train),
            "n_tokens": self.data.n_tokens,
            "n_targets": self.data.n_targets,
            "n_learned": count_parameters(tuned.model).learned,
            "embeddings_learned": tuned.model.embedding.weight.requires_grad,
        }

    def measure(self, run: Making) -> dict[str, Any]:
        """Return losses and, unless it learned own conversations, its answers."""
        found: dict[str, Any] = {"held_out_loss": self._losses}
        if not self.config.sources:
            base = load_pretrained(self.config.base)
            model = load_pretrained(run.folder / "model")
            found |= instruct_quality(base, model, self.exam, run.stages)
        return found

    def facts(self) -> dict[str, Any]:
        """Return the sizes of model and data."""
        return self._facts

    def cards(self, name: str, facts: Facts) -> Mapping[str, Card]:
        """Return the model's card."""
        return {"model": instruct_card(name, self.config, facts)}


def instruct_quality(
    base: Model, model: Model, exam: Exam, stages: StageProgress
) -> dict[str, Any]:
    """Return how a model follows instructions and what it forgot, against its base."""
    found: dict[str, Any] = {}
    n, seed = exam.n_per_kind, exam.seed
    if n:
        told: CountProgress = lambda *at: stages("answers", *at)  # noqa: E731
        found["instructions_after"] = scores_to_json(
            instruction_scores(*model, n, seed, progress=told)
        )
        told = lambda *at: stages("answers of the base", *at)  # noqa: E731
        found["instructions_before"] = scores_to_json(
            instruction_scores(*base, n, seed, splits=BASE_SPLITS, progress=told)
        )
    if exam.n_stories:
        both = _as_one("stories read", stages)
        found["forgetting"] = forgetting(
            base, model, exam.n_stories, seed, both
        ).to_json()
    return found


def scores_to_json(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Return the scores of all splits as JSON can hold them."""
    return {split: score.to_json() for split, score in scores.items()}


def _as_one(stage: str, stages: StageProgress) -> CountProgress:
    """Return a progress that takes two models' reading, one after the other, as one."""
    read = 0  # by the first

    def progress(done: int, n: int) -> None:
        nonlocal read
        stages(stage, read + done, 2 * n)
        read = n if done == n else read

    return progress


def score_table(scores: Facts) -> Table:
    """Return right answers: a row for each kind, a column for each split."""
    splits = list(scores)
    rows = [
        (
            kind,
            *(
                f"{count['right']} of {count['n']}"
                for count in (scores[split]["by_kind"][kind] for split in splits)
            ),
        )
        for kind in scores[splits[0]]["by_kind"]
    ]
    last = ("all kinds", *(counted(scores[split]["overall"]) for split in splits))
    return Table(("kind", *splits), [*rows, last])


def instruct_tables(quality: Facts) -> list[Table]:
    """Return marks by kind, and what was measured before and after."""
    rows: list[Row] = []
    if losses := quality.get("held_out_loss"):
        after = f"{losses['after']:.3f} nats/token of the answers"
        name = f"loss on {losses['n']:,} held-out conversations"
        rows.append((name, f"{losses['before']:.3f}", after))
    scores = quality.get("instructions_after", {})
    for split, score in quality.get("instructions_before", {}).items():
        after = counted(scores[split]["overall"])
        rows.append((f"instructions, {split}", counted(score["overall"]), after))
    if "forgetting" in quality:
        rows.append(forgetting_row(quality["forgetting"]))
    found = [score_table(scores)] if scores else []
    return [*found, Table(("measure", "before", "after"), rows)]


def instruct_card(name: str, config: InstructConfig, facts: Facts) -> Card:
    """Return a fine-tuned model's card.

    Args:
        name: Of the model, such as "instruct-llm".
        config: Its recipe.
        facts: As `making.make` writes them into `card.json`.
    """
    training = config.finetuning
    is_free = not config.sources and config.base in shipped_models()
    what = "conversations" if config.sources else "instructions about tales"
    passes = training.steps * training.batch_size / facts["n_examples"]
    learned = f"{facts['n_learned']:,} parameters"
    if config.rank is not None:
        learned += f", low-rank adapters of rank {config.rank}, alpha {config.alpha:g}"
        learned += ", and the embeddings" * facts["embeddings_learned"]
    *scores, table = instruct_tables(facts["quality"])
    answers = (
        "Exactly right answers, checked by rule, to new instructions; decoding is "
        "greedy.\nIn brackets: 95 % intervals."
    )
    part = " of the last part" * (config.first is not None)
    note = f"The loss on held-out conversations is from before and after training{part}"
    if len(table.rows) > 1:
        note += (
            ", the other rows from the base and this model as in its file; ± is one "
            "standard error"
        )
    licence = "MIT, as the package: weights, tokenizer and all that it learned from."
    if not is_free:
        more = " and those of the conversations above" * bool(config.sources)
        licence = f"The licence of the base{more} decide{'s' * (not more)}."
    return Card(
        name=name,
        summary=(
            f"A language model of {facts['n_parameters']:,} parameters that answers: "
            f"`{config.base}`, fine-tuned on {what} in the course *Large Language "
            "Models Explained*."
        ),
        data=_data(config, facts),
        recipe=[
            ("base", f"`{config.base}`"),
            ("trained", learned),
            (
                "vocabulary",
                f"{facts['vocab_size']:,} tokens, those of conversations included",
            ),
            ("context", f"{facts['context_length']} tokens"),
            (
                "training",
                f"{training.steps:,} steps of {training.batch_size} examples"
                + (", packed in one row" if config.packed else "")
                + f": {passes:.1f} passes",
            ),
            *learning_rows(training),
            ("seed", f"{config.seed}"),
        ],
        quality=[*scores, *([answers] if scores else []), table, f"{note}."],
        limits=_limits(config, is_free=is_free),
        use=_use(),
        licence=licence,
        is_free=is_free,
        facts=facts,
    )


def _data(config: InstructConfig, facts: Facts) -> str:
    n_asked = facts["n_examples"] - config.n_stories
    plain = f", and {config.n_stories:,} plain stories, so that it forgets less"
    plain *= config.n_stories > 0
    targets = ["the answers"]
    if config.whole_every and not config.sources:
        targets.append("all of the instructions that are learned whole")
    if config.n_stories:
        targets.append("all of the plain stories")
    sizes = (
        f"One pass reads {facts['n_tokens']:,} tokens, of which "
        f"{facts['n_targets']:,} are targets: {', '.join(targets)}."
    )
    if config.sources:
        names = ", ".join(f"`{source}`" for source in config.sources)
        cut = ", long ones without their first exchanges" * config.truncate
        return f"{n_asked:,} conversations from {names}{cut}{plain}.\n{sizes}"
    parts = [f"{_asked(n_asked, config)}{plain}."]
    if earlier := config.earlier():
        parts.append("Before that, on the same base:\n")
        for number, part in enumerate(earlier, start=1):
            before, stories = part.finetuning, f"{part.n_stories:,} plain stories"
            parts.append(
                f"{number}. {before.steps:,} steps of {before.batch_size} examples at "
                f"a learning rate of {before.learning_rate:g}: "
                f"{_asked(part.n_examples, part, config.kinds)}"
                f"{f' and {stories}' * bool(part.n_stories)}, seed {part.seed}"
            )
        parts.append("")
    parts += [
        "All of it is written by `llmcourse.finetuning.instructions` and "
        "`llmcourse.text.tales`: no text of any person or from the web is in it.",
        f"One wording of every task, and {len(HELD_OUT_PAIRS)} combinations of a "
        "hero's kind and a plot, were held out of the instructions.",
        sizes,
    ]
    return "\n".join(parts)


def _asked(n: int, part: InstructConfig, known: Collection[str] = ()) -> str:
    """Say how many instructions were learned, of which kinds if not known, and how."""
    counts, how = Counter(part.kinds), []
    kinds = f" of the kind{'s' * (len(counts) > 1)} {', '.join(counts)}"
    if often := [kind for kind in counts if counts[kind] > min(counts.values())]:
        how.append(f"{', '.join(often)} more often than the others")
    if part.most_follow_ups and counts.keys() & {*QUESTIONS}:
        how.append(f"questions with up to {part.most_follow_ups} follow-ups")
    if part.whole_every:
        which = f"one of every {part.whole_every}" if part.whole_every > 1 else "each"
        how.append(f"{which} learned whole")
    details = f" ({'; '.join(how)})" if how else ""
    return f"{n:,} instructions{'' if {*counts} == {*known} else kinds}{details}"


def _limits(config: InstructConfig, *, is_free: bool) -> str:
    if not is_free:
        learned = "these conversations" if config.sources else "the tasks above"
        return (
            f"It knows what its base knew and {learned}.\nWhat it says is no "
            "statement of fact, and it may repeat what it has read, word for word."
        )
    most = max(part.max_tokens for part in (*config.earlier(), config))
    return (
        "It knows the small world of its stories, and the tasks above, and nothing "
        f"else.\nIt has seen no conversation longer than {most} tokens.\nIt answers "
        "whatever it is asked, right or wrong, with the same confidence.\nIt is made "
        "for learning how language models work, for no other use."
    )


def _use() -> str:
    example = next(examples(1, TEST_SEED, kinds=["write"]))
    return f'''```python
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
question = """{example.prompt}"""
messages = [{{"role": "user", "content": question}}]
ids = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=200)[0]))
```

In a terminal: `llmcourse chat --model FOLDER`.'''
