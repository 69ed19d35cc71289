"""The explorer of a next-token distribution: temperature, top-k and top-p."""

from collections.abc import Sequence

from llmcourse.arguments import check_one_of, check_range
from llmcourse.widgets.base import Explorer, as_json, checked_texts, script


class SamplingExplorer(Explorer):
    """Show what temperature, top-k and top-p do to a next-token distribution.

    Args:
        tokens: Every token that could come next; it may be a whole vocabulary.
        logits: Their logits, before temperature.
        prompt: The text that the next token follows.

    Raises:
        ValueError: If there are fewer than two tokens or not as many logits, or a logit
            is not finite.

    >>> SamplingExplorer(["cat", "dog"], [1.0, 0.0], prompt="Once there was a")
    SamplingExplorer(2 tokens, 'Once there was a')
    """

    _esm = script("common.js", "sampling.js")

    def __init__(
        self, tokens: Sequence[str], logits: Sequence[float], *, prompt: str = ""
    ) -> None:
        names = checked_texts(tokens)
        check_range(2, tokens=len(names))
        check_one_of("number of logits", len(logits), [len(names)])
        super().__init__(
            f"{len(names)} tokens, {prompt!r}",
            tokens=as_json(names),
            logits=as_json([round(float(logit), 3) for logit in logits]),
            prompt=prompt,
            temperature=1.0,  # the slider's position
            seed=0,
        )
