"""Model cards: the `README.md` beside a model's weights.

    recipe, facts (JSON) ── data/cards/KIND.jinja, filled in ── README.md

A card says what a model is, what it learned from and how, how good it is, where it
fails, and how to make it again. Each number comes from the recipe or from `card.json`,
the facts in the same folder; none is typed by hand. The command line prints the rows of
the same tables.

Templates are in Jinja, with Python's `format`: `{{ n | format(",") }}` writes 1,234.
"""

from collections.abc import Mapping, Sequence
from math import log
from statistics import fmean
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llmcourse.files import DATA
from llmcourse.finetuning.instructions import HELD_OUT_PAIRS, QUESTIONS, examples
from llmcourse.intervals import Count
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import shipped_models
from llmcourse.training.evaluation import TEST_SEED

Facts = Mapping[str, Any]
"""How a model was made and how good it is, as JSON holds it: see `making.Making`."""

N_BY_WORD = 100
"""Tales that a base model reads word by word, to see what costs it most."""


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


def together(score: Facts, kinds: Sequence[str]) -> str:
    """Return how many answers of some kinds were right, of those that were asked."""
    found = [score["by_kind"][kind] for kind in kinds if kind in score["by_kind"]]
    right, n = (sum(count[name] for count in found) for name in ("right", "n"))
    return counted(Count(right, n).to_json())


def settings(config: object) -> str:
    """Return table rows for all fields of a training config.

    >>> from types import SimpleNamespace
    >>> print(settings(SimpleNamespace(batch_size=8, betas=(0.9, 0.99))))
    | batch size | 8 |
    | betas | (0.9, 0.99) |
    """
    fields = vars(config).items()
    return "\n".join(f"| {name.replace('_', ' ')} | {v} |" for name, v in fields)


def an_order() -> str:
    """Return an order to write a story, to try a model with."""
    return next(examples(1, TEST_SEED, kinds=["write"])).prompt


_TEMPLATES = Environment(
    loader=FileSystemLoader(DATA / "cards"),
    trim_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
_FUNCTIONS = (log, n_parameters, shipped_models, an_order)
_TEMPLATES.globals |= {function.__name__: function for function in _FUNCTIONS}
_TEMPLATES.globals |= {"HELD_OUT_PAIRS": HELD_OUT_PAIRS, "QUESTIONS": QUESTIONS}
_TEMPLATES.globals["N_BY_WORD"] = N_BY_WORD
_FILTERS = (format, repr, percent, between, counted, together, settings, fmean)
_TEMPLATES.filters |= {function.__name__: function for function in _FILTERS}


def fill_card(kind: str, facts: Facts, **values: Any) -> str:
    """Return a card in Markdown, with the front matter that Hugging Face reads.

    Args:
        kind: Name of the template.
        facts: As in `card.json`.
        values: What else the template reads.
    """
    values |= {"facts": facts, "quality": facts["quality"]}
    return _TEMPLATES.get_template(f"{kind}.jinja").render(values)


class Table(NamedTuple):
    """Rows of equal length under a header."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(kind: str, **values: Any) -> list[Table]:
    """Return tables as they are in a card.

    Args:
        kind: Name of the tables' template.
        values: What it reads.
    """
    text = _TEMPLATES.get_template(f"{kind}.jinja").render(values)
    found = []
    for block in text.strip().split("\n\n"):
        lines = [line.strip("|").split("|") for line in block.splitlines()]
        head, _, *rows = [[cell.strip() for cell in line] for line in lines]
        found.append(Table(head, rows))
    return found
