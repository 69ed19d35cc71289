"""Windows of a long run of tokens: which there are, and in what order."""

from itertools import islice

import numpy as np
import pytest
import torch
from model_cases import seeded

from llmcourse.arguments import check_ids
from llmcourse.text.documents import Document
from llmcourse.text.packing import END_OF_TEXT, Shards, load_tokens, pack
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import windows as module
from llmcourse.training.windows import NO_TOKEN, Windows, tokens_fingerprint

# Worked example


def test_worked_example_of_two_documents():
    """Documents 5 6 and 7, each after a 0, and a third that breaks off after 9.

    A window ends with the next document's 0; windows of 2 + 1 cannot reach the first
    one's end.
    """
    tokens = np.array([0, 5, 6, 0, 7, 0, 9])
    windows = Windows(tokens, 3, start_token=0)
    assert windows.spread(9).tolist() == [
        [0, 5, 6, 0],
        [0, 7, 0, NO_TOKEN],
        [0, 9, NO_TOKEN, NO_TOKEN],
    ]
    assert windows.take(np.array([3])).tolist() == [[0, 7, 0]]
    short = Windows(tokens, 2, start_token=0)
    assert short.spread(9).tolist() == [[0, 5, 6], [0, 7, 0], [0, 9, NO_TOKEN]]
    plain = Windows(np.array([0, 5, 6, 0]), 2)
    assert plain.spread(9).tolist() == [[0, 5, 6], [5, 6, 0]]


# Law


@pytest.mark.parametrize("n_tokens", [13, 14, 15, 16, 17])
def test_a_pass_shows_every_token_at_most_once_as_a_target(n_tokens):
    windows = Windows(torch.arange(n_tokens), context_length=3)
    first = next(windows.shuffled(3, seeded()))
    targets = first[:, 1:].flatten().tolist()
    assert len(set(targets)) == 9
    for row in first.tolist():
        assert row == list(range(row[0], row[0] + 4))


def test_every_token_is_a_target_sooner_or_later():
    """Of a pass only the ends are left out, and they differ from pass to pass."""
    windows = Windows(torch.arange(17), context_length=5)
    batches = islice(windows.shuffled(2, seeded()), 60)
    seen = {target for batch in batches for target in batch[:, 1:].flatten().tolist()}
    assert seen == set(range(1, 17))


def test_a_text_hardly_longer_than_a_window_has_one_at_any_of_its_beginnings():
    batches = islice(Windows(torch.arange(7), 4).shuffled(1, seeded()), 60)
    assert {int(batch[0, 0]) for batch in batches} == {0, 1, 2}


def test_documents_come_once_in_each_pass_in_another_order():
    tokens = np.array([0, 1, 1, 0, 2, 2, 0, 3, 3, 0, 4, 4, 0, 5, 5, 0, 6, 6])
    windows = Windows(tokens, 2, start_token=0)
    rows = torch.cat(list(islice(windows.shuffled(4, seeded()), 6)))[:, 1].tolist()
    passes = [rows[i : i + 6] for i in range(0, 24, 6)]
    assert all(sorted(one) == [1, 2, 3, 4, 5, 6] for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_documents_of_a_batch_are_of_about_one_length():
    """And every token of every document is a target once in each pass."""
    lengths = torch.randint(2, 60, (700,), generator=seeded(3)).tolist()
    documents = [np.array([0, *[5 + at] * n]) for at, n in enumerate(lengths)]
    tokens = np.concatenate([*documents, [0]])
    windows = Windows(tokens, 60, start_token=0)
    batches = list(islice(windows.shuffled(7, seeded()), 100))
    targets = torch.cat([batch[:, 1:].flatten() for batch in batches])
    shown = targets[targets != NO_TOKEN].sort().values
    assert torch.equal(shown, torch.from_numpy(tokens[1:]).sort().values)
    filled = [(batch != NO_TOKEN).float().mean().item() for batch in batches]
    assert min(filled[:-1]) > 0.6
    assert sum(filled) / 100 > 0.95
    widths = [float(batch.shape[1]) for batch in batches]
    assert abs(np.corrcoef(widths, range(100))[0, 1]) < 0.3  # short and long mixed


def test_in_order_the_first_pass_is_shuffled_within_64_batches_alone():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, size=300)
    tokens = np.concatenate([[0], *([n + 1] * k + [0] for n, k in enumerate(lengths))])
    batches = Windows(tokens, 8, start_token=0).shuffled(2, seeded(), in_order=True)
    first = torch.cat([next(batches)[:, 1] for _ in range(150)]) - 1
    assert sorted(first.tolist()) == list(range(300))
    for n, part in enumerate(first.split(128)):
        assert set(part.tolist()) == set(range(128 * n, min(128 * n + 128, 300)))
        assert part.tolist() != sorted(part.tolist())
    second = torch.cat([next(batches)[:, 1] for _ in range(150)]) - 1
    assert set(second[:128].tolist()) != set(range(128))


def test_in_order_windows_of_a_text_without_documents_follow_each_other():
    batches = Windows(torch.arange(60), 4).shuffled(2, seeded(), in_order=True)
    starts = torch.cat([next(batches)[:, 0] for _ in range(6)])
    assert (starts.diff() == 4).all()


def test_the_same_generator_gives_the_same_order():
    windows = Windows(torch.arange(100), context_length=3)
    first, again, other = (
        torch.cat(list(islice(windows.shuffled(4, seeded(s)), 20))) for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_spread_windows_reach_from_the_first_to_the_last_token():
    spread = Windows(torch.arange(101), context_length=4).spread(7)
    assert spread.shape == (7, 5)
    assert spread[0, 0] == 0
    assert spread[-1, -1] == 100
    assert spread[:, 0].diff().float().std() < 1  # even steps, up to rounding


@pytest.mark.parametrize("start_token", [None, 4])
@pytest.mark.parametrize("taken", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("in_order", [False, True])
def test_an_order_goes_on_where_it_was_left(taken, start_token, in_order):
    """With another generator, and in the midst of a pass as well as at its end."""
    windows = Windows(torch.arange(60) % 6, 4, start_token)
    batches = windows.shuffled(3, seeded(1), in_order=in_order)
    for _ in range(taken):
        next(batches)
    state = batches.state_dict()
    expected = list(islice(batches, 12))
    again = windows.shuffled(3, seeded(2), in_order=in_order)
    next(again)
    again.load_state_dict(state)
    assert all(map(torch.equal, islice(again, 12), expected))


def test_a_state_is_a_copy():
    batches = Windows(torch.arange(60), 4).shuffled(3, seeded())
    next(batches)
    state = batches.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    list(islice(batches, 9))
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_a_fingerprint_tells_texts_apart(monkeypatch):
    tokens = np.arange(100, dtype=np.uint16)
    others = [tokens[:-1], tokens[::-1], np.append(tokens, 0)]
    others += [np.where(tokens == n, 7, tokens) for n in (0, 55, 99)]
    prints = {tokens_fingerprint(text) for text in (tokens, *others)}
    assert len(prints) == 7
    assert tokens_fingerprint(tokens).startswith("100 tokens with hash ")
    whole = tokens_fingerprint(tokens)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert tokens_fingerprint(tokens) == whole


def test_documents_are_found_across_the_pieces_that_are_searched(monkeypatch):
    tokens = np.array([0, 3, 0, 0, 5, 6, 7, 0, 8, 9, 0], dtype=np.uint16)
    for size in range(1, 12):
        monkeypatch.setattr(module, "_CHUNK", size)
        assert Windows(tokens, 4, start_token=0).starts.tolist() == [0, 2, 3, 7]


def test_a_packed_corpus_is_read_as_the_array_that_it_is(tmp_path, monkeypatch):
    """Mapped, and what was read is given back again and again."""
    tokenizer = BPETokenizer.train(["abc"], 257, [END_OF_TEXT])
    documents = [Document("ab" * n) for n in (3, 1, 9, 4)]
    pack(documents, tokenizer, tmp_path / "tokens.bin")
    mapped = load_tokens(tmp_path / "tokens.bin", tokenizer)
    shards = Shards([mapped[:7], mapped[7:9], mapped[9:]])
    monkeypatch.setattr(module, "_CHUNK", 5)
    for read in (mapped, shards):
        assert tokens_fingerprint(read) == tokens_fingerprint(mapped.copy())
        for start_token in (None, tokenizer.special_tokens[END_OF_TEXT]):
            one, two = (
                Windows(tokens, 6, start_token) for tokens in (read, mapped.copy())
            )
            assert torch.equal(one.spread(9), two.spread(9))


# Reference


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_memory_maps_and_arrays_and_tensors_give_the_same(tmp_path, dtype):
    array = np.random.default_rng(0).integers(0, 60_000 % 2**15, 50).astype(dtype)
    array.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", dtype=dtype, mode="r")
    expected = Windows(torch.from_numpy(array.astype(np.int64)), 6)
    for tokens in (array, mapped):
        windows = Windows(tokens, 6)
        assert torch.equal(windows.spread(5), expected.spread(5))
        ours, theirs = (w.shuffled(3, seeded()) for w in (windows, expected))
        assert torch.equal(next(ours), next(theirs))
        assert tokens_fingerprint(tokens) == tokens_fingerprint(
            torch.tensor(array.tolist())
        )


# Refusal


@pytest.mark.parametrize(
    ("tokens", "got"),
    [
        (np.zeros((2, 9), dtype=np.int64), "2 dimensions of int64"),
        (np.zeros(9), "1 dimensions of float64"),
        (torch.zeros(9), "1 dimensions of float32"),
    ],
)
def test_refuses_what_is_no_run_of_tokens(tokens, got):
    with pytest.raises(ValueError, match=got):
        Windows(tokens, 2)


@pytest.mark.parametrize("n_tokens", [0, 1, 3])
def test_refuses_a_text_shorter_than_a_window(n_tokens):
    with pytest.raises(ValueError, match=f"text must be at least 4, got {n_tokens}"):
        Windows(torch.arange(n_tokens), 3)


def test_refuses_a_start_token_that_starts_nothing():
    with pytest.raises(
        ValueError, match="windows that begin at token 8 must be at least 1"
    ):
        Windows(torch.arange(9), 3, start_token=8)


def test_refuses_a_batch_larger_than_the_data_at_once():
    with pytest.raises(ValueError, match="windows of a text must be at least 4, got 3"):
        Windows(torch.arange(12), 3).shuffled(4, seeded())
    documents = Windows(np.array([0, 1, 0, 1, 0, 1]), 1, start_token=0)
    with pytest.raises(ValueError, match="windows of a text must be at least 4, got 3"):
        documents.shuffled(4, seeded())


@pytest.mark.parametrize("place", [0, 50, 99])
@pytest.mark.parametrize("bad", [-1, 13])
def test_refuses_ids_outside_the_vocabulary_wherever_they_are(place, bad):
    tokens = np.arange(100) % 13
    check_ids("tokens", tokens, 13)
    tokens[place] = bad
    with pytest.raises(ValueError, match="must be in 0 … 12, got"):
        check_ids("tokens", tokens, 13)
