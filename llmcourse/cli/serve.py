"""The command `serve`: a model that other programs, and a browser, can talk with."""

from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import say

_EXTRA = ("fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn")


def serve(
    model: opt.Model = "instruct-llm",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets all machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="0: any that is free.", min=0, max=65535)
    ] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(help="What callers have to know.", envvar="LLMCOURSE_API_KEY"),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(help="Requests answered at a time.", min=1, max=1024)
    ] = 16,
    queue: Annotated[
        int, typer.Option(help="Requests that wait; more are refused.", min=0)
    ] = 64,
    timeout: Annotated[
        float, typer.Option(help="Seconds that an answer may take.", min=0.001)
    ] = 120.0,
    grace: Annotated[
        int, typer.Option(help="Seconds that answers have to end on Ctrl-C.", min=0)
    ] = 10,
) -> None:
    """Serve a model over HTTP, as OpenAI's clients know it, with a page.

    Needs `pip install "llmcourse[serve]"`. Only this machine is listened to, unless
    `--host` says otherwise; then give an `--api-key` too.

    `llmcourse serve --model instruct-llm --port 8000`

    `llmcourse serve --model run-instruct/model --max-batch 32 --queue 200`
    """
    from llmcourse.cli.running import open_model
    from llmcourse.model.folders import find_model

    try:
        from llmcourse.serving.app import create_app
        from llmcourse.serving.server import address, listening, serve_on
        from llmcourse.serving.wire import ServiceConfig
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ImportError(
            f'{error.name} is missing: pip install "llmcourse[serve]"'
        ) from error
    config = ServiceConfig(
        max_batch=max_batch,
        max_queue=queue,
        api_key=api_key,
        request_seconds=timeout,
    )
    loaded, tokenizer = open_model(model)
    name = find_model(model).resolve().name
    application = create_app(loaded, tokenizer, name, config)
    with listening(host, port) as listener:
        say(f"serving {model} at {address(host, listener)}")
        if api_key is None and host not in ("127.0.0.1", "localhost", "::1"):
            say("anyone who reaches this address is answered: there is no --api-key")
        serve_on(listener, application, grace)
