"""Rollouts: a policy answers many prompts at once, and what it sampled is recorded.

    ids          p p p a a a .      p  of the prompt
                 p p p p p a a      a  of the answer, sampled
    answer_mask  0 0 0 1 1 1 0      .  after the end
                 0 0 0 0 0 1 1

All rows start at position 0 and are read together up to the end of the shortest
prompt; from there on, a row whose prompt has a next token is given that token, and any
other row samples one. So no row has padding before its text, every position is exactly
what it would be if the prompt were alone, and the key-value cache needs no mask.

Each answer has its own random numbers, so it does not depend on the other prompts in
the batch.

A `Scorer` reads answers that are already written, once, and returns for each token:

    prompt answer ── layers ──┬── unembedding ── log-probability, entropy
                              └── value head ── what will the answer be worth?

Results have the rows and columns of the answers: at a token's place is what the model
said of the token before reading it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, linear, pad
from torch.nn.utils.rnn import pad_sequence

from llmcourse.alignment.losses import Mask, PerToken, entropy, spread
from llmcourse.alignment.preferences import Prompt, end_of_answer
from llmcourse.arguments import check_fits, check_range
from llmcourse.finetuning.classification import without_unembedding
from llmcourse.model.decoding import FusedDecoder, can_fuse
from llmcourse.model.generation import inverse_cdf
from llmcourse.model.transformer import Transformer
from llmcourse.text.tokenizers import BPETokenizer, Tokenizer
from llmcourse.training import parallel
from llmcourse.training.config import CountProgress, autocast

_AT_ONCE = 64  # answers in a batch


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Answers to prompts, one per row; padded with zeros on the right."""

    prompts: tuple[Prompt, ...]
    texts: tuple[str, ...]  # of the answers, without the end token
    ids: Int[Tensor, "batch position"]
    answer_mask: Bool[Tensor, "batch position"]  # True on sampled tokens
    log_probs: Float[Tensor, "batch position"]  # of sampled tokens, in nats; else 0
    finished: Bool[Tensor, "batch"]  # whether the end token was sampled

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """Length of each answer in tokens, the end token included."""
        return self.answer_mask.sum(dim=1)


Ids: TypeAlias = Int[Tensor, "batch position"]


def sample_rollouts(
    policy: Transformer,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    *,
    tokenizer: Tokenizer,
    stop: Collection[int] = (),
    generator: torch.Generator,
    shared: bool = False,
) -> Rollouts:
    """Return one answer to each prompt, sampled from the policy at temperature 1.

    Args:
        policy: The model.
        prompts: What to answer, of any lengths; the same one may occur many times.
        max_new_tokens: Most tokens of an answer.
        tokenizer: Turns the answers into text.
        stop: Ids that end an answer and are part of it.
        generator: Source of randomness: `max_new_tokens` numbers for each answer,
            one row after the other.
        shared: Whether the processes of `parallel` divide the answers among them.

    Raises:
        ValueError: If there is no prompt or no token to write, or if a prompt and its
            answer do not fit into the policy's `context_length`.
        FloatingPointError: If the policy gives probabilities that are not finite.
    """
    check_room(policy, prompts, max_new_tokens)
    device = policy.embedding.weight.device
    uniform = torch.rand(len(prompts), max_new_tokens, generator=generator)
    lengths = torch.tensor([len(prompt.ids) for prompt in prompts])
    starts = [torch.tensor(prompt.ids) for prompt in prompts]
    ids = pad(pad_sequence(starts, batch_first=True), (0, max_new_tokens)).to(device)
    lengths, uniform = lengths.to(device), uniform.to(device)
    if shared:
        n, own = len(ids), parallel.own_rows
        parts = _write(policy, own(ids), own(lengths), own(uniform), stop)
        ids, mask, log_probs, finished = (parallel.all_rows(p, n) for p in parts)
    else:
        ids, mask, log_probs, finished = _write(policy, ids, lengths, uniform, stop)
    texts = []
    for n, prompt in enumerate(prompts):
        answer = ids[n, mask[n]].tolist()
        texts.append(_text(prompt, answer[:-1] if finished[n] else answer, tokenizer))
    width = int((lengths + mask.sum(dim=1)).max())
    ids, mask, log_probs = (part[:, :width] for part in (ids, mask, log_probs))
    return Rollouts(tuple(prompts), tuple(texts), ids, mask, log_probs, finished)


def sample_in_batches(
    policy: Transformer,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    tokenizer: BPETokenizer,
    generator: torch.Generator,
    progress: CountProgress | None = None,
    *,
    shared: bool = False,
) -> Iterator[Rollouts]:
    """Yield answers to all prompts, 64 at a time, each up to its end.

    Args:
        policy: The model.
        prompts: What to answer.
        max_new_tokens: Most tokens of an answer.
        tokenizer: The policy's, which knows where an answer ends.
        generator: As in `sample_rollouts`.
        progress: Called with the number of answers so far, and the total.
        shared: As in `sample_rollouts`.
    """
    for start in range(0, len(prompts), _AT_ONCE):
        part = prompts[start : start + _AT_ONCE]
        yield sample_rollouts(
            policy,
            part,
            max_new_tokens,
            tokenizer=tokenizer,
            stop=[end_of_answer(tokenizer)],
            generator=generator,
            shared=shared,
        )
        if progress is not None:
            progress(start + len(part), len(prompts))


def _text(prompt: Prompt, answer: Sequence[int], tokenizer: Tokenizer) -> str:
    """Return an answer's text, with its first space if it continues the prompt's."""
    if not isinstance(tokenizer, BPETokenizer):
        return tokenizer.decode(answer)
    goes_on = prompt.ids[-1] not in tokenizer.skipped_ids()
    return "".join(tokenizer.decode_iterable(answer, goes_on=goes_on))


def check_room(
    policy: Transformer, prompts: Sequence[Prompt], max_new_tokens: int
) -> None:
    """Refuse prompts that a policy cannot answer.

    Raises:
        ValueError: If there is no prompt or no token to write, or if a prompt and its
            answer do not fit into the policy's `context_length`.
    """
    check_range(1, n_prompts=len(prompts), max_new_tokens=max_new_tokens)
    longest = max(len(prompt.ids) for prompt in prompts)
    check_fits(longest, max_new_tokens, policy.config.context_length)


@torch.no_grad()
def _write(
    policy: Transformer,
    ids: Int[Tensor, "batch position"],
    lengths: Int[Tensor, "batch"],
    uniform: Float[Tensor, "batch max_new_tokens"],
    stop: Collection[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Write answers after prompts of these lengths, with these random numbers.

    Returns ids, answer mask and log-probabilities (B, T), and which have ended (B,).
    """
    n_rows, width = ids.shape
    most, device = uniform.shape[1], ids.device
    ends = torch.tensor(sorted(stop), dtype=torch.int64, device=device)
    answer_mask = torch.zeros_like(ids, dtype=torch.bool)
    log_probs = torch.zeros(ids.shape, device=device)
    finished = torch.zeros(n_rows, dtype=torch.bool, device=device)
    rows = torch.arange(n_rows, device=device)  # those still being read
    cache = policy.new_cache(n_rows, capacity=width)
    read = FusedDecoder(policy) if can_fuse(policy) else policy
    shortest = int(lengths.min())
    unread = ids[:, :shortest]
    for position in range(shortest, width):
        logits = read(unread, cache)[:, -1].float()  # (rows, V)
        choices = logits.log_softmax(dim=-1)
        if not bool(choices[:, 0].isfinite().all()):  # NaN in one is NaN in all
            raise FloatingPointError(
                "a policy needs finite probabilities to draw from, got others at "
                f"position {position}"
            )
        number = position - lengths[rows]  # of the token in the answer; below 0: prompt
        draws = (number >= 0) & (number < most) & ~finished[rows]
        drawn = inverse_cdf(choices.exp(), uniform[rows, number.clamp(0, most - 1)])
        drawn_log_probs = choices.gather(1, drawn[:, None])[:, 0]
        ids[rows, position] = drawn.where(draws, ids[rows, position])
        answer_mask[rows, position] = draws
        log_probs[rows, position] = drawn_log_probs.where(draws, 0.0)
        finished[rows] |= draws & torch.isin(drawn, ends)
        is_open = ~finished[rows] & (number < most - 1)
        if not bool(is_open.any()):
            break
        # Copying the cache costs about one step, so not done for every row that ends.
        if int(is_open.sum()) <= 0.85 * len(rows):
            rows = rows[is_open]
            cache.keys, cache.values = cache.keys[:, is_open], cache.values[:, is_open]
        unread = ids[rows, position, None]
    return ids, answer_mask, log_probs, finished


class Scores(NamedTuple):
    """What a model says of answers; 0 outside their tokens."""

    log_probs: PerToken  # in nats
    entropy: PerToken  # of the next token's distribution, in nats
    features: Float[Tensor, "token d_model"]  # of what came before, tokens in order


class Scorer:
    """Reads answers with a model, whose logits it computes only where they count.

    Args:
        model: Its layers are used, not copied.
        precision: "bfloat16" halves the time on processors that have it.

    >>> from llmcourse.model.transformer import TINY
    >>> scorer = Scorer(Transformer(TINY))
    >>> ids, mask = torch.tensor([[5, 0, 3]]), torch.tensor([[False, False, True]])
    >>> scorer(ids, mask).log_probs.shape
    torch.Size([1, 3])
    """

    def __init__(self, model: Transformer, precision: str = "float32") -> None:
        self.model, self.precision = model, precision
        self._body = without_unembedding(model)

    def __call__(self, ids: Ids, mask: Mask) -> Scores:
        """Return what the model says of the tokens where the mask is True.

        Raises:
            ValueError: As in `Transformer`.
        """
        scorer = self.model.unembedding or self.model.embedding
        with autocast(self.precision, scorer.weight.device):
            features = self._body(ids[:, :-1])[mask[:, 1:]]  # (N, D)
            logits = linear(features, scorer.weight).float()  # (N, V)
        losses = cross_entropy(logits, ids[mask], reduction="none")
        return Scores(
            log_probs=spread(-losses, mask),
            entropy=spread(entropy(logits), mask),
            features=features,
        )

    def in_parts(self, ids: Ids, mask: Mask, size: int) -> Iterator[Scores]:
        """Yield the scores of `size` answers at a time, to save memory.

        Raises:
            ValueError: As in `__call__`.
        """
        for start in range(0, len(ids), size):
            yield self(ids[start : start + size], mask[start : start + size])

    @torch.no_grad()
    def log_probs(self, ids: Ids, mask: Mask, size: int) -> PerToken:
        """Return only the log-probabilities, in nats, from `size` answers at a time.

        Raises:
            ValueError: As in `__call__`.
        """
        return torch.cat([part.log_probs for part in self.in_parts(ids, mask, size)])


class ValueHead(nn.Module):
    """Estimates from a policy's features what the answer will be worth, in points.

    Its gradient goes no further than the head: estimating well must not cost the
    policy what it knows. One hidden layer makes up for that.

    Args:
        d_model: Width of the features.
        generator: Source of the initial weights; None draws from torch's global one.
    """

    def __init__(self, d_model: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(2 * d_model, 1)
        nn.init.normal_(self.hidden.weight, std=d_model**-0.5, generator=generator)
        for weight in (self.hidden.bias, self.output.weight, self.output.bias):
            nn.init.zeros_(weight)

    def forward(
        self, features: Float[Tensor, "token d_model"]
    ) -> Float[Tensor, "token"]:
        """Return a value for each of the features, in points."""
        hidden = gelu(self.hidden(features.detach().float()))  # of a policy in any type
        values: Tensor = self.output(hidden)
        return values[:, 0]
