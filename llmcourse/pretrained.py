"""Models as folders, in the form that Hugging Face `transformers` loads too.

    config.json             sizes, as `LlamaForCausalLM` or `GPT2LMHeadModel` names them
    model.safetensors       weights: names, shapes and numbers, no code
    tokenizer.json          merges and special tokens
    tokenizer_config.json   that `tokenizer.json` is all there is to it
    generation_config.json  the id that ends a text
    README.md               the model card, if there is one

A folder written here opens with `AutoModelForCausalLM.from_pretrained`, with the same
logits; a folder of a Llama or GPT-2 without surprises opens here.
"""

from importlib import resources
from pathlib import Path

import torch

from llmcourse.model_folders import read_folder, write_folder
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer

_MODELS = Path(str(resources.files("llmcourse"))) / "models"  # one folder each


def save_pretrained(
    model: Transformer,
    tokenizer: BPETokenizer,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    card: str | None = None,
) -> None:
    """Write model and tokenizer into a folder: all files, or none.

    Only when all of them are written whole do they take their names, so a full disk
    leaves the folder as it was. Other files in the folder stay.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with the same number of ids.
        folder: Created if missing.
        dtype: Of the stored weights; float16 halves the file.
        card: Markdown for `README.md`: what the model is, learned from and is good for.

    Raises:
        ValueError: If tokenizer and model differ in the number of ids, if the model
            has weights that `transformers` has no name for, or if a weight is not
            finite in this dtype.
        OSError: If a file cannot be written.
    """
    write_folder(model, tokenizer, folder, dtype, card=card)


def load_pretrained(name_or_path: str | Path) -> tuple[Transformer, BPETokenizer]:
    """Return the model and the tokenizer of a folder, ready to write.

    Weights are computed with in float32, whatever they are stored in.

    Args:
        name_or_path: A folder, as `save_pretrained` or `transformers` writes it, or
            the name of a shipped model.

    Raises:
        ValueError: If there is no such folder or model, if a file is missing or
            damaged, if the model is of another kind or has a feature that ours
            lacks, or if the files do not belong together.
        OSError: If a file cannot be read.
    """
    found = read_folder(find_model(name_or_path))
    return found.model, found.tokenizer


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in _MODELS.glob("*/config.json"))


def find_model(name_or_path: str | Path) -> Path:
    """Return the folder of that path, or else of the shipped model of that name.

    Raises:
        ValueError: If there is neither, or if the model is in a folder of that one.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        inner = folder / "model"
        if (inner / "config.json").is_file() and not (folder / "config.json").exists():
            raise ValueError(f"the model of {str(folder)!r} is in {str(inner)!r}")
        return folder
    if str(name_or_path) in shipped_models():
        return _MODELS / name_or_path
    names = ", ".join(shipped_models()) or "none"
    raise ValueError(
        f"wanted a model's folder or the name of a shipped model ({names}), "
        f"got {str(name_or_path)!r}"
    )
