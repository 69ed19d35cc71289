"""What a policy is asked while it learns what people prefer: stories, to order.

    a model that answers    Write a story about a girl named Mia …
    a model that goes on    Once upon a time there was a

The prompts of the exam have seeds of their own.
"""

import random
from collections.abc import Iterator

from llmcourse import tales
from llmcourse.answering import has_chat_tokens
from llmcourse.instructions import examples
from llmcourse.prompts import Prompt, chat_prompt, story_prompt
from llmcourse.tokenization import BPETokenizer

EXAM_SEED = 1_000_000
"""Of the prompts by which policies are compared: far from the seeds of trainings."""

_FIRST_WORDS = (8, 16)  # of a story, where that is what a policy goes on with


def make_prompts(
    n: int, seed: int, tokenizer: BPETokenizer, max_tokens: int = 420
) -> list[Prompt]:
    """Return orders to write a story; first words of stories for a model without turns.

    All of them different.

    Args:
        n: How many.
        seed: Of the stories that they are made from.
        tokenizer: The policy's: what it has of special tokens decides.
        max_tokens: The most that an order and its story have, together.

    Raises:
        ValueError: If the tokenizer lacks `<|endoftext|>`.
    """
    chat = has_chat_tokens(tokenizer)
    texts = _orders(seed, tokenizer, max_tokens) if chat else _beginnings(seed)
    make = chat_prompt if chat else story_prompt
    found: dict[str, Prompt] = {}
    while len(found) < n:
        text = next(texts)
        found.setdefault(text, make(text, tokenizer))
    return list(found.values())


def _orders(seed: int, tokenizer: BPETokenizer, max_tokens: int) -> Iterator[str]:
    for example in examples(
        10**9, seed, kinds=["write"], tokenizer=tokenizer, max_tokens=max_tokens
    ):
        yield example.prompt


def _beginnings(seed: int) -> Iterator[str]:
    rng = random.Random(f"beginnings {seed}")
    for story in tales.generate(10**9, seed):
        yield " ".join(story.text.split()[: rng.randint(*_FIRST_WORDS)])


def exam_prompts(n: int, tokenizer: BPETokenizer) -> list[Prompt]:
    """Return prompts of a seed that no training has, to compare policies.

    Orders are then other ones; first words of stories can be those of a training.

    Raises:
        ValueError: As `make_prompts`.
    """
    return make_prompts(n, EXAM_SEED, tokenizer)
