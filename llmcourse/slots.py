"""Sequences of different lengths, read on side by side: one token each.

    slot 0   t t t t t t t ●           ●  the token that is read now
    slot 1   t t ●                     t  keys and values that are there
    slot 2   (free)
    slot 3   t t t t t ●

`KVCache` is for sequences that began together. Here each slot has a length of its own,
so that one sequence can leave and another take its place while the rest goes on.

What a sequence gets does not depend on the others, to the last bit. A processor adds up
a product of matrices in an order that depends on their shapes, so the shapes must not
depend on who is there: all matrices have a row for every slot, free or not, and each
sequence looks at a number of keys that follows from its own length alone. Nor must
anything depend on the slot: there is a multiple of 16 rows, because the last numbers of
a list, if they do not fill a processor's vector, are computed in another way.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from llmcourse.attention import GroupedQueryAttention, KVCache, causal_attention
from llmcourse.positions import apply_rope
from llmcourse.quantization import QuantizedEmbedding
from llmcourse.transformer import Block, Transformer

_FEWEST_KEYS = 32
_ROWS = 16  # times a width that is a multiple of 4: four vectors of 16 floats


class SlotCache:
    """Keys and values of several sequences, each of a length of its own.

    Args:
        model: Whose keys and values they are.
        n_slots: Most sequences at a time.
        capacity: Most positions of each; None takes the model's `context_length`.

    Raises:
        ValueError: If there is no slot or no room, or if the model reads in a way that
            `read_next` does not: attention of another kind, an embedding that looks
            around, subclasses or hooks of the parts that are not called.

    >>> from llmcourse.transformer import TINY
    >>> cache = SlotCache(Transformer(TINY), n_slots=3, capacity=40)
    >>> cache.lengths, cache.n_bytes
    ([0, 0, 0], 122880)
    """

    def __init__(
        self, model: Transformer, n_slots: int, capacity: int | None = None
    ) -> None:
        if not _reads_as_usual(model):
            raise ValueError(
                "slots need a model whose attention looks at all keys, with a plain "
                "embedding, without subclasses or hooks of model, blocks and attention"
            )
        rows = model.new_cache(n_slots, capacity)
        self.keys, self.values = rows.keys, rows.values  # (L, slot, K, S, d_head)
        self.capacity = rows.capacity
        self.lengths = [0] * n_slots  # in positions

    @property
    def n_bytes(self) -> int:
        """Memory taken by keys and values together, in bytes."""
        return self.keys.nbytes + self.values.nbytes

    def fill(self, slot: int, cache: KVCache) -> None:
        """Put a sequence that was read by itself into a slot.

        Raises:
            ValueError: If it is longer than the slot, or not one sequence.
        """
        n = cache.length
        if cache.keys.shape[1] != 1 or n > self.capacity:
            raise ValueError(
                f"a slot holds 1 sequence of at most {self.capacity} positions, "
                f"got {cache.keys.shape[1]} of {n}"
            )
        self.keys[:, slot, :, :n] = cache.keys[:, 0, :, :n]
        self.values[:, slot, :, :n] = cache.values[:, 0, :, :n]
        self.lengths[slot] = n

    def free(self, slot: int) -> None:
        """Let the next sequence have a slot."""
        self.lengths[slot] = 0


def _reads_as_usual(model: Transformer) -> bool:
    """Return whether `read_next` does what the model does.

    Model, blocks and attention layers are not called there, only what is inside them.
    """
    kinds = {Transformer, Block, GroupedQueryAttention}
    replaced = [part for part in model.modules() if isinstance(part, tuple(kinds))]
    return (
        type(model.embedding) in (nn.Embedding, QuantizedEmbedding)
        and len(replaced) == 1 + 2 * model.config.n_layers
        and all(
            type(part) in kinds
            and getattr(part, "attend", causal_attention) is causal_attention
            and not part._forward_hooks
            and not part._forward_pre_hooks
            for part in replaced
        )
    )


@torch.inference_mode()
def read_prompt(
    model: Transformer, ids: Int[Tensor, "prompt"], cache: SlotCache, slot: int
) -> Float[Tensor, "vocab"]:
    """Read a prompt into a slot; return the logits (no unit) of what comes next.

    The prompt is read by itself, all of its tokens at once.

    Raises:
        ValueError: If it is empty or does not fit, or as the model.
    """
    own = model.new_cache(1, capacity=max(1, len(ids)))
    logits: Tensor = model(ids[None], own)[0, -1]
    cache.fill(slot, own)
    return logits


@torch.inference_mode()
def read_next(
    model: Transformer, ids: dict[int, int], cache: SlotCache
) -> Float[Tensor, "row vocab"]:
    """Read one more token in some slots; return the logits (no unit), a row for each.

    Args:
        model: The model.
        ids: The token for each slot that has one. The result's other rows, and those
            behind the last slot's, mean nothing.
        cache: Is extended by these tokens.

    Raises:
        ValueError: If a slot is empty or full.
    """
    for slot in ids:
        if not 0 < cache.lengths[slot] < cache.capacity:
            raise ValueError(
                f"slot {slot} must hold 1 … {cache.capacity - 1} positions to read "
                f"on, got {cache.lengths[slot]}"
            )
    n_rows = -(-len(cache.lengths) // _ROWS) * _ROWS
    row_ids = torch.zeros(n_rows, 1, dtype=torch.int64)
    here = torch.zeros(n_rows, dtype=torch.int64)  # position of each row's token
    for slot, new in ids.items():
        row_ids[slot, 0], here[slot] = new, cache.lengths[slot]
    x: Tensor = model.embedding(row_ids)  # (row, 1, D)
    if model.positions is not None:
        x = x + model.positions.weight[here, None]
    angles = None
    if model.cos is not None and model.sin is not None:
        angles = model.cos[here], model.sin[here]  # (row, d_head / 2)
    groups = _groups(cache, torch.tensor(sorted(ids)))
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        x = x + _attend(block, x, angles, cache, layer, groups)
        x = x + block.feed_forward(block.feed_forward_norm(x))
    for slot in ids:
        cache.lengths[slot] += 1
    x = model.norm(x)[:, 0]
    if model.unembedding is None:
        return linear(x, model.embedding.weight)
    logits: Tensor = model.unembedding(x)
    return logits


class _Group(NamedTuple):
    """Slots that look at equally many keys."""

    slots: Int[Tensor, "group"]
    places: Int[Tensor, "group"]  # where their new keys go
    n_keys: int
    mask: Bool[Tensor, "group 1 1 key"]  # True where a key may be looked at


def _groups(cache: SlotCache, slots: Int[Tensor, "chosen"]) -> list[_Group]:
    places = torch.tensor(cache.lengths)[slots]
    widths = [_n_keys(place + 1, cache.capacity) for place in places.tolist()]
    groups = []
    for width in sorted(set(widths)):
        chosen = torch.tensor(widths) == width
        mask = torch.arange(width) <= places[chosen, None]
        groups.append(_Group(slots[chosen], places[chosen], width, mask[:, None, None]))
    return groups


def _attend(
    block: Block,
    x: Float[Tensor, "row 1 d_model"],
    angles: tuple[Tensor, Tensor] | None,
    cache: SlotCache,
    layer: int,
    groups: list[_Group],
) -> Float[Tensor, "row 1 d_model"]:
    """Return what each slot's new token gathers from itself and those before it."""
    attention, normed = block.attention, block.attention_norm(x)
    query, key, value = (
        projection(normed).view(len(x), -1, attention.d_head)
        for projection in (attention.query, attention.key, attention.value)
    )  # (row, H, d_head), (row, K, d_head) twice
    if angles is not None:
        # Each row is at a position of its own, so rows stand where positions do.
        query, key = (
            apply_rope(heads.transpose(0, 1), *angles).transpose(0, 1)
            for heads in (query, key)
        )
    context = torch.zeros_like(query)
    grouped = query.shape[1] > key.shape[1]
    for slots, places, n_keys, mask in groups:
        cache.keys[layer, slots, :, places] = key[slots]
        cache.values[layer, slots, :, places] = value[slots]
        context[slots] = scaled_dot_product_attention(
            query[slots, :, None],
            cache.keys[layer, slots, :, :n_keys],
            cache.values[layer, slots, :, :n_keys],
            attn_mask=mask,
            enable_gqa=grouped,
        )[:, :, 0]
    update: Tensor = attention.output(context.flatten(1)[:, None])
    return update


def _n_keys(length: int, capacity: int) -> int:
    """Return how many keys a sequence looks at, those past its end masked.

    >>> _n_keys(1, 100), _n_keys(33, 100), _n_keys(65, 100)
    (32, 64, 100)
    """
    width = _FEWEST_KEYS
    while width < length:
        width *= 2
    return min(width, capacity)
