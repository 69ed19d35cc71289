"""Recipes: what their data is made of, and that following one is pretraining."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmcourse.model.transformer import Transformer
from llmcourse.text.documents import Document, tales
from llmcourse.training import pipeline
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Update
from llmcourse.training.pipeline import (
    PRESETS,
    TINY,
    follow,
    prepare,
    prepare_text,
    preset,
    split_or_cut,
)
from llmcourse.training.pretraining import pretrain

END = "<|endoftext|>"
CONFIG = replace(
    TINY,
    n_stories=100,
    seed=3,
    model=replace(TINY.model, vocab_size=310, d_model=8, d_ff=12, context_length=23),
    pretraining=replace(
        TINY.pretraining, steps=5, batch_size=2, context_length=17, eval_interval=2
    ),
)


@pytest.fixture(scope="module")
def data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "HELD_OUT_STORIES", 7)
        return prepare(CONFIG)


def texts_of(ids, tokenizer):
    """Return the documents of an array, which has a mark around each."""
    first, *texts, last = tokenizer.decode(ids.tolist()).split(END)
    assert first == last == ""
    return texts


def test_arrays_hold_the_tales_of_two_seeds(data):
    wanted = [document.text for document in tales(100, seed=3)]
    assert texts_of(data.train, data.tokenizer) == wanted
    held_out = [document.text for document in tales(7, seed=4)]
    assert texts_of(data.valid, data.tokenizer) == held_out
    assert not set(wanted) & set(held_out)
    assert data.train.dtype == data.valid.dtype == np.uint16
    assert data.start_token == data.tokenizer.special_tokens[END]


def test_a_few_stories_are_enough_for_the_tokenizer(monkeypatch):
    monkeypatch.setattr(pipeline, "TOKENIZER_STORIES", 9)
    monkeypatch.setattr(pipeline, "HELD_OUT_STORIES", 2)
    first = prepare(CONFIG).tokenizer
    more = prepare(replace(CONFIG, n_stories=101)).tokenizer
    assert first.merges == more.merges


def test_progress_counts_the_stories(monkeypatch):
    monkeypatch.setattr(pipeline, "HELD_OUT_STORIES", 2)
    seen = []
    prepare(CONFIG, lambda *at: seen.append(at))
    assert seen == [("tales", n, 100) for n in range(1, 101)]


def test_own_text_is_parted_and_read_everywhere():
    documents = list(tales(90, seed=1))
    data = prepare_text(CONFIG, documents)
    splits = split_or_cut(documents)
    train = texts_of(data.train, data.tokenizer)
    assert train == [document.text for document in splits["train"]]
    held_out = [*splits["validation"], *splits["test"]]
    assert list(data.held_out) == held_out
    assert texts_of(data.valid, data.tokenizer) == [d.text for d in held_out]
    assert data.start_token is None
    assert data.report.steps[0].documents_in == 90


def test_following_a_recipe_is_pretraining_its_model_on_its_data(data, tmp_path):
    seen = []
    trained = follow(
        CONFIG, Run(folder=tmp_path, interval=2, progress=seen.append), data=data
    )
    assert [r.step for r in seen if isinstance(r, Update)] == [1, 2, 3, 4, 5]
    model = Transformer(CONFIG.model, torch.Generator().manual_seed(3))
    history = pretrain(
        model,
        data.train,
        data.valid,
        CONFIG.pretraining,
        torch.Generator().manual_seed(3),
        start_token=data.start_token,
    )
    assert trained.history == history
    assert trained.tokenizer is data.tokenizer
    theirs = model.state_dict()
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, theirs[name]), name
    assert sorted(path.stem for path in tmp_path.iterdir()) == [
        "step-00000004",
        "step-00000005",
    ]


def test_data_is_prepared_where_none_is_given(data, monkeypatch):
    monkeypatch.setattr(pipeline, "HELD_OUT_STORIES", 7)
    assert follow(CONFIG).history == follow(CONFIG, data=data).history


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_model_and_needs_no_story_twice(name):
    config = preset(name)
    training = config.pretraining
    assert training.context_length <= config.model.context_length
    assert training.eval_interval <= training.steps
    assert training.steps * training.batch_size <= config.n_stories


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="base-llm, small, tiny, got 'large'"):
        preset("large")


def test_too_little_text_is_refused():
    text = next(tales(1, seed=0)).text
    wide = replace(CONFIG.model, vocab_size=258, context_length=99)
    long = replace(CONFIG.pretraining, context_length=99)
    assert len(text) / 20 < 99 < len(text)
    with pytest.raises(ValueError, match="must have more than 99 tokens"):
        prepare_text(replace(CONFIG, model=wide, pretraining=long), [Document(text)])


def test_a_vocabulary_that_the_tales_cannot_fill_is_refused():
    huge = replace(CONFIG, model=replace(CONFIG.model, vocab_size=70_000))
    with pytest.raises(ValueError, match="vocab_size must be at most"):
        prepare(huge)
