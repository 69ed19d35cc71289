"""What a reward model says of texts and pairs, how surely, and as a folder."""

import json
from dataclasses import replace

import pytest
import torch
from model_cases import seeded

from llmcourse.alignment.gold_reward import gold_reward
from llmcourse.alignment.preferences import TokenizedPair
from llmcourse.alignment.reward_model import (
    RewardModel,
    batched,
    centre,
    load_reward_model,
    pair_rewards,
    rewards_of,
    save_reward_model,
    share_preferred,
    text_reward,
)
from llmcourse.alignment.surprisal import SurprisalReader
from llmcourse.finetuning.chat import CHAT_TOKENS
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tales import generate
from llmcourse.text.tokenizers import BPETokenizer

TEXTS = [torch.tensor(ids) for ids in ([5, 0, 3, 9, 7], [4], [12, 2, 2], [8, 6])]


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["a hen met a hen", "a fox met a hen and ran"]
    return BPETokenizer.train(texts, vocab_size=262, special_tokens=[END_OF_TEXT])


def make_model(family="llama"):
    sizes = TransformerConfig(
        vocab_size=262,
        d_model=12,
        n_layers=2,
        n_heads=3,
        n_kv_heads=3,
        d_ff=10,
        context_length=29,
        family=family,
    )
    generator = torch.Generator().manual_seed(0)
    return RewardModel(Transformer(sizes, generator), generator)


def of_ids(*parts):
    return TokenizedPair(*(torch.tensor(part) for part in parts))


# Worked example


def test_worked_example_of_accuracy():
    """Two right, one wrong: 2/3."""
    model = make_model()
    a, b, c = rewards_of(model, [torch.tensor([0, n]) for n in (1, 2, 3)]).tolist()
    low, middle, high = (n for _, n in sorted(((a, 1), (b, 2), (c, 3))))
    order = ((high, low), (middle, low), (low, high))
    pairs = [of_ids([0], [x], [y]) for x, y in order]
    chosen, rejected = pair_rewards(model, pairs)
    assert share_preferred(chosen - rejected) == pytest.approx(2 / 3)


# Law


def test_rewards_do_not_depend_on_the_batches():
    """Of 36 texts the last ones are read in another batch."""
    model, texts = make_model(), TEXTS * 9
    alone = [model(text[None], torch.tensor([len(text) - 1])).item() for text in texts]
    assert rewards_of(model, texts).tolist() == pytest.approx(alone, abs=1e-5)


def test_centred_rewards_have_mean_zero_and_the_same_differences():
    model = make_model()
    before = rewards_of(model, TEXTS)
    centre(model, TEXTS)
    after = rewards_of(model, TEXTS)
    assert after.mean().item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(after - after[0], before - before[0])
    assert before.mean().abs() > 1e-3


def test_text_and_pairs_and_ids_agree(tokenizer):
    model = make_model()
    end = tokenizer.special_tokens[END_OF_TEXT]
    prompt = [end, *tokenizer.encode("a hen")]
    answers = [[*tokenizer.encode(text), end] for text in (" ran", " met a fox")]
    chosen, rejected = pair_rewards(model, [of_ids(prompt, *answers)])
    by_text = text_reward(model, tokenizer)(["a hen", "a hen"], [" ran", " met a fox"])
    torch.testing.assert_close(torch.cat((chosen, rejected)), by_text)


def test_of_a_text_that_is_too_long_the_beginning_is_read(tokenizer):
    """And an end: the 29 tokens that the model can read."""
    reward = text_reward(make_model(), tokenizer)
    one = tokenizer.encode(" hen")
    assert len(one) == 1
    most = 29 - len(tokenizer.encode("a fox")) - 2  # less the marks at both ends
    texts = [" hen" * n for n in (most - 1, most, most + 1, 3 * most)]
    shorter, full, *long = reward(["a fox"] * 4, texts).tolist()
    assert long == [pytest.approx(full)] * 2
    assert shorter != pytest.approx(full, abs=1e-6)


def test_a_folder_says_what_of_a_text_is_read(tokenizer, tmp_path):
    model = make_model()
    model.pooling = "mean"
    save_reward_model(model, tokenizer, tmp_path)
    again, _ = load_reward_model(tmp_path)
    assert torch.equal(rewards_of(again, TEXTS), rewards_of(model, TEXTS))
    path = tmp_path / "config.json"
    text = path.read_text(encoding="utf-8")
    assert '"mean"' in text
    path.write_text(text.replace('"mean"', '"first"'), encoding="utf-8")
    with pytest.raises(ValueError, match="'mean and max', got 'first'"):
        load_reward_model(tmp_path)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("has", [{"qk_norm": True}, {"qkv_bias": True}])
def test_a_model_in_the_form_of_qwen_comes_back(tokenizer, tmp_path, has, pooling):
    sizes = replace(make_model().config, **has)
    model = RewardModel(Transformer(sizes, seeded(0)), seeded(0), pooling)
    save_reward_model(model, tokenizer, tmp_path)
    again, _ = load_reward_model(tmp_path)
    assert torch.equal(rewards_of(again, TEXTS), rewards_of(model, TEXTS))
    said = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert f'"Qwen{3 if "qk_norm" in has else 2}ForSequenceClassification"' in said


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_load_gives_back_what_was_saved(tokenizer, tmp_path, family):
    model = make_model(family)
    centre(model, TEXTS)
    save_reward_model(model, tokenizer, tmp_path)
    again, same = load_reward_model(tmp_path)
    assert torch.equal(rewards_of(again, TEXTS), rewards_of(model, TEXTS))
    assert same.merges == tokenizer.merges
    assert not again.training


# Reference


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_equals_transformers(tmp_path, family):
    """One text at a time, and in batches with a token to fill them up."""
    transformers = pytest.importorskip("transformers")
    model, texts = make_model(family), [text + 5 for text in TEXTS]
    centre(model, texts)
    special = (END_OF_TEXT, *CHAT_TOKENS)
    tokenizer = BPETokenizer.train(["a fox, a hen"], 262, special)
    pad = tokenizer.special_tokens[END_OF_TEXT]
    save_reward_model(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(theirs).__name__.endswith("ForSequenceClassification")
    assert theirs.num_labels == 1
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad)
    with torch.no_grad():
        logits = theirs(ids, attention_mask=(ids != pad).long()).logits[:, 0]
    rewards = logits - theirs.config.reward_offset
    torch.testing.assert_close(rewards, rewards_of(model, texts), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "mean and max"])
def test_what_transformers_would_get_wrong_it_refuses(tokenizer, tmp_path, pooling):
    """Its classes read the last token's vector, whatever a config says of pooling."""
    transformers = pytest.importorskip("transformers")
    body = Transformer(make_model().config, torch.Generator().manual_seed(0))
    model = RewardModel(body, torch.Generator().manual_seed(0), pooling).eval()
    save_reward_model(model, tokenizer, tmp_path)
    for kind in ("AutoModelForSequenceClassification", "AutoModel"):
        with pytest.raises(ValueError, match="llmcourse_reward_model"):
            getattr(transformers, kind).from_pretrained(tmp_path)
    again, _ = load_reward_model(tmp_path)
    assert torch.equal(rewards_of(again, TEXTS), rewards_of(model, TEXTS))
    with pytest.raises(ValueError, match="scores texts and does not write"):
        load_pretrained(tmp_path)


# Refusal


def test_refuses_nothing():
    model = make_model()
    with pytest.raises(ValueError, match="n_texts must be at least 1, got 0"):
        rewards_of(model, [])
    with pytest.raises(ValueError, match="n_texts must be at least 1, got 0"):
        pair_rewards(model, [])


def test_refuses_folders_of_other_models(tokenizer, tmp_path):
    """A language model has no head for rewards, and a reward model writes no text."""
    model = Transformer(make_model().config, torch.Generator())
    save_pretrained(model, tokenizer, tmp_path / "language")
    with pytest.raises(ValueError, match=r"must hold the weights \['score.weight'\]"):
        load_reward_model(tmp_path / "language")
    save_reward_model(make_model(), tokenizer, tmp_path / "reward")
    with pytest.raises(ValueError, match="scores texts and does not write"):
        load_pretrained(tmp_path / "reward")


def test_each_answer_gets_the_score_of_its_own_prompt():
    (story,) = generate(1, seed=3)
    words = story.text.split()
    prompts = [" ".join(words[:9]), "", "x"]
    texts = [" ".join(words[9:]), story.text, "nonsense"]
    scores = batched(gold_reward)(prompts, texts)
    expected = [gold_reward(p, t) for p, t in zip(prompts, texts, strict=True)]
    assert scores.tolist() == pytest.approx(expected)
    assert scores[0] > 1 > scores[2]


def test_as_many_prompts_as_answers():
    with pytest.raises(ValueError, match="zip"):
        batched(gold_reward)([""], ["", ""])


# Told of surprises


@pytest.fixture
def surprised(tokenizer, tmp_path):
    """A model that is told of surprises, and the folder of its reader."""
    generator = torch.Generator().manual_seed(5)
    reader = Transformer(make_model().config, generator)
    save_pretrained(reader, tokenizer, tmp_path / "reader")
    place = str(tmp_path / "reader")
    told = SurprisalReader.of(reader, tokenizer, tokenizer, place)
    model = RewardModel(reader, generator, "mean and max", told)
    return model.eval(), tmp_path / "reader"


def test_surprises_change_rewards_and_stay_in_the_folder(
    surprised, tokenizer, tmp_path
):
    model, _ = surprised
    folder = tmp_path / "reward"
    save_reward_model(model, tokenizer, folder)
    again, _ = load_reward_model(folder)
    assert torch.equal(rewards_of(again, TEXTS), rewards_of(model, TEXTS))
    with torch.no_grad():
        again.surprise.surprise.weight.zero_()
    assert not torch.allclose(rewards_of(again, TEXTS), rewards_of(model, TEXTS))


def test_where_its_reader_reads_stays_in_the_folder(surprised, tokenizer, tmp_path):
    _, place = surprised
    loaded, _ = load_pretrained(place)
    reader = SurprisalReader(model=loaded, name=str(place), start=9, mark=5)
    texts = TEXTS[:1]  # the one with a 9 in it
    model = RewardModel(reader.model, torch.Generator(), "last", reader)
    save_reward_model(model.eval(), tokenizer, tmp_path / "reward")
    again, _ = load_reward_model(tmp_path / "reward")
    assert torch.equal(rewards_of(again, texts), rewards_of(model, texts))
    assert again.surprise.reader.fingerprint == reader.fingerprint
    with pytest.raises(ValueError, match="where an answer begins, but text"):
        rewards_of(again, TEXTS)


def test_without_surprises_it_is_the_model_that_was_there_before(surprised):
    model, reader = surprised
    with torch.no_grad():
        model.surprise.surprise.weight.zero_()
    plain = RewardModel(load_pretrained(reader)[0], torch.Generator(), model.pooling)
    assert plain.surprise is None
    with torch.no_grad():
        plain.head.weight.copy_(model.head.weight)
    assert torch.equal(rewards_of(plain, TEXTS), rewards_of(model, TEXTS))


def test_refuses_another_reader_than_it_learned_with(surprised, tokenizer, tmp_path):
    model, reader = surprised
    folder = tmp_path / "reward"
    save_reward_model(model, tokenizer, folder)
    other = Transformer(make_model().config, torch.Generator().manual_seed(6))
    save_pretrained(other, tokenizer, reader)
    with pytest.raises(ValueError, match=r"trained with a reader .*, got one with"):
        load_reward_model(folder)
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    settings["reward_reader"] = {"name": 3}
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="must have a name, a sha256, a start and"):
        load_reward_model(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "must have a name"),
        ("nobody", "wanted a model's folder or .*, got 'nobody'"),
        ("other", "trained with a reader .*, got one with"),
    ],
)
def test_refuses_to_be_saved_without_the_name_of_its_reader(
    surprised, tokenizer, tmp_path, monkeypatch, name, message
):
    """What could not be loaded again is not written at all."""
    model, _ = surprised
    monkeypatch.chdir(tmp_path)
    stranger = Transformer(make_model().config, torch.Generator().manual_seed(6))
    save_pretrained(stranger, tokenizer, tmp_path / "other")
    model.surprise.reader = replace(model.surprise.reader, name=name)
    with pytest.raises(ValueError, match=message):
        save_reward_model(model, tokenizer, tmp_path / "reward")
    assert not (tmp_path / "reward").exists()
