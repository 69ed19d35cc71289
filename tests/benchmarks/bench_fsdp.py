"""Measure what one of several processes holds in memory, weights sharded or whole.

    torchrun --nproc-per-node 2 tests/benchmarks/bench_fsdp.py [--fsdp]

Counted are the bytes of weights, gradients and AdamW's means in the first process,
exactly, and by how much the resident set grew at its peak, from before there was a
model until after three steps: that has activations and buffers in it. A model of 42
million parameters on x86-64:

    2 processes, whole        674 MB held, peak 940 MB above the start
    2 processes, --fsdp       337 MB        620 MB
    4 processes, --fsdp       169 MB        430 MB
"""

import resource
import sys
from typing import Any

import torch

from llmcourse.model.costs import n_parameters
from llmcourse.model.transformer import TINY, Transformer, TransformerConfig
from llmcourse.training import parallel
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import keep_freed_memory
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import train_step

SIZES = TransformerConfig(
    vocab_size=8192, d_model=512, n_layers=12, n_heads=8, n_kv_heads=8, d_ff=1376
)
MEANS = ("exp_avg", "exp_avg_sq")
TRAINING = PretrainingConfig(batch_size=4, context_length=64)


def peak() -> int:
    """Return the largest resident set that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def n_bytes(tensor: torch.Tensor) -> int:
    """Return how much of a tensor is in this process."""
    part: Any = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return int(part.numel() * part.element_size())


def trained(sizes: TransformerConfig) -> tuple[Transformer, torch.optim.Optimizer]:
    """Return a model and its optimizer after three steps."""
    model = Transformer(sizes, torch.Generator().manual_seed(0))
    if "--fsdp" in sys.argv:
        parallel.shard(model)
    optimizer = make_optimizer(model, TRAINING)
    generator = torch.Generator().manual_seed(0)
    size = (TRAINING.batch_size, TRAINING.context_length + 1)
    for step in range(3):
        windows = torch.randint(sizes.vocab_size, size, generator=generator)
        train_step(model, optimizer, windows, step, TRAINING)
    return model, optimizer


def main() -> None:
    """Print both numbers."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with parallel.processes():
        trained(TINY)  # so that all code is there
        before = peak()
        model, optimizer = trained(SIZES)
        weights = [*model.parameters()]
        # A gradient is as large as its weight, and is dropped after the step.
        held = 2 * sum(map(n_bytes, weights))
        for weight in weights:
            held += sum(n_bytes(optimizer.state[weight][name]) for name in MEANS)
        if parallel.rank() == 0:
            print(
                f"{parallel.n_processes()} processes, {n_parameters(SIZES) / 1e6:.0f} "
                f"million parameters: {held / 1e6:.0f} MB of weights, gradients and "
                f"means, peak {(peak() - before) / 1e6:.0f} MB above the start"
            )


if __name__ == "__main__":
    main()
