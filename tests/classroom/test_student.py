import os
import py_compile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llmcourse.classroom.child import without_magics
from llmcourse.classroom.sandbox import files_of
from llmcourse.classroom.student import Function, StoppedError, Student
from llmcourse.classroom.tasks import gradient
from llmcourse.text import bpe

Make = Callable[..., Student]


def test_worked_example(student: Make) -> None:
    code = student()
    ran = code.run("def double(x):\n    return x + x\nprint('ready')\n1 + 1")
    assert ran.printed == "ready\n2\n"
    assert Function(code, "double")(21) == 42
    assert Function(code, "double")(torch.tensor([1.5])).tolist() == [3.0]


def test_arguments_changed_in_place_are_seen(student: Make) -> None:
    code = student()
    code.run("def step(weights, state):\n    weights.sub_(1)\n    state['t'] = 3")
    weights, state = torch.ones(2), {}
    Function(code, "step")(weights, state=state)
    assert weights.tolist() == [0, 0]
    assert state == {"t": 3}


def test_more_time_for_a_cell_is_more_processor_time(student: Make) -> None:
    code = student(100.0)
    code.run("import resource\nCPU = resource.getrlimit(resource.RLIMIT_CPU)[0]")
    assert code.ask("get", "CPU") == 400


def test_functions_of_the_test_can_be_called(student: Make) -> None:
    code = student()
    code.run("def twice(f, x):\n    return f(f(x))")
    assert Function(code, "twice")(lambda x: 3 * x, 2) == 18


def test_gradients_cross(student: Make) -> None:
    code = student()
    code.run("def loss(w, scale):\n    return (w ** 2).sum() * scale")
    [slope] = gradient(Function(code, "loss"), torch.tensor([1.0, 3.0]), 2)
    assert slope.tolist() == [4.0, 12.0]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("raise ValueError('no')", ValueError),
        ("raise NotImplementedError", NotImplementedError),
        ("class Own(KeyError): pass\n    raise Own('x')", KeyError),
        ("import sys\n    sys.exit(0)", RuntimeError),
        ("return object()", TypeError),
        ("return 'ñ'.encode('ascii')", ValueError),
    ],
)
def test_what_a_function_raises_is_raised_here(
    student: Make, code: str, kind: type[Exception]
) -> None:
    own = student()
    own.run(f"def f():\n    {code}")
    with pytest.raises(kind):
        Function(own, "f")()


def test_magics_do_nothing_and_a_remainder_is_none(student: Make) -> None:
    code = student()
    assert code.run("%matplotlib inline\n1 + 1").printed == "2\n"
    assert code.run("(\n    7\n    % 4\n)").printed == "3\n"
    colab = "try:\n    import torch\nexcept ImportError:\n    !pip install torch\n4"
    assert code.run(colab).printed == "4\n"
    assert "line 4 of" in code.run("x = 1\n\n%matplotlib inline\n1 / 0").message


def test_a_name_that_is_not_there(student: Make) -> None:
    with pytest.raises(NameError, match="missing"):
        Function(student(), "missing")()


def test_a_process_that_ends_is_replaced(student: Make) -> None:
    code = student()
    code.run("def f():\n    import os\n    os._exit(0)\ndef g():\n    return 5")
    with pytest.raises(StoppedError, match="has ended"):
        Function(code, "f")()
    assert Function(code, "g")() == 5
    assert code.run("import os; os._exit(1)").error == "Stopped"
    assert Function(code, "g")() == 5


@pytest.mark.parametrize(
    "loop",
    [
        "while True: pass",
        "while 1:\n    try:\n        while 1: pass\n    except BaseException: pass",
    ],
)
def test_what_hangs_is_stopped(student: Make, loop: str) -> None:
    code = student(seconds=3.0)
    code.run("def g():\n    return 5")
    assert code.run(loop).error == "Stopped"
    code.seconds = 60.0
    assert Function(code, "g")() == 5


def test_who_is_stopped_too_often_is_given_up(student: Make) -> None:
    code = student()
    for _ in range(5):
        assert code.run("import os; os._exit(1)").error == "Stopped"
    assert "too often" in code.run("1").message


HOSTILE = {
    "network": "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)",
    "file_of_a_gigabyte": "open('x', 'wb').write(b'0' * (1 << 30))",
    "many_files": "for i in range(9):\n    open(f'{i}', 'wb').write(b'0' * (60 << 20))",
    "memory": "x = bytearray(1 << 40)",
    "fork_bomb": "import os\nfor _ in range(500):\n    if not os.fork():\n"
    "        import time; time.sleep(30)",
    "home": "import os\nos.listdir(os.path.expanduser('~root'))[0]",
    "package": "open('/usr/llmcourse-was-here', 'w')",
    "environment": "import sys\nopen(sys.prefix + '/lib/evil.pth', 'w')",
    "rights": "import os\nos.setuid(0) if os.getuid() else 1/0",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_the_sandbox_holds(student: Make, attack: str) -> None:
    code = student()
    code.run("def g():\n    return 5")
    assert code.run(HOSTILE[attack]).error
    assert Function(code, "g")() == 5


def test_nothing_of_the_machine_is_seen(
    student: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("LLMCOURSE_SEED", "5")
    code = student()
    ran = code.run("import os\nprint(sorted(os.environ), os.listdir('.'))")
    assert "SECRET" not in ran.printed
    assert "LLMCOURSE_SEED" not in ran.printed
    assert ran.printed.endswith("[]\n")
    processes = "import os\n[p for p in os.listdir('/proc') if p.isdigit()]"
    assert len(code.run(processes).printed) < 30


def test_what_is_printed_is_cut(student: Make) -> None:
    code = student()
    assert len(code.run("print('x' * (100 << 20))").printed) <= 20_000


@pytest.mark.skipif(os.name != "posix", reason="no fork")
@pytest.mark.parametrize("away", ["pass", "os.setsid()"])
def test_who_holds_the_pipe_open_stops_nobody_without_a_sandbox(away: str) -> None:
    code = f"""
import os, time
def f():
    if os.fork() == 0:
        {away}
        time.sleep(20)
    time.sleep(20)
"""
    with Student(3.0, unsafe=True) as own:
        own.run(code)
        with pytest.raises(StoppedError, match="no answer"):
            Function(own, "f")()


def test_copies_of_the_process_answer_nothing(student: Make) -> None:
    own = student()
    own.run("import os\ndef f():\n    os.fork()\n    return 1\ndef g(): return 2")
    assert [Function(own, "f")() for _ in range(3)] == [1, 1, 1]
    assert Function(own, "g")() == 2


def test_an_answer_that_nobody_asked_for_stops_the_process(student: Make) -> None:
    own = student()
    own.run("def g(): return 2")
    own.run(
        "import gc\n"
        "for o in gc.get_objects():\n"
        "    if type(o).__name__ == 'Child':\n"
        "        o._send({'value': 3, 'error': None, 'printed': ''})"
    )
    with pytest.raises(StoppedError, match="a reply that is not valid"):
        Function(own, "g")()


def test_what_is_blocked_is_blocked_compiled_too() -> None:
    compiled = Path(str(py_compile.compile(bpe.__file__)))
    assert {Path(bpe.__file__), compiled} <= set(files_of(["llmcourse.text.bpe"]))
    with pytest.raises(ValueError, match="no module llmcourse.nothing to block"):
        files_of(["llmcourse.nothing"])


@pytest.mark.parametrize("line", ["?merge", "merge?", "torch.equal??", "%pwd", "!ls"])
def test_lines_that_only_jupyter_knows_do_nothing(line: str) -> None:
    assert without_magics(f"if x:\n    {line}\ny = 1") == "if x:\n    pass\ny = 1"
