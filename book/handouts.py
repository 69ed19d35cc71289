"""A chapter for a class: exercises to be answered, and what a teacher marks them by.

For each exercise the solution gives way to a cell for the answer, which has the
signature already, and to a cell that runs the exercise's check. Exercises that no check
can judge, or not all of, get room for words, and go into the chapter's marking guide
with the model answer.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from nbformat import NotebookNode, v4

BOOK = Path(__file__).resolve().parent
HEADING = re.compile(r"^### (Exercise \d+) \(([a-z, ]+)\): (.*)$", re.MULTILINE)
ROLE = re.compile(r"\{(term|ref|eq|cite:?[pt]?)\}`([^`<]+?)(?: *<[^>]+>)?`")
PAGE = re.compile(r"(?<=\]\()(\w+)\.md(?=\))")
SIGNATURE = re.compile(r"^```python\n(def .*?)\n```$", re.MULTILINE | re.DOTALL)
DROPDOWN = re.compile(r"^\n?:::\{dropdown\} (.*?)\n(.*?)\n:::$\n?", re.M | re.S)
IN_PAGE = re.compile(r"^:::\{div\} llmcourse-[^\n]*\n.*?\n:::$", re.M | re.S)
MARKS = """How to mark each answer, of 3 points: 1 for a way that leads to the answer,
1 for the answer or the measurement,
1 for what follows from it, said in the student's own words."""


@cache
def site() -> str:
    """Return the address of the book's pages."""
    from address import site_address

    config = yaml.safe_load((BOOK.parent / "_config.yml").read_text(encoding="utf-8"))
    return f"{site_address(config['repository']['url'])}book/"


def without_roles(text: str) -> str:
    """Return Markdown with the book's roles as plain text, and no explorers.

    Links to chapters stay: the notebook lies beside. Those to pages lead to the site.

    >>> without_roles("See [The corpus](corpus.ipynb) for {term}`tokens <token>`.")
    'See [The corpus](corpus.ipynb) for tokens.'
    """

    def shown(role: re.Match[str]) -> str:
        kind, label = role.groups()
        return f"[{label}]" if kind.startswith("cite") else label

    text = re.sub(r"^\([\w-]+\)=\n", "", IN_PAGE.sub("", text), flags=re.MULTILINE)
    return ROLE.sub(shown, PAGE.sub(lambda page: f"{site()}{page[1]}.html", text))


def plain(text: str) -> str:
    r"""Return Markdown without the forms that only the book's site knows.

    >>> plain("*Predict:* which?\n\n:::{dropdown} Answer\nThe first.\n:::\n")
    '*Predict:* which?\n'
    """
    return without_roles(DROPDOWN.sub("", text))


def unfolded(text: str) -> str:
    r"""Return the same with what is folded kept, behind a click.

    >>> print(unfolded("Which?\n\n:::{dropdown} Answer\nThe first.\n:::"))
    Which?
    <BLANKLINE>
    <details><summary>Answer</summary>
    <BLANKLINE>
    The first.
    <BLANKLINE>
    </details>
    """
    shown = r"\n<details><summary>\1</summary>\n\n\2\n\n</details>\n"
    return without_roles(DROPDOWN.sub(shown, text)).rstrip("\n")


def checks_of(solution: str) -> list[str]:
    r"""Return the calls of checks that a solution ends in.

    >>> checks_of("def f(x):\n    return x\n\nchecks.f(f)  # why")
    ['checks.f(f)']
    """
    return [
        ast.unparse(node)
        for node in ast.parse(solution).body
        if ast.unparse(node).startswith("checks.")
    ]


def asks_more(exercise: str, solution: str) -> bool:
    r"""Whether there is something to say besides what checks judge, if any.

    >>> asks_more("Check it with `checks.f(f)`.\nWhy is it fast?", "checks.f(f)")
    True
    """
    _, _, after = exercise.rpartition("`checks.")
    remarks = re.search(r"^# ", solution, re.MULTILINE)
    return not checks_of(solution) or "?" in after or remarks is not None


def stub_of(exercise: str, solution: str) -> str:
    """Return the cell to be filled in: the functions that a check calls, or a name."""
    stubs = []
    for call in checks_of(solution):
        asked = re.findall(r"\w+", call)[2]  # checks, its name, what it is given
        for node in ast.parse(solution).body:
            if isinstance(node, ast.FunctionDef) and node.name == asked:
                given = [s for s in SIGNATURE.findall(exercise) if f"def {asked}(" in s]
                head = given[0].rstrip(". ").rstrip() if given else ""
                if not head.endswith(":"):
                    head = f"def {asked}({ast.unparse(node.args)}):"
                text = ast.get_docstring(node)
                body = f'    """{text}"""\n' if text else ""
                stubs.append(f"{head}\n{body}    raise NotImplementedError()")
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == asked:
                stubs.append(f"{asked} = ...  # your answer")
    return "\n\n\n".join(dict.fromkeys(stubs))


def is_solution(cell: NotebookNode) -> bool:
    """Whether a cell is part of a solution."""
    return "solution" in cell.metadata.get("tags", ())


def _exercises(
    notebook: NotebookNode,
) -> Iterator[tuple[NotebookNode, list[NotebookNode]]]:
    """Yield each cell that is no solution, with the solution that follows it."""
    group: list[NotebookNode] = []
    for cell in notebook.cells:
        if not is_solution(cell):
            if group:
                yield group[0], group[1:]
            group = [cell]
        else:
            group.append(cell)
    if group:
        yield group[0], group[1:]


def handout(notebook: NotebookNode) -> NotebookNode:
    """Return a chapter for students: no solutions, no outputs, cells for answers."""
    cells = []
    for cell, solution in _exercises(notebook):
        if cell.cell_type == "markdown":
            cell = v4.new_markdown_cell(plain(cell.source), id=cell.id)
        else:
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
        if not solution:
            continue
        code = "\n".join(c.source for c in solution if c.cell_type == "code")
        calls = checks_of(code)
        if calls:
            cells.append(
                v4.new_code_cell(stub_of(cell.source, code), id=f"{cell.id}-a")
            )
            text = "\n".join(calls)
            cells.append(v4.new_code_cell(f"{text}\nprint('right')", id=f"{cell.id}-c"))
        else:
            cells.append(v4.new_code_cell("# your code, if any", id=f"{cell.id}-a"))
        if asks_more(cell.source, code):
            cells.append(v4.new_markdown_cell("*Your answer.*", id=f"{cell.id}-w"))
    made = v4.new_notebook(cells=cells, metadata=notebook.metadata)
    made.metadata.pop("widgets", None)
    return made


def marking_guide(notebook: NotebookNode) -> str:
    """Return, as Markdown, the exercises that no check judges, with model answers."""
    parts = []
    for cell, solution in _exercises(notebook):
        code = "\n".join(c.source for c in solution if c.cell_type == "code")
        if not solution or not asks_more(cell.source, code):
            continue
        answers = [
            f"```python\n{c.source}\n```" if c.cell_type == "code" else plain(c.source)
            for c in solution
        ]
        parts += [plain(cell.source), "**Model answer**", *answers]
    return "\n\n".join([MARKS, *parts]) + "\n"
