"""The explorer of surprise: how surprising each word is, exactly and to models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmcourse.arguments import check_one_of, check_range
from llmcourse.text.tales import word_surprises
from llmcourse.widgets.base import Explorer, checked_texts, counted, script

Surprises = Callable[[str], Sequence[float]]


class SurpriseExplorer(Explorer):
    """Show how surprising each word of a tale is, exactly and to models.

    The grammar of the tales comes first: its surprises are exact, and sum to
    -log P(story). Models may follow, with what they lose against it.

    Args:
        stories: Tales to choose from, the first one shown at the start.
        models: Name to show, and a function from a story to the surprise of each of
            its words in nats.

    Raises:
        ValueError: If there is no story, a text is not a tale, a model does not give
            one surprise for each word, or one is negative or not finite.

    >>> from llmcourse.text.tales import generate
    >>> SurpriseExplorer([story.text for story in generate(2, seed=0)])
    SurpriseExplorer(2 stories, the grammar)
    """

    _css = script("explorer.css", "surprise.css")
    _esm = script("common.js", "surprise.js")

    def __init__(
        self, stories: Sequence[str], models: Mapping[str, Surprises] | None = None
    ) -> None:
        chosen = checked_texts(stories)
        predictors = {"the grammar": word_surprises, **(models or {})}
        super().__init__(
            f"{counted(len(chosen), 'story', 'stories')}, {', '.join(predictors)}",
            stories=[story.split() for story in chosen],
            predictors=[
                predictor_state(name, surprises, chosen)
                for name, surprises in predictors.items()
            ],
            word=1,  # the one pointed at
        )


def predictor_state(
    name: str, surprises: Surprises, texts: Sequence[str]
) -> dict[str, Any]:
    """Return a predictor's name and its surprise at each word of each text."""
    nats = []
    for text in texts:
        values = [float(value) for value in surprises(text)]
        check_one_of(f"surprises of {name!r}", len(values), [len(text.split())])
        for value in values:
            check_range(0, **{f"surprises of {name!r}": value})
        nats.append([round(value, 6) for value in values])
    return {"name": name, "nats": nats}
