"""The explorer of search by words: chunks, BM25 term by term, the best passages."""

from collections.abc import Sequence

from llmcourse.text.tokenizers import Tokenizer
from llmcourse.widgets.base import Explorer, checked_texts, counted, script
from llmcourse.widgets.tokens import page_tokenizer


class SearchExplorer(Explorer):
    """Show how a text is cut into chunks and searched by BM25, word by word.

    Chunks are made as in `llmcourse.retrieval.chunking`, scores as by `BM25` with its
    defaults. The reader changes size and overlap, and may paste another text.

    Args:
        text: The text to search, at the start.
        questions: To choose from, the first one shown at the start.
        tokenizer: Counts tokens; a plain BPE tokenizer of at most 5,000 merges.

    Raises:
        ValueError: If a text is empty or holds a lone surrogate, there is no question,
            or the tokenizer cannot run in the page.

    >>> from llmcourse.text.tokenizers import BPETokenizer
    >>> tokenizer = BPETokenizer.train(["an owl and an otter"], vocab_size=260)
    >>> SearchExplorer("An owl. An otter.", ["otter"], tokenizer)
    SearchExplorer(17 characters, 1 question)
    """

    _css = script("explorer.css", "panels.css")
    _esm = script("common.js", "bpe.js", "quick_encoder.js", "panels.js", "search.js")

    def __init__(
        self, text: str, questions: Sequence[str], tokenizer: Tokenizer
    ) -> None:
        (text,), chosen = checked_texts([text]), checked_texts(questions)
        super().__init__(
            f"{len(text):,} characters, {counted(len(chosen), 'question')}",
            text=text,
            questions=chosen,
            spec=page_tokenizer(tokenizer),
        )
