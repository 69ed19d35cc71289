"""The book's diagrams: drawn by their programs, shown in a chapter, with alt text."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

BOOK = Path(__file__).parents[1] / "book"


def load() -> ModuleType:
    path = BOOK / "figures" / "drawing.py"
    spec = importlib.util.spec_from_file_location("drawing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["drawing"] = module
    spec.loader.exec_module(module)
    return module


DRAWN = load().all_drawings()


def images(path: Path) -> dict[str, str]:
    """Return the alt text of each diagram that a page shows, by its name."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"!\[([^\]]*)\]\(figures/([\w-]+)\.svg\)", text)
    return {name: alt for alt, name in found}


@pytest.mark.parametrize("name", DRAWN)
def test_a_diagram_is_what_its_program_draws(name: str) -> None:
    committed = (BOOK / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    assert committed == DRAWN[name], "run: python book/figures/drawing.py"
    ElementTree.fromstring(committed)


def test_every_diagram_is_shown_once_and_described() -> None:
    shown = [pair for p in (BOOK / "src").glob("*.py") for pair in images(p).items()]
    assert sorted(name for name, _ in shown) == sorted(DRAWN)
    for name, alt in shown:
        assert len(alt) >= 40, f"{name}: say what is to be seen, got {alt!r}"


def test_words_that_do_not_fit_are_refused() -> None:
    drawing = load().Drawing(100)
    with pytest.raises(ValueError, match="does not fit"):
        drawing.box(0, 0, 40, 30, "far too many words")
    with pytest.raises(ValueError, match="runs out"):
        drawing.text(550, 50, "near the edge")
