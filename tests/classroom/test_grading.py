from collections.abc import Callable

from proving import HERE, solved

from llmcourse.classroom.assignments import read_source
from llmcourse.classroom.grading import grade
from llmcourse.classroom.student import Student

SOURCE = read_source(HERE / "tokenization.py")
Make = Callable[..., Student]


def test_a_cell_that_did_not_run_is_named_by_the_tests_that_need_it(
    student: Make,
) -> None:
    hand_in = solved(SOURCE, learn="def learn(", merge="def merge(*_):\n    1 / 0")
    found = {r.name: r.message for r in grade(SOURCE, hand_in, student()).results}
    told = (
        "`learn` is not defined: its cell did not run (SyntaxError). Mend that first."
    )
    assert found["test-learn"] == found["hidden-learn"] == told
    assert found["test-pair-counts"] == ""
    division = "ZeroDivisionError: division by zero (line 2 of cell merge)"
    assert found["test-merge"].startswith(f"{division} (line ")
    assert found["hidden-merge"] == division  # students do not see its lines


def test_a_function_that_hangs_is_flagged(student: Make) -> None:
    hangs = "def bits_per_byte(*_):\n    while True: pass"
    own = student(seconds=5.0)
    graded = grade(SOURCE, solved(SOURCE, bits_per_byte=hangs), own)
    tests = "test-bits-per-byte, hidden-bits-per-byte"
    told = "no answer within 5 seconds"
    assert graded.flags == [f"code was stopped in {tests}: {told}"]
    assert graded.results[-1].message == f"your code was stopped: {told}"
