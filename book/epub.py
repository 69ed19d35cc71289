"""The book as an EPUB 3: the pages that `print.py` makes, in a zip that readers open.

Formulas are MathML, as KaTeX writes it beside its HTML.
"""

from __future__ import annotations

import copy
import hashlib
import re
import zipfile
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from print import Page

BOOK = Path(__file__).resolve().parent
TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".css": "text/css"}
CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book/package.opf"
media-type="application/oebps-package+xml"/></rootfiles></container>"""
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
lang="en" xml:lang="en" data-theme="light">
<head><title>{title}</title><link rel="stylesheet" href="pygments.css"/>
<link rel="stylesheet" href="print.css"/></head>
<body>
{body}
</body></html>"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id"
xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">{identifier}</dc:identifier>
<dc:title>{title}</dc:title><dc:creator>{author}</dc:creator>
<dc:language>en</dc:language><dc:rights>CC BY 4.0; code: MIT License</dc:rights>
<dc:source>{repository}</dc:source>
<meta property="dcterms:modified">{modified}</meta>
</metadata>
<manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
{items}
</manifest>
<spine><itemref idref="nav"/>{spine}</spine>
</package>"""


def write_epub(path: Path, pages: list[Page], about: dict[str, str]) -> Path:
    """Write the book to a file and return its path."""
    static = BOOK.parent / "_build" / "html" / "_static"
    files = {"print.css": BOOK / "print.css", "pygments.css": static / "pygments.css"}
    files["cover.png"] = BOOK / "static" / "card.png"
    texts = {}
    for page in pages:
        texts[page.key] = page_text(page, path.parent, files)
    # A link inside the book names the file, too.
    for key, text in texts.items():
        texts[key] = re.sub(
            r'href="#([\w-]+?)(--[^"]*)?"',
            lambda m: f'href="{m[1]}.xhtml#{m[1]}{m[2] or ""}"',
            text,
        )
    entries = "\n".join(
        f'<li><a href="{page.key}.xhtml">{escape(page.title)}</a>{sections(page)}</li>'
        for page in pages
    )
    nav = f'<nav epub:type="toc"><h1>Contents</h1><ol>{entries}</ol></nav>'
    items = [
        f'<item id="f{number}" href="{name}" media-type="{TYPES[Path(name).suffix]}"/>'
        for number, name in enumerate(files)
    ]
    items[2] = items[2].replace("/>", ' properties="cover-image"/>')
    for key, text in texts.items():
        mathml = ' properties="mathml"' if "<math" in text else ""
        items.append(
            f'<item id="{key}" href="{key}.xhtml"{mathml} '
            f'media-type="application/xhtml+xml"/>'
        )
    spine = "".join(f'<itemref idref="{key}"/>' for key in texts)
    digest = hashlib.sha256("".join(texts.values()).encode()).hexdigest()
    package = PACKAGE.format(
        items="\n".join(items),
        spine=spine,
        identifier=f"{about['repository']}#{digest[:12]}",
        **{key: escape(value) for key, value in about.items()},
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("book/package.opf", package)
        title = escape(about["title"])
        book.writestr("book/nav.xhtml", PAGE.format(title=title, body=nav))
        for page in pages:
            text = PAGE.format(title=escape(page.title), body=texts[page.key])
            book.writestr(f"book/{page.key}.xhtml", text)
        for name, file in files.items():
            book.write(file, f"book/{name}")
    return path


def page_text(page: Page, folder: Path, files: dict[str, Path]) -> str:
    """Return a page as XHTML, and enter its pictures in `files`."""
    body = copy.copy(page.body)
    for formula in body.select(".katex"):
        formula.annotation.decompose()
        for operator in formula.select("mo:has(> mrow)"):
            operator.string = operator.get_text()  # KaTeX nests what may not be
        formula.replace_with(formula.math)
    for image in body.select("img"):
        source = (folder / image["src"]).resolve()
        image["src"] = f"images/{source.name}"
        files[image["src"]] = source
    return body.decode(formatter="minimal")


def sections(page: Page) -> str:
    """Return the list of a page's sections for the table of contents."""
    entries = "".join(
        f'<li><a href="{page.key}.xhtml#{anchor}">{escape(text)}</a></li>'
        for anchor, text in page.headings()
    )
    return f"<ol>{entries}</ol>" if entries else ""
