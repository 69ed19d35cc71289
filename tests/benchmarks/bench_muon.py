"""Time a step by Muon with its matrices shared out between processes, and not.

    torchrun --nproc-per-node 2 tests/benchmarks/bench_muon.py

Both ways take turns, on the same model of `base-llm-small`'s sizes, gradients and
weights alike; medians of the first process. Processor time is what it computes, and
wall time has the waiting for others in it. Three runs on two x86-64 cores, busy with
other work:

    shared out         62 60 68 ms of the processor, 152 157 153 ms in all
    each by itself     76 78 84 ms of the processor, 198 201 214 ms in all
"""

import time
from dataclasses import replace
from statistics import median

import torch

from llmcourse.training import parallel
from llmcourse.training.loop import keep_freed_memory
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.presets import BASE_LLM_SMALL

REPEATS = 15


def main() -> None:
    """Print both times of both ways."""
    torch.set_num_threads(1)
    keep_freed_memory()
    ways = {"shared out": parallel.share_out, "each by itself": map}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with parallel.processes():
        model = BASE_LLM_SMALL.new_model()
        config = replace(BASE_LLM_SMALL.pretraining, optimizer="muon")
        optimizer = make_optimizer(model, config)
        for _ in range(REPEATS):
            for name, way in ways.items():
                parallel.share_out = way  # type: ignore[assignment]
                for weight in model.parameters():
                    weight.grad = torch.ones_like(weight)
                start = time.process_time(), time.perf_counter()
                optimizer.step()
                end = time.process_time(), time.perf_counter()
                times[name].append((end[0] - start[0], end[1] - start[1]))
        if parallel.rank() == 0:
            print(f"{parallel.n_processes()} processes, {model.config.d_model} wide")
            for name, found in times.items():
                own, wall = (
                    1000 * median(column) for column in zip(*found, strict=True)
                )
                print(f"{name:15}{own:6.0f} ms of the processor, {wall:6.0f} ms in all")


if __name__ == "__main__":
    main()
