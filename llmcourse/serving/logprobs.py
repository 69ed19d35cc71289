r"""Log-probabilities of tokens, in the two forms that OpenAI's API has for them.

    completions    {"tokens": ["Once", " upon"], "token_logprobs": [null, -0.1],
                    "top_logprobs": [null, {" upon": -0.1}], "text_offset": [0, 4]}
    chat           {"content": [{"token": "Hi", "logprob": -0.2, "bytes": [72, 105],
                                 "top_logprobs": []}]}

They are taken from the model's own distribution: temperature 1, nothing cut off. So
their sum over a text is what `text_loss` measures, and evaluations can get it over
HTTP.

Source: OpenAI, "API reference" (completions, chat).
"""

from collections.abc import Sequence
from typing import Any

from llmcourse.serving.batching import TokenLogprob
from llmcourse.text.tokenizers import BPETokenizer

Placed = tuple[TokenLogprob, int]  # a token, and its first character's offset in a text


def token_name(id_: int, tokenizer: BPETokenizer) -> str:
    r"""Return a token as text, or as OpenAI writes its bytes if they are not UTF-8.

    >>> tokenizer = BPETokenizer.train(["a"], vocab_size=256)
    >>> [token_name(id_, tokenizer) for id_ in tokenizer.encode("aé")]
    ['a', 'bytes:\\xc3', 'bytes:\\xa9']
    """
    piece = tokenizer.pieces[id_]
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def completion_logprobs(
    tokens: Sequence[Placed], tokenizer: BPETokenizer
) -> dict[str, Any]:
    """Return the log-probabilities of a completion's tokens.

    The token itself is always listed among the most probable ones, so there may be one
    more than was asked for.
    """

    def top(token: TokenLogprob) -> dict[str, float | None] | None:
        likely = [*token.top, (token.id, token.logprob)]
        names = {token_name(id_, tokenizer): logprob for id_, logprob in likely}
        return None if token.logprob is None else names

    return {
        "tokens": [token_name(token.id, tokenizer) for token, _ in tokens],
        "token_logprobs": [token.logprob for token, _ in tokens],
        "top_logprobs": [top(token) for token, _ in tokens],
        "text_offset": [offset for _, offset in tokens],
    }


def chat_logprobs(tokens: Sequence[Placed], tokenizer: BPETokenizer) -> dict[str, Any]:
    """Return the log-probabilities of an answer's tokens."""

    def likely(id_: int, logprob: float | None) -> dict[str, Any]:
        name = token_name(id_, tokenizer)
        return {"token": name, "logprob": logprob, "bytes": [*tokenizer.pieces[id_]]}

    return {
        "content": [
            likely(token.id, token.logprob)
            | {"top_logprobs": [likely(*pair) for pair in token.top]}
            for token, _ in tokens
        ],
        "refusal": None,
    }
