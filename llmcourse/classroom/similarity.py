"""How alike two hand-ins are, whatever their variables are called.

Code is read as the types of its syntax tree's nodes, in order: variable names, values,
comments and layout do not count. Runs of nodes are hashed, and the smallest hash of
each window is kept; these are the fingerprints.

Source: Schleimer, Wilkerson and Aiken (2003), Winnowing: local algorithms for document
fingerprinting, which is what MOSS does.
"""

import ast
import hashlib
from collections.abc import Iterator

from nbformat import NotebookNode

from llmcourse.classroom.assignments import grade_id, is_answer
from llmcourse.classroom.child import without_magics

GRAM = 8  # nodes of the syntax tree in a run
WINDOW = 4


def _kinds(node: ast.AST) -> Iterator[str]:
    """Yield the types of a tree's nodes, in order, without names."""
    detail = ""
    if isinstance(node, ast.Attribute):
        detail = node.attr
    elif isinstance(node, ast.Constant):
        detail = type(node.value).__name__
    if not isinstance(node, ast.expr_context):
        yield f"{type(node).__name__}{detail}"
    for child in ast.iter_child_nodes(node):
        yield from _kinds(child)


def fingerprints(notebook: NotebookNode, source: NotebookNode) -> set[int]:
    """Return the fingerprints of the code of a hand-in's answers."""
    names = {grade_id(cell) for cell in source.cells if is_answer(cell)}
    prints: set[int] = set()
    for cell in notebook.cells:
        if cell.cell_type != "code" or grade_id(cell) not in names:
            continue
        try:
            kinds = list(_kinds(ast.parse(without_magics(cell.source))))
        except (SyntaxError, ValueError, RecursionError):
            continue
        runs = zip(*(kinds[i:] for i in range(GRAM)), strict=False)
        hashes = [
            int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest())
            for run in map("|".join, runs)
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
