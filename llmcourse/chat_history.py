"""What a model is still told of a conversation that grows longer than its context.

system turn      stays
user, assistant  dropped first, together
user, assistant
user             the question to be answered: stays
"""

from collections.abc import Sequence
from typing import NamedTuple

from llmcourse.chat import Message, encode_prompt
from llmcourse.tokenization import BPETokenizer


class Fitted(NamedTuple):
    """A conversation in two parts."""

    kept: list[Message]  # what the model reads
    dropped: list[Message]  # what it does not, the oldest turn first


def fit_history(
    messages: Sequence[Message], tokenizer: BPETokenizer, max_tokens: int
) -> Fitted:
    """Return what of a conversation fits, and the turns that had to go for it.

    Whole exchanges of user and assistant are dropped, the oldest first, as few as
    possible. What is kept has the ids that `chat.encode_prompt` gives the whole with
    `truncate`.

    Args:
        messages: A conversation that ends with the user's turn.
        tokenizer: Has the special tokens of `chat`.
        max_tokens: The most ids of what is kept.

    Raises:
        ValueError: If the system turn and the last question alone are too long, or as
            `chat.encode_prompt`.
    """
    kept, dropped = list(messages), list[Message]()
    first = 1 if messages and messages[0].role == "system" else 0
    while True:
        n_tokens = len(encode_prompt(kept, tokenizer))
        if n_tokens <= max_tokens:
            return Fitted(kept, dropped)
        if len(kept) <= first + 1:
            counted = "the system turn and the marks" if first else "the marks"
            raise ValueError(
                f"a question must have at most {max_tokens} tokens, {counted} of who "
                f"speaks included, got {n_tokens}"
            )
        dropped += kept[first : first + 2]
        del kept[first : first + 2]
