"""The command `tokenize`: what a tokenizer makes of a text."""

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text as Line

from llmcourse.cli import options as opt
from llmcourse.cli.console import out, print_json

if TYPE_CHECKING:
    from llmcourse.text.tokenizers import Tokenizer

_MOST = 1_000_000  # characters; more takes minutes and shows nothing useful
# Black text on these reads well on light and on dark terminals.
COLOURS = ("#e69f00", "#56b4e9", "#7ecfa8", "#f0e442", "#d9a6c2")


def tokenize(
    text: opt.Text,
    tokenizer: Annotated[
        str,
        typer.Option(
            help="gpt2, tales, word, character, byte, or a tokenizer.json file."
        ),
    ] = "tales",
    vocab_size: Annotated[
        int, typer.Option(help="Vocabulary size of tokenizers that are trained here.")
    ] = 1024,
    as_json: opt.AsJson = False,
) -> None:
    """Show the tokens of a text, in colour, and their ids.

    `llmcourse tokenize "unbelievable" --tokenizer gpt2`

    `llmcourse tokenize - --tokenizer tales < story.txt`
    """
    if len(text) > _MOST:
        raise ValueError(f"at most {_MOST:,} characters are shown, got {len(text):,}")
    chosen = load_tokenizer(tokenizer, vocab_size)
    ids, tokens = chosen.encode(text), chosen.tokens(text)
    if not ids:
        raise ValueError("wanted a text with at least one token, got none")
    if as_json:
        print_json({"ids": ids, "tokens": tokens})
        return
    line = Line()
    for token, colour in zip(tokens, cycle(COLOURS)):
        line.append(token.replace("\n", "⏎"), style=f"black on {colour}")
        if out.no_color or not out.color_system:
            line.append("|")
    out.print(line)
    out.print(" ".join(map(str, ids)))
    out.print(
        f"{len(ids)} tokens for {len(text)} characters: "
        f"{len(text) / len(ids):.2f} characters per token"
    )


def load_tokenizer(name: str, vocab_size: int) -> "Tokenizer":
    """Return the tokenizer of this name, or the one in this file.

    Raises:
        ValueError: If there is none.
    """
    from llmcourse.text.documents import tales
    from llmcourse.text.packing import END_OF_TEXT
    from llmcourse.text.tokenizers import (
        BPETokenizer,
        ByteTokenizer,
        CharacterTokenizer,
        WordTokenizer,
    )

    if name == "gpt2":
        return BPETokenizer.from_gpt2()
    if name in ("tales", "word"):
        texts = [document.text for document in tales(2_000, seed=0)]
        if name == "word":
            return WordTokenizer.train(texts, vocab_size)
        return BPETokenizer.train(texts, vocab_size, [END_OF_TEXT])
    if name in ("character", "byte"):
        return CharacterTokenizer() if name == "character" else ByteTokenizer()
    if Path(name).suffix == ".json":
        return BPETokenizer.load(name)
    raise ValueError(
        "wanted the tokenizer gpt2, tales, word, character or byte, "
        f"or a tokenizer.json file, got {name!r}"
    )
