"""Turn the scripts in `book/src/` into the executed notebooks of the book.

A chapter is edited as a percent script, `book/src/NAME.py`.
`book/NAME.ipynb` is a snapshot of its run in a normal form, so strict that
rebuilding an unchanged chapter gives the same bytes:

    python book/notebooks.py build [NAME ...]   run scripts, write notebooks
    python book/notebooks.py text [NAME ...]    take over new text where no code changed
    python book/notebooks.py check [NAME ...]   say what is stale or irregular
    python book/notebooks.py handout FOLDER     chapters without their solutions
    python book/notebooks.py assignments        what students get of assignments, and
                                                the instructors' tables of objectives
                                                and weeks
"""

import argparse
import base64
import hashlib
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from llmcourse.classroom.assignments import METADATA, write

BOOK = Path(__file__).resolve().parent
TOC = BOOK.parent / "_toc.yml"
TAGS = {
    "hide-input",
    "hide-cell",
    "remove-cell",
    "remove-input",
    "solution",
    "raises-exception",
    "nbval-ignore-output",
}
# What the site folds or leaves out is folded in JupyterLab and VS Code, too.
FOLDED = {
    "hide-input": {"source_hidden": True},
    "remove-input": {"source_hidden": True},
    "hide-cell": {"source_hidden": True, "outputs_hidden": True},
    "remove-cell": {"source_hidden": True, "outputs_hidden": True},
}
STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
MODEL_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
# Code, mathematics, links and emphasis: no place to look for a sentence's end.
INLINE = re.compile(r"`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|\*[^*]*\*")
# Two sentences on one line: a full stop (no abbreviation's), a space, a capital.
TWO_SENTENCES = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!et al)(?<!vs)[.?!] +[A-Z]")
MAX_NOTEBOOK_BYTES, MAX_PNG_BYTES = 500_000, 300_000


def chapters(names: list[str] | None = None) -> list[str]:
    """Return the names of the chapters, or of those asked for."""
    known = sorted(path.stem for path in (BOOK / "src").glob("*.py"))
    if unknown := set(names or ()) - set(known):
        raise SystemExit(f"no such chapter: {', '.join(sorted(unknown))}")
    return names or known


def read_source(name: str) -> NotebookNode:
    """Return the script as a notebook without outputs, in normal form.

    A cell's id is a hash of its text, so an unedited cell keeps it.
    """
    script = (BOOK / "src" / f"{name}.py").read_text(encoding="utf-8")
    notebook = jupytext.reads(script, fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode())
        key = digest.hexdigest()[:8]
        cell.id = f"{key}-{seen[key]}" if seen[key] else key
        seen[key] += 1
        cell.metadata = NotebookNode(
            {k: cell.metadata[k] for k in ("tags", "mystnb") if k in cell.metadata}
        )
        for tag in FOLDED.keys() & cell.metadata.get("tags", ()):
            cell.metadata["jupyter"] = nbformat.from_dict(FOLDED[tag])
    return notebook


def build(name: str) -> Path:
    """Run a chapter and write its notebook."""
    notebook = read_source(name)
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=3600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(BOOK)}},
    ).execute()
    notebook.metadata.language_info = nbformat.from_dict(METADATA["language_info"])
    normalise_widgets(notebook)
    nbformat.validate(notebook)
    path = BOOK / f"{name}.ipynb"
    write(notebook, path)
    return path


def take_text(name: str) -> Path:
    """Write a chapter's notebook with new text and the outputs that it has.

    Raises:
        SystemExit: If code has changed, so that the outputs may be wrong.
    """
    path = BOOK / f"{name}.ipynb"
    notebook, before = read_source(name), nbformat.read(path, as_version=4)
    pair = [[c for c in n.cells if c.cell_type == "code"] for n in (notebook, before)]
    if [cell.source for cell in pair[0]] != [cell.source for cell in pair[1]]:
        raise SystemExit(f"{name}: code has changed; run it with `build {name}`")
    for cell, old in zip(*pair, strict=True):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count
    notebook.metadata = before.metadata
    write(notebook, path)
    return path


def normalise_widgets(notebook: NotebookNode) -> None:
    """Keep the state of shown widgets alone, with ids in order of appearance."""
    widgets = notebook.metadata.get("widgets", {}).get(STATE)
    if widgets is None:
        return
    state = widgets["state"]
    views = [
        output.data[VIEW]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if VIEW in output.get("data", {})
    ]
    order = _reachable(state, [view["model_id"] for view in views])
    new_ids = {old: f"{n:032x}" for n, old in enumerate(order, start=1)}

    def renumber(value: Any) -> Any:
        text = json.dumps(value)
        return json.loads(MODEL_ID.sub(lambda m: new_ids.get(m[0], m[0]), text))

    kept = {}
    for old in order:
        model = dict(state[old])
        model["state"] = {k: v for k, v in model["state"].items() if v is not None}
        kept[new_ids[old]] = renumber(model)
    widgets["state"] = nbformat.from_dict(kept)
    for view in views:
        view["model_id"] = new_ids.get(view["model_id"], view["model_id"])


def _reachable(state: dict[str, Any], roots: list[str]) -> list[str]:
    """Return the models that the roots refer to."""
    order: list[str] = []

    def visit(model_id: str) -> None:
        if model_id in state and model_id not in order:
            order.append(model_id)
            for other in MODEL_ID.findall(json.dumps(state[model_id]["state"])):
                visit(other)

    for root in roots:
        visit(root)
    return order


def check(name: str) -> list[str]:
    """Return one line for each fault of a chapter's notebook; none if it is fine."""
    path = BOOK / f"{name}.ipynb"
    if not path.exists():
        return [f"{name}: not built; run: python book/notebooks.py build {name}"]
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    faults = [*_stale(notebook, read_source(name)), *_irregular(notebook, text)]
    return [f"{name}: {fault}" for fault in faults]


def _stale(notebook: NotebookNode, source: NotebookNode) -> Iterator[str]:
    """Yield where the notebook is not the script's."""

    def key(cell: NotebookNode) -> tuple[str, str, str, str]:
        metadata = json.dumps(cell.metadata, sort_keys=True)  # nbformat sorts them
        return (cell.id, cell.cell_type, cell.source, metadata)

    if len(notebook.cells) != len(source.cells):
        yield f"stale: {len(notebook.cells)} cells, the script has {len(source.cells)}"
    for number, pair in enumerate(zip(notebook.cells, source.cells, strict=False)):
        if key(pair[0]) != key(pair[1]):
            yield f"stale from cell {number}: {pair[1].source[:50]!r}"
            return


def _irregular(notebook: NotebookNode, text: str) -> Iterator[str]:
    """Yield where the notebook departs from the normal form."""
    metadata = {k: v for k, v in notebook.metadata.items() if k != "widgets"}
    if metadata != METADATA:
        yield f"metadata is {metadata}, wanted {METADATA}"
    if text != nbformat.writes(notebook) + "\n":
        yield "bytes differ from what nbformat writes"
    if len(text.encode()) > MAX_NOTEBOOK_BYTES:
        yield f"{len(text.encode())} bytes, at most {MAX_NOTEBOOK_BYTES}"
    ids = [cell.id for cell in notebook.cells]
    if len(set(ids)) < len(ids):
        yield "cell ids are not unique"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "execution counts are not 1 … n"
    for cell in notebook.cells:
        where = f"cell {cell.id}"
        if extra := set(cell.metadata.get("tags", ())) - TAGS:
            yield f"{where}: unknown tags {sorted(extra)}"
        faults = _code_faults if cell.cell_type == "code" else _markdown_faults
        yield from (f"{where}: {fault}" for fault in faults(cell))


def _code_faults(cell: NotebookNode) -> Iterator[str]:
    lines = cell.source.splitlines()
    if lines and lines[-1].rstrip().endswith(";"):
        yield "ends in a semicolon, which nbval does not honour"
    for output in cell.outputs:
        if output.output_type == "error":
            if "raises-exception" not in cell.metadata.get("tags", ()):
                yield f"error output: {output.ename}"
        elif "image/png" in output.get("data", {}):
            png = base64.b64decode(output.data["image/png"])
            if len(png) > MAX_PNG_BYTES:
                yield f"figure of {len(png)} bytes, at most {MAX_PNG_BYTES}"
            if b"Matplotlib version" in png:
                yield "figure carries matplotlib's version"
            if not cell.metadata.get("mystnb", {}).get("image", {}).get("alt"):
                yield "figure without alt text"


def _markdown_faults(cell: NotebookNode) -> Iterator[str]:
    fenced = False
    for line in cell.source.splitlines():
        if line.lstrip().startswith(("```", ":::")):
            fenced = line.lstrip().startswith("```") and not fenced
        elif fenced or line.lstrip().startswith("|"):
            continue
        elif TWO_SENTENCES.search(INLINE.sub("x", line)):
            yield f"two sentences on one line: {line[:60]!r}"


def handout(name: str, folder: Path) -> Path:
    """Write a chapter for a class to work on, and the teacher's guide to marking it.

    The guide, `NAME-marking.md`, holds model answers: it is not for students.
    """
    import handouts

    source = read_source(name)
    folder.mkdir(parents=True, exist_ok=True)
    guide = handouts.marking_guide(source)
    (folder / f"{name}-marking.md").write_text(guide, encoding="utf-8")
    made = handouts.handout(source)
    for figure in re.findall(r"\]\((figures/[\w.-]+)\)", nbformat.writes(made)):
        (folder / "figures").mkdir(exist_ok=True)
        shutil.copy(BOOK / figure, folder / figure)
    path = folder / f"{name}.ipynb"
    nbformat.write(made, path)
    return path


def assignments() -> list[Path]:
    """Write the notebook of each assignment that students get."""
    from llmcourse.classroom.assignments import read_source, release

    made = []
    for source in sorted((BOOK.parent / "tests" / "assignments").glob("*.py")):
        if source.stem != "proving":
            made.append(BOOK / "assignments" / f"{source.stem}.ipynb")
            write(release(read_source(source)), made[-1])
    return made


def with_objectives(page: str) -> str:
    """Return a page with each chapter's objectives, and where they are practised."""
    import contents

    from llmcourse.classroom.quizzes import Quiz
    from llmcourse.classroom.quizzes import chapters as chapters_with_quiz

    parts = []
    files = re.findall(r"file: (book/\w+)$", TOC.read_text("utf-8"), re.MULTILINE)
    for chapter in contents.chapters(files):
        if chapter.name not in chapters_with_quiz():
            continue
        quiz = Quiz.read(chapter.name)
        parts += [
            f"### {chapter.title}\n",
            f"Chapter {{doc}}`{chapter.name}`, assignment "
            f"{{doc}}`assignments/{quiz.assignment}`.\n",
            "| You will be able to | Exercises | Quiz | Assignment |",
            "|---|---|---|---|",
        ]
        for number, objective in enumerate(quiz.objectives, start=1):
            asked = [
                str(place)
                for place, question in enumerate(quiz.questions, start=1)
                if question.objective == number
            ]
            exercises = ", ".join(map(str, objective.exercises))
            tasks = ", ".join(f"`{task}`" for task in objective.tasks)
            cells = objective.text, exercises, ", ".join(asked), tasks
            parts.append(f"| {' | '.join(cells)} |")
        parts += [""]
    begin, end = "<!-- objectives -->\n", "<!-- end of objectives -->"
    before, after = page.split(begin)[0], page.split(end)[1]
    return before + begin + "\n" + "\n".join(parts) + "\n" + end + after


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        description="Build and check the book's notebooks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("names", nargs="*")
    commands.add_parser("text").add_argument("names", nargs="*")
    commands.add_parser("check").add_argument("names", nargs="*")
    commands.add_parser("assignments")
    commands.add_parser("handout").add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.command in ("build", "text"):
        make = build if args.command == "build" else take_text
        for name in chapters(args.names):
            print(make(name))
    elif args.command == "assignments":
        print(*assignments(), sep="\n")
        import schedule

        for name, filled in (
            ("objectives", with_objectives),
            ("course_plan", schedule.with_weeks),
        ):
            path = BOOK / f"{name}.md"
            page = filled(path.read_text(encoding="utf-8"))
            path.write_text(page, encoding="utf-8")
    elif args.command == "handout":
        for name in chapters():
            print(handout(name, args.folder))
    else:
        faults = [fault for name in chapters(args.names) for fault in check(name)]
        print("\n".join(faults or ["every notebook is in its normal form"]))
        return 1 if faults else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
