"""Serving: a model as a service with OpenAI's API.

    batching   continuous batching over one key-value cache
    logprobs   log-probabilities of tokens, as sent
    answers    one request: prompts, choices, stop strings, streams
    wire       the forms of requests and errors; limits
    app        the routes
    server     the HTTP server
    load_test  many callers at once

Read first: batching, app.
"""
