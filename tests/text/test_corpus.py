from functools import partial
from itertools import pairwise

import pytest

from llmcourse.text.cleaning import GOPHER, filter_quality
from llmcourse.text.corpus import STEPS, build_corpus, pack_splits, split
from llmcourse.text.deduplication import remove_near_duplicates
from llmcourse.text.documents import Document, tales
from llmcourse.text.packing import load_tokens
from llmcourse.text.tokenizers import BPETokenizer

MENU = "Home | Tales | About us"
GERMAN = (
    "Es war einmal ein Fuchs, der in dem Wald wohnte und nicht wusste, wie man die "
    "Hühner des Bauern holt. Er ging zu der Eule und fragte sie, ob sie es weiß."
)


@pytest.fixture(scope="module")
def web():
    """Forty stories as a small web has them: with a menu, copies and other things."""
    stories = [Document(t.text, "web", f"page/{i}") for i, t in enumerate(tales(40, 2))]
    pages = [Document(f"{MENU}\r\n{d.text}", d.source, d.name) for d in stories]
    words = stories[5].text.split()
    words[30] = "suddenly"
    return [
        *pages,
        Document("\x00 \n", "web", "empty"),
        Document("Click here.", "web", "short"),
        Document(GERMAN * 3, "web", "german"),
        Document(stories[4].text.upper(), "web", "copy"),
        Document(" ".join(words), "web", "near copy"),
    ]


def test_each_step_removes_what_it_is_for(web):
    """Five bad documents among forty good ones, each caught by one step."""
    documents, report = build_corpus(web)
    removed = {step.step: step.documents_removed for step in report.steps}
    assert removed == {
        "clean": 1,
        "remove boilerplate": 0,
        "filter quality": 2,  # the German text has no English function words
        "filter language": 0,
        "remove duplicates": 1,
        "remove near duplicates": 1,
    }
    assert [d.name for d in documents] == [f"page/{i}" for i in range(40)]
    assert not [d for d in documents if MENU in d.text or "\r" in d.text]


def test_the_reports_join_without_a_gap(web):
    documents, report = build_corpus(web)
    steps = report.steps
    for before, after in pairwise(steps):
        assert before.documents_out == after.documents_in
        assert before.characters_out == after.characters_in
    assert steps[0].documents_in == len(web)
    assert steps[-1].documents_out == len(documents)
    assert steps[-1].characters_out == sum(len(d.text) for d in documents)


def test_a_second_pass_removes_nothing(web):
    documents, _ = build_corpus(web)
    again, report = build_corpus(documents)
    assert again == documents
    assert sum(len(step.reasons) for step in report.steps) == 0


def test_a_step_with_other_settings_is_a_partial(web):
    stricter = partial(remove_near_duplicates, threshold=0.98)
    documents, _ = build_corpus(web, [*STEPS[:-1], stricter])
    assert documents[-1].name == "near copy"


def test_any_iterable_is_a_source(web):
    assert build_corpus(iter(web))[0] == build_corpus(web)[0]


def test_splits_are_packed_under_their_names(web, tmp_path):
    documents, _ = build_corpus(web)
    parts = split(documents, {"train": 0.5, "validation": 0.5})
    texts = [document.text for document in documents]
    tokenizer = BPETokenizer.train(texts, 300, ["<|endoftext|>"])
    headers = pack_splits(parts, tokenizer, tmp_path / "packed")
    for name, header in headers.items():
        ids = load_tokens(tmp_path / "packed" / f"{name}.bin", tokenizer).tolist()
        assert ids.count(header.end_of_text) == len(parts[name])
        text = tokenizer.decode(ids).split("<|endoftext|>")[0]
        assert text == parts[name][0].text


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="at least one document, got none"):
        build_corpus([])


def test_a_step_that_leaves_nothing_is_named_with_its_reasons():
    short = [Document("Too short."), Document("This too.")]
    with pytest.raises(ValueError, match="no document is left") as caught:
        build_corpus(short, [partial(filter_quality, rules=GOPHER)])
    assert "filter quality" in str(caught.value)
    assert "2 × number of words" in str(caught.value)


def test_an_empty_part_is_refused_before_anything_is_written(tmp_path):
    tokenizer = BPETokenizer.train(["abc"], 257, ["<|endoftext|>"])
    parts = {"train": [Document("abc")], "test": []}
    with pytest.raises(ValueError, match=r"got none in \['test'\]"):
        pack_splits(parts, tokenizer, tmp_path)
    assert [*tmp_path.iterdir()] == []
