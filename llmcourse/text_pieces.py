r"""Text as it is drawn, token by token, up to the first of some strings that end it.

    ids     72   105  33   …            the bytes of a character may come one by one
    text    "H"  "i"  "!"  …
    stop    "\n\n"                      "\n" is held back: the next may be another

Whatever is given out is never taken back.
"""

import codecs
from collections.abc import Sequence

from llmcourse.tokenization import BPETokenizer


class TextPieces:
    """Turns the ids of one answer into text.

    Args:
        tokenizer: Of the model that draws the ids.
        stop: Strings that end the text; they are no part of it.

    Raises:
        ValueError: If one of these is empty.

    >>> tokenizer = BPETokenizer.train(["a"], vocab_size=256)
    >>> pieces = TextPieces(tokenizer, stop=["bc"])
    >>> [pieces.push(id_) for id_ in tokenizer.encode("abbcd")]
    ['a', '', 'b', '', '']
    >>> pieces.stopped
    True
    """

    def __init__(self, tokenizer: BPETokenizer, stop: Sequence[str] = ()) -> None:
        if not all(stop):
            raise ValueError(f"a string that ends a text must not be empty, got {stop}")
        self._pieces = tokenizer.pieces
        self._special = set(tokenizer.special_tokens.values())
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = list(stop)
        self._held = ""  # the beginning, perhaps, of a string that ends the text
        self.stopped = False

    def push(self, id_: int) -> str:
        """Return the text that is certain with one more id; special tokens are none."""
        piece = b"" if id_ in self._special else self._pieces[id_]
        return self._release(self._decoder.decode(piece), last=False)

    def finish(self) -> str:
        """Return what was held back: there are no more ids."""
        return self._release(self._decoder.decode(b"", final=True), last=True)

    def _release(self, new: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        n_held = 0 if last else max((_overlap(text, s) for s in self._stop), default=0)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text begin a string.

    >>> _overlap("one, two,", ", three")
    1
    """
    longest = min(len(text), len(stop) - 1)
    ends = (n for n in range(longest, 0, -1) if text.endswith(stop[:n]))
    return next(ends, 0)
