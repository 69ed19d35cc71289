"""Time training and generation side by side with `transformers`' Llama.

    python tests/benchmarks/bench_pretraining.py

One thread. The same sizes, weights, windows, optimizer and precision on both sides;
their model is loaded from the folder that `save_pretrained` writes. For each shape:

- *train*: forward, loss, backward, clipping and AdamW, in tokens per second
- *products*: the products of the step with weight matrices, forward and backward, made
  alone: their share of our time. Both sides have to make them
- *peak*: our arithmetic, three times `forward_flops_per_token` for each token, as a
  share of what a large matrix product of the same precision reaches here
- *generate*: greedy, one prompt, with key-value cache, in new tokens per second

Times are processor times, and of each the median; both sides take turns, so that other
work on the machine hits both. The script ends with an error if the logits or the
greedily written ids differ.

On one of two x86-64 cores with AVX-512 and its bfloat16 instructions, both busy with
other work, Python 3.11, torch 2.13, transformers 5.24; the last shape is that of
base-llm-small:

    418,272 parameters, vocabulary 2048, width 96, 2 layers
      tokens/s                  ours  theirs   ratio  products   peak
      train 1 × 208 float32    10799   10526    1.03      44%    42%
      train 8 × 128 float32    17714   17171    1.03      65%    64%
      train 4 × 256 float32    16074   16140    1.00      56%    64%
      train 1 × 208 bfloat16   11946   11731    1.02      25%    18%
      train 8 × 128 bfloat16   25598   20187    1.27      41%    37%
      train 4 × 256 bfloat16   24122   19893    1.21      40%    39%
      generate                  2275     657    3.46
    922,752 parameters, vocabulary 1024, width 128, 4 layers
      tokens/s                  ours  theirs   ratio  products   peak
      train 1 × 208 float32     6120    5975    1.02      47%    48%
      train 8 × 128 float32     8143    8146    1.00      61%    59%
      train 4 × 256 float32     7604    7614    1.00      57%    62%
      train 1 × 208 bfloat16    6407    6148    1.04      29%    23%
      train 8 × 128 bfloat16   12014    9033    1.33      43%    39%
      train 4 × 256 bfloat16   10596    8582    1.23      40%    39%
      generate                   738     285    2.59
    2,828,032 parameters, vocabulary 3072, width 256, 3 layers
      tokens/s                  ours  theirs   ratio  products   peak
      train 1 × 208 float32     2672    2623    1.02      62%    65%
      train 8 × 128 float32     3455    3452    1.00      76%    81%
      train 4 × 256 float32     3342    3298    1.01      71%    83%
      train 1 × 208 bfloat16    3874    3539    1.09      42%    40%
      train 8 × 128 bfloat16    5888    4635    1.27      60%    58%
      train 4 × 256 bfloat16    5833    4857    1.20      58%    61%
      generate                   586     262    2.23

Generation is 2.2 to 3.5 times as fast, at the last shape 2.8 times in a quieter hour:
`decoding` joins the matrices and lays them out for one vector. Without it a step of the
last shape takes twice as long, half of that in products with one vector, which wait for
memory, the rest in small operations.

Training is not 1.5 times as fast at the last shape, and it is hard to see how it could
be with torch's own operations. In a run of its own, of 159 ms that a step of 4 × 256
takes in bfloat16, theirs 192, 93 are products with weight matrices, at 187 GFLOP/s (222
is the most that was seen here), and 14 are products inside attention: 107 ms that both
must spend, so all the rest would have to fit into 21 ms. It takes 52, about 12 of them
for the softmax and the copies around attention's products, 16 for casts between float32
and bfloat16 and sums of gradients, 6 each for norms and RoPE, 5 for the loss, 4 for
SwiGLU, 3 for clipping and AdamW. Tried, and not faster by more than 1 %: one product
for query, key and value, or for gate and up; norms and RoPE with a gradient by hand;
other numbers of blocks in attention (two are best) and in the loss. In float32 the
products are three quarters of the time, and there is nothing to win.
"""

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from transformers import LlamaForCausalLM
from transformers.utils import logging

from llmcourse.model.costs import forward_flops_per_token, n_parameters
from llmcourse.model.folders import save_pretrained
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tales import generate as generate_tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import keep_freed_memory
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.presets import BASE_LLM_SMALL
from llmcourse.training.pretraining import train_step
from llmcourse.training.windows import Windows

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
    BASE_LLM_SMALL.model,
)
TRAININGS = ((1, 208), (8, 128), (4, 256))  # windows in a batch, tokens in a window
NEW_TOKENS = 200


def median_times(*functions: Callable[[], object], repeats: int = 7) -> list[float]:
    """Return each function's processor time, in seconds; they take turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, own in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            own.append(time.process_time() - start)
    return [median(own) for own in times]


def peak_flops(dtype: torch.dtype, n: int = 1024) -> float:
    """Return what a product of two square matrices reaches, in FLOPs per second."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / median_times(lambda: a @ b)[0]


def bare_products(
    config: TransformerConfig, n_tokens: int, dtype: torch.dtype
) -> Callable[[], None]:
    """Return what makes the products of one update with weight matrices, no more."""
    width, hidden = config.d_model, config.d_ff
    n_keys = config.n_kv_heads * config.d_head
    layer = [(width, width), (n_keys, width), (n_keys, width), (width, width)]
    layer += [(hidden, width), (hidden, width), (width, hidden)]
    factors = [
        tuple(
            torch.randn(shape).to(dtype)
            for shape in ((n_tokens, inputs), (outputs, inputs), (n_tokens, outputs))
        )
        for outputs, inputs in layer * config.n_layers + [(config.vocab_size, width)]
    ]

    def products() -> None:
        for x, weight, gradient in factors:
            _ = x @ weight.t(), gradient @ weight, gradient.t() @ x

    return products


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
        return generate(model, prompt, NEW_TOKENS, sampling=GREEDY)

    def other() -> torch.Tensor:
        mask = torch.ones_like(prompt)
        return theirs.generate(
            prompt, attention_mask=mask, eos_token_id=None, **options
        )

    if not torch.equal(ours(), other()):
        raise SystemExit("both must write the same greedily, but they differ")
    mine, others = (NEW_TOKENS / t for t in median_times(ours, other))
    print(f"  generate               {mine:7.0f} {others:7.0f}   {mine / others:5.2f}")


def compare_training(config: TransformerConfig, precision: Any) -> None:
    """Print trained tokens per second of both, for each size of batch."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    peak = peak_flops(dtype)
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

        products = bare_products(config, batch_size * length, dtype)
        times = median_times(ours, their, products, repeats=10)
        mine, others = (3 * batch_size * length / t for t in times[:2])
        share = mine * 3 * forward_flops_per_token(config, length) / peak
        print(
            f"  train {batch_size} × {length} {precision:8} {mine:7.0f} {others:7.0f}"
            f"   {mine / others:5.2f}    {3 * times[2] / times[0]:5.0%}  {share:5.0%}",
            flush=True,
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
            "  tokens/s                  ours  theirs   ratio  products   peak"
        )
        for precision in ("float32", "bfloat16"):
            compare_training(config, precision)
        compare_generation(config)


if __name__ == "__main__":
    main()
