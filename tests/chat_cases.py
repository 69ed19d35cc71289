"""Small models that what is about conversations is tested on."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from llmcourse.finetuning.chat import CHAT_TOKENS, Message, add_special_tokens
from llmcourse.finetuning.finetuning import FinetuningConfig
from llmcourse.finetuning.instruction_tuning import InstructConfig
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.documents import tales
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

SIZES = TransformerConfig(
    vocab_size=600,
    d_model=8,
    n_layers=1,
    n_heads=2,
    n_kv_heads=1,
    d_ff=12,
    context_length=512,
)

CONFIG = InstructConfig(
    n_examples=6,
    n_stories=2,
    n_held_out=3,
    kinds=("who", "list"),
    finetuning=FinetuningConfig(
        steps=2, batch_size=4, warmup_steps=1, eval_interval=1, eval_examples=3
    ),
    seed=3,
)


@cache
def base() -> tuple[Transformer, BPETokenizer]:
    """Return a model of random weights that has read no conversation."""
    texts = [document.text for document in tales(60, seed=0)]
    tokenizer = BPETokenizer.train(texts, SIZES.vocab_size, [END_OF_TEXT])
    return Transformer(SIZES, torch.Generator().manual_seed(0)), tokenizer


@cache
def chatty() -> tuple[Transformer, BPETokenizer]:
    """Return the same with the special tokens of conversations."""
    generator = torch.Generator().manual_seed(1)
    return add_special_tokens(*base(), CHAT_TOKENS, generator)


class Scripted(Transformer):
    """A model that reads what it is given and says what it was told to say."""

    def __init__(self, like: Transformer, script: Sequence[int]) -> None:
        super().__init__(like.config)
        self.script, self.read = list(script), list[list[int]]()

    def forward(self, ids, cache=None):  # type: ignore[no-untyped-def]
        self.read.append(ids[0].tolist())
        logits = torch.zeros(*ids.shape, self.config.vocab_size)
        logits[..., self.script[len(self.read) - 1]] = 1.0
        return logits


def line_of(talk: Sequence[Message], **more: str) -> str:
    """Return a conversation as a line of JSON."""
    return json.dumps({"messages": [vars(turn) for turn in talk]} | more)


def own_file(folder: Path, n: int) -> tuple[list[list[Message]], Path]:
    """Return n conversations, and a file that holds them."""
    talks = [
        [Message("user", f"Say {number}."), Message("assistant", f"{number}!")]
        for number in range(n)
    ]
    path = folder / f"{n}.jsonl"
    path.write_text("\n".join(map(line_of, talks)), encoding="utf-8")
    return talks, path
