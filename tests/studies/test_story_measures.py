"""What a model makes of the text before: losses by position, and facts recalled."""

import math

import pytest
import torch
from story_measures import (
    BANDS,
    FactRecall,
    fact_places,
    fact_recalls,
    means_between,
    position_losses,
    shares_by_distance,
)

from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.text.tales import generate
from llmcourse.training.evaluation import recalls, text_loss

SHORT_TEXTS = [story.text for story in generate(5, seed=1_000_002)]
RECALL_STORIES = list(generate(12, seed=1_000_001))


def pieces_of(tokenizer, story):
    return [tokenizer.decode([i]) for i in tokenizer.encode(story.text)]


# Worked example


def test_worked_example_of_two_documents():
    """Of 1 + 5, 2, 3 nats; only the first document has a second and third token."""
    found = torch.tensor([[1.0, 2, 3], [5, math.nan, math.nan]], dtype=torch.float64)
    assert means_between(found, (0, 1, 3)) == [3.0, 2.5]
    assert means_between(found, (0, 99)) == [11 / 4]


def test_worked_example_of_the_first_tale():
    """With a token for each letter, Carl stands at 0 first and at 142 again."""
    story = next(generate(1, seed=0))
    assert story.text.startswith("Carl")
    place = next(fact_places(story, list(story.text)))
    assert story.text[142:146] == place.word == "Carl"
    assert place.distance == 142


# Law


def test_counts_fall_from_the_number_of_documents():
    found = position_losses(*load_pretrained("base-llm"), SHORT_TEXTS)
    counts = (~found.isnan()).sum(dim=0).tolist()
    assert counts[0] == len(SHORT_TEXTS)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 1


def test_places_are_the_recalls_but_for_boys_and_girls():
    _, tokenizer = load_pretrained("base-llm")
    for story in RECALL_STORIES:
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
    story = RECALL_STORIES[0]
    places = fact_places(story, pieces_of(tokenizer, story))
    by_word = [d for p, d in recalls(story) if story.text.split()[p] not in ("boy",)]
    assert max(p.distance for p in places) >= max(by_word)


def test_the_shipped_model_remembers_and_one_without_training_does_not():
    model, tokenizer = load_pretrained("base-llm")
    found = fact_recalls(model, tokenizer, RECALL_STORIES)
    assert sum(case.right for case in found) > 0.7 * len(found)
    new = Transformer(model.config, torch.Generator().manual_seed(0))
    nothing = fact_recalls(new, tokenizer, RECALL_STORIES)
    assert sum(case.right for case in nothing) < 0.1 * len(nothing)
    assert [c.distance for c in nothing] == [c.distance for c in found]


# Reference


def test_all_together_they_are_the_loss_of_the_text():
    model, tokenizer = load_pretrained("base-llm")
    wanted = text_loss(model, tokenizer, SHORT_TEXTS)
    found = position_losses(model, tokenizer, SHORT_TEXTS)
    assert int((~found.isnan()).sum()) == wanted.n_tokens
    assert found.nanmean().item() == pytest.approx(wanted.loss, rel=1e-5)


def test_shares_by_hand():
    cases = [FactRecall("Mia", d, d % 2 == 0) for d in (15, 16, 25, 26, 60, 150)]
    assert {k: tuple(v) for k, v in shares_by_distance(cases).items()} == {
        20: (1, 3),
        60: (1, 1),
        150: (1, 1),
    }
    assert list(BANDS) == [20, 60, 150]
