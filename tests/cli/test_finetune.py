"""`llmcourse finetune`: to the end, stopped, resumed, on own data, refused."""

import json
from dataclasses import replace

import cli_cases
import pytest
from chat_cases import CONFIG, base, chatty, line_of, own_file
from cli_cases import run, stop_at

from llmcourse.cli import running
from llmcourse.finetuning import chat, instruction_evaluation, instruction_tuning
from llmcourse.finetuning.chat import Message
from llmcourse.finetuning.instruction_evaluation import SPLITS, Score
from llmcourse.intervals import Count
from llmcourse.model.folders import save_pretrained
from llmcourse.model.transformer import Transformer
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

    def scores(model, tokenizer, n, seed, *, splits=tuple(SPLITS), progress, **_):
        progress(n, n)
        return dict.fromkeys(splits, score)

    monkeypatch.setattr(instruction_evaluation, "instruction_scores", scores)


def fails(monkeypatch, capsys, *args):
    return cli_cases.fails(monkeypatch, capsys, "finetune", *args)


def finetune(folder, *more):
    return run("finetune", *FAST, "--out", folder, *more)


def test_adapters_are_not_sharded(monkeypatch, capsys, tmp_path):
    args = (*FAST, "--lora=2", "--fsdp", "--out", tmp_path / "run")
    code, line = fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "--fsdp shards whole weights" in line


def test_it_trains_measures_and_says_how_good_it_is(tmp_path):
    result = finetune(tmp_path)
    assert result.exit_code == 0, result.output
    for words in (
        "learns 6 instructions and 2 plain stories in 2 steps of 4 examples",
        "nats/token of the answers",
        "who: 0 of 1 · 0 of 1 · 0 of 1",
        "instructions, held-out wordings: 0.0 % of 2 (0 % … 66 %) · 0.0 % of 2",
        "loss on 2 plain stories, above the floor: ",
        "llmcourse chat --model",
    ):
        assert words in result.stdout, words
    for bar in ("instructions: 100%", "fine-tuning: 100%", "answers after: 100%"):
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


def test_numbers_come_as_json_too(tmp_path):
    result = finetune(tmp_path, "--json", "--questions=0", "--stories=0")
    found = json.loads(result.stdout)
    assert found["folder"] == str(tmp_path)
    assert found["held_out_loss"]["after"] > 0
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "--json" not in card


def test_conversations_come_from_standard_input_too(tmp_path, models):
    chat._standard_input.cache_clear()
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    words = ("finetune", *FAST, "--data=-", "--model", models / "base", "--json")
    text = f"{json.dumps({'messages': turns})}\n" * 6
    result = run(*words, "--out", tmp_path / "run", "--quiet", text=text)
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["held_out_loss"]["n"] == 1


def test_stopped_and_resumed(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, lambda record: record.step == 1)
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
    assert "held-out wordings" not in result.stdout
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
        stop_at(patch, lambda record: record.step == 1)
        stopped = finetune(tmp_path / "run", *args, "--truncate")
    (line,) = stopped.stderr.splitlines()
    assert f"--data {path} --truncate --batch-size 2" in line
    resumed = finetune(tmp_path / "run", *args, "--truncate", "--resume")
    assert resumed.exit_code == 0, resumed.output
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "Long conversations lost their first exchanges." in card


def test_gradient_checkpointing_makes_the_same_model(tmp_path):
    made = []
    for name, more in (("kept", ()), ("again", ("--gradient-checkpointing",))):
        result = finetune(tmp_path / name, "--quiet", "--lora=2", *more)
        assert result.exit_code == 0, result.output
        made.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert made[0] == made[1]


def test_a_model_is_compiled_if_asked_to(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(running, "compile_model", compiled.append)
    assert finetune(tmp_path, "--compile").exit_code == 0
    assert [type(model) for model in compiled] == [Transformer]
    assert "--compile" in (tmp_path / "model" / "README.md").read_text("utf-8")


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
            ([*FAST, "--learning-rate=-1"], "learning_rate must be positive, got -1"),
            ([*FAST, "--model=gpt-5"], "got 'gpt-5'"),
            ([*FAST, "--data=no.jsonl"], "no.jsonl: No such file"),
            ([*FAST, f"--data={tmp_path / 'bad.jsonl'}"], "line 1 of"),
            ([*FAST, f"--data={few}"], "examples must be at least 4, got 2"),
        ]
    ):
        out = tmp_path / str(number)
        code, line = fails(monkeypatch, capsys, *args, "--out", out, "--quiet")
        assert code == 1
        assert message in line
        assert line.startswith("llmcourse: error: ")


@pytest.mark.parametrize(
    "option",
    ["--steps=0", "--lora=0", "--stories=-1", "--preset=huge"],
)
def test_what_cannot_be_is_a_usage_error(tmp_path, option):
    assert finetune(tmp_path, option).exit_code == 2
    assert not any(tmp_path.iterdir())
