"""The model of a page: its file of weights, its engine and tokenizer, run in Node.

How the writing explorer looks and answers is tested in a browser, in tests/site.
"""

import json
import os
import subprocess
from base64 import b64decode
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_cases import make_model, make_tokenizer
from safetensors.torch import load_file, save
from tokenization_cases import texts

from llmcourse.alignment.losses import entropy
from llmcourse.alignment.reward_model import load_reward_model, text_reward
from llmcourse.finetuning.answering import answer_batch
from llmcourse.finetuning.chat import Message, encode_chat, encode_prompt, render
from llmcourse.model.attention import attention_weights
from llmcourse.model.folders import find_model, load_pretrained, save_pretrained
from llmcourse.model.generation import GREEDY, write
from llmcourse.model.transformer import hidden_states
from llmcourse.text import tales
from llmcourse.text.bpe import GPT2_PATTERN
from llmcourse.widgets.attention import packed_weights
from llmcourse.widgets.base import script
from llmcourse.widgets.page_model import MODEL_PART, page_model, page_script
from llmcourse.widgets.tokens import in_javascript

SHIPPED = ("base-llm", "instruct-llm", "aligned-llm")
TRUE_SHAPE = {"n_heads": 6, "n_kv_heads": 6}
BY_HAND = [
    "",
    " ",
    "\n\n",
    "Once there was",
    "naïve 東京 🙂 don't",
    "שלום",
    "x" * 8_000,
]


class Engine:
    """What runs in the worker, as a module; `fromFile` reads a file of weights."""

    _esm = script(*MODEL_PART) + (
        """
import { readFileSync } from "node:fs";
export function fromFile(path) {
  const { tensors, texts } = readSafetensors(new Uint8Array(readFileSync(path)).buffer);
  const tokenizer = new Tokenizer(JSON.parse(texts.tokenizer));
  return { model: new Transformer(JSON.parse(texts.config), tensors), tokenizer };
}
// What is to be seen at each position.
export function everything(path, ids) {
  const { model } = fromFile(path);
  return ids.map((id) => {
    const seen = { stream: [], attention: [] };
    const logits = [...model.logits(model.read(id, seen))];
    const attention = seen.attention.map((heads) => heads.map((head) => [...head]));
    return { logits, stream: seen.stream.map((x) => [...x]), attention };
  });
}
export function greedy(path, prompt) {
  const { model, tokenizer } = fromFile(path);
  const ids = tokenizer.encode(prompt);
  let stream = [0, ...ids].map((id) => model.read(id)).at(-1);
  while (model.length < model.contextLength) {
    const logits = model.logits(stream);
    const best = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    if (best === 0) break;
    ids.push(best);
    stream = model.read(best);
  }
  return tokenizer.decode(ids);
}
// How to ask a worker, once it has loaded a file.
async function serverOf(path) {
  let answer;
  const server = modelServer((message) => answer(message));
  const ask = (task, argument) => new Promise((resolve, reject) => {
    answer = ({ result, error }) => (error ? reject(error) : resolve(result));
    server({ task, argument });
  });
  return { ask, about: await ask("load", new Uint8Array(readFileSync(path)).buffer) };
}
// What it knows of the model, and what it answers to [task, argument], ...
export async function asked(path, questions) {
  const { ask, about } = await serverOf(path);
  const answers = [about];
  for (const question of questions) answers.push(await ask(...question));
  return answers;
}
// What it writes after a question, in pieces, until it has ended or the window is full.
export async function answered(path, messages, settings) {
  const { ask, about } = await serverOf(path);
  const { ids } = await ask("read", { messages });
  let part = { ids };
  do {
    part = await ask("write", { ids: part.ids, settings, from: ids.length });
  } while (!part.ended && part.ids.length < about.limit);
  return part.text;
}
"""
    )


def unrounded(folder):
    """Return a page's file with 32-bit weights in place of whole numbers and scales."""
    made = page_model(folder)
    header = json.loads(made[8 : 8 + int.from_bytes(made[:8], "little")])
    weights = load_file(folder / "model.safetensors")
    tensors = {name: weight.float() for name, weight in weights.items()}
    return save(tensors, metadata=header["__metadata__"])


@pytest.fixture(scope="session")
def base_ids():
    """A tale as base-llm reads it, with the mark before it."""
    _, tokenizer = load_pretrained("base-llm")
    return [0, *tokenizer.encode(next(tales.generate(1, seed=7)).text)]


def divergences(model, ids, theirs):
    """Return KL(torch ‖ page) after each position, in nats."""
    with torch.no_grad():
        ours = model(torch.tensor([ids]))[0].log_softmax(-1)
    logits = torch.tensor([position["logits"] for position in theirs])
    return (ours.exp() * (ours - logits.log_softmax(-1))).sum(-1)


# Laws


def test_laws_by_node_test(node, tmp_path):
    module = tmp_path / "engine.mjs"
    module.write_text(script(*MODEL_PART), encoding="utf-8")
    done = subprocess.run(
        [node, "--test", str(Path(__file__).with_name("engine.test.mjs"))],
        env={**os.environ, "ENGINE": module.as_uri()},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout


def test_page_script_is_one_plain_script(node, tmp_path):
    """No module, nothing that makes markup of text, and Node can parse it."""
    path = tmp_path / "page.js"
    path.write_text(
        page_script(MODELS={"x": {"file": "x", "bytes": 1}}), encoding="utf-8"
    )
    text = path.read_text(encoding="utf-8")
    for word in ("\nexport ", "\nimport ", "innerHTML", "insertAdjacentHTML"):
        assert word not in text
    done = subprocess.run([node, "--check", str(path)], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_first_sentence_takes_at_most_6_megabytes():
    size = len(page_model(find_model("base-llm"))) + len(page_script(MODELS={}))
    assert size <= 6_000_000


# Reference


@pytest.mark.parametrize("sizes", [{}, TRUE_SHAPE, {"tied_embeddings": False}], ids=str)
def test_engine_equals_torch(javascript, tmp_path, sizes):
    """Logits, residual stream and attention, with shared key-value heads and without.

    Both read the same weights.
    """
    save_pretrained(make_model(**sizes), make_tokenizer(), tmp_path)
    model, _ = load_pretrained(tmp_path)
    path = tmp_path / "page.safetensors"
    path.write_bytes(unrounded(tmp_path))
    ids = [5, 261, 0, 17, 3, 200, 41]
    theirs = javascript(
        Engine, "m.everything(x.path, x.ids)", {"path": str(path), "ids": ids}
    )
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0]
    close = {"atol": 1e-4, "rtol": 1e-4}
    got = torch.tensor([position["logits"] for position in theirs])
    torch.testing.assert_close(got, logits, **close)
    streams = torch.tensor([position["stream"] for position in theirs])  # (T, L + 1, D)
    wanted = hidden_states(model, torch.tensor(ids)).transpose(0, 1)
    torch.testing.assert_close(streams, wanted, **close)
    weights = attention_weights(model, torch.tensor(ids))  # (L, H, T, T)
    for t, position in enumerate(theirs):
        got = torch.tensor(position["attention"]).float()  # (L, H, t + 1)
        torch.testing.assert_close(got, weights[:, :, t, : t + 1], **close)


def test_what_is_seen_of_a_sentence_equals_torch(javascript, tmp_path):
    """Attention in bytes, surprise, and each layer's guesses, as Python has them."""
    text = "Once there was a hen named Ada. Ada"
    model, tokenizer = load_pretrained("base-llm")
    path = tmp_path / "page.safetensors"
    path.write_bytes(unrounded(find_model("base-llm")))
    questions = [["look", {"text": text}], ["read", {"text": text}]]
    about, seen, read = javascript(
        Engine,
        "await m.asked(x.path, x.questions)",
        {"path": str(path), "questions": questions},
    )
    ids = torch.tensor([0, *tokenizer.encode(text)])
    assert seen["ids"] == ids.tolist()
    assert seen["surprises"] == pytest.approx(read["surprises"], abs=1e-6)
    weights = attention_weights(model, ids)  # (L, H, T, T)
    assert [about["layers"], about["heads"]] == [*weights.shape[:2]]
    wanted = packed_weights([""] * len(ids), weights, *weights.shape[:2])["weights"]
    bytes_of = (list(b64decode(packed)) for packed in (seen["attention"], wanted))
    assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(*bytes_of, strict=True))
    with torch.no_grad():
        stream = hidden_states(model, ids)  # (L + 1, T, D)
        probs = (model.norm(stream) @ model.embedding.weight.T).softmax(-1)
    for place, states in enumerate(seen["lens"]):
        for state, told in enumerate(states):
            here = probs[state, place]
            for guess, p in zip(told["best"], here.topk(3).values, strict=True):
                assert guess["p"] == pytest.approx(p.item(), abs=1e-3)
                assert here[guess["id"]] == pytest.approx(p.item(), abs=1e-3)
            if place + 1 < len(ids):
                next_one = here[ids[place + 1]].item()
                assert told["next"] == pytest.approx(next_one, abs=1e-3)
            else:
                assert told["next"] is None
    entropies = -(probs[-1] * probs[-1].log()).sum(-1)
    assert read["entropies"] == pytest.approx(entropies[:-1].tolist(), abs=1e-3)


def test_base_llm_unrounded_equals_torch(javascript, tmp_path, base_ids):
    model, tokenizer = load_pretrained("base-llm")
    path = tmp_path / "page.safetensors"
    path.write_bytes(unrounded(find_model("base-llm")))
    theirs = javascript(
        Engine,
        "m.everything(x.path, x.ids).map(({ logits }) => ({ logits }))",
        {"path": str(path), "ids": base_ids},
    )
    with torch.no_grad():
        logits = model(torch.tensor([base_ids]))[0]
    got = torch.tensor([position["logits"] for position in theirs])
    torch.testing.assert_close(got, logits, atol=1e-3, rtol=0)
    prompt = "Once there was a hen"
    text = javascript(
        Engine, "m.greedy(x.path, x.prompt)", {"path": str(path), "prompt": prompt}
    )
    assert text == write(model, tokenizer, prompt, sampling=GREEDY)


CONVERSATION = [
    Message("user", "Write a story about a girl named Ella who lives by the river."),
    Message("assistant", "Ella was brave. <|end|> she said."),
    Message("user", "Where did Ella live?\n"),
]


@pytest.mark.parametrize("name", SHIPPED)
def test_conversations_are_read_and_answered_as_in_python(javascript, tmp_path, name):
    """The template's ids and text, and the likeliest answer, token by token."""
    model, tokenizer = load_pretrained(name)
    path = tmp_path / "page.safetensors"
    path.write_bytes(unrounded(find_model(name)))
    question = "Where did Ella live?"
    if name == "base-llm":  # has no marks: goes on after a blank line
        messages = [Message("user", question)]
        wanted = [0, *tokenizer.encode(f"{question}\n\n")]
        text = "<|endoftext|>Where did Ella live?\n\n"
    else:
        messages = CONVERSATION
        wanted = encode_prompt(messages, tokenizer)
        text = render(messages, add_generation_prompt=True)
    greedy = {"temperature": 0, "topK": 9999, "topP": 1, "seed": 0}
    questions = [
        ["read", {"messages": [asdict(message) for message in messages]}],
    ]
    about, read = javascript(
        Engine,
        "await m.asked(x.path, x.questions)",
        {"path": str(path), "questions": questions},
    )
    assert [0, *read["ids"]] == wanted
    assert "".join(about["tokens"][i] for i in wanted) == text
    written = javascript(
        Engine,
        "await m.answered(x.path, [{ role: 'user', content: x.question }], x.settings)",
        {"path": str(path), "question": question, "settings": greedy},
    )
    assert [written] == answer_batch(model, tokenizer, [question])


def test_rewards_equal_pythons(javascript, tmp_path):
    """With the weights as they are, but for rounding; with eight bits, by 0.05."""
    judge, tokenizer = load_reward_model(find_model("reward-model"))
    reader = load_pretrained("base-llm")[0]
    order = "Write a story about a girl named Ella who lives by the river."
    tale = next(tales.generate(1, seed=7)).text
    answers = [tale, "Ella was brave.", "the the the"]
    wanted = text_reward(judge, tokenizer)([order] * 3, answers).tolist()
    ends, begin = (
        tokenizer.special_tokens["<|end|>"],
        tokenizer.special_tokens["<|assistant|>"],
    )
    path = tmp_path / "page.safetensors"
    for made, tolerance in ((unrounded, 0.002), (page_model, 0.05)):
        path.write_bytes(made(find_model("reward-model")))
        for answer, reward in zip(answers, wanted, strict=True):
            messages = [Message("user", order), Message("assistant", answer)]
            ids, _ = encode_chat(messages, tokenizer)
            first = ids.index(begin)
            said = torch.tensor([0, *ids[first + 1 : -1], 0])
            with torch.no_grad():
                logits = reader(said[None])[0, :-1]
            surprisal = -logits.log_softmax(-1).gather(1, said[1:, None])[:, 0]
            answered = ids[first + 1 :]
            both = zip(surprisal.tolist(), entropy(logits).tolist(), strict=True)
            told = [[0, 0, 0, 0]] * (first + 1)
            for place, pair in enumerate(both):
                repeated = int(answered[place] in answered[:place])
                told.append([*pair, (place + 1) / 100, repeated])
            framed = {"messages": [asdict(message) for message in messages]}
            questions = [["frame", framed], ["judge", {"ids": ids, "told": told}]]
            _, frame, got = javascript(
                Engine,
                "await m.asked(x.path, x.questions)",
                {"path": str(path), "questions": questions},
            )
            assert frame == ids
            assert ids[-1] == ends
            assert got == pytest.approx(reward, abs=tolerance)


def test_eight_bits_change_little(javascript, tmp_path, base_ids):
    """What the page writes with differs from base-llm by 0.001 nats a token at most.

    That is the mean over a tale of the divergence from torch's distribution, which was
    0.00002 when this was written; no single place differs by more than 0.05 nats.
    """
    model, _ = load_pretrained("base-llm")
    path = tmp_path / "page.safetensors"
    path.write_bytes(page_model(find_model("base-llm")))
    theirs = javascript(
        Engine,
        "m.everything(x.path, x.ids).map(({ logits }) => ({ logits }))",
        {"path": str(path), "ids": base_ids},
    )
    divergence = divergences(model, base_ids, theirs)
    assert divergence.mean() < 0.001
    assert divergence.max() < 0.05


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_that_writes_runs_in_the_page(javascript, tmp_path, name):
    path = tmp_path / "page.safetensors"
    path.write_bytes(page_model(find_model(name)))
    model, tokenizer = load_pretrained(name)
    ids = [0, *tokenizer.encode("Once there was a hen")]
    theirs = javascript(
        Engine, "m.everything(x.path, x.ids)", {"path": str(path), "ids": ids}
    )
    assert divergences(model, ids, theirs).mean() < 0.001


@settings(
    max_examples=5,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    some=st.lists(texts, min_size=40, max_size=60),
    ids=st.lists(st.lists(st.integers(0, 3071), max_size=9), min_size=40, max_size=60),
)
def test_tokenizer_equals_python(javascript, some, ids):
    """Ids of hard texts, and texts of any ids, whether they are UTF-8 or not."""
    folder = find_model("base-llm")
    _, tokenizer = load_pretrained("base-llm")
    some = [*BY_HAND, *some]
    ids = [[i % tokenizer.vocab_size for i in each] for each in ids]
    theirs = javascript(
        Engine,
        "(() => { const t = new m.Tokenizer(JSON.parse(readFileSync(x.path)));"
        "return { ids: x.some.map((text) => t.encode(text)),"
        " texts: x.ids.map((each) => t.decode(each)) }; })()",
        {"path": str(folder / "tokenizer.json"), "some": some, "ids": ids},
    )
    assert theirs["ids"] == [tokenizer.encode(text) for text in some]
    assert theirs["texts"] == [tokenizer.decode(each) for each in ids]


def test_pretokens_are_split_by_gpt2s_pattern(javascript):
    assert javascript(Engine, "m.SPLIT", None) == in_javascript(GPT2_PATTERN)


# Refusals


def test_lone_surrogates_are_refused_as_in_python(javascript):
    refused = javascript(
        Engine,
        "(() => { const t = new m.Tokenizer(JSON.parse(readFileSync(x)));"
        "return ['\\ud800', 'a\\udc00b', '\\ude42\\ud83d'].map((text) => {"
        "try { return t.encode(text); } catch (error) { return error.message; }"
        "}); })()",
        str(find_model("base-llm") / "tokenizer.json"),
    )
    assert all("lone surrogate" in message for message in refused)


def test_a_model_of_another_family_is_refused(tmp_path):
    save_pretrained(make_model("gpt2"), make_tokenizer(), tmp_path)
    with pytest.raises(
        ValueError, match="type of a page's model must be 'llama', got 'gpt2'"
    ):
        page_model(tmp_path)
    save_pretrained(make_model(head_width=10), make_tokenizer(), tmp_path)
    with pytest.raises(
        ValueError, match="head_dim of a page's model must be None, got 10"
    ):
        page_model(tmp_path)


def test_a_llama_with_biases_is_refused(tmp_path):
    save_pretrained(make_model(), make_tokenizer(), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"attention_bias": True}))
    with pytest.raises(ValueError, match="attention_bias of a page's model must be"):
        page_model(tmp_path)
