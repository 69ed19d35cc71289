"""The window explorer: its numbers in Node beside the package's.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import json

import pytest
import torch

from llmcourse.model.attention import causal_mask
from llmcourse.model.costs import kv_bytes_per_token, n_parameters
from llmcourse.model.folders import load_pretrained
from llmcourse.model.long_context import sliding_window_mask
from llmcourse.model.transformer import TINY
from llmcourse.text import tales
from llmcourse.text.tokenizers import CharacterTokenizer
from llmcourse.widgets.sizes import KNOWN_MODELS
from llmcourse.widgets.tokens import page_tokenizer
from llmcourse.widgets.window import WindowExplorer

N = 23


@pytest.fixture(scope="module")
def tokenizer():
    return load_pretrained("base-llm")[1]


def mask_of(kind, window, sinks):
    """Return who sees whom, (N, N), as the package and the chapter's exercise do."""
    if kind == "full":
        return causal_mask(N, N)
    mask = sliding_window_mask(N, N, window)
    if kind == "sinks":
        mask[:, :sinks] |= causal_mask(N, N)[:, :sinks]
    return mask


@pytest.mark.parametrize("kind", ["full", "window", "sinks"])
@pytest.mark.parametrize(
    ("window", "sinks"), [(1, 0), (1, 3), (5, 2), (22, 4), (40, 8)]
)
def test_what_a_query_sees_and_costs_is_pythons(javascript, kind, window, sinks):
    mask = mask_of(kind, window, sinks)
    argument = {
        "kind": kind,
        "n": N,
        "set": {"window": window, "sinks": sinks},
        "model": {"layers": 3, "kv_heads": 2, "d_head": 8},
    }
    seen, pairs, kept, each = javascript(
        WindowExplorer,
        "[Array.from({ length: x.n }, (_, t) => Array.from({ length: x.n },"
        " (_, s) => m.sees(x.kind, t, s, x.set))), m.pairs(x.kind, x.n, x.set),"
        " m.kept(x.kind, x.n, x.set), m.cachePerToken(x.model, 2)]",
        argument,
    )
    assert torch.equal(torch.tensor(seen), mask)
    assert pairs == mask.sum()
    assert kept == mask.sum(dim=1).max()
    assert each == kv_bytes_per_token(3, 2, 8, 2)


@pytest.mark.parametrize(("layers", "window"), [(1, 3), (2, 3), (3, 5), (4, 1)])
def test_reach_is_that_of_masks_one_after_the_other(javascript, layers, window):
    reached = torch.matrix_power(sliding_window_mask(N, N, window).long(), layers) > 0
    for t in (0, 4, N - 1):
        far = javascript(
            WindowExplorer,
            "m.reach('window', x.t, { window: x.window }, x.layers)",
            {"t": t, "window": window, "layers": layers},
        )
        assert far == t - int(reached[t].nonzero().min())


def test_tokens_are_pythons(javascript, tokenizer):
    tale = next(tales.generate(1, seed=0)).text
    for text in (tale, "naïve 東京 🙂 don't\n\n  2,000 שלום", "x" * 500):
        ids, pieces = javascript(
            WindowExplorer,
            "((ids) => [ids, ids.map((id) => m.pieceBytes(x.spec)[id])])"
            "(m.quickEncoder(x.spec)(x.text))",
            {"spec": json.loads(page_tokenizer(tokenizer)), "text": text},
        )
        assert ids == tokenizer.encode(text)
        assert b"".join(map(bytes, pieces)) == text.encode()


def test_what_is_shown_is_the_beginning_and_what_is_about_the_query(javascript):
    places = javascript(
        WindowExplorer,
        "m.shownPlaces(20, 40, { first: 2, before: 3, after: 1 })",
        None,
    )
    assert places == [0, 1, 17, 18, 19, 20, 21]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "There is no text"),
        (" \n", "There is no text"),
        ("a b " * 25_000, "At most 40,000 characters"),
        ("a\ud800", "lone surrogate"),
        ("🙂 שלום", None),
        ("x" * 3000, "without a space"),
    ],
)
def test_what_cannot_be_read_is_told(javascript, text, message):
    said = javascript(WindowExplorer, "m.faultOf(x)", text)
    assert said is None if message is None else message in said


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (2**37, "128 GiB")],
)
def test_bytes_are_written_by_two_or_more_digits(javascript, n, text):
    assert javascript(WindowExplorer, "m.bytesText(x)", n) == text


def test_known_models_have_the_parameters_that_are_published():
    published = {
        "GPT-2 small": 124_439_808,
        "SmolLM2-135M": 134_515_008,
        "Llama 7B": 6_738_415_616,
        "Llama 3 8B": 8_030_261_248,
        "Llama 3 70B": 70_553_706_496,
    }
    assert {name: n_parameters(c) for name, c in KNOWN_MODELS.items()} == published


def test_the_state_is_plain_and_small(tokenizer):
    explorer = WindowExplorer("an owl", tokenizer, KNOWN_MODELS)
    state = {name: explorer.get_state()[name] for name in explorer.keys}
    assert len(json.dumps(state)) < 120_000
    assert explorer.models[3]["kv_heads"] == 8
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


def test_what_cannot_be_shown_is_refused(tokenizer):
    with pytest.raises(ValueError, match="not empty"):
        WindowExplorer("", tokenizer, {"tiny": TINY})
    with pytest.raises(ValueError, match="models must be at least 1, got 0"):
        WindowExplorer("a", tokenizer, {})
    with pytest.raises(ValueError, match="plain BPE tokenizer of at most 5000"):
        WindowExplorer("a", CharacterTokenizer(), {"tiny": TINY})
