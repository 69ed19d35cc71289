"""Sphinx extension: what is repaired in the HTML of each page.

- Pictures tell their size, so that the text below does not jump when they arrive, and
  are loaded when a reader comes near.
- A link to a term of the glossary has the term's definition as its title, as a
  citation has its reference; book.js shows both.
- What a cell prints is called prose where it has no columns; a phone wraps it, and
  joins the lines that were filled up to the width of a wider screen.
- Lines are not broken before % or ★, nor within a short piece of code; apostrophes are
  curved, as Sphinx leaves them straight in raw HTML.
- The buttons of folded solutions and of a folded set-up say so.
- The foot of the page has licence, version, and where to report a mistake.
"""

from __future__ import annotations

import re
import struct
from functools import cache
from html import escape, unescape
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

PICTURE = re.compile(r'<img (?=[^>]*?src="(?:\.\./)*_images/([^"/]+)")')
VIEW_BOX = re.compile(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"')
TERM = re.compile(
    r'<a class="reference internal" href="[^"]*glossary\.html#(term-[^"]+)"'
)
SOLUTION = re.compile(
    r'(?<=<div class="cell )[^"]*tag_solution[^>]*>\s*<details.*?</summary>', re.DOTALL
)
PRINTED = re.compile(
    r'(?<=<div class="output )([^"]*highlight.*?<pre>)(.*?)(?=</pre>)', re.DOTALL
)
LABEL = re.compile(r"\s*\S+(?: \S+){0,3} ?:(?=[ \d])|<\|")  # begins another line
FILLED = 80, 84  # characters in a line of what is printed as prose
TAG = re.compile("<[^>]*>")
CODE = re.compile(r'<code class="(?=docutils literal notranslate">(.*?)</code>)')
# Left as it is where somebody copies it, or a script reads it.
TYPED = re.compile(
    r"<(pre|script|code)\b.*?</\1>|(?<=\d) (?=%)| (?=★)|(?<=[a-z])'(?=[a-z])", re.DOTALL
)
SET = {" ": "\N{NO-BREAK SPACE}", "'": "\N{RIGHT SINGLE QUOTATION MARK}"}
COLUMNS = re.compile(r"\S {2,}\S")
FOOT = """
<p>Text: <a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>,
code: MIT License.
Version {version}, <a href="{repository}/blob/main/CHANGELOG.md">what is new</a>.</p>
<p>Something is wrong or unclear?
<a href="{repository}/issues/new">Report a mistake</a></p>
"""


def size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a PNG or SVG picture in pixels, if it tells them."""
    content = path.read_bytes()
    if content.startswith(b"\x89PNG"):
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    found = VIEW_BOX.search(content[:2000].decode("utf8", "ignore"))
    return (round(float(found[1])), round(float(found[2]))) if found else None


def mark_pictures(body: str, files: dict[str, Path]) -> str:
    """Return a page's HTML with size and `loading` at each picture that is a file."""

    def add(match: re.Match[str]) -> str:
        path = files.get(match[1])
        known = size(path) if path else None
        if known is None:
            return match[0]
        return f'<img width="{known[0]}" height="{known[1]}" loading="lazy" '

    return PICTURE.sub(add, body)


def name_folds(body: str) -> str:
    """Return a page's HTML in which folded solutions and the set-up are called so.

    >>> cell = '<div class="cell tag_solution"><details><summary>{}</summary>'
    >>> name_folds(cell.format("Show code cell content")) == cell.format(
    ...     "Show solution"
    ... )
    True
    """
    body = SOLUTION.sub(
        lambda match: match[0].replace("code cell content", "solution"), body
    )
    before, heading, after = body.partition('<section id="setup">')
    after = after.replace("code cell source</", "the set-up</", 2)  # show, and hide
    return re.sub("code cell (?:source|content)</", "code</", before + heading + after)


def mark_prose(body: str) -> str:
    """Return a page's HTML in which what is printed without columns is called prose.

    >>> output = '<div class="output stream highlight"><pre>{}</pre></div>'
    >>> mark_prose(output.format("step  loss")) == output.format("step  loss")
    True
    >>> mark_prose(output.format("Once there was a fox"))
    '<div class="output prose stream highlight"><pre>Once there was a fox</pre></div>'
    """

    def add(match: re.Match[str]) -> str:
        if COLUMNS.search(match[2]):
            return match[0]
        return f"prose {match[1]}{mark_filled(match[2])}"

    return PRINTED.sub(add, body)


def mark_filled(printed: str) -> str:
    r"""Return printed lines with a mark where a line ends only because it was full.

    >>> print(mark_filled("a " * 38 + "fox\nwent on,\nand on"))  # doctest: +ELLIPSIS
    a a a ... a fox<span class="filled">
    </span>went on,
    and on
    """
    lines = printed.split("\n")
    written = [unescape(TAG.sub("", line)) for line in lines]
    joined = False
    for number, (line, following) in enumerate(pairwise(written)):
        wanted = len(" ".join([line, *following.split()[:1]]))
        indents = [len(each) - len(each.lstrip()) for each in (line, following)]
        joined = (
            any(len(line) <= width < wanted for width in FILLED)
            and not LABEL.match(following)
            and (indents[0] == 0 or (joined and indents[0] == indents[1]))
        )
        if joined:
            rest = lines[number + 1].lstrip(" ")
            indent = lines[number + 1].removesuffix(rest)
            lines[number] += '<span class="filled">'
            lines[number + 1] = f"{indent}</span>{rest}"
    return "\n".join(lines)


def typeset(body: str) -> str:
    r"""Return a page's HTML with fewer places to break lines, and curved apostrophes.

    >>> typeset("of 95 % right <pre>95 % of 7</pre>").split(" ")
    ['of', '95\xa0%', 'right', '<pre>95', '%', 'of', '7</pre>']
    >>> typeset("it isn't <code>isn't</code>")
    "it isn’t <code>isn't</code>"
    """

    def add(match: re.Match[str]) -> str:
        return match[0] + ("short " if len(TAG.sub("", match[1])) <= 16 else "")

    return TYPED.sub(
        lambda match: match[0] if match[1] else SET[match[0]], CODE.sub(add, body)
    )


@cache
def definitions(env: BuildEnvironment) -> dict[str, str]:
    """Return the definition of each term of the glossary, by its anchor."""
    from docutils import nodes

    found = {}
    for item in env.get_doctree("book/glossary").findall(nodes.definition_list_item):
        text = " ".join(item.children[-1].astext().split())
        for term in item.findall(nodes.term):
            found.update(dict.fromkeys(term["ids"], text))
    return found


def explain_terms(body: str, meaning: dict[str, str]) -> str:
    """Return a page's HTML with its definition at each link to a term."""

    def add(match: re.Match[str]) -> str:
        text = meaning.get(match[1])
        return f'{match[0]} title="{escape(text)}"' if text else match[0]

    return TERM.sub(add, body)


def mend(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Mend a page's HTML."""
    if "body" not in context:
        return
    images: dict[str, str] = app.builder.images
    files = {name: Path(app.srcdir, source) for source, name in images.items()}
    body = typeset(mark_prose(mark_pictures(context["body"], files)))
    body = name_folds(body)
    if page != "book/glossary":
        body = explain_terms(body, definitions(app.env))
    context["body"] = body


def write_foot(app: Sphinx, config: Config) -> None:
    """Set what the theme writes at the foot of each page."""
    options = config.html_theme_options
    repository = options.get("repository_url", "")
    foot = FOOT.format(version=version("llmcourse"), repository=repository)
    options["extra_footer"] = foot


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension."""
    app.connect("config-inited", write_foot, priority=100)
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
