"""The recipe of instruct-llm: what is learned, and that following it is tuning."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from chat_cases import CONFIG, base, chatty, line_of, own_file

from llmcourse.finetuning import instruction_tuning
from llmcourse.finetuning.chat import (
    CHAT_TOKENS,
    Message,
    add_special_tokens,
    encode_chat,
    tokenized,
)
from llmcourse.finetuning.finetuning import finetune
from llmcourse.finetuning.instruction_tuning import (
    PRESETS,
    InstructConfig,
    fit_recipe,
    prepare,
    run_recipe,
)
from llmcourse.finetuning.instructions import KINDS, examples
from llmcourse.finetuning.lora import count_parameters, lora_layers
from llmcourse.model.folders import save_pretrained
from llmcourse.text import tales
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Update


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_pretrained(*base(), folder)
    return folder


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    save_pretrained(*chatty(), folder)
    return folder


@pytest.fixture(scope="module")
def data():
    return prepare(CONFIG, chatty()[1])


def ids_of(example):
    return [*example.ids.tolist(), example.targets[-1].item()]


def asked(n, seed, held_out):
    return list(
        examples(
            n,
            seed,
            kinds=CONFIG.kinds,
            held_out=held_out,
            tokenizer=chatty()[1],
            max_tokens=420,
        )
    )


@pytest.mark.parametrize("most", [1, 3])
def test_a_question_is_followed_by_more_about_the_same_story(most):
    """As many answers more as are allowed and fit; what is held out has one."""
    tokenizer = chatty()[1]
    end = tokenizer.special_tokens["<|end|>"]
    config = replace(CONFIG, n_examples=12)  # three fit into few of them
    alone = prepare(config, tokenizer)
    more = prepare(replace(config, most_follow_ups=most), tokenizer)

    def n_answers(example):
        return int((example.targets[example.mask] == end).sum())

    answers = [n_answers(example) for example in more.train[: config.n_examples]]
    assert max(answers) == 1 + most
    assert set(map(n_answers, alone.train[: config.n_examples])) == {1}
    assert set(map(n_answers, more.valid)) == {1}
    assert max(map(len, more.train)) <= CONFIG.finetuning.context_length
    for first, example in zip(alone.train, more.train, strict=False):
        assert ids_of(example)[: len(first)] == ids_of(first)[: len(first)]


def test_training_reads_instructions_and_learns_their_answers(data):
    tokenizer = chatty()[1]
    for example, found in zip(asked(6, 3, False), data.train, strict=False):
        turns = [Message("user", example.prompt), Message("assistant", example.answer)]
        ids, mask = encode_chat(turns, tokenizer)
        assert ids_of(found) == ids
        assert found.mask.tolist() == mask[1:]


def test_what_was_declined_comes_once_more_before_something_else():
    """So a refusal is no reason for the next."""
    tokenizer = chatty()[1]
    config = replace(CONFIG, kinds=("outside", "tell"), n_examples=20)
    texts = [tokenizer.decode(ids_of(row)) for row in prepare(config, tokenizer).train]
    asked_for = examples(20, 3, kinds=config.kinds, tokenizer=tokenizer)
    before = ""
    for example, text in zip(asked_for, texts, strict=False):
        assert example.prompt in text
        if example.kind == "tell":
            assert before in text
        before = example.prompt if example.kind == "outside" else ""
    both = [text for text in texts[:20] if "I only know" in text and "story" in text]
    assert len(both) > 2


def test_all_kinds_fit_a_short_context():
    """What was declined before is dropped where it does not fit any more."""
    tokenizer = chatty()[1]
    config = replace(fit_recipe(InstructConfig(), 360), n_examples=150, n_stories=0)
    rows = prepare(config, tokenizer).train
    assert 340 < max(map(len, rows)) <= 360


def test_plain_stories_are_learned_whole(data):
    tokenizer = chatty()[1]
    assert len(data.train) == 6 + 2
    end = tokenizer.special_tokens[END_OF_TEXT]
    for story, found in zip(tales.generate(2, 500_003), data.train[6:], strict=True):
        assert ids_of(found) == [end, *tokenizer.encode(story.text), end]
        assert found.mask.all()


def test_what_is_held_out_has_new_wordings_and_another_seed(data):
    tokenizer = chatty()[1]
    new = asked(3, 4, "phrasing")
    for example, found in zip(new, data.valid, strict=True):
        turns = [Message("user", example.prompt), Message("assistant", example.answer)]
        assert ids_of(found) == encode_chat(turns, tokenizer)[0]


def test_progress_tells_how_many_are_there():
    seen = []
    prepare(CONFIG, chatty()[1], lambda *at: seen.append(at))
    assert [at for at in seen if at[0] == "instructions"][-1] == ("instructions", 6, 6)
    assert seen[-1] == ("stories", 2, 2)


def test_the_base_gets_the_tokens_that_it_lacks(folder, chat_folder):
    model, tokenizer = instruction_tuning.start(replace(CONFIG, base=str(folder)))
    wanted = add_special_tokens(*base(), CHAT_TOKENS, torch.Generator().manual_seed(3))
    assert tokenizer.special_tokens == wanted[1].special_tokens
    assert torch.equal(model.embedding.weight, wanted[0].embedding.weight)
    model, tokenizer = instruction_tuning.start(replace(CONFIG, base=str(chat_folder)))
    assert torch.equal(model.embedding.weight, chatty()[0].embedding.weight)
    assert count_parameters(model).learned == count_parameters(model).total


def test_with_adapters_the_embedding_learns_only_if_it_has_new_rows(
    folder, chat_folder
):
    for place, learns in ((folder, True), (chat_folder, False)):
        config = replace(CONFIG, base=str(place), rank=2, alpha=3)
        model, _ = instruction_tuning.start(config)
        assert model.embedding.weight.requires_grad is learns
        adapted = [layer for _, layer in lora_layers(model)]
        assert len(adapted) == 7 * model.config.n_layers
        assert {(layer.rank, layer.alpha) for layer in adapted} == {(2, 3)}


def test_running_the_recipe_is_fine_tuning(folder, data, tmp_path):
    config, seen = replace(CONFIG, base=str(folder)), []
    tuned = run_recipe(config, Run(folder=tmp_path, interval=1, progress=seen.append))
    assert [r.step for r in seen if isinstance(r, Update)] == [1, 2]
    model, _ = instruction_tuning.start(config)
    generator = torch.Generator().manual_seed(3)
    history = finetune(model, data.train, data.valid, config.finetuning, generator)
    assert tuned.history == history
    theirs = model.state_dict()
    for name, weight in tuned.model.state_dict().items():
        assert torch.equal(weight, theirs[name]), name
    assert len(list(tmp_path.iterdir())) == 2


def test_one_part_is_learned_after_the_other(folder):
    """The second goes on with the model and the tokenizer that the first has made."""
    config = replace(CONFIG, base=str(folder))
    first, second = run_recipe(config), replace(config, seed=7)
    model = deepcopy(first.model).train()
    both = run_recipe(second, begun=(first.model, first.tokenizer))
    assert both.model is first.model
    generator, rows = torch.Generator().manual_seed(7), prepare(second, chatty()[1])
    history = finetune(model, rows.train, rows.valid, second.finetuning, generator)
    assert both.history == history
    theirs = model.state_dict()
    for name, weight in both.model.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


def test_now_and_then_a_conversation_is_learned_whole(data):
    config = replace(CONFIG, whole_every=3)
    rows = prepare(config, chatty()[1])
    whole = [bool(row.mask.all()) for row in rows.train[: config.n_examples]]
    assert whole == [n % 3 == 0 for n in range(config.n_examples)]
    for row, before in zip(rows.train, data.train, strict=True):
        assert ids_of(row) == ids_of(before)
    assert not any(bool(row.mask.all()) for row in rows.valid)


@pytest.mark.parametrize(("n", "held_out"), [(2, [1]), (9, [8]), (23, [9, 19])])
def test_of_own_conversations_every_tenth_is_held_out(tmp_path, n, held_out):
    talks, path = own_file(tmp_path, n)
    config = replace(CONFIG, sources=(str(path),), n_stories=0)
    data, tokenizer = prepare(config, chatty()[1]), chatty()[1]
    learned = [talk for number, talk in enumerate(talks) if number not in held_out]
    for wanted, found in (
        (learned, data.train),
        ([talks[h] for h in held_out], data.valid),
    ):
        assert [*map(ids_of, found)] == [*map(ids_of, tokenized(wanted, tokenizer, 99))]


def long_talk(n):
    """Return a conversation of n exchanges, of some twenty tokens each."""
    turns = (
        Message("user", "Say it again."),
        Message("assistant", "It, again and again."),
    )
    return list(turns) * n


def test_of_files_with_a_long_conversation_its_place_is_named(tmp_path):
    """The third of the second file is it, which is learned, after ten of the first."""
    _, first = own_file(tmp_path, 10)
    talks = [long_talk(1), long_talk(1), long_talk(60), long_talk(1)]
    second = tmp_path / "second.jsonl"
    second.write_text("\n".join(map(line_of, talks)), encoding="utf-8")
    config = replace(CONFIG, sources=(str(first), str(second)), n_stories=0)
    tokenizer = chatty()[1]
    with pytest.raises(ValueError, match=r"second.jsonl', conversation 3: .* 513 tok"):
        prepare(config, tokenizer)
    data = prepare(replace(config, truncate=True), tokenizer)
    assert [len(data.train), len(data.valid)] == [13, 1]
    (cut,) = tokenized([long_talk(60)], tokenizer, 512, truncate=True)
    assert ids_of(data.train[11]) == ids_of(cut)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_base_llm(name):
    config = PRESETS[name]
    training = config.finetuning
    assert training.context_length <= 512  # the context of base-llm
    assert training.eval_interval <= training.steps
    assert set(config.kinds) == set(KINDS)
    assert config.n_examples + config.n_stories >= training.batch_size


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="n_examples must be at least 1, got 0"):
        replace(CONFIG, n_examples=0)
    with pytest.raises(ValueError, match="n_stories must be at least 0, got -1"):
        replace(CONFIG, n_stories=-1)
    with pytest.raises(ValueError, match="most_follow_ups must be at least 0, got -1"):
        replace(CONFIG, most_follow_ups=-1)
    with pytest.raises(ValueError, match="whole_every must be at least 0, got -1"):
        replace(CONFIG, whole_every=-1)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        replace(CONFIG, rank=0)
    _, path = own_file(tmp_path, 1)
    with pytest.raises(ValueError, match="hold out must be at least 2, got 1"):
        prepare(replace(CONFIG, sources=(str(path),)), chatty()[1])
    with pytest.raises(ValueError, match="name of a shipped model"):
        instruction_tuning.start(replace(CONFIG, base="gpt-5"))
