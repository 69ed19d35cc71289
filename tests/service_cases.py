"""A small service to be tested: random weights, but a real tokenizer and real HTTP."""

import contextlib
import gc
import time
from functools import cache

import torch

from llmcourse.finetuning.chat import CHAT_TOKENS
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.serving.app import create_app
from llmcourse.serving.server import running
from llmcourse.serving.wire import ServiceConfig
from llmcourse.text import tales
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

NAME = "tiny"
# What the model goes on with to the end: its text does not happen to stop before.
LONG = {"model": NAME, "prompt": "x", "max_tokens": 90, "seed": 1}


@cache
def small_tokenizer(chat=True):
    texts = [story.text for story in tales.generate(20, seed=0)]
    special = (END_OF_TEXT, *(CHAT_TOKENS if chat else ()))
    return BPETokenizer.train(texts, 320, special_tokens=special)


@cache
def small_model(vocab_size=320):
    config = TransformerConfig(
        vocab_size=vocab_size,
        d_model=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        d_ff=48,
        context_length=96,
    )
    return Transformer(config, torch.Generator().manual_seed(0)).eval()


@contextlib.contextmanager
def small_service(chat=True, slow=0.0, **options):
    """Give (address, application); `slow` seconds are added to each step."""
    app = create_app(
        small_model(), small_tokenizer(chat), NAME, ServiceConfig(**options)
    )
    batcher = app.state.service.engine.batcher
    if slow:
        step = batcher.step
        batcher.step = lambda: (time.sleep(slow), step())[1]
    with running(app, grace_seconds=2) as url:
        yield url, app


def batcher_of(app):
    return app.state.service.engine.batcher


def wait_until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def alive(kind):
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())
