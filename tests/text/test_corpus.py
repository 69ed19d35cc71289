"""All steps of a corpus, splits, contamination."""

import math
import random
from functools import partial
from itertools import pairwise

import pytest

from llmcourse.text import corpus as module
from llmcourse.text.cleaning import GOPHER, filter_quality, remove_boilerplate
from llmcourse.text.corpus import (
    LONGEST,
    STEPS,
    build_corpus,
    contamination,
    cut_long,
    own_steps,
    pack_corpus,
    split,
    stream_corpus,
)
from llmcourse.text.deduplication import remove_near_duplicates
from llmcourse.text.documents import Document, tales
from llmcourse.text.packing import END_OF_TEXT, load_tokens
from llmcourse.text.tokenizers import BPETokenizer

MENU = "Home | Tales | About us"
GERMAN = (
    "Es war einmal ein Fuchs, der in dem Wald wohnte und nicht wusste, wie man die "
    "Hühner des Bauern holt. Er ging zu der Eule und fragte sie, ob sie es weiß."
)


@pytest.fixture(scope="module")
def web():
    """Forty stories as a small web has them: with a menu, copies and other things."""
    stories = [Document(t.text, f"page/{i}") for i, t in enumerate(tales(40, 2))]
    pages = [Document(f"{MENU}\r\n{d.text}", d.name) for d in stories]
    words = stories[5].text.split()
    words[30] = "suddenly"
    return [
        *pages,
        Document("\x00 \n", "empty"),
        Document("Click here.", "short"),
        Document(GERMAN * 3, "german"),
        Document(stories[4].text.upper(), "copy"),
        Document(" ".join(words), "near copy"),
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


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="at least one document, got none"):
        build_corpus([])


def test_a_step_that_leaves_nothing_is_named_with_its_reasons():
    short = [Document("Too short."), Document("This too.")]
    with pytest.raises(ValueError, match="no document is left") as caught:
        build_corpus(short, [partial(filter_quality, rules=GOPHER)])
    assert "filter quality" in str(caught.value)
    assert "2 × number of words" in str(caught.value)


def test_pieces_of_no_character_are_refused():
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        cut_long([Document("ab")], most=0)


@pytest.mark.parametrize("mark", ["\n\n", "\n", ". ", "。", " ", ""])
def test_a_long_document_is_cut_where_it_pauses(mark):
    text = mark.join(f"{n:05}" for n in range(500))
    pieces, report = cut_long([Document(text, "n"), Document("short")], most=100)
    *long, short = pieces
    assert short == Document("short")
    assert "".join(piece.text for piece in long) == text
    assert [piece.name for piece in long[:2]] == ["n#1", "n#2"]
    assert all(50 <= len(piece.text) <= 100 for piece in long[:-1])
    assert all(piece.text.endswith(mark) for piece in long[:-1])
    assert report.documents_removed == 0
    assert report.reasons == {"long document, cut": 1}


def test_no_piece_is_white_space_alone():
    pieces, _ = cut_long([Document(f"a{' ' * 900}b", "n")], most=100)
    assert [(piece.name, piece.text.strip()) for piece in pieces] == [
        ("n#1", "a"),
        ("n#2", "b"),
    ]


def test_a_paragraph_is_a_better_place_than_a_line():
    text = "a" * 60 + "\n\n" + "b" * 30 + "\n" + "c" * 60
    first, _ = cut_long([Document(text)], most=100)[0]
    assert first.text == "a" * 60 + "\n\n"


def test_own_text_is_kept_unless_something_else_is_asked_for():
    own = [
        Document(GERMAN * 200, name="book"),
        Document("- eggs\n- milk\n", name="list"),
        Document("- eggs\n- milk\n", name="copy"),
    ]
    kept, _ = build_corpus(own, own_steps())
    assert kept[-1].name == "list"
    assert max(len(document.text) for document in kept) <= LONGEST
    german, _ = build_corpus(own, own_steps(language="de"))
    assert "list" not in {document.name for document in german}
    with pytest.raises(ValueError, match=r"after the step 'filter quality'.* × "):
        build_corpus(own, own_steps(filtered=True))


NOTES = [Document(f"Note number {i}.", f"n{i}") for i in range(2000)]


def prose(n_words, seed, name=""):
    rng = random.Random(seed)
    words = [f"w{rng.randrange(10**6)}" for _ in range(n_words)]
    return Document(" ".join(words), name)


def sides(parts):
    return {document: name for name, part in parts.items() for document in part}


def test_a_passage_of_five_words_is_found_where_it_stands():
    """Five words in common; of the four runs of four words two are shared."""
    train = [Document("He said: a fox sat down here!", name="book")]
    held_out = [Document("A fox sat. Down here today", name="test"), prose(9, seed=0)]
    (overlap,) = contamination(train, held_out, n=4)
    assert overlap.document == held_out[0]
    assert overlap.training == train[0]
    assert overlap.passage == "a fox sat down"
    assert overlap.share == 2 / 3


def test_every_document_is_on_one_side_and_keeps_its_order():
    parts = split(NOTES)
    assert sum(map(len, parts.values())) == len(NOTES)
    for part in parts.values():
        numbers = [int(document.name[1:]) for document in part]
        assert numbers == sorted(numbers)


def test_a_growing_corpus_moves_no_document():
    before = sides(split(NOTES[:500]))
    after = sides(split([*reversed(NOTES)]))
    assert before.items() <= after.items()


def test_copies_are_on_the_same_side():
    shouted = [Document(f"  {note.text.upper()}\n") for note in NOTES]
    assert [*sides(split(NOTES)).values()] == [*sides(split(shouted)).values()]


def test_shares_are_met():
    """Within 4 standard errors of a binomial count: false alarm 6e-5 a part."""
    parts = split(NOTES)
    for name, share in {"train": 0.9, "validation": 0.05, "test": 0.05}.items():
        error = math.sqrt(len(NOTES) * share * (1 - share))
        assert abs(len(parts[name]) - share * len(NOTES)) < 4 * error


def test_contamination_is_that_of_sets_of_runs():
    """Against the definition, with planted passages of 12, 13 and 14 words."""
    train = [prose(60, seed) for seed in range(20)]
    held_out = [prose(60, seed, f"h{seed}") for seed in range(100, 106)]
    for document, length in zip(held_out[:3], (12, 13, 14), strict=True):
        passage = train[7].text.split()[20 : 20 + length]
        words = [*document.text.split(), *passage]
        held_out.append(Document(" ".join(words), f"{length}"))

    def runs(document):
        words = document.text.split()
        return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}

    seen = set().union(*map(runs, train))
    wanted = [document.name for document in held_out if runs(document) & seen]
    overlaps = contamination(train, held_out, n=13)
    assert [overlap.document.name for overlap in overlaps] == wanted == ["13", "14"]
    assert all(overlap.training == train[7] for overlap in overlaps)


def test_a_phrase_of_many_training_documents_does_not_count():
    phrase = prose(13, seed=0).text
    train = [
        Document(f"{phrase} {prose(20, seed).text} {phrase}") for seed in range(1, 5)
    ]
    held_out = [Document(f"{phrase} and more")]
    assert len(contamination(train, held_out, max_documents=4)) == 1
    assert contamination(train, held_out, max_documents=3) == []


def test_runs_longer_than_every_document_are_refused():
    long, short = [prose(20, seed=0)], [prose(5, seed=1)]
    with pytest.raises(
        ValueError, match="longest held-out document must be at least 13"
    ):
        contamination(long, short)
    with pytest.raises(ValueError, match="longest training document must be .*, got 5"):
        contamination(short, long)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        contamination(long, long, n=0)


def test_a_stream_is_the_corpus_but_for_what_compares_documents(web):
    alone = [STEPS[0], *STEPS[2:4]]
    assert list(stream_corpus(iter(web))) == build_corpus(web, alone)[0]
    assert len(list(stream_corpus([web[0], web[0]]))) == 2
    with_settings = partial(remove_boilerplate, min_documents=1)
    assert list(stream_corpus(web, [with_settings])) == web


@pytest.mark.parametrize("processes", [1, 2])
def test_packed_in_any_number_of_processes(tmp_path, monkeypatch, processes):
    """Each part is what `split` says, in its order, with every document's end."""
    monkeypatch.setattr(module, "_BATCH", 7)
    documents = list(tales(100, 3))
    texts = [document.text for document in documents]
    tokenizer = BPETokenizer.train(texts, 300, [END_OF_TEXT])
    files = pack_corpus(iter(documents), tokenizer, tmp_path, processes=processes)
    parts = split(documents)
    assert {k: f.n_documents for k, f in files.items()} == {
        name: len(part) for name, part in parts.items() if part
    }
    for name, part in parts.items():
        ids = load_tokens(tmp_path / f"{name}.bin", tokenizer).tolist()
        told = "".join(document.text + END_OF_TEXT for document in part)
        assert tokenizer.decode(ids) == told


def test_a_stream_without_documents_is_refused(tmp_path):
    tokenizer = BPETokenizer.train(["a"], 257, [END_OF_TEXT])
    with pytest.raises(ValueError, match="at least one document, got none"):
        pack_corpus([Document(" ")], tokenizer, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def many(monkeypatch):
    """Documents and a tokenizer for shards of some hundred bytes."""
    monkeypatch.setattr(module, "_BATCH", 7)
    monkeypatch.setattr(module, "_SHARD_BYTES", 900)
    texts = [f"Story {n} of many, all short." for n in range(200)]
    return [*map(Document, texts)], BPETokenizer.train(texts, 300, [END_OF_TEXT])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_are_read_as_one_array(tmp_path, many):
    documents, tokenizer = many
    files = pack_corpus(documents, tokenizer, tmp_path, steps=[])
    assert {len(file.shards) > 1 for file in files.values()} == {True}
    n_shards = sum(len(file.shards) for file in files.values())
    assert len(contents(tmp_path)) == n_shards + len(files)
    for name, part in split(documents).items():
        ids = load_tokens(tmp_path / f"{name}.bin", tokenizer)
        assert len(ids) == files[name].n_tokens == sum(files[name].shards)
        told = "".join(document.text + END_OF_TEXT for document in part)
        assert tokenizer.decode(ids[:].tolist()) == told


@pytest.mark.parametrize("n_read", [0, 20, 100, 199])
def test_packing_goes_on_where_it_was_interrupted(tmp_path, many, n_read):
    documents, tokenizer = many
    whole, other = tmp_path / "whole", tmp_path / "other"
    whole.mkdir()
    other.mkdir()
    pack_corpus(documents, tokenizer, whole, steps=[])

    def interrupted():
        yield from documents[:n_read]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_corpus(interrupted(), tokenizer, other, steps=[])
    done = contents(other)
    assert not any(
        name.endswith("n.json") for name in done
    )  # nobody takes it for whole
    pack_corpus(documents, tokenizer, other, steps=[], resume=True)
    assert contents(other) == contents(whole)
    assert done.pop(module.PROGRESS, None) or n_read < 100
    assert done.items() <= contents(whole).items()


def test_packing_goes_on_with_the_same_documents_steps_and_tokenizer(tmp_path, many):
    documents, tokenizer = many

    def interrupted():
        yield from documents[:100]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_corpus(interrupted(), tokenizer, tmp_path, steps=[])
    before = contents(tmp_path)
    other = BPETokenizer.train(["another text"], 300, [END_OF_TEXT], allow_fewer=True)
    step = partial(remove_boilerplate, min_documents=9)
    for changed in (
        (documents[1:], tokenizer, tmp_path, []),
        (documents[:9], tokenizer, tmp_path, []),
        (documents, other, tmp_path, []),
        (documents, tokenizer, tmp_path, [step]),
    ):
        with pytest.raises(ValueError, match=r"other documents, steps or tokenizer"):
            pack_corpus(*changed, resume=True)
    assert contents(tmp_path) == before
    for damaged in ("{", "[]", '{"n_batches": 1}'):
        (tmp_path / module.PROGRESS).write_text(damaged)
        with pytest.raises(ValueError, match=r"packing\.json' must be what"):
            pack_corpus(documents, tokenizer, tmp_path, steps=[], resume=True)


def test_nothing_of_an_earlier_corpus_stays(tmp_path, many):
    documents, tokenizer = many
    before = pack_corpus(documents, tokenizer, tmp_path, steps=[])
    assert before.keys() == {"train", "validation", "test"}
    after = pack_corpus(documents[:1], tokenizer, tmp_path, steps=[])
    left = {path.stem for path in tmp_path.iterdir()}
    assert left == set(after)
    assert len(after) == 1
