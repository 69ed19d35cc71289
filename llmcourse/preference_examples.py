"""Prompts and answers as tokens: the same for whoever learns from preferences.

    a story   <|endoftext|> Once upon a time   ,there was … <|endoftext|>
    a chat    <|endoftext|> <|user|> Who … <|end|> <|assistant|>   Mia. <|end|>
              └ prompt                                         ┘   └ answer  ┘

Prompt and answer are encoded apart, as a policy meets them: it reads the one and
writes the other. The answer ends with the mark that says so, which has to be written
too. A reward model reads both and is asked at the last token; a policy is asked for the
log-probability of the answer's tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from llmcourse.chat import END_OF_TURN
from llmcourse.examples import TokenizedExample, fingerprint_of
from llmcourse.packing import end_of_text
from llmcourse.preferences import Pair
from llmcourse.prompts import chat_prompt, story_prompt
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import TransformerConfig


def tokenize_prompt(
    prompt: str, tokenizer: BPETokenizer, *, chat: bool = False
) -> list[int]:
    """Return the ids that a policy reads before it answers.

    Args:
        prompt: The beginning of a story, or nothing; in a chat, what the user says.
        tokenizer: The model's.
        chat: Whether the answer is a turn of a conversation.

    Raises:
        ValueError: If the tokenizer lacks the special tokens for it.
    """
    make = chat_prompt if chat else story_prompt
    return [*make(prompt, tokenizer).ids]


def tokenize_answer(
    text: str, tokenizer: BPETokenizer, *, chat: bool = False
) -> list[int]:
    """Return the ids of an answer, with the mark that ends it. Arguments as above."""
    return [*tokenizer.encode(text), end_of_answer(tokenizer, chat=chat)]


def end_of_answer(tokenizer: BPETokenizer, *, chat: bool = False) -> int:
    """Return the id that ends an answer: of a turn in a chat, of the text elsewhere.

    Raises:
        ValueError: If the tokenizer has no such token.
    """
    if not chat:
        return end_of_text(tokenizer)
    there = tokenizer.special_tokens
    if END_OF_TURN not in there:
        raise ValueError(
            f"the tokenizer must have {END_OF_TURN}, got one with {[*there]}"
        )
    return there[END_OF_TURN]


@dataclass(frozen=True, eq=False)
class TokenizedPair:
    """A prompt and two answers to it, of which one was preferred.

    Its length is that of the longer text, in tokens.

    Raises:
        ValueError: If a part is empty, or the two answers are equal.

    >>> ids = [torch.tensor(ids) for ids in ([0, 5], [7, 8, 0], [9, 0])]
    >>> pair = TokenizedPair(*ids)
    >>> len(pair), pair.texts()[1], pair.examples()[1].mask
    (5, tensor([0, 5, 9, 0]), tensor([False,  True,  True]))
    """

    prompt: Int[Tensor, "prompt"]
    chosen: Int[Tensor, "chosen"]
    rejected: Int[Tensor, "rejected"]

    def __post_init__(self) -> None:
        """Raise ValueError for a pair that teaches nothing."""
        lengths = len(self.prompt), len(self.chosen), len(self.rejected)
        if not all(lengths):
            raise ValueError(
                "a pair needs a token in prompt, chosen and rejected answer, "
                f"got {lengths} tokens"
            )
        if torch.equal(self.chosen, self.rejected):
            raise ValueError(
                f"a pair needs two different answers, got {self.chosen.tolist()} twice"
            )

    @classmethod
    def of(
        cls, pair: Pair, tokenizer: BPETokenizer, *, chat: bool = False
    ) -> "TokenizedPair":
        """Return a pair of texts as tokens, both answers with their ends.

        An answer that was cut off has no end: make its pair of ids instead.

        Args:
            pair: The texts.
            tokenizer: As in `tokenize_prompt`, like the next.
            chat: See there.

        Raises:
            ValueError: As `tokenize_prompt`.
        """
        prompt = tokenize_prompt(pair.prompt, tokenizer, chat=chat)
        chosen, rejected = (
            tokenize_answer(text, tokenizer, chat=chat)
            for text in (pair.chosen, pair.rejected)
        )
        return cls(*(torch.tensor(ids) for ids in (prompt, chosen, rejected)))

    def texts(self) -> tuple[Tensor, Tensor]:
        """Return prompt and answer in one, for the chosen and the rejected answer."""
        return (
            torch.cat((self.prompt, self.chosen)),
            torch.cat((self.prompt, self.rejected)),
        )

    def examples(self) -> tuple[TokenizedExample, TokenizedExample]:
        """Return the task of writing the chosen answer, and of the rejected one."""
        start = len(self.prompt)
        chosen, rejected = (
            TokenizedExample.of_tokens(
                text.tolist(), [False] * start + [True] * (len(text) - start)
            )
            for text in self.texts()
        )
        return chosen, rejected

    def __len__(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def tokenize_pairs(
    pairs: Sequence[Pair], tokenizer: BPETokenizer, *, chat: bool = False
) -> list[TokenizedPair]:
    """Return many pairs as tokens. Arguments and errors as `TokenizedPair.of`."""
    return [TokenizedPair.of(pair, tokenizer, chat=chat) for pair in pairs]


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """One or more pairs of answers to one prompt; some may share an answer.

    Its length is that of the longest text, in tokens.

    Raises:
        ValueError: If there are none, or their prompts differ.
    """

    pairs: tuple[TokenizedPair, ...]

    def __post_init__(self) -> None:
        """Raise ValueError if nothing is compared."""
        if not self.pairs:
            raise ValueError("a prompt needs at least one pair of answers, got none")
        if len(prompts := {tuple(pair.prompt.tolist()) for pair in self.pairs}) > 1:
            raise ValueError(f"wanted pairs of one prompt, got {len(prompts)} prompts")

    def __len__(self) -> int:
        return max(map(len, self.pairs))


def pairs_by_prompt(pairs: Sequence[TokenizedPair]) -> list[PromptPairs]:
    """Return the pairs of each prompt together, prompts and pairs in their order.

    >>> first, second = torch.tensor([0, 5]), torch.tensor([0, 6])
    >>> a, b, c = (torch.tensor([n]) for n in (7, 8, 9))
    >>> pairs = [TokenizedPair(*row) for row in ((first, a, b), (second, a, b))]
    >>> [len(of_one.pairs) for of_one in
    ...     pairs_by_prompt([*pairs, TokenizedPair(first, b, c)])]
    [2, 1]
    """
    found: dict[tuple[int, ...], list[TokenizedPair]] = {}
    for pair in pairs:
        found.setdefault(tuple(pair.prompt.tolist()), []).append(pair)
    return [PromptPairs(tuple(together)) for together in found.values()]


def check_pairs(
    pairs: Sequence[TokenizedPair],
    model: TransformerConfig,
    context_length: int | None = None,
) -> None:
    """Look at every pair once, before a training.

    Args:
        pairs: All there are.
        model: Shape of what is to read them.
        context_length: The most tokens of a text, if fewer than the model can read.

    Raises:
        ValueError: If there are none, if one is too long, or if an id is outside the
            vocabulary.
    """
    if not pairs:
        raise ValueError("pairs are needed, to learn and to hold out, got none")
    limit = min(model.context_length, context_length or model.context_length)
    if too_long := [len(pair) for pair in pairs if len(pair) > limit]:
        raise ValueError(
            f"prompt and answer must have at most {limit} tokens, "
            f"but {len(too_long)} of {len(pairs)} pairs have up to {max(too_long)}"
        )
    ids = torch.cat([part for pair in pairs for part in pair.texts()])
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= model.vocab_size:
        raise ValueError(
            f"ids must be in 0 … {model.vocab_size - 1}, got {low} … {high}"
        )


def fingerprint_of_pairs(pairs: Sequence[TokenizedPair]) -> str:
    """Return a short text that is equal for equal pairs in the same order."""
    return fingerprint_of([example for pair in pairs for example in pair.examples()])
