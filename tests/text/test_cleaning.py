import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcourse.text.cleaning import clean, clean_text, remove_boilerplate
from llmcourse.text.documents import Document


def page(number, body):
    lines = ["Home | News | About", body, f"Page {number} of 30", "}"]
    return Document("\n".join(lines), name=f"page/{number}")


PAGES = [page(i, f"Story {chr(97 + i)} is told here.") for i in range(20)]


@pytest.mark.parametrize(
    ("dirty", "wanted"),
    [
        ("cafe\u0301", "café"),
        ("a\r\nb\rc\x0cd\u2028e", "a\nb\nc\nd\ne"),
        ("\ufeffa\x00b\x07c\u200bd\u00ade", "abcde"),
        ("a\u00a0b\u2009c", "a b c"),
        ("a  \t\n\n\n\n  b\n\n", "a\n\n  b"),
        ("\ud83d", "\ufffd"),
        ("e\x00\u0301", "é"),  # a control character parts letter and accent
    ],
    ids=["form C", "line ends", "invisible", "spaces", "blank", "surrogate", "order"],
)
def test_each_kind_of_dirt(dirty, wanted):
    assert clean_text(dirty) == wanted


@pytest.mark.parametrize("text", ["a\tb", "  def f():\n\treturn 1", "👩‍🚀", "می‌خواهم"])
def test_tabs_indents_joined_emoji_and_persian_stay(text):
    assert clean_text(text) == text


@given(st.text(st.characters() | st.sampled_from("\r\n\x00\u0301\u200b\ud800 e")))
def test_cleaning_twice_changes_nothing(text):
    once = clean_text(text)
    assert clean_text(once) == once


@given(st.text())
def test_clean_text_is_normal_and_encodes(text):
    cleaned = clean_text(text)
    cleaned.encode("utf-8")
    assert unicodedata.is_normalized("NFC", cleaned)
    controls = {c for c in cleaned if unicodedata.category(c) == "Cc"}
    assert controls <= {"\n", "\t"}


def test_no_control_character_of_unicode_survives():
    characters = [chr(i) for i in range(sys.maxunicode + 1)]
    controls = [c for c in characters if unicodedata.category(c) in ("Cc", "Cs")]
    left = set(clean_text("x".join(controls)))
    assert left == {"x", "\n", "\t", "\ufffd"}


def test_the_report_counts_documents_by_kind_of_dirt():
    texts = ["a \r\nb", "clean", "\x00\n", "e\u0301"]
    documents, report = clean([Document(text) for text in texts])
    assert [document.text for document in documents] == ["a\nb", "clean", "é"]
    assert report.documents_removed == 1
    assert report.reasons["no text"] == 1
    assert report.reasons["line ends"] == 1
    assert report.reasons["Unicode not in form C"] == 1


def test_cleaning_keeps_where_a_document_came_from():
    (document,), _ = clean([Document("a \r\n", "web", "x")])
    assert document == Document("a", "web", "x")


def test_menu_and_page_numbers_go_and_the_story_stays():
    """20 pages: the menu is in all, "Page n of 30" is one line but for digits.

    "}" is in all, too, but has fewer than three words.
    """
    documents, report = remove_boilerplate(PAGES)
    assert documents[3].text == "Story d is told here.\n}"
    assert report.reasons == {"repeated line": 20}
    assert report.documents_removed == 0
    assert "in 20 documents" in str(report)


@pytest.mark.parametrize(("copies", "gone"), [(9, False), (10, True)])
def test_a_line_is_boilerplate_from_ten_documents_on(copies, gone):
    notice = "\nAll rights reserved."
    documents = [
        Document(f"Own line {chr(97 + i)} here." + notice * (i < copies))
        for i in range(20)
    ]
    after, _ = remove_boilerplate(documents)
    assert ("All rights reserved." not in after[0].text) == gone


def test_a_line_repeated_in_one_document_only_is_no_boilerplate():
    documents = [Document("one more time\n" * 50), *PAGES]
    after, _ = remove_boilerplate(documents)
    assert after[0].text == documents[0].text


def test_a_document_of_boilerplate_alone_goes():
    documents, report = remove_boilerplate([*PAGES, Document("Home | News | About")])
    assert len(documents) == 20
    assert report.documents_removed == 1


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and at most 1, got"):
        remove_boilerplate(PAGES, share=share)
