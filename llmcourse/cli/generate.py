"""The command `generate`: a model writes, and every piece shows as it is drawn."""

from typing import Annotated

import typer

from llmcourse.cli.console import (
    MaxNewTokens,
    Model,
    Seed,
    Temperature,
    TopK,
    TopP,
    echoed,
)
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import Sampling, stream_text


def generate(
    model: Model,
    prompt: Annotated[
        str, typer.Argument(help="How the text begins; without, the model begins.")
    ] = "",
    n: Annotated[
        int, typer.Option("--n", help="Texts to write, each of the next seed.", min=1)
    ] = 1,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = 0,
) -> None:
    """Let a model continue a text.

    `llmcourse generate --model base-llm "Once upon a time"`

    `llmcourse generate --model base-llm --n 3 --temperature 0.5`
    """
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    loaded, tokenizer = load_pretrained(model)
    for number in range(n):
        pieces = stream_text(
            loaded,
            tokenizer,
            prompt,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed + number,
        )
        typer.echo("\n" * (number > 0) + prompt, nl=False)
        for _ in echoed(pieces):
            pass
        typer.echo()
