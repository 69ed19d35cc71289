"""Models that look back in other ways: what each position can reach."""

import pytest
import torch

from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.inspection import attention_weights
from llmcourse.model.long_context import (
    ATTENTION_KINDS,
    new_window_cache,
    set_attention,
)
from llmcourse.model.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=37,
    d_model=24,
    n_layers=2,
    n_heads=3,
    n_kv_heads=1,
    d_ff=20,
    context_length=23,
)


def make_model(kind="full", window=4):
    model = Transformer(CONFIG, torch.Generator().manual_seed(0))
    set_attention(model, kind, window)
    return model.eval()


def ids(length):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(37, (2, length), generator=generator)


def reach(model, length=17):
    """Positions back from the last one whose token matters to it."""
    read = ids(length)
    before = model(read)[:, -1]
    found = []
    for place in range(length):
        other = read.clone()
        other[:, place] = (other[:, place] + 1) % 37
        if not torch.equal(model(other)[:, -1], before):
            found.append(length - 1 - place)
    return found


# Worked example


def test_two_layers_of_window_four_reach_back_over_six_positions():
    """Each layer adds three: the position itself is the fourth of its window."""
    assert reach(make_model("window", window=4)) == list(range(6, -1, -1))


# Law


@pytest.mark.parametrize("kind", ["full", "linear"])
def test_the_others_reach_back_to_the_start(kind):
    assert reach(make_model(kind)) == list(range(16, -1, -1))


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_no_kind_sees_the_future_or_has_weights_of_its_own(kind):
    model, read = make_model(kind), ids(11)
    torch.testing.assert_close(model(read[:, :5]), model(read)[:, :5])
    assert model.state_dict().keys() == make_model().state_dict().keys()


@torch.inference_mode()
@pytest.mark.parametrize("pieces", [[1] * 19, [7, 1, 9, 2]])
def test_a_window_cache_changes_nothing_for_a_model_with_that_window(pieces):
    model, read = make_model("window", window=4), ids(19)
    cache = new_window_cache(model, window=4, batch_size=2)
    n_bytes, parts = cache.n_bytes, []
    for part in torch.split(read, pieces, dim=1):
        parts.append(model(part, cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), model(read))
    assert cache.n_bytes == n_bytes == 2 * 2 * 2 * 1 * 4 * 8 * 4


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_all_kinds_write_the_same_with_a_cache_and_without(kind):
    model, prompt = make_model(kind), ids(4)
    wanted = generate(model, prompt, 17, sampling=GREEDY, use_cache=False)
    assert torch.equal(generate(model, prompt, 17, sampling=GREEDY), wanted)


def test_back_to_full_attention():
    model = make_model("linear")
    set_attention(model, "full")
    assert torch.equal(model(ids(9)), make_model()(ids(9)))


# Refusal


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="kind must be one of full, window, linear"):
        make_model("sparse")
    with pytest.raises(ValueError, match="window must be at least 1"):
        make_model("window", window=0)
    with pytest.raises(ValueError, match="full attention only"):
        attention_weights(make_model("linear"), ids(5))
    model, tokenizer = load_pretrained("base-llm")
    set_attention(model, "window")
    with pytest.raises(ValueError, match="saved with full attention"):
        save_pretrained(model, tokenizer, tmp_path / "model")
    assert not (tmp_path / "model").exists()
