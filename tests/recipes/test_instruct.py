"""From the recipe to a folder: what is in it, what its card says, how it goes on."""

import json
from dataclasses import replace

import pytest
import torch
from chat_cases import CONFIG, base, chatty, own_file

from llmcourse.finetuning.answering import answer
from llmcourse.finetuning.chat import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import instruction_scores
from llmcourse.finetuning.instruction_tuning import (
    fit_recipe,
    prepare,
)
from llmcourse.finetuning.lora import load_adapter, merge_lora
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import fill_card
from llmcourse.recipes.instruct import (
    Exam,
    configured,
    make_instruct,
    scores_to_json,
)
from llmcourse.recipes.making import Making

EXAM = Exam(n_per_kind=1, n_stories=2, kinds=("who", "list"))
COMMAND = "llmcourse finetune --preset tiny --out run/"


def make_in(folder, config, exam=EXAM, **rest):
    run = Making(folder=folder, name="small", command=COMMAND, **rest)
    return make_instruct(config, run, exam)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a small run, its config and its quality; few kinds are asked."""
    place = tmp_path_factory.mktemp("made")
    save_pretrained(*base(), place / "base")
    config = replace(CONFIG, base=str(place / "base"))
    quality = make_in(place / "run", config)
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
    with pytest.raises(ValueError, match="plain stories of at most 64 tokens must be"):
        prepare(fit_recipe(own, 64), chatty()[1])
    config = replace(own, truncate=False, n_stories=0)
    with pytest.raises(ValueError, match="conversation 1: .* at most 65 tokens"):
        make_in(tmp_path / "run", config)
    make_in(tmp_path / "run", replace(config, truncate=True))


def test_plain_stories_that_do_not_fit_are_left_out():
    n, length = 20, 320
    config = replace(CONFIG, n_examples=1, n_stories=n, kinds=("who",))
    tokenizer = chatty()[1]
    lengths = [len(row) for row in prepare(config, tokenizer).train[-n:]]
    assert min(lengths) < length < max(lengths)
    short = [
        len(row) for row in prepare(fit_recipe(config, length), tokenizer).train[-n:]
    ]
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
    assert quality["instructions_after"] == scores_to_json(found)
    assert list(quality["instructions_before"]) == ["held-out wordings"]
    assert quality["forgetting"]["n_stories"] == 2
    assert quality["held_out_loss"]["n"] == 3


def test_the_facts_make_the_card(made):
    folder, config, _ = made
    facts = json.loads((folder / "model" / "card.json").read_text(encoding="utf-8"))
    text = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert text == fill_card("instruct", facts, name="small", config=config)
    assert COMMAND in text
    assert "license:" not in text, "nobody knows that of a base of one's own"
    assert "answered greedily, tales drawn at temperature 0.5." in text


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
    assert make_in(tmp_path / "run", config).keys() == {"held_out_loss"}
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


def test_refuses_an_exam_on_a_single_story():
    with pytest.raises(ValueError, match="n_stories must be 0, or at least 2"):
        Exam(n_stories=1)


@pytest.mark.parametrize(("n", "asked", "steps"), [(7, 7, 7), (7, None, 100)])
def test_own_conversations_are_not_read_for_ever(tmp_path, n, asked, steps):
    """Of 700, 630 are learned; three passes of them, 16 a step, are 119 steps."""
    _, path = own_file(tmp_path, n)
    own = configured("instruct-llm", sources=(str(path),), steps=asked)
    training = own.finetuning
    assert training.steps == steps
    assert training.eval_interval == steps // 5, "and looked at on the way"
    looked = configured("instruct-llm", steps=200, eval_interval=100)
    assert looked.finetuning.eval_interval == 100
    many = configured("instruct-llm", sources=(str(path),) * 100)
    assert many.finetuning.steps == 119
    many = configured("instruct-llm", sources=(str(path),) * 100, batch_size=8)
    assert many.finetuning.steps == 237


@pytest.mark.parametrize("name", ["instruct-llm", "aligned-llm"])
@pytest.mark.parametrize("asked", ["Write a story.", "Tell me a story."])
def test_the_shortest_order_gets_a_tale_and_a_capital_none(name, asked):
    """What a visitor of the site types first; an earlier model declined it."""
    model = load_pretrained(name)
    assert len(answer(*model, asked).split()) > 60
    assert answer(*model, "What is the capital of France?").startswith("I only know")
