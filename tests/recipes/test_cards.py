"""Cards: rendered from facts alone, valid for Hugging Face, with code that runs.

`python tests/recipes/test_cards.py` writes the shipped cards again.
"""

import json
import re
import shlex
from itertools import product
from pathlib import Path

import pytest

from llmcourse import cli
from llmcourse.finetuning.instruction_tuning import INSTRUCT_LLM
from llmcourse.intervals import Count, wilson_interval
from llmcourse.model import folders
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained
from llmcourse.recipes.align import ALIGNED_LLM
from llmcourse.recipes.cards import fill_card, tables
from llmcourse.training.presets import BASE_LLM, PRESETS

NAMES = (
    "base-llm",
    "base-llm-small",
    "instruct-llm",
    "reward-model",
    "aligned-llm",
)


RECIPES = {
    "instruct-llm": INSTRUCT_LLM,
    "reward-model": ALIGNED_LLM["grpo"],
    "aligned-llm": ALIGNED_LLM["grpo"],
}


def facts_of(name: str) -> dict:
    text = (folders._MODELS / name / "card.json").read_text(encoding="utf-8")
    return json.loads(text)


def card_of(name: str) -> str:
    """Return the card that the recipe and the facts of a shipped model make."""
    recipe = RECIPES | PRESETS
    return card(name.split("-")[0], facts_of(name), recipe[name], name=name)


def card(kind, facts, config=ALIGNED_LLM["grpo"], name="mine", sources=()) -> str:
    return fill_card(kind, facts, name=name, config=config, sources=sources)


def shipped(name: str) -> Path:
    return folders._MODELS / name / "README.md"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_card_is_what_recipe_and_facts_make(name):
    """If this fails after a change of recipes: `python tests/recipes/test_cards.py`."""
    assert shipped(name).read_text(encoding="utf-8") == card_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_front_matter_is_what_hugging_face_reads(name):
    yaml = pytest.importorskip("yaml")
    _, front, _ = shipped(name).read_text(encoding="utf-8").split("---\n", 2)
    found = yaml.safe_load(front)
    if name == "reward-model":  # which transformers refuses
        assert not {"library_name", "pipeline_tag"} & found.keys()
    else:
        assert found["library_name"] == "transformers"
        assert found["pipeline_tag"] == "text-generation"
    assert (found["license"], found["language"]) == ("mit", "en")


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_a_shipped_card_runs(name, capsys):
    ours, *theirs = blocks(shipped(name).read_text(encoding="utf-8"), "python")
    folder = str(folders._MODELS / name)
    exec(compile(ours.replace("FOLDER", folder), "README.md", "exec"), {})
    assert capsys.readouterr().out
    if theirs:
        pytest.importorskip("transformers")
        pytest.importorskip("jinja2")
        code = theirs[0].replace("FOLDER", folder)
        exec(compile(code, "README.md", "exec"), {})
        assert capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_the_command_of_a_shipped_card_is_one(name):
    (line,) = blocks(shipped(name).read_text(encoding="utf-8"), "bash")
    words = shlex.split(line)  # torchrun may come before
    command, *words = words[words.index("llmcourse") + 1 :]
    cli.load_command(command).make_context(command, words)


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_as_many_cells_in_every_row(name):
    text = shipped(name).read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1


def counts_in(facts):
    """Yield every count of right answers with its share and interval."""
    if not isinstance(facts, dict):
        return
    if {"right", "n", "share", "interval"} <= facts.keys():
        yield facts
    for value in facts.values():
        yield from counts_in(value)


def test_facts_agree_with_the_weights_and_with_each_other():
    assert facts_of("reward-model") == facts_of("aligned-llm")
    for name in ("instruct-llm", "aligned-llm"):
        sizes = load_pretrained(name)[0].config
        assert facts_of(name)["n_parameters"] == n_parameters(sizes)
    counts = list(counts_in(facts_of("instruct-llm")))
    assert len(counts) == 60
    for count in (*counts, *counts_in(facts_of("aligned-llm"))):
        assert count["share"] == pytest.approx(count["right"] / count["n"])
        low, high = wilson_interval(count["right"], count["n"])
        assert tuple(count["interval"].values()) == pytest.approx((low, high), abs=1e-4)
    for score in facts_of("instruct-llm")["quality"]["instructions_after"].values():
        kinds = score["by_kind"].values()
        assert score["overall"]["right"] == sum(kind["right"] for kind in kinds)
    gold = facts_of("aligned-llm")["quality"]["gold"]
    assert gold["gain"] == pytest.approx(gold["after"] - gold["before"], abs=0.011)


def test_a_card_claims_no_licence_of_others_and_no_machine_unless_given():
    facts = facts_of("base-llm")
    text = card("base", facts | {"machine": ""}, BASE_LLM, sources=("notes/*.txt",))
    assert "license:" not in text
    assert "| machine |" not in text
    assert "tokens of text from `notes/*.txt`, cleaned" in text
    text = card("base", facts | {"machine": "a laptop"}, BASE_LLM)
    assert "\nlicense: mit\n" in text
    assert "| machine | a laptop |" in text


def test_kinds_are_counted_together():
    """By hand: 1 of 2 and 3 of 4 are 4 of 6; a group that was not asked is left out."""
    kinds = {"who": Count(1, 2), "rewrite": Count(3, 4), "tell": Count(0, 9)}
    by_kind = {kind: count.to_json() for kind, count in kinds.items()}
    score = {"by_kind": by_kind, "overall": Count(4, 15).to_json()}
    (table,) = tables("scores", scores={"new wordings": score})
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["questions, summarise, rewrite"].startswith("66.7 % of 6 (")
    assert rows.keys() == {*kinds, "questions, summarise, rewrite", "all kinds"}


def test_what_costs_most_has_a_table_where_it_is_known():
    quality = facts_of("base-llm")["quality"]
    costly = [{"name": "hero", "excess": 0.25, "example": "said Ella"}]
    _, table = tables("base_tables", quality=quality | {"costliest": costly})
    assert table.rows == [["hero", "0.25", "… said Ella"]]
    assert len(tables("base_tables", quality=quality | {"costliest": []})) == 1


def test_a_card_says_where_stories_have_become_alike():
    facts = facts_of("aligned-llm")
    for after, said in ((0.1, True), (0.3, False)):
        quality = dict(facts["quality"])
        quality["before"] = quality["before"] | {"openings": 0.4}
        quality["after"] = quality["after"] | {"openings": after}
        text = card("aligned", facts | {"quality": quality})
        assert ("mode collapse" in text) is said


def test_code_survives_quotation_marks():
    example = {"prompt": 'Say "no".', "answer": '"Yes," it\'s said. "Good night!"'}
    facts = facts_of("aligned-llm") | {"example": example}
    for kind, chat in product(("reward", "aligned"), (True, False)):
        text = card(kind, facts | {"chat": chat})
        assert ("first words of stories" in text) is not chat
        (code,) = blocks(text, "python")
        compile(code, "README.md", "exec")


if __name__ == "__main__":
    for each in NAMES:
        shipped(each).write_text(card_of(each), encoding="utf-8")
