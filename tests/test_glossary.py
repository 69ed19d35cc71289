"""The glossary: in alphabetical order, and each term with its chapter."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "book" / "glossary.md"


def entries() -> dict[str, str]:
    text = PAGE.read_text(encoding="utf-8").split("```")[1]
    blocks = text.removeprefix("{glossary}").strip().split("\n\n")
    return dict(block.split("\n", 1) for block in blocks)


def test_terms_are_in_alphabetical_order():
    terms = [re.sub(r"[^a-z0-9]+", " ", term.lower()) for term in entries()]
    assert terms == sorted(terms)


def test_each_term_names_its_chapter():
    for term, text in entries().items():
        named = re.findall(r"\{doc\}`(\w+)`", text)
        assert named, term
        for page in named:
            assert PAGE.with_name(f"{page}.ipynb").is_file(), term
