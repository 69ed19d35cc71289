"""Rows of Hugging Face's `datasets`, in the forms in which that package writes them."""

import json
import sys

import cli_cases
import pytest

from llmcourse.text import tales
from llmcourse.text.documents import read_texts

TALES = [story.text for story in tales.generate(150, seed=0)]
FORMS = ("saved", "rows.parquet", "rows.jsonl")


def read(path, **options):
    return [*read_texts(path, {}, **options)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same rows in each form, and a dataset that has parts."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    path = tmp_path_factory.mktemp("datasets")
    texts = ["", *TALES, None, " \n"]
    columns = {"story": texts, "text": ["x"] * len(texts), "n": range(len(texts))}
    rows = datasets.Dataset.from_dict(columns)
    rows.save_to_disk(path / "saved")
    rows.to_parquet(path / "rows.parquet")
    rows.to_json(path / "rows.jsonl")
    parts = datasets.DatasetDict({"train": rows, "test": rows})
    parts.save_to_disk(path / "parts")
    return path


# Worked example


@pytest.mark.parametrize("form", FORMS)
def test_each_row_with_a_text_is_a_document(folder, form):
    found = read(folder / form, column="story")
    assert [document.text for document in found] == TALES
    assert found[0].name == f"{folder / form}/1"


# Law


def test_the_usual_column_is_text(folder):
    for form in FORMS[:2]:
        assert read(folder / form)[0].text == "x"
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8")
    assert [d.text for d in read(folder / "rows.jsonl")] == [lines]


def test_a_pattern_and_a_part_may_be_named(folder):
    for path in (folder / "*.parquet", folder / "parts" / "train"):
        assert len(read(path, column="story")) == len(TALES)


@pytest.mark.parametrize("stream", [False, True])
def test_a_corpus_is_made_of_them(folder, tmp_path, stream):
    command = ["corpus", folder / "saved", "--column=story", "--vocab-size=300"]
    command += ["--out", tmp_path, "--quiet", "--json", *["--stream"] * stream]
    result = cli_cases.run(*command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    n = {name: f["n_documents"] for name, f in found.items()} if stream else found
    assert sum(n.get("documents", n).values()) == len(TALES)


def test_a_model_is_trained_on_them(folder, tmp_path):
    command = ["pretrain", "--preset=tiny", "--steps=2", "--quiet", "--out", tmp_path]
    result = cli_cases.run(*command, "--data", folder / "saved", "--column=story")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert f"--data {folder / 'saved'} --column story" in card


# Refusal


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("column", "message"),
    [("tale", r"'tale'.*'story', 'text', 'n'"), ("n", "row 0: .* 'n' must hold texts")],
)
def test_columns_without_texts_are_refused(folder, form, column, message):
    with pytest.raises(ValueError, match=message):
        read(folder / form, column=column)


def test_parts_are_named(folder):
    with pytest.raises(ValueError, match=r"name one of them, .*/parts/train', '.*test"):
        read(folder / "parts")


def test_more_text_than_fits_is_refused(folder):
    with pytest.raises(ValueError, match="must have at most"):
        read(folder / "saved", max_bytes=1000, column="story")


@pytest.mark.parametrize("form", FORMS[1:])
def test_damaged_files_are_refused(tmp_path, form):
    pytest.importorskip("datasets")
    (tmp_path / form).write_bytes(b"nothing of the kind")
    with pytest.raises((ValueError, OSError)):
        read(tmp_path / form, column="text")


def test_nothing_but_empty_rows_is_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["", None]}).save_to_disk(tmp_path / "rows")
    with pytest.raises(ValueError, match="got none .no text in the column 'text'"):
        read(tmp_path / "rows")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "llmcourse\[datasets\]"'):
        read(tmp_path)


def test_a_dataset_without_rows_is_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "empty.jsonl").write_text("")
    datasets.Dataset.from_dict({"story": []}).save_to_disk(tmp_path / "empty")
    for name in ("empty.jsonl", "empty"):
        with pytest.raises(ValueError, match="got none .no text in the column 'story'"):
            read(tmp_path / name, column="story")
    with pytest.raises(FileNotFoundError, match=r"missing\.parquet"):
        read(tmp_path / "missing.parquet", column="story")
