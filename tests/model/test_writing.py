"""Text as it is drawn: whole characters, the same as all at once."""

import pytest
import torch

from llmcourse.model import generation
from llmcourse.model.generation import Sampling, generate, stream_text, write
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.tokenizers import BPETokenizer

END = "<|endoftext|>"
SIZES = TransformerConfig(
    vocab_size=257,
    d_model=8,
    n_layers=1,
    n_heads=2,
    n_kv_heads=1,
    d_ff=12,
    context_length=23,
)


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(["bytes alone"], 257, [END])


@pytest.fixture(scope="module")
def model():
    return Transformer(SIZES, torch.Generator().manual_seed(0))


def test_a_character_comes_when_its_last_byte_is_there(model, tokenizer, monkeypatch):
    """Each token is a byte here: 1 for a, 2 for é, 3 for 狐, 4 for 🦊."""
    drawn = []

    def fake(*_, **options):
        for id_ in tokenizer.encode("aé狐🦊"):
            drawn.append(id_)
            yield id_
        yield options["stop"][0]

    monkeypatch.setattr(generation, "stream", fake)
    seen = [(piece, len(drawn)) for piece in stream_text(model, tokenizer)]
    assert seen == [("a", 1), ("é", 3), ("狐", 6), ("🦊", 10)]


@pytest.mark.parametrize("prompt", ["", "é", "One"])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.5, top_k=9, top_p=0.8)]
)
def test_pieces_make_the_text_that_generation_writes(
    model, tokenizer, prompt, sampling
):
    end = tokenizer.special_tokens[END]
    ids = torch.tensor([end, *tokenizer.encode(prompt)])
    new = generate(
        model,
        ids,
        23 - len(ids),
        stop=[end],
        sampling=sampling,
        generator=torch.Generator().manual_seed(5),
    )
    text = tokenizer.decode(new.tolist(), skip_special_tokens=True)
    assert text.startswith(prompt)
    assert write(model, tokenizer, prompt, seed=5, sampling=sampling) == text
    pieces = list(stream_text(model, tokenizer, prompt, seed=5, sampling=sampling))
    assert prompt + "".join(pieces) == text
    assert all(pieces)


def test_max_new_tokens_is_obeyed_and_none_writes_nothing(model, tokenizer):
    assert write(model, tokenizer, "One", max_new_tokens=0) == "One"
    pieces = list(stream_text(model, tokenizer, "One", max_new_tokens=2))
    assert 0 < len(pieces) <= 2


def test_a_prompt_that_fills_the_context_is_returned(model, tokenizer):
    assert write(model, tokenizer, "x" * 22) == "x" * 22


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "x" * 23}, r"context_length = 23 tokens, got 24"),
        ({"prompt": "x", "max_new_tokens": 22}, "must fit into context_length = 23"),
        ({"max_new_tokens": -1}, "got 1 and -1"),
    ],
)
def test_refusals_come_before_the_first_piece(model, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        stream_text(model, tokenizer, **options)
    with pytest.raises(ValueError, match=message):
        write(model, tokenizer, **options)


def test_a_tokenizer_without_an_end_is_refused(model):
    bare = BPETokenizer.train(["bytes alone"], 257, ["<pad>"])
    with pytest.raises(ValueError, match="special token"):
        stream_text(model, bare)
