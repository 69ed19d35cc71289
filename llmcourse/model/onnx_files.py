"""ONNX files: the forward pass as a graph of operations, for any runtime that reads it.

    input_ids (B, T) ─────────────┐         ┌── logits (B, T, V)
    attention_mask (B, P + T) ────┤  graph  │
    past_key_values.0.key ────────┤         ├── present.0.key (B, K, P + T, d_head)
    past_key_values.0.value … ────┘         └── present.0.value …

The cache goes in and comes out longer by the new tokens; with P = 0 it is empty. The
mask is 0 where a row is padded, on the left. Names are those of Hugging Face `optimum`.
Text becomes ids elsewhere, with the `tokenizer.json` of `save_pretrained`.

Source: https://onnx.ai/onnx/intro; the names: `optimum.exporters.onnx`.
"""

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from llmcourse.extras import needed_for
from llmcourse.files import new_file
from llmcourse.model.attention import (
    Attend,
    RaggedCache,
    check_full_attention,
    group_size,
)
from llmcourse.model.transformer import Transformer


class _GrowingCache(RaggedCache):
    """Keys and values that grow by concatenation: a graph changes nothing in place."""

    def __init__(self, past: list[Tensor], mask: Int[Tensor, "batch key"]) -> None:
        self.past, self.present, self.mask = past, list(past), mask

    def positions(self, n_new: int, context_length: int) -> Int[Tensor, "batch new"]:
        """Return the positions of the new tokens, not counting padding."""
        places = self.mask.cumsum(dim=-1) - 1
        return places[:, self.past[0].shape[2] :].clamp(min=0)

    def attend(
        self, attend: Attend, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """Return the context from the table of scores: an ONNX file has no kernels."""
        n_past, n_new = self.past[0].shape[2], query.shape[2]
        key = torch.cat([self.past[2 * layer], key], dim=2)
        value = torch.cat([self.past[2 * layer + 1], value], dim=2)
        self.present[2 * layer : 2 * layer + 2] = key, value
        shared = group_size(query, key)
        key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
        own = torch.arange(n_past, n_past + n_new)[:, None]
        causal: Bool[Tensor, "new key"] = torch.arange(n_past + n_new) <= own
        seen = causal & self.mask[:, None, None].bool()
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        # Not -infinity: a row of padding sees nothing, and must not become NaN.
        scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1) @ value

    def advance(self, n_new: int) -> None:
        """Do nothing: the lengths of the inputs say where we are."""


class _WithCache(nn.Module):
    """A model whose cache goes in and comes out as tensors."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the logits, then keys and values of each layer."""
        cache = _GrowingCache(past, attention_mask)
        return (self.model(input_ids, cache), *cache.present)


def write_onnx(model: Transformer, path: str | Path) -> None:
    """Write a model's forward pass into a file for `onnxruntime`, weights included.

    Args:
        model: In float32 and below 2 GB, the limit of such a file.
        path: Path of the file.

    Raises:
        ValueError: If the model is larger, or its attention is not full.
        ImportError: If a package of the extra `onnx` is not installed.
        OSError: If the file cannot be written; an older one is then kept.
    """
    with needed_for("an ONNX file", "onnx"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    if (n_bytes := sum(weight.nbytes for weight in model.parameters())) >= 2 * 10**9:
        raise ValueError(f"an ONNX file holds less than 2 GB, got {n_bytes} bytes")
    check_full_attention(model)
    config = model.config
    shape = (2, config.n_kv_heads, 3, config.d_head)  # any sizes above one
    past = [torch.zeros(shape) for _ in range(2 * config.n_layers)]
    names = [f"{n}.{part}" for n in range(config.n_layers) for part in ("key", "value")]
    batch, new, old, both = (
        torch.export.Dim(name, min=low)
        for name, low in (("batch", 1), ("new", 1), ("past", 0), ("both", 1))
    )
    dynamic: dict[str, Any] = {
        "input_ids": {0: batch, 1: new},
        "attention_mask": {0: batch, 1: both},
        "past": [{0: batch, 2: old} for _ in past],
    }
    was_training = model.training
    with torch.no_grad(), warnings.catch_warnings(), new_file(path) as file:
        warnings.simplefilter("ignore")  # about names that dimensions share
        program = torch.onnx.export(
            _WithCache(model).eval(),
            (torch.zeros(2, 4).long(), torch.ones(2, 7).long(), past),
            input_names=[
                *("input_ids", "attention_mask"),
                *(f"past_key_values.{name}" for name in names),
            ],
            output_names=["logits", *(f"present.{name}" for name in names)],
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(file.name)
    model.train(was_training)
