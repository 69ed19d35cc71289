"""Processes that work for another end with it, even if it is killed."""

import subprocess
import sys

WORK = """
from llmcourse.processes import process_pool

if __name__ == "__main__":
    with process_pool(2, print, "begun") as pool:
        pool.submit(abs, -3).result()
        print("done", flush=True)
        input()
"""


def test_workers_end_when_their_process_is_killed(tmp_path):
    """They hold its standard output open, so that ends only with the last of them."""
    script = tmp_path / "work.py"
    script.write_text(WORK, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-u", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while process.stdout.readline() != "done\n":
            assert process.poll() is None
        process.kill()
        process.stdout.read()
