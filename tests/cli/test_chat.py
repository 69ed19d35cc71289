"""`llmcourse chat`: turns from standard input, answers on standard output."""

import io
import sys

import pytest
import torch
from chat_cases import Scripted, base, chatty
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import running
from llmcourse.finetuning import answering
from llmcourse.finetuning.answering import end_tokens, stream_answer
from llmcourse.finetuning.chat import END_OF_TURN, Message, read_conversations
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.generation import Sampling

CUT = "cut off after 9 tokens"  # what random weights write comes to no end


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    save_pretrained(*base(), place / "base")
    save_pretrained(*chatty(), place / "chat")
    return place


def chat(models, text, *more):
    args = ["chat", "--model", str(models / "chat"), "--max-new-tokens=9", *more]
    result = CliRunner().invoke(cli.app, args, input=text)
    assert result.exit_code == 0, result.output
    return result


def notes_of(result):
    return [line.removeprefix("llmcourse: ") for line in result.stderr.splitlines()]


def answers_to(models, *questions, temperature=0, seed=0):
    """Return what is printed for questions in one conversation."""
    model, tokenizer = load_pretrained(models / "chat")
    generator, turns, printed = torch.Generator().manual_seed(seed), [], ""
    for question in questions:
        turns.append(Message("user", question))
        pieces = stream_answer(
            model,
            tokenizer,
            turns,
            max_new_tokens=9,
            sampling=Sampling(temperature=temperature),
            generator=generator,
        )
        turns.append(Message("assistant", "".join(pieces)))
        printed += turns[-1].content + "\n"
    return printed


def test_the_history_is_read_again(models):
    result = chat(models, "Who?\n\nWhy?\n", "--temperature=0.9", "--seed=4")
    wanted = answers_to(models, "Who?", "Why?", temperature=0.9, seed=4)
    assert result.stdout == wanted
    assert notes_of(result) == [CUT, CUT, "goodbye"]


def test_reset_forgets_and_quit_ends(models):
    result = chat(models, "Who?\n/reset\nWhy?\n/quit\nWhat?\n", "--temperature=0")
    wanted = answers_to(models, "Who?") + answers_to(models, "Why?")
    assert result.stdout == wanted
    notes = notes_of(result)
    assert notes == [CUT, "forgotten: the conversation begins anew", CUT, "goodbye"]


def test_commands_may_have_spaces_around_them(models):
    result = chat(models, " /reset\t\n/quit \nWhat?\n")
    assert result.stdout == ""
    assert notes_of(result) == ["forgotten: the conversation begins anew", "goodbye"]


@pytest.mark.parametrize(
    ("limit", "notes"),
    [
        (2, ["cut off after 2 tokens"]),
        (5, ["cut off after 5 tokens"]),
        (6, []),
        (9, []),
    ],
)
def test_an_answer_without_its_end_is_said_to_be_cut_off(
    models, monkeypatch, limit, notes
):
    """The answer is five tokens and the mark of its end, the sixth."""
    model, tokenizer = chatty()
    ids = tokenizer.encode("The owl.")
    assert len(ids) == 5
    script = Scripted(model, [*ids, tokenizer.special_tokens[END_OF_TURN]])
    monkeypatch.setattr(running, "open_model", lambda *_: (script, tokenizer))
    result = chat(models, "Who?\n", f"--max-new-tokens={limit}", "--temperature=0")
    assert result.stdout == tokenizer.decode(ids[:limit]) + "\n"
    assert notes_of(result) == [*notes, "goodbye"]


def test_each_piece_is_printed_as_soon_as_it_is_there(models, monkeypatch):
    seen = []

    def watched(model, tokenizer, messages, **options):
        for piece in ("The ", "owl", "."):
            yield piece
            seen.append(sys.stdout.buffer.getvalue().decode())  # flushed, too

    monkeypatch.setattr(answering, "stream_answer", watched)
    assert chat(models, "Who?\n").stdout == "The owl.\n"
    assert seen == ["The ", "The owl", "The owl."]


class Terminal(io.StringIO):
    """An input at which somebody sits; `input` reads it, and nothing else does."""

    def isatty(self):
        return True

    def read_line(self, prompt):
        self.prompts.append(prompt)
        if line := super().readline():
            return line.removesuffix("\n")
        raise EOFError

    def readline(self, *_):
        raise AssertionError("a terminal must be read with a prompt")

    def __init__(self, text):
        super().__init__(text)
        self.prompts = []


def test_in_a_terminal_there_are_prompts_and_help(models, monkeypatch, capsys):
    terminal = Terminal("A story.\\\nWho?\n/reset\n")
    words = ["llmcourse", "chat", "--model", str(models / "chat"), "--temperature=0"]
    monkeypatch.setattr(sys, "argv", [*words, "--max-new-tokens=9"])
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr("builtins.input", terminal.read_line)
    monkeypatch.setitem(sys.modules, "readline", None)  # as where there is none
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert terminal.prompts == ["you> ", "...> ", "you> ", "you> "]
    result = capsys.readouterr()
    assert result.out == answers_to(models, "A story.\nWho?") + "\n"
    help_, cut, reset, goodbye = result.err.splitlines()
    assert help_.startswith("llmcourse: /reset forgets the conversation, /quit ends it")
    assert (cut, goodbye) == (f"llmcourse: {CUT}", "llmcourse: goodbye")
    assert "forgotten" in reset


def test_a_backslash_joins_lines_and_the_last_needs_no_end(models):
    result = chat(models, "A story.\\\n\\\nWho?", "--temperature=0")
    assert result.stdout == answers_to(models, "A story.\n\nWho?")
    result = chat(models, "Who?\\", "--temperature=0")
    assert result.stdout == answers_to(models, "Who?")


def test_no_input_at_all_ends_politely(models):
    result = chat(models, "")
    assert result.stdout == ""
    assert notes_of(result) == ["goodbye"]


@pytest.mark.parametrize("name", ["/what", "/exit"])
def test_unknown_commands_are_no_questions(models, name):
    result = chat(models, f"{name} is it\n{name}\n")
    assert result.stdout == ""
    first, second, end = notes_of(result)
    assert first == second
    assert f"unknown command {name}: /reset forgets" in first
    assert end == "goodbye"


def test_turns_that_no_longer_fit_are_named(models):
    tokenizer = chatty()[1]
    # Two of them fit, three do not.
    long = next(
        "owl " * n for n in range(500) if len(tokenizer.encode("owl " * n)) > 190
    )
    result = chat(models, f"First {long}\nSecond {long}\nThird {long}\n")
    *cuts, note, last, end = notes_of(result)
    assert [*cuts, last] == [CUT] * 3
    assert note.startswith("the context is full; no longer known: user “First owl owl")
    assert ", assistant “" in note
    assert "Second" not in note
    assert end == "goodbye"
    assert len(note) < 160


def test_a_question_that_is_too_long_is_refused_and_the_talk_goes_on(models):
    result = chat(models, f"{'owl ' * 600}\nWho?\n", "--temperature=0")
    assert result.stdout == answers_to(models, "Who?")
    (note, *rest) = notes_of(result)
    assert "a question must have at most 503 tokens, including the marks" in note
    assert rest == [CUT, "goodbye"]


def test_interrupting_an_answer_keeps_the_talk(models, monkeypatch):
    seen = []

    def interrupted(model, tokenizer, messages, *, watch=None, **options):
        seen.append([turn.content for turn in messages])
        yield "Well"
        watch(min(end_tokens(tokenizer)))
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(answering, "stream_answer", interrupted)
    result = chat(models, "Who?\nWhy?\nWhat?\n")
    assert result.stdout == "Well\n" * 3
    assert notes_of(result) == ["interrupted", "goodbye"]
    assert seen[2] == ["Who?", "Well", "Why?", "Well", "What?"]


def test_the_model_is_told_a_system_prompt_which_reset_keeps(models, monkeypatch):
    seen = []

    def watched(model, tokenizer, messages, **options):
        seen.append([(turn.role, turn.content) for turn in messages])
        yield "Well"

    monkeypatch.setattr(answering, "stream_answer", watched)
    chat(models, "Who?\n/reset\nWhy?\n", "--system=Be kind.")
    system = ("system", "Be kind.")
    assert seen[-2:] == [[system, ("user", "Who?")], [system, ("user", "Why?")]]


def test_one_interruption_at_the_prompt_is_forgiven(models, monkeypatch, capsys):
    """Two in a row are not."""
    keys = iter(["", "/reset", "", ""])

    def pressed(prompt):
        if key := next(keys):
            return key
        raise KeyboardInterrupt

    words = ["llmcourse", "chat", "--model", str(models / "chat")]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setattr("builtins.input", pressed)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    _, first, reset, second, goodbye = capsys.readouterr().err.splitlines()
    assert first == second == "llmcourse: Ctrl-C once more ends the conversation"
    assert "forgotten" in reset
    assert goodbye == "llmcourse: goodbye"


def test_a_conversation_is_saved_and_goes_on(models, tmp_path):
    path = tmp_path / "a talk.jsonl"
    begun = chat(models, f"One\n/save {path}\nTwo\n", "--temperature=0")
    on = chat(models, f"/load {path}\nTwo\n/save {path}\n", "--temperature=0")
    first, second = begun.stdout.splitlines()
    assert on.stdout == f"{second}\n"
    (talk,) = read_conversations(path)
    assert [turn.content for turn in talk] == ["One", first, "Two", second]
    assert [path.name for path in tmp_path.iterdir()] == ["a talk.jsonl"]
    (saved,) = [note for note in notes_of(begun) if note.startswith("save: ")]
    assert saved.startswith("save: 2 turns, the last: assistant “")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not JSON", 'must be JSON, like {"messages": [...]}'),
        (
            '{"messages": [{"role": "user", "content": "Hi"}]}',
            "the last turn must be the assistant's",
        ),
        ('{"messages": [{"role": "user", "content": 5}]}', "a turn must have texts"),
        ("[" * 99_999, 'must be JSON, like {"messages": [...]}'),
        ('{"prompt": "Hi", "completion": "Ho"}\n' * 2, "wanted one conversation"),
        ("", "must hold a conversation"),
    ],
)
def test_a_file_that_holds_no_conversation_is_neither_loaded_nor_written_over(
    models, tmp_path, text, message
):
    path = tmp_path / "talk.jsonl"
    path.write_text(text, encoding="utf-8")
    result = chat(models, f"/load {path}\nHi\n/save {path}\n")
    load, _, save, _ = notes_of(result)
    assert message in load
    assert message in save
    assert path.read_text(encoding="utf-8") == text


def test_what_cannot_be_saved_or_loaded_is_said(models, tmp_path):
    path = tmp_path / "none" / "talk.jsonl"
    result = chat(models, f"/save {path}\n/load {path}\nHi\n/save {path}\n")
    nothing, missing, *_, folder, _ = notes_of(result)
    assert "must have a user turn" in nothing
    assert "No such file" in missing
    assert "there is no folder" in folder


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model=gpt-5"], "got 'gpt-5'"),
        (["--temperature=-1"], "temperature must be at least 0, got -1"),
        (["--top-p=0"], "top_p must be in (0, 1], got 0"),
        (["--max-new-tokens=257"], "max_new_tokens must be in 1 … 256"),
    ],
)
def test_refusals_are_one_line(models, monkeypatch, capsys, args, message):
    words = ["llmcourse", "chat", "--model", str(models / "chat"), *args]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 1
    assert message in line


def test_a_model_that_knows_no_conversations_is_refused(models, monkeypatch, capsys):
    words = ["llmcourse", "chat", "--model", str(models / "base")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        cli.main()
    assert "wanted a model that knows conversations" in capsys.readouterr().err
