"""Hand-ins that are alike, whatever their variables are called."""

import nbformat
from proving import HERE, solved

from llmcourse.classroom.assignments import grade_id, is_answer, read_source
from llmcourse.classroom.similarity import fingerprints, likeness

SOURCE = read_source(HERE / "tokenization.py")


def with_answers(change) -> nbformat.NotebookNode:
    """Return a solved notebook whose answers are changed, by number."""
    notebook = solved(SOURCE)
    answers = {grade_id(cell) for cell in SOURCE.cells if is_answer(cell)}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and grade_id(cell) in answers:
            cell.source = change(cell.source, number)
    return notebook


def test_a_magic_line_and_other_names_hide_no_copy() -> None:
    own = fingerprints(with_answers(lambda code, _: code), SOURCE)
    copied = with_answers(lambda code, _: "%%time\n" + code.replace("pair", "couple"))
    assert len(own) > 10
    assert likeness(own, fingerprints(copied, SOURCE)) > 0.9


def test_answers_of_a_few_nodes_have_no_fingerprints() -> None:
    tiny = with_answers(lambda _, number: ("x = 1", "x = -1", "x = y + 1")[number % 3])
    assert fingerprints(tiny, SOURCE) == set()
