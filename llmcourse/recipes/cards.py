"""Model cards: the `README.md` beside a model's weights.

    recipe, facts (JSON) ── data/cards/KIND.md, with its fields filled in ── README.md

A card says what a model is, what it learned from and how, how good it is, where it
fails, and how to make it again. Each number comes from the recipe or from `card.json`,
the facts in the same folder; none is typed by hand.

Fields are written as for `str.format`: `{config.seed}`, `{facts[n_pairs]:,}`. A line
that begins with `[own]` is kept only where `own` applies, and one that begins with
`[not own]` only where it does not.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llmcourse.files import DATA

Row = Sequence[str]
Facts = Mapping[str, Any]
"""How a model was made and how good it is, as JSON holds it: see `making.Making`."""

_MARK = re.compile(r"\[(not )?(\w+)\] ?")


class Table(NamedTuple):
    """Rows of equal length under a header."""

    head: Row
    rows: Sequence[Row]


def fill_card(
    kind: str,
    cases: Mapping[str, bool],
    facts: Facts,
    *,
    folder: str = "model",
    **values: Any,
) -> str:
    """Return a card in Markdown, with the front matter that Hugging Face reads.

    Args:
        kind: Name of the template.
        cases: Whether each case applies, by name.
        facts: As in `card.json`.
        folder: Where the model is, in the folder that the command writes.
        values: The other fields of the template.
    """
    path = DATA / "cards" / f"{kind}.md"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [text for line in lines if (text := _in_case(line, cases)) is not None]
    threads = f"{facts['n_threads']} thread{'s' * (facts['n_threads'] > 1)}"
    software = f"| software | torch {facts['torch']}, {threads} |"
    if facts["machine"]:
        software += f"\n| machine | {facts['machine']} |"
    common = {"facts": facts, "folder": folder, "software": software}
    return "\n".join([*kept, ""]).format(**common, **values)


def _in_case(line: str, cases: Mapping[str, bool]) -> str | None:
    """Return a line without its marks, or None if it is to be left out."""
    while mark := _MARK.match(line):
        if cases[mark[2]] == bool(mark[1]):
            return None
        line = line[mark.end() :]
    return line


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
