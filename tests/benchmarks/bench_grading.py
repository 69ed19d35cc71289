"""How long a hand-in takes to grade, here and by nbgrader alone.

    python tests/benchmarks/bench_grading.py [HAND_INS]

Both grade hand-ins of the same assignment, all of them right, into a gradebook. Here
each runs in a sandbox, two at once; nbgrader runs each in a kernel without one.
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat

from llmcourse.classroom.course import Course

SOURCES = Path(__file__).parents[1] / "assignments"
sys.path.insert(0, str(SOURCES))
from proving import solved  # noqa: E402

NAME = "tokenization"


def hand_ins(folder: Path, n: int) -> Course:
    """Return a course with hand-ins that are collected and released."""
    course = Course.init(folder, SOURCES, [NAME])
    course.release(NAME)
    for i in range(n):
        path = folder / "submitted" / f"student{i:02}" / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(solved(course.source(NAME)), path)
    return course


def main(n: int) -> None:
    """Print seconds for each hand-in, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        course = hand_ins(Path(folder) / "here", n)
        start = time.perf_counter()
        outcomes = course.grade(NAME)
        here = (time.perf_counter() - start) / n
        assert all(sum((o.earned or {}).values()) == 14 for o in outcomes)

        few = max(2, n // 5)
        plain = Path(folder) / "nbgrader"
        course = hand_ins(plain, few)
        config = plain / "nbgrader_config.py"
        config.write_text(config.read_text().partition("P = ")[0])
        start = time.perf_counter()
        for i in range(few):
            course._nbgrader("autograde", NAME, f"student{i:02}")
        alone = (time.perf_counter() - start) / few
    print(f"here     {here:5.2f} s a hand-in, {n} hand-ins, two at once, in sandboxes")
    print(f"nbgrader {alone:5.2f} s a hand-in, {few} hand-ins, one process, no sandbox")
    print(f"nbgrader takes {alone / here:.1f} times as long")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
