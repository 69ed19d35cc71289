"""From the recipe to a folder: what is in it, what its card says, how it goes on."""

import json
import re
import shlex
from dataclasses import replace
from functools import partial

import pytest
import torch
from chat_cases import CONFIG, base, chatty, own_file
from typer.main import get_command

from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import instruction_scores
from llmcourse.finetuning.instruction_tuning import (
    INSTRUCT_LLM,
    InstructMaking,
    fitted,
    prepare,
)
from llmcourse.finetuning.lora import load_adapter, merge_lora
from llmcourse.model import folders
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes import instruct_model
from llmcourse.recipes.instruct_card import InstructQuality, instruct_card
from llmcourse.recipes.instruct_model import Exam, make_instruct
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Evaluation

EXAM = Exam(n_per_kind=1, n_stories=2)
COMMAND = "llmcourse finetune --preset tiny --out run/"
QUALITY = InstructQuality(loss_before=2.0, loss=1.0, n_held_out=3)
SHIPPED = folders._MODELS / "instruct-llm" / "README.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a small run, its config and its quality; few kinds are asked."""
    place = tmp_path_factory.mktemp("made")
    save_pretrained(*base(), place / "base")
    config = replace(CONFIG, base=str(place / "base"))
    few = partial(instruction_scores, kinds=("who", "list"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instruct_model, "instruction_scores", few)
        quality = make_instruct(
            config, place / "run", name="small", command=COMMAND, exam=EXAM
        )
    return place / "run", config, quality


def test_a_model_of_a_shorter_context_reads_what_fits(tmp_path):
    """Each conversation loses what does not fit in its model, not in the largest."""
    model, tokenizer = base()
    short = Transformer(replace(model.config, context_length=64))
    save_pretrained(short, tokenizer, tmp_path / "short")
    path = tmp_path / "talks.jsonl"
    turns = [
        {"role": r, "content": f"{r} says ha. " * 2} for r in ("user", "assistant")
    ]
    path.write_text(f"{json.dumps({'messages': 4 * turns})}\n" * 5, encoding="utf-8")
    ours = replace(CONFIG, base=str(tmp_path / "short"))
    own = replace(ours, sources=(str(path),), truncate=True)
    with pytest.raises(ValueError, match="wanted 2 plain stories of at most 64 tokens"):
        prepare(fitted(own, 64), chatty()[1])
    config = replace(own, truncate=False, n_stories=0)
    with pytest.raises(ValueError, match="conversation 1: .* at most 65 tokens"):
        make_instruct(config, tmp_path / "run", exam=EXAM)
    make_instruct(replace(config, truncate=True), tmp_path / "run", exam=EXAM)


def test_plain_stories_that_do_not_fit_are_left_out():
    n, length = 20, 320
    config = replace(CONFIG, n_examples=1, n_stories=n, kinds=("who",))
    tokenizer = chatty()[1]
    lengths = [len(row) for row in prepare(config, tokenizer).train[-n:]]
    assert min(lengths) < length < max(lengths)
    short = [len(row) for row in prepare(fitted(config, length), tokenizer).train[-n:]]
    fitting = [number for number in lengths if number <= length]
    assert short[: len(fitting)] == fitting
    assert max(short) <= length


def test_the_folder_holds_a_chat_model(made):
    folder, config, _ = made
    model, tokenizer = load_pretrained(folder / "model")
    assert has_chat_tokens(tokenizer)
    assert model.config.vocab_size == base()[0].config.vocab_size + 4
    settings = json.loads((folder / "model" / "tokenizer_config.json").read_text())
    assert "<|assistant|>" in settings["chat_template"]
    assert not (folder / "adapter").exists()
    assert config.rank is None


def test_quality_is_of_the_weights_in_the_file(made):
    folder, _, quality = made
    found = instruction_scores(
        *load_pretrained(folder / "model"), 1, EXAM.seed, kinds=("who", "list")
    )
    assert quality.scores == found
    assert list(quality.base_scores) == ["held-out wordings"]
    assert quality.forgetting.n_stories == 2
    assert quality.n_held_out == 3
    text = json.dumps(quality.to_json())
    assert {"held_out_loss", "instructions_after", "instructions_before"} < set(
        json.loads(text)
    )


def test_the_card_says_what_was_measured(made):
    folder, _, quality = made
    text = (folder / "model" / "README.md").read_text(encoding="utf-8")
    forgotten = quality.forgetting
    for found in (
        "# small\n",
        "| who | 0 of 1 | 0 of 1 | 0 of 1 |",
        "| all kinds | 0.0 % of 2 (0 % … 66 %) |",
        f"| {quality.loss_before:.3f} → {quality.loss:.3f} nats/token of the answers |",
        f"| {forgotten.before:.4f} → {forgotten.after:.4f} nats/token (",
        "6 instructions of the kinds who, list, and 2 plain stories",
        "2 steps of 4 examples: 1.0 passes",
        "| seed | 3 |",
        f"torch {torch.__version__}, 1 thread",
        COMMAND,
        "The licence of the base decides.",
    ):
        assert found in text, found
    assert "license:" not in text, "nobody knows a base's that does not come with us"
    for section in ("Data", "Recipe", "Quality", "Limits", "Use", "Rebuild", "Licence"):
        assert f"## {section}\n" in text


def test_tables_have_as_many_cells_in_every_row(made):
    text = (made[0] / "model" / "README.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({row.count("|") for row in table.splitlines()}) == 1


def code(folder, language):
    text = (folder / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [block.replace("FOLDER", str(folder)) for block in blocks]


def test_the_card_s_code_runs(made, capsys):
    ours, theirs = code(made[0] / "model", "python")
    exec(compile(ours, "README.md", "exec"), {})
    assert capsys.readouterr().out
    pytest.importorskip("transformers")
    pytest.importorskip("jinja2")
    exec(compile(theirs, "README.md", "exec"), {})
    assert "<|user|>" in capsys.readouterr().out


def test_the_card_s_command_is_one(made):
    from llmcourse.cli import app

    (line,) = code(made[0] / "model", "bash")
    words = shlex.split(line)
    get_command(app).commands[words[1]].make_context(words[1], words[2:])


def test_a_stopped_run_goes_on_to_the_same_bytes(made, tmp_path):
    def stop(record):
        if isinstance(record, Evaluation) and record.step == 2:
            raise KeyboardInterrupt

    told = []
    quick = {"exam": Exam(n_per_kind=0, n_stories=2)}
    with pytest.raises(KeyboardInterrupt):
        make_instruct(made[1], tmp_path, run=Run(interval=1, progress=stop), **quick)
    assert not (tmp_path / "model").exists()
    quality = make_instruct(
        made[1], tmp_path, stages=lambda *at: told.append(at), **quick
    )
    assert quality.scores is None
    read = [at for stage, *at in told if stage == "stories read"]
    assert read == sorted(read)  # two stories, by the base and by the model, as one
    assert read[-1] == [4, 4]
    assert [2, 4] in read
    ours, theirs = (p / "model/model.safetensors" for p in (tmp_path, made[0]))
    assert ours.read_bytes() == theirs.read_bytes()


def test_adapters_on_a_chat_model_are_kept_apart_and_merged(tmp_path):
    save_pretrained(*chatty(), tmp_path / "chat")
    _, path = own_file(tmp_path, 12)
    config = replace(
        CONFIG,
        base=str(tmp_path / "chat"),
        sources=(str(path),),
        rank=2,
        finetuning=replace(CONFIG.finetuning, learning_rate=0.1),
    )
    quality = make_instruct(config, tmp_path / "run", name="own")
    assert quality.scores is None
    assert quality.forgetting is None
    model, _ = load_pretrained(tmp_path / "chat")
    load_adapter(model, tmp_path / "run" / "adapter")
    merge_lora(model)
    wanted, plain = model.state_dict(), chatty()[0].state_dict()
    changed = []
    for name, weight in load_pretrained(tmp_path / "run/model")[0].state_dict().items():
        assert torch.equal(weight, wanted[name].half().float()), name
        if not torch.equal(weight, plain[name].half().float()):
            changed.append(name)
    assert len(changed) == 7
    text = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"11 conversations from `{path}`" in text
    assert "adapters of rank 2, alpha 32" in text
    for word in ("instructions of the kinds", "MIT", "license", "grammar"):
        assert word not in text, word


def making_of(config, **more):
    return InstructMaking(
        config=config,
        sizes=base()[0].config,
        n_examples=config.n_examples + config.n_stories,
        n_tokens=9,
        n_targets=7,
        n_learned=11,
        command=COMMAND,
        **more,
    )


def test_time_and_machine_are_told_only_if_given(made):
    _, config, quality = made
    making = making_of(config)
    assert "| machine |" not in instruct_card("a", making, quality)
    told = replace(making, machine="9 minutes on a laptop", n_threads=2)
    text = instruct_card("a", told, quality)
    assert "| machine | 9 minutes on a laptop |" in text
    assert "2 threads" in text


def test_the_card_says_what_was_learned_and_how():
    """What a recipe has not is not spoken of; what it has is."""
    plain = replace(CONFIG, kinds=("who",), n_stories=0)
    rich = replace(
        CONFIG, most_follow_ups=6, whole_every=2, kinds=("who", "who", "why")
    )
    rich = replace(rich, finetuning=replace(rich.finetuning, embedding_speed=4))
    own = replace(rich, sources=("a.jsonl",), truncate=True, n_stories=0)
    for config, said in (
        (plain, ["6 instructions of the kind who.", "learned: the answers."]),
        (
            rich,
            [
                "6 instructions of the kinds who, why (who more often than the others; "
                "questions with up to 6 follow-ups; one of every 2 learned whole), and",
                "answers, and all of the instructions that are learned whole, and all ",
                "; token embeddings 4 times as fast |",
            ],
        ),
        (
            replace(CONFIG, whole_every=1, kinds=("write",), most_follow_ups=6),
            ["6 instructions of the kind write (each learned whole), and 2 plain"],
        ),
        (own, ["`a.jsonl`, long ones without their first ex", "learned: the answers."]),
    ):
        text = instruct_card("a", making_of(config), QUALITY)
        assert all(words in text for words in said), text
    text = instruct_card("a", making_of(plain), QUALITY)
    for word in ("ten kinds", "plain stories", "follow-ups", "whole", "times as fast"):
        assert word not in text, word


def test_the_card_says_what_was_learned_before():
    first = replace(CONFIG, n_stories=0, whole_every=3, max_tokens=480)
    second = replace(first, first=first, kinds=("write",), seed=7, max_tokens=100)
    text = instruct_card("a", making_of(second), QUALITY)
    assert (
        "Before that it learned in 2 steps of 4 examples, at a rate of 0.0005, "
        "6 instructions of the kinds who, list (one of every 3 learned whole) of seed "
        "3; the losses start there."
    ) in text
    assert "longer than 480 tokens" in text


def test_the_shipped_card_says_what_its_recipe_does():
    """Its numbers are of its own training, the sentences those of today's code."""
    text = SHIPPED.read_text(encoding="utf-8")
    read, learned = re.findall(r"In all ([\d,]+) .* which ([\d,]+) are", text)[0]
    making = replace(
        making_of(INSTRUCT_LLM),
        n_tokens=int(read.replace(",", "")),
        n_targets=int(learned.replace(",", "")),
    )
    ours = instruct_card("instruct-llm", making, QUALITY)
    for part in ("Data", "Limits"):
        (wanted,) = re.findall(rf"## {part}\n.*?\n## ", ours, re.DOTALL)
        assert wanted in text
    for row in ("base", "training", "optimizer", "learning rate", "seed", "precision"):
        (wanted,) = re.findall(rf"^\| {row} \| .*$", ours, re.MULTILINE)
        assert wanted in text, row


def test_nothing_need_be_measured(made, tmp_path):
    quality = make_instruct(made[1], tmp_path, exam=Exam(n_per_kind=0, n_stories=0))
    assert (quality.scores, quality.forgetting) == (None, None)
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "above the floor" not in text


@pytest.mark.parametrize("n_stories", [1, -1])
def test_refuses_an_exam_that_cannot_be(n_stories):
    message = f"n_stories must be 0, or at least 2 .* got {n_stories}"
    with pytest.raises(ValueError, match=message):
        Exam(n_stories=n_stories)
    with pytest.raises(ValueError, match="n_per_kind must be at least 0, got -1"):
        Exam(n_per_kind=-1)
