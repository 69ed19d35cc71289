"""Facts that come again: where they stand, and whether a model foretells them."""

import pytest
import torch

from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.text.tales import generate
from llmcourse.training.story_evaluation import (
    BANDS,
    FactRecall,
    fact_places,
    fact_recalls,
    shares_by_distance,
)
from llmcourse.training.text_loss import recalls

STORIES = list(generate(12, seed=1_000_001))


def pieces_of(tokenizer, story):
    return [tokenizer.decode([i]) for i in tokenizer.encode(story.text)]


# Worked example


def test_worked_example_of_the_first_tale():
    """With a token for each letter, Carl stands at 0 first and at 142 again."""
    story = next(generate(1, seed=0))
    assert story.text.startswith("Carl")
    place = next(fact_places(story, list(story.text)))
    assert story.text[142:146] == place.word == "Carl"
    assert place.distance == 142


# Law


def test_places_are_the_recalls_but_for_boys_and_girls():
    _, tokenizer = load_pretrained("base-llm")
    for story in STORIES:
        pieces, words = pieces_of(tokenizer, story), story.text.split()
        places = list(fact_places(story, pieces))
        wanted = [words[place] for place, _ in recalls(story)]
        wanted = [w for w in wanted if w.strip(".,!?\"'") not in ("boy", "girl")]
        assert len(places) == len(wanted) > 5
        for place, word in zip(places, wanted, strict=True):
            said = "".join(pieces[i] for i in place.tokens).strip()
            assert place.word in word
            assert said == place.word
            end = place.tokens.start - place.distance + len(place.tokens)
            assert place.word.lower() in "".join(pieces[: end + 4]).lower()


def test_distances_in_tokens_are_no_shorter_than_in_words():
    _, tokenizer = load_pretrained("base-llm")
    story = STORIES[0]
    places = fact_places(story, pieces_of(tokenizer, story))
    by_word = [d for p, d in recalls(story) if story.text.split()[p] not in ("boy",)]
    assert max(p.distance for p in places) >= max(by_word)


def test_the_shipped_model_remembers_and_one_without_training_does_not():
    model, tokenizer = load_pretrained("base-llm")
    found = fact_recalls(model, tokenizer, STORIES)
    bands = {0: (1, 300)}
    assert shares_by_distance(found, bands)[0].rate > 0.7
    new = Transformer(model.config, torch.Generator().manual_seed(0))
    nothing = fact_recalls(new, tokenizer, STORIES)
    assert shares_by_distance(nothing, bands)[0].rate < 0.1
    assert [c.distance for c in nothing] == [c.distance for c in found]


# Reference


def test_shares_by_hand():
    cases = [FactRecall("Mia", d, d % 2 == 0) for d in (15, 16, 25, 26, 60, 150)]
    assert {k: tuple(v) for k, v in shares_by_distance(cases).items()} == {
        20: (1, 3),
        60: (1, 1),
        150: (1, 1),
    }
    assert list(BANDS) == [20, 60, 150]


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="no fact stands 50 to 70 tokens back, of 1"):
        shares_by_distance([FactRecall("Mia", 20, True)])
    with pytest.raises(ValueError, match="wanted the pieces of"):
        next(fact_places(STORIES[0], ["Once"]))
