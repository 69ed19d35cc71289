"""The command `serve`: a model that other programs, and a browser, can talk with."""

import gc
from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import say
from llmcourse.extras import needed_for

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NAMES = ("127.0.0.1", "localhost", "[::1]")  # as in a URL


def serve(
    model: opt.Model = "instruct-llm",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets all machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65535)
    ] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(help="Key that callers must send.", envvar="LLMCOURSE_API_KEY"),
    ] = None,
    served_model_name: Annotated[
        str | None,
        typer.Option(help="Name that callers ask for. Default: the folder's."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Tokens of prompt and answer together. Default: the model's.", min=1
        ),
    ] = None,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = "auto",
    slots: Annotated[
        int, typer.Option(help="Requests answered at once.", min=1, max=1024)
    ] = 16,
    queue: Annotated[
        int, typer.Option(help="Requests that may wait; more are refused.", min=0)
    ] = 64,
    timeout: Annotated[
        float, typer.Option(help="Seconds that an answer may take.", min=0.001)
    ] = 120.0,
    grace: Annotated[
        int,
        typer.Option(help="Seconds that answers have to finish after Ctrl-C.", min=0),
    ] = 10,
) -> None:
    """Serve a model over HTTP, as OpenAI's clients expect, with a web page.

    Needs `pip install "llmcourse[serve]"`. It listens only on this machine, unless
    `--host` says otherwise; in that case, also give an `--api-key`, or everyone who
    reaches the port is answered. On this machine, without a key, only requests to the
    names 127.0.0.1, localhost and [::1] are answered, so that no web page can use the
    model through your browser. `/health`, `/metrics` and
    `/openapi.json` need no key.

    `llmcourse serve --model instruct-llm --port 8000`

    `llmcourse serve --model run-instruct/model --slots 32 --queue 200`
    """
    from llmcourse.cli.running import open_model
    from llmcourse.model.folders import find_model

    with needed_for("serve", "serve"):
        from llmcourse.serving.app import create_app
        from llmcourse.serving.server import address, listening, serve_on
        from llmcourse.serving.wire import ServiceConfig
    config = ServiceConfig(
        max_batch=slots,
        max_queue=queue,
        api_key=api_key,
        request_seconds=timeout,
        context=context,
        allowed_hosts=_NAMES if host in _LOOPBACK and not api_key else ("*",),
    )
    loaded, tokenizer = open_model(model, device, dtype)
    own = model.removeprefix("hf:") if model.startswith("hf:") else None
    name = served_model_name or own or find_model(model).resolve().name
    application = create_app(loaded, tokenizer, name, config)
    with listening(host, port) as listener:
        say(f"serving {model} at {address(host, listener)}")
        if api_key is None and host not in _LOOPBACK:
            say("anyone who reaches this address is answered: there is no --api-key")
        gc.freeze()  # what is there stays, so collecting requests' garbage is fast
        serve_on(listener, application, grace)
