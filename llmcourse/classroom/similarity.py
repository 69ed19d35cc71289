"""How alike two hand-ins are, whatever their variables are called.

Code is read as the kinds of its syntax tree's nodes, in order: names of variables,
values, comments and layout do not count. Runs of nodes are hashed, and of each window
of hashes the smallest is kept: the fingerprints.

Source: Schleimer, Wilkerson and Aiken (2003), Winnowing: local algorithms for document
fingerprinting, which is what MOSS does.
"""

import ast
import hashlib

from nbformat import NotebookNode

from llmcourse.classroom.assignments import grade_id, is_answer
from llmcourse.classroom.child import without_magics

GRAM = 8  # nodes of the syntax tree in a run
WINDOW = 4


class _Shape(ast.NodeVisitor):
    """The kinds of a tree's nodes in order, without names."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def generic_visit(self, node: ast.AST) -> None:
        detail = ""
        if isinstance(node, ast.Attribute):
            detail = node.attr
        elif isinstance(node, ast.Constant):
            detail = type(node.value).__name__
        if not isinstance(node, ast.expr_context):
            self.kinds.append(f"{type(node).__name__}{detail}")
        super().generic_visit(node)


def fingerprints(notebook: NotebookNode, source: NotebookNode) -> set[int]:
    """Return the fingerprints of the code of a hand-in's answers."""
    names = {grade_id(cell) for cell in source.cells if is_answer(cell)}
    prints: set[int] = set()
    for cell in notebook.cells:
        if cell.cell_type != "code" or grade_id(cell) not in names:
            continue
        shape = _Shape()
        try:
            shape.visit(ast.parse(without_magics(cell.source)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        runs = ["|".join(shape.kinds[i : i + GRAM]) for i in range(len(shape.kinds))]
        hashes = [
            int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest())
            for run in runs[: max(0, len(runs) - GRAM + 1)]
        ]
        windows = range(max(1, len(hashes) - WINDOW + 1)) if hashes else ()
        prints |= {min(hashes[i : i + WINDOW]) for i in windows}
    return prints


def likeness(one: set[int], other: set[int]) -> float:
    """Return the share of fingerprints that two hand-ins have in common, 0 to 1.

    >>> likeness({1, 2, 3}, {2, 3, 4})
    0.5
    """
    return len(one & other) / len(one | other) if one | other else 0.0
