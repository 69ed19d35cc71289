"""Time training and generation side by side with `transformers`' Llama.

    python tests/benchmarks/bench_pretraining.py

One thread. The same sizes, weights, windows, optimizer and precision on both sides;
their model is loaded from the folder that `save_pretrained` writes. For each shape:

- *train*: forward, loss, backward, clipping and AdamW, in tokens per second
- *peak*: our arithmetic, three times `forward_flops_per_token` for each token, as a
  share of what a large matrix product of the same precision reaches here
- *generate*: greedy, one prompt, with key-value cache, in new tokens per second

Times are the best of several, and both sides take turns, so that other work on the
machine hits both. The script ends with an error if the logits or the greedily written
ids differ.

On one of two x86-64 cores with AVX-512, the other one busy, Python 3.11, torch 2.13,
transformers 5.24; the last shape is base-llm's:

    418,272 parameters, vocabulary 2048, width 96, 2 layers
      tokens/s                  ours  theirs   ratio    peak
      train 1 × 208 float32    13631   13288    1.03     49%
      train 8 × 128 float32    19253   17995    1.07     65%
      train 4 × 256 float32    17226   16847    1.02     65%
      train 1 × 208 bfloat16   14458   13632    1.06     23%
      train 8 × 128 bfloat16   27360   22144    1.24     40%
      train 4 × 256 bfloat16   25137   20428    1.23     41%
      generate                  1943     951    2.04
    922,752 parameters, vocabulary 1024, width 128, 4 layers
      tokens/s                  ours  theirs   ratio    peak
      train 1 × 208 float32     6501    6464    1.01     48%
      train 8 × 128 float32     8784    9166    0.96     60%
      train 4 × 256 float32     8106    8084    1.00     62%
      train 1 × 208 bfloat16    7594    7269    1.04     26%
      train 8 × 128 bfloat16   13721    9811    1.40     43%
      train 4 × 256 bfloat16   13069   10289    1.27     46%
      generate                   959     463    2.07
    2,828,032 parameters, vocabulary 3072, width 256, 3 layers
      tokens/s                  ours  theirs   ratio    peak
      train 1 × 208 float32     3154    3168    1.00     60%
      train 8 × 128 float32     3692    3498    1.06     68%
      train 4 × 256 float32     3776    3566    1.06     74%
      train 1 × 208 bfloat16    5040    4399    1.15     47%
      train 8 × 128 bfloat16    7348    5560    1.32     66%
      train 4 × 256 bfloat16    6610    4931    1.34     63%
      generate                   427     281    1.52

In float32 both spend most of the time in the same matrix products, so there is little
to win; in bfloat16 writing out the scores of short sequences pays.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaForCausalLM
from transformers.utils import logging

from llmcourse.accounting import forward_flops_per_token, n_parameters
from llmcourse.generation import generate
from llmcourse.memory import keep_freed_memory
from llmcourse.packing import END_OF_TEXT
from llmcourse.pretrained import save_pretrained
from llmcourse.pretraining import PretrainingConfig, make_optimizer, train_step
from llmcourse.recipes import BASE_LLM
from llmcourse.tales import generate as generate_tales
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer, TransformerConfig
from llmcourse.windows import Windows

SHAPES = (
    TransformerConfig(
        vocab_size=2048,
        d_model=96,
        n_heads=3,
        n_kv_heads=3,
        d_ff=256,
        context_length=384,
    ),
    TransformerConfig(
        vocab_size=1024, d_model=128, n_layers=4, d_ff=344, context_length=384
    ),
    BASE_LLM.model,
)
TRAININGS = ((1, 208), (8, 128), (4, 256))  # windows in a batch, tokens in a window
NEW_TOKENS = 200


def best_times(*functions: Callable[[], object], repeats: int = 7) -> list[float]:
    """Return the shortest time of each function, in seconds; they take turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            own.append(time.perf_counter() - start)
    return [min(own) for own in times]


def peak_flops(dtype: torch.dtype, n: int = 1024) -> float:
    """Return what a product of two square matrices reaches, in FLOPs per second."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / best_times(lambda: a @ b)[0]


def their_optimizer(model: LlamaForCausalLM, config: PretrainingConfig) -> Any:
    """Return AdamW with the groups of `make_optimizer`."""
    decayed = [w for n, w in model.named_parameters() if w.ndim == 2 and "layers" in n]
    others = [w for w in model.parameters() if all(w is not d for d in decayed)]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def their_step(
    model: LlamaForCausalLM, optimizer: Any, windows: torch.Tensor, low_precision: bool
) -> float:
    """Make the update that `train_step` makes."""
    with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
        logits = model(windows[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), windows[:, 1:].flatten()
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def load_both(config: TransformerConfig) -> tuple[Transformer, LlamaForCausalLM, Any]:
    """Return our model and theirs with equal weights, and tokens to train on."""
    texts = [story.text for story in generate_tales(2000, seed=0)]
    tokenizer = BPETokenizer.train(texts, config.vocab_size, [END_OF_TEXT])
    model = Transformer(config, torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, tokenizer, folder)
        theirs = LlamaForCausalLM.from_pretrained(folder)
    tokens = torch.tensor(tokenizer.encode(" ".join(texts[:500])))
    with torch.no_grad():
        ids = tokens[:100].view(2, 50)
        torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-4, rtol=1e-4)
    return model, theirs, tokens


def compare_generation(config: TransformerConfig) -> None:
    """Print new tokens per second of both."""
    model, theirs, tokens = load_both(config)
    prompt = tokens[None, :20]
    options = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
    options |= {"do_sample": False, "pad_token_id": 0}

    def ours() -> torch.Tensor:
        return generate(model, prompt, NEW_TOKENS, temperature=0)

    def other() -> torch.Tensor:
        mask = torch.ones_like(prompt)
        return theirs.generate(
            prompt, attention_mask=mask, eos_token_id=None, **options
        )

    if not torch.equal(ours(), other()):
        raise SystemExit("both must write the same greedily, but they differ")
    mine, others = (NEW_TOKENS / t for t in best_times(ours, other))
    print(f"  generate               {mine:7.0f} {others:7.0f}   {mine / others:5.2f}")


def compare_training(config: TransformerConfig, precision: Any) -> None:
    """Print trained tokens per second of both, for each size of batch."""
    peak = peak_flops(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    for batch_size, length in TRAININGS:
        model, theirs, tokens = load_both(config)
        training = PretrainingConfig(
            batch_size=batch_size,
            context_length=length,
            learning_rate=1e-4,
            precision=precision,
        )
        batches = Windows(tokens, length).shuffled(
            batch_size, torch.Generator().manual_seed(0)
        )
        windows = next(batches)
        optimizer, other = (
            make_optimizer(model, training),
            their_optimizer(theirs, training),
        )

        def ours() -> None:
            for _ in range(3):
                train_step(model, optimizer, windows, 0, training)  # noqa: B023

        def their() -> None:
            for _ in range(3):
                their_step(theirs, other, windows, precision == "bfloat16")  # noqa: B023

        mine, others = (
            3 * batch_size * length / t for t in best_times(ours, their, repeats=10)
        )
        share = mine * 3 * forward_flops_per_token(config, length) / peak
        print(
            f"  train {batch_size} × {length} {precision:8} {mine:7.0f} {others:7.0f}"
            f"   {mine / others:5.2f}   {share:5.0%}"
        )


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    keep_freed_memory()  # for both alike
    logging.disable_progress_bar()
    for config in SHAPES:
        print(
            f"{n_parameters(config):,} parameters, vocabulary {config.vocab_size}, "
            f"width {config.d_model}, {config.n_layers} layers\n"
            "  tokens/s                  ours  theirs   ratio    peak"
        )
        for precision in ("float32", "bfloat16"):
            compare_training(config, precision)
        compare_generation(config)


if __name__ == "__main__":
    main()
