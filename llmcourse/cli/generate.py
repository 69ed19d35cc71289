"""The command `generate`: a model writes, and every piece shows as it is drawn."""

from typing import Annotated

import typer

from llmcourse.cli.console import Model, app
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import Sampling, stream_text


@app.command()
def generate(
    model: Model,
    prompt: Annotated[
        str, typer.Argument(help="How the text begins; without, the model begins.")
    ] = "",
    n: Annotated[int, typer.Option("--n", help="Texts to write.", min=1)] = 1,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of each; default: what fits.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1 safer, above 1 wilder; 0: the likeliest.")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(help="Draw from the k likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest, p together.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first text; then 1 more each.")] = 0,
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
        for piece in pieces:
            typer.echo(piece, nl=False)  # is there at once
        typer.echo()
