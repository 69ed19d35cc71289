"""`llmcourse finetune`: to the end, stopped, resumed, on own data, refused."""

import json
import sys
from dataclasses import replace

import pytest
from chat_cases import CONFIG, base, chatty, line_of, own_file
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import finetune as command
from llmcourse.finetuning import instruction_tuning
from llmcourse.finetuning.chat import Message
from llmcourse.finetuning.instruction_evaluation import SPLITS, Count, Score
from llmcourse.model.folders import save_pretrained
from llmcourse.recipes import instruct_model
from llmcourse.recipes.instruct_card import InstructQuality
from llmcourse.training.checkpoints import checkpoint_paths, load_checkpoint

FAST = ("--preset=tiny", "--threads=1", "--stories=2", "--questions=1")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    save_pretrained(*base(), place / "base")
    save_pretrained(*chatty(), place / "chat")
    return place


@pytest.fixture(autouse=True)
def smallest(monkeypatch, models):
    config = replace(CONFIG, base=str(models / "base"), seed=0)
    monkeypatch.setitem(instruction_tuning.PRESETS, "tiny", config)
    score = Score({"who": Count(0, 1), "list": Count(0, 1)})

    def scores(model, tokenizer, n, seed, *, splits=tuple(SPLITS), progress):
        progress(n, n)
        return dict.fromkeys(splits, score)

    monkeypatch.setattr(instruct_model, "instruction_scores", scores)


def finetune(folder, *more):
    args = ["finetune", *FAST, "--out", str(folder), *map(str, more)]
    return CliRunner().invoke(cli.app, args)


def fails(monkeypatch, capsys, *args):
    """Run the whole command line; return its exit code and its last line of error."""
    monkeypatch.setattr(sys, "argv", ["llmcourse", "finetune", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err.splitlines()[-1]


def stop_at(monkeypatch, step):
    """Stop a training like Ctrl-C, as soon as it has logged a step."""

    class Stopping(command.JSONLinesLog):
        def __call__(self, record):
            super().__call__(record)
            if record.step == step:
                raise KeyboardInterrupt

    monkeypatch.setattr(command, "JSONLinesLog", Stopping)


def test_it_trains_measures_and_says_how_good_it_is(tmp_path):
    result = finetune(tmp_path)
    assert result.exit_code == 0, result.output
    for words in (
        "learns 6 instructions and 2 plain stories in 2 steps of 4 examples",
        "nats/token of the answers",
        "held-out wordings: 0.0 % of 2 (0 % … 66 %) exactly right",
        "who 0/1, list 0/1",
        "the base, held-out wordings: 0.0 % of 2",
        "forgotten: 2 plain stories cost",
        "llmcourse chat --model",
    ):
        assert words in result.stdout, words
    for bar in ("instructions: 100%", "fine-tuning: 100%", "answers: 100%"):
        assert bar in result.stderr, bar
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [(found["kind"], found["step"]) for found in map(json.loads, lines)]
    assert steps == [
        ("evaluation", 0),
        ("update", 1),
        ("evaluation", 1),
        ("update", 2),
        ("evaluation", 2),
    ]
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert f"llmcourse finetune --preset tiny --out {tmp_path} --threads 1" in card


def test_stopped_and_resumed(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        more = ("--learning-rate=0.002", "--machine=two cores")
        stopped = finetune(tmp_path, "--quiet", *more)
    assert stopped.exit_code == 130
    (line,) = stopped.stderr.splitlines()
    assert line.startswith("llmcourse: stopped; to go on: llmcourse finetune --preset")
    assert "--learning-rate 0.002" in line
    assert "--questions" in line
    assert line.endswith("--machine 'two cores' --resume")
    args = [*FAST, "--quiet", "--out", tmp_path]
    code, line = fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "holds checkpoints already: add --resume" in line
    code, line = fails(monkeypatch, capsys, *args, "--resume", "--steps=3")
    assert code == 1
    assert "config.steps must be 2, got 3" in line
    more = ("--resume", "--learning-rate=0.002", "--questions=0")
    resumed = finetune(tmp_path, "--quiet", *more)
    assert resumed.exit_code == 0, resumed.output
    assert not resumed.stderr
    assert load_checkpoint(tmp_path / "checkpoints")["step"] == 2


def test_own_conversations_with_adapters(tmp_path, models):
    _, path = own_file(tmp_path, 7)
    folder = tmp_path / "mine"
    more = ("--data", path, "--model", models / "chat", "--lora=2", "--batch-size=3")
    result = finetune(folder, *more)
    assert result.exit_code == 0, result.output
    assert f"learns {path} and 0 plain stories" in result.stdout
    assert "exactly right" not in result.stdout
    assert (folder / "adapter" / "adapter_config.json").is_file()
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "# mine\n" in card
    assert f"--data {path} --batch-size 3 --model {models / 'chat'} --lora 2" in card
    assert len(checkpoint_paths(folder / "checkpoints")) == 2


def test_a_long_conversation_may_lose_its_first_exchanges(
    tmp_path, monkeypatch, capsys
):
    _, few = own_file(tmp_path, 3)
    turns = [Message("user", "Say it again."), Message("assistant", "It, and again.")]
    path = tmp_path / "long.jsonl"
    path.write_text(f"{line_of(turns)}\n{line_of(turns * 60)}\n", encoding="utf-8")
    args = ["--data", few, "--data", path, "--batch-size=2", "--quiet"]
    out = tmp_path / "refused"
    code, line = fails(monkeypatch, capsys, *FAST, *args, "--out", out)
    assert code == 1
    assert "long.jsonl', conversation 2: the conversation must have at most" in line
    assert line.endswith("or --truncate on the command line")
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        stopped = finetune(tmp_path / "run", *args, "--truncate")
    (line,) = stopped.stderr.splitlines()
    assert f"--data {path} --truncate --batch-size 2" in line
    resumed = finetune(tmp_path / "run", *args, "--truncate", "--resume")
    assert resumed.exit_code == 0, resumed.output
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "long ones without their first exchanges" in card


def test_packed_goes_on_packed_and_is_on_the_card(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        stopped = finetune(tmp_path, "--quiet", "--packed")
    (line,) = stopped.stderr.splitlines()
    assert f"--out {tmp_path} --packed --threads 1" in line
    args = [*FAST, "--quiet", "--out", tmp_path, "--resume"]
    code, line = fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "objective must be 'answers, packed, start" in line
    resumed = finetune(tmp_path, "--quiet", "--packed", "--resume")
    assert resumed.exit_code == 0, resumed.output
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "2 steps of 4 examples, packed in one row: 1.0 passes" in card


@pytest.mark.parametrize(("n", "asked", "steps"), [(7, 7, 7), (7, None, 100)])
def test_own_conversations_are_not_read_for_ever(tmp_path, n, asked, steps):
    """Of 700, 630 are learned; three passes of them, 8 a step, are 237 steps."""
    _, path = own_file(tmp_path, n)
    config = command._config("instruct-llm", None, (str(path),), {}, {"steps": asked})
    assert config.finetuning.steps == steps
    assert config.finetuning.eval_interval == steps // 5, "and looked at on the way"
    many = (str(path),) * 100
    most = command._config("instruct-llm", None, many, {}, {}).finetuning.steps
    assert most == 237


def test_what_is_held_out_of_a_part_is_learned_in_none(monkeypatch):
    """Held out is the seed after a part's own."""
    second = replace(CONFIG, first=CONFIG)
    monkeypatch.setitem(
        instruction_tuning.PRESETS, "tiny", replace(CONFIG, first=second)
    )
    for seed in (0, 7):
        config = command._config("tiny", seed, (), {}, {})
        seeds = {part.seed for part in (*config.earlier(), config)}
        assert len(seeds) == 3
        assert not seeds & {own + 1 for own in seeds}


def test_what_is_tuned_is_the_same_in_all_parts(monkeypatch):
    """So is nothing that only the first part would have heeded."""
    first = replace(CONFIG, seed=5)
    config = replace(CONFIG, first=first)
    monkeypatch.setitem(instruction_tuning.PRESETS, "tiny", config)
    sizes = {"base": "another", "rank": 3, "n_examples": 9, "packed": True}
    found = command._config("tiny", None, (), sizes, {})
    assert (found.first.base, found.first.rank) == ("another", 3)
    assert found.packed is found.first.packed is True
    assert (found.n_examples, found.first.n_examples) == (9, 6)
    assert found.first.seed == 5


def test_a_short_last_part_lets_the_others_be_saved_as_seldom(tmp_path, monkeypatch):
    config = command._config("instruct-llm", None, (), {}, {"steps": 7})
    assert config.finetuning.eval_interval == 1
    seen = {}

    def remember(*_, **rest):
        seen.update(rest)
        return InstructQuality(loss_before=2.0, loss=1.0, n_held_out=3)

    monkeypatch.setattr(command, "make_instruct", remember)
    command._make(config, tmp_path, quiet=True, name="model")
    assert seen["run"].interval == 300
    assert len(seen["before"]) == 2


def test_one_story_is_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    code, line = fails(monkeypatch, capsys, *FAST, "--stories=1", "--out", out)
    assert code == 1
    assert "n_stories must be 0, or at least 2 for a standard error, got 1" in line
    assert not out.exists()


def test_refusals_are_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "bad.jsonl").write_text("{}\n", encoding="utf-8")
    _, few = own_file(tmp_path, 3)
    for number, (args, message) in enumerate(
        [
            (["--preset=huge"], "preset must be one of instruct-llm, tiny, got 'huge'"),
            ([*FAST, "--learning-rate=-1"], "learning_rate must be positive, got -1"),
            ([*FAST, "--model=gpt-5"], "got 'gpt-5'"),
            ([*FAST, "--data=no.jsonl"], "got no file 'no.jsonl'"),
            ([*FAST, f"--data={tmp_path / 'bad.jsonl'}"], "line 1 of"),
            ([*FAST, f"--data={few}"], "a batch needs 4 examples, but the data has 2"),
        ]
    ):
        out = tmp_path / str(number)
        code, line = fails(monkeypatch, capsys, *args, "--out", out, "--quiet")
        assert code == 1
        assert message in line
        assert line.startswith("llmcourse: error: ")


@pytest.mark.parametrize(
    "option", ["--steps=0", "--lora=0", "--plain=-1", "--stories=-1"]
)
def test_numbers_out_of_range_are_usage_errors(tmp_path, option):
    assert finetune(tmp_path, option).exit_code == 2
    assert not any(tmp_path.iterdir())
