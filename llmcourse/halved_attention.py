"""Causal attention for short sequences, with a gradient written out by hand.

                 keys
              ┌───────┬───────┐
     queries  │ first │ never │     the first half of the queries sees only the first
              ├───────┴───────┤     half of the keys: a quarter of the scores is
              │    second     │     never asked for
              └───────────────┘

What is computed is `attention.naive_attention` under the causal mask, and a test
proves that, with its gradients. With weights W = softmax(S), context C = W V and a
dot for a gradient of the loss:

    V̇ = Wᵀ Ċ,   Ẇ = Ċ Vᵀ,   Ṡ = W · (Ẇ - Σ over keys of W · Ẇ),   Q̇ = Ṡ K,   K̇ = Ṡᵀ Q

Written out, the halves' gradients are added where they belong; automatically, each
half of the keys would get a gradient filled up with zeros first.
"""

import math
from typing import Any

import torch
from torch import Tensor


class HalvedAttention(torch.autograd.Function):
    """Context vectors (B, H, T, d_head) of queries, and K ≤ H key-value heads.

    All query heads that share a key-value head are rows of one product, which spares
    a copy of the keys for each. There is no second derivative: asking for one raises
    a RuntimeError.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the context; keep what the gradient needs."""
        length, d_head = query.shape[2:]
        query = query / math.sqrt(d_head)
        query = torch.unflatten(
            query, 1, (key.shape[1], -1)
        )  # (B, K, H / K, T, d_head)
        hidden = torch.full((length, length), -math.inf, dtype=query.dtype).triu_(1)
        context, halves = torch.empty_like(query), []
        for start, end in ((0, length // 2), (length // 2, length)):
            rows = query[:, :, :, start:end].flatten(2, 3)  # (B, K, H / K · R, d_head)
            scores = rows @ key[:, :, :end].transpose(-2, -1)
            of_heads = torch.unflatten(scores, 2, (-1, end - start))
            of_heads += hidden[start:end, :end]
            weights = scores.softmax(dim=-1)
            of_rows = weights @ value[:, :, :end]
            context[:, :, :, start:end] = torch.unflatten(of_rows, 2, (-1, end - start))
            halves += [rows, weights]
        ctx.save_for_backward(key, value, *halves)
        return context.flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients for query, key and value from that of the context."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph must be off: attention in halves has no second "
                "derivative, take fused_attention"
            )
        key, value, *halves = ctx.saved_tensors
        length, d_head = g.shape[2:]
        g = torch.unflatten(g, 1, (key.shape[1], -1))
        for_query = torch.empty_like(g)
        for_key, for_value = torch.zeros_like(key), torch.zeros_like(value)
        for start, end in ((0, length // 2), (length // 2, length)):
            rows, weights, *halves = halves
            upstream = g[:, :, :, start:end].flatten(2, 3)
            for_value[:, :, :end] += weights.transpose(-2, -1) @ upstream
            for_weights = upstream @ value[:, :, :end].transpose(-2, -1)
            for_scores = torch._softmax_backward_data(
                for_weights, weights, -1, weights.dtype
            )
            of_rows = (for_scores @ key[:, :, :end]) / math.sqrt(d_head)
            for_query[:, :, :, start:end] = torch.unflatten(
                of_rows, 2, (-1, end - start)
            )
            for_key[:, :, :end] += for_scores.transpose(-2, -1) @ rows
        return for_query.flatten(1, 2), for_key, for_value
