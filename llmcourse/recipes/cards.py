"""Model cards: the `README.md` beside a model's weights.

    facts (JSON) ── Card ── render ── README.md

A card says what a model is, what it learned from and how, how good it is, where it
fails, and how to make it again. Each number comes from the recipe or from `card.json`,
the facts that `making.make` writes into the same folder; none is typed by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmcourse.training.config import PretrainingConfig

Row = Sequence[str]
Facts = Mapping[str, Any]
"""How a model was made and how good it is, as JSON holds it: see `making.Run.facts`."""


class Table(NamedTuple):
    """Rows of equal length under a head."""

    head: Row
    rows: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says. Text is Markdown, one sentence a line."""

    name: str
    summary: str
    data: str
    recipe: Sequence[Row]  # setting, value
    quality: Sequence[Table | str]
    limits: str
    use: str
    licence: str
    is_free: bool  # whether all that it was made of has the package's licence
    facts: Facts
    folder: str = "model"  # in the folder that the command writes
    task: str = "text-generation"  # as Hugging Face names it


def render(card: Card) -> str:
    """Return a card in Markdown, with the front matter that Hugging Face reads."""
    front = {"library_name": "transformers", "pipeline_tag": card.task}
    if card.is_free:
        front |= {"license": "mit", "language": "en"}
    facts = card.facts
    threads = f"{facts['n_threads']} thread{'s' * (facts['n_threads'] > 1)}"
    recipe = [*card.recipe, ("software", f"torch {facts['torch']}, {threads}")]
    if facts["machine"]:
        recipe.append(("machine", facts["machine"]))
    sections = {
        "Data": card.data,
        "Recipe": markdown(Table(("setting", "value"), recipe)),
        "Quality": "\n\n".join(
            part if isinstance(part, str) else markdown(part) for part in card.quality
        ),
        "Limits": card.limits,
        "Use": (
            "`FOLDER` is the path of this folder; `llmcourse` also takes the name of "
            f"a shipped model.\n\n{card.use}"
        ),
        "Rebuild": (
            f"```bash\n{facts['command']}\n```\n\nThe model is then in `{card.folder}` "
            f"in the folder named by `--out`.\nWith the same processor, torch version, "
            f"start and number of threads ({facts['n_threads']}) its bits are the "
            "same; elsewhere the last digits differ."
        ),
        "Licence": card.licence,
    }
    parts = [
        "\n".join(["---", *(f"{key}: {value}" for key, value in front.items()), "---"]),
        f"# {card.name}",
        card.summary,
        *(f"## {title}\n\n{text}" for title, text in sections.items()),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(table: Table) -> str:
    """Return a table in Markdown.

    >>> print(markdown(Table(("kind", "right"), [("who", "3 of 4")])))
    | kind | right |
    | --- | --- |
    | who | 3 of 4 |
    """
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percent(share: float, digits: int = 1) -> str:
    """Return a fraction in percent.

    >>> percent(0.805), percent(0.805, 0)
    ('80.5 %', '80 %')
    """
    return f"{100 * share:.{digits}f} %"


def between(interval: Mapping[str, float], n: int | None = None) -> str:
    """Return a share's 95 % interval in brackets, after the number of cases if given.

    >>> between({"low": 0.6, "high": 0.98}, 10)
    'of 10 (60 % … 98 %)'
    """
    ends = f"({percent(interval['low'], 0)} … {percent(interval['high'], 0)})"
    return ends if n is None else f"of {n} {ends}"


def counted(count: Facts) -> str:
    """Return a share of right answers with its interval.

    >>> counted({"share": 0.9, "n": 10, "interval": {"low": 0.6, "high": 0.98}})
    '90.0 % of 10 (60 % … 98 %)'
    """
    return f"{percent(count['share'])} {between(count['interval'], count['n'])}"


def learning_rows(training: PretrainingConfig) -> list[Row]:
    """Return the rows on optimizer, learning rate and precision."""
    speed = training.embedding_speed
    return [
        (
            "optimizer",
            f"AdamW, betas {training.betas[0]} and {training.betas[1]}, weight decay "
            f"{training.weight_decay}, gradient norm at most {training.clip_norm}",
        ),
        (
            "learning rate",
            f"{training.learning_rate:g} after {training.warmup_steps} steps of "
            "warm-up, then half a cosine to "
            + (f"{training.final_share:g} of it" if training.final_share else "0")
            + (f"; token embeddings {speed:g} times as fast" if speed != 1 else ""),
        ),
        ("precision", f"{training.precision} in training, float16 in the file"),
    ]


def forgetting_row(facts: Facts) -> Row:
    """Return what plain stories cost above their floor, before and after."""
    change = facts["increase"]
    return (
        f"loss on {facts['n_stories']:,} plain stories, above the floor",
        f"{facts['before']:.4f}",
        f"{facts['after']:.4f} nats/token ({change['value']:+.4f} ± "
        f"{change['standard_error']:.4f})",
    )
