"""Rooms import one way, nothing imports in a circle, and every room has its map."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llmcourse"

# Each room may import from those named after it, directly; nothing else.
ROOMS = {
    "text": "arguments extras files processes",
    "model": "text arguments extras files",
    "training": "model text arguments files intervals plotting",
    "finetuning": "training model text arguments files intervals",
    "alignment": "finetuning training model text arguments files intervals",
    "retrieval": "finetuning training model text arguments files intervals",
    "serving": "alignment retrieval finetuning training model text arguments files",
    "recipes": (
        "alignment finetuning training model text arguments files intervals studies"
    ),
    "classroom": "training model text arguments files processes",
    "cli": (
        "classroom recipes serving retrieval alignment finetuning training model text "
        "arguments extras files __version__"
    ),
    "checks": "retrieval alignment finetuning training model text files",
    "widgets": "training model text arguments files",
    "arguments": "",
    "extras": "",
    "intervals": "arguments",
    "plotting": "",
    "processes": "",
    "studies": "files",
    "files": "",
}
CHAPTERS = sorted((PACKAGE.parent / "book" / "src").glob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports from the package, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("llmcourse"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            if (node.module or "").partition(".")[0] == "llmcourse":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(dotted: str) -> str:
    return dotted.split(".")[1]


def files_of(room: str) -> list[Path]:
    path = PACKAGE / f"{room}.py"
    return [path] if path.exists() else sorted((PACKAGE / room).rglob("*.py"))


def faults(room: str) -> list[str]:
    """Return imports from rooms that this one must not know."""
    allowed = {room, *ROOMS[room].split()}
    return [
        f"{path.name}: {name}"
        for path in files_of(room)
        for name in imports_of(path)
        if room_of(name) not in allowed
    ]


def modules() -> dict[str, Path]:
    """Return all modules by dotted name; a package by its folder's."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def test_every_room_is_known():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    rooms |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_one_way(room):
    assert not faults(room)


def test_no_module_imports_itself_through_others():
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found = set()
        for imported in imports_of(path):
            if imported not in known:  # a name of a module
                imported = imported.rpartition(".")[0]
            found.add(imported)
        graph[name] = found - {name, "llmcourse"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("room", ["text", "model", "training", "finetuning"])
def test_a_map_names_every_module(room):
    told = (PACKAGE / room / "__init__.py").read_text(encoding="utf-8")
    names = {p.stem for p in files_of(room)} - {"__init__"}
    assert not {name for name in names if name not in told}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_do_not_import_what_makes_the_models(chapter):
    found = [
        name for name in imports_of(chapter) if room_of(name) in ("recipes", "cli")
    ]
    assert not found


def test_the_check_finds_an_import_against_the_way(tmp_path, monkeypatch):
    (tmp_path / "files.py").write_text("from llmcourse.cli import main\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert faults("files") == ["files.py: llmcourse.cli.main"]
