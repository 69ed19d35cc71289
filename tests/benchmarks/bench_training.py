"""Measure what each option of a training does to time, memory and loss; print a table.

    python tests/benchmarks/bench_training.py [--steps 40] [--write]

Each line is a training of its own, from the first weights of `base-llm-small`, on the
same windows of tales. They take turns, a step each, so that other work on the machine
hits all. Times are processor times of one thread, and medians; the share is of the
first line's time for a step on the same windows. The first step stands apart, for
there torch compiles, in this process and in compilers that it starts. The peak is that
of all tensors in a step; compiled programs do not tell theirs. The loss is that of
held-out tales after all steps.

`--write` puts the table into `book/performance.md`.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median

import torch
from bench_peers import PAGE, machine
from torch import nn

from llmcourse.model.costs import PeakMemory
from llmcourse.model.folders import load_pretrained
from llmcourse.text.tales import generate
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import checkpoint_blocks, compile_model, keep_freed_memory
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.presets import BASE_LLM_SMALL
from llmcourse.training.pretraining import next_token_loss, train_step
from llmcourse.training.windows import Windows

RECIPE = BASE_LLM_SMALL
BEGIN, END = "% measured options\n", "% end of measured options\n"
HEAD = (
    "| Training | First step, s | Step, ms | Share | Peak, MB | Loss, nats/token |\n"
    "|---|---|---|---|---|---|"
)


def nothing(model: nn.Module) -> None:
    """Leave a model as it is."""


@dataclass
class Training:
    """A training, and how long its steps took."""

    name: str
    config: PretrainingConfig
    change: Callable[[nn.Module], None] = nothing
    fused: bool = True  # whether AdamW is one operation
    times: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """Make model and optimizer."""
        self.model = RECIPE.new_model()
        self.change(self.model)
        self.optimizer = make_optimizer(self.model, self.config)
        for group in self.optimizer.param_groups:
            group["fused"] = self.fused

    def step(self, windows: torch.Tensor) -> None:
        """Make a step, and keep its time."""
        before = processor_time()
        train_step(self.model, self.optimizer, windows, len(self.times), self.config)
        self.times.append(processor_time() - before)


def processor_time() -> float:
    """Return seconds of this process and of those that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


def trainings(steps: int) -> list[Training]:
    """Return what is compared; the first is what the others are measured by."""
    plain = replace(RECIPE.pretraining, steps=steps, warmup_steps=steps // 5)
    plain, low = (replace(plain, precision=kind) for kind in ("float32", "bfloat16"))
    found = [
        Training("float32", plain),
        Training("AdamW not fused", plain, fused=False),
        Training("gradient checkpointing", plain, checkpoint_blocks),
        Training("bfloat16", low),
        Training("bfloat16, gradient checkpointing", low, checkpoint_blocks),
    ]
    if shutil.which(os.environ.get("CXX", "g++")):
        found.append(Training("compiled", plain, compile_model))
        found.append(Training("bfloat16, compiled", low, compile_model))
    else:
        print("torch.compile is left out: there is no C++ compiler")
    return found


def windows_of(n_tales: int, seed: int) -> Windows:
    """Return the windows of so many tales, one after the other."""
    tokenizer = load_pretrained("base-llm")[1]
    texts = [f"{story.text}<|endoftext|>" for story in generate(n_tales, seed=seed)]
    tokens = torch.tensor(tokenizer.encode("".join(texts)))
    return Windows(tokens, RECIPE.pretraining.context_length)


def main() -> None:
    """Measure, print the table, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40, help="of each training")
    parser.add_argument("--write", action="store_true", help="write the book's page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    compared = trainings(options.steps)
    held_out = windows_of(100, seed=1).spread(32)
    batches = windows_of(8 * options.steps, seed=0).shuffled(
        RECIPE.pretraining.batch_size, torch.Generator().manual_seed(0)
    )
    for training in compared:
        training.begin()
    with tempfile.TemporaryDirectory() as folder:  # where nothing is compiled yet
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        for _ in range(options.steps):
            windows = next(batches)
            for training in compared:
                training.step(windows)
    rows = [HEAD]
    for training in compared:
        model = RECIPE.new_model()  # which is not compiled, not for a measurement
        model.load_state_dict(training.model.state_dict())
        with torch.no_grad():
            loss = next_token_loss(model, held_out, training.config).item()
        peak = "–"
        if training.change is not compile_model:
            with PeakMemory() as memory:
                training.begin()
                training.step(windows)
            peak = f"{memory.peak / 1e6:.0f}"
            training.times.pop()
        pairs = zip(training.times[1:], compared[0].times[1:], strict=True)
        share = median(ours / first for ours, first in pairs)
        rows.append(
            f"| {training.name} | {training.times[0]:.1f} | "
            f"{1000 * median(training.times[1:]):.0f} | {share:.2f} | {peak} | "
            f"{loss:.4f} |"
        )
    about = machine().splitlines()[0]
    rows += ["", f"{options.steps} steps each. {about}"]
    rows.append(f"Python {platform.python_version()}, torch {torch.__version__}.")
    print("\n".join(rows))
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        text = "\n".join(rows)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
