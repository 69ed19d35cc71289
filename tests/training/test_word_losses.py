"""Losses by word sum to the story's; facts are found again where they are repeated."""

import pytest
import torch

from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import tales
from llmcourse.text.grammar import Grammar
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.evaluation import (
    Recall,
    document_nll,
    recall_losses,
    recalls,
    word_losses,
)

STORIES = list(tales.generate(4, seed=3))
GRAMMAR = Grammar("""
rule story
    {Who=name} had a {what=thing}. <box> "Where is my {what}?" sang {who}'s cat.
rule box
    It was in the box.
list name
    Mia, Tom
list thing
    red boat, blue hat
""")


@pytest.fixture(scope="module")
def tokenizer():
    texts = [story.text for story in STORIES]
    return BPETokenizer.train(texts, 300, special_tokens=["<|endoftext|>"])


@pytest.fixture(scope="module")
def model(tokenizer):
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=6,
        n_layers=1,
        n_heads=3,
        n_kv_heads=3,
        d_ff=10,
        context_length=900,
    )
    return Transformer(config, torch.Generator().manual_seed(2))


def test_facts_are_found_again_by_hand():
    """Mia 0 had 1 a 2 red 3 boat. 4 It 5 was 6 in 7 the 8 box. 9 "Where 10 is 11 my 12
    red 13 boat?" 14 sang 15 Mia's 16 cat. 17

    The last word of "red boat" carries the fact: it stands at 4 and 14.
    """
    text = 'Mia had a red boat. It was in the box. "Where is my red boat?" sang '
    story = GRAMMAR.parse(text + "Mia's cat.")
    assert recalls(story) == [Recall(14, 10), Recall(16, 16)]


def test_losses_are_sorted_by_hand():
    """Of 18 words, numbers 14 and 16 repeat a fact; each costs its own number.

    The mean of the two is 15; the others sum to 153 - 30 and are 16.
    """
    text = 'Mia had a red boat. It was in the box. "Where is my red boat?" sang '
    story = GRAMMAR.parse(text + "Mia's cat.")
    assert len(story.text.split()) == 18
    found = recall_losses([story], lambda text: [float(i) for i in range(18)])
    assert found == (15.0, 123 / 16, 2, 16)


@pytest.mark.parametrize("story", STORIES)
def test_recalled_words_are_words_of_facts_that_stood_there_before(story):
    words = [word.lower() for word in story.text.split()]
    facts = " ".join(story.facts.values()).lower()
    found = recalls(story)
    assert found
    for place, distance in found:
        bare = words[place].strip(".,;:!?\"'").removesuffix("'s")
        assert bare in facts
        assert bare in words[place - distance]


def test_losses_by_word_sum_to_that_of_the_text(model, tokenizer):
    texts = [story.text for story in STORIES] + ["one", "  two  words ", "a\nb"]
    texts += ["ideographic\u3000space, n\u00e9\u00a0\u2003"]  # one byte per token
    prices, _ = document_nll(model, tokenizer, texts)
    for text, price in zip(texts, prices, strict=True):
        losses = word_losses(model, tokenizer, text)
        assert len(losses) == len(text.split())
        assert sum(losses) == pytest.approx(price, rel=1e-5)


def test_a_words_loss_is_that_of_its_tokens_given_what_came_before(model, tokenizer):
    text = STORIES[0].text
    words = word_losses(model, tokenizer, text)
    shorter, _, _ = text.rpartition(" ")
    assert word_losses(model, tokenizer, shorter)[:-1] == pytest.approx(
        words[:-2], rel=1e-5
    )
    ids = torch.tensor([0, *tokenizer.encode(text)])
    n_first = len(tokenizer.encode(text.split()[0]))
    with torch.no_grad():
        log_probs = model(ids[None, :-1])[0].log_softmax(dim=-1)
    first = -sum(float(log_probs[i, ids[i + 1]]) for i in range(n_first))
    assert words[0] == pytest.approx(first, rel=1e-5)


def test_refusals(model, tokenizer):
    for text in ("", "  \n"):
        with pytest.raises(
            ValueError, match="words of a text must be at least 1, got 0"
        ):
            word_losses(model, tokenizer, text)
    with pytest.raises(ValueError, match="context_length is 900 tokens, got"):
        word_losses(model, tokenizer, "word " * 901)
    with pytest.raises(ValueError, match="endoftext"):
        word_losses(model, BPETokenizer.train(["a"], 256), "a")
    with pytest.raises(
        ValueError, match="words that repeat a fact must be at least 1, got 0"
    ):
        recall_losses([], lambda text: [])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        recall_losses(STORIES, lambda text: [1.0] * (len(text.split()) + 1))
    pairs = BPETokenizer.train(
        ["a b a b a b"], 259, special_tokens=["<|endoftext|>"], pattern=r".+"
    )
    with pytest.raises(ValueError, match="part of one word, got 'a b"):
        word_losses(model, pairs, "a b a b")
