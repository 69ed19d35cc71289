"""The loop that pretraining and fine-tuning share, with models of a few numbers."""

import ctypes
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from model_cases import seeded
from torch import nn

from llmcourse.model.attention import PackedSequences, RaggedCache
from llmcourse.model.costs import PeakMemory
from llmcourse.model.transformer import TINY, Transformer, TransformerConfig
from llmcourse.training import loop
from llmcourse.training.checkpoints import Run, checkpoint_paths
from llmcourse.training.config import Evaluation, PretrainingConfig, Update
from llmcourse.training.loop import (
    checkpoint_blocks,
    compile_model,
    keep_freed_memory,
    predict,
    train,
    update_weights,
)
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import train_step

SIZES = TransformerConfig(
    vocab_size=13, d_model=16, n_layers=2, n_heads=2, n_kv_heads=2, d_ff=20
)
CONFIG = PretrainingConfig(
    steps=5, learning_rate=0.5, warmup_steps=0, eval_interval=2, clip_norm=10.0
)


class Counting:
    """Batches of one number: 0, 1, 2, …"""

    def __init__(self):
        self.next = 0

    def __next__(self):
        self.next += 1
        return [self.next - 1]

    def state_dict(self):
        return {"next": torch.tensor(self.next)}

    def load_state_dict(self, state):
        self.next = int(state["next"])


def run(folder=None, interval=2, held_out=-1, progress=None):
    """Train one number to follow the batches; return it, its history and the log."""
    model, log = nn.Linear(1, 1, bias=False), []
    with torch.no_grad():
        model.weight.fill_(3.0)

    def loss(rows):
        log.append(rows[0])
        return (model.weight - rows[0]).square().sum()

    history = train(
        model,
        Counting(),
        [held_out],
        loss,
        CONFIG,
        weight=len,
        recipe={"train_tokens": "a"},
        run=Run(folder=folder, interval=interval, progress=progress),
    )
    return model.weight.item(), history, log


# Worked example


def test_worked_example_of_an_update():
    """(w - 1)² at w = 3 in two shares, 0.25 and 0.75 of it: loss 4, gradient 4, and at
    rate 0.1 the weight moves to 2.6; a clip at 1 lets it move by 0.1.
    """
    for clip, expected in ((10.0, 2.6), (1.0, 2.9)):
        model = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            model.weight.fill_(3.0)
        config = replace(CONFIG, learning_rate=0.1, clip_norm=clip)
        loss = (((model.weight - 1) ** 2).sum() * share for share in (0.25, 0.75))
        optimizer = torch.optim.SGD(model.parameters())
        update = update_weights(model, optimizer, loss, 0, config)
        assert (update.step, update.loss, update.gradient_norm) == (1, 4.0, 4.0)
        assert update.learning_rate == 0.1
        assert model.weight.item() == pytest.approx(expected)
        assert model.weight.grad is None


def test_worked_example_of_a_loop(tmp_path):
    """Five steps, a look every two and at the end, checkpoints likewise."""
    seen = []
    _, history, log = run(tmp_path, progress=seen.append)
    assert log == [-1, 0, 1, -1, 2, 3, -1, 4, -1]  # -1 is held out
    assert [update.step for update in history.updates] == [1, 2, 3, 4, 5]
    assert [found.step for found in history.evaluations] == [0, 2, 4, 5]
    assert history.evaluations[0].loss == 16  # (3 + 1)²
    assert [r for r in seen if isinstance(r, Update)] == history.updates
    assert [r for r in seen if isinstance(r, Evaluation)] == history.evaluations
    names = [path.stem for path in checkpoint_paths(tmp_path)]
    assert names == ["step-00000004", "step-00000005"]


# Law


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_stopped_anywhere_it_ends_the_same(tmp_path, step, interval):
    def progress(record):
        if isinstance(record, Update) and record.step == step:
            raise KeyError("stop")

    whole = run()
    with pytest.raises(KeyError):
        run(tmp_path, interval, progress=progress)
    weight, history, log = run(tmp_path, interval)
    assert (weight, history) == whole[:2]
    assert (
        next(number for number in log if number >= 0)
        == (step - 1) // interval * interval
    )


def test_one_share_is_asked_for_after_the_gradient_of_the_other():
    model = nn.Linear(1, 1, bias=False)

    def shares():
        yield 2 * model.weight.sum()
        assert model.weight.grad.item() == 2
        yield 3 * model.weight.sum()
        assert model.weight.grad.item() == 5

    update = update_weights(
        model, torch.optim.SGD(model.parameters()), shares(), 0, CONFIG
    )
    assert update.gradient_norm == 5


def test_what_is_frozen_neither_moves_nor_counts():
    """Not in the gradient's norm either, even where a gradient was left behind."""
    model = Transformer(SIZES, seeded())
    model.embedding.weight.grad = torch.ones_like(model.embedding.weight)
    model.requires_grad_(False)
    model.norm.requires_grad_(True)
    optimizer = make_optimizer(model, CONFIG)
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 0, 1]
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    loss = model.norm.weight.sum() * 3
    update = update_weights(model, optimizer, [loss], 0, CONFIG)
    assert update.gradient_norm == pytest.approx(3 * math.sqrt(16))
    moved = {n for n, w in model.named_parameters() if not torch.equal(w, before[n])}
    assert moved == {"norm.weight"}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_weight_is_learned_and_the_blocks_matrices_decay(family, tied):
    model = Transformer(replace(SIZES, family=family, tied_embeddings=tied), seeded())
    optimizer = make_optimizer(model, replace(CONFIG, weight_decay=0.3))
    decay = {
        id(weight): group["weight_decay"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert decay == {
        id(weight): 0.3 if weight.ndim == 2 and name.startswith("blocks.") else 0.0
        for name, weight in model.named_parameters()
    }


# Reference


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predictions_are_the_models_in_that_precision(precision):
    model = Transformer(SIZES, seeded())
    ids = torch.tensor([[5, 0, 3], [12, 1, 1]])
    logits = predict(model, ids, replace(CONFIG, precision=precision))
    assert logits.dtype == getattr(torch, precision)
    exact, close = model(ids), {"atol": 0.05, "rtol": 0.05}  # 8 bits are kept
    assert torch.equal(logits, exact) == (precision == "float32")
    torch.testing.assert_close(logits, exact, **close, check_dtype=False)


# Refusal


def test_refuses_a_model_that_is_all_frozen():
    model = Transformer(SIZES, seeded()).requires_grad_(False)
    with pytest.raises(ValueError, match="needs a weight that is not frozen"):
        make_optimizer(model, CONFIG)


def test_refuses_an_interval_that_is_not_positive():
    with pytest.raises(ValueError, match="interval must be positive, got 0"):
        run(interval=0)


def test_a_loss_that_is_no_number_changes_nothing():
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(FloatingPointError, match="step 4 needs a finite loss"):
        update_weights(model, optimizer, [model.weight.sum() * math.inf], 3, CONFIG)
    assert (model.weight.item(), model.weight.grad) == (before, None)


def test_a_held_out_loss_that_is_no_number_stops_the_training():
    with pytest.raises(FloatingPointError, match="step 0 needs a finite loss on the"):
        run(held_out=math.nan)


@pytest.mark.parametrize("tied", [True, False])
def test_token_embeddings_learn_at_their_own_speed(tied):
    """AdamW's first step moves every weight by its learning rate."""
    config = replace(CONFIG, embedding_speed=5, weight_decay=0, warmup_steps=0)
    model = Transformer(replace(SIZES, tied_embeddings=tied), seeded())
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    loss = sum(weight.sum() for weight in model.parameters())
    update = update_weights(model, make_optimizer(model, config), [loss], 0, config)
    for name, weight in model.named_parameters():
        speed = 5 if name == "embedding.weight" else 1
        moved = (before[name] - weight).mean().item()
        assert moved == pytest.approx(speed * update.learning_rate, rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_blocks_that_compute_twice_make_the_same_bits_in_less_memory(family, precision):
    sizes = replace(SIZES, family=family, n_layers=5, context_length=90)
    config = replace(
        CONFIG,
        learning_rate=0.01,
        precision=precision,
        batch_size=4,
        accumulation=2,
    )
    windows = torch.randint(13, (4, 90), generator=seeded(1))
    found = []
    for change in (lambda model: None, checkpoint_blocks):
        with PeakMemory() as memory:
            model = Transformer(sizes, seeded())
            change(model)
            optimizer = make_optimizer(model, config)
            losses = [
                train_step(model, optimizer, windows, step, config).loss
                for step in range(3)
            ]
        found.append((losses, model.state_dict(), memory.peak))
    (losses, weights, peak), (again, same_weights, less) = found
    assert again == losses
    assert losses[-1] < losses[0] - 0.1
    for name, weight in weights.items():
        assert torch.equal(same_weights[name], weight), name
    assert less < 0.6 * peak


def test_blocks_that_compute_twice_read_a_cache_only_without_gradients():
    model, ids = Transformer(SIZES, seeded()), torch.randint(13, (1, 6))
    alone = model(ids)
    checkpoint_blocks(model)
    with torch.no_grad():
        cache = model.new_cache()
        parts = [model(part, cache) for part in (ids[:, :4], ids[:, 4:])]
    torch.testing.assert_close(torch.cat(parts, dim=1), alone)
    for cache in (model.new_cache(), RaggedCache([model.new_cache()])):
        with pytest.raises(ValueError, match="no key-value cache, got a"):
            model(ids, cache)
    packed = PackedSequences([6])
    torch.testing.assert_close(model(ids, packed), alone)


IN_BOTH_WAYS = """
import json
import torch
from torch._dynamo.utils import counters
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import checkpoint_blocks, compile_model
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import train_step

def losses(*changes):
    sizes = TransformerConfig(vocab_size=13, d_model=16, n_layers=1)
    model = Transformer(sizes, torch.Generator().manual_seed(0))
    for change in changes:
        change(model)
    config = PretrainingConfig(steps=5, learning_rate=0.01, warmup_steps=0)
    optimizer = make_optimizer(model, config)
    windows = torch.randint(13, (4, 40), generator=torch.Generator().manual_seed(1))
    found, graphs = [], []
    for n, length in enumerate((40, 29, 34, 23, 37)):
        part = windows[:, :length]
        found.append(train_step(model, optimizer, part, n, config).loss)
        graphs.append(counters["stats"]["unique_graphs"])
    return found, graphs

print(json.dumps([losses()[0], *losses(checkpoint_blocks, compile_model)]))
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles by g++")
def test_a_compiled_model_has_the_same_losses_up_to_rounding():
    """In a process of its own, for here each call is checked and cannot be compiled."""
    ended = subprocess.run(
        [sys.executable, "-c", IN_BOTH_WAYS],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    losses, compiled, graphs = json.loads(ended.stdout)
    assert compiled == pytest.approx(losses, abs=1e-5)
    assert 0 < graphs[0] == graphs[-1], "once for batches of any length"
    assert losses[-1] < losses[0] - 0.1


def test_a_missing_compiler_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OSError, match=r"needs a C\+\+ compiler"):
        compile_model(Transformer(SIZES))


def on(monkeypatch, **functions):
    """Pretend that the C library has these functions and no others."""
    library = SimpleNamespace(**functions)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)


# Worked example


def test_worked_example_of_the_two_options(monkeypatch):
    """Of malloc.h: option -3 is from which size blocks are handed back one by one,
    option -1 from which size the end of the heap is; the most is a C int's.
    """
    calls = []
    on(
        monkeypatch,
        gnu_get_libc_version=None,
        mallopt=lambda *pair: calls.append(pair) or 1,
    )
    assert keep_freed_memory()
    assert calls == [(-3, 2_147_483_647), (-1, 2_147_483_647)]


# Law


def test_it_can_be_called_again():
    first = keep_freed_memory()
    assert isinstance(first, bool)
    assert keep_freed_memory() == first


def test_results_do_not_change():
    def update():
        model = Transformer(TINY, torch.Generator().manual_seed(0))
        config = PretrainingConfig()
        windows = torch.arange(3 * 18).view(3, 18)
        optimizer = make_optimizer(model, config)
        return train_step(model, optimizer, windows, 0, config), model

    (before, one), _ = update(), keep_freed_memory()
    after, two = update()
    assert before == after
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_older_versions_keep_what_they_can(monkeypatch):
    accepted = []

    def mallopt(option, value):
        fine = option != -3 or value <= 2**25
        accepted.extend([(option, value)] * fine)
        return int(fine)

    on(monkeypatch, gnu_get_libc_version=None, mallopt=mallopt)
    assert keep_freed_memory()
    assert accepted == [(-3, 2**25), (-1, 2**31 - 1)]


# Refusal


@pytest.mark.parametrize("functions", [{}, {"mallopt": None}])
def test_other_libraries_are_left_alone(monkeypatch, functions):
    on(monkeypatch, **functions)
    assert keep_freed_memory() is False


@pytest.mark.parametrize("error", [TypeError, OSError])
def test_systems_without_a_c_library_are_left_alone(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(loop.ctypes, "CDLL", fail)
    assert keep_freed_memory() is False


def test_a_refused_option_is_told(monkeypatch):
    for refused in (-1, -3):
        on(
            monkeypatch,
            gnu_get_libc_version=None,
            mallopt=lambda option, value: int(option != refused),  # noqa: B023
        )
        assert keep_freed_memory() is False
