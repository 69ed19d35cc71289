"""Every stage runs, on tales and on other text, the same way twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmcourse.model import generation
from llmcourse.model.costs import n_parameters
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.corpus import split
from llmcourse.text.documents import Document, tales
from llmcourse.text.packing import load_tokens, pack
from llmcourse.text.tales import generate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import pipeline
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import PretrainingConfig, Update
from llmcourse.training.pipeline import (
    _has_line,
    curriculum,
    fit_recipe,
    packed_data,
    prepare,
    prepare_text,
    run_recipe,
    split_or_cut,
)
from llmcourse.training.presets import PRESETS, TINY, PipelineConfig
from llmcourse.training.pretraining import pretrain

CONFIG = PipelineConfig(
    n_stories=120,
    model=TransformerConfig(
        context_length=640,
        vocab_size=300,
        d_model=16,
        n_layers=1,
        n_heads=2,
        n_kv_heads=1,
        d_ff=24,
    ),
    pretraining=PretrainingConfig(
        steps=2, batch_size=2, context_length=32, eval_examples=2
    ),
)


@pytest.fixture(scope="module")
def result():
    return pipeline.run(CONFIG)


def test_every_stage_leaves_something(result):
    assert len(texts_of(result.data.train, result.tokenizer)) > 80
    assert result.data.report.steps[-1].documents_out > 100
    assert result.tokenizer.vocab_size == 300
    assert len(result.history.updates) == 2
    assert result.floor is not None
    assert 0 < result.floor.value < result.history.evaluations[-1].loss


def test_the_same_seed_gives_the_same_model(result):
    again = pipeline.run(CONFIG)
    assert again.history == result.history
    other = pipeline.run(replace(CONFIG, seed=1))
    assert other.history != result.history


def test_other_text_has_no_known_floor(result):
    events = []
    documents = list(tales(150, seed=3))
    own = pipeline.run(CONFIG, documents, lambda *event: events.append(event))
    assert own.floor is None
    assert ("pretraining", 2, 2) in events
    stages = [*dict.fromkeys(stage for stage, _, _ in events)]
    assert stages[:3] == ["corpus", "tokenizer", "tokens"]


def test_token_array_equals_what_packing_writes(result, tmp_path):
    documents = result.data.held_out
    array = pipeline.token_array(documents, result.tokenizer)
    pack(documents, result.tokenizer, tmp_path / "a.bin")
    assert array[1:].tolist() == load_tokens(tmp_path / "a.bin").tolist()
    assert array[0] == array[-1]


def test_token_array_takes_the_type_that_is_asked_for(result):
    documents = result.data.held_out
    wide = pipeline.token_array(documents, result.tokenizer)
    narrow = pipeline.token_array(iter(documents), result.tokenizer, np.uint16)
    assert (wide.dtype, narrow.dtype) == (np.int64, np.uint16)
    assert narrow.tolist() == wide.tolist()
    with pytest.raises(ValueError, match="largest id of type uint8 must be in 0 … 255"):
        pipeline.token_array(documents, result.tokenizer, np.uint8)


def test_enough_documents_are_parted_whole():
    documents = list(tales(120, seed=2))
    assert pipeline.split_or_cut(documents) == split(documents)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_documents_are_cut_between_words(n):
    documents = split(list(tales(9, seed=6)))["train"][:n]
    assert not split(documents)["validation"]  # so that there is need
    parts = pipeline.split_or_cut(documents)
    for whole, train, held_out in zip(
        documents, parts["train"], parts["validation"], strict=True
    ):
        assert train.text + held_out.text == whole.text
        assert train.text.endswith(" ")
        assert 0.9 < len(train.text) / len(whole.text) <= 0.95
        assert train.name == held_out.name == whole.name
    assert parts["test"] == []


def test_a_text_without_white_space_is_cut_all_the_same():
    parts = pipeline.split_or_cut([Document("x" * 40)])
    assert [len(parts[name][0].text) for name in ("train", "validation")] == [38, 2]


def test_one_long_text_goes_through_the_pipeline():
    text = "\n\n".join(document.text for document in tales(60, seed=9))
    found = pipeline.run(CONFIG, [Document(text)])
    assert found.loss > 0
    assert found.floor is None


def test_a_short_text_gets_a_smaller_vocabulary():
    wide = replace(CONFIG, model=replace(CONFIG.model, vocab_size=60_000))
    found = pipeline.run(wide, list(tales(60, seed=9)))
    assert found.model.config.vocab_size == found.tokenizer.vocab_size < 60_000


def test_baselines_are_bits_per_byte_of_the_held_out_text(result):
    """Trigrams know the training text; a text that is in it costs them little."""
    known = result.tokenizer.decode(result.data.train[1:200].tolist())
    strange = "Zyx wqv! " * 20
    near, far = (pipeline.baselines(result.data, [t]) for t in (known, strange))
    assert near.keys() == {"gzip", "trigrams"}
    assert near["trigrams"] < far["trigrams"]
    assert 0 < near["gzip"] < 8
    texts = [document.text for document in result.data.held_out][:100]
    assert (
        result.bits_per_byte.items() >= pipeline.baselines(result.data, texts).items()
    )


def test_an_estimate_counts_parameters_and_bytes_and_extrapolates_time():
    found = pipeline.estimate_training(CONFIG)
    weights = 4 * n_parameters(CONFIG.model)
    assert found.n_parameters == n_parameters(CONFIG.model)
    assert found.peak_bytes > 4 * weights  # gradients and two moments besides
    assert found.seconds > 0


def test_write_continues_the_prompt_and_stops_at_the_end(result):
    model, tokenizer = result.model, result.tokenizer
    text = generation.write(model, tokenizer, "Once", max_new_tokens=4)
    assert text.startswith("Once")
    assert len(text) > len("Once")
    end = tokenizer.special_tokens["<|endoftext|>"]
    with torch.no_grad():  # the end scores highest everywhere
        finished = Transformer(CONFIG.model)
        for weight in finished.blocks.parameters():
            weight.zero_()  # the blocks add nothing
        finished.embedding.weight[:] = 0.01
        finished.embedding.weight[end] = 1.0
    assert (
        generation.write(finished, tokenizer, "Once", sampling=generation.GREEDY)
        == "Once"
    )


def test_too_few_stories_are_refused():
    with pytest.raises(ValueError, match="n_stories must be at least 100, got 99"):
        replace(CONFIG, n_stories=99)


@pytest.mark.parametrize("copying", [True, False])
def test_a_new_model_has_the_start_that_is_asked_for(copying):
    model = replace(CONFIG.model, n_kv_heads=CONFIG.model.n_heads)
    config = replace(CONFIG, model=model, copying_start=copying, seed=2)
    attention = config.new_model().blocks[-1].attention
    handed_on = attention.output.weight @ attention.value.weight
    symmetric = torch.allclose(handed_on, handed_on.T, atol=1e-4)
    assert symmetric is copying
    again = config.new_model().state_dict()
    for name, weight in config.new_model().state_dict().items():
        assert torch.equal(weight, again[name])


END = "<|endoftext|>"
RECIPE = replace(
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
        return prepare(RECIPE)


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


def test_a_curriculum_begins_with_the_lines_that_it_names():
    named = replace(TINY, n_stories=600, first=("to the old place, {hiding_place}",))
    texts = [document.text for document in curriculum(named)]
    has_it = ["to the old place, " in text for text in texts]
    assert len(texts) == len(set(texts)) == 600
    assert sum(has_it[:25]) > 15  # the chance of it falls from one to nothing
    assert 15 > sum(has_it[25:50]) > 2
    assert sum(has_it[50:]) < 70  # one in eighteen, as they come


def test_a_line_is_filled_with_the_facts_of_its_story():
    story = next(generate(1, seed=7))
    home = story.facts["home"]
    assert _has_line(story, ["no such line", "{home}"])
    assert not _has_line(story, [f"{home} {{hero}} {{home}}"])
    assert not _has_line(story, ["the {hero} of {no_such_fact}"])


def test_without_lines_a_curriculum_is_the_tales_as_they_come():
    plain = [document.text for document in tales(30, seed=0)]
    assert [d.text for d in curriculum(replace(TINY, n_stories=100))][:30] == plain


def test_tales_of_a_curriculum_are_learned_in_their_order(data, monkeypatch):
    seen = []
    monkeypatch.setattr(pipeline, "pretrain", lambda *_, **named: seen.append(named))
    for first in ((), ("{hero}",)):
        run_recipe(replace(RECIPE, first=first), data=data)
    assert [named["in_order"] for named in seen] == [False, True]


def test_own_text_is_shuffled_though_the_tales_of_a_recipe_are_in_order(data):
    own = fit_recipe(replace(RECIPE, first=("{hero}",)), data)
    assert (own.first, own.model.vocab_size) == ((), data.tokenizer.vocab_size)


def test_a_few_stories_are_enough_for_the_tokenizer(monkeypatch):
    monkeypatch.setattr(pipeline, "TOKENIZER_STORIES", 9)
    monkeypatch.setattr(pipeline, "HELD_OUT_STORIES", 2)
    first = prepare(RECIPE).tokenizer
    more = prepare(replace(RECIPE, n_stories=101)).tokenizer
    assert first.merges == more.merges


def test_progress_counts_the_stories(monkeypatch):
    monkeypatch.setattr(pipeline, "HELD_OUT_STORIES", 2)
    seen = []
    prepare(RECIPE, lambda *at: seen.append(at))
    assert seen == [("tales", n, 100) for n in range(1, 101)]


def test_own_text_is_parted_and_read_everywhere():
    documents = list(tales(90, seed=1))
    data = prepare_text(RECIPE, documents)
    splits = split_or_cut(documents)
    train = texts_of(data.train, data.tokenizer)
    assert train == [document.text for document in splits["train"]]
    held_out = [*splits["validation"], *splits["test"]]
    assert list(data.held_out) == held_out
    assert texts_of(data.valid, data.tokenizer) == [d.text for d in held_out]
    assert data.start_token is None
    assert data.report.steps[0].documents_in == 90


def test_running_a_recipe_is_pretraining_its_model_on_its_data(data, tmp_path):
    seen = []
    trained = run_recipe(
        RECIPE, Run(folder=tmp_path, interval=2, progress=seen.append), data=data
    )
    assert [r.step for r in seen if isinstance(r, Update)] == [1, 2, 3, 4, 5]
    model = Transformer(RECIPE.model, torch.Generator().manual_seed(3))
    history = pretrain(
        model,
        data.train,
        data.valid,
        RECIPE.pretraining,
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
    assert run_recipe(RECIPE).history == run_recipe(RECIPE, data=data).history


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_model_and_needs_no_story_twice(name):
    config = PRESETS[name]
    training = config.pretraining
    assert training.context_length <= config.model.context_length
    assert training.eval_interval <= training.steps
    assert training.steps * training.batch_size <= config.n_stories


def test_too_little_text_is_refused():
    text = next(tales(1, seed=0)).text
    wide = replace(RECIPE.model, vocab_size=258, context_length=99)
    long = replace(RECIPE.pretraining, context_length=99)
    assert len(text) / 20 < 99 < len(text)
    recipe = replace(RECIPE, model=wide, pretraining=long)
    data = prepare_text(recipe, [Document(text)])
    with pytest.raises(
        ValueError, match="tokens of the held-out part of the text must be at least 100"
    ):
        pipeline.fit_recipe(recipe, data)


def test_a_vocabulary_that_the_tales_cannot_fill_is_refused():
    huge = replace(RECIPE, model=replace(RECIPE.model, vocab_size=70_000))
    with pytest.raises(ValueError, match="vocab_size must be at most"):
        prepare(huge)


@pytest.mark.parametrize("there", ["train.bin", "validation.bin"])
def test_a_part_of_a_corpus_is_no_text(tmp_path, there):
    (tmp_path / there).touch()
    (tmp_path / "tokenizer.json").touch()
    with pytest.raises(ValueError, match="holds a corpus without"):
        pipeline.is_packed(tmp_path)


def test_a_text_is_cut_near_its_end_whatever_white_space_it_has():
    text = "題目\n" + "字" * 2000
    splits = pipeline.split_or_cut([Document(text)])
    assert len(splits["train"][0].text) == len(text) * 19 // 20


def test_a_single_long_document_is_measured_on_as_far_as_it_is_read(tmp_path):
    tokenizer = BPETokenizer.train(["the fox"], 260, ["<|endoftext|>"])
    tokenizer.save(tmp_path / "tokenizer.json")
    long, short = Document("xyzq " * 70_000), Document("the fox")
    pack([short], tokenizer, tmp_path / "train.bin")
    pack([long, short], tokenizer, tmp_path / "validation.bin")
    (only,) = packed_data(tmp_path).held_out
    assert long.text.startswith(only.text)
    assert len(only.text) > 100_000
    pack([short, short, long], tokenizer, tmp_path / "validation.bin")
    assert [each.text for each in packed_data(tmp_path).held_out] == ["the fox"] * 2


def test_the_mark_between_texts_in_a_document_does_not_cut_it(tmp_path):
    tokenizer = BPETokenizer.train(["the fox"], 260, ["<|endoftext|>"])
    tokenizer.save(tmp_path / "tokenizer.json")
    texts = ["a text ends with <|endoftext|> and begins", "the fox"]
    pack([Document("the hen")], tokenizer, tmp_path / "train.bin")
    pack(map(Document, texts), tokenizer, tmp_path / "validation.bin")
    assert [each.text for each in packed_data(tmp_path).held_out] == texts
