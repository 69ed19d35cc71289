"""Answers: begun where a model expects it, ended where it ends them."""

from copy import deepcopy
from itertools import takewhile

import pytest
import torch
from chat_cases import Scripted, base, chatty

from llmcourse.finetuning import answering
from llmcourse.finetuning.answering import (
    answer,
    answer_batch,
    end_tokens,
    stream_answer,
)
from llmcourse.finetuning.chat import (
    END_OF_TURN,
    Message,
    encode_prompt,
    has_chat_tokens,
)
from llmcourse.model.generation import GREEDY, Sampling, generate
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

QUESTIONS = ["Who?", "Who was it?", "What?", "Why did the owl?", "Where?"]


def says(pair, text, *more):
    """Return a model that says a text, then the special tokens named, then more."""
    model, tokenizer = pair
    ends = [tokenizer.special_tokens[name] for name in more]
    return Scripted(model, [*tokenizer.encode(text), *ends, 9, 9, 9]), tokenizer


def test_an_answer_ends_with_the_turn():
    model, tokenizer = says(chatty(), "The owl.", END_OF_TURN)
    assert answer(model, tokenizer, "Who?") == "The owl."
    turn = [Message("user", "Who?")]
    assert model.read[0] == encode_prompt(turn, tokenizer)
    model, _ = says(chatty(), "The owl.", END_OF_TURN)
    assert answer_batch(model, tokenizer, ["Who?"]) == ["The owl."]


def test_a_question_may_have_a_system_prompt():
    turns = [Message("system", "Be brief."), Message("user", "Who?")]
    model, tokenizer = says(chatty(), "The owl.", END_OF_TURN)
    assert answer_batch(model, tokenizer, [turns]) == ["The owl."]
    assert model.read[0] == encode_prompt(turns, tokenizer)
    model, tokenizer = says(base(), "The owl.", END_OF_TEXT)
    answer_batch(model, tokenizer, [turns])
    assert model.read[0][1:] == tokenizer.encode("Be brief.\n\nWho?\n\n")


def test_answers_may_be_drawn_the_same_ones_by_the_same_seed():
    def drawn(seed):
        return answer_batch(
            *chatty(),
            QUESTIONS,
            max_new_tokens=[8] * len(QUESTIONS),
            sampling=Sampling(),
            generator=torch.Generator().manual_seed(seed),
        )

    assert drawn(0) == drawn(0) != drawn(1)


def test_without_chat_tokens_it_goes_on_behind_a_blank_line():
    model, tokenizer = says(base(), "The owl.", END_OF_TEXT)
    assert answer_batch(model, tokenizer, ["Who?"]) == ["The owl."]
    end = tokenizer.special_tokens[END_OF_TEXT]
    assert model.read[0] == [end, *tokenizer.encode("Who?\n\n")]


def test_a_special_token_in_the_middle_makes_no_answer_right():
    model, tokenizer = says(chatty(), "The owl.", "<|user|>", END_OF_TURN)
    assert answer_batch(model, tokenizer, ["Who?"]) == ["The owl.<|user|>"]


def test_grouping_changes_nothing():
    model, tokenizer = chatty()
    lengths = {len(tokenizer.encode(question)) for question in QUESTIONS}
    assert 1 < len(lengths) < len(QUESTIONS)  # some are read side by side
    limits = [7, 2, 9, 1, 30]
    answers = answer_batch(model, tokenizer, QUESTIONS, max_new_tokens=limits)
    for question, limit, found in zip(QUESTIONS, limits, answers, strict=True):
        ids = torch.tensor(encode_prompt([Message("user", question)], tokenizer))
        new = generate(model, ids, limit, sampling=GREEDY)[len(ids) :].tolist()
        assert found == tokenizer.decode(new)


def test_progress_ends_with_all():
    seen = []
    answer_batch(
        *chatty(),
        QUESTIONS,
        max_new_tokens=[1] * 5,
        progress=lambda *at: seen.append(at),
    )
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)


def test_a_stream_of_a_seed_is_what_generate_draws():
    model, tokenizer = chatty()
    special = tokenizer.special_tokens
    turns = [Message("user", "Who?"), Message("assistant", "I."), Message("user", "?")]
    sampling = Sampling(temperature=0.8, top_k=50, top_p=0.9)
    stops = (special[END_OF_TEXT], special[END_OF_TURN])
    ids, streamed = torch.tensor(encode_prompt(turns, tokenizer)), []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        pieces = stream_answer(
            model,
            tokenizer,
            turns,
            max_new_tokens=8,
            sampling=sampling,
            generator=generator,
        )
        streamed.append("".join(pieces))
        generator = torch.Generator().manual_seed(seed)
        drawn = generate(model, ids, 8, sampling=sampling, generator=generator)
        new = drawn[len(ids) :].tolist()
        wanted = takewhile(lambda i: i not in stops, new)
        wanted = [i for i in wanted if i not in special.values()]
        assert streamed[-1] == tokenizer.decode(wanted)
    assert len(set(streamed)) > 1


@pytest.mark.parametrize("end", [END_OF_TURN, END_OF_TEXT])
def test_who_watches_sees_each_id_before_its_text(end):
    """The tokens of an answer, and the mark of its end, which has no text."""
    model, tokenizer = says(chatty(), "The owl.", end)
    seen, at_piece = [], []
    turn = [Message("user", "Who?")]
    for piece in stream_answer(
        model, tokenizer, turn, sampling=GREEDY, watch=seen.append
    ):
        at_piece.append((len(seen), piece))
    owl = tokenizer.encode("The owl.")
    assert at_piece == [(n, tokenizer.decode([id_])) for n, id_ in enumerate(owl, 1)]
    assert seen == [*owl, tokenizer.special_tokens[end]]
    assert [id_ for id_ in seen if id_ in end_tokens(tokenizer)] == seen[-1:]


def test_the_ids_lie_where_the_model_is(monkeypatch):
    """On a device of shapes without numbers, which any computer has."""
    places = []

    def draw_nothing(model, ids, *_, **__):
        places.append(ids.device.type)
        return iter(()) if ids.ndim == 1 else ids

    model, tokenizer = chatty()
    monkeypatch.setattr(answering, "stream", draw_nothing)
    monkeypatch.setattr(answering, "generate", draw_nothing)
    for there in (model, deepcopy(model).to("meta")):
        list(stream_answer(there, tokenizer, [Message("user", "Who?")]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "tolist", lambda ids: [[]] * len(ids))
            answer_batch(there, tokenizer, ["Who?", "What?"])
    assert places == ["cpu"] * 2 + ["meta"] * 2


def test_which_tokenizers_know_conversations():
    assert has_chat_tokens(chatty()[1])
    assert not has_chat_tokens(base()[1])


def test_refusals():
    long = "owl " * 600
    with pytest.raises(ValueError, match="must have at most 511 tokens, got"):
        answer_batch(*chatty(), [long])
    with pytest.raises(ValueError, match="must fit into context_length = 512, got"):
        answer_batch(*base(), [long])
    with pytest.raises(ValueError, match="a limit for each of 2 questions, got 1"):
        answer_batch(*chatty(), ["a", "b"], max_new_tokens=[3])
    no_ends = BPETokenizer.train(["Who?"], 257)
    with pytest.raises(ValueError, match=r"<\|endoftext\|>, got one with none"):
        answer_batch(base()[0], no_ends, ["Who?"])
    with pytest.raises(ValueError, match="a tokenizer for conversations must have"):
        stream_answer(*base(), [Message("user", "Hi")])
