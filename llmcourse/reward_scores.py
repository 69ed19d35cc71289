"""What a reward model says of texts and of pairs, and where its zero lies.

texts    rewards_of     one number each
pairs    pair_rewards   two: of the chosen answer and of the rejected one
strings  text_reward    a function of prompts and answers, as a policy is trained by
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmcourse.preference_examples import (
    TokenizedPair,
    tokenize_answer,
    tokenize_prompt,
)
from llmcourse.reward_model import RewardModel, pad_texts
from llmcourse.tokenization import BPETokenizer


@torch.no_grad()
def rewards_of(
    model: RewardModel, texts: Sequence[Int[Tensor, "_"]], batch_size: int = 32
) -> Float[Tensor, "text"]:
    """Return the reward of any number of texts, without unit and in their order.

    Args:
        model: Reads them.
        texts: Each a prompt with its answer, as ids.
        batch_size: Texts read side by side.

    Raises:
        ValueError: If a batch has no texts, as `pad_texts`, or as `RewardModel`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    lengths = torch.tensor([len(text) for text in texts])
    order = lengths.argsort(stable=True).tolist()
    rewards = torch.empty(len(texts))
    for start in range(0, max(1, len(order)), batch_size):
        part = order[start : start + batch_size]
        ids, last = pad_texts([texts[number] for number in part])
        device = model.head.weight.device
        rewards[part] = model(ids.to(device), last.to(device)).float().cpu()
    return rewards


def pair_rewards(
    model: RewardModel, pairs: Sequence[TokenizedPair], batch_size: int = 32
) -> tuple[Float[Tensor, "pair"], Float[Tensor, "pair"]]:
    """Return the rewards of the chosen answers, and of the rejected ones.

    Arguments and errors as `rewards_of`.
    """
    texts = [text for pair in pairs for text in pair.texts()]
    rewards = rewards_of(model, texts, batch_size)
    return rewards[::2], rewards[1::2]


def centre(
    model: RewardModel, texts: Sequence[Int[Tensor, "_"]], batch_size: int = 32
) -> None:
    """Move the zero of the rewards, so that the mean over some texts is zero.

    Differences of rewards, and so all preferences, stay as they are.

    Args:
        model: Changed in place.
        texts: The reference: what the policy writes before it is trained, say.
        batch_size: Texts read side by side.

    Raises:
        ValueError: As `rewards_of`.
    """
    model.offset += rewards_of(model, texts, batch_size).double().mean()


def text_reward(
    model: RewardModel,
    tokenizer: BPETokenizer,
    *,
    chat: bool = False,
    batch_size: int = 32,
) -> Callable[[Sequence[str], Sequence[str]], Float[Tensor, "text"]]:
    """Return the function that gives the rewards of answers to prompts, as texts.

    Every answer is read as one that has ended, and as far as the model's context goes.

    Args:
        model: Reads them.
        tokenizer: The model's.
        chat: Whether the answers are turns of conversations.
        batch_size: Texts read side by side.

    Raises:
        ValueError: When called: if there are no answers, or not as many as prompts;
            or as `rewards_of`.
    """

    def rewards(prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        ids = []
        for prompt, text in zip(prompts, texts, strict=True):
            start = tokenize_prompt(prompt, tokenizer, chat=chat)
            *answer, end = tokenize_answer(text, tokenizer, chat=chat)
            room = max(0, model.config.context_length - len(start) - 1)
            ids.append(torch.tensor([*start, *answer[:room], end]))
        return rewards_of(model, ids, batch_size)

    return rewards
