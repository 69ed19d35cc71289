"""The file ``tokenizer.json``, in which Hugging Face stores a tokenizer.

    vocab, merges     pieces with their ids, and how they are built
    special_tokens    ids that stand for no text
    pattern           how text is cut before its bytes are merged
    options           what else the tokenizers of some models do

These are the parts that a `tokenizers.BPETokenizer` is made of. Such a file can say
much more than is supported here; what would change the encoding is refused, never
ignored. The files of GPT-2, GPT-4, Llama 3, SmolLM2, Qwen2 and DeepSeek work, as does
the BPE of SentencePiece, used by Llama 2, TinyLlama and the first Mistral.

Truncation and padding belong to one use of a tokenizer: they are left out, as in
`transformers`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from llmcourse.arguments import check_one_of
from llmcourse.text.bpe import DIGITS_PATTERN, GPT2_PATTERN, spell, to_utf8, unspell

SPACE: Final = "▁"  # SentencePiece's symbol for a space, U+2581
WHOLE: Final = r"[\s\S]+"  # SentencePiece's patterns: all text at once,
WORDS: Final = f"{SPACE}[^{SPACE}]*|[^{SPACE}]+"  # or cut before each space

_Json: TypeAlias = dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class BPEOptions:
    """What some models' tokenizers do besides merging the bytes of pre-tokens."""

    first_patterns: tuple[str, ...] = ()  # text is cut by these first, in turn
    ignore_merges: bool = False  # a pre-token that is a piece is not built by merges
    nfc: bool = False  # characters are composed first, to Unicode's form C
    drops_bytes: bool = False  # leave out bytes without a piece; else refuse them
    n_ids: int | None = None  # the model's; some ids may have no piece
    start_tokens: tuple[str, ...] = ()  # special tokens that a text begins with
    end_tokens: tuple[str, ...] = ()  # those that end what a model writes
    # SentencePiece: where a ▁ is added. "each": at the beginning and after special
    # tokens; "always": there, unless there is one; "first": likewise, but only at the
    # beginning.
    prepend_scheme: Literal["each", "always", "first", "never"] | None = None
    strips_space: bool = False  # a decoded text loses a space at its beginning
    normalized_tokens: tuple[str, ...] = ()  # special, found after "each" adds its ▁
    kept_tokens: tuple[str, ...] = ()  # special ones that are never skipped: <think>
    chat_template: str | None = None  # a conversation as text, in Jinja

    @property
    def are_byte_level(self) -> bool:
        """Whether pieces are made of bytes, not of SentencePiece's characters."""
        return self.prepend_scheme is None

    @property
    def are_plain(self) -> bool:
        """Whether all bytes are always merged and a single pattern cuts the text."""
        others = self.first_patterns or self.nfc or self.ignore_merges
        return self.are_byte_level and not (others or self.drops_bytes)


class BPEParts(NamedTuple):
    """The arguments of a `tokenizers.BPETokenizer`, in order."""

    vocab: Mapping[bytes, int]
    merges: Sequence[tuple[bytes, bytes]]
    special_tokens: Mapping[str, int]
    pattern: str = GPT2_PATTERN
    options: BPEOptions = BPEOptions()


def to_json(parts: BPEParts) -> dict[str, Any]:
    """Return the content of a ``tokenizer.json``.

    >>> parts = BPEParts({b"a": 0, b"b": 1, b"ab": 2}, [(b"a", b"b")], {"<end>": 3})
    >>> document = to_json(parts)
    >>> document["model"]["vocab"]
    {'a': 0, 'b': 1, 'ab': 2, '<end>': 3}
    >>> from_json(document).merges
    [(b'a', b'b')]
    """
    options = parts.options
    spelled = spell if options.are_byte_level else bytes.decode
    names = {piece: spelled(piece) for piece in parts.vocab}
    ids = {names[piece]: i for piece, i in parts.vocab.items()}
    ids |= parts.special_tokens
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip"], False)
    normalizer: _Json = {"type": "NFC"} if options.nfc else None
    pre_tokenizer: _Json = _patterns_to_json(options.first_patterns, parts.pattern)
    decoder = _byte_level(use_regex=True)
    if not options.are_byte_level:
        normalizer, pre_tokenizer, decoder = _around_characters(parts)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": token,
                **flags,
                "normalized": token in options.normalized_tokens,
                "special": token not in options.kept_tokens,
            }
            for token, i in sorted(parts.special_tokens.items(), key=itemgetter(1))
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _start_to_json(parts),
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": not options.are_byte_level,
            "byte_fallback": not options.are_byte_level,
            "ignore_merges": options.ignore_merges,
            "vocab": dict(sorted(ids.items(), key=itemgetter(1))),
            "merges": [[names[left], names[right]] for left, right in parts.merges],
        },
    }


def from_json(document: dict[str, Any]) -> BPEParts:
    """Return the parts of the tokenizer that a ``tokenizer.json`` describes.

    Raises:
        KeyError: If the file lacks a key that every such file has.
        ValueError: If it says something that would change the encoding and is not
            supported here. Files damaged in other ways raise other errors.
    """
    model = document["model"]
    kind = model.get("type", "BPE")  # GPT-2's own has none
    check_one_of("model type", kind, ["BPE"])
    decoder = document.get("decoder") or {"type": "ByteLevel"}
    by_bytes = decoder["type"] != "Sequence"
    read_cuts = _bytes_from_json if by_bytes else _characters_from_json
    pattern, options = read_cuts(document | {"decoder": decoder})
    for name in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]:
        check_one_of(name, model.get(name) or None, [None])
    added: list[dict[str, Any]] = document.get("added_tokens") or []
    special: dict[str, int] = {}
    for token in added:
        flags = ["single_word", "lstrip", "rstrip"]
        for flag in [*flags, *(["normalized"] if options.get("nfc") else [])]:
            check_one_of(f"{flag} of an added token", token.get(flag, False), [False])
        if token["content"] in special:
            raise ValueError(f"the special token {token['content']!r} occurs twice")
        special[token["content"]] = token["id"]
    late = [] if by_bytes else [t["content"] for t in added if t.get("normalized")]
    kept = [t["content"] for t in added if not t.get("special", True)]
    names: dict[str, int] = dict(model["vocab"])
    for name, i in special.items():
        check_one_of(f"id of {name!r} in the vocabulary", names.pop(name, i), [i])
    for i in [*names.values(), *special.values()]:
        if type(i) is not int:
            raise ValueError(f"an id must be an integer, got {i!r}")
    ignores = model.get("ignore_merges", False)
    check_one_of("ignore_merges", ignores, (True, False))
    read = unspell if by_bytes else to_utf8
    vocab = {read(name): i for name, i in names.items()}
    drops = by_bytes and lacks_bytes(vocab) and model.get("unk_token") is None
    return BPEParts(
        vocab=vocab,
        merges=read_merges(model["merges"], read),
        special_tokens=special,
        pattern=pattern,
        options=BPEOptions(
            **options,
            ignore_merges=ignores,
            drops_bytes=drops,
            start_tokens=_start_from_json(document.get("post_processor"), special),
            normalized_tokens=tuple(late),
            kept_tokens=tuple(kept),
        ),
    )


def lacks_bytes(vocab: Mapping[bytes, int]) -> bool:
    """Return whether some byte has no piece: `tokenizers` leaves it out of a text."""
    return any(bytes([byte]) not in vocab for byte in range(256))


def _steps(said: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    """Return the steps of a part of the file: none, one, or those of a sequence."""
    if said is None:
        return []
    return list(said[inside]) if said.get("type") == "Sequence" else [said]


def _template(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the JSON of special tokens and a text after them."""
    start = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    return [*start, {"Sequence": {"id": "A", "type_id": 0}}]


def _start_to_json(parts: BPEParts) -> _Json:
    """Return the JSON of a step that puts special tokens before a text."""
    names, ids = parts.options.start_tokens, parts.special_tokens
    if not names:
        return None
    return {
        "type": "TemplateProcessing",
        "single": _template(names),
        "pair": [*_template(names), {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in names
        },
    }


def _start_from_json(
    said: dict[str, Any] | None, special: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the special tokens that a template puts before a text."""
    start: list[str] = []
    for step in _steps(said, "processors"):
        if step["type"] == "ByteLevel":  # affects offsets, not ids
            continue
        check_one_of("post_processor type", step["type"], ["TemplateProcessing"])
        places = step["single"]
        names = [one["SpecialToken"]["id"] for one in places if "SpecialToken" in one]
        check_one_of("template", places, [_template(names)])
        for name in names:
            ids = step["special_tokens"][name]["ids"]
            check_one_of(f"ids of {name!r} in the template", ids, [[special[name]]])
        start += names
    return tuple(start)


def read_merges(
    lines: Iterable[str | Sequence[str]], read: Callable[[str], bytes] = unspell
) -> list[tuple[bytes, bytes]]:
    """Return merges written as ``"a b"`` (older files) or ``["a", "b"]``.

    Args:
        lines: The merges.
        read: Turns a spelling into its piece.

    Raises:
        ValueError: If one is not a pair, or not spelled in the byte alphabet.
    """
    merges = []
    for line in lines:
        pair = line.split(" ") if isinstance(line, str) else line
        if len(pair) != 2:
            raise ValueError(f"a merge must be a pair of pieces, got {line!r}")
        merges.append((read(pair[0]), read(pair[1])))
    return merges


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    """Return the JSON of a step that spells bytes as characters."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,  # true: split by GPT-2's pattern first
    }


def _bytes_from_json(document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the last pattern of a byte-level BPE, and its options."""
    check_one_of("decoder type", document["decoder"]["type"], ["ByteLevel"])
    normalizers = _steps(document.get("normalizer"), "normalizers")
    nfc = [step.get("type") for step in normalizers] == ["NFC"]
    if normalizers and not nfc:
        raise ValueError(f"normalizer must be None or NFC, got {normalizers}")
    *first, pattern = _patterns_from_json(document["pre_tokenizer"])
    return pattern, {"first_patterns": tuple(first), "nfc": nfc}


# SentencePiece uses the first or the second before merging, and the third after it.
_NORMALIZERS: Final = [
    {"type": "Prepend", "prepend": SPACE},
    {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
]
_METASPACE: Final = {"type": "Metaspace", "replacement": SPACE}
_DECODERS: Final = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
_STRIP: Final = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def _around_characters(parts: BPEParts) -> tuple[_Json, _Json, dict[str, Any]]:
    """Return normalizer, pre-tokenizer and decoder of SentencePiece's BPE."""
    scheme, strip = parts.options.prepend_scheme, parts.options.strips_space
    decoder = {"type": "Sequence", "decoders": [*_DECODERS, *[_STRIP] * strip]}
    if scheme == "each":
        return {"type": "Sequence", "normalizers": _NORMALIZERS}, None, decoder
    splits = parts.pattern == WORDS
    return None, _METASPACE | {"prepend_scheme": scheme, "split": splits}, decoder


def _characters_from_json(document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the pattern of SentencePiece's BPE, and its options."""
    falls_back = document["model"].get("byte_fallback", False)
    check_one_of("byte_fallback, with such a decoder,", falls_back, [True])
    decoders = _steps(document["decoder"], "decoders")
    strips = decoders[-1:] == [_STRIP]
    check_one_of("decoders", decoders[: len(decoders) - strips], [_DECODERS])
    normalizers = _steps(document.get("normalizer"), "normalizers")
    cut = document.get("pre_tokenizer")
    check_one_of("normalizers", normalizers, [[] if cut else _NORMALIZERS])
    if not cut:
        return WHOLE, {"prepend_scheme": "each", "strips_space": strips}
    check_one_of(
        "pre_tokenizer", {key: cut.get(key) for key in _METASPACE}, [_METASPACE]
    )
    scheme, splits = cut.get("prepend_scheme", "always"), cut.get("split", True)
    check_one_of("prepend_scheme", scheme, ("always", "first", "never"))
    if cut.get("add_prefix_space") is False:  # in files of older versions
        check_one_of("prepend_scheme without a prefix", scheme, ["never"])
    check_one_of("split", splits, (True, False))
    pattern = WORDS if splits else WHOLE
    return pattern, {"prepend_scheme": scheme, "strips_space": strips}


_DIGITS: Final[dict[str, Any]] = {"type": "Digits", "individual_digits": True}


def _split(pattern: str) -> dict[str, Any]:
    """Return the JSON of a step that splits by a pattern, and keeps all pieces."""
    return {
        "type": "Split",
        "behavior": "Isolated",
        "invert": False,
        "pattern": {"Regex": pattern},
    }


def _patterns_to_json(first: Sequence[str], pattern: str) -> dict[str, Any]:
    """Return the JSON of a pre-tokenizer that splits by one pattern after another."""
    if pattern == GPT2_PATTERN and not first:
        return _byte_level(use_regex=True)
    by_digits = pattern == DIGITS_PATTERN and not first
    steps = [_DIGITS] if by_digits else [_split(one) for one in (*first, pattern)]
    last = _byte_level(use_regex=by_digits)
    return {"type": "Sequence", "pretokenizers": [*steps, last]}


def _patterns_from_json(pre_tokenizer: dict[str, Any]) -> list[str]:
    """Return the patterns by which the pre-tokenizer in this JSON splits."""
    *first, last = _steps(pre_tokenizer, "pretokenizers")
    check_one_of("last pre-tokenizer", last["type"], ["ByteLevel"])
    check_one_of("add_prefix_space", last.get("add_prefix_space"), [False])
    by_itself = last.get("use_regex", True)
    if by_itself and first == [_DIGITS]:
        return [DIGITS_PATTERN]
    patterns = [step.get("pattern", {}).get("Regex") for step in first]
    if first != [_split(pattern) for pattern in patterns] or not (first or by_itself):
        raise ValueError(f"this pre-tokenizer is not supported: {pre_tokenizer}")
    return [*patterns, GPT2_PATTERN] if by_itself else patterns
