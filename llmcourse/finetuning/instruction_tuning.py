"""How `instruct-llm` is made from `base-llm`: what it learns, and for how long.

    instructions, each with its follow-ups ─┐
                                            ├── shuffled ── fine-tuning ── instruct-llm
    plain stories ──────────────────────────┘

The loss counts the answers to an instruction and every token of a plain story: the
stories keep the model from forgetting what it could do before. In every second
instruction all tokens count, which costs nothing, since its story is read anyway. The
instructions are of all kinds, with the wordings and the combinations of hero and plot
that training may see.

`llmcourse finetune` runs this recipe, and with `--data` the same recipe on your own
conversations.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import torch

from llmcourse.arguments import check_range
from llmcourse.finetuning import chat, instructions
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.finetuning.lora import add_lora, linear_layers
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.text.packing import END_OF_TEXT, end_of_text, tokenizer_fingerprint
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import parallel
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import StageProgress, report_progress
from llmcourse.training.evaluation import TEST_SEED
from llmcourse.training.pipeline import TrainingResult

_FAR = 500_000  # added to the seed of instructions for plain stories

_FRAME = 5  # special tokens around one question and its answer
_SYSTEM = 2  # and around a system message before them
_HELD_OUT_SHARE = 10  # one in so many of your own conversations is held out


@dataclass(frozen=True, kw_only=True)
class InstructConfig:
    """What is learned, by which model, and for how long."""

    base: str = "base-llm"  # a model's folder, or the name of a shipped one
    n_examples: int = 8000  # instructions; with `sources`, all that they hold
    n_stories: int = 800  # plain stories among them
    n_held_out: int = 200  # instructions for the loss during training
    kinds: tuple[str, ...] = instructions.KINDS  # named twice: drawn twice as often
    max_tokens: int = 420  # of a conversation, or of one instruction and its answer
    most_follow_ups: int = 0  # further questions about the same story
    whole_every: int = 0  # one in so many instructions is learned whole; 0: none
    rank: int | None = None  # of low-rank adapters; None: all weights are trained
    alpha: float | int = 32  # of the adapters
    sources: tuple[str, ...] = ()  # files of your own conversations; none: instructions
    truncate: bool = False  # whether long conversations may lose their first exchanges
    finetuning: FinetuningConfig = field(default_factory=FinetuningConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for impossible settings."""
        check_range(1, n_examples=self.n_examples, n_held_out=self.n_held_out)
        check_range(1, rank=self.rank)
        check_range(0, n_stories=self.n_stories, whole_every=self.whole_every)
        check_range(0, most_follow_ups=self.most_follow_ups)
        if TEST_SEED in (self.seed, self.seed + _FAR):
            raise ValueError(
                f"seed must be neither {TEST_SEED:,}, which draws what is measured, "
                f"nor {TEST_SEED - _FAR:,}, got {self.seed}"
            )


INSTRUCT_LLM = InstructConfig(
    n_examples=71_000,
    n_stories=9_000,
    n_held_out=100,
    max_tokens=480,
    most_follow_ups=12,
    whole_every=2,
    # An answer to a question has about ten tokens, a story two hundred.
    kinds=(
        *instructions.QUESTIONS,
        "what",
        *["why"] * 2,
        "list",
        *["summarise"] * 4,
        *["continue"] * 3,
        *["rewrite"] * 3,
        *["write"] * 6,
        *["tell"] * 3,
        *["brief"] * 2,
        *["unsaid"] * 2,
        "outside",
    ),
    finetuning=FinetuningConfig(
        steps=5000,
        batch_size=16,
        learning_rate=5e-3,
        optimizer="muon",
        embedding_speed=4,
        warmup_steps=50,
        eval_interval=250,
        eval_examples=100,
        precision="bfloat16",
    ),
)
"""The model that answers, and often declines what it cannot know.

Takes about two hours on two cores with bfloat16 instructions, compiled.
"""

TINY = InstructConfig(
    n_examples=40,
    n_stories=4,
    n_held_out=5,
    finetuning=FinetuningConfig(
        steps=6, batch_size=4, warmup_steps=2, eval_interval=3, eval_examples=5
    ),
)
"""Takes seconds: to see that everything works, not to get a model that answers well."""

PRESETS = {"instruct-llm": INSTRUCT_LLM, "tiny": TINY}
"""The recipes by name."""


class InstructData(NamedTuple):
    """What is learned, and what is held out to see how well."""

    train: list[TokenizedExample]
    valid: list[TokenizedExample]


def prepare(
    config: InstructConfig,
    tokenizer: BPETokenizer,
    progress: StageProgress | None = None,
) -> InstructData:
    """Return instructions and plain stories as examples for training.

    The held-out instructions have another seed and wordings that are not learned. Of
    your own conversations, every tenth over all files is held out, or the last if there
    are fewer than ten.

    Args:
        config: Says what, how much and from which seed.
        tokenizer: Has the special tokens, see `instruction_tuning.start`.
        progress: Called with "instructions" or "stories", the number made so far, and
            the total.

    Raises:
        ValueError: If a file holds no conversations, if there are fewer than two, if
            one is too long (the message gives its file and its number there), or if
            too few plain stories fit.
    """
    if config.sources:
        found = [*_own(config, tokenizer)]
        check_range(2, **{"conversations to learn from and to hold out": len(found)})
        every = min(_HELD_OUT_SHARE, len(found))
        what = [row for number, row in enumerate(found, start=1) if number % every]
        valid = found[every - 1 :: every]
    else:
        n = config.n_examples
        asked = _ask(config, tokenizer, n)
        what = [*report_progress(asked, n, "instructions", progress)]
        valid = [*_ask(config, tokenizer, config.n_held_out, new=True)]
    n, longest = config.n_stories, config.finetuning.context_length
    drawn = plain_stories(n, config.seed, tokenizer, longest)
    stories = [*report_progress(drawn, n, "stories", progress)]
    check_range(n, **{f"plain stories of at most {longest} tokens": len(stories)})
    return InstructData(train=[*what, *stories], valid=valid)


def _own(config: InstructConfig, tokenizer: BPETokenizer) -> Iterator[TokenizedExample]:
    """Yield the conversations of all files, one file after the other."""
    for path in config.sources:
        limit = config.finetuning.context_length
        talks = chat.read_conversations(path)
        try:
            yield from chat.tokenized(talks, tokenizer, limit, truncate=config.truncate)
        except ValueError as error:
            raise ValueError(f"{path!r}, {error}") from error


def n_held_out(n: int) -> int:
    """Return how many of your n own conversations are held out.

    >>> n_held_out(45), n_held_out(3)
    (4, 1)
    """
    return n // min(_HELD_OUT_SHARE, max(1, n))


def _ask(
    config: InstructConfig, tokenizer: BPETokenizer, n: int, *, new: bool = False
) -> Iterator[TokenizedExample]:
    """Yield instructions: held-out ones, or those to learn with their follow-ups."""
    limit = config.finetuning.context_length
    most_tokens = min(config.max_tokens, limit - _FRAME - _SYSTEM)
    held_out: instructions.HeldOut = "phrasing" if new else False
    rng = random.Random(f"follow-ups {config.seed}")
    declined: list[chat.Message] = []  # is repeated before the next instruction
    asked = instructions.examples(
        n,
        config.seed + new,
        kinds=config.kinds,
        held_out=held_out,
        tokenizer=tokenizer,
        max_tokens=most_tokens,
    )
    for number, example in enumerate(asked):
        turns = [*example.turns, chat.Message("assistant", example.answer)]
        if example.kind == "outside":
            declined = turns
        elif not (new or example.system):
            turns, declined = [*declined, *turns], []
        room = most_tokens - _n_tokens((t.content for t in turns), tokenizer)
        most = 0 if new else config.most_follow_ups
        for exchange in islice(instructions.follow_ups(example, rng), most):
            room -= _n_tokens(exchange, tokenizer) + _FRAME
            if room < 0:
                break
            turns += map(chat.Message, ("user", "assistant"), exchange)
        # If that is too long, the declined exchange is dropped.
        (row,) = chat.tokenized([turns], tokenizer, limit, truncate=True)
        if config.whole_every and number % config.whole_every == 0 and not new:
            row = replace(row, mask=torch.ones_like(row.mask))
        yield row


def _n_tokens(texts: Iterable[str], tokenizer: BPETokenizer) -> int:
    return sum(len(tokenizer.encode(text)) for text in texts)


def plain_stories(
    n: int, seed: int, tokenizer: BPETokenizer, longest: int
) -> Iterator[TokenizedExample]:
    """Yield whole stories, in the form in which the base model has learned them.

    Their seed is far from the base's own, so that they are new to it. Those that do
    not fit are left out; if hardly any fit, there are fewer than wanted.

    Args:
        n: How many are wanted.
        seed: Of the stories.
        tokenizer: The model's.
        longest: Most tokens of a story.

    Raises:
        ValueError: If the tokenizer lacks `<|endoftext|>`.
    """
    end = end_of_text(tokenizer)
    drawn = tales.generate(20 * n, seed + _FAR)
    whole = ([end, *tokenizer.encode(story.text), end] for story in drawn)
    rows = (TokenizedExample.of_tokens(ids, [True] * len(ids)) for ids in whole)
    fitting = (row for row in rows if len(row) <= longest)
    yield from islice(fitting, n)


def start(config: InstructConfig) -> tuple[Transformer, BPETokenizer]:
    """Return the base model, made ready to learn, and its tokenizer.

    It gets the special tokens of conversations that it lacks, and an adapter for each
    linear layer of its blocks if the config asks for them. If there are new tokens, the
    embedding is then trained in full, because adapters alone cannot teach them.

    Raises:
        ValueError: If there is no such model, or as in `lora.add_lora`.
    """
    model, tokenizer = load_pretrained(config.base)
    generator = torch.Generator().manual_seed(config.seed)
    wanted = (END_OF_TEXT, *chat.CHAT_TOKENS)
    missing = [name for name in wanted if name not in tokenizer.special_tokens]
    if missing:
        model, tokenizer = chat.add_special_tokens(model, tokenizer, missing, generator)
    if config.rank is not None:
        targets = sorted({name.rpartition(".")[2] for name, _ in linear_layers(model)})
        add_lora(model, config.rank, config.alpha, targets, generator)
        for layer in (model.embedding, model.unembedding):
            if layer is not None and missing:
                layer.requires_grad_(True)
    return model.train(), tokenizer


def fit_recipe(config: InstructConfig, context_length: int) -> InstructConfig:
    """Return the recipe with its conversations limited to a model's context.

    >>> fit_recipe(TINY, 128).finetuning.context_length
    128
    """
    training = config.finetuning
    longest = min(training.context_length, context_length)
    return replace(config, finetuning=replace(training, context_length=longest))


def run_recipe(
    config: InstructConfig,
    run: Run = Run(),
    *,
    begun: tuple[Transformer, BPETokenizer] | None = None,
    data: InstructData | None = None,
) -> TrainingResult:
    """Make the model of a recipe, and its data if need be.

    If the recipe has adapters, they are not merged.

    Args:
        config: The recipe.
        run: Where to save checkpoints and report progress, as in `finetune`.
        begun: The model to train, changed in place, and its tokenizer; by default,
            what `start` returns.
        data: What `prepare` returned, for the same tokenizer.

    Raises:
        ValueError: As in `start`, `prepare` and `finetune`.
        FloatingPointError: If a loss is not finite.
        OSError: If a checkpoint cannot be written.
    """
    model, tokenizer = begun or start(config)
    data = data or prepare(config, tokenizer)
    history = finetune(
        model.train(),
        data.train,
        data.valid,
        config.finetuning,
        torch.Generator().manual_seed(config.seed),
        run=replace(run, tokenizer=tokenizer_fingerprint(tokenizer)),
    )
    made = parallel.unshard(model).eval()
    return TrainingResult(model=made, tokenizer=tokenizer, history=history)
