"""`llmcourse ask`: answers from files, with file and line."""

import json
import re
import sys

import pytest
from chat_cases import SIZES, base, chatty
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.finetuning import answering
from llmcourse.finetuning.chat import END_OF_TURN
from llmcourse.model import folders
from llmcourse.model.folders import save_pretrained


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("ask")
    save_pretrained(*base(), place / "base")
    save_pretrained(*chatty(), place / "chat")
    (place / "docs").mkdir()
    (place / "docs" / "mia.txt").write_text("Tales\n\nMia had a red hat.\nShe hid.\n")
    (place / "docs" / "tom.txt").write_text("Tom had\na blue coat.\x1b[31m\n")
    (place / "docs" / "photo.png").write_bytes(b"\x89PNG\0")
    return place


@pytest.fixture
def said(monkeypatch):
    """What the model is asked; it answers always the same."""
    prompts = []

    def answer(model, tokenizer, messages, **options):
        prompts.append((messages[-1].content, options["sampling"].temperature))
        options["watch"](tokenizer.special_tokens[END_OF_TURN])
        return iter(["A blue", " coat."])

    monkeypatch.setattr(answering, "stream_answer", answer)
    return prompts


def ask(place, question, *more, model="chat"):
    args = ["ask", "--docs", str(place / "docs"), "--model", str(place / model)]
    result = CliRunner().invoke(cli.app, [*args, *more, question])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_documents_come_from_standard_input_too(place, said):
    args = ["ask", "--docs=-", "--model", str(place / "chat"), "What had Tom?"]
    result = CliRunner().invoke(cli.app, args, input="Tom had\na blue coat.")
    assert "* standard input:2  a blue coat." in result.stdout


def test_an_answer_with_file_and_line(place, said):
    result = ask(place, "What had Tom, a hat?", "--passages=2")
    answer, empty, first, second = result.stdout.splitlines()
    assert (answer, empty) == ("A blue coat.", "")
    assert first == f"* {place}/docs/tom.txt:2  a blue coat.[31m"  # without escape
    assert second.startswith(f"  {place}/docs/mia.txt:")
    assert said[0][0].startswith("Tom had a blue coat.\x1b[31m\n\nTales Mia")
    assert said[0][0].endswith("\n\nWhat had Tom, a hat?")
    skipped, note = result.stderr.splitlines()
    assert skipped.endswith("docs/photo.png (binary)")
    assert note == "llmcourse: * has most of the words of the answer"


def test_where_the_passage_does_not_bear_the_answer_out_it_is_quoted(place, said):
    result = ask(place, "What had Mia?", "--temperature=0.5")
    quote, empty, source = result.stdout.splitlines()  # one passage is read
    assert (quote, empty) == ("“Mia had a red hat.”", "")
    assert source.startswith(f"  {place}/docs/mia.txt:3")
    note = result.stderr.splitlines()[-1]
    assert note.startswith(
        "llmcourse: the model said 'A blue coat.', which the passages"
    )
    assert said[0][1] == 0.5


def test_an_answer_as_json(place, said):
    found = json.loads(ask(place, "What had Tom?", "--json").stdout)
    assert (found["answer"], found["borne_out"]) == ("A blue coat.", True)
    assert found["quote"]["text"].startswith("Tom had a blue coat.")
    assert [p["line"] for p in found["passages"]] == [1]
    listed = json.loads(ask(place, "Tom?", "--json", "--passages-only").stdout)
    assert listed == found["passages"]


def test_passages_alone_are_shown_as_a_list(place):
    found = ask(place, "Had Mia or Tom a hat?", "--passages-only", model="base")
    assert [line for line in found.stdout.splitlines() if "docs/" in line] == [
        f"{place}/docs/mia.txt:1",
        f"{place}/docs/tom.txt:1",
    ]


def test_passages_only_need_no_model_that_answers(place):
    more = ("--passages-only", "--passages=1")
    result = ask(place, "Mia had a red hat.", *more, model="base")
    assert result.stdout == (
        f"{place}/docs/mia.txt:1\nTales\n\nMia had a red hat.\nShe hid.\n\n"
    )


def test_an_answer_that_comes_to_no_end_is_called_so(place, said, monkeypatch):
    """Random weights write until nothing fits any more."""
    whole = ask(place, "What had Mia?")
    assert "cut off" not in whole.stderr
    monkeypatch.undo()
    cut = ask(place, "What had Mia?")
    ids = re.search(r"answer was cut off after (\d+) tokens: the context", cut.stderr)
    assert 0 < int(ids[1]) < SIZES.context_length


def test_the_model_answers_as_in_a_conversation(place):
    def answer(*more):
        return json.loads(ask(place, "Had Mia a hat?", "--json", *more).stdout)

    first, again, drawn = answer(), answer(), answer("--temperature=2", "--seed=3")
    assert first == again
    assert drawn["answer"] != first["answer"]
    assert drawn["passages"] == first["passages"]


def test_shipped_models_are_said_to_know_only_tales(place, said, monkeypatch):
    name = str(place / "chat")
    monkeypatch.setattr(folders, "shipped_models", lambda: [name])
    assert "has learned from tales alone" in ask(place, "Had Tom a coat?").stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["?!"], "a question must have a word, got '?!'"),
        ([""], "a question must have a word, got ''"),
        (["zebra"], "none of 2 passages has a word of the question"),
        (["Mia", "--docs=nowhere"], "wanted text files in 'nowhere', got none"),
        (["Mia", "--model=gpt-5"], "got 'gpt-5'"),
        (["Mia", "--temperature=-1"], "temperature must be at least 0, got -1"),
        (["Mia " * 300], "question and passage must fit into 448 tokens"),
    ],
)
def test_refusals_are_one_line(place, monkeypatch, capsys, args, message):
    words = ["llmcourse", "ask", "--docs", str(place / "docs")]
    words += ["--model", str(place / "chat"), *args]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 1
    assert message in lines[-1]
    assert lines[-1].startswith("llmcourse: error: ")


def test_a_model_that_knows_no_conversations_is_refused(place, monkeypatch, capsys):
    words = ["llmcourse", "ask", "--docs", str(place / "docs"), "Mia"]
    monkeypatch.setattr(sys, "argv", [*words, "--model", str(place / "base")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "wanted a model that knows conversations" in capsys.readouterr().err
