"""Pack documents into one long array of ids on disk, and read it back.

Training reads slices of a few hundred ids at random places. One flat file of
small integers, mapped into memory, serves them from a corpus of any size:

    train.bin    ids as they are, 2 bytes each: 17 8 301 0 17 9 …
    train.json   type and number of the ids, which tokenizer made them

Each document is followed by `<|endoftext|>`, so that a model learns to end.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt

from llmcourse.files import new_file
from llmcourse.text.documents import Document

END_OF_TEXT = "<|endoftext|>"
_DTYPES = ("uint16", "uint32")
_PROBE = "The 3 foxes weren't unbelievable:\n\tnaïve = 1_000; Füchse, лисы, 狐 🦊  "


@runtime_checkable
class PackingTokenizer(Protocol):
    """What packing asks of a tokenizer, and `chat` with `<|endoftext|>`."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids."""


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """What the file beside a packed array says about it."""

    dtype: str  # "uint16" or "uint32", little-endian
    n_tokens: int
    n_documents: int
    vocab_size: int
    end_of_text: int  # id of <|endoftext|>
    tokenizer: str  # fingerprint of the tokenizer that made the ids


def tokenizer_fingerprint(tokenizer: PackingTokenizer) -> str:
    """Return 16 hexadecimal digits, equal for tokenizers that do the same.

    Hashed are the text of each id, the special tokens and the ids of a sentence
    with digits, accents, three scripts and an emoji.

    Args:
        tokenizer: Any tokenizer.
    """
    state = hashlib.sha256()
    for id_ in range(tokenizer.vocab_size):
        state.update(json.dumps(tokenizer.decode([id_])).encode())
    state.update(json.dumps(sorted(_special_tokens(tokenizer).items())).encode())
    state.update(json.dumps(tokenizer.encode(_PROBE)).encode())
    return state.hexdigest()[:16]


def pack(
    documents: Iterable[Document],
    tokenizer: PackingTokenizer,
    path: str | Path,
    *,
    dtype: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> TokenFile:
    """Write the ids of all documents to a file, and return what it holds.

    One document at a time is in memory. The file appears under its name when it
    is complete; if anything fails, nothing new is left behind.

    Args:
        documents: Any iterable of documents.
        tokenizer: A tokenizer that has `<|endoftext|>`.
        path: Name of the array, such as "train.bin"; "train.json" goes with it.
        dtype: "uint16" or "uint32"; by default the smaller one that is enough.
        progress: Called with the number of documents packed so far.

    Raises:
        ValueError: If there is no document, if the tokenizer has no
            `<|endoftext|>`, if an id does not fit the dtype or the vocabulary,
            or if the path ends in ".json".
        OSError: If the file cannot be written, for one because the disk is full.
    """
    path = Path(path)
    if path.suffix == ".json":
        raise ValueError(f"the array needs another name than {path.name!r}: not .json")
    header = TokenFile(
        dtype=_checked_dtype(dtype, tokenizer.vocab_size),
        n_tokens=0,
        n_documents=0,
        vocab_size=tokenizer.vocab_size,
        end_of_text=end_of_text(tokenizer),
        tokenizer=tokenizer_fingerprint(tokenizer),
    )
    with new_file(path) as file:
        for document in documents:
            ids = _checked_ids(document, tokenizer, header.end_of_text)
            file.write(ids.astype(_stored(header.dtype)).tobytes())
            header = replace(
                header,
                n_tokens=header.n_tokens + len(ids),
                n_documents=header.n_documents + 1,
            )
            if progress is not None:
                progress(header.n_documents)
        if header.n_documents == 0:
            raise ValueError("packing needs at least one document, got none")
        file.flush()  # a full disk shows here, while the old file is still whole
        # From here to the new header, no old header may vouch for new ids.
        _header_path(path).unlink(missing_ok=True)
    try:
        with new_file(_header_path(path)) as file:
            file.write(json.dumps(asdict(header), indent=1).encode() + b"\n")
    except OSError:
        path.unlink()  # without its header the array is worth nothing
        raise
    return header


def load_header(path: str | Path) -> TokenFile:
    """Return what the file beside a packed array says about it.

    Args:
        path: Name of the array, as given to `pack`.

    Raises:
        ValueError: If there is no such file, or it is not from `pack`.
    """
    header = _header_path(Path(path))
    if not header.is_file():
        raise ValueError(
            f"wanted an array made by pack, but {str(header)!r} is missing"
        )
    try:
        return TokenFile(**json.loads(header.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(header)!r} was not written by pack: {error}") from error


def load_tokens(
    path: str | Path, tokenizer: PackingTokenizer | None = None
) -> UInt[np.ndarray, "token"]:
    """Return the packed ids, mapped: what is read of them is loaded, no more.

    Args:
        path: Name of the array, as given to `pack`.
        tokenizer: If given, it must be the one that made the ids.

    Raises:
        ValueError: If the array or its header is missing, if the array is cut
            off, or if another tokenizer made it.
    """
    path = Path(path)
    header = load_header(path)
    dtype = _stored(_checked_dtype(header.dtype, header.vocab_size))
    wanted = header.n_tokens * dtype.itemsize
    got = path.stat().st_size if path.is_file() else 0
    if got != wanted:
        raise ValueError(f"wanted {wanted:,} bytes in {str(path)!r}, got {got:,}")
    if tokenizer is not None and tokenizer_fingerprint(tokenizer) != header.tokenizer:
        raise ValueError(
            f"{str(path)!r} was packed with the tokenizer {header.tokenizer}, "
            f"got {tokenizer_fingerprint(tokenizer)}"
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=(header.n_tokens,))


def end_of_text(tokenizer: PackingTokenizer) -> int:
    """Return the id of `<|endoftext|>`, the mark between documents.

    Raises:
        ValueError: If the tokenizer has none.
    """
    special_tokens = _special_tokens(tokenizer)
    if END_OF_TEXT not in special_tokens:
        raise ValueError(
            f"wanted a tokenizer with the special token {END_OF_TEXT}, "
            f"got one with {', '.join(sorted(special_tokens)) or 'none'}"
        )
    return special_tokens[END_OF_TEXT]


def _special_tokens(tokenizer: PackingTokenizer) -> Mapping[str, int]:
    """Return the special tokens; the simplest tokenizers have none."""
    return dict(getattr(tokenizer, "special_tokens", {}))


def _checked_ids(
    document: Document, tokenizer: PackingTokenizer, end: int
) -> Int64[np.ndarray, "token"]:
    """Return the document's ids, the end of text last, all in the vocabulary."""
    ids = np.array([*tokenizer.encode(document.text), end], dtype=np.int64)
    if ids.max() >= tokenizer.vocab_size or ids.min() < 0:
        raise ValueError(
            f"ids must be from 0 to {tokenizer.vocab_size - 1}, got "
            f"{ids.min()} to {ids.max()} in {document.name or 'a document'}"
        )
    return ids


def _checked_dtype(dtype: str | None, vocab_size: int) -> str:
    """Return the dtype, or the smallest that holds every id of the vocabulary."""
    enough = [name for name in _DTYPES if vocab_size - 1 <= np.iinfo(name).max]
    if dtype is None and enough:
        return enough[0]
    if dtype not in enough:
        raise ValueError(
            f"the ids of a vocabulary of {vocab_size:,} fit into "
            f"{' or '.join(enough) or 'neither uint16 nor uint32'}, got {dtype!r}"
        )
    return dtype


def _stored(dtype: str) -> "np.dtype[np.unsignedinteger]":
    return np.dtype(dtype).newbyteorder("<")


def _header_path(path: Path) -> Path:
    return path.with_suffix(".json")
