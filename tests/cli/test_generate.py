"""`llmcourse generate` and `evaluate`: what they print of a model, how they refuse."""

import json
import shutil
import sys
import warnings

import pytest
import torch
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import running
from llmcourse.cli.console import echoed
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.generation import Sampling, write
from llmcourse.model.quantization import quantize_model, save_quantized
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.documents import tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.evaluation import (
    TEST_SEED,
    count_valid,
    tale_loss,
    text_loss,
    write_samples,
)

SIZES = TransformerConfig(
    vocab_size=300,
    d_model=8,
    n_layers=1,
    n_heads=2,
    n_kv_heads=1,
    d_ff=12,
    context_length=29,
)
FEW = ("--stories=3", "--samples=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    texts = [document.text for document in tales(3, seed=0)]
    tokenizer = BPETokenizer.train(texts, 300, ["<|endoftext|>"])
    model = Transformer(SIZES, torch.Generator().manual_seed(0))
    save_pretrained(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    return load_pretrained(folder)


def run(command, folder, *args):
    result = CliRunner().invoke(cli.app, [command, "--model", str(folder), *args])
    assert result.exit_code == 0, result.output
    return result


def fails(monkeypatch, capsys, *args):
    """Run the whole command line; return its exit code and its one line of error."""
    monkeypatch.setattr(sys, "argv", ["llmcourse", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    assert not captured.out
    (line,) = captured.err.splitlines()
    return end.value.code, line


@pytest.mark.parametrize("prompt", ["", "Once [upon] é"])
def test_generate_prints_the_prompt_and_what_is_written(folder, loaded, prompt):
    result = run("generate", folder, prompt, "--seed=5", "--temperature=0.7")
    assert (
        result.stdout
        == write(*loaded, prompt, seed=5, sampling=Sampling(temperature=0.7)) + "\n"
    )


def test_generate_writes_several_texts_of_seeds_that_follow(folder, loaded):
    options = ("--n=2", "--seed=8", "--max-new-tokens=6", "--top-k=9", "--top-p=0.9")
    result = run("generate", folder, "One", *options)
    sampling = Sampling(top_k=9, top_p=0.9)
    texts = [
        write(*loaded, "One", seed=seed, max_new_tokens=6, sampling=sampling)
        for seed in (8, 9)
    ]
    assert texts[0] != texts[1]
    assert result.stdout == f"{texts[0]}\n\n{texts[1]}\n"


def test_generate_reads_the_prompt_from_standard_input(folder):
    args = ["generate", "--model", str(folder), "--seed=5"]
    piped = CliRunner().invoke(cli.app, [*args, "-"], input="One day\n")
    assert piped.stdout == run("generate", folder, "One day", "--seed=5").stdout


def test_a_quantized_folder_opens_like_any_other(folder, loaded, tmp_path):
    save_quantized(quantize_model(loaded[0]), loaded[1], tmp_path)
    args = ("--seed=5", "--max-new-tokens=9", "--device=auto")
    assert run("generate", tmp_path, "One", *args).stdout.startswith("One")
    assert "perplexity" in run("evaluate", tmp_path, *FEW).stdout


def test_weights_are_of_the_type_that_is_asked_for(folder, loaded):
    for dtype in ("auto", "float32", "bfloat16"):
        model, _ = running.open_model(folder, "cpu", dtype)
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        assert {weight.dtype for weight in model.state_dict().values()} == {kind}
    more = ("--dtype=bfloat16", "--max-new-tokens=9")
    assert run("generate", folder, "One", *more).stdout.startswith("One")
    assert "perplexity" in run("evaluate", folder, "--dtype=bfloat16", *FEW).stdout


def test_a_device_that_is_not_there_is_refused(folder, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = ("generate", "--model", folder, "--device=cuda")
    assert "device must be " in fails(monkeypatch, capsys, *args)[1]


def test_a_terminal_gets_no_control_characters(monkeypatch, capsys):
    pieces = ["a\x1b[31m", "\n\tb\x07\u202ec"]
    assert [*echoed(pieces)] == pieces
    assert capsys.readouterr().out == "".join(pieces)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert [*echoed(pieces)] == pieces
    assert capsys.readouterr().out == "a[31m\n\tbc"


def test_evaluate_prints_what_is_measured_on_tales(folder, loaded):
    result = run("evaluate", folder, *FEW)
    loss = tale_loss(*loaded, 3, TEST_SEED)
    generator = torch.Generator().manual_seed(TEST_SEED)
    samples = write_samples(*loaded, 4, generator=generator)
    for number in (
        f"{loss.text.loss:.4f} nats/token",
        f"perplexity: {loss.text.perplexity:.3f}",
        f"bits per byte: {loss.text.bits_per_byte:.4f}",
        f"floor: {loss.floor.value:.4f}",
        f"{loss.excess.value:.2f} ± {loss.excess.standard_error:.2f} nats/story",
        f"{count_valid(samples).right} of 4",
    ):
        assert number in result.stdout
    assert samples[0].error in result.stdout
    assert samples[2].error not in result.stdout
    assert "stories read: 100%" in result.stderr


def test_evaluate_as_json_is_json_and_nothing_else(folder, loaded):
    result = run("evaluate", folder, *FEW, "--json", "--quiet", "--seed=7")
    found = json.loads(result.stdout)
    assert not result.stderr
    loss = tale_loss(*loaded, 3, 7)
    assert found["loss"] == loss.text.loss
    assert found["paired_gap"]["value"] == loss.paired_gap.value
    assert found["samples"]["n"] == 4
    assert found["model"] == str(folder)


def test_evaluate_without_samples(folder):
    result = run("evaluate", folder, "--stories=2", "--samples=0")
    assert "floor" in result.stdout
    assert "valid" not in result.stdout


def test_evaluate_reads_own_files_to_their_ends(folder, loaded, tmp_path):
    texts = ["A fox [red] ran.", "The owl slept in the old barn, é. " * 9]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    args = ("--data", str(tmp_path / "*.txt"), "--json", "--quiet")
    found = json.loads(run("evaluate", folder, *args).stdout)
    loss = text_loss(*loaded, texts)
    assert found.pop("model") == str(folder)
    assert found == loss.to_json()
    assert found["n_tokens"] > 3 * SIZES.context_length
    printed = run("evaluate", folder, *args[:2]).stdout
    assert f"bits per byte: {loss.bits_per_byte:.4f}" in printed
    assert "2 documents" in printed
    assert "floor" not in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--temperature=-1"], "temperature must be at least 0, got -1"),
        (["--temperature=nan"], "temperature must be at least 0, got nan"),
        (["--top-p=0"], "top_p must be in (0, 1], got 0"),
        (["--top-p=1.5"], "top_p must be in (0, 1], got 1.5"),
        (["--top-k=0"], "top_k must be at least 1, got 0"),
        (["x" * 500], "must fit into context_length = 29, got 501"),
        (["--max-new-tokens=29"], "must fit into context_length = 29"),
    ],
)
def test_generate_refuses_in_one_line(folder, monkeypatch, capsys, args, message):
    code, line = fails(monkeypatch, capsys, "generate", "--model", folder, *args)
    assert code == 1
    assert message in line


def test_numbers_out_of_range_are_usage_errors(folder):
    for args in (["generate", "--n=0"], ["evaluate", "--samples=-1"]):
        found = CliRunner().invoke(cli.app, [*args, "--model", str(folder)])
        assert found.exit_code == 2


@pytest.mark.parametrize("command", ["generate", "evaluate"])
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "must be JSON"),
        ("config.json", '{"model_type": "bert"}', "model_type must be"),
        ("model.safetensors", "torn", "must be a whole safetensors file"),
        ("tokenizer.json", None, "needs the file"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(
    folder, tmp_path, monkeypatch, capsys, command, file, content, message
):
    shutil.copytree(folder, tmp_path / "copy")
    if content is None:
        (tmp_path / "copy" / file).unlink()
    else:
        (tmp_path / "copy" / file).write_text(content, encoding="utf-8")
    code, line = fails(monkeypatch, capsys, command, "--model", tmp_path / "copy")
    assert code == 1
    assert message in line


@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_an_unknown_model_is_refused_by_name(monkeypatch, capsys, command):
    code, line = fails(monkeypatch, capsys, command, "--model", "gpt-5")
    assert code == 1
    assert "shipped model" in line
    assert "got 'gpt-5'" in line


def test_own_files_that_are_not_there_are_refused(folder, monkeypatch, capsys):
    code, line = fails(
        monkeypatch, capsys, "evaluate", "--model", folder, "--data", "no/*.txt"
    )
    assert code == 1
    assert "nothing is there" in line


def test_a_warning_is_one_line_too(monkeypatch, capsys):
    def warn():
        warnings.warn("two\nlines", stacklevel=1)
        raise ValueError("over")

    monkeypatch.setattr(cli, "app", warn)
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["llmcourse: warning: two lines", "llmcourse: error: over"]
