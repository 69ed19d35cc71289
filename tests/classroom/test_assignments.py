"""What must hold of every assignment; beyond that, `tests/assignments/proving.py`."""

import html
import json
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from proving import (
    CHECKS,
    HERE,
    NAMES,
    apart,
    failed,
    mutants,
    solved,
    source_of,
    stubs,
    with_figures,
    wrong_answers,
)

from llmcourse.classroom.assignments import (
    defined,
    grade_id,
    is_answer,
    is_test,
    points,
    read_source,
    release,
)

ROOT = HERE.parents[1]
SECRET = re.compile(
    r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END (?:SOLUTION|HIDDEN TESTS)",
    re.DOTALL,
)


@pytest.fixture(scope="module", params=NAMES)
def source(request: pytest.FixtureRequest) -> NotebookNode:
    return read_source(HERE / f"{request.param}.py")


def graded_cells(source: NotebookNode) -> list[str]:
    return [grade_id(cell) for cell in source.cells if is_test(cell)]


def test_the_reference_passes_every_test(source: NotebookNode) -> None:
    assert apart(lambda: failed(source, {})) == []


def test_the_reference_passes_whatever_the_seed(
    source: NotebookNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each class draws one, up to 2 to the power of 31."""
    monkeypatch.setenv("LLMCOURSE_SEED", str((1 << 31) - 1))
    assert apart(lambda: failed(source, {})) == []


def test_the_stub_passes_none(source: NotebookNode) -> None:
    assert apart(lambda: failed(source, stubs(source))) == graded_cells(source)


def test_each_wrong_answer_fails_exactly_its_tests(source: NotebookNode) -> None:
    cases = list(wrong_answers(source.metadata["llmcourse"]["assignment"]))
    assert len(cases) >= 6
    answers = [grade_id(cell) for cell in source.cells if is_answer(cell)]
    for name, cell, fails, code in cases:
        assert cell in answers
        got = apart(lambda cell=cell, code=code: failed(source, {cell: code}))
        assert (name, sorted(got)) == (name, sorted(fails))


def test_twenty_points_a_quarter_of_them_written(source: NotebookNode) -> None:
    written = [points(c) for c in source.cells if is_answer(c) and points(c)]
    assert sum(points(cell) for cell in source.cells) == 20
    assert sum(written) >= 5
    tasks = re.findall(
        r"^## \d", "\n".join(c.source for c in source.cells), re.MULTILINE
    )
    assert 5 <= len(tasks) <= 8


def test_a_written_answer_comes_right_after_its_question(source: NotebookNode) -> None:
    """Two empty cells in a row do not say which question each is for."""
    for above, cell in pairwise(source.cells):
        if is_answer(cell) and points(cell):
            assert above.cell_type == "markdown"
            assert not is_answer(above)


def test_every_assert_says_what_is_wrong(source: NotebookNode) -> None:
    import ast

    for cell in source.cells:
        if is_test(cell):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Assert):
                    assert node.msg is not None, (grade_id(cell), ast.unparse(node))


def test_the_committed_notebook_is_the_one_that_the_source_makes(
    source: NotebookNode,
) -> None:
    name = source.metadata["llmcourse"]["assignment"]
    path = ROOT / "book" / "assignments" / f"{name}.ipynb"
    text = nbformat.writes(release(source)) + "\n"
    told = "run: python book/notebooks.py assignments"
    assert path.read_text(encoding="utf-8") == text, told


def secrets(source: NotebookNode) -> set[str]:
    """Return the lines that students must not see, but for those that they may."""
    lines, public = set(), set()
    for cell in source.cells:
        written = is_answer(cell) and cell.cell_type == "markdown"
        hidden = cell.source if written else "\n".join(SECRET.findall(cell.source))
        shown = "" if written else SECRET.sub("", cell.source)
        lines |= {line.strip() for line in hidden.splitlines()}
        public |= {line.strip() for line in shown.splitlines()}
    return {line for line in lines if len(line) > 20} - public


def test_nothing_secret_is_released(source: NotebookNode) -> None:
    released = release(source)
    text = nbformat.writes(released)
    assert not re.search("BEGIN SOLUTION|HIDDEN TESTS", text)
    assert secrets(source)
    assert not secrets(source) & lines_of("\n".join(c.source for c in released.cells))


def lines_of(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines()}


def test_nothing_secret_is_on_the_site() -> None:
    site = ROOT / "_build" / "html"
    if not site.exists():
        pytest.skip("the site is not built")
    pages = [
        p for p in site.rglob("*") if p.is_file() and p.parent.name == "assignments"
    ]
    assert len(pages) >= 2 * len(NAMES)  # pages and the notebooks to download
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".ipynb":
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n".join(cell.source for cell in cells)
        else:
            text = html.unescape(re.sub(r"<[^>]+>", "", text))
        secret = secrets(read_source(HERE / f"{page.stem}.py"))
        assert not secret & lines_of(text), page


def test_every_assignment_has_a_page() -> None:
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert [n for n in NAMES if f"book/assignments/{n}\n" not in contents] == []


def test_survivors_are_explained_once() -> None:
    known = json.loads((HERE / "survivors.json").read_text(encoding="utf-8"))
    assert set(known) <= {*NAMES, *CHECKS}
    for name, cells in known.items():
        code = {grade_id(c): c for c in source_of(name).cells}
        for cell, reasons in cells.items():
            assert cell in code
            assert all(len(reason) > 10 for reason in reasons.values())


def test_worked_example_of_mutants() -> None:
    found = dict(mutants("def f(x):\n    y = x + 1\n    return y"))
    assert "def f(x):\n    y = x - 1\n    return y" in found.values()
    assert "def f(x):\n    pass\n    return y" in found.values()
    assert "def f(x):\n    y = x\n    return y" in found.values()


def test_a_table_keeps_the_rows_that_were_not_measured_again() -> None:
    title = "| Of | Caught | Mutants |\n|---|---|---|"
    page = f"Before\n<!-- a -->\n\n{title}\n\n<!-- end of a -->\nbehind\n"
    page = with_figures(page, "a", {"rlhf": (8, 10), "corpus": (7, 7)})
    page = with_figures(page, "a", {"rlhf": (9, 10)})
    assert page.splitlines() == [
        "Before",
        "<!-- a -->",
        "",
        *title.splitlines(),
        "| corpus | 7 | 7 |",
        "| rlhf | 9 | 10 |",
        "",
        "<!-- end of a -->",
        "behind",
    ]


def test_what_code_defines() -> None:
    code = "import os\nLIMIT: int = 3\nA = 1\ndef merge(ids):\n    local = 2"
    assert defined(code) == {"LIMIT": False, "A": False, "merge": True}


HEAD = "# ---\n# jupyter:\n#   llmcourse:\n#     version: 1\n# ---\n\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# %%\nx = 1", "code must have one of"),
        ('# %% test="a"\nassert x, "y"', "points=None"),
        ('# %% answer="a" points=2\nx = 1', "points=2"),
        ('# %% answer="Big Name"\nx = 1', "a name of a-z"),
        ('# %% answer="a" test="a" points=1\nx = 1', "cannot be answer and test"),
        ('# %% written="a" points=1\nx = 1', "written cannot be in a code cell"),
        (
            '# %% hidden="a" points=1\nassert x, "y"',
            "must be a comment followed by code",
        ),
        ('# %% answer="a"\nx = 1\n\n# %% answer="a"\nx = 2', "used twice: a"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.py").write_text(HEAD + text)
    with pytest.raises(ValueError, match=message):
        read_source(tmp_path / "x.py")


def test_nbgrader_makes_the_same_release(tmp_path: Path) -> None:
    from llmcourse.classroom.course import Course

    course = Course.init(tmp_path / "class", HERE, ["tokenization"])
    made = nbformat.read(course.release("tokenization"), as_version=4)
    with course.gradebook() as book:
        cells = {
            cell.name for cell in book.find_notebook(*["tokenization"] * 2).grade_cells
        }
    assert cells == {grade_id(c) for c in made.cells if points(c)}
    assert made == release(course.for_students("tokenization"))


def test_a_solved_notebook_has_other_answers_where_asked() -> None:
    own = solved(read_source(HERE / "tokenization.py"), merge="def merge(): ...")
    sources = {grade_id(cell): cell.source for cell in own.cells}
    assert sources["merge"] == "def merge(): ..."
    assert "NotImplementedError" not in "".join(sources.values())
