"""GGUF files: weights (mostly quantized), tokenizer and settings in one.

    "GGUF", version, how many of each
    llama.block_count = 30, tokenizer.ggml.tokens = [...], ...     settings
    blk.0.attn_q.weight: shape, type, where it begins              tensors
    ... numbers ...

Settings are translated into Hugging Face's terms, and the package `gguf` turns
quantized weights into floats again; the rest is as for a folder. Each weight is read
only when requested. An unknown setting that could change what is computed is refused
by name. `write_gguf` goes the other way, for llama.cpp and what is built on it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmcourse.arguments import as_value_error, check_one_of
from llmcourse.extras import needed_for
from llmcourse.files import new_file
from llmcourse.model.attention import check_full_attention
from llmcourse.model.hugging_face import (
    config_to_json,
    llama_modules,
    weights_to_theirs,
)
from llmcourse.model.positions import RopeScaling, rope_frequencies, rope_to_json
from llmcourse.model.transformer import Transformer
from llmcourse.text.bpe import (
    DIGITS_PATTERN,
    GPT2_PATTERN,
    GPT4_PATTERN,
    spell,
    to_utf8,
    unspell,
)
from llmcourse.text.packing import text_borders
from llmcourse.text.tokenizer_files import WHOLE, BPEOptions, lacks_bytes, read_merges
from llmcourse.text.tokenizers import BPETokenizer

_MAGIC = b"GGUF"
_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TEXT, _LIST = 8, 9

# Known settings under the architecture's name: GGUF's names, and Hugging Face's.
_SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
_WIDTHS = ("rope.dimension_count", "attention.value_length")  # also those of a head
_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How text is split, by GGUF's name for it, and what else the tokenizer does.
_PATTERNS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-2": (GPT2_PATTERN, {}),
    "dbrx": (GPT4_PATTERN, {}),
    "smollm": (DIGITS_PATTERN, {}),
    "llama-bpe": (_LLAMA3_PATTERN, {"ignore_merges": True}),
    "qwen2": (_LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}"), {"nfc": True}),
}
_FREQUENCIES = "rope_freqs.weight"
_NORMAL, _UNKNOWN, _CONTROL, _OWN, _UNUSED, _BYTE = range(1, 7)  # kinds of tokens


def _package() -> Any:
    with needed_for("a GGUF file", "interop"):
        import gguf
    return gguf


class _Stored(NamedTuple):
    """How a tensor is stored in the file."""

    shape: tuple[int, ...]
    kind: Any  # a `gguf.GGMLQuantizationType`
    rows: Any  # bytes, still in the file


class GGUFFile(Mapping[str, Tensor]):
    """A file's settings, and its weights under Hugging Face's names.

    Args:
        path: The file.

    Raises:
        ValueError: If it is not a GGUF file, or is incomplete.
        ImportError: If the package `gguf` is not installed.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._gguf, self.path = _package(), path
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise ValueError(f"{str(path)!r} must be a GGUF file, but is not")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        what = f"{str(path)!r} must be a whole GGUF file"
        with as_value_error(what, ValueError, KeyError, TypeError):
            self.settings, self._stored = self._read_header()
        self._architecture = str(self.settings.get("general.architecture"))
        n_layers = sum(name.endswith(".attn_norm.weight") for name in self._stored)
        theirs = _modules(n_layers)
        self._names = {
            _renamed(name, theirs): name
            for name in self._stored
            if name != _FREQUENCIES
        }

    def _read_header(self) -> tuple[dict[str, Any], dict[str, _Stored]]:
        """Return the settings, and where the tensors are."""
        header = _Header(self._bytes)
        version, n_tensors, n_settings = (header.number(form) for form in "IQQ")
        check_one_of("version", version, (2, 3))
        settings: dict[str, Any] = {}
        for _ in range(n_settings):
            name = header.text()
            settings[name] = header.value(header.number("I"))
        found: list[tuple[str, tuple[int, ...], int, int]] = []
        for _ in range(n_tensors):
            name, n_dims = header.text(), header.number("I")
            shape = header.numbers("Q", n_dims)[::-1]
            found.append((name, shape, header.number("I"), header.number("Q")))
        alignment = settings.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment must be positive, got {alignment!r}")
        begin = -(-header.place // alignment) * alignment
        stored: dict[str, _Stored] = {}
        for name, shape, number, offset in found:
            kind = self._gguf.GGMLQuantizationType(number)
            per_block, bytes_of_block = self._gguf.GGML_QUANT_SIZES[kind]
            n_bytes = prod(shape) // per_block * bytes_of_block
            if 0 in shape or not shape or shape[-1] % per_block or name in stored:
                raise ValueError(f"{name} cannot be there twice or in shape {shape}")
            if begin + offset + n_bytes > len(self._bytes):
                raise ValueError(f"it ends within {name}")
            rows = np.frombuffer(self._bytes, np.uint8, n_bytes, begin + offset)
            stored[name] = _Stored(shape, kind, rows.reshape(*shape[:-1], -1))
        return settings, stored

    def __getitem__(self, name: str) -> Tensor:
        """Return a weight in float32."""
        weight = self._read(self._names[name])
        part = name.removesuffix(".weight").rpartition(".")[2]
        if self._architecture == "llama" and part in ("q_proj", "k_proj"):
            heads = self.settings["llama.attention.head_count"]
            if part == "k_proj":
                heads = self.settings.get("llama.attention.head_count_kv", heads)
            weight = _pairs_apart(weight, heads)
        return weight

    def _read(self, name: str) -> Tensor:
        shape, kind, rows = self._stored[name]
        how = f"is stored as {kind.name}, which cannot be read"
        with as_value_error(f"{name} in {str(self.path)!r} {how}", NotImplementedError):
            numbers = self._gguf.dequantize(rows, kind)
        weight = torch.from_numpy(np.array(numbers, np.float32)).view(shape)
        if hasattr(mmap, "MADV_DONTNEED"):  # frees the pages just read
            self._bytes.madvise(mmap.MADV_DONTNEED)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def config(self) -> dict[str, Any]:
        """Return what a `config.json` would say.

        Raises:
            ValueError: If an unknown setting could change what is computed.
        """
        kind = self._architecture
        check_one_of("general.architecture", kind, ("llama", "qwen2", "qwen3"))
        # If these were left out, Hugging Face's classes would use their own numbers.
        unsaid = ("head_dim", "num_key_value_heads", "rms_norm_eps")
        said: dict[str, Any] = dict.fromkeys(unsaid)
        for name, value in self.settings.items():
            prefix, _, short = name.partition(".")
            if isinstance(value, float):  # as it was before conversion to float32
                value = float(str(np.float32(value)))
            if short in _SIZES and prefix == kind:
                said[_SIZES[short]] = value
            elif short in _WIDTHS and prefix == kind:
                said["head_dim"] = said["head_dim"] or value
            elif prefix == kind and value and value != "none":
                raise ValueError(f"{name} is not supported, got {value!r:.40}")
        for short in _WIDTHS:
            value = self.settings.get(f"{kind}.{short}", said["head_dim"])
            check_one_of(f"{kind}.{short}", value, [said["head_dim"]])
        said.setdefault("vocab_size", len(self._texts("tokens")))
        if _FREQUENCIES in self._stored:
            said |= self._llama3_scaling(said)
        return {
            **said,
            "model_type": kind,
            "tie_word_embeddings": "lm_head.weight" not in self._names,
        }

    def _llama3_scaling(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Return Llama 3's scaling, of which a file holds only the result."""
        slower = self._read(_FREQUENCIES)
        factor = round(float(slower.max()), 3)
        base, width = float(said.get("rope_theta", 10_000.0)), 2 * len(slower)
        if factor >= 1:
            scaling = RopeScaling(
                kind="llama3", factor=factor, original_length=8192, fast=4
            )
            plain = rope_frequencies(width, base)
            ratio = plain / rope_frequencies(width, base, scaling)
            if torch.allclose(ratio, slower, rtol=1e-3):
                return rope_to_json(scaling)
        raise ValueError("rope_freqs.weight is not the scaling of Llama 3")

    def _texts(self, name: str) -> list[str]:
        """Return a list of texts that the tokenizer's settings hold."""
        found = self.settings.get(f"tokenizer.ggml.{name}")
        if not isinstance(found, list) or not all(isinstance(t, str) for t in found):
            raise ValueError(f"tokenizer.ggml.{name} must be a list of texts")
        return found

    def tokenizer(self, n_ids: int) -> BPETokenizer:
        """Return the tokenizer that the settings describe.

        Args:
            n_ids: The model's number of ids.

        Raises:
            ValueError: If it is no BPE, or splits text in an unknown way.
        """
        said = {
            name.removeprefix("tokenizer.ggml."): value
            for name, value in self.settings.items()
        }
        check_one_of("tokenizer.ggml.model", said.get("model"), ("gpt2", "llama"))
        by_bytes, pre = said["model"] == "gpt2", said.get("pre")
        if by_bytes:
            check_one_of("tokenizer.ggml.pre", pre, _PATTERNS)
            pattern, more = _PATTERNS[str(pre)]
        else:
            spaced = bool(said.get("add_space_prefix", True))
            scheme = "each" if spaced else "never"
            pattern, more = WHOLE, {"prepend_scheme": scheme, "strips_space": spaced}
        tokens, kinds = self._texts("tokens"), said.get("token_type")
        if not isinstance(kinds, list) or len(kinds) != len(tokens):
            raise ValueError(
                "tokenizer.ggml.token_type must have a kind for each token"
            )
        allowed = (_NORMAL, _CONTROL, _OWN, _UNUSED)
        vocab: dict[bytes, int] = {}
        special: dict[str, int] = {}
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
            check_one_of(
                "token_type", kind, allowed + (_UNKNOWN, _BYTE) * (not by_bytes)
            )
            if kind in (_NORMAL, _BYTE):
                vocab[unspell(token) if by_bytes else to_utf8(token)] = i
            elif kind != _UNUSED:
                special[token] = i
        marks = [said.get(f"{name}_token_id") for name in ("bos", "eos", "eot", "eom")]
        names: dict[Any, str] = {i: name for name, i in special.items()}
        first, *ends = [names.get(i) for i in marks if isinstance(i, int | None)]
        begins = said.get("add_bos_token", not by_bytes or pre == "llama-bpe")
        template = self.settings.get("tokenizer.chat_template")
        options = BPEOptions(
            drops_bytes=by_bytes and lacks_bytes(vocab),
            n_ids=n_ids,
            kept_tokens=tuple(name for name, i in special.items() if kinds[i] == _OWN),
            start_tokens=(first,) if first and begins else (),
            end_tokens=tuple(dict.fromkeys(filter(None, ends))),
            chat_template=template if isinstance(template, str) else None,
            **more,
        )
        if by_bytes:
            merges = read_merges(self._texts("merges") if "merges" in said else [])
        else:
            normal = {token: i for i, token in enumerate(tokens) if kinds[i] == _NORMAL}
            merges = _merges_by_score(normal, said.get("scores"))
        return BPETokenizer(vocab, merges, special, pattern, options)


def _merges_by_score(
    ids: Mapping[str, int], scores: object
) -> list[tuple[bytes, bytes]]:
    """Return SentencePiece's merges: all pairs that make a piece, best pieces first."""
    if not isinstance(scores, list) or len(scores) <= max(ids.values(), default=-1):
        raise ValueError("tokenizer.ggml.scores must have a score for each token")
    pairs = [
        (-float(scores[i]), len(piece) - cut, piece[:cut], piece[cut:])
        for piece, i in ids.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    return [(to_utf8(left), to_utf8(right)) for *_, left, right in sorted(pairs)]


class _Header:
    """Read one value after another, never past the end of the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, len(_MAGIC)

    def numbers(self, form: str, n: int) -> tuple[Any, ...]:
        """Return the next n numbers, in a format of `struct`."""
        size = n * struct.calcsize(f"<{form}")
        if size > len(self.data) - self.place:
            raise ValueError("it ends too early")
        found = struct.unpack_from(f"<{n}{form}", self.data, self.place)
        self.place += size
        return found

    def number(self, form: str) -> Any:
        """Return the next number."""
        return self.numbers(form, 1)[0]

    def text(self) -> str:
        """Return the next text."""
        return bytes(self.numbers("B", self.number("Q"))).decode()

    def value(self, kind: int) -> Any:
        """Return the next value of this kind: a number, a text or a list of them."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            raise ValueError(f"there is no value of kind {kind}")
        inner, n = self.number("I"), self.number("Q")
        if inner in _NUMBERS:
            return list(self.numbers(_NUMBERS[inner], n))
        return [self.value(_TEXT if inner == _TEXT else -1) for _ in range(n)]


def _modules(n_layers: int) -> dict[str, str]:
    """Return the names of a model's modules in `transformers`, by GGUF's."""
    gguf = _package()
    # Qwen3 has all parts that models of the family have.
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, n_layers)
    return {known.get_name(module): module for module in llama_modules(n_layers)}


def _renamed(name: str, modules: Mapping[str, str]) -> str:
    """Return a weight's name after its module is renamed; unknown ones stay."""
    module, _, kind = name.rpartition(".")
    return f"{modules.get(module, module)}.{kind}"


def _pairs_apart(weight: Tensor, n_heads: int) -> Tensor:
    """Return a matrix with rotary pairs half a head apart, instead of adjacent.

    >>> _pairs_apart(torch.tensor([0, 2, 1, 3]), n_heads=1)
    tensor([0, 1, 2, 3])
    """
    if len(weight) % (2 * n_heads):
        raise ValueError(f"{len(weight)} rows cannot be {n_heads} heads")
    pairs = weight.view(n_heads, -1, 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)


def write_gguf(
    model: Transformer,
    tokenizer: BPETokenizer,
    path: str | Path,
    kind: Literal["F32", "F16", "Q8_0"] = "F16",
) -> None:
    """Write model and tokenizer into one file, which llama.cpp can also open.

    Args:
        model: A model of the family llama.
        tokenizer: Its tokenizer, which splits text in a way that GGUF has a name for.
        path: Path of the file.
        kind: Type of the matrices; norms and biases stay in F32. In Q8_0, a matrix
            whose rows cannot be split into blocks of 32 is stored as F16.

    Raises:
        ValueError: If GGUF has no word for the model, its attention or the tokenizer,
            or if a weight is not finite.
        ImportError: If the package `gguf` is not installed.
        OSError: If the file cannot be written; an older one is then kept.
    """
    gguf = _package()
    check_one_of("kind", kind, ("F32", "F16", "Q8_0"))
    check_full_attention(model)
    said = config_to_json(model.config)
    architecture = said["model_type"]
    check_one_of("model_type of a GGUF file", architecture, ("llama", "qwen2", "qwen3"))
    tokens = _tokenizer_settings(tokenizer)
    weights = weights_to_theirs(model.state_dict(), model.config.family)
    with new_file(path) as file:
        writer = gguf.GGUFWriter(file.name, architecture)
        adding = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }
        for name, value in (_config_settings(model, said) | tokens).items():
            adding[type(value)](name, value)
        scaling = model.config.rope_scaling
        if scaling is not None:
            check_one_of("rope_scaling of a GGUF file", scaling.kind, ["llama3"])
            sizes = model.config.d_head, model.config.rope_base
            slower = rope_frequencies(*sizes) / rope_frequencies(*sizes, scaling)
            writer.add_tensor(_FREQUENCIES, slower.numpy())
        modules = _modules(model.config.n_layers)
        ours = {theirs: module for module, theirs in modules.items()}
        heads = {"q_proj": model.config.n_heads, "k_proj": model.config.n_kv_heads}
        for theirs, weight in weights.items():
            part = theirs.split(".")[-2]
            if architecture == "llama" and part in heads:
                weight = _pairs_together(weight, heads[part])
            numbers, stored = weight.float().numpy(), kind
            if weight.ndim == 1:
                stored = "F32"
            elif kind == "Q8_0" and weight.shape[1] % 32:
                stored = "F16"
            number = gguf.GGMLQuantizationType[stored]
            with np.errstate(all="ignore"):  # numbers that do not fit are refused below
                packed = gguf.quantize(numbers, number)
            if not np.isfinite(gguf.dequantize(packed, number)).all():
                raise ValueError(f"{theirs} must be finite in {stored}, but is not")
            writer.add_tensor(_renamed(theirs, ours), packed, raw_dtype=number)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _config_settings(model: Transformer, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a model under GGUF's names."""
    config = model.config
    found = {short: said.get(theirs) for short, theirs in _SIZES.items()}
    found["rope.freq_base"] = float(config.rope_base)
    found["rope.dimension_count"] = config.d_head
    if config.head_width is not None:
        found["attention.value_length"] = found["attention.key_length"] = config.d_head
    prefix = said["model_type"]
    return {f"{prefix}.{k}": value for k, value in found.items() if value is not None}


def _tokenizer_settings(tokenizer: BPETokenizer) -> dict[str, Any]:
    """Return what a GGUF file says about a tokenizer."""
    options, by_bytes = tokenizer.options, tokenizer.options.are_byte_level
    said = _byte_settings(tokenizer) if by_bytes else _score_settings(tokenizer)
    tokens = [f"[PAD{i}]" for i in range(tokenizer.vocab_size)]
    kinds = [_UNUSED] * len(tokens)
    for piece, i in tokenizer.vocab.items():
        tokens[i] = spell(piece) if by_bytes else piece.decode()
        kinds[i] = _BYTE if i in tokenizer.fallback_ids else _NORMAL
    for name, i in tokenizer.special_tokens.items():
        tokens[i], kinds[i] = name, _OWN if name in options.kept_tokens else _CONTROL
    start, ends = text_borders(tokenizer)
    ends = tokenizer.ids_of(options.end_tokens) or ends
    said |= {
        "tokens": tokens,
        "token_type": kinds,
        "bos_token_id": start[0],
        # A chat template adds the start token itself.
        "add_bos_token": bool(options.start_tokens) or not options.chat_template,
    }
    said |= {
        f"{mark}_token_id": i for mark, i in zip(("eos", "eot"), ends, strict=False)
    }
    found = {f"tokenizer.ggml.{name}": value for name, value in said.items()}
    if options.chat_template:
        found["tokenizer.chat_template"] = options.chat_template
    return found


_UNNAMED = "GGUF has no name for the way in which this tokenizer splits text"


def _byte_settings(tokenizer: BPETokenizer) -> dict[str, Any]:
    """Return how byte-level BPE splits text, and its merges."""
    options = tokenizer.options
    does = {"ignore_merges": options.ignore_merges, "nfc": options.nfc}
    wanted = (tokenizer.pattern, {name: True for name, is_so in does.items() if is_so})
    names = [name for name, known in _PATTERNS.items() if known == wanted]
    if not names or options.first_patterns:
        raise ValueError(_UNNAMED)
    merges = [f"{spell(left)} {spell(right)}" for left, right in tokenizer.merges]
    return {"model": "gpt2", "pre": names[0], "merges": merges}


def _score_settings(tokenizer: BPETokenizer) -> dict[str, Any]:
    """Return where SentencePiece's BPE adds a ▁, and a score for each piece.

    The file has no merges: any two neighbours are merged that make a piece together.
    """
    options, scores = tokenizer.options, [0.0] * tokenizer.vocab_size
    does = options.strips_space, options.ignore_merges, options.normalized_tokens
    known = {"each": (True, False, ()), "never": (False, False, ())}
    if does != known.get(str(options.prepend_scheme)):
        raise ValueError(_UNNAMED)
    for rank, i in reversed([*enumerate(tokenizer.products)]):
        scores[i] = -1.0 - rank  # the first of the merges that make it
    ids = tokenizer.vocab.items()
    whole = {piece.decode(): i for piece, i in ids if i not in tokenizer.fallback_ids}
    merges = _merges_by_score(whole, scores)
    made = [[left + right for left, right in m] for m in (merges, tokenizer.merges)]
    if made[0] != made[1] or {*merges} != {*tokenizer.merges}:
        raise ValueError(
            "GGUF has scores of SentencePiece's pieces and no merges: any two pieces "
            "that make a third must be a merge, and the merges that make the same "
            "piece must follow one another"
        )
    spaced = options.prepend_scheme == "each"
    return {"model": "llama", "scores": scores, "add_space_prefix": spaced}


def _pairs_together(weight: Tensor, n_heads: int) -> Tensor:
    """Return a matrix with adjacent rotary pairs: the inverse of `_pairs_apart`."""
    halves = weight.view(n_heads, 2, -1, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)
