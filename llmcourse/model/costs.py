"""What a transformer costs: parameters, arithmetic, memory; computed, and measured.

The functions run no model: every number follows from the sizes alone, before a model is
built. Matrix products count as in `torch.utils.flop_counter`; tests compare both.

`PeakMemory` measures that peak: every tensor that a torch operation makes counts until
it is freed. Earlier tensors do not count, nor does memory that an operation frees
before it returns. Unlike the memory of the process, which the system hands out in large
pieces and reclaims late, this is the same in every run.
"""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmcourse.model.transformer import TransformerConfig


def parameter_counts(config: TransformerConfig) -> dict[str, int]:
    """Return the number of parameters in each part of the model.

    Biases are counted with the matrix or the norm that they belong to. A tied
    embedding, which also scores the next token, is counted once.

    >>> from llmcourse.model.transformer import GPT2_SMALL, TINY
    >>> parameter_counts(TINY)
    {'embedding': 32768, 'attention': 32768, 'feed_forward': 66048, 'norms': 320}
    >>> parameter_counts(GPT2_SMALL)["positions"]
    786432
    """
    width, layers = config.d_model, config.n_layers
    matrices = _matrices(config)
    counts = {
        "embedding": config.vocab_size * width,
        "attention": matrices["attention"],
        "feed_forward": matrices["feed_forward"],
        "norms": (2 * layers + 1) * width,
    }
    gpt2 = config.family == "gpt2"
    if gpt2 or config.qkv_bias:
        queries, keys = _attention_widths(config)
        counts["attention"] += layers * (queries + 2 * keys)  # biases
    if gpt2:
        counts["attention"] += layers * width
        counts["feed_forward"] += layers * (config.d_ff + width)
        counts["norms"] *= 2
    if config.qk_norm:
        counts["norms"] += layers * 2 * config.d_head
    if config.position_encoding == "learned":
        counts["positions"] = config.context_length * width
    if not config.tied_embeddings:
        counts["unembedding"] = matrices["unembedding"]
    return counts


def n_parameters(config: TransformerConfig) -> int:
    """Return the number of parameters of a model.

    >>> from llmcourse.model.transformer import GPT2_SMALL, TINY
    >>> n_parameters(TINY), n_parameters(GPT2_SMALL)
    (131904, 124439808)
    """
    return sum(parameter_counts(config).values())


def forward_flops_per_token(config: TransformerConfig, n_positions: int) -> int:
    """Return the matrix arithmetic for reading a sequence, in FLOPs per token.

    Each weight of each matrix counts as a multiplication and an addition; so does each
    coordinate of each pair of positions, once in the scores and once in the mixture
    of values. All pairs count, although the mask hides almost half of them: that is
    how `torch.utils.flop_counter` counts. Norms, softmax, biases and the like are left
    out: they are a small share of the arithmetic (not of the time).

    Args:
        config: The model's config.
        n_positions: Length of the sequence, in tokens.

    Source: Hoffmann et al. (2022), appendix F; Kaplan et al. (2020), section 2.1.

    >>> from llmcourse.model.transformer import TINY
    >>> forward_flops_per_token(TINY, n_positions=1) / n_parameters(TINY)  # about 2
    1.99...
    """
    pairs = config.n_layers * config.n_heads * config.d_head * n_positions
    return 2 * sum(_matrices(config).values()) + 4 * pairs


def kv_bytes_per_token(
    n_layers: int, n_kv_heads: int, d_head: int, bytes_per_number: float | int = 2
) -> float | int:
    """Return how much a key-value cache grows with each token, in bytes.

    Args:
        n_layers: Layers of the model.
        n_kv_heads: Key-value heads in a layer.
        d_head: Width of each head.
        bytes_per_number: 2 for bfloat16.

    >>> kv_bytes_per_token(32, 8, 128) / 2**10  # Llama 3 8B, in KiB
    128.0
    """
    return 2 * n_layers * n_kv_heads * d_head * bytes_per_number


def kv_cache_bytes(config: TransformerConfig, n_positions: int) -> int:
    """Return the memory of one sequence's key-value cache in float32, in bytes.

    Args:
        config: The model's config.
        n_positions: Length of the sequence, in tokens.

    >>> from llmcourse.model.transformer import TINY
    >>> kv_cache_bytes(TINY, n_positions=128)  # 2 layers · (key, value) · 64 · 128 · 4
    131072
    """
    sizes = config.n_layers, config.n_kv_heads, config.d_head
    return n_positions * int(kv_bytes_per_token(*sizes, bytes_per_number=4))


def _attention_widths(config: TransformerConfig) -> tuple[int, int]:
    """Return the total widths of the query heads and of the key-value heads."""
    return config.n_heads * config.d_head, config.n_kv_heads * config.d_head


def _matrices(config: TransformerConfig) -> dict[str, int]:
    """Return how many weights each token is multiplied by, without biases."""
    width, layers = config.d_model, config.n_layers
    queries, keys = _attention_widths(config)
    per_network = 2 if config.family == "gpt2" else 3  # up and down; gate, up and down
    return {
        # query and output, key and value
        "attention": layers * width * (2 * queries + 2 * keys),
        "feed_forward": layers * per_network * width * config.d_ff,
        "unembedding": config.vocab_size * width,  # tied or not, it is used
    }


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of new tensors inside a `with` block.

    >>> import torch
    >>> with PeakMemory() as memory:
    ...     x = torch.ones(1000)  # 4,000 bytes
    ...     y = x + x  # twice that, and then the first is dropped
    ...     del x
    ...     z = y * 2
    >>> memory.peak, memory.live
    (8000, 8000)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0  # bytes of the tensors held now
        self.peak = 0  # bytes, the most held at once
        self._places: set[int] = set()  # addresses of the tensors held now

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count the tensors it made."""
        read = {_place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and _place(tensor) not in read:
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        place, storage = _place(tensor), tensor.untyped_storage()
        if place in self._places or storage.nbytes() == 0:
            return
        self._places.add(place)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, place, storage.nbytes())

    def _drop(self, place: int, n_bytes: int) -> None:
        self._places.discard(place)
        self.live -= n_bytes


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
