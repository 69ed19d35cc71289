"""The command `score`: how much a reward model likes an answer."""

from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import print_json


def score(
    prompt: Annotated[
        str,
        typer.Argument(
            help="What was asked; - reads standard input.", callback=opt.read
        ),
    ],
    answers: Annotated[list[str], typer.Argument(help="One answer, or several.")],
    model: Annotated[
        str, typer.Option("--model", help="A reward model's folder, or its name.")
    ] = "reward-model",
    as_json: opt.AsJson = False,
) -> None:
    """Score answers with a reward model, best first.

    Only differences have a meaning: zero is the mean over answers of the model whose
    answers were compared. An answer too long for the model is cut before its end.

    `llmcourse score "Tell me a story about a boy called Tom." "$(cat a.txt)" "Bang."`
    """
    from llmcourse.alignment.reward_model import load_reward_model, text_reward

    reward = text_reward(*load_reward_model(model))
    rewards = reward([prompt] * len(answers), answers).tolist()
    ranked = sorted(zip(rewards, answers, strict=True), reverse=True)
    if as_json:
        print_json([{"reward": r, "answer": text} for r, text in ranked])
        return
    for each, text in ranked:
        typer.echo(f"{each:+.2f}  {text}")
