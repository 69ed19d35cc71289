"""Reward models as folders, in the form that Hugging Face `transformers` loads too.

    config.json          LlamaForSequenceClassification, one label, `reward_offset`
    model.safetensors    the layers, and `score.weight` for the head
    tokenizer.json       and the others, as of any model: see `pretrained`

There, the reward of a text is its one logit minus `reward_offset`, which `transformers`
keeps but does not subtract; between two texts it makes no difference. It reads the last
token's vector: a model that reads those of all, `reward_pooling` says how, has other
rewards there. So has one that is told of surprises, which `transformers` does not tell:
its `surprise.weight` is in the file, and `reward_reader` names the reader that is
surprised, with a digest of its weights; it has to be found when the model is loaded.
"""

import math
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from llmcourse.alignment.reward_model import Pooling, Reader, RewardModel
from llmcourse.finetuning.classification import without_unembedding
from llmcourse.model.folders import (
    find_model,
    load_pretrained,
    read_folder,
    read_json,
    write_folder,
)
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import weights_fingerprint

_HEAD = "score.weight"
_SURPRISE = "surprise.weight"
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
    pad_token: str | None = None,
    reader: str | None = None,
) -> None:
    """Write reward model and tokenizer into a folder: all files, or none.

    Args:
        model: The reward model.
        tokenizer: As in `folders.save_pretrained`, like those that follow.
        folder: See there.
        dtype: See there.
        pad_token: What `transformers` is to fill batches up with: a special token that
            never ends an answer, since it reads the reward before the last ones of
            them. `<|endoftext|>` does for conversations, not for stories. If not
            given, it reads one text at a time.
        reader: Of a model that is told of surprises, where its reader is found: a
            folder, or a shipped model's name.

    Raises:
        ValueError: If the tokenizer has no such token; if it is not said where the
            reader is, if there is none or another one; or as `save_pretrained`.
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
    if (model.surprise is None) != (reader is None):
        raise ValueError(
            "a reader's name is wanted for a model that is told of surprises, and for "
            f"no other, got {reader!r}"
        )
    body = model.body
    if model.surprise is not None:
        who = model.surprise.reader
        settings["reward_reader"] = {
            "name": reader,
            "sha256": weights_fingerprint(who.model),
            "start": who.start,
            "mark": who.mark,
        }
        _reader(settings["reward_reader"])  # refused now rather than when it is loaded
        body = without_unembedding(body)
        body.embedding = model.surprise.plain()
    write_folder(
        body,
        tokenizer,
        folder,
        dtype,
        settings=settings,
        heads=_heads(model),
    )


def load_reward_model(name_or_path: str | Path) -> tuple[RewardModel, BPETokenizer]:
    """Return the reward model and the tokenizer of a folder.

    Args:
        name_or_path: A folder as `save_reward_model` writes it, or as `transformers`
            writes a model for sequences with one label; or a shipped model's name.

    Raises:
        ValueError: If there is no head for one number, if the offset is no number, if
            the pooling is unknown, if its reader is not the one it learned with, or as
            `folders.load_pretrained`.
        OSError: If a file cannot be read.
    """
    folder = find_model(name_or_path)
    told = read_json(folder / "config.json").get("reward_reader")
    heads = [_HEAD] if told is None else [_HEAD, _SURPRISE]
    found = read_folder(folder, heads)
    offset = found.settings.get("reward_offset", 0.0)
    if not isinstance(offset, int | float) or not math.isfinite(offset):
        raise ValueError(f"reward_offset must be a number, got {offset!r}")
    pooling = found.settings.get("reward_pooling", "last")
    if pooling not in get_args(Pooling):
        known = ", ".join(get_args(Pooling))
        raise ValueError(f"reward_pooling must be one of {known}, got {pooling!r}")
    reader = None if told is None else _reader(told)
    model = RewardModel(found.model, torch.Generator(), pooling, reader)
    with torch.no_grad():
        for name, weight in _heads(model).items():
            stored, wanted = tuple(found.heads[name].shape), tuple(weight.shape)
            if stored != wanted:
                raise ValueError(f"{name} must have the shape {wanted}, got {stored}")
            weight.copy_(found.heads[name])
        model.offset.fill_(offset)
    return model.eval(), found.tokenizer


def _heads(model: RewardModel) -> dict[str, Tensor]:
    """Return the weights that no language model has, by their names in the file."""
    heads: dict[str, Tensor] = {_HEAD: model.head.weight}
    if model.surprise is not None:
        heads[_SURPRISE] = model.surprise.surprise.weight
    return heads


def _reader(told: Any) -> Reader:
    """Return the reader whose surprise a reward model is told."""
    match told:
        case {
            "name": str(name),
            "sha256": str(digest),
            "start": int() | None as start,
            "mark": int() | None as mark,
        }:
            reader, _ = load_pretrained(name)
        case _:
            raise ValueError(
                "reward_reader must have a name, a sha256, a start and a mark, got "
                f"{told!r}"
            )
    if (found := weights_fingerprint(reader)) != digest:
        raise ValueError(
            f"the reward model must be told of the surprises of the {name!r} with the "
            f"digest {digest[:8]}…, got another one, with {found[:8]}…"
        )
    return Reader(model=reader, start=start, mark=mark)
