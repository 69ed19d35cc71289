"""Pairs of texts, one of them preferred by an annotator who errs as people do.

An annotator sees two answers, a and b, to a prompt and prefers a with probability:

    P(a ≻ b) = σ(β (gold(a) − gold(b)))        σ(x) = 1 / (1 + e⁻ˣ)

This is the model of Bradley and Terry: clear cases are decided well, close ones by
chance. β says how sharp the annotator's eye is. What is known of people is rather how
often they agree, so β is fitted to a rate of agreement with gold, on the given pairs.

>>> beta = annotator_beta([1.0, -1.0], agreement=0.75)  # σ(β) = 3/4
>>> math.isclose(beta, math.log(3), rel_tol=1e-9)
True
>>> round(preference_probability(7.0, 6.0, beta), 3)
0.75

Source: Bradley and Terry (1952), "Rank analysis of incomplete block designs: I. The
method of paired comparisons"; pairs labelled by people in Ouyang et al. (2022), who
report that their annotators agree with each other in about 73 % of the cases; labels
drawn from a gold reward in Gao, Schulman and Hilton (2023).

Prompts and answers become tokens in the same way for all that learn from preferences.
The tokenizer decides whether they are turns of a conversation:

    a story   <|endoftext|> Once upon a time   ,there was … <|endoftext|>
    a chat    <|endoftext|> <|user|> Who … <|end|> <|assistant|>   Mia. <|end|>
              └ prompt                                         ┘   └ answer  ┘

Prompt and answer are encoded separately, as a policy meets them: it reads the one and
writes the other. The answer ends with an end token, which must also be written. A
reward model reads both and scores them as a whole; a policy gives the log-probability
of the answer's tokens.

While it learns what people prefer, a policy is asked for stories to order: *Write a
story about a girl named Mia …*; one without turns is asked to continue *Once upon a
time there was a*. The prompts of the exam have a seed of their own.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from random import Random

import torch
from jaxtyping import Int
from torch import Tensor

from llmcourse.alignment.gold_reward import gold_reward
from llmcourse.arguments import check_ids, check_positive, check_range
from llmcourse.finetuning import chat
from llmcourse.finetuning.examples import TokenizedExample, examples_fingerprint
from llmcourse.finetuning.instructions import examples
from llmcourse.model.transformer import TransformerConfig
from llmcourse.text import tales
from llmcourse.text.packing import end_of_text
from llmcourse.text.tokenizers import BPETokenizer

Reward = Callable[[str, str], float]  # of a prompt and a text
_Valued = tuple[str, float]  # a text and its gold


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """Two different answers to a prompt, and what each is really worth."""

    prompt: str
    chosen: str
    rejected: str
    gold_chosen: float  # in points
    gold_rejected: float


def preference_probability(
    gold_a: float | int, gold_b: float | int, beta: float | int
) -> float:
    """Return the probability that an annotator prefers a to b.

    Args:
        gold_a: What a is worth.
        gold_b: What b is worth, in the same unit.
        beta: Sharpness of the annotator, in the inverse of that unit; `math.inf` for
            one that never errs.

    Raises:
        ValueError: If beta is negative.
    """
    if not beta >= 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    difference = gold_a - gold_b
    x = beta * difference if difference else 0.0  # not infinity times zero
    return (1 + math.tanh(x / 2)) / 2  # σ(x), for x of any size


def annotator_beta(differences: Sequence[float | int], agreement: float | int) -> float:
    """Return the beta at which an annotator agrees with gold as often as wanted.

    The expected share of pairs in which the better text is preferred, the mean of
    σ(beta · abs(difference)), grows with beta from 1/2 to 1, so bisection finds it.
    Pairs without a difference are left out: neither answer is better.

    Args:
        differences: Between the two golds of each pair, of either sign.
        agreement: Expected share of agreement, from 1/2 (an annotator who tosses a
            coin: beta 0) to 1 (one who never errs: `math.inf`).

    Raises:
        ValueError: If the share is outside these limits, a difference is not finite,
            or none differs from zero.
    """
    check_range(0.5, 1, agreement=agreement)
    gaps = torch.tensor(list(differences), dtype=torch.float64).abs()
    gaps = gaps[gaps != 0]
    if not len(gaps) or not gaps.isfinite().all():
        raise ValueError(
            f"wanted finite differences, some of them not zero, got {differences[:5]}"
        )
    if agreement in (0.5, 1):
        return 0.0 if agreement == 0.5 else math.inf

    def is_too_low(beta: float) -> bool:
        return float(torch.sigmoid(beta * gaps).mean()) < agreement

    low, high = 0.0, 1.0 / float(gaps.max())
    while is_too_low(high):
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until floats are exhausted
        if is_too_low(middle):
            low = middle
        else:
            high = middle
    return high


def sample_pairs(
    candidates: Iterable[tuple[str, Sequence[str]]],
    generator: torch.Generator,
    *,
    agreement: float | int = 0.75,
    pairs_per_prompt: int = 1,
    reward: Reward = gold_reward,
) -> list[PreferencePair]:
    """Return pairs of different answers, labelled by an annotator who errs.

    Args:
        candidates: Prompts, each with some answers to it. Of equal answers, one is
            kept.
        generator: Decides which answers are compared and where the annotator errs.
        agreement: Expected share of the pairs in which the better one is chosen,
            among those that differ in gold; see `annotator_beta`.
        pairs_per_prompt: Different pairs drawn for each prompt, or all of them if its
            answers make fewer.
        reward: What people really want: a function of prompt and text.

    Raises:
        ValueError: If there is no prompt, or one has fewer than two different
            answers; if `pairs_per_prompt` is not positive; as in `annotator_beta`.
    """
    check_positive(pairs_per_prompt=pairs_per_prompt)
    drawn: list[tuple[str, _Valued, _Valued]] = []
    for prompt, texts in candidates:
        different = list(dict.fromkeys(texts))
        check_range(2, **{f"different answers to {prompt!r}": len(different)})
        couples = list(combinations(different, 2))
        order = torch.randperm(len(couples), generator=generator).tolist()
        chosen = [couples[number] for number in order[:pairs_per_prompt]]
        gold = {text: reward(prompt, text) for text in dict.fromkeys(chain(*chosen))}
        drawn += [(prompt, (a, gold[a]), (b, gold[b])) for a, b in chosen]
    if not drawn:
        raise ValueError("wanted prompts with two different answers, got none")
    differences = [a[1] - b[1] for _, a, b in drawn]
    beta = annotator_beta(differences, agreement)
    uniform = torch.rand(len(drawn), generator=generator, dtype=torch.float64).tolist()
    pairs = []
    for (prompt, a, b), u in zip(drawn, uniform, strict=True):
        prefers_a = u < preference_probability(a[1], b[1], beta)
        (best, gold_best), (other, gold_other) = (a, b) if prefers_a else (b, a)
        golds = {"gold_chosen": gold_best, "gold_rejected": gold_other}
        pairs.append(
            PreferencePair(prompt=prompt, chosen=best, rejected=other, **golds)
        )
    return pairs


def agreement_rate(pairs: Sequence[PreferencePair]) -> float:
    """Return the fraction of pairs in which the better text was chosen.

    Pairs of equal gold are left out.

    Raises:
        ValueError: If no pair differs in gold.
    """
    gaps = [pair.gold_chosen - pair.gold_rejected for pair in pairs]
    unequal = [gap for gap in gaps if gap != 0]
    check_range(1, **{"pairs that differ in gold": len(unequal)})
    return sum(gap > 0 for gap in unequal) / len(unequal)


@dataclass(frozen=True)
class Prompt:
    """What is to be answered, as a reward reads it and as the policy does."""

    text: str
    ids: tuple[int, ...]  # may have marks that the text lacks, such as whose turn


def story_prompt(text: str, tokenizer: BPETokenizer) -> Prompt:
    """Return the task of continuing a text.

    Args:
        text: A beginning; may be empty.
        tokenizer: Has `<|endoftext|>`, which comes before every text.

    Raises:
        ValueError: If it lacks that token.
    """
    return Prompt(text, (end_of_text(tokenizer), *tokenizer.encode(text)))


def prompt_of(text: str, tokenizer: BPETokenizer) -> Prompt:
    """Return a user's turn if the tokenizer has turns, else the beginning of a text.

    Raises:
        ValueError: If the tokenizer lacks `<|endoftext|>`.
    """
    if chat.has_chat_tokens(tokenizer):
        return Prompt(
            text, tuple(chat.encode_prompt([chat.Message("user", text)], tokenizer))
        )
    return story_prompt(text, tokenizer)


def end_of_answer(tokenizer: BPETokenizer) -> int:
    """Return the id that ends an answer: end of turn in a chat, else end of text.

    Raises:
        ValueError: If the tokenizer has no such token.
    """
    if chat.has_chat_tokens(tokenizer):
        return tokenizer.special_tokens[chat.END_OF_TURN]
    return end_of_text(tokenizer)


def tokenize_answer(
    text: str, tokenizer: BPETokenizer, most: int | None = None
) -> list[int]:
    """Return the ids of an answer, with the mark that ends it.

    Args:
        text: The answer.
        tokenizer: Of who will read it.
        most: Tokens with that mark: a longer answer is cut before its end.

    Raises:
        ValueError: As in `end_of_answer`.
    """
    room = None if most is None else max(0, most - 1)
    return [*tokenizer.encode(text)[:room], end_of_answer(tokenizer)]


@dataclass(frozen=True, eq=False)
class TokenizedPair:
    """A prompt and two answers to it, one of which was preferred.

    Its length is that of the longer text, in tokens.

    >>> ids = [torch.tensor(ids) for ids in ([0, 5], [7, 8, 0], [9, 0])]
    >>> pair = TokenizedPair(*ids)
    >>> len(pair), pair.texts()[1], pair.examples()[1].mask
    (5, tensor([0, 5, 9, 0]), tensor([False,  True,  True]))
    """

    prompt: Int[Tensor, "prompt"]
    chosen: Int[Tensor, "chosen"]
    rejected: Int[Tensor, "rejected"]

    def texts(self) -> tuple[Tensor, Tensor]:
        """Return the prompt followed by the chosen answer, and by the rejected one."""
        return (
            torch.cat((self.prompt, self.chosen)),
            torch.cat((self.prompt, self.rejected)),
        )

    def examples(self) -> tuple[TokenizedExample, TokenizedExample]:
        """Return the tasks of writing the chosen answer and the rejected one."""
        start = len(self.prompt)
        chosen, rejected = (
            TokenizedExample.of_tokens(
                text.tolist(), [place >= start for place in range(len(text))]
            )
            for text in self.texts()
        )
        return chosen, rejected

    def __len__(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """Pairs of answers to one prompt, learned in one step.

    Its length is that of the longest text, in tokens.
    """

    pairs: tuple[TokenizedPair, ...]

    def __len__(self) -> int:
        return max(map(len, self.pairs))


def tokenize_pairs(
    pairs: Sequence[PreferencePair], tokenizer: BPETokenizer, most: int | None = None
) -> list[TokenizedPair]:
    """Return pairs as tokens, each answer with its end token.

    An answer that was cut off has no end: build its pair from ids instead.

    Args:
        pairs: As texts.
        tokenizer: Of the model that will read them.
        most: Most tokens of prompt and answer; a longer answer is cut before its end.

    Raises:
        ValueError: If the tokenizer lacks `<|endoftext|>`, or if what is left of a
            pair's two answers is the same.
    """
    found = []
    for pair in pairs:
        prompt = prompt_of(pair.prompt, tokenizer).ids
        room = None if most is None else most - len(prompt)
        answers = [
            tokenize_answer(text, tokenizer, room)
            for text in (pair.chosen, pair.rejected)
        ]
        if answers[0] == answers[1] and pair.chosen != pair.rejected:
            where = "" if most is None else f" in the first {most}, with their prompt"
            raise ValueError(
                f"the answers to {pair.prompt!r:.60} must differ as tokens{where}, got "
                "the same"
            )
        found.append(TokenizedPair(*map(torch.tensor, (prompt, *answers))))
    return found


def check_pairs(
    pairs: Sequence[TokenizedPair], model: TransformerConfig, context_length: int
) -> None:
    """Check every pair once, before training.

    Args:
        pairs: All pairs.
        model: Shape of the model that will read them.
        context_length: Most tokens of a text, even if the model can read more.

    Raises:
        ValueError: If there are none, if one is too long, or if an id is outside the
            vocabulary.
    """
    check_range(1, **{"pairs to learn from or to hold out": len(pairs)})
    limit = min(model.context_length, context_length)
    check_range(1, limit, **{"tokens of prompt and answer": max(map(len, pairs))})
    ids = torch.cat([part for pair in pairs for part in pair.texts()])
    check_ids("ids", ids, model.vocab_size)


def pairs_fingerprint(pairs: Sequence[TokenizedPair]) -> str:
    """Return a short text that is equal for equal pairs in the same order."""
    return examples_fingerprint(
        [example for pair in pairs for example in pair.examples()]
    )


EXAM_SEED = 1_000_000
"""Of the prompts on which policies are compared: far from the seeds of training."""

_FIRST_WORDS = (8, 16)  # of a story, which a policy without turns continues


def make_prompts(n: int, seed: int, tokenizer: BPETokenizer) -> list[Prompt]:
    """Return orders to write a story; first words of stories for a model without turns.

    They all differ.

    Args:
        n: How many.
        seed: Of the stories that they are made from.
        tokenizer: The policy's; its special tokens decide which of the two.

    Raises:
        ValueError: If the tokenizer lacks `<|endoftext|>`.
    """
    texts: Iterator[str]
    if chat.has_chat_tokens(tokenizer):
        orders = examples(10**9, seed, kinds=["write"], tokenizer=tokenizer)
        texts = (example.prompt for example in orders)
    else:
        rng, stories = Random(f"beginnings {seed}"), tales.generate(10**9, seed)
        words = (story.text.split() for story in stories)
        texts = (" ".join(all_[: rng.randint(*_FIRST_WORDS)]) for all_ in words)
    found: dict[str, Prompt] = {}
    while len(found) < n:
        text = next(texts)
        found.setdefault(text, prompt_of(text, tokenizer))
    return list(found.values())


def exam_prompts(n: int, tokenizer: BPETokenizer) -> list[Prompt]:
    """Return prompts from a seed that no training uses, to compare policies.

    Orders then differ from those of training; first words of stories may be the same.

    Raises:
        ValueError: As in `make_prompts`.
    """
    return make_prompts(n, EXAM_SEED, tokenizer)
