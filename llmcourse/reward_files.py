"""Reward models as folders, in the form that Hugging Face `transformers` loads too.

    config.json          LlamaForSequenceClassification, one label, `reward_offset`
    model.safetensors    the layers, and `score.weight` for the head
    tokenizer.json       and the others, as of any model: see `pretrained`

There, the reward of a text is its one logit minus `reward_offset`, which `transformers`
keeps but does not subtract; between two texts it makes no difference. It reads the last
token's vector: a model that reads the mean of all, `reward_pooling` says so, has other
rewards there.
"""

import math
from pathlib import Path
from typing import Any

import torch

from llmcourse.model_folders import read_folder, write_folder
from llmcourse.pretrained import find_model
from llmcourse.reward_model import RewardModel
from llmcourse.tokenization import BPETokenizer

_HEAD = "score.weight"
_ARCHITECTURES = {
    "llama": "LlamaForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
}


def save_reward_model(
    model: RewardModel,
    tokenizer: BPETokenizer,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    card: str | None = None,
    pad_token: str | None = None,
) -> None:
    """Write reward model and tokenizer into a folder: all files, or none.

    Args:
        model: The reward model.
        tokenizer: As in `pretrained.save_pretrained`, like those that follow.
        folder: See there.
        dtype: See there.
        card: See there.
        pad_token: What `transformers` is to fill batches up with: a special token that
            never ends an answer, since it reads the reward before the last ones of
            them. `<|endoftext|>` does for conversations, not for stories. If not
            given, it reads one text at a time.

    Raises:
        ValueError: If the tokenizer has no such token, or as `save_pretrained`.
        OSError: If a file cannot be written.
    """
    if pad_token is not None and pad_token not in tokenizer.special_tokens:
        raise ValueError(
            f"pad_token must be one of {[*tokenizer.special_tokens]}, got {pad_token!r}"
        )
    settings: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[model.config.family]],
        "num_labels": 1,
        "id2label": {"0": "reward"},
        "label2id": {"reward": 0},
        "tie_word_embeddings": True,  # it has none: what loads here is a plain one
        "reward_offset": model.offset.item(),
        "reward_pooling": model.pooling,
    }
    if pad_token is not None:
        settings["pad_token_id"] = tokenizer.special_tokens[pad_token]
    write_folder(
        model.body,
        tokenizer,
        folder,
        dtype,
        card=card,
        settings=settings,
        heads={_HEAD: model.head.weight},
    )


def load_reward_model(name_or_path: str | Path) -> tuple[RewardModel, BPETokenizer]:
    """Return the reward model and the tokenizer of a folder.

    Args:
        name_or_path: A folder as `save_reward_model` writes it, or as `transformers`
            writes a model for sequences with one label; or a shipped model's name.

    Raises:
        ValueError: If there is no head for one number, if the offset is no number, if
            the pooling is unknown, or as `pretrained.load_pretrained`.
        OSError: If a file cannot be read.
    """
    found = read_folder(find_model(name_or_path), heads=[_HEAD])
    head, wanted = found.heads[_HEAD], (1, found.model.config.d_model)
    if tuple(head.shape) != wanted:
        raise ValueError(
            f"{_HEAD} must have the shape {wanted}, got {tuple(head.shape)}"
        )
    offset = found.settings.get("reward_offset", 0.0)
    if not isinstance(offset, int | float) or not math.isfinite(offset):
        raise ValueError(f"reward_offset must be a number, got {offset!r}")
    pooling = found.settings.get("reward_pooling", "last")
    if pooling not in ("last", "mean"):
        raise ValueError(f"reward_pooling must be 'last' or 'mean', got {pooling!r}")
    model = RewardModel(found.model, torch.Generator(), pooling)
    with torch.no_grad():
        model.head.weight.copy_(head)
        model.offset.fill_(offset)
    return model.eval(), found.tokenizer
