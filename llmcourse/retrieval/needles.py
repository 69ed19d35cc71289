"""The needle in a haystack: does a model find one sentence in a long text?

    Mia was a kind girl. [ … sentences … ] She often wore a fine blue coat and loved
    singing. [ … sentences … ] Mia wrapped it up in her ?

The sentences around it are from other tales and contain no name and no colour. The
depth of the needle and the length of the text can be chosen. The model is right if it
gives the needle's colour the highest probability of all colours.

Source: Kamradt (2023), "Needle in a haystack", popularised this test; Liu et al.
(2024), "Lost in the middle", compared depths.
"""

import random
import re
from typing import NamedTuple

import torch

from llmcourse.arguments import check_range
from llmcourse.intervals import Count
from llmcourse.model.transformer import Transformer
from llmcourse.text.packing import end_of_text
from llmcourse.text.tales import generate
from llmcourse.text.tokenizers import BPETokenizer

_GIRL, _BOY = ("girl", "She", "her"), ("boy", "He", "his")
_PEOPLE = (("Mia", _GIRL), ("Ella", _GIRL), ("Carl", _BOY), ("Tom", _BOY))
_SEED = 2_000_000  # of the tales that sentences are taken from
_TRIES = 30  # sentences that may fail to fit


class Needle(NamedTuple):
    """A text with a question at its end."""

    text: str
    answer: str  # a colour, the next word


class Haystack:
    """Sentences to hide a needle among.

    Args:
        tokenizer: Lengths are counted in its tokens; colours that are a single token
            can be asked about.
        n_stories: How many tales to take sentences from.

    Raises:
        ValueError: If fewer than two colours are a single token.
    """

    def __init__(self, tokenizer: BPETokenizer, n_stories: int = 200) -> None:
        stories = list(generate(n_stories, seed=_SEED))
        shades = {story.facts["shade"] for story in stories}
        garments = {story.facts["garment"] for story in stories}
        self.tokenizer = tokenizer
        self.colours = sorted(x for x in shades if len(tokenizer.encode(f" {x}")) == 1)
        self.garments = sorted(x for x in garments if " " not in x)
        check_range(2, **{"colours of one token": len(self.colours)})
        names = {x for s in stories for x in s.facts.values() if x[:1].isupper()}
        facts = shades | garments | names
        parts = (re.split(r"(?<=[.!?]) ", story.text)[2:] for story in stories)
        self.sentences = sorted(
            {part for each in parts for part in each if _is_plain(part, facts)}
        )

    def hide(self, n_tokens: int, depth: float | int, rng: random.Random) -> Needle:
        """Return a text with a needle in it, of `n_tokens` tokens or a few fewer.

        Args:
            n_tokens: Of the text and the mark before it.
            depth: Where the needle lies: 0 at the beginning, 1 at the end.
            rng: Chooses person, colour and sentences.

        Raises:
            ValueError: If the depth is not in 0 … 1, or if not even the needle fits.
        """
        check_range(0, 1, depth=depth)
        name, (kind, he, his) = rng.choice(_PEOPLE)
        colour, garment = rng.choice(self.colours), rng.choice(self.garments)
        first = f"{name} was a kind {kind}."
        needle = f"{he} often wore a fine {colour} {garment} and loved singing."
        question = f"{name} wrapped it up in {his}"
        least = 1 + self._n_tokens(f"{first} {needle} {question}")
        check_range(least, n_tokens=n_tokens)
        room = n_tokens - least
        hay: list[str] = []
        failed = 0
        while failed < _TRIES:
            sentence = rng.choice(self.sentences)
            size = self._n_tokens(f" {sentence}")
            if size > room:
                failed += 1
                continue
            hay.append(sentence)
            room -= size
        place = round(depth * len(hay))
        parts = [first, *hay[:place], needle, *hay[place:], question]
        return Needle(" ".join(parts), colour)

    def _n_tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text))


def _is_plain(sentence: str, facts: set[str]) -> bool:
    """Return whether a sentence has no speech, no name and none of the facts."""
    words = re.findall(r"\w+", sentence)
    names = any(word[0].isupper() for word in words[1:])
    return not names and '"' not in sentence and facts.isdisjoint(words)


@torch.inference_mode()
def count_found(
    model: Transformer,
    haystack: Haystack,
    n_tokens: int,
    depth: float | int,
    n: int = 20,
    seed: int = 0,
) -> Count:
    """Return how many of n new needles a model finds at one length and depth.

    Args:
        model: One that uses the haystack's tokenizer.
        haystack: Where to hide the needles.
        n_tokens: Length of each text.
        depth: Where the needle lies: 0 at the beginning, 1 at the end.
        n: How many needles.
        seed: Of the texts, whatever the depth and length.

    Raises:
        ValueError: If the depth is not in 0 … 1, n_tokens is too small for a needle or
            too large for the model, or there is no `<|endoftext|>`.
    """
    tokenizer, colours, rng = haystack.tokenizer, haystack.colours, random.Random(seed)
    device = model.embedding.weight.device
    choices = [tokenizer.encode(f" {colour}")[0] for colour in colours]
    right = 0
    for _ in range(n):
        needle = haystack.hide(n_tokens, depth, rng)
        ids = [end_of_text(tokenizer), *tokenizer.encode(needle.text)]
        logits = model(torch.tensor([ids], device=device))[0, -1]
        best = logits[choices].argmax()
        right += colours[int(best)] == needle.answer
    return Count(right, n)
