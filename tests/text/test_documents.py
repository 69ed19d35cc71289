import pytest

from llmcourse.text.documents import Document, Removal, Report, excerpt, summarise


def texts(*names):
    return [Document(f"text {name}", "here", name) for name in names]


def test_a_step_that_removes_one_of_four():
    """Four documents of 6 characters each; one goes: 25 % of both."""
    before = texts("a", "b", "c", "d")
    report = summarise("step", before, before[1:], [Removal(before[0], "bad")])
    assert (report.documents_in, report.documents_out) == (4, 3)
    assert (report.characters_in, report.characters_out) == (24, 18)
    assert report.documents_removed == 1
    assert report.removed_share == 0.25
    assert report.reasons == {"bad": 1}


def test_reasons_are_counted_and_each_has_its_first_example():
    before = texts("a", "b", "c", "d")
    reasons = ["rare", "common", "common", "common"]
    removals = [Removal(d, why) for d, why in zip(before, reasons, strict=True)]
    report = summarise("step", before, [], removals)
    assert list(report.reasons.items()) == [("common", 3), ("rare", 1)]
    assert [example.document.name for example in report.examples] == ["a", "b"]


def test_the_table_has_a_row_for_the_input_and_one_for_each_step():
    documents = texts(*"abcdefgh")
    first = summarise("first", documents, documents[:6], [])
    second = summarise("second", documents[:6], documents[:3], [])
    rows = str(Report((first, second))).split("\n")
    assert [row.split()[:2] for row in rows[1:]] == [
        ["input", "8"],
        ["first", "6"],
        ["second", "3"],
    ]
    assert "25.0 %" in rows[2]
    assert "50.0 %" in rows[3]
    assert len({len(row) for row in rows[2:]}) == 1


def test_a_step_report_tells_why_and_shows_what():
    document = Document("Some text", "here", "notes.txt")
    report = summarise("step", [document], [], [Removal(document, "bad", "at line 3")])
    assert "1 × bad" in str(report)
    assert "notes.txt: bad: at line 3" in str(report)


def test_a_removal_without_detail_shows_the_text():
    assert str(Removal(Document("Some\ntext"), "bad")) == "(unnamed): bad: Some text"


@pytest.mark.parametrize("text", ["", "a", "word " * 40, "x" * 200, "\n\n a \n b"])
def test_an_excerpt_is_one_short_line(text):
    line = excerpt(text, width=20)
    assert len(line) <= 20
    assert "\n" not in line


def test_nothing_in_means_no_share_removed():
    assert summarise("step", [], [], []).removed_share == 0
