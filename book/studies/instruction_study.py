"""The runs of the instruction study: the same short tuning, in several ways.

    python book/studies/instruction_study.py --out instruction_tuning.json

takes some five minutes on one core and goes on where it was stopped. Each run tunes
`base-llm-small` on conversations about the first sentences of tales, as the chapter
*instruction_tuning* does: with the loss mask or without it, with plain stories among
the conversations, on fewer conversations, or on few that are read again and again. It
is then asked about new stories, in the wordings of the training and in new ones, and
reads plain stories, which show what was forgotten.
"""

import copy
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from study_command import resumed, run_study_command, with_points

from llmcourse.finetuning import chat
from llmcourse.finetuning.answering import answer_batch
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.finetuning.instruction_evaluation import forgetting
from llmcourse.finetuning.instructions import draw_tale, fill, normalised, topics
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.studies import Study

NAMES = ("hero", "family", "home", "worn", "liked")
TESTS = {"new stories": (0, 1), "new wordings": (2,)}


class Way(NamedTuple):
    """What is learned."""

    n: int = 256  # conversations
    times: int = 1  # that each is read
    masked: bool = True  # whether only answers count
    stories: bool = False  # whether plain ones are learned, too


WAYS = {
    "with the mask": Way(),
    "without": Way(masked=False),
    "with stories": Way(stories=True),
    "a quarter": Way(64),
    "a sixteenth": Way(16),
    "a sixteenth, 16 times": Way(16, times=16),
}


class Question(NamedTuple):
    """What is asked about the first sentences of a tale."""

    topic: str
    story: str
    asked: str
    right: tuple[str, ...]  # the answer to learn first


@dataclass(frozen=True, kw_only=True)
class InstructionPoint:
    """One run, and what came out."""

    way: str  # of `WAYS`
    seed: int
    right: dict[str, dict[str, int]]  # answers, by test and topic
    forgotten: float  # what plain stories cost more than before, in nats per token


@dataclass(frozen=True, kw_only=True)
class InstructionStudyConfig:
    """What all runs share."""

    batch_size: int = 4
    learning_rate: float = 2e-3
    embedding_speed: int = 4
    warmup_steps: int = 5
    n_asked: int = 20  # on each topic, in each test
    n_stories: int = 60  # read before and after


def run_instruction_study(
    path: str | Path,
    ways: Sequence[str] = tuple(WAYS),
    seeds: Sequence[int] = (0, 1, 2),
    config: InstructionStudyConfig = InstructionStudyConfig(),
    progress: Callable[[InstructionPoint], None] | None = None,
) -> Study[InstructionPoint]:
    """Do all runs, write the results after each, and return them.

    Runs that the file has are not done again.

    Args:
        path: The file of the results.
        ways: Names from `WAYS`.
        seeds: One run of each way for each: of conversations, order and new rows.
        config: What the runs share.
        progress: Called with each run that was done.

    Raises:
        ValueError: If the file holds results of another recipe.
        OSError: If it cannot be written.
    """
    study = resumed(path, asdict(config), InstructionPoint)
    base = load_pretrained("base-llm-small")
    done = {(point.way, point.seed) for point in study.points}
    for seed, way in product(seeds, ways):
        if (way, seed) not in done:
            point = _run(way, seed, config, base)
            study = with_points(study, [point], path, progress)
    return study


def questions(n: int, seed: int, wordings: Sequence[int]) -> list[list[Question]]:
    """Return for each of n tales five questions, in any order."""
    rng, found = random.Random(seed), []
    asked = [t for kind in ("who", "where", "what") for t in topics()[kind]]
    asked = [topic for topic in asked if topic.name in NAMES]
    for tale in (draw_tale(rng) for _ in range(n)):
        story = " ".join(re.split(r"(?<=[.!?]) ", tale.story.text)[:3])
        rng.shuffle(asked)
        found.append(
            [
                Question(
                    topic.name,
                    story,
                    fill(topic.phrasings[rng.choice(wordings)], tale.words),
                    topic.right_answers(tale.words)[1:],  # the first is a sentence
                )
                for topic in asked
            ]
        )
    return found


def conversation(about: Sequence[Question]) -> list[chat.Message]:
    """Return questions about one story with their answers, the story coming first."""
    turns = []
    for place, question in enumerate(about):
        said = f"{question.story}\n\n{question.asked}" if place == 0 else question.asked
        right = question.right[0]
        if question.topic != "hero":
            right = right[0].lower() + right[1:]
        turns += [chat.Message("user", said)]
        turns += [chat.Message("assistant", f"It was {right}")]
    return turns


def _run(
    way: str,
    seed: int,
    config: InstructionStudyConfig,
    base: tuple[Transformer, BPETokenizer],
) -> InstructionPoint:
    n, times, masked, stories = WAYS[way]
    generator = torch.Generator().manual_seed(seed)
    model, tokenizer = chat.add_special_tokens(
        copy.deepcopy(base[0]), base[1], chat.CHAT_TOKENS, generator
    )
    learned = questions(256, seed, TESTS["new stories"])[:n]
    turns = [conversation(about) for about in learned]
    rows = chat.tokenized(turns, tokenizer, max_tokens=256)
    rows *= times
    if not masked:
        rows = [replace(row, mask=torch.ones_like(row.mask)) for row in rows]
    if stories:
        rows += plain_stories(n // 20, 500_000 + 100 * seed, tokenizer)
    plan = FinetuningConfig(
        steps=len(rows) // config.batch_size,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        embedding_speed=config.embedding_speed,
        warmup_steps=min(config.warmup_steps, len(rows) // config.batch_size),
        eval_interval=1000,  # not on the way
        eval_examples=1,
    )
    finetune(model, rows, rows[:1], plan, generator)
    model.eval()
    return InstructionPoint(
        way=way,
        seed=seed,
        right={
            test: _right(model, tokenizer, questions(config.n_asked, 1000, wordings))
            for test, wordings in TESTS.items()
        },
        forgotten=round(
            forgetting(base, (model, tokenizer), config.n_stories).increase.value, 4
        ),
    )


def plain_stories(n: int, seed: int, tokenizer: BPETokenizer) -> list[TokenizedExample]:
    """Return plain tales of which every token counts."""
    end, found = tokenizer.special_tokens["<|endoftext|>"], []
    for tale in tales.generate(n, seed):
        ids = [end, *tokenizer.encode(tale.text), end]
        found.append(TokenizedExample.of_tokens(ids, [True] * len(ids)))
    return found


def _right(
    model: Transformer, tokenizer: BPETokenizer, asked: list[list[Question]]
) -> dict[str, int]:
    """Return how many answers are right, by topic."""
    flat = [question for about in asked for question in about]
    prompts = [f"{question.story}\n\n{question.asked}" for question in flat]
    texts = answer_batch(model, tokenizer, prompts, max_new_tokens=[20] * len(flat))
    found = dict.fromkeys(NAMES, 0)
    for question, text in zip(flat, texts, strict=True):
        first_sentence = text.strip().partition(".")[0]
        said = normalised(first_sentence.removeprefix("It was"))
        found[question.topic] += said in map(normalised, question.right)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from the command line; progress goes to standard error."""
    run_study_command(run_instruction_study, __doc__, arguments)


if __name__ == "__main__":
    main()
