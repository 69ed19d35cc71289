"""Measure the memory that a training needs on a text larger than that memory.

    python tests/benchmarks/bench_corpus.py [--gigabytes 2] [--folder FOLDER]

Two commands of the package run one after the other: `corpus --stream` makes a text of
tales and packs it, document by document, and `pretrain` learns from the packed files,
which it maps and never reads whole. Printed are the sizes, and for each command the
time and the largest resident set of its largest process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmcourse.text.packing import load_header
from llmcourse.text.tales import generate

STEPS = 200
MOST_GB = 1.5  # of memory


def run(*arguments: str) -> str:
    """Run a command of the package; return how long it took and its peak memory.

    Raises:
        SystemExit: If it fails, or takes more memory than it may.
    """
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "llmcourse", *arguments])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments[0]} failed")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    if peak > MOST_GB:
        raise SystemExit(f"{arguments[0]} took {peak:.2f} GB, more than {MOST_GB}")
    return f"{time.monotonic() - start:,.0f} s, at most {peak:.2f} GB"


def main() -> None:
    """Print what was made, and what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of text")
    parser.add_argument("--folder", type=Path, help="keep the corpus here")
    options = parser.parse_args()
    sample = [len(story.text.encode()) for story in generate(1000, seed=0)]
    n_stories = int(options.gigabytes * 1e9 * len(sample) / sum(sample)) + 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        corpus, model = folder / "corpus", folder / "run"
        made = run(
            *("corpus", "tales", "--n-stories", str(n_stories), "--vocab-size", "3072"),
            *("--stream", "--processes", "2", "--out", str(corpus), "--quiet"),
        )
        print(f"{n_stories:,} tales, {options.gigabytes:g} GB: {made}")
        packed = load_header(corpus / "train.bin")
        told = f"{packed.n_tokens:,} tokens to train on in {len(packed.shards)} files"
        print(f"packed: {told}", flush=True)
        trained = run(
            *("pretrain", "--data", str(corpus), "--preset", "small", "--quiet"),
            *("--steps", str(STEPS), "--out", str(model)),
        )
        print(f"{STEPS} steps of training: {trained}")


if __name__ == "__main__":
    main()
