"""`llmcourse pretrain`: to the end, stopped, resumed, refused."""

import json
import pydoc_data.topics
import sys
from dataclasses import replace

import cli_cases
import pytest
import torch
from cli_cases import run, stop_at

from llmcourse.cli import running
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.training import pipeline, presets
from llmcourse.training.checkpoints import checkpoint_paths, load_checkpoint

SMALLEST = replace(
    presets.TINY,
    n_stories=100,
    model=replace(
        presets.TINY.model, vocab_size=300, d_model=8, d_ff=12, context_length=37
    ),
    pretraining=replace(
        presets.TINY.pretraining,
        steps=11,
        batch_size=2,
        context_length=19,
        eval_interval=4,
        eval_examples=3,
    ),
)
FAST = ("--preset=tiny", "--threads=1", "--stories=2", "--samples=2")


@pytest.fixture(autouse=True)
def smallest(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", SMALLEST)
    monkeypatch.setattr(pipeline, "HELD_OUT_STORIES", 3)


def fails(monkeypatch, capsys, *args):
    return cli_cases.fails(monkeypatch, capsys, "pretrain", *args)


def pretrain(folder, *more):
    return run("pretrain", *FAST, "--out", folder, *more)


def log_of(folder):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a training that was not stopped, and what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", SMALLEST)
        patch.setattr(pipeline, "HELD_OUT_STORIES", 3)
        folder = tmp_path_factory.mktemp("whole") / "new" / "run"
        return folder, pretrain(folder)


def test_a_folder_holds_model_card_log_and_checkpoints(whole):
    folder, result = whole
    assert result.exit_code == 0, result.output
    model, tokenizer = load_pretrained(folder / "model")
    assert model.config == SMALLEST.model
    assert tokenizer.vocab_size == 300
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "llmcourse pretrain --preset tiny" in card
    assert len(checkpoint_paths(folder / "checkpoints")) == 2
    checkpoint = load_checkpoint(folder / "checkpoints")
    saved = checkpoint["parts"]["model"]
    assert checkpoint["step"] == 11
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, saved[name].half().float()), name


def test_it_says_loss_floor_and_gap_and_draws_bars_elsewhere(whole):
    _, result = whole
    for words in (
        "nats/token",
        "floor: ",
        "gap to the floor: ",
        "valid stories",
        "bits per byte",
    ):
        assert words in result.stdout
        assert words not in result.stderr
    assert "pretraining: 100%" in result.stderr
    assert "loss=" in result.stderr


def test_the_log_has_each_step_once(whole):
    records = log_of(whole[0])
    steps = {
        kind: [r["step"] for r in records if r["kind"] == kind]
        for kind in ("update", "evaluation")
    }
    assert steps == {"update": list(range(1, 12)), "evaluation": [0, 4, 8, 11]}


@pytest.mark.parametrize("step", [0, 6, 11])
def test_a_resumed_training_ends_with_the_same_bytes(
    whole, tmp_path, monkeypatch, step
):
    with monkeypatch.context() as patch:
        stop_at(patch, lambda record: record.step == step)
        stopped = pretrain(tmp_path, "--quiet")
    assert stopped.exit_code == 130
    (line,) = stopped.stderr.splitlines()
    assert line.startswith("llmcourse: stopped; to go on: llmcourse pretrain --preset")
    assert line.endswith("--resume")
    assert not (tmp_path / "model").exists()
    result = pretrain(tmp_path, "--resume", "--quiet")
    assert result.exit_code == 0, result.output
    assert ("no checkpoint in" in result.stderr) == (step == 0)
    assert len(result.stderr.splitlines()) == (step == 0)
    folder = whole[0]
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        ours, theirs = (place / "model" / name for place in (tmp_path, folder))
        assert ours.read_bytes() == theirs.read_bytes()
    assert log_of(tmp_path) == log_of(folder)


def test_the_command_to_go_on_repeats_what_matters(tmp_path, monkeypatch):
    stop_at(monkeypatch, lambda record: record.step == 0)
    folder = tmp_path / "my run"
    more = ("--steps=5", "--seed=3", "--learning-rate=0.02", "--vocab-size=290")
    asked = ["--stories 3", "--samples 4", "--machine 'a laptop'"]
    more += ("--stories=3", "--samples=4", "--machine=a laptop")
    (line,) = pretrain(folder, "--quiet", *more).stderr.splitlines()
    words = ["--preset tiny", f"--out '{folder}'", "--steps 5", "--seed 3"]
    words += ["--learning-rate 0.02", "--vocab-size 290", "--threads 1", *asked]
    assert all(word in line for word in words)


def test_gradient_checkpointing_is_told_and_makes_the_same_model(whole, tmp_path):
    assert pretrain(tmp_path, "--gradient-checkpointing").exit_code == 0
    ours, theirs = (place / "model" for place in (tmp_path, whole[0]))
    name = "model.safetensors"
    assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert log_of(tmp_path) == log_of(whole[0])
    assert "--gradient-checkpointing" in (ours / "README.md").read_text("utf-8")


def test_a_model_is_compiled_if_asked_to(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(running, "compile_model", compiled.append)
    assert pretrain(tmp_path, "--compile").exit_code == 0
    (model,) = compiled
    assert isinstance(model, Transformer)
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "--compile" in card


def test_tensorboard_reads_what_is_in_the_log(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    more = ("--quiet", "--tensorboard", tmp_path / "curves")
    with monkeypatch.context() as patch:
        stop_at(patch, lambda record: record.step == 6)
        stopped = pretrain(tmp_path / "run", *more)
    assert f"--tensorboard {tmp_path / 'curves'}" in stopped.stderr
    assert pretrain(tmp_path / "run", *more, "--resume").exit_code == 0
    events = EventAccumulator(str(tmp_path / "curves" / "pretraining")).Reload()
    for kind in ("update", "evaluation"):
        points = events.Scalars(f"{kind}/loss")
        log = [r for r in log_of(tmp_path / "run") if r["kind"] == kind]
        assert [p.step for p in points] == [r["step"] for r in log]
        assert [p.value for p in points] == pytest.approx([r["loss"] for r in log])
    card = (tmp_path / "run" / "model" / "README.md").read_text("utf-8")
    assert "--tensorboard" not in card


def test_tensorboard_that_is_missing_is_told_before_anything_is_made(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    args = ("--out", tmp_path / "run", "--tensorboard", tmp_path / "curves")
    code, line = fails(monkeypatch, capsys, *FAST, *args)
    assert code == 1
    assert 'pip install "llmcourse[tensorboard]"' in line
    assert not [*tmp_path.iterdir()]


def test_resume_begins_where_there_is_nothing_yet(tmp_path):
    result = pretrain(tmp_path, "--resume", "--steps=1", "--quiet")
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "checkpoints")["step"] == 1


def python_topics():
    """Return some English of its own for each of a few files."""
    topics = ("lambda", "with", "try", "raise", "import", "class", "global", "del")
    return {name: pydoc_data.topics.topics[name] for name in topics}


def write_topics(folder):
    (folder / "notes" / "deep").mkdir(parents=True)
    for name, text in python_topics().items():
        path = folder / "notes" / "deep" / f"{name}.txt"
        path.write_text(text, encoding="utf-8")
    return str(folder / "notes" / "**" / "*.txt")


def test_own_files_have_no_floor(tmp_path):
    pattern = write_topics(tmp_path)
    result = pretrain(tmp_path / "run", "--data", pattern, "--steps=2")
    assert result.exit_code == 0, result.output
    assert "remove near duplicates" in result.stdout  # the report of cleaning
    for row in ("bits per byte: ", "bits per byte of gzip: ", "of trigrams: "):
        assert row in result.stdout
    assert result.stdout.count("\nsample ") == 3
    assert "floor: " not in result.stdout
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert pattern in card
    _, tokenizer = load_pretrained(tmp_path / "run" / "model")
    tales_tokenizer = pipeline.prepare(SMALLEST).tokenizer
    assert tokenizer.pieces != tales_tokenizer.pieces  # learned from the files


def test_sizes_are_options_and_part_of_the_command(tmp_path):
    sizes = ("--layers=2", "--width=16", "--heads=4", "--context=40", "--batch-size=3")
    more = (*sizes, "--optimizer=muon", "--vocab-size=290", "--language=en")
    pattern = write_topics(tmp_path)
    result = pretrain(tmp_path / "run", *more, "--steps=2", "--data", pattern)
    assert result.exit_code == 0, result.output
    model, _ = load_pretrained(tmp_path / "run" / "model")
    found = model.config
    assert (found.n_layers, found.d_model, found.d_ff) == (2, 16, 24)
    assert (found.n_heads, found.n_kv_heads, found.context_length) == (4, 4, 40)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert all(option.replace("=", " ") in card for option in more)
    assert "| batch size | 3 |" in card


def test_a_model_goes_on_with_its_tokenizer_and_sizes(whole, tmp_path):
    begun, pattern = whole[0] / "model", write_topics(tmp_path)
    folder = tmp_path / "run"
    result = pretrain(folder, "--from", begun, "--data", pattern, "--steps=2")
    assert result.exit_code == 0, result.output
    model, tokenizer = load_pretrained(folder / "model")
    before, tokenizer_before = load_pretrained(begun)
    assert model.config == before.config
    assert tokenizer.pieces == tokenizer_before.pieces
    moved = (model.embedding.weight - before.embedding.weight).abs().max()
    assert 0 < moved < 0.01  # not drawn anew
    rates = [r["learning_rate"] for r in log_of(folder) if r["kind"] == "update"]
    highest = SMALLEST.pretraining.learning_rate / 10
    assert max(rates) < highest
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert f"pretrained from `{begun}`" in card
    assert f"--from {begun}" in card


def test_options_come_from_a_file_unless_they_are_given(tmp_path):
    config = tmp_path / "mine.toml"
    pattern = write_topics(tmp_path)
    lines = [f"data = '{pattern}'", "steps = 3", "batch-size = 3", "filter = false"]
    config.write_text("\n".join(lines), encoding="utf-8-sig")  # as Notepad saves it
    result = pretrain(tmp_path / "run", "--config", config, "--steps=2", "--quiet")
    assert result.exit_code == 0, result.output
    assert log_of(tmp_path / "run")[-1]["step"] == 2
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "--batch-size 3 --steps 2" in card
    assert "--config" not in card


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("step = 3", "there is no option 'step'; similar: steps"),
        ("wings = 2", "there is no option 'wings'; similar: none"),
        ("steps = 'many'", "Invalid value for '--steps'"),
        ("steps = ", "must be TOML"),
    ],
)
def test_a_file_of_options_that_is_wrong_is_a_usage_error(
    tmp_path, command, line, message
):
    (tmp_path / "mine.toml").write_text(line, encoding="utf-8")
    result = run(command, "--config", tmp_path / "mine.toml")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_dry_run_makes_nothing(tmp_path):
    result = pretrain(tmp_path / "run", "--dry-run", "--steps=7000")
    assert result.exit_code == 0, result.output
    names = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert names == ["parameters", "memory", "time"]
    assert not (tmp_path / "run").exists()
    found = json.loads(pretrain(tmp_path / "run", "--dry-run", "--json").stdout)
    assert [*found] == ["n_parameters", "peak_bytes", "seconds"]


def test_numbers_come_as_json_too(tmp_path):
    result = pretrain(tmp_path / "run", "--json", "--steps=1", "--dtype=bfloat16")
    found = json.loads(result.stdout)
    assert found["folder"] == str(tmp_path / "run")
    assert found["loss"] > found["floor"]["value"]
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| precision | bfloat16 |" in card
    assert "--dtype bfloat16" in card
    assert "--json" not in card


def test_files_that_change_between_stop_and_resume_are_noticed(
    tmp_path, monkeypatch, capsys
):
    pattern = write_topics(tmp_path)
    args = [*FAST, "--quiet", "--out", tmp_path / "run", "--data", pattern]
    with monkeypatch.context() as patch:
        stop_at(patch, lambda record: record.step == 2)
        assert fails(patch, capsys, *args)[0] == 130
    for path in (tmp_path / "notes" / "deep").iterdir():
        with path.open("a", encoding="utf-8") as file:
            file.write("\nAnd that was all that there is to say about it.\n")
    code, message = fails(monkeypatch, capsys, *args, "--resume")
    assert code == 1
    assert "checkpoints of another run: texts must be" in message


def test_a_resumed_training_reads_what_was_prepared(tmp_path, monkeypatch):
    args = [tmp_path / "run", "--quiet", "--data", write_topics(tmp_path)]
    with monkeypatch.context() as patch:
        stop_at(patch, lambda record: record.step == 2)
        assert pretrain(*args).exit_code == 130
    monkeypatch.setattr(pipeline, "prepare_text", pytest.fail)
    result = pretrain(*args, "--resume")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\nsample ") == 3


def test_a_folder_with_checkpoints_is_refused_without_resume(
    whole, monkeypatch, capsys
):
    before = log_of(whole[0])
    code, message = fails(monkeypatch, capsys, *FAST, "--out", whole[0])
    assert code == 1
    assert "holds checkpoints already: add --resume" in message
    assert log_of(whole[0]) == before


def test_other_settings_cannot_go_on(whole, monkeypatch, capsys):
    code, message = fails(
        monkeypatch,
        capsys,
        *FAST,
        "--resume",
        "--steps=12",
        "--out",
        whole[0],
    )
    assert code == 1
    assert "config.steps must be 11, got 12" in message


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(
    tmp_path, monkeypatch, capsys
):
    forward, n_updates = Transformer.forward, 0

    def broken(self, ids, cache=None):
        nonlocal n_updates
        n_updates += torch.is_grad_enabled()
        logits = forward(self, ids, cache)
        return logits * float("nan") if n_updates == 7 else logits

    monkeypatch.setattr(Transformer, "forward", broken)
    code, message = fails(monkeypatch, capsys, *FAST, "--quiet", "--out", tmp_path)
    assert code == 1
    assert "step 7 needs a finite loss and gradient, got loss nan" in message
    assert "lower learning rate" in message
    checkpoint = load_checkpoint(tmp_path / "checkpoints")
    assert checkpoint["step"] == 4
    saved = checkpoint["parts"]["model"]
    assert all(weight.isfinite().all() for weight in saved.values())
    assert not (tmp_path / "model").exists()


def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, lambda record: record.step == 9)
        pretrain(tmp_path, "--quiet")
    newest = checkpoint_paths(tmp_path / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="damaged"):
        assert pretrain(tmp_path, "--resume", "--quiet").exit_code == 0
    ours, theirs = (
        folder / "model" / "model.safetensors" for folder in (tmp_path, whole[0])
    )
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([*FAST, "--vocab-size=255"], "vocab_size must be at least 257"),
        ([*FAST, "--vocab-size=99999"], "vocab_size must be at most"),
        ([*FAST, "--learning-rate=-1"], "learning_rate must be positive, got -1"),
        ([*FAST, "--data=nowhere/*.txt"], "nothing is there"),
        ([*FAST, "--from=base-llm"], "--from needs --data"),
        ([*FAST, "--column=story"], "--column needs --data"),
        ([*FAST, "--filter"], "--filter needs --data"),
        (
            [*FAST, "--from=base-llm", "--data=a", "--layers=2", "--width=8"],
            "'base-llm' has its own layers and width: leave these out",
        ),
    ],
)
def test_refusals_are_one_line(monkeypatch, capsys, tmp_path, args, message):
    code, line = fails(monkeypatch, capsys, *args, "--out", tmp_path, "--quiet")
    assert code == 1
    assert message in line


@pytest.mark.parametrize(
    "option", ["--steps=0", "--threads=0", "--stories=1", "--preset=huge"]
)
def test_what_cannot_be_is_a_usage_error(tmp_path, option):
    assert pretrain(tmp_path, option).exit_code == 2
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "why"), [("file", "File exists"), ("file/inside", "Not a directory")]
)
def test_a_place_that_is_no_folder_is_refused_before_anything_is_made(
    monkeypatch, capsys, tmp_path, place, why
):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(pipeline, "prepare", None)  # is not reached
    code, line = fails(monkeypatch, capsys, *FAST, "--out", tmp_path / place)
    assert code == 1
    assert f"{tmp_path / place}: {why}" in line
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_too_little_text_is_refused(monkeypatch, capsys, tmp_path):
    text = python_topics()["lambda"]
    (tmp_path / "one.txt").write_text(text, encoding="utf-8")
    args = [*FAST, "--quiet", "--data", tmp_path / "one.txt", "--out", tmp_path / "run"]
    long = replace(SMALLEST.pretraining, context_length=37 * 9)
    sizes = replace(SMALLEST.model, context_length=37 * 9)
    monkeypatch.setitem(
        presets.PRESETS, "tiny", replace(SMALLEST, pretraining=long, model=sizes)
    )
    code, line = fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "tokens of the held-out part of the text must be at least 334" in line
