"""Sphinx extension: the site brings no style and no file that none of its pages uses.

The theme comes with all of Bootstrap and Font Awesome, 400 KB of styles for each page
and 8 MB of files. A style stays if each class that it names is a word of some page or
script. What is left out, a rebuild copies again and leaves out again.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Below _static/: icons.css has the icons in the place of these.
UNUSED = ["scripts/fontawesome.js", "vendor/fontawesome"]
CLASS = re.compile(r"\.((?:[\w-]|\\.)+)")
# In `:not(.a)` and `:is(.a, .b)` no class has to be there.
CHOICE = re.compile(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)")
WORD = re.compile(r"[\w-]+")


def used(selector: str, words: set[str]) -> bool:
    """Return whether some element may match.

    >>> used("a.btn:not(.big)", {"btn"}), used(".fa-car:before", {"btn"})
    (True, False)
    """
    names = CLASS.findall(CHOICE.sub("", selector))
    return all(name.replace("\\", "") in words for name in names)


def lean(rules: list[Any], words: set[str]) -> str:
    """Return parsed rules as text, less those for classes that are no words."""
    from tinycss2 import parse_rule_list, serialize

    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = split(rule.prelude)
            wanted = [one for one in selectors if used(one, words)]
            if wanted:
                kept.append(f"{','.join(wanted)}{{{serialize(rule.content)}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
            inner = lean(parse_rule_list(rule.content, True, True), words)
            if inner:
                condition = serialize(rule.prelude)
                kept.append(f"@{rule.at_keyword}{condition}{{{inner}}}")
        elif "/fontawesome/" not in (text := rule.serialize()):  # icon fonts
            kept.append(text)
    return "".join(kept)


def split(prelude: list[Any]) -> list[str]:
    """Return the selectors of a list, such as `a, b`, one by one."""
    selectors = [""]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            selectors.append("")
        else:
            selectors[-1] += token.serialize()
    return [selector.strip() for selector in selectors]


def forget_entries(app: Sphinx) -> list[Any]:
    """Keep the package's names once in the search: as objects, not as entries, too."""
    entries = getattr(app.builder.env, "_search_index_index_entries", {})
    for page in entries:
        if page.startswith("book/api/"):
            entries[page] = []
    return []


def leave_out(app: Sphinx, error: Exception | None) -> None:
    """Remove from the built site what it does not use."""
    if error or app.builder.format != "html":
        return
    from tinycss2 import parse_stylesheet

    static = Path(app.outdir, "_static")
    for name in UNUSED:
        path = static / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    words: set[str] = set()
    for path in Path(app.outdir).rglob("*"):
        if path.suffix == ".map":
            path.unlink()
        elif path.with_suffix(".safetensors").exists():
            continue  # a model's weights
        elif path.suffix in (".html", ".js"):
            words.update(WORD.findall(path.read_text(encoding="utf8")))
    for path in static.rglob("*.css"):
        rules = parse_stylesheet(path.read_text(encoding="utf8"), True, True)
        path.write_text(lean(rules, words), encoding="utf8")


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension, after all that write to the site."""
    app.connect("html-collect-pages", forget_entries)
    app.connect("build-finished", leave_out, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
