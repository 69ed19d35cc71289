"""The command `generate`: a model writes; each piece is shown when it is sampled."""

from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import echoed


def generate(
    model: opt.Model,
    prompt: Annotated[
        str,
        typer.Argument(
            help="How the text begins; - reads standard input. Without it, the model "
            "begins.",
            callback=opt.read,
        ),
    ] = "",
    n: Annotated[
        int,
        typer.Option("--n", help="Number of texts, each with the next seed.", min=1),
    ] = 1,
    max_new_tokens: opt.MaxNewTokens = None,
    temperature: opt.Temperature = 1.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = "auto",
) -> None:
    """Let a model continue a text.

    `llmcourse generate --model base-llm "Once upon a time"`

    `llmcourse generate --model base-llm --n 3 --temperature 0.5`
    """
    from llmcourse.cli.running import open_model
    from llmcourse.model.generation import Sampling, stream_text

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    loaded, tokenizer = open_model(model, device, dtype)
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
