"""Let a model answer: one conversation as a stream, or many questions at once.

    "Who …?" → <|endoftext|><|user|>Who …?<|end|><|assistant|>  model  The owl.<|end|>

A model that has never seen a conversation is asked in plain text, and should answer
after a blank line.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

import torch

from llmcourse.arguments import check_fits
from llmcourse.finetuning import chat
from llmcourse.model.generation import GREEDY, Sampling, generate, stream
from llmcourse.model.transformer import Transformer
from llmcourse.text.packing import END_OF_TEXT, end_of_text
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import CountProgress

_MOST_AT_ONCE = 64  # questions answered in one batch


def knows_conversations(tokenizer: BPETokenizer) -> bool:
    """Return whether a tokenizer can write conversations: with tokens or a template."""
    return chat.has_chat_tokens(tokenizer) or chat.uses_template(tokenizer)


def stream_answer(
    model: Transformer,
    tokenizer: BPETokenizer,
    messages: Sequence[chat.Message],
    *,
    max_new_tokens: int | None = None,
    sampling: Sampling = Sampling(),
    generator: torch.Generator | None = None,
    watch: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """Yield the answer to a conversation as it is sampled, up to its end.

    Args:
        model: Trained on conversations.
        tokenizer: The model's, with the special tokens of `chat` or a template.
        messages: A conversation that ends with the user's turn.
        max_new_tokens: Most tokens to write; by default, as many as fit.
        sampling: Temperature, top-k and top-p.
        generator: Source of randomness; None draws from torch's global one.
        watch: Called with each new id, before its text is yielded. If none of them
            is one of `end_tokens`, the answer was cut off.

    Raises:
        ValueError: At once, if `check_turns` refuses the turns, if the tokenizer lacks
            the special tokens, if the conversation leaves no room for an answer, or as
            in `generation.generate`.
    """
    limit = model.config.context_length
    ids = chat.encode_prompt(messages, tokenizer, limit - 1)
    new_ids = stream(
        model,
        torch.tensor(ids, device=model.embedding.weight.device),
        limit - len(ids) if max_new_tokens is None else max_new_tokens,
        sampling=sampling,
        stop=end_tokens(tokenizer),
        generator=generator,
    )
    seen = new_ids if watch is None else _watched(new_ids, watch)
    return tokenizer.decode_iterable(seen, skip_special_tokens=True)


def _watched(ids: Iterator[int], watch: Callable[[int], None]) -> Iterator[int]:
    for id_ in ids:
        watch(id_)
        yield id_


def end_tokens(tokenizer: BPETokenizer) -> set[int]:
    """Return the ids that end an answer, as far as a tokenizer has them."""
    special = tokenizer.special_tokens
    names = {chat.END_OF_TURN, END_OF_TEXT, *tokenizer.options.end_tokens}
    return {special[name] for name in names if name in special}


def answer(model: Transformer, tokenizer: BPETokenizer, question: str) -> str:
    """Return the greedy answer to one question: always the most probable token.

    Args:
        model: Answers the question.
        tokenizer: The model's.
        question: What the user says.

    Raises:
        ValueError: As in `stream_answer`.
    """
    turn = [chat.Message("user", question)]
    return "".join(stream_answer(model, tokenizer, turn, sampling=GREEDY))


def answer_batch(
    model: Transformer,
    tokenizer: BPETokenizer,
    questions: Sequence[str | Sequence[chat.Message]],
    *,
    max_new_tokens: Sequence[int] | None = None,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
    progress: CountProgress | None = None,
) -> list[str]:
    """Return a model's answer to each question; greedy by default.

    Questions with the same number of tokens are answered in one batch. Grouping does
    not change greedy answers, but sampled ones depend on it. Special tokens that a
    model writes before the end of its turn stay in the text: no right answer contains
    any.

    Args:
        model: Any; if its tokenizer has neither the special tokens of `chat` nor a
            template, it continues each question as plain text.
        tokenizer: The model's, with `<|endoftext|>`.
        questions: What the user says, each in a conversation of its own; or whole
            conversations, for example with a system prompt.
        max_new_tokens: Most tokens of each answer; by default, as many as fit.
        sampling: Temperature, top-k and top-p.
        generator: Source of randomness; None draws from torch's global one.
        progress: Called with the number of questions answered and the total.

    Raises:
        ValueError: If a question leaves no room for an answer, if limits and questions
            differ in number, if the tokenizer lacks `<|endoftext|>`, or as in
            `generation.generate`.
    """
    limit = model.config.context_length
    most = [limit] * len(questions) if max_new_tokens is None else max_new_tokens
    if len(most) != len(questions):
        raise ValueError(
            f"wanted a limit for each of {len(questions)} questions, got {len(most)}"
        )
    prompts = [_prompt(question, tokenizer, limit) for question in questions]
    stops, answers = end_tokens(tokenizer), [""] * len(questions)
    device, done = model.embedding.weight.device, 0
    for group in _groups(prompts, most):
        ids = torch.tensor([prompts[number] for number in group], device=device)
        room = min(max(most[number] for number in group), limit - ids.shape[1])
        rows = generate(
            model, ids, room, sampling=sampling, stop=stops, generator=generator
        )
        rows = rows[:, ids.shape[1] :]
        for number, row in zip(group, rows.tolist(), strict=True):
            new = takewhile(lambda id_: id_ not in stops, row[: most[number]])
            answers[number] = tokenizer.decode([*new])
        done += len(group)
        if progress is not None:
            progress(done, len(questions))
    return answers


def _prompt(
    question: str | Sequence[chat.Message], tokenizer: BPETokenizer, limit: int
) -> list[int]:
    """Return the ids of a question, in the form that the model knows."""
    turns = [chat.Message("user", question)] if isinstance(question, str) else question
    if knows_conversations(tokenizer):
        return chat.encode_prompt(turns, tokenizer, limit - 1)
    text = "".join(f"{turn.content}\n\n" for turn in turns)
    ids = [end_of_text(tokenizer), *tokenizer.encode(text)]
    check_fits(len(ids), 1, limit)
    return ids


def _groups(prompts: Sequence[Sequence[int]], most: Sequence[int]) -> list[list[int]]:
    """Return the indices of prompts, grouped by equal length and similar limit."""
    order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n]), most[n]))
    groups: list[list[int]] = []
    for number in order:
        last = groups[-1] if groups else []
        alike = last and len(prompts[last[0]]) == len(prompts[number])
        # A short answer does not wait for one that may be ten times as long.
        if alike and len(last) < _MOST_AT_ONCE and most[number] <= 3 * most[last[0]]:
            last.append(number)
        else:
            groups.append([number])
    return groups
