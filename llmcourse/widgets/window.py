"""The explorer of the context window: what fits, what a query sees, what it costs."""

from collections.abc import Mapping

from llmcourse.model.transformer import TransformerConfig
from llmcourse.text.tokenizers import Tokenizer
from llmcourse.widgets.base import Explorer, checked_texts, script
from llmcourse.widgets.sizes import cache_sizes
from llmcourse.widgets.tokens import page_tokenizer


class WindowExplorer(Explorer):
    """Show how much of a text fits a window, what each query sees, and what it costs.

    The reader types or pastes a text, chooses a model and a kind of attention, and
    moves the query.

    Args:
        text: The text at the start.
        tokenizer: Counts the tokens, for all models alike; a plain BPE tokenizer of at
            most 5,000 merges.
        models: Name to config.

    Raises:
        ValueError: If the text is empty or holds a lone surrogate, there is no model,
            or the tokenizer cannot run in the page.

    >>> from llmcourse.model.transformer import TINY
    >>> from llmcourse.text.tokenizers import BPETokenizer
    >>> tokenizer = BPETokenizer.train(["an owl and an otter"], vocab_size=260)
    >>> WindowExplorer("an owl", tokenizer, {"tiny": TINY})
    WindowExplorer(tiny)
    """

    _css = script("explorer.css", "panels.css")
    _esm = script("common.js", "bpe.js", "quick_encoder.js", "panels.js", "window.js")

    def __init__(
        self, text: str, tokenizer: Tokenizer, models: Mapping[str, TransformerConfig]
    ) -> None:
        (text,) = checked_texts([text])
        super().__init__(
            ", ".join(models),
            text=text,
            spec=page_tokenizer(tokenizer),
            models=cache_sizes(models),
        )
