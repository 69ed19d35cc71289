"""Uniform text, boilerplate, rules for quality, language."""

import sys
import unicodedata
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcourse.text.cleaning import (
    FUNCTION_WORDS,
    GOPHER,
    Rule,
    alphabetic_share,
    bullet_share,
    clean,
    clean_text,
    ellipsis_share,
    filter_language,
    filter_quality,
    function_word_share,
    guess_language,
    quality_fault,
    remove_boilerplate,
    repeated_line_share,
    repeated_phrase_share,
    symbol_ratio,
    word_length,
)
from llmcourse.text.documents import Document, python_docs, tales


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
    (document,), _ = clean([Document("a \r\n", "x")])
    assert document == Document("a", "x")


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


PROSE = (
    "On the first morning of the week the baker opened his shop before it was light. "
    "He lit the oven, swept the floor and set out the loaves that he had made on the "
    "evening before. When the bell rang for school, the children came in to buy rolls, "
    "and an old man asked if there was any cake left from the feast."
)
FOREIGN = {
    "de": (
        "Am ersten Morgen der Woche öffnete der Bäcker seinen Laden, bevor es hell "
        "wurde. Er heizte den Ofen und legte die Brote aus, die er am Abend gebacken "
        "hatte. Als die Kinder kamen, war nicht mehr viel von dem Kuchen übrig."
    ),
    "fr": (
        "Le premier matin de la semaine, le boulanger ouvrit sa boutique de nuit. "
        "Il alluma le four et posa les pains sur la table, avec les gâteaux qui ne se "
        "vendent pas. Quand les enfants sont venus, il y en avait plus pour eux."
    ),
    "es": (
        "La primera mañana de la semana el panadero abrió su tienda cuando todavía no "
        "era de día. Encendió el horno y puso los panes en la mesa para que los niños "
        "los compraran al ir a la escuela, pero ya no había más pasteles."
    ),
    "it": (
        "La prima mattina della settimana il fornaio aprì la bottega che era ancora "
        "notte. Accese il forno e mise il pane sulla tavola con i dolci di ieri. "
        "Quando sono venuti i bambini non ce ne era più, ma il pane era buono."
    ),
    "pt": (
        "Na primeira manhã da semana o padeiro abriu a loja quando ainda não era dia. "
        "Ele acendeu o forno e pôs os pães na mesa para as crianças que passavam com "
        "os pais. Depois já não havia muito mais do que um bolo e uma torta."
    ),
    "nl": (
        "Op de eerste morgen van de week deed de bakker zijn winkel open toen het nog "
        "niet licht was. Hij stak de oven aan en legde het brood op de tafel voor de "
        "kinderen die naar school gingen, maar er was niet veel over van het feest."
    ),
    "sv": (
        "Den första dagen i veckan öppnade bagaren sin butik när det inte var ljust. "
        "Han tände ugnen och lade ut bröden som han hade bakat på kvällen, och barnen "
        "kom för att köpa bullar, men det var inte mycket kvar till dem."
    ),
}


@pytest.mark.parametrize(
    ("measure", "text", "value"),
    [
        (word_length, "a bb cccc dd.", 2.5),
        (symbol_ratio, "# a b ... c… ...", 3 / 6),
        (symbol_ratio, "# # a … b c", 2 / 6),
        (alphabetic_share, "one 2 3rd -- four", 3 / 5),
        (bullet_share, "- a\n* b\n\nc\n• d", 3 / 4),
        (ellipsis_share, "read more ...\nand…\nend.", 2 / 3),
        (repeated_line_share, "a\nb\na\n\n a", 2 / 4),
        (repeated_phrase_share, "aa bb cc dd ee aa bb cc dd", 16 / 18),
        (repeated_phrase_share, "every word is another one here", 0.0),
        (repeated_phrase_share, "", 0.0),
        (repeated_phrase_share, "a b c d " * 2 + "x" * 32, 8 / 40),
        (function_word_share, "The fox, the hen and THE 3 geese", 4 / 8),
    ],
)
def test_each_measure_by_hand(measure, text, value):
    assert measure(text) == pytest.approx(value)


@pytest.mark.parametrize("rule", GOPHER, ids=lambda rule: rule.name)
def test_no_text_is_measured_without_an_error(rule):
    assert isinstance(rule.measure(""), float | int)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("short text", "number of words"),
        (PROSE.replace(" ", " supercalifragilistic-"), "word length"),
        (PROSE.replace(" ", "# "), "symbols per word"),
        (PROSE + " 1000" * 30, "words with a letter"),
        (
            "\n".join(f"- {word} morning of the" for word in PROSE.split()),
            "bullet lines",
        ),
        (PROSE.replace(". ", " ...\n") + "...", "cut-off lines"),
        ("buy cheap watches online " * 20, "function words"),
        (f"{PROSE}\n" * 2, "repeated lines"),
        (PROSE + " and that is why he left home" * 12, "repeated phrase"),
    ],
)
def test_each_rule_catches_what_it_is_for(text, fault):
    name, _ = quality_fault(text)
    assert fault in name


def test_prose_has_no_fault():
    assert quality_fault(PROSE) is None


def test_no_tale_is_thrown_away():
    """Known-good text: a rate of false alarms above 1 % would show.

    With a rate of 1 %, 500 tales all pass with a probability of 0.7 %.
    """
    documents, _ = clean(list(tales(500, seed=1)))
    for step in (filter_quality, filter_language):
        _, report = step(documents)
        assert report.removed_share == 0


def test_few_pages_of_the_python_documentation_are_thrown_away():
    """Written by people for people, with tables and code between the sentences.

    Some of the eighty topics of `help()` are shorter than 50 words, a few are
    tables of symbols; the rest has to pass, and all of it is English.
    """
    topics = [d for d in islice(python_docs(), 120) if d.name.startswith("topics/")]
    documents, _ = clean(topics)
    long = [d for d in documents if len(d.text.split()) >= 50]
    assert len(long) > 50
    assert filter_quality(long)[1].removed_share <= 0.1
    assert filter_language(long)[1].removed_share == 0


@pytest.mark.parametrize("language", FOREIGN)
def test_each_language_is_told_from_the_others(language):
    assert guess_language(FOREIGN[language]) == language


def test_a_foreign_text_has_too_few_english_function_words():
    for text in FOREIGN.values():
        rule = next(rule for rule in GOPHER if "function" in rule.name)
        assert quality_fault(text, [rule]) is not None


def test_the_filter_names_the_language_it_found():
    texts = {"en": PROSE, **FOREIGN, "": "狐は森に住んでいました。"}
    documents = [Document(text, name) for name, text in texts.items()]
    kept, report = filter_language(documents)
    assert [document.name for document in kept] == ["en"]
    assert report.reasons["language de"] == 1
    assert report.reasons["language unknown"] == 1


def test_every_list_of_function_words_has_its_size():
    sizes = {name: len(words) for name, words in FUNCTION_WORDS.items()}
    assert min(sizes.values()) >= 0.9 * max(sizes.values()), sizes


def test_own_rules_replace_those_of_gopher():
    rule = Rule("shouting", lambda text: float(text.count("!")), 0.0, 1.0)
    documents = [Document("Hello!"), Document("Hello!!!")]
    kept, report = filter_quality(documents, rules=[rule])
    assert kept == documents[:1]
    assert "shouting: 3" in str(report)


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="language must be 'en' or .*, got 'xx'"):
        filter_language([], language="xx")


def test_a_share_of_runs_that_overlap_is_at_most_all():
    assert repeated_phrase_share("buy " * 50) == 1
