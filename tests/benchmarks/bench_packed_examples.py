"""Time fine-tuning with its examples padded and packed, side by side.

    python tests/benchmarks/bench_packed_examples.py

One thread. `base-llm-small` learns from instructions such as `instruct-llm`'s, 8 in a
batch; of each batch one update is made with a row for every example, and one with all
of them in one row, in turns. First the batches are made of examples of like length, as
`finetune` makes them, then of any. Times are processor times, of each the median.

On one of two x86-64 cores with AVX2, Python 3.11, torch 2.13:

    float32, 40 batches of 8
    batches         padding   padded   packed   ratio
    of like length      3%   0.676 s  0.685 s    0.99
    of any length      28%   1.092 s  0.756 s    1.44

In another run the ratios were 0.98 and 1.49. So packing pays where examples of all
lengths meet in a batch. Where they are sorted before, there is little padding to save,
and a call of attention for each example costs that much. The recipes of the course
sort, and pad.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from llmcourse.finetuning.examples import ShuffledExamples, TokenizedExample, collate
from llmcourse.finetuning.finetuning import answer_loss
from llmcourse.finetuning.instruction_tuning import INSTRUCT_LLM, prepare, start
from llmcourse.training.config import fall_back_to_float32
from llmcourse.training.loop import keep_freed_memory, make_optimizer, update_weights

STEPS = 40


def main() -> None:
    """Print padding, times and their ratio, for either way to make batches."""
    torch.set_num_threads(1)
    keep_freed_memory()
    recipe = replace(INSTRUCT_LLM, base="base-llm-small", n_examples=1000, n_stories=20)
    config = fall_back_to_float32(recipe.finetuning)
    model, tokenizer = start(recipe)
    data = prepare(recipe, tokenizer).train
    optimizer = make_optimizer(model, config)
    print(f"{config.precision}, {STEPS} batches of {config.batch_size}")
    print("batches         padding   padded   packed   ratio")
    for order in ("of like length", "of any length"):
        batches = _batches(data, config.batch_size, grouped=order == "of like length")
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for step, batch in enumerate(batches):
            for packed, times in seconds.items():
                started = time.process_time()
                loss = answer_loss(model, batch, config, packed=packed)
                update_weights(model, optimizer, [loss], step, config)
                times.append(time.process_time() - started)
        one, other = (statistics.median(times) for times in seconds.values())
        print(
            f"{order:15} {_padding(batches):6.0%} {one:7.3f} s {other:6.3f} s "
            f"{one / other:7.2f}"
        )


def _batches(
    data: Sequence[TokenizedExample], size: int, *, grouped: bool
) -> list[list[TokenizedExample]]:
    generator = torch.Generator().manual_seed(0)
    if grouped:
        shuffled = ShuffledExamples(data, size, generator)
        return [next(shuffled) for _ in range(STEPS)]
    order = torch.randperm(len(data), generator=generator)[: STEPS * size]
    return [[data[n] for n in part] for part in order.view(STEPS, size).tolist()]


def _padding(batches: Sequence[Sequence[TokenizedExample]]) -> float:
    places = sum(collate(batch).ids.numel() for batch in batches)
    return 1 - sum(len(example) for batch in batches for example in batch) / places


if __name__ == "__main__":
    main()
