"""The explorer of a next-token distribution: temperature, top-k and top-p."""

import json
from collections.abc import Sequence
from math import isfinite

import traitlets

from llmcourse.arguments import check_range
from llmcourse.widgets.base import Explorer, checked_texts, script


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
    # A whole vocabulary as lists would be thousands of lines in a notebook; as JSON it
    # is one line.
    tokens = traitlets.Unicode().tag(sync=True)
    logits = traitlets.Unicode().tag(sync=True)
    prompt = traitlets.Unicode().tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)  # the slider's position
    seed = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, tokens: Sequence[str], logits: Sequence[float], *, prompt: str = ""
    ) -> None:
        names = checked_texts(tokens)
        values = [float(logit) for logit in logits]
        check_range(2, tokens=len(names))
        if len(values) != len(names):
            raise ValueError(
                f"there must be one logit for each of {len(names)} tokens, "
                f"got {len(values)}"
            )
        if not all(map(isfinite, values)):
            raise ValueError("logits must be finite, got an infinite one or NaN")
        self._summary = f"{len(names)} tokens, {prompt!r}"
        super().__init__(
            tokens=json.dumps(names, ensure_ascii=False),
            logits=json.dumps([round(value, 3) for value in values]),
            prompt=prompt,
        )
