"""Cards say what was measured, and their instructions work."""

import re
import shlex
from dataclasses import replace

import pytest
import torch

from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import save_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.base_card import Making, card
from llmcourse.text.documents import tales
from llmcourse.text.tales import Estimate, world
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.pipeline import TINY
from llmcourse.training.story_evaluation import Sample, Samples, TaleLoss
from llmcourse.training.text_loss import TextLoss

TEXT = TextLoss(n_documents=5, n_tokens=613, n_bytes=2711, loss=0.625)
MAKING = Making(
    config=TINY,
    n_train_tokens=12_345,
    command="llmcourse pretrain --preset tiny --out run/",
    n_threads=3,
)


@pytest.fixture(scope="module")
def quality():
    return TaleLoss(
        text=TEXT,
        floor=Estimate(0.5, 0.01),
        sample_floor=0.51,
        excess=Estimate(world().entropy() / 4, world().entropy() / 50),
    )


def test_a_card_says_what_was_measured(quality):
    samples = Samples((Sample("a", None), Sample("b", "no"), Sample("c", None)))
    text = card("tiny", MAKING, quality, samples)
    for found in (
        "# tiny\n",
        f"{n_parameters(TINY.model):,} parameters",
        "300 short English stories, 12,345 tokens",
        "| loss | 0.6250 nats/token |",
        f"| bits per byte | {TEXT.bits_per_byte:.4f} |",
        "| floor | 0.5000 nats/token |",
        "| gap to the floor | 25.00% ± 2.00%",
        "2 of 3 (95 % interval",
        "40 steps of 4 stories: 6,584 tokens",
        f"torch {torch.__version__}, 3 threads",
        MAKING.command,
        "license: mit",
    ):
        assert found in text, found


def test_time_and_machine_are_told_only_if_given(quality):
    assert "machine" not in card("tiny", MAKING, quality)
    told = replace(MAKING, machine="9 minutes on a laptop")
    assert "| machine | 9 minutes on a laptop |" in card("tiny", told, quality)


def test_a_card_of_own_text_claims_no_floor_and_no_licence():
    own = replace(MAKING, sources=["notes/**/*.txt"], n_threads=1)
    text = card("mine", own, TEXT)
    assert "`notes/**/*.txt`" in text
    assert "1 thread\n" in text.replace(" |", "")
    for word in ("floor", "valid", "grammar", "stories", "MIT", "license"):
        assert word not in text, word


def test_tables_have_two_columns_in_every_row(quality):
    rows = [line for line in card("a", MAKING, quality).splitlines() if line[:1] == "|"]
    assert len(rows) > 12
    assert {row.count("|") for row in rows} == {3}


def test_the_file_begins_with_what_the_hub_reads(quality):
    lines = card("a", MAKING, quality).splitlines()
    end = lines.index("---", 1)
    assert lines[0] == "---"
    assert all(re.fullmatch(r"[a-z_]+: [a-z-]+", line) for line in lines[1:end])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, quality):
    texts = [document.text for document in tales(3, seed=0)]
    tokenizer = BPETokenizer.train(texts, 512, ["<|endoftext|>"])
    model = Transformer(TINY.model, torch.Generator().manual_seed(0))
    place = tmp_path_factory.mktemp("model")
    save_pretrained(model, tokenizer, place, card=card("a", MAKING, quality))
    return place


def blocks(folder, language):
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [block.replace("FOLDER", str(folder)) for block in found]


def test_its_python_loads_the_model_here(folder, capsys):
    ours, _ = blocks(folder, "python")
    exec(compile(ours, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Once upon a time")


def test_its_python_loads_the_model_in_transformers(folder, capsys):
    pytest.importorskip("transformers")
    _, theirs = blocks(folder, "python")
    exec(compile(theirs, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("<|endoftext|>Once upon a time")


def test_its_command_is_one(folder):
    from typer.main import get_command

    from llmcourse.cli import app

    (line,) = blocks(folder, "bash")
    words = shlex.split(line)
    command = get_command(app).commands[words[1]]
    command.make_context(words[1], words[2:])


def test_a_card_counts_windows_where_stories_are_cut(quality):
    making = replace(MAKING, n_train_tokens=300 * 64)
    text = card("tiny", making, quality)
    assert "40 steps of 4 windows of 64 tokens: 10,240 tokens" in text
