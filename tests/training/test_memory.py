"""Keeping freed memory: nothing but speed may change."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from llmcourse.model.transformer import TINY, Transformer
from llmcourse.training import loop
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import keep_freed_memory, make_optimizer
from llmcourse.training.pretraining import train_step


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
