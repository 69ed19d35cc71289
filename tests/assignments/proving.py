"""Prove that the tests of assignments, and the checks of chapters, catch mistakes.

    python tests/assignments/proving.py               all assignments, all chapters
    python tests/assignments/proving.py --write       and the tables in the book
    python tests/assignments/proving.py rlhf          one: what fails, which mutants live
    python tests/assignments/proving.py checks        all chapters' exercises
    python tests/assignments/proving.py checks/rlhf   those of one

Three things must hold of each source in this folder: the reference passes every test,
the release passes none, and each wrong answer (`wrong/NAME.py`) fails exactly the tests
that it names. Beyond that, the reference is mutated: an operator, a constant, an axis, a
bound, a term, a statement at a time. A mutant that no test catches is either no mistake
at all, which `survivors.json` says with a reason, or a hole in the tests.

A chapter's exercises are mutated in the same way: the solution that the chapter's source
has is the reference, and the check that it ends in is the test.
"""

import ast
import contextlib
import copy
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
import torch._dynamo  # noqa: F401 - an optimizer imports it, each fork anew, in seconds
from nbformat import NotebookNode, v4

from llmcourse.classroom.assignments import (
    grade_id,
    is_answer,
    is_given,
    is_test,
    read_source,
    release,
)

SOLUTION = re.compile(r"^[ \t]*### (?:BEGIN|END) SOLUTION[ \t]*\n?", re.MULTILINE)
HERE = Path(__file__).parent
SURVIVORS = HERE / "survivors.json"
BOOK = HERE.parents[1] / "book"
NAMES = sorted(p.stem for p in HERE.glob("*.py") if p.name != Path(__file__).name)
CHECKS = sorted(
    f"checks/{p.stem}"
    for p in (BOOK.parent / "llmcourse" / "checks").glob("*.py")
    if (BOOK / "src" / p.name).exists()
)


def source_of(name: str) -> NotebookNode:
    """Return an assignment's source; for `checks/CHAPTER` one made of the chapter.

    Its answers are the solutions that end in a check, its tests the checks. Of all else
    in the chapter, imports are given and the functions that a solution names.
    """
    folder, _, chapter = name.rpartition("/")
    if not folder:
        return read_source(HERE / f"{name}.py")
    imports, functions, made = [], [], []
    for cell in jupytext.read(BOOK / "src" / f"{chapter}.py", fmt="py:percent").cells:
        body = ast.parse(cell.source).body if cell.cell_type == "code" else []
        imports += [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
        if "solution" not in cell.metadata.get("tags", ()):
            functions += [n for n in body if isinstance(n, ast.FunctionDef)]
            continue
        for i, node in enumerate(body):
            call = re.match(r"checks\.(\w+)", ast.unparse(node))
            if call:
                kinds = ast.FunctionDef | ast.Assign
                answer = [n for n in body[:i] if isinstance(n, kinds)]
                made.append(_cell(call[1], answer, solution=True))
                made.append(_cell(f"check-{call[1]}", [node], grade=True))
    named = set(re.findall(r"\w+", "\n".join(cell.source for cell in made)))
    given = [*imports, *(node for node in functions if node.name in named)]
    return v4.new_notebook(cells=[_cell("given", given), *made])


def _cell(
    name: str, body: list[ast.stmt], solution: bool = False, grade: bool = False
) -> NotebookNode:
    """Return a cell with as much of nbgrader's metadata as is read here."""
    own = {"grade_id": name, "solution": solution, "grade": grade}
    own["locked"] = not solution
    code = ast.unparse(ast.Module(body, []))
    return v4.new_code_cell(code, metadata={"nbgrader": own})


def solved(source: NotebookNode, **answers: str) -> NotebookNode:
    """Return the released notebook with the reference answers filled in, or others.

    Args:
        source: The notebook from `read_source`.
        answers: Texts of other answers, by cell name, with `_` for `-`.
    """
    texts = {grade_id(cell): SOLUTION.sub("", cell.source) for cell in source.cells}
    texts |= {name.replace("_", "-"): text for name, text in answers.items()}
    notebook = release(source)
    for cell in notebook.cells:
        if is_answer(cell):
            cell.source = texts[grade_id(cell)]
    return notebook


def failed(
    source: NotebookNode, answers: dict[str, str], stop: bool = False
) -> list[str]:
    """Return the names of the tests that fail with other answers, all in one process."""
    names: dict[str, object] = {"__name__": "tests"}
    found = []
    for cell in source.cells:
        if cell.cell_type != "code":
            continue
        name = grade_id(cell)
        code = SOLUTION.sub("", answers.get(name, cell.source))
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, f"<{name}>", "exec"), names)
        except Exception:
            if is_given(cell):
                raise
            if is_test(cell):
                found.append(name)
                if stop:
                    break
    return found


def apart(work: Callable[[], list[str]], seconds: float = 30) -> list[str]:
    """Return what work returns, in a process of its own; `["hangs"]` if it does.

    The seconds are of processor time, so that a busy machine changes nothing.
    """
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        sys.stderr = io.StringIO()
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process
        try:
            answer = work()
        except BaseException as error:
            answer = [f"{type(error).__name__}: {error}"]
        os.write(write, json.dumps(answer).encode()[:60_000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return list(json.loads(text)) if text else ["hangs"]


def wrong_answers(name: str) -> Iterator[tuple[str, str, list[str], str]]:
    """Yield each wrong answer: its name, its cell, the tests that it fails, its code."""
    for cell in jupytext.read(HERE / "wrong" / f"{name}.py", fmt="py:percent").cells:
        if cell.cell_type == "code" and "wrong" in cell.metadata:
            own = cell.metadata
            yield own["wrong"], own["answer"], own["fails"].split(","), cell.source


def stubs(source: NotebookNode) -> dict[str, str]:
    """Return answers that are not there yet."""
    return {grade_id(c): c.source for c in release(source).cells if is_answer(c)}


Change = tuple[str, Callable[[], None], Callable[[], None]]
SWAPS: dict[type, list[type]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.FloorDiv],
    ast.Pow: [ast.Mult],
    ast.MatMult: [ast.Mult],
    ast.Lt: [ast.LtE],
    ast.LtE: [ast.Lt],
    ast.Gt: [ast.GtE],
    ast.GtE: [ast.Gt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
}
CALLS = {"min": "max", "max": "min", "sum": "mean", "mean": "sum", "argmax": "argmin",
         "tril": "triu", "triu": "tril", "exp": "expm1", "log": "log1p",
         "any": "all", "all": "any", "floor": "ceil", "minimum": "maximum",
         "maximum": "minimum", "sorted": "list", "log_softmax": "softmax"}  # fmt: skip


def _changes(node: ast.AST) -> Iterator[Change]:
    """Yield each change of one node: what it is, how to make it, how to undo it."""

    def swap(field: str, new: object) -> tuple[Callable[[], None], Callable[[], None]]:
        old = getattr(node, field)
        return lambda: setattr(node, field, new), lambda: setattr(node, field, old)

    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        for kind in SWAPS.get(type(node.op), []):
            yield f"{type(node.op).__name__} to {kind.__name__}", *swap("op", kind())
    if isinstance(node, ast.Compare):
        for kind in SWAPS.get(type(node.ops[0]), []):
            new = [kind(), *node.ops[1:]]
            yield f"{type(node.ops[0]).__name__} to {kind.__name__}", *swap("ops", new)
    if isinstance(node, ast.Constant) and not isinstance(node.value, str | bytes):
        if isinstance(node.value, bool):
            yield f"{node.value} to {not node.value}", *swap("value", not node.value)
        elif isinstance(node.value, int | float):
            for new in {node.value + 1, node.value - 1, -node.value} - {node.value}:
                yield f"{node.value} to {new}", *swap("value", new)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        plain = ast.UAdd() if isinstance(node.op, ast.USub) else None
        if plain is not None and not isinstance(node.operand, ast.Constant):
            yield "minus dropped", *swap("op", plain)
        elif plain is not None and isinstance(node.operand, ast.Constant):
            yield "sign dropped", *swap("op", plain)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
            new_name = CALLS[node.func.attr]
            function = copy.copy(node.func)
            function.attr = new_name
            yield f"{node.func.attr} to {new_name}", *swap("func", function)
        elif isinstance(node.func, ast.Name) and node.func.id in CALLS:
            new_name = CALLS[node.func.id]
            if new_name not in ("mean",):
                yield (
                    f"{node.func.id} to {new_name}",
                    *swap("func", ast.Name(new_name, ast.Load())),
                )
        for i in range(len(node.keywords)):
            if node.keywords[i].arg is not None:
                rest = node.keywords[:i] + node.keywords[i + 1 :]
                yield f"without {node.keywords[i].arg}=", *swap("keywords", rest)
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition turned round", *swap("test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Slice):
        for field in ("lower", "upper"):
            if getattr(node, field) is not None:
                yield f"slice without {field}", *swap(field, None)


def _terms(node: ast.AST, parent: ast.AST) -> Iterator[Change]:
    """Yield the changes that put one side of a sum or product in its place."""
    if not isinstance(node, ast.BinOp):
        return
    for field, value in ast.iter_fields(parent):
        for side in ("left", "right"):
            kept = getattr(node, side)
            if value is node:
                yield (f"only the {side} of {type(node.op).__name__}",
                       lambda f=field, k=kept: setattr(parent, f, k),
                       lambda f=field: setattr(parent, f, node))  # fmt: skip
            elif isinstance(value, list) and node in value:
                i = value.index(node)
                yield (f"only the {side} of {type(node.op).__name__}",
                       lambda v=value, i=i, k=kept: v.__setitem__(i, k),
                       lambda v=value, i=i: v.__setitem__(i, node))  # fmt: skip


def _drops(node: ast.AST) -> Iterator[Change]:
    """Yield the changes that leave out one statement of a body."""
    for field in ("body", "orelse"):
        body = getattr(node, field, None)
        if not isinstance(body, list):
            continue
        for i, old in enumerate(body):
            document = isinstance(old, ast.Expr) and isinstance(old.value, ast.Constant)
            keep = ast.FunctionDef | ast.Return | ast.Import | ast.ImportFrom | ast.Pass
            if isinstance(old, keep) or document:
                continue
            yield (f"without `{ast.unparse(old).splitlines()[0][:40]}`",
                   lambda b=body, i=i: b.__setitem__(i, ast.Pass()),
                   lambda b=body, i=i, o=old: b.__setitem__(i, o))  # fmt: skip


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """Yield each mutant of some code: what was changed where, and the code."""
    tree = ast.parse(code)
    original = ast.unparse(tree)
    seen = {original}
    for parent in list(ast.walk(tree)):
        changes = list(_changes(parent)) + list(_drops(parent))
        for child in ast.iter_child_nodes(parent):
            changes += _terms(child, parent)
        for what, make, undo in changes:
            make()
            mutant = ast.unparse(ast.fix_missing_locations(tree))
            undo()
            if mutant not in seen:
                seen.add(mutant)
                pairs = zip(original.splitlines(), mutant.splitlines(), strict=False)
                line = next((old for old, new in pairs if old != new), "")
                yield f"{what} in `{line.strip()}`", mutant


def survivors(name: str) -> tuple[int, dict[str, list[str]]]:
    """Return how many mutants there are, and those that no test catches, by cell."""
    source = source_of(name)
    failed(source, {})  # what is imported once is not imported in every process
    total, alive = 0, {}
    started = time.process_time()
    failed(source, {})
    limit = max(0.5, 10 * (time.process_time() - started))  # beyond it, a mutant hangs
    for cell in source.cells:
        if is_answer(cell) and cell.cell_type == "code":
            key = grade_id(cell)
            for what, code in mutants(SOLUTION.sub("", cell.source)):
                total += 1
                answers = {key: code}
                if not apart(lambda a=answers: failed(source, a, stop=True), limit):
                    alive.setdefault(key, []).append(what)
    return total, alive


def explained(name: str) -> dict[str, dict[str, str]]:
    """Return the survivors that are known to be no mistakes, with the reasons."""
    known = json.loads(SURVIVORS.read_text(encoding="utf-8"))
    return dict(known.get(name, {}))


def prove(name: str) -> tuple[int, int, int]:
    """Print what is wrong with an assignment, or with a chapter's checks.

    Returns:
        How many faults there are, how many mutants are caught, of how many.
    """
    source = source_of(name)
    faults = []
    if bad := apart(lambda: failed(source, {})):
        faults.append(f"the reference fails {', '.join(bad)}")
    if name in NAMES:
        tests = [grade_id(cell) for cell in source.cells if is_test(cell)]
        if left := set(tests) - set(apart(lambda: failed(source, stubs(source)))):
            faults.append(f"the stub passes {', '.join(sorted(left))}")
        for wrong, key, fails, code in wrong_answers(name):
            got = apart(lambda key=key, code=code: failed(source, {key: code}))
            if sorted(got) != sorted(fails):
                faults.append(f"{wrong} fails {','.join(got)}, not {','.join(fails)}")
    total, alive = survivors(name)
    known = explained(name)
    lives = [
        f"lives: {key}: {what}"
        for key, changes in alive.items()
        for what in changes
        if what not in known.get(key, {})
    ]
    for line in faults + lives:
        print(f"{name}: {line}")
    real = total - (sum(map(len, alive.values())) - len(lives))
    caught = real - len(lives)
    print(f"{name}: {caught} of {real} mutants caught; {total - real} are no mistakes")
    return len(faults) + (caught < 0.95 * real), caught, real


def with_figures(text: str, mark: str, figures: dict[str, tuple[int, int]]) -> str:
    """Return a page with some rows of one of its tables renewed.

    The table, with its title, stands between `<!-- MARK -->` and `<!-- end of MARK -->`.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    head, _, rest = text.partition(begin)
    table, _, tail = rest.partition(end)
    lines = table.strip().splitlines()
    rows = {line.split()[1]: line for line in lines[2:]}
    for name, (caught, of) in figures.items():
        rows[name] = f"| {name} | {caught} | {of} |"
    table = "\n".join(lines[:2] + [rows[name] for name in sorted(rows)])
    return f"{head}{begin}\n\n{table}\n\n{end}{tail}"


def main(arguments: list[str]) -> int:
    """Prove the assignments and the checks; return how many faults there are."""
    asked = [name for name in arguments if name != "--write"] or [*NAMES, "checks"]
    names = [n for name in asked for n in (CHECKS if name == "checks" else [name])]
    results = {name: prove(name) for name in names}
    if "--write" in arguments:
        figures = {name: (caught, of) for name, (_, caught, of) in results.items()}
        path = BOOK / "objectives.md"
        text = path.read_text(encoding="utf-8")
        of_checks = {n.rpartition("/")[2]: figures.pop(n) for n in names if n in CHECKS}
        text = with_figures(text, "mutants", figures)
        text = with_figures(text, "mutants of checks", of_checks)
        path.write_text(text, encoding="utf-8")
    return sum(faults for faults, _, _ in results.values())


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
