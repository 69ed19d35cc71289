"""Explorers: small interactive figures that live on in the page without a kernel.

    TokenExplorer     a text under several tokenizers, or what the reader types
    MergeExplorer     byte-pair encoding, one merge after the other
    SamplingExplorer  temperature, top-k and top-p on one next-token distribution
    SurpriseExplorer  the words of a tale, coloured by how surprising they are
    AttentionExplorer which tokens each head of a model looks at
    EmbeddingExplorer word vectors: a map, neighbours, sums
    LossExplorer      a training's loss, and what its model wrote on the way

Each is an anywidget.  Python checks what it is given and writes it into the widget's
state; what answers the reader is the JavaScript beside this file, so an explorer
works on the static site as it does in JupyterLab.  End a cell with one to show it.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

import traitlets

from llmcourse.text.bpe import (
    GPT2_PATTERN,
    compile_pattern,
    count_pretokens,
    spell,
    to_utf8,
)
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.widgets.attention import AttentionExplorer
from llmcourse.widgets.base import Explorer as _Explorer
from llmcourse.widgets.base import script as _script
from llmcourse.widgets.embedding import EmbeddingExplorer
from llmcourse.widgets.loss import LossExplorer, Moment
from llmcourse.widgets.state import (
    Encoder,
    applied_merges,
    checked_texts,
    tokenizer_state,
)
from llmcourse.widgets.surprise import Surprises, predictor_state, word_surprises

__all__ = [
    "AttentionExplorer",
    "EmbeddingExplorer",
    "LossExplorer",
    "MergeExplorer",
    "Moment",
    "SamplingExplorer",
    "SurpriseExplorer",
    "TokenExplorer",
    "word_surprises",
]

MAX_PRETOKENS: Final = 500


class TokenExplorer(_Explorer):
    """Show the tokens of a text under several tokenizers, side by side.

    The reader picks one of the texts or types another.  Word, character and byte
    tokenizers and BPE of up to 1,000 merges run in the page, on anything; any other
    tokenizer, GPT-2's for one, shows what it makes of the given texts.

    Args:
        texts: Texts to choose from, the first one shown at the start.
        tokenizers: Name to show, and tokenizer.

    Raises:
        ValueError: If there is no text or tokenizer, a text is empty, no string or
            holds a lone surrogate, or a tokenizer's ids and pieces do not pair up.

    >>> from llmcourse.text.tokenizers import CharacterTokenizer
    >>> TokenExplorer(["an unbelievable tale"], {"characters": CharacterTokenizer()})
    TokenExplorer(1 text, characters)
    """

    _esm = _script("common.js", "bpe.js", "tokens.js")
    texts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    tokenizers = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, texts: Sequence[str], tokenizers: Mapping[str, Encoder]) -> None:
        chosen = checked_texts(texts)
        if not tokenizers:
            raise ValueError("tokenizers must name at least one, got none")
        states = [
            tokenizer_state(name, tokenizer, chosen)
            for name, tokenizer in tokenizers.items()
        ]
        plural = "" if len(chosen) == 1 else "s"
        self._summary = f"{len(chosen)} text{plural}, {', '.join(tokenizers)}"
        super().__init__(texts=chosen, tokenizers=states)


class MergeExplorer(_Explorer):
    """Show byte-pair encoding merge by merge.

    Without a tokenizer the merges are learned from the texts: at each step the most
    frequent pair of neighbours.  With one, its merges are applied to the texts: at
    each step the pair that was learned earliest.

    Args:
        texts: A text, or several; small, for every distinct word is kept.
        n_merges: How many merges to learn; not used with a tokenizer.
        tokenizer: Whose merges to apply, if none are to be learned.
        pattern: How text is cut into words before merges are learned.
        step: How many merges are done at the start.

    Raises:
        ValueError: If there is no text, if it has over 500 distinct words, if it
            yields fewer merges than asked, or if the step is not one of them.

    >>> MergeExplorer("hug pug hug bun", n_merges=3)
    MergeExplorer(4 words, 3 merges)
    """

    _esm = _script("common.js", "bpe.js", "merges.js")
    words: traitlets.List[Any] = traitlets.List().tag(sync=True)
    steps: traitlets.List[Any] = traitlets.List().tag(sync=True)
    ranks = traitlets.Dict().tag(sync=True)
    learning = traitlets.Bool().tag(sync=True)
    step = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        texts: str | Sequence[str],
        n_merges: int = 12,
        tokenizer: BPETokenizer | None = None,
        *,
        pattern: str = GPT2_PATTERN,
        step: int = 0,
    ) -> None:
        chosen = checked_texts([texts] if isinstance(texts, str) else texts)
        ranks: dict[str, int] = {}
        if tokenizer is None:
            counts = count_pretokens(chosen, pattern)
            tokenizer = BPETokenizer.train(chosen, 256 + n_merges, pattern=pattern)
            words = [[spell(word), times] for word, times in counts.items()]
            steps = [[spell(left), spell(right)] for left, right in tokenizer.merges]
            learning = True
        else:
            split = compile_pattern(tokenizer.pattern).findall
            pretokens = [to_utf8(word) for text in chosen for word in split(text)]
            words = [[spell(word), 1] for word in pretokens]
            steps, ranks = applied_merges(pretokens, tokenizer)
            learning = False
        if len(words) > MAX_PRETOKENS:
            raise ValueError(
                f"texts must have at most {MAX_PRETOKENS} distinct words, "
                f"got {len(words)}"
            )
        if not 0 <= step <= len(steps):
            raise ValueError(f"step must be from 0 to {len(steps)}, got {step}")
        self._summary = f"{len(words)} words, {len(steps)} merges"
        super().__init__(
            words=words, steps=steps, ranks=ranks, learning=learning, step=step
        )


class SamplingExplorer(_Explorer):
    """Show what temperature, top-k and top-p do to a next-token distribution.

    Args:
        tokens: Every token that could come next.
        logits: Their logits, before temperature.
        prompt: The text that the next token follows.
        temperature: Where the slider stands at the start, from 0 to 3.
        seed: Of the draws.

    Raises:
        ValueError: If there are fewer than two tokens, another number of logits, a
            logit is not finite, or the temperature is out of range.

    >>> SamplingExplorer(["cat", "dog"], [1.0, 0.0], prompt="Once there was a")
    SamplingExplorer(2 tokens, 'Once there was a')
    """

    _esm = _script("common.js", "sampling.js")
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    logits = traitlets.List(traitlets.Float()).tag(sync=True)
    prompt = traitlets.Unicode().tag(sync=True)
    temperature = traitlets.Float().tag(sync=True)
    seed = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        logits: Sequence[float],
        *,
        prompt: str = "",
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        names = checked_texts(tokens)
        values = [float(logit) for logit in logits]
        if len(names) < 2:
            raise ValueError(f"tokens must be at least two, got {len(names)}")
        if len(values) != len(names):
            raise ValueError(
                f"there must be one logit for each of {len(names)} tokens, "
                f"got {len(values)}"
            )
        if not all(map(isfinite, values)):
            raise ValueError("logits must be finite, got an infinite one or NaN")
        if not 0 <= temperature <= 3:
            raise ValueError(f"temperature must be from 0 to 3, got {temperature}")
        self._summary = f"{len(names)} tokens, {prompt!r}"
        super().__init__(
            tokens=names,
            logits=[round(value, 4) for value in values],
            prompt=prompt,
            temperature=temperature,
            seed=seed,
        )


class SurpriseExplorer(_Explorer):
    """Show how surprising each word of a tale is, truly and to models.

    The grammar of the tales comes first: its surprises are exact, and sum to
    -log P(story).  Models may follow; what they lose against it is shown.

    Args:
        stories: Tales to choose from, the first one shown at the start.
        models: Name to show, and a function from a story to the surprise of each of
            its words in nats.
        word: Which word is pointed at to begin with, counted from 1.

    Raises:
        ValueError: If there is no story, a text is no tale, a model gives another
            number of surprises than there are words, one that is negative or not
            finite, or if the word is not in the first story.

    >>> from llmcourse.text.tales import generate
    >>> SurpriseExplorer([story.text for story in generate(2, seed=0)])
    SurpriseExplorer(2 stories, the grammar)
    """

    _css = _script("explorer.css", "surprise.css")
    _esm = _script("common.js", "surprise.js")
    stories: traitlets.List[Any] = traitlets.List().tag(sync=True)
    predictors: traitlets.List[Any] = traitlets.List().tag(sync=True)
    word = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        stories: Sequence[str],
        models: Mapping[str, Surprises] | None = None,
        *,
        word: int = 1,
    ) -> None:
        chosen = checked_texts(stories)
        predictors = {"the grammar": word_surprises, **(models or {})}
        words = [story.split() for story in chosen]
        if not 1 <= word <= len(words[0]):
            raise ValueError(f"word must be from 1 to {len(words[0])}, got {word}")
        states = [predictor_state(name, p, chosen) for name, p in predictors.items()]
        plural = "y" if len(chosen) == 1 else "ies"
        self._summary = f"{len(chosen)} stor{plural}, {', '.join(predictors)}"
        super().__init__(stories=words, predictors=states, word=word)
