"""The attention explorer: what Python packs, and what its JavaScript unpacks, in Node.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import json

import pytest
import torch

from llmcourse.model.attention import attention_weights
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.widgets.attention import AttentionExplorer

TEXTS = [["Mia", " ran", ".\n", " Mia", " slept"], [" Tom", " sat", "."]]
N_LAYERS, N_HEADS = 2, 3


@pytest.fixture(scope="module")
def weights():
    config = TransformerConfig(
        vocab_size=7,
        d_model=24,
        n_layers=N_LAYERS,
        n_heads=N_HEADS,
        n_kv_heads=N_HEADS,
        d_ff=20,
    )
    model = Transformer(config, torch.Generator().manual_seed(0))
    ids = ([3, 1, 0, 3, 2], [4, 5, 0])
    return [attention_weights(model, torch.tensor(row)) for row in ids]


def triangle(first, second):
    """Return the weights of two tokens, the second of which has these."""
    return torch.tensor([[[[1.0, 0.0], [first, second]]]])


# Worked example


def test_a_triangle_by_hand(javascript):
    """Rows (1) and (1/5, 4/5) are the bytes 255, 51, 204; the zero is left out."""
    explorer = AttentionExplorer(
        [["a", "b"]], [torch.tensor([[[[1.0, 0.0], [0.2, 0.8]]]])]
    )
    packed = explorer.texts[0]["weights"]
    assert javascript(AttentionExplorer, "[...m.unpack(x)]", packed) == [255, 51, 204]


def test_the_strongest_come_first_and_nothing_below_a_half_percent(javascript):
    weights = [0.1, 0.4, 0.004, 0.4, 0.096]
    assert javascript(AttentionExplorer, "m.strongest(x, 4)", weights) == [3, 1, 0, 4]
    assert javascript(AttentionExplorer, "m.strongest(x, 2)", weights) == [3, 1]
    assert javascript(AttentionExplorer, "m.strongest(x, 9)", weights) == [3, 1, 0, 4]


# Law


def test_the_page_sees_the_weights_of_each_head(javascript, weights):
    """Within half a step of 1/255."""
    explorer = AttentionExplorer(TEXTS, weights)
    script = """x.map(({ tokens, weights }) => [0, 1].map((l) => [0, 1, 2].map((h) =>
        tokens.map((_, q) => m.row(m.unpack(weights), tokens.length, 3, l, h, q)))))"""
    for page, exact in zip(
        javascript(AttentionExplorer, script, explorer.texts), weights, strict=True
    ):
        for layer in range(N_LAYERS):
            for head in range(N_HEADS):
                for query, row in enumerate(page[layer][head]):
                    expected = exact[layer, head, query, : query + 1].tolist()
                    assert row == pytest.approx(expected, abs=0.5 / 255 + 1e-6)


def test_the_strongest_head_of_the_first_kind_is_shown_first(javascript, weights):
    before = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.1, 0.2]])
    first = torch.tensor([[0.1, 0.8, 0.3], [0.2, 0.1, 0.2]])
    kinds = {"the token before": before, "the first token": first}
    explorer = AttentionExplorer(TEXTS, weights, kinds)
    assert (explorer.layer, explorer.head, explorer.query) == (2, 1, 5)
    assert [each["name"] for each in explorer.kinds] == list(kinds)
    found = javascript(
        AttentionExplorer, "x.map((k) => m.best(k.scores))", explorer.kinds
    )
    assert found == [[1, 0], [0, 1]]
    assert AttentionExplorer(TEXTS, weights, kinds, query=2).query == 2


def test_the_state_is_small_and_the_script_writes_no_markup(weights):
    explorer = AttentionExplorer(TEXTS, weights)
    assert repr(explorer) == "AttentionExplorer(2 texts, 2 layers of 3 heads)"
    state = {name: explorer.get_state()[name] for name in explorer.keys}
    n_weights = N_LAYERS * N_HEADS * (15 + 6)
    assert len("".join(text["weights"] for text in explorer.texts)) < 1.5 * n_weights
    assert len(json.dumps(state)) < 40_000
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


# Refusal


def test_refuses_what_does_not_fit(weights):
    one, other = weights
    short = one.clone()
    short[0, 0, 2] /= 2
    for texts, given, options, said in [
        ([], [], {}, "texts must be at least 1"),
        (TEXTS, [one], {}, "number of weights must be 2, got 1"),
        (TEXTS, [], {}, "number of weights must be 2, got 0"),
        (TEXTS, [one, other[:1]], {}, r"must be \(2, 3, 3, 3\)"),
        ([TEXTS[1]], [one], {}, r"3 tokens' weights must be \(2, 3, 3, 3\)"),
        ([TEXTS[0]], [short], {}, "sums from 0.5 to 1"),
        ([TEXTS[0]], [one.flip(-1)], {}, "shares of one"),
        ([TEXTS[0]], [one.log()], {}, "at least 0, got -"),
        ([["a", "b"]], [triangle(-0.5, 1.0)], {}, "at least 0, got -0.5"),
        ([["a", "b"]], [triangle(-0.5, 1.5)], {}, "at least 0, got -0.5"),
        ([["a", "b"], []], [triangle(0, 1), torch.ones(1, 1, 0, 0)], {}, "n_tokens"),
        (
            TEXTS,
            weights,
            {"kinds": {"k": torch.ones(2, 4)}},
            r"shape of 'k' must be \(2, 3\), got",
        ),
        (TEXTS, weights, {"query": 6}, "query must be in 1 … 5, got 6"),
    ]:
        with pytest.raises(ValueError, match=said):
            AttentionExplorer(texts, given, **options)
