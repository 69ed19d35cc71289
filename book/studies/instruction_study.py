"""The runs of the instruction study: the same short tuning, in several ways.

    python book/studies/instruction_study.py --out instruction_tuning.json

takes some five minutes on one core and goes on where it was stopped. Each run tunes
`base-llm-small` on conversations about the first sentences of tales, with the functions
of the chapter *instruction_tuning*: with the loss mask or without it, with plain
stories among the conversations, on fewer conversations, or on few that are read again
and again. It is then asked about new stories, in the wordings of the training and in
new ones, and reads plain stories, which show what was forgotten.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from study_command import page_functions, resumed, run_study_command, with_points

from llmcourse.finetuning import chat
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.finetuning.instruction_evaluation import forgetting
from llmcourse.finetuning.instruction_tuning import plain_stories
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.studies import Study
from llmcourse.text.tokenizers import BPETokenizer

PAGE = Path(__file__).parents[1] / "src" / "instruction_tuning.py"
NAMES = [
    "NAMES",
    "all_topics",
    "TOPICS",
    "Question",
    "make_question",
    "draw_questions",
    "conversation",
    "is_right",
    "score",
]
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
    page, code = page_functions(PAGE, NAMES)
    study = resumed(path, asdict(config) | {"code": code}, InstructionPoint)
    base = load_pretrained("base-llm-small")
    done = {(point.way, point.seed) for point in study.points}
    for seed, way in product(seeds, ways):
        if (way, seed) not in done:
            point = _run(page, way, seed, config, base)
            study = with_points(study, [point], path, progress)
    return study


def _run(
    page: dict[str, Any],
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
    learned = page["draw_questions"](256, seed, TESTS["new stories"])[:n]
    turns = [*map(page["conversation"], learned)]
    rows = chat.tokenized(turns, tokenizer, max_tokens=256)
    rows *= times
    if not masked:
        rows = [replace(row, mask=torch.ones_like(row.mask)) for row in rows]
    if stories:
        rows += plain_stories(n // 20, 100 * seed, tokenizer, 512)
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
    right = {}
    for test, wordings in TESTS.items():
        asked = [*chain(*page["draw_questions"](config.n_asked, 1000, wordings))]
        found = page["score"](model, tokenizer, asked)
        right[test] = {name: count.right for name, count in found.items()}
    return InstructionPoint(
        way=way,
        seed=seed,
        right=right,
        forgotten=round(
            forgetting(base, (model, tokenizer), config.n_stories).increase.value, 4
        ),
    )


if __name__ == "__main__":
    run_study_command(run_instruction_study, __doc__)
