"""Sphinx extension: each reference says which pages cite it, with links back.

sphinxcontrib-bibtex links back within one page alone; here the references have a page
of their own. A link leads to the first place where its page cites the reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


Places = dict[str, dict[str, str]]


def first_places(citations: list[Any], pages: list[str]) -> Places:
    """Return for each key the pages that cite it, in order, with the place on each."""
    places: Places = {}
    for citation in sorted(citations, key=lambda one: pages.index(one.docname)):
        for target in citation.targets:
            on_pages = places.setdefault(target.key, {})
            on_pages.setdefault(citation.docname, citation.citation_ref_id)
    return places


def link_back(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write below each reference of a page where it is cited."""
    from docutils import nodes
    from sphinxcontrib.bibtex.domain import get_docnames

    domain: Any = app.env.get_domain("cite")
    keys = {one.citation_id: one.key for one in domain.citations}
    places = first_places(domain.citation_refs, list(get_docnames(app.env)))
    for entry in doctree.findall(nodes.citation):
        line = nodes.paragraph("", "Cited in ", classes=["cited-in"])
        for citing, place in places.get(keys[entry["ids"][0]], {}).items():
            if len(line) > 1:
                line += nodes.Text(", ")
            address = f"{app.builder.get_relative_uri(page, citing)}#{place}"
            title = app.env.titles[citing].astext()
            line += nodes.reference("", title, refuri=address, internal=True)
        entry += line


def write_again(app: Sphinx, env: BuildEnvironment) -> set[str]:
    """Return the pages with references: what cites them may have changed."""
    domain: Any = env.get_domain("cite")
    return {one.docname for one in domain.bibliographies}


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension."""
    app.connect("doctree-resolved", link_back)
    app.connect("env-updated", write_again)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
