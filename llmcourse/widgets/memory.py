"""The explorer of memory: how much a model takes, in use and in training."""

from collections.abc import Mapping

from llmcourse.arguments import check_positive, check_range
from llmcourse.model.transformer import TransformerConfig
from llmcourse.widgets.base import Explorer, script
from llmcourse.widgets.sizes import cache_sizes


class MemoryExplorer(Explorer):
    """Show what weights, gradients, optimizer and cache take of a card's memory.

    Sizes are computed as in `llmcourse.model.costs`. Training is with AdamW; its
    activations come in addition.

    Args:
        models: Name to config; plain models of either family.
        cards: Name to memory, in bytes.

    Raises:
        ValueError: If there is no model or no card, a card has no memory, or a model
            has `qkv_bias` or `qk_norm`.

    >>> from llmcourse.model.transformer import TINY
    >>> MemoryExplorer({"tiny": TINY}, {"H100": 80e9})
    MemoryExplorer(tiny; H100)
    """

    _css = script("explorer.css", "panels.css")
    _esm = script("common.js", "panels.js", "memory.js")

    def __init__(
        self, models: Mapping[str, TransformerConfig], cards: Mapping[str, float | int]
    ) -> None:
        check_range(1, cards=len(cards))
        check_positive(**cards)
        sizes = cache_sizes(models)
        for size, (name, config) in zip(sizes, models.items(), strict=True):
            if config.qkv_bias or config.qk_norm:
                raise ValueError(
                    f"qkv_bias and qk_norm cannot be shown, but {name} has one"
                )
            learned = config.position_encoding == "learned"
            size |= {
                "vocab": config.vocab_size,
                "width": config.d_model,
                "d_ff": config.d_ff,
                "positions": config.context_length if learned else 0,
                "gpt2": config.family == "gpt2",
                "tied": config.tied_embeddings,
            }
        super().__init__(
            f"{', '.join(models)}; {', '.join(cards)}",
            models=sizes,
            cards=[{"name": name, "bytes": n} for name, n in cards.items()],
        )
