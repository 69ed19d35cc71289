"""Data that is kept: read back as it was, made anew, or refused."""

from dataclasses import replace

import pytest

from llmcourse.text.documents import tales
from llmcourse.text.packing import tokenizer_fingerprint
from llmcourse.training import pipeline, presets
from llmcourse.training.pipeline import kept_or_made

CONFIG = replace(
    presets.TINY,
    model=replace(presets.TINY.model, vocab_size=300),
    pretraining=replace(presets.TINY.pretraining, context_length=19),
)
MADE_OF = {"texts": "those", "steps": ["clean"]}


@pytest.fixture(scope="module")
def data():
    return pipeline.prepare_text(CONFIG, tales(90, seed=1))


def never():
    raise AssertionError("made anew")


def test_what_is_kept_is_what_was_made(data, tmp_path):
    assert kept_or_made(tmp_path, MADE_OF, lambda: data) is data
    found = kept_or_made(tmp_path, MADE_OF, never)
    assert found.train.dtype == data.train.dtype
    assert found.train.tolist() == data.train.tolist()
    assert found.valid.tolist() == data.valid.tolist()
    assert found.start_token is data.start_token is None
    assert [d.text for d in found.held_out] == [d.text for d in data.held_out]
    ours, theirs = map(tokenizer_fingerprint, (found.tokenizer, data.tokenizer))
    assert ours == theirs


def test_a_tokenizer_that_the_data_has_anyway_is_taken(data, tmp_path):
    kept_or_made(tmp_path, MADE_OF, lambda: data)
    found = kept_or_made(tmp_path, MADE_OF, never, data.tokenizer)
    assert found.tokenizer is data.tokenizer


@pytest.mark.parametrize("name", ["tokens.safetensors", "tokenizer.json"])
def test_what_is_damaged_is_made_anew(data, tmp_path, name):
    kept_or_made(tmp_path, MADE_OF, lambda: data)
    path = tmp_path / "prepared" / name
    path.write_bytes(path.read_bytes()[:-20])
    assert kept_or_made(tmp_path, MADE_OF, lambda: data) is data
    assert kept_or_made(tmp_path, MADE_OF, never) is not data


def test_other_text_is_made_anew_unless_something_was_trained(data, tmp_path):
    kept_or_made(tmp_path, MADE_OF, lambda: data)
    other = MADE_OF | {"texts": "others"}
    assert kept_or_made(tmp_path, other, lambda: data) is data
    assert kept_or_made(tmp_path, other, never) is not data
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000000.safetensors").touch()
    with pytest.raises(ValueError, match="texts must be 'others', got 'those'"):
        kept_or_made(tmp_path, MADE_OF, never)


def test_a_tokenizer_of_another_run_is_not_taken(data, tmp_path):
    """As when a run ends between its two files."""
    kept_or_made(tmp_path, MADE_OF, lambda: data)
    smaller = replace(CONFIG, model=replace(CONFIG.model, vocab_size=280))
    other = pipeline.prepare_text(smaller, tales(90, seed=1))
    other.tokenizer.save(tmp_path / "prepared" / "tokenizer.json")
    assert kept_or_made(tmp_path, MADE_OF, lambda: data) is data
