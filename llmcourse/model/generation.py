"""Writing with a language model: one token at a time, drawn from its predictions.

    logits ── / temperature ── top-k ── top-p ── draw ──► next id ──► read it, repeat

The model only ever gives probabilities. How much of their tail is kept is decided
here: a low temperature favours probable tokens, top-k keeps the k most probable ones,
top-p the fewest that together have probability p.

`generate` and `stream` write ids; `write` and `stream_text` write text:

    "Once upon" → 0 17 8 …  model  … 42 9 0 → " a time", " there", …

The token that separates documents is put before the prompt, to mark it as the beginning
of a text; when the model itself draws that token, the text ends.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmcourse.arguments import check_fits, check_range
from llmcourse.model.decoding import FusedDecoder, can_fuse
from llmcourse.model.transformer import Transformer
from llmcourse.text.packing import text_borders
from llmcourse.text.tokenizers import BPETokenizer

_WARM_UP = 4  # tokens; fusing the matrices takes as long as two to ten


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

    Args:
        temperature: What the scores are divided by; 0 takes the most probable token.
        top_k: Maximum number of tokens to keep; None keeps all.
        top_p: Share of the probability to keep, counted from the most probable token
            down; the token that reaches it is kept too. Applied after `top_k`.

    Source: Fan et al. (2018), section 5.1 (top-k); Holtzman et al. (2020), section
    3.1 (top-p).
    """

    temperature: float | int = 1.0
    top_k: int | None = None
    top_p: float | int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for values that allow no sampling."""
        check_range(0, temperature=self.temperature)
        check_range(1, top_k=self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")


GREEDY = Sampling(temperature=0)  # always the most probable token


def next_token_distribution(
    logits: Float[Tensor, "*batch vocab"], sampling: Sampling = Sampling()
) -> Float[Tensor, "*batch vocab"]:
    """Return the probabilities that the next token is drawn from.

    Args:
        logits: Scores of all tokens, as the model gives them.
        sampling: Temperature, top-k and top-p.

    >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
    >>> next_token_distribution(logits, Sampling(top_p=0.6))
    tensor([0.6250, 0.3750, 0.0000])
    >>> next_token_distribution(logits, GREEDY)
    tensor([1., 0., 0.])
    """
    if sampling.temperature < torch.finfo(torch.float32).tiny:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    # The largest score becomes 0 first, so no temperature is too low to divide by.
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    probs = scaled.softmax(dim=-1)
    if sampling.top_k is None and sampling.top_p is None:
        return probs
    # By scores: two that differ by a hair may have the same probability.
    order = logits.argsort(dim=-1, descending=True, stable=True)
    ordered = probs.gather(-1, order)
    if sampling.top_k is not None:
        ordered[..., sampling.top_k :] = 0.0
        ordered = ordered / ordered.sum(dim=-1, keepdim=True)
    if sampling.top_p is not None and sampling.top_p < 1:
        before = ordered.double().cumsum(dim=-1) - ordered  # of all more probable ones
        enough = sampling.top_p * (1 - 1e-6)  # 0.1 + 0.2 reaches 0.3 despite rounding
        ordered = ordered.where(before < enough, 0.0)
        ordered = ordered / ordered.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probs).scatter(-1, order, ordered)


def inverse_cdf(
    probs: Float[Tensor, "batch vocab"], uniform: Float[Tensor, "batch"]
) -> Int[Tensor, "batch"]:
    """Return, for each row, the token that a random number in [0, 1) falls on.

    The probabilities are laid end to end. In double precision, rounding cannot make the
    number fall on a token of probability zero or past the end.

    Args:
        probs: Probabilities of the tokens.
        uniform: A random number for each row.

    >>> inverse_cdf(torch.tensor([[0.5, 0.0, 0.5]] * 2), torch.tensor([0.2, 0.6]))
    tensor([0, 2])
    """
    edges = probs.double().cumsum(dim=-1)  # (B, V)
    points = uniform[:, None] * edges[:, -1:]
    return torch.searchsorted(edges, points, right=True)[:, 0]


def generate(
    model: Transformer,
    ids: Int[Tensor, "*batch prompt"],
    max_new_tokens: int,
    *,
    sampling: Sampling = Sampling(),
    stop: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Int[Tensor, "*batch total"]:
    """Return the prompt's ids followed by those that the model wrote.

    Args:
        model: Gives the probabilities.
        ids: One prompt, or a batch of prompts of equal length.
        max_new_tokens: Maximum number of tokens to write for each prompt.
        sampling: Temperature, top-k and top-p.
        stop: Ids that end a text. The stop token is part of the result; in a batch,
            a text that has ended repeats it until all have.
        generator: Source of randomness; None uses torch's global one.

    Raises:
        ValueError: If there is no prompt, or if prompt and new tokens do not fit into
            the model's `context_length`.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> generate(model, torch.tensor([4, 8]), max_new_tokens=3).shape
    torch.Size([5])
    """
    batch = ids if ids.ndim == 2 else ids[None]
    steps = _steps(model, batch, max_new_tokens, sampling, stop, generator)
    result = torch.cat([batch, *steps], dim=1)
    return result if ids.ndim == 2 else result[0]


def stream(
    model: Transformer,
    ids: Int[Tensor, "prompt"],
    max_new_tokens: int,
    *,
    sampling: Sampling = Sampling(),
    stop: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Yield each new id as soon as it is drawn: the same ids as from `generate`.

    Args:
        model: Gives the probabilities.
        ids: One prompt.
        max_new_tokens: Maximum number of tokens to write.
        sampling: Temperature, top-k and top-p.
        stop: Ids that end a text; the stop token is yielded last.
        generator: Source of randomness; None uses torch's global one.

    Raises:
        ValueError: As in `generate`, and right away: before the first id is requested.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> len(list(stream(model, torch.tensor([4, 8]), max_new_tokens=3)))
    3
    """
    steps = _steps(model, ids[None], max_new_tokens, sampling, stop, generator)
    return (int(new) for new in steps)


def _steps(
    model: Transformer,
    ids: Int[Tensor, "batch prompt"],
    max_new_tokens: int,
    sampling: Sampling,
    stop: Collection[int],
    generator: torch.Generator | None,
) -> Iterator[Int[Tensor, "batch 1"]]:
    """Check the request now; return an iterator over the new ids of all rows."""
    n_prompt = ids.shape[1]
    check_range(0, max_new_tokens=max_new_tokens)
    check_fits(n_prompt, max_new_tokens, model.config.context_length)

    @torch.inference_mode()
    def steps() -> Iterator[Tensor]:
        read: Callable[..., Tensor] = model
        cache = model.new_cache(len(ids), capacity=n_prompt + max_new_tokens)
        stop_ids = torch.tensor(sorted(stop), dtype=ids.dtype, device=ids.device)
        stopped = torch.zeros(len(ids), 1, dtype=torch.bool, device=ids.device)
        unread = ids
        for n_written in range(max_new_tokens):
            if n_written == _WARM_UP and can_fuse(model):
                read = FusedDecoder(model)  # the same logits, in less time
            new = draw(read(unread, cache)[:, -1], sampling, generator)  # (B, 1)
            unread = torch.where(stopped, unread[:, -1:], new)
            yield unread
            stopped = torch.isin(unread, stop_ids)
            if stopped.all():
                return

    return steps()


def draw(
    logits: Float[Tensor, "batch vocab"],
    sampling: Sampling,
    generator: torch.Generator | None,
) -> Int[Tensor, "batch 1"]:
    """Return the next token of each row.

    Raises:
        FloatingPointError: If a logit is NaN: the weights are unusable.

    >>> logits = torch.tensor([[0.0, 2, 1], [3, 0, 0]])
    >>> draw(logits, GREEDY, generator=None).tolist()
    [[1], [0]]
    """
    if sampling.temperature == 0:
        found = logits.argmax(dim=-1, keepdim=True)  # a NaN's index, if there is one
        are_numbers = not logits.gather(-1, found).isnan().any()
    else:
        # Drawn on the CPU, so that a seed gives the same text on every device.
        probs = next_token_distribution(logits, sampling).cpu()
        uniform = torch.rand(len(probs), generator=generator)
        found = inverse_cdf(probs, uniform)[:, None]
        are_numbers = bool((found < probs.shape[-1]).all())  # a NaN makes all sums NaN
    if not are_numbers:
        raise FloatingPointError("the next token needs logits, got NaN")
    return found.to(logits.device)


def stream_text(
    model: Transformer,
    tokenizer: BPETokenizer,
    prompt: str = "",
    *,
    max_new_tokens: int | None = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
) -> Iterator[str]:
    """Yield the text after a prompt as soon as it is drawn, up to its end.

    A character of several bytes is yielded once its last byte is there. Bytes that are
    not valid UTF-8 become U+FFFD.

    Args:
        model: A trained model, or an untrained one.
        tokenizer: The model's tokenizer, which marks where texts begin and end.
        prompt: How the text begins; if empty, the model starts it.
        max_new_tokens: Maximum number of tokens to write; None: as many as fit.
        sampling: Temperature, top-k and top-p.
        seed: The same seed gives the same text.

    Raises:
        ValueError: Right away, if the prompt is longer than the model's context, or as
            in `generation.generate`.
    """
    start, ends = text_borders(tokenizer)
    ids, limit = [*start, *tokenizer.encode(prompt)], model.config.context_length
    new_ids = stream(
        model,
        torch.tensor(ids, device=model.embedding.weight.device),
        max(0, limit - len(ids)) if max_new_tokens is None else max_new_tokens,
        sampling=sampling,
        stop=ends,
        generator=torch.Generator().manual_seed(seed),
    )
    return tokenizer.decode_iterable(
        new_ids, skip_special_tokens=True, goes_on=bool(prompt)
    )


def write(
    model: Transformer, tokenizer: BPETokenizer, prompt: str = "", **options: Any
) -> str:
    """Return a prompt and the text that a model writes after it, up to its end.

    Args:
        model: A trained model, or an untrained one.
        tokenizer: The model's tokenizer, which marks where texts begin and end.
        prompt: How the text begins; if empty, the model starts it.
        options: Options of `stream_text`: `max_new_tokens`, `sampling`, `seed`.

    Raises:
        ValueError: As in `stream_text`.
    """
    return prompt + "".join(stream_text(model, tokenizer, prompt, **options))
