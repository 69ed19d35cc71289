import io
import json
import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from proving import HERE, solved

from llmcourse.classroom.assignments import (
    grade_id,
    read_source,
    release,
    write,
)
from llmcourse.classroom.collecting import DOUBTFUL, HandIn, choose, read

SOURCE = read_source(HERE / "tokenization.py")
MERGE = "def merge(ids, pair, new_id):\n    return ids"


def answered(**answers: str) -> NotebookNode:
    return solved(SOURCE, **answers)


def chosen(*notebooks: NotebookNode | str) -> tuple[NotebookNode, HandIn]:
    texts = [n if isinstance(n, str) else nbformat.writes(n) for n in notebooks]
    files = {f"t-{i}.ipynb": text.encode() for i, text in enumerate(texts)}
    hand_in = HandIn(student="s", files=files)
    return choose(hand_in, release(SOURCE)), hand_in


def merge_of(notebook: NotebookNode) -> list[str]:
    return [c.source for c in notebook.cells if grade_id(c) == "merge"]


@pytest.mark.parametrize(
    ("path", "student", "late"),
    [
        ("smithjane_123_456_tokenization.ipynb", "smithjane_123", False),
        ("smithjane_LATE_123_456_tokenization-2.ipynb", "smithjane_123", True),
        ("Jane Smith_789_assignsubmission_file_/a b.ipynb", "Jane-Smith_789", False),
        ("Jane Smith_789_assignsubmission_file/a.ipynb", "Jane-Smith_789", False),
        ("Jane Smith_789_assignsubmission_file_my a.ipynb", "Jane-Smith_789", False),
        ("jane/deep/er/tokenization (1).ipynb", "jane", False),
        ("jane.ipynb", "jane", False),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_whose_it_is(
    tmp_path: Path, path: str, student: str, late: bool, zipped: bool
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    if zipped:
        with zipfile.ZipFile(tmp_path / "in" / "all.zip", "w") as archive:
            archive.writestr(path, nbformat.writes(answered()))
        place = place / "all.zip"
    else:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(nbformat.writes(answered()))
    [hand_in] = read(place)
    assert (hand_in.student, hand_in.late) == (student, late)
    assert len(hand_in.files) == 1


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("work/t.ipynb", nbformat.writes(answered()))
        archive.writestr("__MACOSX/work/._t.ipynb", "x")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("Jane_7_assignsubmission_file_/w.zip", inner.getvalue())
    [hand_in] = read(tmp_path / "all.zip")
    assert hand_in.student == "Jane_7"
    assert len(hand_in.files) == 1


def test_paths_that_lead_out_and_links_write_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("../../evil/t.ipynb", nbformat.writes(answered()))
        link = zipfile.ZipInfo("jane/t.ipynb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    evil, jane = read(tmp_path / "all.zip")
    assert evil.student == "evil"
    assert (jane.files, len(jane.notes)) == ({}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["all.zip"]


def test_a_bomb_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmcourse.classroom.collecting.LARGEST", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("jane/t.ipynb", b" " * (8 << 20))
    [hand_in] = read(tmp_path / "a.zip")
    assert not hand_in.files
    assert "larger" in hand_in.notes[0]


def test_outputs_are_left_behind(tmp_path: Path) -> None:
    notebook = answered()
    code = next(c for c in notebook.cells if c.cell_type == "code")
    code.outputs = [nbformat.v4.new_output("stream", text="x" * (5 << 20))]
    (tmp_path / "jane.ipynb").write_text(nbformat.writes(notebook))
    [hand_in] = read(tmp_path)
    assert sum(map(len, hand_in.files.values())) < 1 << 20


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(ValueError, match="a folder or a zip"):
        read(tmp_path / "x.txt")


def test_metadata_stripped_and_ids_gone() -> None:
    notebook = answered(merge=MERGE)
    for number, cell in enumerate(notebook.cells):
        cell.metadata = NotebookNode()
        cell.id = f"new{number}"
    laid, hand_in = chosen(notebook)
    assert merge_of(laid) == [MERGE]
    assert any("its function" in note for note in hand_in.notes)


def test_cells_copied_split_deleted_and_added() -> None:
    notebook = answered()
    index = next(i for i, c in enumerate(notebook.cells) if grade_id(c) == "merge")
    stub = next(c for c in release(SOURCE).cells if grade_id(c) == "merge").source
    twin = NotebookNode(notebook.cells[index])
    notebook.cells[index].source = MERGE
    twin.source = stub
    helper = nbformat.v4.new_code_cell("def helper():\n    return 1")
    del notebook.cells[index + 1]  # the visible test
    notebook.cells[index + 1 : index + 1] = [twin, helper]
    laid, hand_in = chosen(notebook)
    assert merge_of(laid) == [MERGE]
    assert [c.source for c in laid.cells if "helper" in c.source] == [helper.source]
    names = [grade_id(c) for c in laid.cells if grade_id(c)]
    assert names == [grade_id(c) for c in SOURCE.cells if grade_id(c)]
    assert any("test-merge: missing" in note for note in hand_in.notes)


def test_what_is_given_is_put_back() -> None:
    notebook = answered()
    for cell in notebook.cells:
        if grade_id(cell).startswith(("given", "test")):
            cell.source = "pass"
            cell.metadata["nbgrader"]["points"] = 100
    laid, hand_in = chosen(notebook)
    assert laid.cells == answered().cells
    assert len(hand_in.notes) == 7


def test_of_several_notebooks_the_fullest_and_last() -> None:
    laid, hand_in = chosen(answered(), release(SOURCE), answered(merge=MERGE), "{")
    assert merge_of(laid) == [MERGE]
    [told] = filter(DOUBTFUL.fullmatch, hand_in.notes)
    assert told == "4 notebooks, t-2.ipynb was taken"


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\x00\xff", "[" * 100_000])
def test_nothing_readable(text: str) -> None:
    _, hand_in = chosen(text)
    assert not hand_in.readable
    assert hand_in.notes


@pytest.mark.parametrize("damage", ["no archive", "bad data", "a cut archive"])
def test_a_damaged_member_costs_no_other_hand_in(tmp_path: Path, damage: str) -> None:
    text, inner = nbformat.writes(answered()), io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.ipynb", text)
    data = bytearray(inner.getvalue())
    if damage == "bad data":
        data[60:90] = b"\xff" * 30
    elif damage == "a cut archive":
        data = data[:-30]
    else:
        data = bytearray(b"this is no archive")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("anna.ipynb", text)
        archive.writestr("bob.zip", bytes(data))
        archive.writestr("carl.ipynb", text)
        archive.writestr("dora/t.ipynb", text)
    found = {hand_in.student: hand_in for hand_in in read(tmp_path / "all.zip")}
    assert list(found) == ["anna", "bob", "carl", "dora"]
    assert all(len(found[name].files) == 1 for name in ("anna", "carl", "dora"))
    assert not found["bob"].files
    assert "cannot be read" in found["bob"].notes[0]


def test_names_in_any_script_stay_apart(tmp_path: Path) -> None:
    for name in ("मीना", "मोना", "Mu\u0308ller"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.ipynb").write_text(nbformat.writes(answered()))
    found = [hand_in.student for hand_in in read(tmp_path)]
    assert found == sorted(["मीना", "मोना", "Müller"])


def test_a_folder_around_all_is_no_student(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("anna", "zoe"):
            archive.writestr(f"hand/{name}/t.ipynb", nbformat.writes(answered()))
    found = [hand_in.student for hand_in in read(tmp_path / "all.zip")]
    assert found == ["anna", "zoe"]


def test_a_folder_without_a_notebook_is_told(tmp_path: Path) -> None:
    for name, file in [("ada", "t.ipynb"), ("ada", "x.py"), ("bob", "t.pdf")]:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text(nbformat.writes(answered()))
    (tmp_path / "dates.txt").write_text("Friday")
    (tmp_path / "cid.ipynb").touch()
    ada, bob, cid = read(tmp_path)
    choose(bob, answered())
    assert (ada.notes, bob.student, cid.student) == ([], "bob", "cid")
    assert not bob.readable
    assert bob.notes == ["no notebook (.ipynb) was handed in"]
    (tmp_path / "ada" / "t.ipynb").unlink()
    (tmp_path / "cid.ipynb").unlink()
    assert not read(tmp_path)  # another folder was meant


def test_what_canvas_has_in_other_forms(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("homework/t.ipynb", nbformat.writes(answered()))
    for name in ("smithjane_LATE_123_456_homework.zip", "roeeve_126_459_Home.ZIP"):
        (tmp_path / name).write_bytes(inner.getvalue())
    (tmp_path / "poeann_125_458_tokenization.py").write_text("x = 1")
    (tmp_path / "folder.ipynb").mkdir()
    found = {hand_in.student: hand_in for hand_in in read(tmp_path)}
    assert list(found) == ["poeann_125", "roeeve_126", "smithjane_123"]
    assert found["smithjane_123"].late
    assert "is not a notebook" in found["poeann_125"].notes[0]
    assert len(found["roeeve_126"].files) == 1


@pytest.mark.parametrize(
    "cell",
    [
        {"cell_type": "code", "source": "# \ud83d", "outputs": []},
        {"cell_type": "code", "source": "x = 1", "id": "aa"},
        {"source": "x = 1"},
        {"cell_type": "weird", "source": "x = 1"},
    ],
)
def test_cells_that_are_none_stop_nobody(tmp_path: Path, cell: dict[str, str]) -> None:
    notebook = json.loads(nbformat.writes(answered()))
    notebook["cells"].append({"metadata": {}, **cell})
    laid, _ = chosen(json.dumps(notebook))
    write(laid, tmp_path / "laid.ipynb")
    nbformat.validate(nbformat.read(tmp_path / "laid.ipynb", as_version=4))


@pytest.mark.parametrize("named", [True, False])
def test_a_notebook_of_another_assignment_is_not_graded(named: bool) -> None:
    other = solved(read_source(HERE / "retrieval.py"))
    told = "is the notebook of retrieval, not of tokenization"
    if not named:
        del other.metadata["llmcourse"]
        told = "has no cell of tokenization"
    _, hand_in = chosen(other)
    assert (hand_in.readable, hand_in.is_other) == (False, True)
    assert hand_in.notes == [f"t-0.ipynb {told}"]
    laid, hand_in = chosen(answered(merge=MERGE), other)
    assert (hand_in.readable, hand_in.is_other) == (True, False)
    assert merge_of(laid) == [MERGE]


def test_a_notebook_without_answers_is_graded() -> None:
    _, hand_in = chosen(release(SOURCE))
    assert hand_in.readable


@pytest.mark.parametrize(
    ("paths", "students"),
    [
        (["hand/anna.ipynb", "hand/zoe.ipynb"], ["anna", "zoe"]),
        (["jane/t.ipynb", "jane/t-Copy1.ipynb"], ["jane"]),
        (["a/my_2026_12_1.ipynb", "b/my_2026_12_1.ipynb"], ["a", "b"]),
        (["a.zip/my_2026_12_1.ipynb", "c/t.ipynb"], ["a", "c"]),
        (
            ["s/ann_1_2_t.ipynb", "s/bo_3_4_t.ipynb", "c/t.ipynb"],
            ["ann_1", "bo_3", "c"],
        ),
        (["a/my_2026_12_1.ipynb", "a/t.ipynb", "b/t.ipynb"], ["a", "b"]),
        (
            [f"{n}/s_{n}_assignsubmission_file_/t.ipynb" for n in (1, 2)],
            ["s_1", "s_2"],
        ),
        (["ada/t.ipynb", "ada/old.ipynb", "bob/t.pdf"], ["ada", "bob"]),
        (["hand/anna/t.ipynb", "hand/zoe/t.ipynb", "hand/dates.txt"], ["anna", "zoe"]),
        (["ada/t.ipynb", ".cache/t.ipynb"], ["ada"]),
    ],
)
@pytest.mark.parametrize("unpacked", [False, True])
def test_whose_they_are(
    tmp_path: Path, paths: list[str], students: list[str], unpacked: bool
) -> None:
    """A folder of all, a folder of one's own, and one whose files Canvas named."""
    place = tmp_path / "all.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for path in paths:
            outer, _, inner = path.rpartition(".zip/")
            data = io.BytesIO(nbformat.writes(answered()).encode())
            if outer:
                with zipfile.ZipFile(packed := io.BytesIO(), "w") as own:
                    own.writestr(inner, data.getvalue())
                path, data = f"{outer}.zip", packed
            archive.writestr(path, data.getvalue())
    if unpacked:
        place = place.with_suffix("")
        shutil.unpack_archive(tmp_path / "all.zip", place)
    assert [hand_in.student for hand_in in read(place)] == students


def test_paths_of_windows(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("ada", "bob"):
            archive.writestr(f"{name}\\t.ipynb", nbformat.writes(answered()))
    assert [hand_in.student for hand_in in read(tmp_path / "all.zip")] == ["ada", "bob"]


def test_links_in_hidden_folders_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "ada.ipynb").write_text(nbformat.writes(answered()))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "python").symlink_to("/usr/bin/python3")
    assert [hand_in.student for hand_in in read(tmp_path)] == ["ada"]


@pytest.mark.parametrize("form", ["utf-16", "utf-8-sig", "nbformat 3", "\r\n"])
def test_a_notebook_in_another_form_is_read(tmp_path: Path, form: str) -> None:
    notebook, encoding = answered(merge=MERGE), form
    text = nbformat.writes(notebook)
    if form == "nbformat 3":
        text = nbformat.writes(nbformat.convert(notebook, 3), version=3)
        encoding = "utf-8"
    elif form == "\r\n":
        text = nbformat.writes(answered(merge=MERGE.replace("\n", form)))
        text, encoding = text.replace("\n", form), "utf-8"
    (tmp_path / "ada.ipynb").write_bytes(text.encode(encoding))
    [hand_in] = read(tmp_path)
    laid = choose(hand_in, release(SOURCE))
    assert [text.replace("\r", "") for text in merge_of(laid)] == [MERGE]
    assert [note for note in hand_in.notes if "known by" not in note] == []


def test_a_picture_stays_with_its_answer() -> None:
    notebook = answered(numbers="![](attachment:p.png)")
    [answer] = [c for c in notebook.cells if grade_id(c) == "numbers"]
    answer.attachments = {"p.png": {"image/png": "aGVsbG8="}}
    laid, _ = chosen(notebook)
    [kept] = [c for c in laid.cells if grade_id(c) == "numbers"]
    assert kept.attachments == answer.attachments
