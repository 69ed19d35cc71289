"""ONNX files: `onnxruntime` computes what the model does.

They are written in a process of their own, for where shapes are checked, as in tests,
`torch.export` cannot look through the checks.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from model_cases import IDS, make_model, make_tokenizer, with_random_weights
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.model.folders import save_pretrained
from llmcourse.model.long_context import set_attention
from llmcourse.model.onnx_files import write_onnx

MODELS = {
    "gpt2": {"family": "gpt2"},
    "qwen3": {"qk_norm": True, "tied_embeddings": False},
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """Return a model and what runs its file: from ids, mask and cache to outputs."""
    pytest.importorskip("onnxscript", reason='needs pip install "llmcourse[onnx]"')
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = with_random_weights(make_model(**MODELS[request.param]))
    folder = tmp_path_factory.mktemp("onnx")
    path = folder / "model.onnx"
    save_pretrained(model, make_tokenizer(), folder)
    args = ("--model", folder, "--format", "onnx", "--out", path)
    command = [sys.executable, "-m", "llmcourse", "export", *map(str, args)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == f"llmcourse: written to {path}"
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    config = model.config

    def run(ids, mask=None, past=None):
        shape = (len(ids), config.n_kv_heads, 0, config.d_head)
        past = past or [np.zeros(shape, np.float32)] * 2 * config.n_layers
        n_keys = past[0].shape[2] + ids.shape[1]
        mask = torch.ones(len(ids), n_keys).long() if mask is None else mask
        names = [given.name for given in session.get_inputs()]
        values = [ids.numpy(), mask.numpy(), *past]
        logits, *present = session.run(None, dict(zip(names, values, strict=True)))
        return torch.from_numpy(logits), present

    return model, run


@torch.no_grad()
def test_logits_are_ours(exported):
    model, run = exported
    for ids in (IDS, IDS[:1, :1]):
        torch.testing.assert_close(run(ids)[0], model(ids), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_cache_is_carried_on(exported):
    model, run = exported
    past, found = None, []
    for part in (IDS[:, :3], IDS[:, 3:4], IDS[:, 4:]):
        logits, past = run(part, past=past)
        found.append(logits)
    assert past[0].shape[2] == IDS.shape[1]
    torch.testing.assert_close(torch.cat(found, 1), model(IDS), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_on_the_left_changes_nothing(exported):
    model, run = exported
    mask = torch.tensor([[1] * 7, [0] * 4 + [1] * 3])
    logits, past = run(IDS, mask)
    short = IDS[1:, 4:]
    torch.testing.assert_close(logits[1:, 4:], model(short), atol=1e-4, rtol=1e-4)
    new = torch.tensor([[7], [8]])
    logits, _ = run(new, torch.cat([mask, torch.ones(2, 1).long()], dim=1), past)
    longer = model(torch.cat([short, new[1:]], dim=1))
    torch.testing.assert_close(logits[1:], longer[:, -1:], atol=1e-4, rtol=1e-4)


def test_without_the_packages_the_command_names_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    save_pretrained(make_model(), make_tokenizer(), tmp_path / "model")
    args = ("--model", tmp_path / "model", "--out", tmp_path / "model.onnx")
    command = [*map(str, ("export", *args, "--format", "onnx"))]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 1
    assert "llmcourse[onnx]" in str(result.exception)
    assert not (tmp_path / "model.onnx").exists()


def test_another_attention_is_refused(tmp_path):
    pytest.importorskip("onnxscript", reason='needs pip install "llmcourse[onnx]"')
    model = make_model()
    set_attention(model, "window", window=2)
    with pytest.raises(ValueError, match="full attention is needed"):
        write_onnx(model, tmp_path / "model.onnx")
