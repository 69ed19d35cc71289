"""The bibliography: each entry leads to its text, and is cited."""

import re
from pathlib import Path

BOOK = Path(__file__).parents[1] / "book"
PRINTED = {"firth1957", "grefenstette1995"}  # known to no register of addresses


def entries() -> dict[str, dict[str, str]]:
    """Return each entry's fields, by its key."""
    text = (BOOK / "references.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{(\w+),\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("\n@") + 1
    fields = {
        key: dict(re.findall(r"^  (\w+) = \{(.*)\},$", e, re.M)) for key, e in found
    }
    assert len(fields) == len(found), "a key is given twice"
    return fields


def test_each_entry_has_a_link():
    for key, fields in entries().items():
        linked = fields.keys() & {"doi", "eprint", "url"}
        assert bool(linked) != (key in PRINTED), key


def test_addresses_have_their_form_and_are_said_once():
    for key, fields in entries().items():
        if "eprint" in fields:
            assert re.fullmatch(r"\d{4}\.\d{4,5}", fields["eprint"]), key
            assert fields["archiveprefix"] == "arXiv", key
        assert fields.get("doi", "10.").startswith("10."), key
        assert fields.get("url", "https://").startswith("https://"), key
        said = fields.get("note", "") + fields.get("howpublished", "")
        assert not re.search(r"arXiv:|https?:", said), key


def test_each_entry_is_cited():
    pages = [*BOOK.glob("*.md"), *BOOK.glob("src/*.py")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    lists = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
    cited = {key.strip() for one in lists for key in one.split(",")}
    assert cited == entries().keys()
