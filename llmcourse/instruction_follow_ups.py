"""More questions about a story that has been read: a conversation from one instruction.

    user        Mia lived …  Who is the story about?     the instruction
    assistant   Mia.
    user        What did Mia wear?                       follow-ups
    assistant   An orange coat.

The story is read once and asked about many times, so a training has several answers to
learn from where single instructions have one.
"""

import random
from collections.abc import Iterator

from llmcourse.instruction_examples import Example
from llmcourse.instruction_topics import QUESTIONS, fill, forms, topics


def follow_ups(example: Example, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield a question and its answer for all else that can be asked about a story.

    They come in random order, in wordings that training may see. After a task that
    is no question there are none: the answer has made another story.

    Args:
        example: What was asked first.
        rng: Source of order and wordings.

    >>> from llmcourse.instructions import examples
    >>> first = next(examples(1, seed=0, kinds=["who"]))
    >>> more = list(follow_ups(first, random.Random(0)))
    >>> len(more) > 5, any(first.story.text in question for question, _ in more)
    (True, False)
    """
    if example.kind not in QUESTIONS:
        return
    words = forms(example.story.facts)
    left = [
        topic
        for kind in QUESTIONS
        for topic in topics()[kind]
        if topic.fits(example.story.facts)
        and (kind, topic.name) != (example.kind, example.topic)
    ]
    rng.shuffle(left)
    for topic in left:
        wording = rng.choice(topic.phrasings[:-1])
        yield fill(wording, words), topic.right_answers(words)[0]
