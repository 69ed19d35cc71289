r"""Make text uniform: Unicode form, control characters, line ends, boilerplate.

The same sentence reaches a corpus in many spellings. "é" is one character or
two, a line ends in one byte or two, a page repeats its site's menu. A model
would spend parameters on the difference:

    "cafe\u0301 \r\n\x00"  →  "café"
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from llmcourse.documents import Document, Removal, StepReport, excerpt, summarise

# Line ends of all systems, form feed and vertical tab, NEL, U+2028 and U+2029.
_LINE_END = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Control characters but tab and newline; soft hyphen, zero-width space, word
# joiner and byte order mark; the marks that turn the direction of writing.
# U+200C and U+200D stay: Persian and emoji are written with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffe\uffff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ODD_SPACE = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")
_TRAILING_SPACE = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def _fix_line_ends(text: str) -> str:
    return _LINE_END.sub("\n", text)


def _fix_invisible(text: str) -> str:
    return _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", text))


def _fix_unicode(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _fix_spaces(text: str) -> str:
    text = _TRAILING_SPACE.sub("", _ODD_SPACE.sub(" ", text))
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


# The order matters: a control character may part a letter from its accent.
_FIXES = {
    "line ends": _fix_line_ends,
    "invisible characters": _fix_invisible,
    "Unicode not in form C": _fix_unicode,
    "spaces and blank lines": _fix_spaces,
}


def clean_text(text: str) -> str:
    r"""Return the text in one form; cleaning it again changes nothing.

    Unicode normal form C; lines end in a newline; no control or other invisible
    characters but tab and newline; a lone surrogate becomes U+FFFD; no space at
    the end of a line; at most one blank line in a row, none at the ends. Spaces
    at the beginning of a line stay: they mean something in code and verse.

    Args:
        text: Any string.

    Source: Unicode Standard Annex 15 (normal form C).

    >>> clean_text("cafe\u0301 \r\n\x00")
    'café'
    """
    for fix in _FIXES.values():
        text = fix(text)
    return text


def clean(documents: Sequence[Document]) -> tuple[list[Document], StepReport]:
    r"""Return the documents with clean texts, those without any text left out.

    Args:
        documents: Documents as their source gave them.

    >>> documents, report = clean([Document("a \r\nb"), Document("\x00\n")])
    >>> [document.text for document in documents], dict(report.reasons)["no text"]
    (['a\nb'], 1)
    """
    kept: list[Document] = []
    removals: list[Removal] = []
    for document in documents:
        text = document.text
        for reason, fix in _FIXES.items():
            fixed = fix(text)
            if fixed != text:
                removals.append(Removal(document, reason, _change(text, fixed)))
            text = fixed
        if text.strip():
            kept.append(replace(document, text=text))
        else:
            removals.append(Removal(document, "no text", repr(document.text[:20])))
    return kept, summarise("clean", documents, kept, removals)


def _change(before: str, after: str) -> str:
    """Return where two texts first differ, a few characters of each."""
    limit = min(len(before), len(after))
    first = next((i for i in range(limit) if before[i] != after[i]), limit)
    start = max(first - 8, 0)
    return f"{before[start : first + 8]!r} → {after[start : first + 8]!r}"


def remove_boilerplate(
    documents: Sequence[Document],
    *,
    share: float = 0.1,
    min_documents: int = 10,
    min_words: int = 3,
) -> tuple[list[Document], StepReport]:
    """Return the documents without the lines that many of them repeat.

    Menus, licence headers, page numbers: a line is boilerplate if it stands in
    at least `share` of the documents and in at least `min_documents`. Digits
    count as equal, so "Page 3 of 10" and "Page 4 of 10" are one line. A document
    of which nothing is left goes.

    Args:
        documents: Clean documents.
        share: Share of the documents, between 0 and 1.
        min_documents: With few documents, a share means little.
        min_words: Shorter lines stay: "}" is in every program, and no menu.

    Raises:
        ValueError: If `share` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    seen: Counter[str] = Counter()
    for document in documents:
        seen.update({_line_key(line) for line in document.text.split("\n")})
    least = max(share * len(documents), min_documents)
    boilerplate = {
        key
        for key, count in seen.items()
        if count >= least and len(key.split()) >= min_words
    }
    kept: list[Document] = []
    removals: list[Removal] = []
    for document in documents:
        lines = document.text.split("\n")
        good = [line for line in lines if _line_key(line) not in boilerplate]
        if len(good) == len(lines):
            kept.append(document)
            continue
        bad = next(line for line in lines if _line_key(line) in boilerplate)
        detail = f"{excerpt(bad)} (in {seen[_line_key(bad)]:,} documents)"
        removals.append(Removal(document, "repeated line", detail))
        text = _fix_spaces("\n".join(good))
        if text.strip():
            kept.append(replace(document, text=text))
    return kept, summarise("remove boilerplate", documents, kept, removals)


def _line_key(line: str) -> str:
    """Return the form in which lines are compared: case, digits, spaces folded."""
    return re.sub(r"\d+", "0", " ".join(line.casefold().split()))
