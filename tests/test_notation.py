"""The page *Notation* and the package's docstring carry the same table."""

import re
from pathlib import Path

import llmcourse

PAGE = Path(__file__).parents[1] / "book" / "notation.md"


def page_table() -> list[tuple[str, ...]]:
    section = PAGE.read_text(encoding="utf-8").split("## Axes and sizes")[1]
    lines = section.split("## ")[0].strip().splitlines()[2:]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    return [tuple(cell.replace("`", "") for cell in row) for row in rows]


def docstring_table() -> list[tuple[str, ...]]:
    assert llmcourse.__doc__ is not None
    lines = [line for line in llmcourse.__doc__.splitlines() if line.startswith("    ")]
    return [tuple(re.split(r" {2,}", line.strip())) for line in lines]


def test_page_and_docstring_agree():
    assert page_table() == docstring_table()
    assert len(page_table()) == 10
