"""Time the package side by side with other packages, and print one table of ratios.

    python tests/benchmarks/bench_peers.py [--quick] [--only WORD] [--write | --profile]

Both sides do the same work in the same run, in turns, so that other work on the machine
hits both; times are processor times of one thread, of each the median. A ratio above 1
says how many times as long the peer takes. Three sizes each, where there are sizes, and
the exponent of the growth: time ~ size^exponent. Where both sides compute something
that can be compared, the run ends with an error if they differ.

A peer that is not installed is named and left out; `book/performance.md` says what
brings all. `--quick` measures once, to see that all works. `--write` puts the table
into that page, or with `--only` the rows of that work. `--profile` says, in place of
the table, where generation at `base-llm`'s size spends its time, beside `transformers`.
A service's time is that of its own process.
"""

import os

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}

import argparse
import asyncio
import gc
import math
import platform
import pydoc_data.topics
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, NamedTuple

import httpx
import torch

from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.finetuning.instructions import QUESTIONS, examples
from llmcourse.finetuning.lora import add_lora
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import find_model, load_pretrained, save_pretrained
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.transformer import LayerNorm, Transformer, TransformerConfig
from llmcourse.retrieval.bm25 import BM25
from llmcourse.serving.load_test import load_test
from llmcourse.text.bpe import GPT2_PATTERN
from llmcourse.text.deduplication import words
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tales import generate as generate_tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import keep_freed_memory
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.presets import PRESETS
from llmcourse.training.pretraining import train_step

PAGE = Path(__file__).parents[2] / "book" / "performance.md"
TOPICS = pydoc_data.topics.topics
TEXT = "\n\n".join(TOPICS[name] for name in sorted(TOPICS))
VOCAB_SIZE = 1024
SHAPES = [
    TransformerConfig(
        vocab_size=VOCAB_SIZE,
        d_model=width,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=heads,
        d_ff=hidden,
        context_length=512,
    )
    for width, layers, heads, hidden in (
        (96, 2, 3, 256),
        (192, 3, 6, 512),
        (256, 4, 8, 688),
    )
]
Call = Callable[[], object]


class Pair(NamedTuple):
    """The same work, done by us and by a peer."""

    peer: str
    size: float  # of what the time grows with
    what: str  # the size in words
    ours: Call
    theirs: Call
    processes: tuple[int | None, int | None] = (None, None)  # that work; None: this one


@cache
def bpe(*special: str) -> BPETokenizer:
    """Return a tokenizer of the smallest text."""
    return BPETokenizer.train([TEXT[:120_000]], VOCAB_SIZE, special)


def training_a_tokenizer() -> Iterator[Pair]:
    """Yield BPE training, of three lengths of text, beside two peers."""
    for size in (120_000, 240_000, 465_000):
        text = TEXT[:size]

        def ours() -> None:
            BPETokenizer.train([text], VOCAB_SIZE)  # noqa: B023

        def tokenizers() -> None:
            from tokenizers import Tokenizer, models, pre_tokenizers, trainers

            model = Tokenizer(models.BPE())
            model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            trainer = trainers.BpeTrainer(
                vocab_size=VOCAB_SIZE,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            )
            model.train_from_iterator([text], trainer)  # noqa: B023

        def rustbpe() -> None:
            import rustbpe

            rustbpe.Tokenizer().train_from_iterator([text], VOCAB_SIZE, 1, GPT2_PATTERN)  # noqa: B023

        for theirs in (tokenizers, rustbpe):
            yield Pair(theirs.__name__, size, f"{size:,} characters", ours, theirs)


def encoding() -> Iterator[Pair]:
    """Yield encoding with nothing remembered, of three lengths, beside three peers."""
    mine = bpe()
    mine.save(folder := tempfile.mkdtemp() + "/tokenizer.json")
    peers: dict[str, Callable[[str], Any]] = {}
    try:
        from tokenizers import Tokenizer

        hugging = Tokenizer.from_file(folder)
        peers["tokenizers"] = lambda text: hugging.encode(text).ids
    except ImportError:
        print("tokenizers is not installed")
    try:
        import tiktoken

        bare = tiktoken.Encoding(
            "ours",
            pat_str=GPT2_PATTERN,
            mergeable_ranks=dict(mine.vocab),
            special_tokens={},
        )
        peers["tiktoken"] = bare.encode_ordinary
    except ImportError:
        print("tiktoken is not installed")
    try:
        import rustbpe

        learned = rustbpe.Tokenizer()
        learned.train_from_iterator([TEXT[:120_000]], VOCAB_SIZE, 1, GPT2_PATTERN)
        peers["rustbpe"] = learned.encode
    except ImportError:
        print("rustbpe is not installed")
    for size in (120_000, 240_000, 465_000):
        text = TEXT[:size]

        def ours() -> list[int]:
            mine._cache.clear()
            return mine.encode(text)  # noqa: B023

        for peer, encode in peers.items():
            if peer == "rustbpe":  # of two pairs that are as frequent it takes another
                assert learned.decode(encode(text)) == text
            else:
                assert encode(text) == ours()
            yield Pair(
                peer, size, f"{size:,} characters", ours, lambda t=text, e=encode: e(t)
            )


def both(config: TransformerConfig) -> tuple[Transformer, Any]:
    """Return our model and that of `transformers`, with equal weights."""
    from transformers import AutoModelForCausalLM

    model = Transformer(config, torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, bpe(END_OF_TEXT), folder)
        theirs = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        ids = random_ids(config, 2, 50)
        torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-4, rtol=1e-4)
    return model, theirs


def random_ids(config: TransformerConfig, *shape: int) -> torch.Tensor:
    """Return ids of any tokens."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(config.vocab_size, shape, generator=generator)


def named(config: TransformerConfig) -> str:
    """Return a model's size in words."""
    return f"{n_parameters(config) / 1e6:.2g} M parameters"


def training_steps() -> Iterator[Pair]:
    """Yield steps of pretraining, float32, 4 windows of 256 tokens."""
    for config in SHAPES:
        model, theirs = both(config)

        def logits(ids: torch.Tensor, theirs: Any = theirs) -> torch.Tensor:
            found: torch.Tensor = theirs(ids, use_cache=False).logits
            return found

        yield steps_of("transformers", model, theirs, logits)


def gpt2_steps() -> Iterator[Pair]:
    """Yield the same steps of models of GPT-2's shape, with weights of their own."""
    from llms_from_scratch.ch04 import GPTModel

    for shape in SHAPES:
        config = replace(
            shape, family="gpt2", d_ff=4 * shape.d_model, tied_embeddings=False
        )
        model = Transformer(config, torch.Generator().manual_seed(0))
        theirs = GPTModel(
            {
                "vocab_size": config.vocab_size,
                "context_length": config.context_length,
                "emb_dim": config.d_model,
                "n_heads": config.n_heads,
                "n_layers": config.n_layers,
                "drop_rate": 0.0,
                "qkv_bias": True,
            }
        )
        copy_weights(model, theirs)
        with torch.no_grad():
            ids = random_ids(config, 2, 50)
            torch.testing.assert_close(theirs(ids), model(ids), atol=1e-4, rtol=1e-4)
        yield steps_of("llms-from-scratch", model, theirs, theirs)


def copy_weights(model: Any, theirs: Any) -> None:
    """Give a model of `llms_from_scratch` the weights of ours."""
    pairs = [
        (model.embedding, theirs.tok_emb),
        (model.positions, theirs.pos_emb),
        (model.norm, theirs.final_norm),
        (model.unembedding, theirs.out_head),
    ]
    for block, other in zip(model.blocks, theirs.trf_blocks, strict=True):
        pairs += [
            (block.attention_norm, other.norm1),
            (block.attention.query, other.att.W_query),
            (block.attention.key, other.att.W_key),
            (block.attention.value, other.att.W_value),
            (block.attention.output, other.att.out_proj),
            (block.feed_forward_norm, other.norm2),
            (block.feed_forward.up, other.ff.layers[0]),
            (block.feed_forward.down, other.ff.layers[2]),
        ]
    for part, its in pairs:
        for ours, other in zip(part.parameters(), its.parameters(), strict=True):
            other.data.copy_(ours)


def steps_of(
    peer: str, model: Transformer, theirs: Any, logits: Callable[..., torch.Tensor]
) -> Pair:
    """Return steps of two models of one size, 4 windows of 256 tokens in float32."""
    training = PretrainingConfig(
        batch_size=4, context_length=256, learning_rate=1e-4, precision="float32"
    )
    windows = random_ids(model.config, 4, 257)
    optimizer = make_optimizer(model, training)
    other = torch.optim.AdamW(theirs.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        torch.nn.functional.cross_entropy(
            logits(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()
        ).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        other.step()
        other.zero_grad()

    return Pair(
        peer,
        n_parameters(model.config),
        named(model.config),
        lambda: train_step(model, optimizer, windows, 0, training),
        step,
    )


def base_shape() -> TransformerConfig:
    """Return `base-llm`'s sizes, with the vocabulary of the others."""
    return replace(PRESETS["base-llm"].model, vocab_size=VOCAB_SIZE)


def writing_models() -> Iterator[tuple[TransformerConfig, str, Transformer, Any]]:
    """Yield models of ours and theirs: three sizes, `base-llm`'s, and SmolLM2."""
    for config in SHAPES:
        yield (config, named(config), *both(config))
    base = base_shape()
    yield (base, "shape of base-llm", *both(base))
    try:
        model, _ = load_pretrained("smollm2")
    except ValueError as error:
        print(f"SmolLM2: {error}")
        return
    from transformers import AutoModelForCausalLM

    path = find_model("smollm2")
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    yield model.config, "SmolLM2, 135 M", model, theirs


def generation() -> Iterator[Pair]:
    """Yield greedy writing of 100 tokens after 20, with a key-value cache."""
    for config, what, model, theirs in writing_models():
        yield writing(config, what, model, theirs, 1)


def batched_generation() -> Iterator[Pair]:
    """Yield the same for eight prompts at once."""
    for config, what, model, theirs in writing_models():
        if model.config.vocab_size == VOCAB_SIZE:
            yield writing(config, what, model, theirs, 8)


def gpt2_generation(n_prompts: int = 1) -> Iterator[Pair]:
    """Yield the same for models of GPT-2's shape."""
    for shape in (*SHAPES, base_shape()):
        config = replace(shape, family="gpt2", d_ff=4 * shape.d_model)
        what = named(config) if shape in SHAPES else "shape of base-llm"
        yield writing(config, what, *both(config), n_prompts)


def writing(
    config: TransformerConfig, what: str, model: Any, theirs: Any, n_prompts: int
) -> Pair:
    """Return greedy writing of 100 tokens after 20, for some prompts at once."""
    prompt = random_ids(config, n_prompts, 20)
    options = {"max_new_tokens": 100, "min_new_tokens": 100, "do_sample": False}
    options |= {"pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}

    def ours() -> torch.Tensor:
        return generate(model, prompt, 100, sampling=GREEDY)

    def other() -> torch.Tensor:
        found: torch.Tensor = theirs.generate(prompt, eos_token_id=None, **options)
        return found

    if config.vocab_size == VOCAB_SIZE:
        assert torch.equal(ours(), other())
    return Pair("transformers", n_parameters(config), what, ours, other)


def profile() -> Iterator[str]:
    """Yield where the time of generation at `base-llm`'s size goes, on both sides.

    Raises:
        ImportError: If `transformers` is not installed.
    """
    kinds = {"products": "mm", "attention": "attention", "all else": ""}
    base = base_shape()
    models = both(base)
    for n_prompts in (1, 8):
        pair = writing(base, "shape of base-llm", *models, n_prompts)
        for who, call in (("ours", pair.ours), ("transformers", pair.theirs)):
            with torch.profiler.profile() as profiler:
                call()
            spent = dict.fromkeys(kinds, 0.0)
            for event in profiler.key_averages():
                kind = next(k for k, part in kinds.items() if part in event.key)
                spent[kind] += event.self_cpu_time_total
            total = sum(spent.values())
            shares = ", ".join(f"{k} {v / total:.0%}" for k, v in spent.items())
            yield f"{n_prompts} at once, {who}: {shares} of {total / 1e3:,.0f} ms"


def prefill() -> Iterator[Pair]:
    """Yield reading a prompt of 256 tokens into a cache."""
    for config, what, model, theirs in writing_models():
        prompt = random_ids(config, 1, 256)

        @torch.no_grad()
        def ours(m: Any = model, p: Any = prompt) -> None:
            m(p, m.new_cache(capacity=256))

        @torch.no_grad()
        def other(m: Any = theirs, p: Any = prompt) -> None:
            m(p, use_cache=True)

        yield Pair("transformers", n_parameters(config), what, ours, other)


def layer_norms() -> Iterator[Pair]:
    """Yield layer norm of 2048 vectors, forward and backward; then a step with each."""
    for width in (96, 256, 768):
        norm = LayerNorm(width)
        x = torch.randn(2048, width, requires_grad=True)

        def other(norm: Any = norm, x: Any = x, width: int = width) -> torch.Tensor:
            return torch.nn.functional.layer_norm(x, (width,), norm.weight, norm.bias)

        torch.testing.assert_close(norm(x), other())
        yield Pair(
            "torch",
            width,
            f"width {width}",
            lambda norm=norm, x=x: norm(x).sum().backward(),
            lambda other=other: other().sum().backward(),
        )
    shape = SHAPES[-1]
    config = replace(shape, family="gpt2", d_ff=4 * shape.d_model)
    ours, theirs = (Transformer(config, torch.Generator()) for _ in range(2))
    for part in theirs.modules():
        for name, norm in [*part.named_children()]:
            if isinstance(norm, LayerNorm):
                setattr(part, name, torch.nn.LayerNorm(shape.d_model))
    yield steps_of("torch, in GPT-2's shape", ours, theirs, theirs)._replace(
        what=f"a step, {named(config)}"
    )


def fine_tuning() -> Iterator[Pair]:
    """Yield 8 steps of supervised fine-tuning, 8 examples of 128 tokens in a batch."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    for config in SHAPES:
        model, theirs = both(config)
        ids = random_ids(config, 64, 129)
        mask = [False] * 64 + [True] * 65
        rows = [TokenizedExample.of_tokens(row, mask) for row in ids.tolist()]
        settings = FinetuningConfig(
            steps=8, learning_rate=1e-4, precision="float32", eval_interval=8
        )
        data = Dataset.from_dict(
            {
                "input_ids": ids.tolist(),
                "completion_mask": [[int(m) for m in mask]] * 64,
            }
        )
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            bpe(END_OF_TEXT).save(file.name)
            words_of = PreTrainedTokenizerFast(
                tokenizer_file=file.name, pad_token=END_OF_TEXT, eos_token=END_OF_TEXT
            )
        options = SFTConfig(
            tempfile.mkdtemp(),
            max_steps=8,
            per_device_train_batch_size=8,
            learning_rate=1e-4,
            max_length=129,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        )

        def ours(m: Any = model, rows: Any = rows, s: Any = settings) -> None:
            finetune(m, rows, rows[:1], s, torch.Generator().manual_seed(0))

        def other(
            m: Any = theirs, d: Any = data, o: Any = options, w: Any = words_of
        ) -> None:
            SFTTrainer(m, args=o, train_dataset=d, processing_class=w).train()

        yield Pair("trl", n_parameters(config), named(config), ours, other)


def adapters() -> Iterator[Pair]:
    """Yield gradients of LoRA adapters, rank 8 at query and value, 4 × 256 tokens."""
    from peft import LoraConfig, get_peft_model

    for config in SHAPES:
        model, theirs = both(config)
        add_lora(model, 8, 16, generator=torch.Generator().manual_seed(0))
        wanted = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
        theirs = get_peft_model(theirs, wanted)
        ids = random_ids(config, 4, 256)

        def ours(m: Any = model, ids: Any = ids) -> None:
            m(ids).logsumexp(-1).mean().backward()

        def other(m: Any = theirs, ids: Any = ids) -> None:
            m(ids, use_cache=False).logits.logsumexp(-1).mean().backward()

        yield Pair("peft", n_parameters(config), named(config), ours, other)


def retrieval() -> Iterator[Pair]:
    """Yield counting the words of documents, then 20 questions, by BM25."""
    import bm25s

    stories = [words(story.text) for story in generate_tales(4000, seed=0)]
    rng = random.Random(0)
    questions = [rng.sample(rng.choice(stories), 4) for _ in range(20)]
    for n in (250, 1000, 4000):
        documents = stories[:n]

        def ours(documents: Any = documents) -> Any:
            index = BM25(documents)
            return [[i for i, _ in index.search(q, k=3)] for q in questions]

        def other(documents: Any = documents) -> Any:
            index = bm25s.BM25(method="lucene")
            index.index(documents, show_progress=False)
            return index.retrieve(questions, k=3, show_progress=False)

        yield Pair("bm25s", n, f"{n:,} documents", ours, other)


def starting() -> Iterator[Pair]:
    """Yield what it costs to start: Python, with a package or a command's help."""

    def started(*command: str) -> Call:
        def run() -> None:
            subprocess.run([sys.executable, *command], check=True, capture_output=True)

        return run

    ours = started("-c", "import llmcourse")
    for peer in ("torch", "transformers"):
        version(peer)
        yield Pair(peer, 1, "import", ours, started("-c", f"import {peer}"))
    program = Path(sys.executable).parent / "transformers"
    if program.exists():
        helped = started("-m", "llmcourse", "--help")
        yield Pair(
            "transformers", 2, "`--help`", helped, started(str(program), "--help")
        )


CHAT, ANSWERING = "/v1/chat/completions", "instruct-llm"
LOADS = ((1, 1, "first token"), (1, 48, "1 caller"), (16, 48, "16 callers"))


@contextmanager
def service(*command: str) -> Iterator[tuple[str, int]]:
    """Let a service run; give its address and the number of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            if process.poll() is not None:
                raise ImportError(name=f"what `{command[0]} serve` needs")
            with suppress(httpx.ConnectError):
                httpx.get(f"{url}/health").raise_for_status()
                break
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def serving() -> Iterator[Pair]:
    """Yield 32 answers of at most 48 tokens, or the first tokens of 32, over HTTP.

    Most ask about a tale, one in seven for a tale. Nothing is asked twice, for a
    service may remember what it has read.
    """
    asked = [*examples(500, seed=7, kinds=("write", *QUESTIONS), held_out=True)]

    def body(model: str, number: int, max_tokens: int) -> dict[str, Any]:
        talk = [{"role": "user", "content": asked[number % len(asked)].prompt}]
        more = {"temperature": 0, "max_tokens": max_tokens}
        return {"model": model, "messages": talk} | more

    def answers(url: str, model: str) -> list[str]:
        bodies = (body(model, number, 48) for number in range(-16, 0))
        found = (httpx.post(url + CHAT, json=each, timeout=120) for each in bodies)
        return [each.json()["choices"][0]["message"]["content"] for each in found]

    def load(url: str, model: str, n_callers: int, max_tokens: int, at: Any) -> Call:
        def each(_: int) -> dict[str, Any]:
            return body(model, next(at), max_tokens)

        return lambda: asyncio.run(load_test(url, each, n_callers, 32, path=CHAT))

    program, path = Path(sys.executable).parent / "transformers", find_model(ANSWERING)
    theirs = (str(program), "serve", str(path), "--device=cpu", "--dtype=float32")
    # Left alone, it takes several GB for its cache.
    batching = ("--continuous-batching", "--cb-block-size=32", "--cb-num-blocks=256")
    peers = {"transformers serve": (), "transformers serve, batching": batching}
    with service("-m", "llmcourse", "serve", "--model", ANSWERING) as (url, process):
        for peer, options in peers.items():
            with service(*theirs, *options) as (other, its):
                assert answers(url, ANSWERING) == answers(other, str(path))
                places = count(), count()
                for n_callers, most, what in LOADS:
                    yield Pair(
                        peer,
                        n_callers,
                        what,
                        load(url, ANSWERING, n_callers, most, places[0]),
                        load(other, str(path), n_callers, most, places[1]),
                        (process, its),
                    )


WORK = {
    "BPE, training": training_a_tokenizer,
    "BPE, encoding": encoding,
    "pretraining step": training_steps,
    "pretraining step, GPT-2's shape": gpt2_steps,
    "generation": generation,
    "generation, batch of 8": batched_generation,
    "generation, GPT-2's shape": gpt2_generation,
    "batch of 8, GPT-2's shape": partial(gpt2_generation, n_prompts=8),
    "prefill": prefill,
    "layer norm": layer_norms,
    "fine-tuning": fine_tuning,
    "LoRA": adapters,
    "serving": serving,
    "BM25": retrieval,
    "start": starting,
}


def seconds_of(call: Call, process: int | None = None) -> float:
    """Return the processor time that a call takes, in a process, or in this one.

    What it starts is included.
    """

    def used() -> float:
        if process is not None:
            stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    start = used()
    call()
    return used() - start


def measure(pair: Pair, repeats: int) -> tuple[float, float]:
    """Return the median seconds of both sides, which take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (pair.ours, pair.theirs):
        call()  # a first time, which is not counted
    gc.collect()
    gc.freeze()  # or looking through all that is imported would be part of the times
    calls = pair.ours, pair.theirs
    sides = [*zip(calls, pair.processes, times, strict=True)]
    for _ in range(repeats):
        for call, process, own in sides:
            own.append(seconds_of(call, process))
    return median(times[0]), median(times[1])


def exponent(points: list[tuple[float, float]]) -> str:
    """Return how time grows with size, as an exponent; a dash for a single size."""
    if len({size for size, _ in points}) < 3:
        return "–"
    logs = [[math.log(x) for x in column] for column in zip(*points, strict=True)]
    return f"{linear_regression(*logs).slope:.2f}"


def _ms(seconds: float) -> str:
    """Return seconds in ms, with three digits that count."""
    return f"{float(f'{1000 * seconds:.3g}'):,.10g}"


def lines_of(name: str, repeats: int) -> Iterator[str]:
    """Yield the rows of the table for one kind of work, measured one by one."""
    grown: dict[str, list[tuple[float, float, float]]] = {}
    missing: set[str | None] = set()
    pairs = WORK[name]()
    while True:
        try:
            pair = next(pairs)
            ours, theirs = measure(pair, repeats)
        except StopIteration:
            break
        except (ImportError, PackageNotFoundError) as error:
            if error.name not in missing:
                yield f"| {name} | {error.name} is not installed | | | | |"
            missing.add(error.name)
            continue
        grown.setdefault(pair.peer, []).append((pair.size, ours, theirs))
        yield (
            f"| {name} | {pair.what} | {pair.peer} | {_ms(ours)} | "
            f"{_ms(theirs)} | {theirs / ours:.2f} |"
        )
    for peer, found in grown.items():
        mine = exponent([(size, ours) for size, ours, _ in found])
        others = exponent([(size, theirs) for size, _, theirs in found])
        if mine != "–":
            yield f"| {name} | *exponent* | {peer} | *{mine}* | *{others}* | |"


def machine() -> str:
    """Return what the numbers were measured on, as one sentence each."""
    names = ("torch", "tokenizers", "tiktoken", "rustbpe", "transformers", "trl")
    found = []
    for name in (*names, "peft", "bm25s", "llms-from-scratch"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    cores, load = os.cpu_count() or 1, os.getloadavg()[1]
    busy = (
        "otherwise idle"
        if load < 1.5
        else f"also busy with other work (load {load:.0f})"
    )
    return (
        f"Measured on {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"{cores} cores, {torch.backends.cpu.get_cpu_capability()}, {busy}.\n"
        f"Python {platform.python_version()}, {', '.join(found)}."
    )


HEAD = (
    "| Work | Size | Peer | Ours, ms | Theirs, ms | Theirs / ours |\n"
    "|---|---|---|---|---|---|"
)
BEGIN, END = "% measured\n", "% end of measured\n"


def write_page(rows: list[str], about: str, *, whole: bool) -> None:
    """Put the rows into the page's table: all of it, or the rows of the same work."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    if not whole:
        measured = {work_of(row) for row in rows}
        kept = [
            row for row in old.splitlines() if work_of(row) in WORK.keys() - measured
        ]
        rows = sorted(kept + rows, key=lambda row: [*WORK].index(work_of(row)))
        again = f"Again, {'; '.join(sorted(measured))}: "
        said = old.rpartition("|\n")[2].strip().splitlines()
        said = [line for line in said if not line.startswith(again)]
        about = "\n".join([*said, again + about.splitlines()[0]])
    text = "\n".join([HEAD, *rows, "", about])
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}", encoding="utf-8")


def work_of(row: str) -> str:
    """Return what a row of the table measures; of any other line, nothing known."""
    return row.removeprefix("| ").split(" | ")[0]


def main() -> None:
    """Measure, print the table, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure once")
    parser.add_argument("--only", default="", help="work whose name has this word")
    then = parser.add_mutually_exclusive_group()
    then.add_argument("--write", action="store_true", help="write the book's page")
    then.add_argument(
        "--profile", action="store_true", help="say where generation's time goes, alone"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    with suppress(ImportError):
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
    keep_freed_memory()
    if options.profile:
        for line in profile():
            print(line, flush=True)
        return
    rows = []
    print(HEAD)
    for name in WORK:
        if options.only in name:
            for line in lines_of(name, repeats=1 if options.quick else 7):
                print(line, flush=True)
                rows.append(line)
    about = machine()
    if options.quick:
        about += "\nEach was measured once only."
    print(about)
    if options.write and rows:
        write_page(rows, about, whole=not options.only)


if __name__ == "__main__":
    main()
