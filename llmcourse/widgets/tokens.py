"""The explorers of tokens and merges, and what they put into the page."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from llmcourse.arguments import check_range
from llmcourse.text import bpe
from llmcourse.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
)
from llmcourse.widgets.base import Explorer, as_json, checked_texts, counted, script

MAX_PRETOKENS: Final = 500
MAX_MERGES: Final = 1_000  # of a tokenizer that runs in the page
MAX_FETCHED_MERGES: Final = 100_000
MAX_WORDS: Final = 5_000
_BORDER: Final = -1  # not a symbol: separates pre-tokens, so that no merge crosses


def in_javascript(pattern: str) -> str:
    """Return one of the package's patterns for JavaScript with the flag ``u``.

    JavaScript's white space is a different set. It lacks ``(?i:...)``, and possessive
    quantifiers, which change nothing in these patterns.
    """
    changes = {
        r"(?i:[sdmt]|ll|ve|re)": "(?:[sdmtSDMT\u017f]|[lL]{2}|[vV][eE]|[rR][eE])",
        r"\s": r"\p{White_Space}",
        r"\S": r"\P{White_Space}",
        "?+": "?",
        "++": "+",
    }
    for python, javascript in changes.items():
        pattern = pattern.replace(python, javascript)
    return pattern


class TokenExplorer(Explorer):
    """Show the tokens of a text under several tokenizers, side by side.

    The reader picks one of the texts or types another. Word, character and byte
    tokenizers and BPE of up to 1,000 merges run in the page, on any text. A larger BPE,
    such as GPT-2's, shows its tokens of the given texts; if the course's site has its
    merges, they are fetched for the reader's own text. Any other tokenizer works on the
    given texts only.

    Args:
        texts: Texts to choose from, the first one shown at the start.
        tokenizers: Name to show, and tokenizer.

    Raises:
        ValueError: If there is no text or tokenizer, or a text is empty, not a string
            or holds a lone surrogate.

    >>> from llmcourse.text.tokenizers import CharacterTokenizer
    >>> TokenExplorer(["an unbelievable tale"], {"characters": CharacterTokenizer()})
    TokenExplorer(1 text, characters)
    """

    _css = script("explorer.css", "panels.css")
    _esm = script("common.js", "bpe.js", "panels.js", "tokens.js")

    def __init__(
        self, texts: Sequence[str], tokenizers: Mapping[str, Tokenizer]
    ) -> None:
        chosen = checked_texts(texts)
        check_range(1, tokenizers=len(tokenizers))
        super().__init__(
            f"{counted(len(chosen), 'text')}, {', '.join(tokenizers)}",
            texts=chosen,
            tokenizers=[
                tokenizer_state(name, tokenizer, chosen)
                for name, tokenizer in tokenizers.items()
            ],
        )


class MergeExplorer(Explorer):
    """Show byte-pair encoding merge by merge.

    Without a tokenizer the merges are learned from the texts: at each step the most
    frequent pair of neighbours. With one, its merges are applied to the texts: at each
    step the pair that was learned earliest. Before each step the page says which pair
    is next and how often it occurs, and at the end whether one is left.

    Args:
        texts: A text, or several; short, since every distinct word is kept.
        n_merges: How many merges to learn; not used with a tokenizer.
        tokenizer: A tokenizer whose merges to apply, instead of learning any.

    Raises:
        ValueError: If there is no text, if over 500 words are to be shown (distinct
            ones where merges are learned), if it yields fewer merges than asked for, or
            if the tokenizer does more than merge bytes (see `BPEOptions.are_plain`).

    >>> MergeExplorer("hug pug hug bun", n_merges=3)
    MergeExplorer(4 words, 3 merges)
    """

    _esm = script("common.js", "bpe.js", "merges.js")

    def __init__(
        self,
        texts: str | Sequence[str],
        n_merges: int = 12,
        tokenizer: BPETokenizer | None = None,
    ) -> None:
        chosen = checked_texts([texts] if isinstance(texts, str) else texts)
        if tokenizer is None:
            counts = [*bpe.count_pretokens(chosen, bpe.GPT2_PATTERN).items()]
        elif not tokenizer.options.are_plain:
            raise ValueError("tokenizer must have plain options, got others")
        else:
            words_of = tokenizer.pretokens
            counts = [(bpe.to_utf8(w), 1) for text in chosen for w in words_of(text)]
        check_range(0, MAX_PRETOKENS, words=len(counts))
        ranks: dict[str, int] = {}
        if tokenizer is None:
            merges = BPETokenizer.train(chosen, 256 + n_merges).merges
            steps = [[bpe.spell(left), bpe.spell(right)] for left, right in merges]
        else:
            steps, ranks = applied_merges([word for word, _ in counts], tokenizer)
        super().__init__(
            f"{len(counts)} words, {len(steps)} merges",
            words=[[bpe.spell(word), times] for word, times in counts],
            steps=steps,
            ranks=ranks,
            learning=tokenizer is None,
            step=0,  # how many merges are done
        )


class GuessExplorer(Explorer):
    """Show the merges of the reader's own words, each after a guess.

    The merges are those that `BPETokenizer.train` would learn from these words.

    Args:
        text: The words at the start.

    Raises:
        ValueError: If the text is empty or holds a lone surrogate.

    >>> GuessExplorer("hug pug hug bun")
    GuessExplorer('hug pug hug bun')
    """

    _css = script("explorer.css", "panels.css")
    _esm = script("common.js", "bpe.js", "panels.js", "guess.js")

    def __init__(self, text: str) -> None:
        (text,) = checked_texts([text])
        super().__init__(repr(text), text=text, pattern=in_javascript(bpe.GPT2_PATTERN))


def tokenizer_state(
    name: str, tokenizer: Tokenizer, texts: list[str]
) -> dict[str, Any]:
    """Return what the page needs to run a tokenizer, or its results if it is large.

    The results come with all that it takes to run it, except the merges to be fetched.
    """
    spec = specification(tokenizer)
    if spec is not None:
        return {"name": name, "spec": spec}
    given = [{"ids": tokenizer.encode(t), "pieces": tokenizer.tokens(t)} for t in texts]
    state: dict[str, Any] = {"name": name, "given": given}
    large = specification(tokenizer, max_merges=MAX_FETCHED_MERGES)
    if large is None:
        return state
    file, content = merges_script(large["merges"])
    about = {"file": file, "n_merges": len(large["merges"]), "bytes": len(content)}
    kept = {"pattern": large["pattern"], "first": large["first"]}
    return state | {"fetched": kept | about}


def merges_script(merges: Sequence[str]) -> tuple[str, bytes]:
    """Return the script from which a page of the site gets merges: name and content.

    The name is a hash of the content: a page gets the merges it asks for, or none.

    Args:
        merges: Two spelled pieces each, as in the `merges` of `specification`.
    """
    text = json.dumps("\n".join(merges), ensure_ascii=False)
    name = f"merges-{hashlib.sha256(text.encode()).hexdigest()[:12]}.js"
    return name, f'(window.llmcourseMerges ??= {{}})["{name}"] = {text};\n'.encode()


def specification(
    tokenizer: Tokenizer, max_merges: int = MAX_MERGES
) -> dict[str, Any] | None:
    """Return what ``encoder`` in bpe.js takes; None for what cannot run there."""
    if isinstance(tokenizer, CharacterTokenizer):
        return {"kind": "characters"}
    if isinstance(tokenizer, ByteTokenizer):
        return {"kind": "bytes"}
    if isinstance(tokenizer, WordTokenizer):
        small = tokenizer.vocab_size <= MAX_WORDS
        return {"kind": "words", "words": tokenizer.words} if small else None
    if not isinstance(tokenizer, BPETokenizer) or len(tokenizer.merges) > max_merges:
        return None
    if not tokenizer.options.are_plain or tokenizer.pattern not in bpe.OWN_PATTERNS:
        return None
    # The page counts ids up from that of "!": bytes first, then what the merges make.
    pieces = [bytes([byte]) for byte in bpe.BYTE_ORDER]
    pieces += [left + right for left, right in tokenizer.merges]
    first = tokenizer.vocab[pieces[0]]
    if any(tokenizer.vocab[piece] != id_ for id_, piece in enumerate(pieces, first)):
        return None
    merges = [
        f"{bpe.spell(left)} {bpe.spell(right)}" for left, right in tokenizer.merges
    ]
    pattern = in_javascript(tokenizer.pattern)
    return {"kind": "bpe", "pattern": pattern, "merges": merges, "first": first}


def applied_merges(
    pretokens: list[bytes], tokenizer: BPETokenizer
) -> tuple[list[list[str]], dict[str, int]]:
    """Return the merged pairs, in order, and the rank of each known pair met."""
    ranks = tokenizer.ranks
    symbols: list[int] = []
    for pretoken in pretokens:
        symbols += [*(tokenizer.vocab[bytes([byte])] for byte in pretoken), _BORDER]
    states = list(bpe.merge_steps(symbols, ranks, tokenizer.products))
    met = {pair for state in states for pair in pairwise(state) if pair in ranks}
    known = sorted(met, key=ranks.__getitem__)

    def spelled(pair: tuple[int, int]) -> list[str]:
        return [bpe.spell(tokenizer.pieces[symbol]) for symbol in pair]

    steps = []
    for before, after in pairwise(states):
        i = next(i for i, symbol in enumerate(after) if before[i] != symbol)
        steps.append(spelled((before[i], before[i + 1])))
    return steps, {" ".join(spelled(pair)): ranks[pair] for pair in known}


MAX_PAGE_MERGES = 5_000  # of a tokenizer that reads whole texts in the page


def page_tokenizer(tokenizer: Tokenizer) -> str:
    """Return a BPE tokenizer as JSON that `quickEncoder` in quick_encoder.js takes.

    Raises:
        ValueError: If it cannot run in the page.
    """
    spec = specification(tokenizer, MAX_PAGE_MERGES)
    if spec is None or spec["kind"] != "bpe":
        raise ValueError(
            f"wanted a plain BPE tokenizer of at most {MAX_PAGE_MERGES} merges, "
            f"got {tokenizer!r}"
        )
    return as_json(spec)
