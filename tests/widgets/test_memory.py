"""The memory explorer: its numbers in Node beside `llmcourse.model.costs`.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

from dataclasses import replace

import pytest

from llmcourse.model.costs import kv_bytes_per_token, n_parameters
from llmcourse.model.transformer import TINY
from llmcourse.widgets.memory import MemoryExplorer
from llmcourse.widgets.sizes import KNOWN_MODELS

MODELS = {
    "tiny": TINY,
    **KNOWN_MODELS,
    "shared": replace(KNOWN_MODELS["Llama 3 8B"], n_kv_heads=1),
    "untied": replace(TINY, tied_embeddings=False, head_width=20, positions="learned"),
}
EXPLORER = MemoryExplorer(MODELS, {"H100": 80e9})


def test_parameters_are_pythons(javascript):
    counts = javascript(MemoryExplorer, "x.map(m.parameters)", EXPLORER.models)
    assert counts == [n_parameters(config) for config in MODELS.values()]


def test_parts_are_pythons(javascript):
    """Each model, for each use: bytes a parameter, and the cache of who answers."""
    results = javascript(
        MemoryExplorer,
        "x.models.map((model) => m.USES.map((use) => [use, m.parts(model, use,"
        " x.setting), m.total(m.parts(model, use, x.setting))]))",
        {
            "models": EXPLORER.models,
            "setting": {"length": 300, "texts": 7, "bytesEach": 2},
        },
    )
    for config, uses in zip(MODELS.values(), results, strict=True):
        sizes = config.n_layers, config.n_kv_heads, config.d_head
        cache = 7 * 300 * kv_bytes_per_token(*sizes, 2)
        for use, parts, total in uses:
            each = use["weights"] + use["gradients"] + use["optimizer"]
            assert parts["cache"] == (cache if use["answers"] else 0)
            assert total == each * n_parameters(config) + parts["cache"]
            assert each == (use["weights"] if use["answers"] else 16)


def test_room_for_texts_by_hand(javascript):
    """Llama 3 8B on an H100, as the chapter on the window has it: 52 and 3 texts."""
    parts = "m.parts(x, m.USES[1], { length: %d, texts: 1, bytesEach: 2 })"
    model = EXPLORER.models[list(MODELS).index("Llama 3 8B")]
    texts = javascript(
        MemoryExplorer,
        f"[m.room({parts % 8192}, 80e9), m.room({parts % 131072}, 80e9),"
        f" m.room({parts % 8192}, 16e9)]",
        model,
    )
    assert texts == [52, 3, 0]


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (11_300_000, "11.3 MB"),
        (80e9, "80.0 GB"),
        (141e9, "141 GB"),
        (1.13e12, "1.1 TB"),
    ],
)
def test_bytes_are_written_in_thousands(javascript, n, text):
    assert javascript(MemoryExplorer, "m.decimalText(x)", n) == text


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="models must be at least 1, got 0"):
        MemoryExplorer({}, {"H100": 80e9})
    with pytest.raises(ValueError, match="cards must be at least 1, got 0"):
        MemoryExplorer({"tiny": TINY}, {})
    with pytest.raises(ValueError, match="none must be"):
        MemoryExplorer({"tiny": TINY}, {"none": 0})
    with pytest.raises(ValueError, match="cannot be shown, but qwen has one"):
        MemoryExplorer({"qwen": replace(TINY, qk_norm=True)}, {"H100": 80e9})
