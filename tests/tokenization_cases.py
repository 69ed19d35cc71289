"""Texts that are hard on tokenizers, and Hugging Face's tokenizers to compare with."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from llmcourse.text.bpe import DIGITS_PATTERN, GPT2_PATTERN, GPT4_PATTERN
from llmcourse.text.tokenizers import BPETokenizer

PATTERNS = [GPT2_PATTERN, GPT4_PATTERN, DIGITS_PATTERN]
SPECIAL = ["<|end|>", "<|end|><|end|>", "<|é🙂|>"]  # one begins with another

# Llama 3's published pattern: GPT-4's in other words, so that ours is compared with
# something else than itself.
GPT4_IN_OTHER_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# LLMCOURSE_EXAMPLES=10000 pytest … searches longer, and elsewhere each time.
_EXAMPLES = int(os.environ.get("LLMCOURSE_EXAMPLES", "0"))
searching = settings(max_examples=_EXAMPLES or 60, derandomize=not _EXAMPLES)

SNIPPETS = [
    *["'s", "'S", "'ll", "'LL", "'Re", "'ve", "'d", "'", "''", "ſ", "'ſ", "'st"],
    *["don't", "I'M", "they'LL"],
    *[" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\v", "\x1c", "\x85", "\xa0"],
    *["\u2028", "\u3000", "\u180e", "\u200b", "\u200d", "\ufeff", "\x00", "\x7f"],
    *["a", "the", " the", "Hello", "lower", " slowest", "_x", "x_1", "def f(x):\n"],
    *["1", "12", "12345", "½", "Ⅷ", "٣", "一", "!", "?!", "...", "==", "\\xe2"],
    *["é", "e\u0301", "ß", "İ", "日本語", "नमस्ते", "ไทย", "שלום", "🙂", "👩‍👩‍👧", "🇩🇪"],
    *["<|end|>", "<|end", "|>", "<|é🙂|>", "<|", "Ġ", "Ċ"],
    *["<s>", "</s>", " <s>", "▁<s>", "<unk>", "▁", " ▁", "<0x41>"],
]
# Unassigned characters are left out: a library whose Unicode tables are newer takes
# some of them for letters already (see ASSIGNED in test_bpe.py).
_characters = st.characters(exclude_categories=["Cs", "Cn"])
texts = st.lists(
    st.sampled_from(SNIPPETS) | st.text(_characters, max_size=4), max_size=12
).map("".join)
corpora = st.lists(texts, max_size=6).map(lambda some: ["low lower lowest", *some])


def split_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    """Return Hugging Face's own way to split by one of our patterns."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern == GPT2_PATTERN:
        return byte_level
    if pattern == DIGITS_PATTERN:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, byte_level])
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(GPT4_IN_OTHER_WORDS), behavior="isolated")
    return pre_tokenizers.Sequence([split, plain])


def sentencepiece_document(
    corpus: list[str],
    scheme: str = "each",
    *,
    splits: bool = False,
    crossing: bool = False,
    strips: bool = True,
    late: tuple[str, ...] = (),
    vocab_size: int = 330,
) -> dict[str, Any]:
    """Return a tokenizer.json of SentencePiece's BPE, as Llama 2 or Mistral has it.

    Args:
        corpus: What it is trained on.
        scheme: "each" is Llama 2's normalizer, others are those of Metaspace.
        splits: Whether Metaspace cuts text before each space.
        crossing: Whether pieces may reach over the beginning of a word.
        strips: Whether the decoder leaves out the first space.
        late: Special tokens that are normalized.
        vocab_size: Number of ids, of which the first 259 are special tokens and bytes.
    """
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    theirs = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    theirs.pre_tokenizer = pre_tokenizers.Metaspace(split=not crossing)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<unk>", "<s>", "</s>", *bytes_],
        limit_alphabet=24,
        show_progress=False,
    )
    theirs.train_from_iterator(corpus, trainer)
    if scheme == "each":
        prepend = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
        theirs.normalizer = normalizers.Sequence([*prepend])
    else:
        theirs.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme=scheme, split=splits
        )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    theirs.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * strips)
    theirs.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    document: dict[str, Any] = json.loads(theirs.to_str())
    if scheme == "each":
        document["pre_tokenizer"] = None
    document["added_tokens"] = document["added_tokens"][:3]
    for token in document["added_tokens"]:
        token["normalized"] = token["content"] in late
    return document


def sentencepiece(
    corpus: list[str], scheme: str = "each", **options: Any
) -> BPETokenizer:
    """Return our tokenizer of such a file; a text ends with ``</s>``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(sentencepiece_document(corpus, scheme, **options)))
        return BPETokenizer.load(path).with_options(end_tokens=("</s>",))


def train_theirs(
    corpus: list[str], vocab_size: int, special_tokens: list[str], pattern: str
) -> Tokenizer:
    """Return Hugging Face's byte-level BPE, trained on the corpus."""
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = split_by(pattern)
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(corpus, trainer)
    return theirs
