"""Bytes held at the worst moment: counted, and held against torch's own record."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from llmcourse.model.attention import causal_mask, naive_attention
from llmcourse.model.costs import PeakMemory

# Worked example


def test_worked_example_of_three_tensors():
    """x and x + 1 together, 80 bytes; then x is dropped and 16 more are made."""
    with PeakMemory() as memory:
        x = torch.zeros(10)
        y = x + 1
        del x
        z = y[:2] * 2
    assert (memory.peak, memory.live) == (80, 48)
    assert z.shape == (2,)


# Law


def test_what_was_there_before_and_views_and_changes_in_place_are_free():
    x = torch.zeros(4, 5)
    with PeakMemory() as memory:
        x.add_(1)
        y = x.view(20)[3:].t()
        y += 1
    assert memory.peak == 0


def test_what_is_kept_for_the_gradient_counts():
    x = torch.ones(1000, requires_grad=True)
    with PeakMemory() as memory:
        loss = x.exp().exp().sum()
        held = memory.live
        loss.backward()
    assert held == 2 * 4000 + 4
    assert memory.live == 4000 + 4  # the gradient, and the loss
    assert x.grad is not None


# Reference


def test_torch_records_the_same_for_naive_attention():
    query, key, value = torch.randn(3, 1, 2, 96, 8)
    mask = causal_mask(96, 96)
    with PeakMemory() as memory:
        naive_attention(query, key, value, mask)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        naive_attention(query, key, value, mask)
    live = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert memory.peak == pytest.approx(peak, rel=0.05)
