from itertools import islice

import pytest

from llmcourse.text.cleaning import (
    FUNCTION_WORDS,
    GOPHER,
    Rule,
    alphabetic_share,
    bullet_share,
    clean,
    ellipsis_share,
    filter_language,
    filter_quality,
    function_word_share,
    guess_language,
    quality_fault,
    repeated_line_share,
    repeated_phrase_share,
    symbol_ratio,
    word_length,
)
from llmcourse.text.documents import Document, python_docs, tales

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
    documents = [Document(text, "test", name) for name, text in texts.items()]
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
    with pytest.raises(ValueError, match="out of en, de, .*, got 'xx'"):
        filter_language([], language="xx")
