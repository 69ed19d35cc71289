"""Serving: a model as a service with OpenAI's interface.

    batching   continuous batching over one key-value cache
    logprobs   how likely the tokens were, as it is sent
    answers    one request: prompts, choices, stop strings, streams
    wire       the shapes of requests and errors, limits
    app        the routes
    server     the HTTP server
    load_test  many callers at once

Read first: batching, app.
"""
