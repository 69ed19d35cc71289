"""Model cards: the `README.md` beside a model's weights.

    recipe, facts (JSON) ── data/cards/KIND.jinja, filled in ── README.md

A card says what a model is, what it learned from and how, how good it is, where it
fails, and how to make it again. Each number comes from the recipe or from `card.json`,
the facts in the same folder; none is typed by hand.

Templates are in Jinja, with Python's `format`: `{{ n | format(",") }}` writes 1,234.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llmcourse.files import DATA
from llmcourse.model.folders import shipped_models

Row = Sequence[str]
Facts = Mapping[str, Any]
"""How a model was made and how good it is, as JSON holds it: see `making.Making`."""


class Table(NamedTuple):
    """Rows of equal length under a header."""

    head: Row
    rows: Sequence[Row]


def markdown(table: Table) -> str:
    """Return a table in Markdown.

    >>> print(markdown(Table(("kind", "right"), [("who", "3 of 4")])))
    | kind | right |
    | --- | --- |
    | who | 3 of 4 |
    """
    return "\n".join(map(_row, [table.head, ["---"] * len(table.head), *table.rows]))


def _row(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def percent(share: float, digits: int = 1) -> str:
    """Return a fraction as a percentage.

    >>> percent(0.805), percent(0.805, 0)
    ('80.5 %', '80 %')
    """
    return f"{100 * share:.{digits}f} %"


def between(interval: Mapping[str, float]) -> str:
    """Return a share's 95 % interval in brackets.

    >>> between({"low": 0.6, "high": 0.98})
    '(60 % … 98 %)'
    """
    return f"({percent(interval['low'], 0)} … {percent(interval['high'], 0)})"


def counted(count: Facts) -> str:
    """Return a share of right answers with its interval.

    >>> counted({"share": 0.9, "n": 10, "interval": {"low": 0.6, "high": 0.98}})
    '90.0 % of 10 (60 % … 98 %)'
    """
    return f"{percent(count['share'])} of {count['n']} {between(count['interval'])}"


def settings(config: object) -> str:
    """Return table rows for all fields of a training config.

    >>> from types import SimpleNamespace
    >>> print(settings(SimpleNamespace(batch_size=8, betas=(0.9, 0.99))))
    | batch size | 8 |
    | betas | (0.9, 0.99) |
    """
    fields = vars(config).items()
    return "\n".join(_row((name.replace("_", " "), str(v))) for name, v in fields)


_TEMPLATES = Environment(
    loader=FileSystemLoader(DATA / "cards"),
    trim_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
_TEMPLATES.filters |= {
    "format": format,
    "markdown": markdown,
    "repr": repr,
    "settings": settings,
}
_TEMPLATES.globals["shipped_models"] = shipped_models


def fill_card(kind: str, facts: Facts, *, folder: str = "model", **values: Any) -> str:
    """Return a card in Markdown, with the front matter that Hugging Face reads.

    Args:
        kind: Name of the template.
        facts: As in `card.json`.
        folder: Where the model is, in the folder that the command writes.
        values: What else the template reads.
    """
    values |= {"facts": facts, "quality": facts["quality"], "folder": folder}
    return _TEMPLATES.get_template(f"{kind}.jinja").render(values)
