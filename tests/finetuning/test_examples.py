"""Examples, padded and shuffled by length: nothing is lost, nothing leaks."""

from collections import Counter
from itertools import islice

import jaxtyping
import pytest
import torch
from model_cases import seeded

from llmcourse.finetuning.examples import (
    ShuffledExamples,
    TokenizedExample,
    collate,
    examples_fingerprint,
    pack_examples,
)
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.training.losses import cross_entropy

SIZES = TransformerConfig(
    vocab_size=13, d_model=16, n_layers=2, n_heads=2, n_kv_heads=2, d_ff=20
)


def make_examples(lengths, seed=0):
    """Return examples of random ids, of which about half are to be learned."""
    generator = seeded(seed)
    examples = []
    for length in lengths:
        ids = torch.randint(13, (length + 1,), generator=generator).tolist()
        mask = (torch.rand(length + 1, generator=generator) < 0.5).tolist()
        examples.append(TokenizedExample.of_tokens(ids, [*mask[:-1], True]))
    return examples


def padding(batches):
    """Return which share of all positions is padding, as a fraction."""
    places = sum(collate(batch).ids.numel() for batch in batches)
    return 1 - sum(len(example) for batch in batches for example in batch) / places


def state(batches):
    return {name: value.clone() for name, value in batches.state_dict().items()}


# Worked example


def test_worked_example_of_an_answer():
    """In 4 7 1 2 3, of which 2 and 3 are the answer, the model reads 4 7 1 2; after 1
    it should say 2, and after 2 it should say 3.
    """
    example = TokenizedExample.of_tokens(
        [4, 7, 1, 2, 3], [False, False, False, True, True]
    )
    assert example.ids.tolist() == [4, 7, 1, 2]
    assert example.targets.tolist() == [7, 1, 2, 3]
    assert example.mask.tolist() == [False, False, True, True]
    assert (len(example), example.n_targets) == (4, 2)


def test_worked_example_of_padding():
    """Three texts of 3, 1 and 2 tokens are 6 in 9 places."""
    examples = [
        TokenizedExample.of_label(ids, label=label)
        for ids, label in (([5, 6, 7], 2), ([8], 1), ([9, 4], 0))
    ]
    batch = collate(examples)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 0, 0], [9, 4, 0]]
    assert batch.targets.tolist() == [[0, 0, 2], [1, 0, 0], [0, 0, 0]]
    assert batch.mask.int().tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert padding([examples]) == pytest.approx(1 / 3)
    assert padding([examples[:1], examples[1:]]) == pytest.approx(1 / 7)


def test_worked_example_of_packing():
    """The same three texts are 6 in 6 places, and where one ends is known."""
    batch = pack_examples(
        [
            TokenizedExample.of_label(ids, label=label)
            for ids, label in (([5, 6, 7], 2), ([8], 1), ([9, 4], 0))
        ]
    )
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9, 4]]
    assert batch.targets.tolist() == [[0, 0, 2, 1, 0, 0]]
    assert batch.mask.int().tolist() == [[0, 0, 1, 1, 0, 1]]
    assert batch.lengths == (3, 1, 2)


# Law


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_padding_on_the_right_changes_nothing(family):
    """Each example's logits, and the gradient of all, are as if it were alone."""
    sizes = TransformerConfig(**vars(SIZES) | {"family": family})
    model = Transformer(sizes, seeded())
    examples = make_examples([7, 2, 5])
    batch = collate(examples)
    logits = model(batch.ids)
    cross_entropy(logits[batch.mask], batch.targets[batch.mask]).backward()
    together = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    n_targets = sum(example.n_targets for example in examples)
    for row, example in enumerate(examples):
        alone = model(example.ids[None])[0]
        torch.testing.assert_close(logits[row, : len(example)], alone)
        loss = cross_entropy(alone[example.mask], example.targets[example.mask])
        (loss * example.n_targets / n_targets).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, together[name], atol=1e-6, rtol=1e-4)


def test_what_the_padding_holds_is_never_seen():
    model, batch = Transformer(SIZES, seeded()), collate(make_examples([7, 2, 5]))
    read = torch.arange(7) < torch.tensor([[7], [2], [5]])
    other = torch.where(read, batch.ids, 11)
    assert not torch.equal(other, batch.ids)
    assert torch.equal(model(batch.ids)[read], model(other)[read])
    assert not batch.mask[~read].any()


def test_every_example_is_seen_equally_often():
    """Of 17 examples in batches of 3, two passes and a rest: after 51 examples each
    has been seen three times, and after any number none is two passes ahead.
    """
    examples = make_examples(range(1, 18))
    seen = Counter()
    for number, batch in enumerate(
        islice(ShuffledExamples(examples, 3, seeded()), 17), start=1
    ):
        assert len({id(example) for example in batch}) == 3
        seen.update(id(example) for example in batch)
        assert max(seen.values()) <= number * 3 // 17 + 2
    assert [seen[id(example)] for example in examples] == [3] * 17


def test_the_same_generator_gives_the_same_order_and_another_does_not():
    examples = make_examples(range(1, 18))
    orders = [
        [examples_fingerprint(batch) for batch in islice(shuffled, 9)]
        for shuffled in (
            ShuffledExamples(examples, 4, seeded(seed)) for seed in (3, 3, 4)
        )
    ]
    assert orders[0] == orders[1] != orders[2]


def test_passes_are_shuffled_anew():
    examples = make_examples(range(1, 13))
    order = [
        len(e)
        for batch in islice(ShuffledExamples(examples, 4, seeded()), 6)
        for e in batch
    ]
    assert sorted(order[:12]) == sorted(order[12:]) == list(range(1, 13))
    assert order[:12] != order[12:]


def test_grouping_by_length_saves_padding():
    """Lengths from 1 to 64 in any order fill about half of a batch's places; sorted in
    stretches of 16 batches, neighbours differ by little.
    """
    generator = seeded()
    lengths = torch.randint(1, 65, (256,), generator=generator).tolist()
    examples = make_examples(lengths)
    grouped = list(islice(ShuffledExamples(examples, 8, generator), 32))
    as_they_are = [examples[start : start + 8] for start in range(0, 256, 8)]
    assert padding(grouped) == pytest.approx(0.05, abs=0.01)
    assert padding(as_they_are) == pytest.approx(0.45, abs=0.01)


@pytest.mark.parametrize("step", range(9))
def test_goes_on_where_another_stood(step):
    """Eleven examples in batches of 2: a pass takes five batches, and one is over."""
    examples = make_examples(range(1, 12))
    whole = ShuffledExamples(examples, 2, seeded(5))
    first = ShuffledExamples(examples, 2, seeded(5))
    list(islice(first, step))
    second = ShuffledExamples(examples, 2, seeded(6))
    second.load_state_dict(state(first))
    expected = [examples_fingerprint(batch) for batch in islice(whole, step, 20)]
    assert [
        examples_fingerprint(batch) for batch in islice(second, 20 - step)
    ] == expected


def test_equal_examples_have_equal_fingerprints_and_others_have_not():
    ids, mask = [4, 7, 1, 2], [False, False, True, True]
    same = [TokenizedExample.of_tokens(ids, mask)]
    others = [
        [TokenizedExample.of_tokens([4, 7, 2, 2], mask)],
        [TokenizedExample.of_tokens(ids, [False, True, True, True])],
        [TokenizedExample.of_tokens(ids, mask)] * 2,
        [TokenizedExample.of_label(ids[:-1], 1)],
    ]
    assert examples_fingerprint(same) == examples_fingerprint(
        [TokenizedExample.of_tokens(ids, mask)]
    )
    assert len({examples_fingerprint(each) for each in [same, *others]}) == 5


# Reference


def test_rows_are_those_of_torch():
    examples = make_examples([4, 9, 2])
    batch = collate(examples)
    for name in ("ids", "targets", "mask"):
        rows = [getattr(example, name) for example in examples]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        assert torch.equal(getattr(batch, name), padded)


def test_a_packed_row_is_that_of_transformers():
    """Whose positions begin at 0 with each text, and whose first targets are ignored:
    theirs stand where the token is, ours where it is predicted.
    """
    transformers = pytest.importorskip("transformers")
    generator = seeded()
    texts = [torch.randint(13, (n,), generator=generator).tolist() for n in (4, 9, 2)]
    collator = transformers.DataCollatorWithFlattening(return_tensors="pt")
    theirs = collator([{"input_ids": text, "labels": text} for text in texts])
    begins = theirs["position_ids"][0] == 0
    ends = torch.cat((begins[1:], torch.tensor([True])))
    ours = pack_examples(
        [TokenizedExample.of_tokens(t, [True] * len(t)) for t in texts]
    )
    assert torch.equal(ours.ids[0], theirs["input_ids"][0][~ends])
    assert torch.equal(ours.targets[0], theirs["labels"][0][~begins])
    assert (theirs["labels"][0][begins] == -100).all()
    places = [place for length in ours.lengths for place in range(length)]
    assert places == theirs["position_ids"][0][~ends].tolist()


# Refusal


def test_refuses_an_example_that_teaches_nothing():
    with pytest.raises(
        ValueError, match="positions .* that count must be at least 1, got 0"
    ):
        TokenizedExample.of_tokens([4, 7, 1], [True, False, False])
    with pytest.raises(
        ValueError, match="positions .* that count must be at least 1, got 0"
    ):
        TokenizedExample.of_tokens([4], [True])
    with pytest.raises(
        ValueError, match="positions .* that count must be at least 1, got 0"
    ):
        TokenizedExample.of_label([], label=1)


@pytest.mark.parametrize("lengths", [(3, 1, 1), (3, 3, 2), (2, 3, 3)])
def test_refuses_parts_of_different_lengths(lengths, monkeypatch):
    """Of one, a row would be filled with copies. Outside of tests nothing else would
    refuse them: shapes are not checked there.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    n_ids, n_targets, n_mask = lengths
    message = (
        f"as many targets and marks as ids .{n_ids}., got {n_targets} and {n_mask}"
    )
    ids, targets = (torch.ones(n, dtype=torch.int64) for n in (n_ids, n_targets))
    with pytest.raises(ValueError, match=message):
        TokenizedExample(ids, targets, torch.ones(n_mask, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"marks as ids \(2\), got 2 and 1"):
        TokenizedExample.of_tokens([4, 7, 1], [False, True])


@pytest.mark.parametrize("batch_of", [collate, pack_examples])
def test_refuses_a_batch_without_examples(batch_of):
    with pytest.raises(
        ValueError, match="examples of a batch must be at least 1, got 0"
    ):
        batch_of([])


@pytest.mark.parametrize("batch_size", [0, 4])
def test_refuses_a_batch_that_the_data_cannot_fill(batch_size):
    with pytest.raises(ValueError, match="must be at least"):
        ShuffledExamples(make_examples([1, 2, 3]), batch_size, seeded())
