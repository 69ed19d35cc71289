"""What a training reads is kept beside it, so that a stopped one goes on at once.

    FOLDER/prepared/tokenizer.json
    FOLDER/prepared/tokens.safetensors    ids, held-out texts, and of what all is made

To clean and tokenize 100 MB takes minutes, to read the ids a moment.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from llmcourse.text.documents import Document
from llmcourse.text.packing import tokenizer_fingerprint
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import parallel
from llmcourse.training.checkpoints import (
    check_config_matches,
    checkpoint_paths,
    read_state,
    write_state,
)
from llmcourse.training.pipeline import TrainingData


def kept_or_made(
    folder: str | Path,
    made_of: Mapping[str, Any],
    make: Callable[[], TrainingData],
    tokenizer: BPETokenizer | None = None,
) -> TrainingData:
    """Return the data that a training's folder keeps, or else make it and keep it.

    Data that is damaged, or made of something else before anything was trained on it,
    is made anew. What is read back lacks the report of cleaning.

    Args:
        folder: Of the training, with its `checkpoints`.
        made_of: What decides the data: names and plain values.
        make: Makes the data.
        tokenizer: That the data has anyway; if not given, it is kept, too.

    Raises:
        ValueError: If the folder has checkpoints of a training on other data.
        OSError: If the data cannot be written.
    """
    folder = Path(folder)
    place = folder / "prepared"
    found, before, written = None, {}, ""
    # There is nothing yet, or it is damaged.
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        state = read_state(place / "tokens.safetensors")
        found = TrainingData(
            tokenizer=tokenizer or BPETokenizer.load(place / "tokenizer.json"),
            train=state["train"].numpy(),
            valid=state["valid"].numpy(),
            start_token=state["start_token"],
            held_out=tuple(map(Document, state["held_out"])),
        )
        before = dict(state["made_of"])
        written = state["tokenizer"]
    if (
        found is not None
        and before == made_of
        and tokenizer_fingerprint(found.tokenizer) == written
    ):
        return found
    if before and checkpoint_paths(folder / "checkpoints"):
        refusal = f"{str(folder)!r} holds checkpoints of another run"
        check_config_matches(refusal, before, made_of)
    data = make()
    if parallel.rank() == 0:
        place.mkdir(parents=True, exist_ok=True)
        data.tokenizer.save(place / "tokenizer.json")
        state = {"made_of": made_of, "start_token": data.start_token}
        state |= {"train": torch.from_numpy(data.train)}
        state |= {"valid": torch.from_numpy(data.valid)}
        state |= {"held_out": [document.text for document in data.held_out]}
        state |= {"tokenizer": tokenizer_fingerprint(data.tokenizer)}
        write_state(place / "tokens.safetensors", state)
    return data
