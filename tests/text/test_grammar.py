"""Laws of the story grammar, on grammars small enough to list every story."""

import math
import random

import pytest

from llmcourse.text.grammar import Grammar

# Everything at once: weights, a keyed rule, a keyed list, two picks from one list,
# a form of the second that is looked at later, a note, and names of unequal length.
SMALL = """
list name: word | he=she | kind
    Mia | tall, Jo | small, Ann | tall
list pet @ place
    hill: owl, goat
    pond: frog, duck, goldfish
list place
    hill, pond
rule story
    (3) {Hero=name} met {friend=name}. <trip>
    (1) {Hero=name} was alone{mood: sad}. <trip_alone>
rule trip
    On the {place=place} [they|(2) both] saw {first.a=pet} and {second.a=pet}. <end>
rule trip_alone
    {Hero.he} saw {fear.a=beast}[.|, {=beast} and {=beast}.]
rule end @ friend.kind
    tall: {Friend} jumped.
    small: {Friend} hid[|, and {second.the} hid, too].
list beast
    wolf, elephant
"""


@pytest.fixture(scope="module")
def small() -> Grammar:
    return Grammar(SMALL)


def test_probability_of_a_story_by_hand(small: Grammar) -> None:
    """3/4 · 1/3 name · 1/2 name · 1/2 place · 2/3 both · 1/3 pet · 1/2 pet · 1/2."""
    text = "Mia met Jo. On the pond both saw a frog and a duck. Jo hid."
    by_hand = 3 / 4 * 1 / 3 * 1 / 2 * 1 / 2 * 2 / 3 * 1 / 3 * 1 / 2 * 1 / 2
    story = small.parse(text)
    assert story.log_prob == pytest.approx(math.log(by_hand), abs=1e-12)
    assert story.facts == {
        "hero": "Mia",
        "friend": "Jo",
        "place": "pond",
        "first": "frog",
        "second": "duck",
    }


def test_number_of_stories_by_hand(small: Grammar) -> None:
    """6 pairs of names, times 2 words, times 2 + 6 pairs of pets; small has 2 ends.

    The friend is small in 2 of 6 pairs. Alone: 3 names, 2 beasts and 2 ends, for a
    pick that binds nothing still leaves out what a variable holds.
    """
    stories = list(small.enumerate())
    assert len(stories) == (4 * 1 + 2 * 2) * 2 * (2 + 6) + 3 * 2 * 2


def test_probabilities_of_all_stories_sum_to_one(small: Grammar) -> None:
    stories = list(small.enumerate())
    assert len({story.text for story in stories}) == len(stories)
    assert math.fsum(math.exp(s.log_prob) for s in stories) == pytest.approx(1)


def test_every_story_parses_to_itself(small: Grammar) -> None:
    for story in small.enumerate():
        assert small.parse(story.text) == story


def test_pieces_make_the_story_and_name_what_wrote_them(small: Grammar) -> None:
    for story in small.enumerate():
        pieces = list(small.pieces(story))
        assert "".join(text for text, _ in pieces) == story.text
        written = {name for _, name in pieces}
        assert story.facts.keys() - written <= {"mood"}  # which is noted alone


def test_samples_are_stories_of_the_grammar(small: Grammar) -> None:
    every = {story.text: story for story in small.enumerate()}
    rng = random.Random(3)
    for _ in range(300):
        story = small.sample(rng)
        assert story == every[story.text]


def test_samples_follow_the_distribution(small: Grammar) -> None:
    """Chi-squared over all stories; a false alarm has probability below 1e-4."""
    n, rng, counts = 20_000, random.Random(0), dict[str, int]()
    for _ in range(n):
        text = small.sample(rng).text
        counts[text] = counts.get(text, 0) + 1
    stories = list(small.enumerate())
    expected = {s.text: n * math.exp(s.log_prob) for s in stories}
    chi2 = sum((counts.get(t, 0) - e) ** 2 / e for t, e in expected.items())
    degrees = len(stories) - 1
    assert chi2 < degrees + 4 * math.sqrt(2 * degrees) + 8


def test_entropy_and_lengths_equal_the_sums_over_all_stories(small: Grammar) -> None:
    stories = list(small.enumerate())
    probs = [math.exp(story.log_prob) for story in stories]

    def mean(values: list[float]) -> float:
        return math.fsum(p * v for p, v in zip(probs, values, strict=True))

    found = small.measures
    assert small.entropy() == pytest.approx(mean([-s.log_prob for s in stories]))
    assert found.words == pytest.approx(mean([len(s.text.split()) for s in stories]))
    assert found.size == pytest.approx(mean([len(s.text.encode()) for s in stories]))


def test_second_entry_of_a_list_depends_on_the_first() -> None:
    """Whether the friend is tall depends on whether the hero, now forgotten, is."""
    grammar = Grammar(
        "list n: word | k\n  A | x, B | y, C | y\n"
        "rule story\n  {Hero=n} {friend=n} {third=n} <end>\n"
        "rule end @ third.k\n  x: one\n  y: [two|three]"
    )
    stories = list(grammar.enumerate())
    assert len(stories) == 2 + 4 * 2
    exact = -math.fsum(math.exp(s.log_prob) * s.log_prob for s in stories)
    assert grammar.entropy() == pytest.approx(exact)


def test_a_rule_can_depend_on_a_derived_form_of_a_fact() -> None:
    grammar = Grammar(
        "rule story\n  <bird> flew <end>\n"
        "rule bird\n  {bird: owl}\n  {bird: hen}\n"
        "rule end @ bird.a\n  an owl: [far|high|on]\n  a hen: home"
    )
    found = grammar.measures  # before any story has derived the form
    stories = list(grammar.enumerate())
    assert len(stories) == 3 + 1
    exact = -math.fsum(math.exp(s.log_prob) * s.log_prob for s in stories)
    assert found.entropy == pytest.approx(exact)


def test_prefix_probability_is_the_sum_over_stories_that_begin_so(
    small: Grammar,
) -> None:
    stories = list(small.enumerate())
    text = "Jo met Ann. On the hill they saw an owl and a goat. Ann jumped."
    for end in range(len(text) + 1):
        probs = [math.exp(s.log_prob) for s in stories if s.text.startswith(text[:end])]
        assert math.exp(small.prefix_log_prob(text[:end])) == pytest.approx(sum(probs))


def test_completions_begin_with_the_prefix_and_keep_the_proportions(
    small: Grammar,
) -> None:
    """A quarter of 400 in 4 standard deviations; a false alarm below 1e-4."""
    rng, alone = random.Random(1), 0
    for _ in range(400):
        story = small.complete("Mia", rng)
        assert story.text.startswith("Mia")
        assert small.parse(story.text) == story
        alone += "alone" in story.text
    assert abs(alone - 100) < 4 * math.sqrt(400 * 1 / 4 * 3 / 4)


def test_forms_of_words() -> None:
    grammar = Grammar(
        "list n: word | s\n  ox | oxen, fly | flies\nlist m\n  box, lady, toy, apple\n"
        "rule story\n  {A.a=n} {a.s} {A.the}: {b.a=m} {b.s} {B}"
    )
    texts = {story.text for story in grammar.enumerate()}
    assert "An ox oxen The ox: a box boxes Box" in texts
    assert "A fly flies The fly: a lady ladies Lady" in texts
    assert "A fly flies The fly: an apple apples Apple" in texts
    assert "A fly flies The fly: a toy toys Toy" in texts


def test_continuation_lines_and_comments_are_joined() -> None:
    grammar = Grammar("# a comment\nrule story\n  one\n    # inside\n    two\n  three")
    assert {story.text for story in grammar.enumerate()} == {"one two", "three"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule story\n  <end>", r"line 2: unknown or empty rule 'end'"),
        ("rule story\n  {a=thing}", r"line 2: unknown or empty list 'thing'"),
        ("rule story\n  {a=n.}", r"line 2: unknown or empty list"),
        ("rule story\n  x\nrule story\n  y", r"line 3: rule 'story' is defined twice"),
        ("list n\n  y, y\nrule story\n  x", r"line 2: 'y' occurs twice in list 'n'"),
        (
            "list n: word | b\n  y\nrule story\n  x",
            r"line 2: wanted word \| b, got 'y'",
        ),
        ("rule story\n  [a|b", r"line 2: a bracket is open"),
        ("rule story\n  a]b", r"line 2: a bracket is open"),
        ("rule story\n  a|b", r"line 2: stray '\|'"),
        ("rule story\n  {}", r"line 2: cannot read the field"),
        ("rule story\n  x\nrule e @ a\n  no key", r"line 4: 'e' has a key"),
        ("rules story\n  x", r"line 1: wanted 'rule NAME' or 'list NAME'"),
        ("  x", r"line 1: indented text before any rule"),
        ("rule story\n  (0) x", r"line 2: wanted a weight above 0, got 0"),
        ("", r"wanted a rule 'story'"),
    ],
)
def test_faulty_grammar_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grammar(text)


def test_a_list_from_which_all_is_taken_is_refused_with_its_line() -> None:
    grammar = Grammar("rule story\n    {a=x} saw {b=x}.\nlist x\n    Mia\n")
    for ask in (
        lambda: grammar.sample(random.Random(0)),
        grammar.entropy,
        lambda: grammar.log_prob("Mia saw Mia."),
    ):
        with pytest.raises(ValueError, match="line 3: the list 'x' must have more"):
            ask()


def test_text_that_is_no_story_is_refused_at_its_word(small: Grammar) -> None:
    with pytest.raises(ValueError, match=r"word 6, after '.*On the ', at 'moon'"):
        small.parse("Mia met Jo. On the moon")
    with pytest.raises(ValueError, match="word 1"):
        small.parse("")
    with pytest.raises(ValueError, match="stops fitting"):
        small.log_prob("Mia met Jo. On the pond both saw a frog and a duck. Jo hid. X")
    with pytest.raises(ValueError, match="no story begins so"):
        small.prefix_log_prob("Tom")
    with pytest.raises(ValueError, match="no story begins so"):
        small.complete("Mia met Mia", random.Random(0))


def test_ambiguous_text_is_refused() -> None:
    with pytest.raises(ValueError, match="2 derivations"):
        Grammar("rule story\n  a[b|]\n  ab").parse("ab")


def test_a_list_without_words_is_refused():
    with pytest.raises(ValueError, match="needs the form 'word'"):
        Grammar(
            "rule story\n    {=animal}\nlist animal: name | sound\n    owl | hooted"
        )
