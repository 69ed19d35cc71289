r"""Clean text: one spelling, no boilerplate, only good prose in the chosen language.

The same sentence reaches a corpus in many spellings. "é" is one character or two, a
line ends in one byte or two, a page repeats its site's menu. A model would spend
parameters on the differences:

    "cafe\u0301 \r\n\x00"  →  "café"

Then readable rules keep what is prose. Each rule measures one number of a text, which
must lie between two bounds. On text known to be good, `StepReport.removed_share` is
the false-positive rate.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmcourse.arguments import check_one_of
from llmcourse.files import DATA
from llmcourse.text.deduplication import words
from llmcourse.text.documents import Document, Removal, StepReport, excerpt, summarise

# Line ends of all systems, form feed and vertical tab, NEL, U+2028 and U+2029.
_LINE_END = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Control characters except tab and newline; soft hyphen, zero-width space, word joiner
# and byte order mark; marks that set the direction of writing or shape its letters.
# U+200C and U+200D stay: Persian and emoji are written with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ODD_SPACE = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")
_BLANK_LINES = re.compile(r"\n{3,}")


def _fix_spaces(text: str) -> str:
    lines = _ODD_SPACE.sub(" ", text).split("\n")
    text = "\n".join(line.rstrip(" \t\u3000") for line in lines)
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


# The order matters: a control character may separate a letter from its accent.
_FIXES: Mapping[str, Callable[[str], str]] = {
    "line ends": lambda text: _LINE_END.sub("\n", text),
    "invisible characters": lambda text: _SURROGATE.sub(
        "\ufffd", _INVISIBLE.sub("", text)
    ),
    "Unicode not in form C": lambda text: unicodedata.normalize("NFC", text),
    "spaces and blank lines": _fix_spaces,
}


def clean_text(text: str) -> str:
    r"""Return the text in one standard form; cleaning it again changes nothing.

    Unicode normal form C; lines end in a newline; no control or other invisible
    characters except tab and newline; a lone surrogate becomes U+FFFD; no space at
    the end of a line; at most one blank line in a row, none at the ends. Spaces
    at the beginning of a line stay: they mean something in code and verse.

    Source: Unicode Standard Annex 15 (normal form C).

    >>> clean_text("cafe\u0301 \r\n\x00")
    'café'
    """
    for fix in _FIXES.values():
        text = fix(text)
    return text


def clean(documents: Sequence[Document]) -> tuple[list[Document], StepReport]:
    r"""Return the documents with clean texts, leaving out those with no text.

    Args:
        documents: Documents straight from their source.

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
                removals.append(Removal(document, reason))
            text = fixed
        if text.strip():
            kept.append(replace(document, text=text))
        else:
            removals.append(Removal(document, "no text", repr(document.text[:20])))
    return kept, summarise("clean", documents, kept, removals)


def remove_boilerplate(
    documents: Sequence[Document], *, min_documents: int = 10
) -> tuple[list[Document], StepReport]:
    """Return the documents without the lines that many of them repeat.

    Menus, licence headers, page numbers: a line of three or more words is boilerplate
    if it occurs in at least a tenth of the documents and in at least `min_documents`.
    All numbers count as equal, so "Page 3 of 10" and "Page 4 of 10" are one line.
    Documents with no other lines are removed.

    Args:
        documents: Clean documents.
        min_documents: The least number, as a share of few means little.
    """
    seen: Counter[str] = Counter()
    for document in documents:
        seen.update({_line_key(line) for line in document.text.split("\n")})
    least = max(0.1 * len(documents), min_documents)
    often = (key for key, count in seen.items() if count >= least)
    boilerplate = {key for key in often if len(key.split()) > 2}  # not "}" in programs
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
    """Return the form in which lines are compared: case, numbers, spaces folded."""
    return re.sub(r"\d+", "0", " ".join(line.casefold().split()))


def _function_words() -> dict[str, frozenset[str]]:
    source = DATA / "function_words.txt"
    lines = source.read_text(encoding="utf-8").splitlines()
    named = (line.split(": ") for line in lines if not line.startswith("#"))
    return {language: frozenset(text.split()) for language, text in named}


FUNCTION_WORDS = _function_words()
"""The most frequent ones of each language, about a third of any text in it."""


@dataclass(frozen=True)
class Rule:
    """A number measured on a text, and the bounds it must lie between."""

    name: str
    measure: Callable[[str], float]
    low: float
    high: float


def word_count(text: str) -> float:
    """Return the number of words, split at white space."""
    return float(len(text.split()))


def word_length(text: str) -> float:
    """Return the mean length of a word, in characters."""
    split = text.split()
    return len("".join(split)) / max(len(split), 1)


def symbol_ratio(text: str) -> float:
    """Return the larger of the numbers of hashes and of ellipses, per word."""
    ellipses = text.count("...") + text.count("…")
    return max(text.count("#"), ellipses) / max(len(text.split()), 1)


def alphabetic_share(text: str) -> float:
    """Return the share of the words that hold at least one letter."""
    return _share([any(map(str.isalpha, word)) for word in text.split()])


def bullet_share(text: str) -> float:
    """Return the share of the lines that begin with a bullet."""
    return _share([line.startswith(("-", "*", "•", "‣")) for line in _lines(text)])


def ellipsis_share(text: str) -> float:
    """Return the share of the lines that end in an ellipsis, cut off."""
    return _share([line.endswith(("...", "…")) for line in _lines(text)])


def repeated_line_share(text: str) -> float:
    """Return the share of the lines that repeat an earlier line."""
    lines = _lines(text)
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def repeated_phrase_share(text: str) -> float:
    """Return the largest share of the characters that one run of four words fills.

    A run that occurs only once does not count.
    """
    split = text.split()
    runs = Counter(zip(split, split[1:], split[2:], split[3:], strict=False))
    masses = (n * len("".join(run)) for run, n in runs.items() if n > 1)
    share = max(masses, default=0) / max(1, len("".join(split)))
    return min(share, 1.0)  # runs may overlap


def function_word_share(text: str) -> float:
    """Return the share of the words that are English function words.

    >>> function_word_share("The fox and the hen")
    0.6
    """
    return _share([word in FUNCTION_WORDS["en"] for word in words(text)])


GOPHER = (
    Rule("number of words", word_count, 50.0, 100_000.0),
    Rule("word length", word_length, 3.0, 10.0),
    Rule("symbols per word", symbol_ratio, 0.0, 0.1),
    Rule("share of words with a letter", alphabetic_share, 0.8, 1.0),
    Rule("share of bullet lines", bullet_share, 0.0, 0.9),
    Rule("share of cut-off lines", ellipsis_share, 0.0, 0.3),
    Rule("share of function words", function_word_share, 0.1, 0.8),
    Rule("share of repeated lines", repeated_line_share, 0.0, 0.3),
    Rule("share of a repeated phrase", repeated_phrase_share, 0.0, 0.16),
)
"""The rules of Rae et al. (2021), tables A1 and A2, for English text.

Unlike there, one rule replaces those for phrases of many lengths, and a share of
function words replaces "two of eight stop words": lists of words lack those as well.
"""


def quality_fault(
    text: str, rules: Sequence[Rule] = GOPHER
) -> tuple[str, float] | None:
    """Return the name and value of the first rule that a clean text breaks, or None.

    >>> quality_fault("Too short.")
    ('number of words', 2.0)
    >>> quality_fault("buy now " * 50)
    ('share of function words', 0.0)
    """
    for rule in rules:
        value = rule.measure(text)
        if not rule.low <= value <= rule.high:
            return rule.name, value
    return None


def filter_quality(
    documents: Sequence[Document], *, rules: Sequence[Rule] = GOPHER
) -> tuple[list[Document], StepReport]:
    """Return the clean documents that pass all the rules."""
    judged = [(each, quality_fault(each.text, rules)) for each in documents]
    kept = [each for each, fault in judged if not fault]
    removals = [
        Removal(each, fault[0], f"{fault[1]:.3g}") for each, fault in judged if fault
    ]
    return kept, summarise("filter quality", documents, kept, removals)


def guess_language(text: str) -> str:
    """Return the language whose function words are most frequent in the text.

    A text with fewer than one such word in ten is of an unknown language.

    Args:
        text: Any text; a sentence is too short, a paragraph enough.

    Source: Grefenstette (1995), the method of short words.

    >>> guess_language("Es war einmal ein Fuchs, der in dem Wald wohnte.")
    'de'
    """
    said = words(text)
    counts = {
        language: sum(word in known for word in said)
        for language, known in FUNCTION_WORDS.items()
    }
    best = max(counts, key=lambda language: counts[language])
    return best if 0 < len(said) <= 10 * counts[best] else "unknown"


def filter_language(
    documents: Sequence[Document], *, language: str = "en"
) -> tuple[list[Document], StepReport]:
    """Return the documents in the language, as far as `guess_language` can tell.

    Args:
        documents: Clean documents.
        language: A key of `FUNCTION_WORDS`.

    Raises:
        ValueError: If the language is not in the list.
    """
    check_one_of("language", language, FUNCTION_WORDS)
    guessed = [(each, guess_language(each.text)) for each in documents]
    kept = [each for each, guess in guessed if guess == language]
    removals = [
        Removal(d, f"language {guess}") for d, guess in guessed if guess != language
    ]
    return kept, summarise("filter language", documents, kept, removals)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
