"""Trainings for tests, in one process or, by torchrun, in several.

python parallel_cases.py trainings FOLDER
python parallel_cases.py aligned FOLDER
python parallel_cases.py killed ARGUMENTS OF llmcourse
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from align_cases import config_of, want_length
from model_cases import seeded
from policy_cases import learn, make_policy
from safetensors.torch import save_file

from llmcourse.cli import main
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.finetuning.lora import add_lora
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.recipes import align as recipes
from llmcourse.training import checkpoints, optimizers, parallel
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import PretrainingConfig, Update
from llmcourse.training.loop import checkpoint_blocks
from llmcourse.training.pretraining import pretrain

SIZES = TransformerConfig(
    vocab_size=31,
    d_model=24,
    n_layers=2,
    n_heads=3,
    n_kv_heads=1,
    d_ff=40,
    context_length=17,
)
LONG = PretrainingConfig(
    steps=50,
    batch_size=4,
    context_length=13,
    learning_rate=0.01,
    warmup_steps=5,
    eval_interval=10,
    eval_examples=5,
)
MUON = replace(LONG, optimizer="muon", accumulation=2)


def train(config=LONG, run=Run(), seed=0, change=lambda model: None):
    """Return the model and all losses of a training on documents of unequal lengths."""
    tokens, valid = (np.random.default_rng(n).integers(0, 31, 900) for n in (0, 1))
    model = Transformer(SIZES, seeded(0))
    change(model)
    generator = seeded(seed)
    history = pretrain(model, tokens, valid, config, generator, start_token=0, run=run)
    return model, [r.loss for r in (*history.updates, *history.evaluations)]


def tune(change=lambda model: add_lora(model, 3, 6, generator=seeded(1))):
    """Return all losses of learning answers of unequal lengths, by adapters."""
    rng = np.random.default_rng(2)
    examples = []
    for _ in range(30):
        ids = rng.integers(0, 31, rng.integers(4, 15)).tolist()
        mask = [place >= 2 for place in range(len(ids))]
        examples.append(TokenizedExample.of_tokens(ids, mask))
    model = Transformer(SIZES, seeded(0))
    change(model)
    config = FinetuningConfig(
        steps=50, batch_size=8, accumulation=2, context_length=17, eval_interval=25
    )
    order = seeded(0)
    history = finetune(model, examples[:24], examples[24:], config, order)
    return [r.loss for r in (*history.updates, *history.evaluations)]


def count_orthogonalised():
    """Return how many matrices this process makes orthogonal in two steps."""
    original, calls = optimizers.orthogonalise, []

    def orthogonalise(matrix, dtype):
        calls.append(matrix)
        return original(matrix, dtype=dtype)

    optimizers.orthogonalise = orthogonalise
    train(replace(MUON, steps=2))
    optimizers.orthogonalise = original
    return len(calls)


PTX = {
    "ptx_coef": 0.5,
    "ptx_batch_size": 4,
    "texts": [
        TokenizedExample.of_tokens([*range(1, n)], [True] * (n - 1)) for n in (3, 7, 10)
    ],
}
"""Texts that GRPO learns from, too."""


def align(method, **options):
    """Return what each iteration of a method measures, and the policy's weights."""
    policy = make_policy()
    history = learn(method, policy, **options)
    measures = [[v for v in vars(i).values() if v is not None] for i in history]
    return [*measures, *(weight.flatten().tolist() for weight in policy.parameters())]


def shard_checkpointed(model):
    """Shard a model whose blocks compute their inside again."""
    checkpoint_blocks(model)
    parallel.shard(model)


class Stopping(Run):
    """A run that all processes stop after 30 steps."""

    def log(self, record):
        """Stop, or report."""
        if record.step == 30:
            raise KeyboardInterrupt
        super().log(record)


def sharded(folder):
    """Return what processes that have a part of each weight find."""
    norms, shard = [], {"change": parallel.shard}

    def note(record):
        if isinstance(record, Update):
            norms.append(record.gradient_norm)

    model, losses = train(run=Run(progress=note), **shard)
    weights = parallel.unshard(model).state_dict()
    if parallel.rank() == 0:
        save_file(weights, folder / "unsharded.safetensors")
    parts = [(w.to_local().numel(), w.numel()) for w in model.parameters()]
    found = {
        "losses": losses,
        "norms": norms,
        "held": [sum(numbers) for numbers in zip(*parts, strict=True)],
        "muon": train(MUON, change=shard_checkpointed)[1],
        "from one": train(run=Run(folder=folder / "from one", interval=20), **shard)[1],
    }
    run = {"folder": folder / "sharded", "interval": 20}
    try:
        train(run=Stopping(**run), **shard)
    except KeyboardInterrupt:
        found["resumed"] = train(run=Run(**run), **shard)[1]
    return found


def refusal(train=train, **options):
    """Return how a training is refused."""
    try:
        train(**options)
    except ValueError as error:
        return str(error)


def trainings(folder):
    """Write what the first process found; go on from checkpoints in its folder."""
    torch.set_num_threads(1)
    records = []
    with parallel.processes():
        found = {
            "adamw": train()[1],
            "muon": train(MUON)[1],
            "orthogonalised": count_orthogonalised(),
            "tuned": tune(),
            "tuned in parts": tune(parallel.shard),
            "ppo": align("ppo"),
            "grpo": align("grpo", **PTX),
            "resumed": train(run=Run(folder=folder / "one", interval=20))[1],
            "odd": refusal(config=replace(LONG, batch_size=3)),
            "other order": refusal(seed=parallel.rank()),
            "odd answers": refusal(partial(align, "grpo"), minibatch_size=3),
            "sharded": sharded(folder),
        }
        half = Run(folder=folder / "two", interval=20, progress=records.append)
        train(replace(LONG, steps=20), half)
        found["followed by"] = len(records)
        if parallel.rank() == 0:
            (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
        else:
            assert records == []


def killed(*args):
    """Run a command; a process says when it is killed.

    It is the second, after 25 steps of pretraining or 7 of fine-tuning, or, if weights
    are sharded, the first, at the end of writing its fourth checkpoint.
    """
    number = {"pretrain": 26, "finetune": 8}[args[0]]
    module, name, which = parallel, "add_up", 1
    if "--fsdp" in args:
        module, name, number, which = checkpoints, "_shards_digest", 4, 0
    original, calls = getattr(module, name), []

    def dying(*args):
        calls.append(args)
        if len(calls) == number and parallel.rank() == which:
            print(time.time(), flush=True)
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return original(*args)

    setattr(module, name, dying)
    sys.argv = ["llmcourse", *args]
    main()


def gloo_threads():
    """Return the names of gloo's threads here, if the system lists threads."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended since
            names.append(path.read_text())
    return [name for name in names if "gloo" in name]


def aligned(folder):
    """Make an aligned model of the base in a folder; no thread of gloo is left over."""
    config = config_of("grpo", str(folder / "base"))
    recipes.PRESETS["tiny"] = {"grpo": config}
    options = ("--preset=tiny", "--stories=2", "--questions=0", "--quiet", "--resume")
    sys.argv = ["llmcourse", "align", *options, "--out", str(folder / "run")]
    with pytest.MonkeyPatch.context() as patch:
        want_length(patch)
        try:
            main()
        finally:  # it ends by SystemExit
            for _ in range(300):
                if not gloo_threads():
                    break
                time.sleep(0.1)  # one that has ended may be listed a little longer
            assert not gloo_threads()


def launch(n_processes, *args):
    """Run this file by torchrun; return how it ended."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command = [sys.executable, *words, str(n_processes), __file__, *map(str, args)]
    variables = {"OMP_NUM_THREADS": "1"}
    if sys.platform == "win32":
        variables["USE_LIBUV"] = "0"  # which torch is built without there
    return subprocess.run(
        command,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        killed(*sys.argv[2:])
    else:
        {"trainings": trainings, "aligned": aligned}[sys.argv[1]](Path(sys.argv[2]))
