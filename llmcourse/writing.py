"""What a model writes, as text: all at once, or piece by piece as it is drawn.

    "Once upon" → 0 17 8 …  model  … 42 9 0 → " a time", " there", …

The mark between documents stands before the prompt, so that the model takes it for the
beginning of a text, and it ends the text when the model draws it.
"""

from collections.abc import Iterator

import torch

from llmcourse.generation import stream
from llmcourse.packing import end_of_text
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer


def stream_text(
    model: Transformer,
    tokenizer: BPETokenizer,
    prompt: str = "",
    *,
    max_new_tokens: int | None = None,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the text behind a prompt as soon as it is drawn, up to its end.

    A character of several bytes comes when the last of them is there. Bytes that are
    no UTF-8 become U+FFFD.

    Args:
        model: A trained model, or an untrained one.
        tokenizer: The model's, with `<|endoftext|>`.
        prompt: How the text begins; with an empty one the model begins itself.
        max_new_tokens: The most tokens to write; what fits the model if not given.
        temperature: As in `generation.generate`, like the two that follow.
        top_k: See there.
        top_p: See there.
        seed: The same seed gives the same text.

    Raises:
        ValueError: At once, if the prompt is longer than the model's context, or as
            `generation.generate`.
    """
    end = end_of_text(tokenizer)
    ids, limit = [end, *tokenizer.encode(prompt)], model.config.context_length
    if len(ids) > limit:
        raise ValueError(
            f"the prompt, with a mark before it, must fit into context_length = {limit}"
            f" tokens, got {len(ids)}"
        )
    new_ids = stream(
        model,
        torch.tensor(ids),
        limit - len(ids) if max_new_tokens is None else max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=[end],
        generator=torch.Generator().manual_seed(seed),
    )
    return tokenizer.decode_iterable(new_ids, skip_special_tokens=True)


def write(
    model: Transformer,
    tokenizer: BPETokenizer,
    prompt: str = "",
    *,
    max_new_tokens: int | None = None,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    seed: int = 0,
) -> str:
    """Return a prompt and the text that a model writes after it, up to its end.

    Args:
        model: As in `stream_text`, like all that follow.
        tokenizer: See there.
        prompt: See there.
        max_new_tokens: See there.
        temperature: See there.
        top_k: See there.
        top_p: See there.
        seed: See there.

    Raises:
        ValueError: As `stream_text`.
    """
    return prompt + "".join(
        stream_text(
            model,
            tokenizer,
            prompt,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
    )
