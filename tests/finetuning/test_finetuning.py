"""Fine-tuning: only answers are learned, and only by what is not frozen."""

import math
from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch
from model_cases import SMALL, seeded

from llmcourse.finetuning.classification import Classifier, accuracy
from llmcourse.finetuning.examples import ShuffledExamples, TokenizedExample
from llmcourse.finetuning.finetuning import (
    FinetuningConfig,
    answer_loss,
    finetune,
    masked_cross_entropy,
)
from llmcourse.finetuning.lora import add_lora, add_lora_to, merge_lora
from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run, checkpoint_paths
from llmcourse.training.config import Update, learning_rate
from llmcourse.training.loop import mean_loss, update_weights, weighted_losses
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import next_token_loss, train_step

SHORT = FinetuningConfig(
    steps=7,
    batch_size=4,
    context_length=8,
    learning_rate=0.01,
    warmup_steps=2,
    eval_interval=3,
    eval_examples=5,
    accumulation=2,
)


class Stop(Exception):  # noqa: N818
    """What a callback raises to end a training early."""


def make_model(seed=0):
    return Transformer(SMALL, seeded(seed))


def make_examples(n=11, seed=0):
    """Return examples of 3 to 8 random ids, of which the last one to three count."""
    generator = seeded(seed)
    examples = []
    for _ in range(n):
        length, answer = (
            int(torch.randint(*bounds, (), generator=generator))
            for bounds in ((4, 10), (1, 4))
        )
        ids = torch.randint(13, (length,), generator=generator).tolist()
        mask = [False] * (length - answer) + [True] * answer
        examples.append(TokenizedExample.of_tokens(ids, mask))
    return examples


def task(n, seed=0):
    """Return examples of copying: 1 a b c 2, and then a b c 2 is to be answered."""
    generator = seeded(seed)
    examples = []
    for _ in range(n):
        word = torch.randint(3, 6, (2,), generator=generator).tolist()
        ids = [1, *word, 2, *word, 2]
        examples.append(TokenizedExample.of_tokens(ids, [False] * 4 + [True] * 3))
    return examples


def labelled(n, seed=0):
    """Return texts whose class is whether token 4 is in them."""
    generator = seeded(seed)
    examples = []
    for _ in range(n):
        length = int(torch.randint(2, 8, (), generator=generator))
        ids = torch.randint(5, 13, (length,), generator=generator).tolist()
        label = int(torch.randint(2, (), generator=generator))
        if label:
            ids[int(torch.randint(length, (), generator=generator))] = 4
        examples.append(TokenizedExample.of_label(ids, label))
    return examples


def run(model=None, folder=None, config=SHORT, seed=0, progress=None, **options):
    model = model or make_model()
    history = finetune(
        model,
        make_examples(),
        make_examples(seed=1),
        config,
        seeded(seed),
        run=Run(folder=folder, interval=2, progress=progress),
        **options,
    )
    return model, history


def weights_of(model):
    return {name: w.detach().clone() for name, w in model.state_dict().items()}


def shares_of(model, examples, n_parts=2):
    """Yield what each of so many parts adds to the examples' mean loss."""
    loss = partial(answer_loss, model, config=SHORT)
    config = replace(SHORT, accumulation=n_parts)
    return weighted_losses(examples, loss, n_targets, config)


def n_targets(examples):
    return sum(example.n_targets for example in examples)


# Worked example


def test_worked_example_of_a_masked_loss():
    """Two positions count. At one the target has probability 1/2, at the other 1/8:
    (log 2 + log 8) / 2 = 2 log 2. What stands under the mask, even a logit that is no
    number or a target outside the vocabulary, does not matter.
    """
    logits = torch.tensor(
        [[1 / 2, 1 / 4, 1 / 4], [math.nan] * 3, [1 / 4, 1 / 8, 5 / 8]]
    ).log()
    targets, mask = torch.tensor([0, 99, 1]), torch.tensor([True, False, True])
    loss = masked_cross_entropy(logits, targets, mask)
    assert loss.item() == pytest.approx(2 * math.log(2), rel=1e-6)


def test_worked_example_of_learning_to_copy():
    """Of nine words of two letters out of three, each is to be repeated: a function
    of what was read, so the loss falls from log 13 to nearly 0, held-out order or not.
    """
    config = replace(SHORT, steps=120, batch_size=8, accumulation=1, learning_rate=0.02)
    history = finetune(make_model(), task(40), task(9, seed=1), config, seeded())
    assert history.evaluations[0].loss == pytest.approx(math.log(13), abs=0.3)
    assert history.evaluations[-1].loss < 0.1


# Law


def test_what_is_masked_is_not_learned():
    """Other targets under the mask: the same gradient, and none from them alone."""
    model, examples = make_model(), make_examples()
    others = [
        replace(e, targets=torch.where(e.mask, e.targets, (e.targets + 1) % 13))
        for e in examples
    ]
    gradients = []
    for each in (examples, others):
        answer_loss(model, each, SHORT).backward()
        gradients.append([weight.grad for weight in model.parameters()])
        model.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_a_batch_in_parts_is_the_whole_batch(accumulation):
    """The parts have unlike numbers of targets; each target weighs the same."""
    examples = make_examples(4, seed=3)
    assert len({example.n_targets for example in examples}) > 1
    config = replace(SHORT, accumulation=accumulation, clip_norm=math.inf)
    model, whole = make_model(), make_model()
    shares = shares_of(model, examples, accumulation)
    update = update_weights(
        model, torch.optim.SGD(model.parameters()), shares, 4, config
    )
    loss = answer_loss(whole, examples, config)
    loss.backward()
    assert update.loss == pytest.approx(loss.item(), rel=1e-6)
    rate = learning_rate(4, config)
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        moved = theirs.detach() - rate * theirs.grad
        torch.testing.assert_close(ours.detach(), moved, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 11])
def test_the_mean_over_examples_does_not_depend_on_the_batches(batch_size):
    model, examples = make_model(), make_examples()
    whole = answer_loss(model, examples, SHORT).item()
    config = replace(SHORT, batch_size=batch_size, accumulation=1)
    loss = partial(answer_loss, model, config=config)
    mean = mean_loss(examples, loss, n_targets, config)
    assert mean == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("step", [1, 4, 5])
def test_stopped_anywhere_it_ends_the_same(tmp_path, step, adapted):
    """Two steps lie between checkpoints; a pass over the data takes two or three."""

    def fresh(seed=0):
        model = make_model(seed)
        if adapted:
            add_lora(model, rank=2, alpha=3, generator=seeded(seed))
        return model

    def progress(record):
        if isinstance(record, Update) and record.step == step:
            raise Stop

    whole, history = run(fresh())
    with pytest.raises(Stop):
        run(fresh(), tmp_path, progress=progress)
    assert checkpoint_paths(tmp_path)
    resumed, again = run(fresh(), tmp_path)
    assert again == history
    for name, weight in resumed.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name


def test_adapters_learn_and_nothing_else():
    model = make_model()
    add_lora(model, rank=2, alpha=4, generator=seeded())
    before = weights_of(model)
    run(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]) == ("lora" not in name), name


def test_adapters_can_learn_the_task_and_be_merged():
    """The base model is frozen as it was drawn, and yet the loss falls far."""
    model = make_model()
    add_lora(model, 4, 8, ["query", "key", "value", "output", "up", "down"], seeded())
    config = replace(SHORT, steps=120, batch_size=8, accumulation=1, learning_rate=0.03)
    history = finetune(model, task(40), task(9, seed=1), config, seeded())
    assert history.evaluations[-1].loss < 0.5 * history.evaluations[0].loss
    assert sum("lora_" in name for name, _ in model.named_parameters()) == 24
    merge_lora(model)
    held_out = [task(9, seed=1)[place] for place in (0, 2, 4, 6, 8)]
    merged = answer_loss(model, held_out, config).item()
    assert merged == pytest.approx(history.evaluations[-1].loss, rel=1e-4)


@pytest.mark.parametrize("way", ["head", "full", "lora"])
def test_a_classifier_learns_in_three_ways(way):
    """Whether token 4 is there: what is left from chance, a half, is little in full
    and with adapters. The head alone sees features that nobody trained, so for it
    only what may change is looked at.
    """
    model = make_model()
    classifier = Classifier(model, 2, seeded())
    if way == "head":
        classifier.freeze_body()
    if way == "lora":
        add_lora(classifier.body, 2, 4, ["query", "value", "up", "down"], seeded())
    before = weights_of(classifier)
    config = replace(SHORT, steps=150, batch_size=8, accumulation=1, learning_rate=0.02)
    finetune(classifier, labelled(80), labelled(20, seed=1), config, seeded())
    for name, weight in classifier.state_dict().items():
        learns = way == "full" or "head" in name or "lora" in name
        assert torch.equal(weight, before[name]) != learns, name
    if way != "head":
        assert accuracy(classifier, labelled(60, seed=2)) > 0.8


# Reference


def test_equals_pretraining_where_everything_counts():
    """With every token a target and all of one length, it is pretraining's step."""
    windows = torch.randint(13, (4, 9), generator=seeded())
    examples = [TokenizedExample.of_tokens(row.tolist(), [True] * 9) for row in windows]
    ours, theirs = make_model(), make_model()
    torch.testing.assert_close(
        answer_loss(ours, examples, SHORT), next_token_loss(theirs, windows, SHORT)
    )
    shares = shares_of(ours, examples)
    update = update_weights(ours, make_optimizer(ours, SHORT), shares, 1, SHORT)
    other = train_step(theirs, make_optimizer(theirs, SHORT), windows, 1, SHORT)
    assert update.loss == pytest.approx(other.loss, rel=1e-6)
    assert update.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-5)
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_loss_is_torchs_with_an_index_to_ignore():
    logits = torch.randn(5, 7, 13, generator=seeded())
    targets = torch.randint(13, (5, 7), generator=seeded())
    mask = torch.rand(5, 7, generator=seeded()) < 0.4
    ignored = torch.where(mask, targets, -100).flatten()
    torch.testing.assert_close(
        masked_cross_entropy(logits, targets, mask),
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ignored),
    )


def test_equals_a_loop_of_steps():
    model, history = run()
    copy, config = make_model(), SHORT
    optimizer = make_optimizer(copy, config)
    batches = ShuffledExamples(make_examples(), config.batch_size, seeded())
    updates = [
        update_weights(copy, optimizer, shares_of(copy, batch), step, config)
        for step, batch in enumerate(islice(batches, config.steps))
    ]
    assert updates == history.updates
    for ours, theirs in zip(copy.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# Refusal


def test_refuses_a_loss_over_nothing():
    logits, targets = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(
        ValueError, match="targets that count must be at least 1, got 0"
    ):
        masked_cross_entropy(logits, targets, torch.zeros(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("limits", [(9, 9), (20, 9), (8, 20)])
def test_refuses_examples_longer_than_the_context(limits):
    """Whichever is the lower, the config's or the model's."""
    ours, models = limits
    config = replace(SHORT, context_length=ours)
    model = Transformer(replace(SMALL, context_length=models), seeded())
    long = [TokenizedExample.of_label([1] * n, 0) for n in (3, 11, 10)]
    fine = make_examples()
    for examples, valid in ((fine + long, fine), (fine, long)):
        message = f"tokens of an example must be in 1 … {min(limits)}, got 11"
        with pytest.raises(ValueError, match=message):
            finetune(model, examples, valid, config, seeded())


@pytest.mark.parametrize("bad", [-1, 13])
def test_refuses_ids_outside_the_vocabulary(bad):
    odd = [TokenizedExample.of_tokens([3, bad, 4], [False, False, True])]
    for examples, valid in ((odd * 4, make_examples()), (make_examples(), odd)):
        with pytest.raises(ValueError, match="ids must be in 0 … 12, got"):
            finetune(make_model(), examples, valid, SHORT, seeded())


def test_refuses_labels_that_are_no_class():
    classifier = Classifier(make_model(), n_classes=2)
    texts = [TokenizedExample.of_label([3, 4], label) for label in (0, 1, 2, 0)]
    with pytest.raises(ValueError, match="targets must be in 0 … 1, got 0 … 2"):
        finetune(classifier, texts, texts[:1], SHORT, seeded())


def test_refuses_too_few_examples():
    fine = make_examples()
    for examples, valid in (([], fine), (fine, [])):
        with pytest.raises(ValueError, match="to hold out must be at least 1, got 0"):
            finetune(make_model(), examples, valid, SHORT, seeded())
    with pytest.raises(ValueError, match="examples must be at least 4, got 3"):
        finetune(make_model(), fine[:3], fine, SHORT, seeded())


def test_refuses_checkpoints_of_other_examples(tmp_path):
    run(folder=tmp_path)
    model, fine = make_model(), make_examples()
    for examples, valid, name in (
        (make_examples(seed=5), make_examples(seed=1), "train_tokens"),
        (fine, fine, "valid_tokens"),
    ):
        with pytest.raises(ValueError, match=f"of another run: {name} must be"):
            finetune(model, examples, valid, SHORT, seeded(), run=Run(folder=tmp_path))


def adapted(*alphas):
    """Return a model with an adapter in each of its two layers."""
    model = make_model()
    names = [f"blocks.{block}.attention.query" for block in (0, 1)]
    sizes = {name: (2, alpha) for name, alpha in zip(names, alphas, strict=True)}
    add_lora_to(model, sizes, seeded())
    return model


def classifier(seed=0):
    return Classifier(make_model(), 13, seeded(seed))


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (make_model, [lambda: make_model(9), lambda: adapted(4, 4)]),
        (
            lambda: adapted(4, 8),
            [lambda: adapted(400, 8), lambda: adapted(4.0000001, 8)],
        ),
        (lambda: adapted(4, 8), [lambda: adapted(8, 4)]),
        (classifier, [lambda: classifier(seed=9)]),
    ],
)
def test_refuses_checkpoints_of_a_training_that_began_otherwise(
    tmp_path, first, others
):
    """The first goes on, and none of the others, whose weights mostly look the same."""
    _, history = run(first(), tmp_path)
    for other in others:
        with pytest.raises(ValueError, match="another run: (alphas.*|start) must be"):
            run(other(), tmp_path)
    assert run(first(), tmp_path)[1] == history
