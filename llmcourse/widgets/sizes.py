"""Sizes of well-known models, for the explorers of memory and context."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from llmcourse.arguments import check_range
from llmcourse.model.transformer import GPT2_SMALL, SMOLLM2_135M, TransformerConfig

_LLAMA3_8B = replace(
    SMOLLM2_135M,
    vocab_size=128_256,
    d_model=4096,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    d_ff=14_336,
    rope_base=500_000.0,
    tied_embeddings=False,
)
_LLAMA_7B = replace(
    _LLAMA3_8B,
    vocab_size=32_000,
    n_kv_heads=32,
    d_ff=11_008,
    context_length=2048,
    rope_base=10_000.0,
)

# As published: Radford et al. (2019), Ben Allal et al. (2025), Touvron et al. (2023),
# Grattafiori et al. (2024), Llama 3 with its original window.
KNOWN_MODELS: Final[Mapping[str, TransformerConfig]] = {
    "GPT-2 small": GPT2_SMALL,
    "SmolLM2-135M": SMOLLM2_135M,
    "Llama 7B": _LLAMA_7B,
    "Llama 3 8B": _LLAMA3_8B,
    "Llama 3 70B": replace(
        _LLAMA3_8B, d_model=8192, n_layers=80, n_heads=64, d_ff=28_672
    ),
}


def cache_sizes(models: Mapping[str, TransformerConfig]) -> list[dict[str, Any]]:
    """Return what the page must know to compute models' cache sizes.

    Raises:
        ValueError: If there is no model.
    """
    check_range(1, models=len(models))
    return [
        {
            "name": name,
            "layers": config.n_layers,
            "heads": config.n_heads,
            "kv_heads": config.n_kv_heads,
            "d_head": config.d_head,
            "context": config.context_length,
        }
        for name, config in models.items()
    ]
