"""The book on paper: what stands on a chapter's page stands in its PDF and EPUB."""

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from server import ROOT

CHAPTER = "attention"  # with an explorer, a quiz, tables, figures and formulas
OUT = ROOT / "_build" / "print"
# Set otherwise than on the page, or not for paper.
APART = "script, style, .headerlink, #quiz, .opening, summary"
XHTML = "{http://www.w3.org/1999/xhtml}"


def letters(text: str) -> str:
    """Return a text without spaces, hyphens and apostrophes."""
    return re.sub(r"[\s\u00ad’ʼ'-]", "", text)


def holds(text: str, words: str) -> bool:
    """Whether words stand in a text, in two parts if a page ends among them."""
    ends = (len(words), *range(1, len(words)))
    return any(words[:end] in text and words[end:] in text for end in ends)


@pytest.fixture(scope="module")
def page(html: Path, browser: object) -> list[str]:
    """Return the letters of each text without formulas; print the page."""
    soup = pytest.importorskip("bs4")
    pytest.importorskip("pypdf")
    command = [sys.executable, str(ROOT / "book" / "print.py"), "--only", CHAPTER]
    subprocess.run(command, check=True)
    text = (html / "book" / f"{CHAPTER}.html").read_text(encoding="utf-8")
    body = soup.BeautifulSoup(text, "html.parser").select_one("article > section")
    for element in body.select(APART):
        element.decompose()
    found = body.select("p, li:not(:has(p)), pre, h1, h2, h3, td")
    return [letters(e.get_text()) for e in found if not e.select_one(".katex")]


def test_a_mistyped_page_is_refused_and_the_pages_are_named() -> None:
    pytest.importorskip("bs4")
    command = [sys.executable, str(ROOT / "book" / "print.py"), "--only", "rhlf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no page rhlf: there are index, " in done.stderr
    assert " rlhf, " in done.stderr


@pytest.mark.usefixtures("html", "browser")
def test_pages_are_in_the_order_of_the_book_however_they_are_named() -> None:
    pytest.importorskip("bs4")
    pytest.importorskip("pypdf")
    command = [sys.executable, str(ROOT / "book" / "print.py"), "--only"]
    subprocess.run([*command, "notation", "index"], check=True)
    with zipfile.ZipFile(OUT / "index.epub") as book:
        package = book.read("book/package.opf").decode()
    assert '<itemref idref="index"/><itemref idref="notation"/>' in package


def test_the_pdf_says_what_the_page_says(page: list[str]) -> None:
    from pypdf import PdfReader

    file = OUT / f"{CHAPTER}.pdf"
    reader = PdfReader(file)
    lines = [p.extract_text().splitlines() for p in reader.pages]
    # Each page begins with its running head and its number.
    assert [line[1] for line in lines[2:]] == [str(n) for n in range(3, len(lines) + 1)]
    text = letters("".join("".join(line[2:]) for line in lines))
    assert [words for words in page if not holds(text, words)] == []
    assert len(page) > 200
    assert "Answers1(" in text.replace(".", "")
    assert "llmcourse.github.io/llmcourse/book/attention.html#" in text

    # Every picture has its alternative text, and the contents have page numbers.
    pictures = (OUT / f"{CHAPTER}.html").read_text("utf-8").count("<img ") - 1  # logo
    assert file.read_bytes().count(b"/Alt ") == pictures
    assert re.search(r"Quiz\s*\d+$", reader.pages[1].extract_text(), re.MULTILINE)
    assert len(reader.outline) > 1


def test_the_epub_says_what_the_page_says(page: list[str]) -> None:
    """All files of the book are well-formed, and what they name is there."""
    with zipfile.ZipFile(OUT / f"{CHAPTER}.epub") as book:
        names = book.namelist()
        assert names[0] == "mimetype"
        trees = {
            name: ElementTree.fromstring(book.read(name))
            for name in names
            if name.endswith((".xhtml", ".opf", ".xml"))
        }
    chapter = trees[f"book/{CHAPTER}.xhtml"]
    text = letters("".join(chapter.itertext()))
    assert [words for words in page if words not in text] == []
    anchors = {
        (name.removeprefix("book/"), element.get("id"))
        for name, tree in trees.items()
        for element in tree.iter()
    }
    for tree in (chapter, trees["book/nav.xhtml"]):
        for image in tree.iter(f"{XHTML}img"):
            assert f"book/{image.get('src')}" in names
            assert image.get("alt")
        for link in tree.iter(f"{XHTML}a"):
            target = link.get("href", "")
            assert (
                "://" in target
                or tuple(target.split("#")) in anchors
                or (f"book/{target}" in names)
            )


def test_the_first_page_links_to_what_is_published(
    html: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bs4")
    spec = importlib.util.spec_from_file_location("paper", ROOT / "book" / "print.py")
    assert spec is not None
    assert spec.loader is not None
    paper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(paper)
    first = tmp_path / "site" / "book" / "index.html"
    first.parent.mkdir(parents=True)
    first.write_text((html / "book" / "index.html").read_text("utf-8"), "utf-8")
    monkeypatch.setattr(paper, "HTML", tmp_path / "site")
    files = [tmp_path / "book.pdf", tmp_path / "book.epub"]
    for file in files:
        file.write_bytes(bytes(2_400_000))
    paper.publish(files)
    text = first.read_text("utf-8")
    assert '<a href="../book.pdf">PDF</a> (2 MB)' in text
    assert all((tmp_path / "site" / file.name).is_file() for file in files)
    with pytest.raises(SystemExit, match="no place"):
        paper.publish(files)
