"""Pack documents into one long array of ids on disk, and read it back.

Training reads slices of a few hundred ids at random places. One flat file of
small integers, mapped into memory, serves them from a corpus of any size:

    train.bin    ids as they are, 2 bytes each: 17 8 301 0 17 9 …
    train.json   type and number of the ids, and the tokenizer that made them

Each document is followed by `<|endoftext|>`, so that a model learns to stop.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
from jaxtyping import UInt

from llmcourse.arguments import check_one_of
from llmcourse.files import new_file, write_json
from llmcourse.text.documents import Document
from llmcourse.text.tokenizers import BPETokenizer, Tokenizer

END_OF_TEXT = "<|endoftext|>"
_PROBE = "The 3 foxes weren't unbelievable:\n\tnaïve = 1_000; Füchse, лисы, 狐 🦊  "


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """What the file beside a packed array says about it."""

    dtype: str  # "uint16" or "uint32", little-endian
    n_tokens: int
    n_documents: int
    vocab_size: int
    end_of_text: int  # id of <|endoftext|>
    tokenizer: str  # fingerprint of the tokenizer that made the ids


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Return 16 hexadecimal digits, equal for tokenizers that behave alike.

    They are a hash of the text of each id, the special tokens and the ids of a
    sentence with digits, accents, three scripts and an emoji.

    Args:
        tokenizer: Any tokenizer.
    """
    state = hashlib.sha256()
    for id_ in range(tokenizer.vocab_size):
        state.update(json.dumps(tokenizer.decode([id_])).encode())
    state.update(json.dumps(sorted(_special_tokens(tokenizer).items())).encode())
    state.update(json.dumps(tokenizer.encode(_PROBE)).encode())
    if isinstance(tokenizer, BPETokenizer) and not tokenizer.options.are_byte_level:
        # A piece decoded alone loses its leading space.
        state.update(
            repr((tokenizer.pieces, tokenizer.options.prepend_scheme)).encode()
        )
    return state.hexdigest()[:16]


def pack(
    documents: Iterable[Document], tokenizer: Tokenizer, path: str | Path
) -> TokenFile:
    """Write the ids of all documents to a file, and return what it holds.

    Only one document at a time is in memory. The file appears under its name once
    it is complete, and its header after it: without a header it is refused.

    Args:
        documents: Any iterable of documents.
        tokenizer: A tokenizer that has `<|endoftext|>`.
        path: Name of the array, such as "train.bin"; "train.json" goes with it.

    Raises:
        ValueError: If there is no document, if the tokenizer has no
            `<|endoftext|>`, or if the path ends in ".json".
        OSError: If the file cannot be written, as when the disk is full.
    """
    with packer(path, tokenizer) as add:
        for document in documents:
            add(stored_ids(document.text, tokenizer))
    return load_header(path)


def stored_ids(text: str, tokenizer: Tokenizer) -> bytes:
    """Return the ids of a document and of the mark after it, as bytes of an array."""
    ids = [*tokenizer.encode(text), end_of_text(tokenizer)]
    return np.array(ids, _dtype_for(tokenizer)).tobytes()


def _dtype_for(tokenizer: Tokenizer) -> "np.dtype[np.unsignedinteger]":
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


@contextmanager
def packer(path: str | Path, tokenizer: Tokenizer) -> Iterator[Callable[[bytes], None]]:
    """Open an array to write; yield a function that adds the bytes of `stored_ids`.

    Arguments and errors are those of `pack`.
    """
    path, end = Path(path), end_of_text(tokenizer)
    if path.suffix == ".json":
        raise ValueError(
            f"the name of an array must not end in .json, got {path.name!r}"
        )
    dtype = _dtype_for(tokenizer)
    n_documents = 0
    with new_file(path) as file:

        def add(row: bytes) -> None:
            nonlocal n_documents
            file.write(row)
            n_documents += 1

        yield add
        if n_documents == 0:
            raise ValueError("packing needs at least one document, got none")
        file.flush()  # a full disk shows up here, with the old file intact
        # Until the new header is written, no old one may describe new ids.
        path.with_suffix(".json").unlink(missing_ok=True)
    header = TokenFile(
        dtype=dtype.name,
        n_tokens=path.stat().st_size // dtype.itemsize,
        n_documents=n_documents,
        vocab_size=tokenizer.vocab_size,
        end_of_text=end,
        tokenizer=tokenizer_fingerprint(tokenizer),
    )
    write_json(path.with_suffix(".json"), asdict(header))


def load_header(path: str | Path) -> TokenFile:
    """Return what the file beside a packed array says about it.

    Args:
        path: Name of the array, as given to `pack`.

    Raises:
        ValueError: If there is no such file, or `pack` did not write it.
    """
    header = Path(path).with_suffix(".json")
    if not header.is_file():
        raise ValueError(
            f"wanted an array made by pack, but {str(header)!r} is missing"
        )
    try:
        found = TokenFile(**json.loads(header.read_text(encoding="utf-8")))
        check_one_of("dtype", found.dtype, ("uint16", "uint32"))
        return found
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(header)!r} was not written by pack: {error}") from error


def load_tokens(
    path: str | Path, tokenizer: Tokenizer | None = None
) -> UInt[np.ndarray, "token"]:
    """Return the packed ids, memory-mapped: only what is read is loaded.

    Args:
        path: Name of the array, as given to `pack`.
        tokenizer: If given, it must be the one that made the ids.

    Raises:
        ValueError: If the array or its header is missing, if the array has the wrong
            size, or if another tokenizer made it.
    """
    path = Path(path)
    header = load_header(path)
    dtype = np.dtype(header.dtype).newbyteorder("<")
    wanted = header.n_tokens * dtype.itemsize
    got = path.stat().st_size if path.is_file() else 0
    check_one_of(f"bytes in {str(path)!r}", got, [wanted])
    if tokenizer is not None:
        own = tokenizer_fingerprint(tokenizer)
        check_one_of(f"tokenizer of {str(path)!r}", own, [header.tokenizer])
    with path.open("rb") as file:
        return np.frombuffer(mmap(file.fileno(), 0, access=ACCESS_READ), dtype)


def end_of_text(tokenizer: Tokenizer) -> int:
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


def text_borders(tokenizer: BPETokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that a text begins with, and the ids that can end it.

    The course's own texts lie between two `<|endoftext|>`.

    Raises:
        ValueError: If the tokenizer has neither this mark nor others instead.
    """
    start = tokenizer.ids_of(tokenizer.options.start_tokens)
    ends = tokenizer.ids_of(tokenizer.options.end_tokens)
    if END_OF_TEXT in tokenizer.special_tokens or not (start and ends):
        mark = end_of_text(tokenizer)
        return start or [mark], [mark, *ends]
    return start, ends


def _special_tokens(tokenizer: Tokenizer) -> Mapping[str, int]:
    """Return the special tokens; the simplest tokenizers have none."""
    found: Mapping[str, int] = getattr(tokenizer, "special_tokens", {})
    return found
