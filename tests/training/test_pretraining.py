"""The training loop: its schedule, its optimizer, and that it learns."""

import math
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from model_cases import SMALL, seeded

from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import (
    Evaluation,
    PretrainingConfig,
    Update,
    learning_rate,
)
from llmcourse.training.loop import mean_loss
from llmcourse.training.losses import cross_entropy
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import (
    n_targets,
    next_token_loss,
    pretrain,
    train_step,
)
from llmcourse.training.windows import NO_TOKEN, Windows

SHORT = PretrainingConfig(
    steps=6,
    batch_size=3,
    context_length=7,
    learning_rate=0.01,
    warmup_steps=2,
    eval_interval=4,
    eval_examples=5,
)


def make_model(seed=0):
    return Transformer(SMALL, seeded(seed))


def random_tokens(n=100, seed=0):
    return np.random.default_rng(seed).integers(0, 13, n).astype(np.uint16)


def run(config=SHORT, seed=0, **options):
    model = make_model()
    history = pretrain(
        model, random_tokens(), random_tokens(seed=1), config, seeded(seed), **options
    )
    return model, history


def mean_loss_of(model, windows, config):
    loss = partial(next_token_loss, model, config=config)
    return mean_loss(windows, loss, n_targets, config)


# Worked example


def test_worked_example_of_a_schedule():
    """Peak 0.8, 4 steps up, 4 down: quarters of the peak, then half of 1 + cos of
    0, 45, 90 and 135 degrees; with an end at half of the peak the fall is halved.
    """
    config = PretrainingConfig(steps=8, warmup_steps=4, learning_rate=0.8)
    rates = [learning_rate(step, config) for step in range(8)]
    fall = [0.8, 0.4 * (1 + math.sqrt(0.5)), 0.4, 0.4 * (1 - math.sqrt(0.5))]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *fall])
    to_half = replace(config, final_share=0.5)
    rates = [learning_rate(step, to_half) for step in range(4, 8)]
    assert rates == pytest.approx([0.4 + rate / 2 for rate in fall])


def test_the_learning_rate_stays_at_its_end():
    """After the last step it does not rise again, as the cosine would."""
    for share in (0.0, 0.3):
        config = PretrainingConfig(
            steps=21, warmup_steps=4, learning_rate=1.0, final_share=share
        )
        for step in (21, 22, 24, 38, 1000):
            assert learning_rate(step, config) == pytest.approx(share, abs=1e-12)


def test_worked_example_of_accumulation():
    """Windows 3 1 4 and 1 5 9, one at a time: the loss and each gradient are the mean
    of the two windows' own, and plain descent moves the weights against it.
    """
    config = replace(SHORT, batch_size=2, accumulation=2, clip_norm=math.inf)
    model, copy = make_model(), make_model()
    windows = torch.tensor([[3, 1, 4], [1, 5, 9]])
    losses, gradients = [], []
    for window in windows:
        loss = cross_entropy(copy(window[None, :-1]), window[None, 1:])
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, list(copy.parameters())))
    update = train_step(model, torch.optim.SGD(model.parameters()), windows, 3, config)
    assert update.loss == pytest.approx(sum(losses) / 2, rel=1e-6)
    rate = learning_rate(3, config)
    with torch.no_grad():
        for weight, *two in zip(copy.parameters(), *gradients, strict=True):
            weight -= rate * (two[0] + two[1]) / 2
    for ours, theirs in zip(model.parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_worked_example_of_a_source_without_chance():
    """In 0 1 2 … 12 0 1 … each token tells the next, so the entropy is 0; the loss
    starts at log 13 and comes close to that floor, on a stretch never seen.
    """
    tokens = np.arange(600) % 13
    config = replace(SHORT, steps=60, batch_size=8, learning_rate=0.02)
    model = make_model()
    history = pretrain(model, tokens[:500], tokens[500:], config, seeded())
    assert history.evaluations[0].loss == pytest.approx(math.log(13), abs=0.1)
    assert history.evaluations[-1].loss < 0.1


# Law


def test_the_history_is_complete_and_in_order():
    seen = []
    _, history = run(run=Run(progress=seen.append))
    assert [update.step for update in history.updates] == [1, 2, 3, 4, 5, 6]
    assert [evaluation.step for evaluation in history.evaluations] == [0, 4, 6]
    kinds = [type(record) for record in seen]
    assert kinds == [Evaluation] + [Update] * 4 + [Evaluation] + [Update] * 2 + [
        Evaluation
    ]
    assert [r for r in seen if isinstance(r, Update)] == history.updates
    assert [r for r in seen if isinstance(r, Evaluation)] == history.evaluations
    rates = [update.learning_rate for update in history.updates]
    assert rates == [learning_rate(step, SHORT) for step in range(6)]


def test_the_same_generator_gives_the_same_weights_and_another_does_not():
    (first, one), (again, two), (other, _) = run(seed=3), run(seed=3), run(seed=4)
    assert one == two
    same = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_evaluation_changes_nothing():
    often, seldom = (run(replace(SHORT, eval_interval=n))[0] for n in (1, 100))
    pairs = zip(often.parameters(), seldom.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_mean_over_windows_does_not_depend_on_the_batches():
    """Seven windows in batches of 3, 3 and 1 or all at once."""
    model = make_model()
    windows = Windows(random_tokens(), 7).spread(7)
    parts = mean_loss_of(model, windows, SHORT)
    whole = mean_loss_of(model, windows, replace(SHORT, batch_size=7))
    assert parts == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("accumulation", [2, 3, 6])
def test_a_batch_in_parts_is_the_whole_batch(accumulation):
    """Sums in another order differ in the last of float32's 24 bits; Adam divides by
    the gradient's size, so a little more of that is seen in tiny gradients' weights.
    """
    config = replace(SHORT, batch_size=6)
    whole, one = run(config)
    parts, two = run(replace(config, accumulation=accumulation))
    assert [u.loss for u in two.updates] == pytest.approx(
        [u.loss for u in one.updates], rel=1e-5
    )
    assert [u.gradient_norm for u in two.updates] == pytest.approx(
        [u.gradient_norm for u in one.updates], rel=1e-4
    )
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_parts_are_what_the_model_reads():
    model, sizes = make_model(), []
    model.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape))
    config = replace(SHORT, batch_size=6, accumulation=3)
    windows = Windows(random_tokens(), 7).spread(6)
    train_step(model, make_optimizer(model, config), windows, 0, config)
    mean_loss_of(model, windows, config)
    assert sizes == [(2, 7)] * 6


def test_gradients_from_elsewhere_do_not_count():
    windows = Windows(random_tokens(), 7).spread(3)
    clean, stained = make_model(), make_model()
    next_token_loss(stained, windows, SHORT).backward()
    first, second = (
        train_step(model, make_optimizer(model, SHORT), windows, 0, SHORT)
        for model in (clean, stained)
    )
    assert first == second


def test_windows_begin_at_the_start_token():
    """Every document is 0 and then thirteen times the same token, another for each:
    seen from its start, only its first token is a surprise.
    """
    kinds = np.random.default_rng(0).integers(1, 13, 60)
    tokens = np.concatenate([[0, *[kind] * 13] for kind in kinds])
    model, firsts = make_model(), []
    model.register_forward_pre_hook(
        lambda _, args: firsts.extend(args[0][:, 0].tolist())
    )
    pretrain(model, tokens, tokens, SHORT, seeded(), start_token=0)
    assert len(firsts) == 6 * 3 + 3 * 5
    assert set(firsts) == {0}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_rows_that_end_early_are_as_if_read_alone(accumulation):
    """The mean is over all targets, however they lie in rows and parts."""
    config = replace(SHORT, batch_size=4, accumulation=accumulation)
    model = make_model()
    rows = torch.randint(13, (4, 9), generator=seeded())
    ends = [9, 4, 2, 7]
    alone = [
        next_token_loss(model, rows[i : i + 1, :n], config) for i, n in enumerate(ends)
    ]
    expected = sum(
        loss.item() * (n - 1) for loss, n in zip(alone, ends, strict=True)
    ) / sum(n - 1 for n in ends)
    for row, n in zip(rows, ends, strict=True):
        row[n:] = NO_TOKEN
    assert mean_loss_of(model, rows, config) == pytest.approx(expected, rel=1e-6)
    update = train_step(model, make_optimizer(model, config), rows, 0, config)
    assert update.loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_decay_pulls_at_matrices_alone(family, tied):
    """With a gradient of zero AdamW moves nothing, so what shrinks is decayed."""
    shape = replace(
        SMALL, family=family, tied_embeddings=tied, n_kv_heads=SMALL.n_heads
    )
    model = Transformer(shape, torch.Generator().manual_seed(0))
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    optimizer = make_optimizer(model, replace(SHORT, weight_decay=0.5))
    learned = [w for group in optimizer.param_groups for w in group["params"]]
    assert {id(w) for w in learned} == {id(w) for w in model.parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in model.named_parameters():
        decayed = weight.ndim == 2 and name.startswith("blocks.")
        factor = 1 - 0.01 * 0.5 if decayed else 1.0
        torch.testing.assert_close(weight.detach(), before[name] * factor)


def test_low_precision_learns_almost_the_same():
    """Bfloat16 keeps 8 bits; over six steps the losses stay within one in a hundred,
    and they are not equal, or nothing was computed in low precision at all.
    """
    (_, exact), (model, rough) = run(), run(replace(SHORT, precision="bfloat16"))
    ours = [update.loss for update in rough.updates]
    theirs = [update.loss for update in exact.updates]
    assert ours == pytest.approx(theirs, rel=1e-2)
    assert ours != theirs
    assert model.embedding.weight.dtype == torch.float32


# Reference


def test_the_loss_is_the_one_of_the_losses_module():
    model, windows = make_model(), Windows(random_tokens(), 7).spread(5)
    torch.testing.assert_close(
        next_token_loss(model, windows, SHORT),
        cross_entropy(model(windows[:, :-1]), windows[:, 1:]),
    )


def test_equals_a_loop_with_adamw_written_out():
    """Schedule, clipping, both moments with their corrections, and decay by hand.

    The clip is low enough to act in every step.
    """
    config = replace(SHORT, clip_norm=0.3, weight_decay=0.2)
    model, history = run(config)
    copy = make_model()
    weights = dict(copy.named_parameters())
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    batches = Windows(random_tokens(), 7).shuffled(3, seeded())
    for step, batch in enumerate(islice(batches, config.steps), start=1):
        loss = cross_entropy(copy(batch[:, :-1]), batch[:, 1:])
        gradients = dict(
            zip(weights, torch.autograd.grad(loss, weights.values()), strict=True)
        )
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
        assert norm > config.clip_norm, "the clip must act"
        update = history.updates[step - 1]
        assert update.loss == pytest.approx(loss.item(), rel=1e-5)
        assert update.gradient_norm == pytest.approx(norm, rel=1e-5)
        rate = learning_rate(step - 1, config)
        with torch.no_grad():
            for name, weight in weights.items():
                gradient = gradients[name] * config.clip_norm / norm
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.99 * second[name] + 0.01 * gradient.square()
                if weight.ndim == 2 and "embedding" not in name:
                    weight *= 1 - rate * config.weight_decay
                mean = first[name] / (1 - 0.9**step)
                spread = (second[name] / (1 - 0.99**step)).sqrt()
                weight -= rate * mean / (spread + 1e-8)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, weights[name], atol=1e-5, rtol=1e-4)


# Refusal


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", -1),
        ("context_length", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("clip_norm", -1.0),
        ("eval_interval", 0),
        ("eval_examples", 0),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
        ("final_share", 1.1),
        ("betas", (0.9, 1.0)),
        ("accumulation", 0),
    ],
)
def test_refuses_values_that_no_training_can_have(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(SHORT, **{name: value})


def test_refuses_a_batch_that_cannot_be_divided():
    with pytest.raises(
        ValueError, match="batch_size must be a multiple of accumulation, got 3"
    ):
        replace(SHORT, accumulation=2)


def test_a_refused_part_leaves_no_gradient():
    """The first window is fine and gives gradients, the second is not."""
    windows = Windows(random_tokens(), 7).spread(2)
    windows[1, 7] = 13
    config = replace(SHORT, batch_size=2, accumulation=2)
    model = make_model()
    with pytest.raises(ValueError, match="targets must be in 0 … 12"):
        train_step(model, make_optimizer(model, config), windows, 0, config)
    assert all(weight.grad is None for weight in model.parameters())


def test_refuses_a_step_on_windows_longer_than_the_models_context():
    model, windows = make_model(), Windows(random_tokens(), 10).spread(3)
    with pytest.raises(ValueError, match="context_length is 9 tokens, got .* 10 new"):
        train_step(model, make_optimizer(model, SHORT), windows, 0, SHORT)


def test_refuses_windows_longer_than_the_models_context():
    with pytest.raises(ValueError, match="context_length must be in 1 … 9, got 10"):
        run(replace(SHORT, context_length=10))


def test_refuses_a_batch_larger_than_the_data():
    with pytest.raises(
        ValueError, match="windows of a text must be at least 15, got 14"
    ):
        run(replace(SHORT, batch_size=15))


@pytest.mark.parametrize("n_tokens", [1, 7])
def test_refuses_texts_shorter_than_a_window(n_tokens):
    short, long = random_tokens(n_tokens), random_tokens()
    for train, valid in ((short, long), (long, short)):
        with pytest.raises(
            ValueError, match=f"text must be at least 8, got {n_tokens}"
        ):
            pretrain(make_model(), train, valid, SHORT, seeded())


@pytest.mark.parametrize("bad", [-1, 13])
def test_refuses_tokens_outside_the_vocabulary(bad):
    """Before the first step, and wherever the bad token is."""
    tokens, seen = random_tokens().astype(np.int64), []
    tokens[-1] = bad
    for texts in ((tokens, random_tokens()), (random_tokens(), tokens)):
        with pytest.raises(ValueError, match=r"tokens must be in 0 … 12, got"):
            pretrain(
                make_model(), *texts, SHORT, seeded(), run=Run(progress=seen.append)
            )
    assert not seen


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_training_before_the_update(poison):
    model = make_model()
    optimizer = make_optimizer(model, SHORT)
    with torch.no_grad():
        model.norm.weight[0] = poison
    before = model.blocks[0].attention.query.weight.detach().clone()
    windows = Windows(random_tokens(), 7).spread(3)
    with pytest.raises(FloatingPointError, match="step 5 needs a finite loss"):
        train_step(model, optimizer, windows, 4, SHORT)
    assert torch.equal(model.blocks[0].attention.query.weight, before)
    assert model.embedding.weight.grad is None


def test_a_learning_rate_far_too_high_is_found_out():
    """Weights near 1e19 overflow when multiplied: the loss is no longer a number."""
    with pytest.raises(FloatingPointError, match="lower learning rate than 1e"):
        run(replace(SHORT, learning_rate=1e19, warmup_steps=0))
