"""What a text costs: by hand, in any company, and in windows where it is long."""

import json
import math
from copy import deepcopy

import pytest
import torch

from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.documents import tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import evaluation as module
from llmcourse.training.evaluation import document_nll, text_loss, token_losses

TEXTS = [document.text for document in tales(4, seed=5)]
END = "<|endoftext|>"
SIZES = TransformerConfig(
    vocab_size=281,
    d_model=12,
    n_layers=2,
    n_heads=3,
    n_kv_heads=1,
    d_ff=20,
    context_length=9,
)


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXTS, 281, [END])


@pytest.fixture(scope="module")
def model():
    return Transformer(SIZES, torch.Generator().manual_seed(0))


@pytest.fixture
def clueless():
    """A model to which all tokens are alike: every logit is zero."""
    model = Transformer(SIZES)
    with torch.no_grad():
        model.norm.weight.zero_()
    return model


def test_a_clueless_model_pays_log_v_for_every_token(clueless, tokenizer):
    """The text "ab" is 2 tokens and its end: 3 · log 281 nats for 2 bytes."""
    loss = text_loss(clueless, tokenizer, ["ab"])
    n_tokens = len(tokenizer.encode("ab")) + 1
    assert loss.n_tokens == n_tokens
    assert loss.loss == pytest.approx(math.log(281))
    assert loss.perplexity == pytest.approx(281)
    assert loss.bits_per_byte == pytest.approx(n_tokens * math.log2(281) / 2)
    assert (loss.n_documents, loss.n_bytes) == (1, 2)


def test_bytes_are_those_of_utf8(clueless, tokenizer):
    assert text_loss(clueless, tokenizer, ["é狐", "a"]).n_bytes == 2 + 3 + 1


@pytest.mark.parametrize("most", [1, 281 * 9 * 4, 1 << 24])
def test_a_document_costs_the_same_in_any_company(model, tokenizer, monkeypatch, most):
    monkeypatch.setattr(module, "_MOST_LOGITS", most)
    texts = [TEXTS[0][:5], TEXTS[1], "", TEXTS[2][:31]]
    prices, n_tokens = document_nll(model, tokenizer, texts)
    for text, price, n in zip(texts, prices, n_tokens, strict=True):
        alone = document_nll(model, tokenizer, [text])
        assert alone == ([pytest.approx(price, rel=1e-5)], [n])


def test_short_documents_cost_what_one_pass_says(tokenizer):
    model = Transformer(SIZES, torch.Generator().manual_seed(1))
    short, prices = [text[:5] for text in TEXTS], []
    for text in short:
        end = tokenizer.special_tokens[END]
        ids = [end, *tokenizer.encode(text), end]
        probs = model(torch.tensor([ids[:-1]]))[0].softmax(-1)
        prices += [-probs[t, id_].log().item() for t, id_ in enumerate(ids[1:])]
    loss = text_loss(model, tokenizer, short).loss
    assert loss == pytest.approx(sum(prices) / len(prices), rel=1e-5)


def test_long_documents_are_read_in_windows_that_overlap_by_half(model, tokenizer):
    """Of 9 targets a further window has 5 new ones, so each is read 4 before it."""
    ids = [tokenizer.special_tokens[END], *tokenizer.encode(TEXTS[3][:90])]
    ids.append(ids[0])
    assert len(ids) > 3 * 9
    price = 0.0
    for k in range(1, len(ids)):
        start = 0 if k <= 9 else 5 + 5 * ((k - 10) // 5)
        assert k - start <= 9
        assert start == 0 or k - start >= 5  # the four before the new ones, at least
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:k]]))[0, -1]
        price -= logits.log_softmax(0)[ids[k]].item()
    prices, n_tokens = document_nll(model, tokenizer, [TEXTS[3][:90]])
    assert prices == [pytest.approx(price, rel=1e-5)]
    assert n_tokens == [len(ids) - 1]


def test_progress_ends_where_all_is_read(model, tokenizer):
    seen = []
    document_nll(model, tokenizer, TEXTS[:2], lambda *at: seen.append(at))
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[0]
    assert len(set(totals)) == 1


def test_losses_are_not_rounded_as_the_weights_are(model, tokenizer):
    """In bfloat16 the logits are; the losses are those logits' in float32."""
    low = deepcopy(model).bfloat16()
    ids, losses = token_losses(low, tokenizer, TEXTS[0][:9])
    with torch.inference_mode():
        wanted = -low(ids[None, :-1])[0].double().log_softmax(-1)
    wanted = wanted.gather(-1, ids[1:, None])[:, 0]
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-5)
    nats, _ = document_nll(low, tokenizer, [TEXTS[0][:9]])
    assert nats == [pytest.approx(wanted.sum().item(), rel=1e-5)]


def test_json_has_derived_numbers_too(model, tokenizer):
    loss = text_loss(model, tokenizer, TEXTS[:1])
    found = json.loads(json.dumps(loss.to_json()))
    assert found["perplexity"] == loss.perplexity
    assert found["bits_per_byte"] == loss.bits_per_byte
    assert found["n_tokens"] == loss.n_tokens


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_refused(model, tokenizer, texts):
    with pytest.raises(ValueError, match="bytes of text must be at least 1, got 0"):
        text_loss(model, tokenizer, texts)


def test_a_tokenizer_without_an_end_is_refused(model):
    bare = BPETokenizer.train(TEXTS, 281, ["<pad>"])
    with pytest.raises(ValueError, match=r"<\|endoftext\|>, got one with <pad>"):
        text_loss(model, bare, ["a"])
