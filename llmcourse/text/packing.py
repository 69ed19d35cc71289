"""Pack documents into one long array of ids on disk, and read it back.

Training reads slices of a few hundred ids at random places. One flat file of
small integers, mapped into memory, serves them from a corpus of any size:

    train.bin    ids as they are, 2 bytes each: 17 8 301 0 17 9 …
    train.json   type and number of the ids, and the tokenizer that made them

Each document is followed by `<|endoftext|>`, so that a model learns to stop.

A large corpus is cut into shards, `train.bin`, `train.1.bin` and so on, which are
written and copied one by one and read as if they were one array. `train.json` is then
their index.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt
from numpy.typing import NDArray

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
    end_of_text: int  # id of `<|endoftext|>`
    tokenizer: str  # fingerprint of the tokenizer that made the ids
    shards: list[int] = field(default_factory=list)  # ids in each file, if several


class Shards:
    """Arrays of ids, one after the other, read as if they were one.

    >>> shards = Shards([np.array([4, 7, 1]), np.array([3]), np.array([9, 0])])
    >>> len(shards), shards[1:5].tolist()
    (6, [7, 1, 3, 9])
    """

    ndim = 1

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        self.arrays, self.dtype = arrays, arrays[0].dtype
        self.ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, place: slice) -> NDArray[Any]:
        """Return a copy of what lies between two places, of one shard or several."""
        start, stop, _ = place.indices(len(self))
        first = int(np.searchsorted(self.ends, start, side="right"))
        found = []
        for array, end in zip(self.arrays[first:], self.ends[first:], strict=True):
            begin = end - len(array)
            if begin >= stop:
                break
            found.append(array[max(start - begin, 0) : stop - begin])
        return np.concatenate([self.arrays[0][:0], *found])


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Return 16 hexadecimal digits, equal for tokenizers that behave alike.

    They are a hash of the text of each id, the special tokens and the ids of a
    sentence with digits, accents, three scripts and an emoji; and of whether
    characters are composed first, if they are.
    """
    state = hashlib.sha256()
    for id_ in range(tokenizer.vocab_size):
        state.update(json.dumps(tokenizer.decode([id_])).encode())
    state.update(json.dumps(sorted(_special_tokens(tokenizer).items())).encode())
    state.update(json.dumps(tokenizer.encode(_PROBE)).encode())
    if isinstance(tokenizer, BPETokenizer):
        options = tokenizer.options
        if not options.are_byte_level:
            # A piece decoded alone loses its leading space.
            state.update(repr((tokenizer.pieces, options.prepend_scheme)).encode())
        if options.nfc:
            state.update(b"NFC")
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
    path, n_documents = Path(path), 0
    if path.suffix == ".json":
        raise ValueError(
            f"the name of an array must not end in .json, got {path.name!r}"
        )
    with new_file(path) as file:
        for document in documents:
            file.write(stored_ids(document.text, tokenizer))
            n_documents += 1
        if n_documents == 0:
            raise ValueError("packing needs at least one document, got none")
        file.flush()  # a full disk shows up here, with the old file intact
        # Until the new header is written, no old one may describe new ids.
        path.with_suffix(".json").unlink(missing_ok=True)
    return write_header(path, tokenizer, n_documents, [path.stat().st_size])


def stored_ids(text: str, tokenizer: Tokenizer) -> bytes:
    """Return the ids of a document and of the mark after it, as bytes of an array."""
    ids = [*tokenizer.encode(text), end_of_text(tokenizer)]
    return np.array(ids, _dtype_for(tokenizer)).tobytes()


def _dtype_for(tokenizer: Tokenizer) -> "np.dtype[np.unsignedinteger]":
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def shard_path(path: str | Path, number: int) -> Path:
    """Return the name of one of an array's files.

    >>> [shard_path("train.bin", number).name for number in range(3)]
    ['train.bin', 'train.1.bin', 'train.2.bin']
    """
    path = Path(path)
    return path.with_suffix(f".{number}{path.suffix}") if number else path


def write_header(
    path: Path, tokenizer: Tokenizer, n_documents: int, n_bytes: Sequence[int]
) -> TokenFile:
    """Write the file beside an array whose files are complete; return what it says.

    Args:
        path: As in `pack`.
        tokenizer: What made the ids.
        n_documents: How many were packed.
        n_bytes: The size of each of the array's files.
    """
    dtype = _dtype_for(tokenizer)
    shards = [size // dtype.itemsize for size in n_bytes]
    header = TokenFile(
        dtype=dtype.name,
        n_tokens=sum(shards),
        n_documents=n_documents,
        vocab_size=tokenizer.vocab_size,
        end_of_text=end_of_text(tokenizer),
        tokenizer=tokenizer_fingerprint(tokenizer),
        shards=shards if len(shards) > 1 else [],
    )
    write_json(path.with_suffix(".json"), asdict(header))
    return header


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
        if found.shards:
            check_one_of("tokens of all shards", sum(found.shards), [found.n_tokens])
        return found
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(header)!r} was not written by pack: {error}") from error


def load_tokens(
    path: str | Path, tokenizer: Tokenizer | None = None
) -> UInt[np.ndarray, "token"] | Shards:
    """Return the packed ids, memory-mapped: only what is read is loaded.

    Args:
        path: Name of the array, as given to `pack`.
        tokenizer: If given, it must be the one that made the ids.

    Raises:
        ValueError: If the array or its header is missing, if the array has the wrong
            size, or if another tokenizer made it.
    """
    header = load_header(path)
    dtype = np.dtype(header.dtype).newbyteorder("<")
    if tokenizer is not None:
        own = tokenizer_fingerprint(tokenizer)
        check_one_of(f"tokenizer of {str(path)!r}", own, [header.tokenizer])
    arrays = []
    for number, n_tokens in enumerate(header.shards or [header.n_tokens]):
        shard = shard_path(path, number)
        got = shard.stat().st_size if shard.is_file() else 0
        check_one_of(f"bytes in {str(shard)!r}", got, [n_tokens * dtype.itemsize])
        with shard.open("rb") as file:
            mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
        arrays.append(np.frombuffer(mapped, dtype))
    return arrays[0] if len(arrays) == 1 else Shards(arrays)


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
