"""Where documents come from: tales, the Python documentation, your own files.

Each source is an iterator of documents, so that a corpus need not fit into
memory; a mistake in its arguments is told at once, not at the first document.
"""

import ast
import glob
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from llmcourse.documents import Document
from llmcourse.tales import generate

# Folders that hold tests, foreign packages or generated files.
_NOT_THE_LIBRARY = {
    "__pycache__",
    "dist-packages",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
}


def tales(n: int, seed: int) -> Iterator[Document]:
    """Return n generated stories, one document each.

    Args:
        n: Number of stories.
        seed: The same seed gives the same stories.

    Raises:
        ValueError: If n is negative.

    >>> next(tales(1, seed=0)).name
    'tales/0/0'
    """
    if n < 0:
        raise ValueError(f"the number of tales must not be negative, got {n}")
    return (
        Document(story.text, source="tales", name=f"tales/{seed}/{number}")
        for number, story in enumerate(generate(n, seed))
    )


def python_docs() -> Iterator[Document]:
    """Return the documentation that this Python carries with it.

    First the topics of `help()`, which are chapters of the language reference;
    then, module by module, the docstrings of the standard library. The modules
    are parsed, not imported. The text differs between versions of Python.

    Raises:
        FileNotFoundError: If this Python comes without its library's sources.
    """
    files = _library_files()

    def documents() -> Iterator[Document]:
        for topic, text in sorted(_help_topics().items()):
            yield Document(text, source="python_docs", name=f"topics/{topic}")
        for name, source in _library_sources(files):
            if text := "\n\n".join(_docstrings(source)):
                yield Document(text, source="python_docs", name=name)

    return documents()


def python_sources() -> Iterator[Document]:
    """Return the source files of the standard library: long, real documents.

    Raises:
        FileNotFoundError: If this Python comes without its library's sources.
    """
    return (
        Document(source, source="python_sources", name=name)
        for name, source in _library_sources(_library_files())
    )


def text_files(path: str | Path) -> Iterator[Document]:
    """Return the text files at a path or behind a pattern, in order of name.

    Args:
        path: A file, or a pattern such as ``notes/**/*.txt`` (``**``: any folders).

    Raises:
        ValueError: If the path is a folder or does not exist, if no file matches
            the pattern, or, on reaching it, if a file is not UTF-8.
    """
    pattern = str(path)
    if Path(pattern).is_dir():
        files = str(Path(pattern) / "**" / "*.txt")
        raise ValueError(
            f"wanted a text file or a pattern, got the folder {pattern!r}; "
            f"for all text files in it write {files!r}"
        )
    if Path(pattern).is_file():
        paths = [Path(pattern)]
    elif glob.has_magic(pattern):
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        paths = [Path(name) for name in found if Path(name).is_file()]
        if not paths:
            raise ValueError(f"no file matches the pattern {pattern!r}")
    else:
        raise ValueError(f"there is no file {pattern!r}")
    return (
        Document(read_text(path), source="text_files", name=path.as_posix())
        for path in paths
    )


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is not UTF-8; names the first bad byte.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(path)!r} is not UTF-8: byte 0x{data[error.start]:02x} at offset "
            f"{error.start:,} ({error.reason}); save the file as UTF-8"
        ) from error


def _help_topics() -> dict[str, str]:
    """Return the chapters of `help()`; an empty dictionary where there are none."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some builds of Python leave them out
        return {}
    return dict(topics)


def _library_files() -> list[tuple[str, Path]]:
    """Return name and path of each source file of the standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for folder, subfolders, names in os.walk(library):
        subfolders[:] = set(subfolders) - _NOT_THE_LIBRARY  # walk does not enter these
        paths = [Path(folder) / name for name in names if name.endswith(".py")]
        files += [(path.relative_to(library).as_posix(), path) for path in paths]
    if not files:
        raise FileNotFoundError(
            f"wanted the sources of Python's standard library in {str(library)!r}, "
            "found none: this Python was installed without them"
        )
    return sorted(files)


def _library_sources(files: list[tuple[str, Path]]) -> Iterator[tuple[str, str]]:
    for name, path in files:
        with tokenize.open(path) as file:  # obeys "# coding:" lines
            yield name, file.read()


def _docstrings(source: str) -> Iterator[str]:
    """Yield the docstrings in a module's source, in order of the lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of "\d" and the like in old code
        tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        if text := ast.get_docstring(node):
            name = getattr(node, "name", "")
            yield f"{name}\n{text}" if name else text
