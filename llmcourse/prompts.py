"""Prompts: what is to be answered, as text for a reward and as ids for a policy.

    story_prompt   the mark of a beginning, then: Once upon a time     goes on
    chat_prompt    a user's turn, and the mark of the assistant's      answers

Reward functions and policies are given the same prompts.
"""

from dataclasses import dataclass

from llmcourse.chat import Message, encode_prompt
from llmcourse.packing import end_of_text
from llmcourse.tokenization import BPETokenizer


@dataclass(frozen=True)
class Prompt:
    """What is to be answered: as a reward reads it, and as the policy does.

    Raises:
        ValueError: If the policy would have nothing to read.
    """

    text: str
    ids: tuple[int, ...]  # may have marks that the text has not, such as whose turn

    def __post_init__(self) -> None:
        """Raise ValueError for a prompt without ids."""
        if not self.ids:
            raise ValueError(f"a prompt needs at least one id, got none: {self.text!r}")


def story_prompt(text: str, tokenizer: BPETokenizer) -> Prompt:
    """Return the task of going on with a text.

    Args:
        text: A beginning; may be empty.
        tokenizer: Has `<|endoftext|>`, which comes before every text.

    Raises:
        ValueError: If it has not.
    """
    return Prompt(text, (end_of_text(tokenizer), *tokenizer.encode(text)))


def chat_prompt(text: str, tokenizer: BPETokenizer) -> Prompt:
    """Return the task of answering what a user says.

    Args:
        text: Of the user's turn, the only one.
        tokenizer: Has the tokens of conversations, see `special_tokens`.

    Raises:
        ValueError: If it has not.
    """
    return Prompt(text, tuple(encode_prompt([Message("user", text)], tokenizer)))
