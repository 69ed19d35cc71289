"""The explorer of batching: requests that share a model's steps, as timelines."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmcourse.arguments import check_range
from llmcourse.widgets.base import Explorer, script

MAX_REQUESTS = 16


class Load(NamedTuple):
    """A request: when it comes, and its length."""

    arrival: int  # the number of steps taken before it came
    prompt: int  # in tokens
    answer: int  # in tokens


class BatchingExplorer(Explorer):
    """Show how requests share a model's steps, in fixed batches and continuously.

    Continuous batching works as in `serving.batching.Batcher`, step by step. A fixed
    batch takes the waiting requests, and ends when all its answers are written.

    Args:
        examples: Name to requests, the first one shown at the start.

    Raises:
        ValueError: If there is no example, one has no request or more than 16, an
            arrival is not from 0 to 100, a prompt not from 1 to 2,000 tokens, or an
            answer not from 1 to 60.

    >>> BatchingExplorer({"two": [Load(0, 1, 2), Load(3, 20, 7)]})
    BatchingExplorer(two)
    """

    _css = script("explorer.css", "panels.css", "batching.css")
    _esm = script("common.js", "panels.js", "batching.js")

    def __init__(self, examples: Mapping[str, Sequence[Load]]) -> None:
        check_range(1, examples=len(examples))
        for name, requests in examples.items():
            check_range(1, MAX_REQUESTS, **{f"requests of {name!r}": len(requests)})
            for arrival, prompt, answer in requests:
                check_range(0, 100, arrival=arrival)
                check_range(1, 2000, prompt=prompt)
                check_range(1, 60, answer=answer)
        super().__init__(
            ", ".join(examples),
            examples=[
                {"name": name, "requests": [list(request) for request in requests]}
                for name, requests in examples.items()
            ],
        )
