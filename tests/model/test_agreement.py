"""Models of other families, made by `transformers`, compute here what they do there."""

import json
from copy import deepcopy

import pytest
import torch
from model_cases import with_random_weights
from tokenization_cases import sentencepiece_document

from llmcourse.finetuning.chat import Message, encode_prompt
from llmcourse.model import generation
from llmcourse.model.attention import KVCache, RaggedCache
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.generation import GREEDY, generate, write
from llmcourse.text.tokenizers import BPETokenizer

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 262,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 40,
    "rms_norm_eps": 1e-3,  # large enough to be told from another
}
OLD = {"original_max_position_embeddings": 10}
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, **OLD},
    "yarn-ramp": {
        "rope_type": "yarn",
        "factor": 4.0,
        **OLD,
        "beta_fast": 9.0,
        "beta_slow": 0.5,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        **OLD,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}
WIDE = {"head_dim": 10, "tie_word_embeddings": True}
ROPE = {"rope_type": "default", "rope_theta": 500_000.0}
MODELS = {
    "llama": ("llama", {}),
    "llama-wide": ("llama", WIDE),
    "llama-one-head": ("llama", {"num_key_value_heads": 1}),
    **{
        f"llama-{name}": ("llama", {"rope_parameters": {**ROPE, **scaling}})
        for name, scaling in SCALINGS.items()
    },
    "smollm2": (
        "llama",
        {"tie_word_embeddings": True, "rope_parameters": {**ROPE, "rope_theta": 1e5}},
    ),
    "mistral": ("mistral", {"sliding_window": None, "rope_parameters": ROPE}),
    "mistral-nemo": ("mistral", {"sliding_window": 40, "head_dim": 10}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2.5-yarn": ("qwen2", {"rope_parameters": {**ROPE, **SCALINGS["yarn"]}}),
    "qwen3": ("qwen3", {"head_dim": 6, "tie_word_embeddings": True}),
    "qwen3-untied": ("qwen3", {"head_dim": 4}),
    "qwen3-padded": ("qwen3", {"vocab_size": 272, "tie_word_embeddings": True}),
    "gpt2": ("gpt2", {}),
    "gpt2-untied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 20}),
}
ALL_MODELS = pytest.mark.parametrize("name", MODELS)
LENGTHS = [33, 7, 21]  # of a batch; the first is far beyond the original context


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(["low lower lowest"], 262, ["<|endoftext|>"])


def make_theirs(name):
    """Return a random model, of which no weight, bias or norm could be left out."""
    kind, changes = MODELS[name]
    sizes = SIZES
    if kind == "gpt2":
        sizes = {"vocab_size": 262, "n_embd": 24, "n_layer": 2, "n_head": 6}
        sizes |= {"n_positions": 40, "layer_norm_epsilon": 1e-3}
    config = transformers.AutoConfig.for_model(
        kind, **deepcopy({**sizes, "bos_token_id": 0, "eos_token_id": 0, **changes})
    )
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    return with_random_weights(theirs)


@pytest.fixture
def pair(name, tokenizer, tmp_path):
    """A model of theirs, and what is made of its folder here."""
    theirs = make_theirs(name)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    tokenizer.save(tmp_path / "tokenizer.json")
    return theirs, load_pretrained(tmp_path)[0]


def random_ids(*shape):
    return torch.randint(262, shape, generator=torch.Generator().manual_seed(1))


def check_close(ours, theirs):
    assert theirs.std() > 0.2  # or equality would mean little
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@ALL_MODELS
@torch.no_grad()
def test_logits_are_equal(pair):
    theirs, ours = pair
    ids = random_ids(2, 40)
    check_close(ours(ids), theirs(ids).logits)


@ALL_MODELS
@torch.no_grad()
def test_logits_are_equal_with_a_cache(pair):
    theirs, ours = pair
    ids = random_ids(2, 40)
    cache, past = ours.new_cache(2), None
    for new in ids.split([20, *[1] * 20], dim=1):
        found = theirs(new, past_key_values=past, use_cache=True)
        past = found.past_key_values
        check_close(ours(new, cache), found.logits)


@ALL_MODELS
@torch.no_grad()
def test_rows_of_a_padded_batch_are_equal(pair):
    """There, short texts are filled up on the left; here each row has its length."""
    theirs, ours = pair
    rows = [random_ids(length) for length in LENGTHS]
    padded = torch.zeros(3, max(LENGTHS), dtype=torch.long)
    mask = torch.zeros_like(padded)
    for n, row in enumerate(rows):
        padded[n, -len(row) :], mask[n, -len(row) :] = row, 1
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = theirs(padded, attention_mask=mask, position_ids=places).logits[:, -1]
    caches: list[KVCache | None] = [ours.new_cache() for _ in rows]
    for row, cache in zip(rows, caches, strict=True):
        ours(row[None, :-1], cache)
    last = torch.stack([row[-1:] for row in rows])
    check_close(ours(last, RaggedCache(caches))[:, -1], logits)


@ALL_MODELS
@torch.no_grad()
def test_a_folder_written_here_opens_there(pair, tmp_path):
    _, ours = pair
    save_pretrained(ours, load_pretrained(tmp_path)[1], tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    ids = random_ids(2, 40)
    check_close(again(ids).logits, ours(ids))
    assert load_pretrained(tmp_path / "ours")[0].config == ours.config


@torch.no_grad()
@pytest.mark.parametrize("name", ["smollm2", "qwen3-untied"])
def test_a_difference_would_show(pair):
    """The equalities above can fail: a changed model is not equal."""
    theirs, ours = pair
    ids = random_ids(2, 40)
    for weight in ours.blocks[0].attention.parameters():
        weight += 0.01
    with pytest.raises(AssertionError):
        check_close(ours(ids), theirs(ids).logits)


def test_a_folder_says_what_its_reader_should_take(tokenizer, tmp_path):
    """The config of each type, written again here, differs in no size from theirs."""
    for name in ("mistral-nemo", "qwen2", "qwen3"):
        theirs = make_theirs(name)
        theirs.save_pretrained(tmp_path)
        tokenizer.save(tmp_path / "tokenizer.json")
        ours, _ = load_pretrained(tmp_path)
        save_pretrained(ours, tokenizer, tmp_path)
        said = json.loads((tmp_path / "config.json").read_text())
        for field in ("head_dim", "num_key_value_heads", "rms_norm_eps"):
            wanted = getattr(theirs.config, field, 4)
            assert said.get(field, 4) == wanted


CORPUS = ["low lower lowest newest"] * 2
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
)


@pytest.fixture(params=["each", "first"])
def llama2(request, tmp_path):
    """A folder of theirs whose tokenizer is of SentencePiece's kind."""
    document = sentencepiece_document(CORPUS, request.param)
    n_ids = len(document["model"]["vocab"])
    config = transformers.LlamaConfig(**SIZES | {"vocab_size": -(-n_ids // 8) * 8})
    config.bos_token_id, config.eos_token_id = 1, 2
    theirs = with_random_weights(transformers.LlamaForCausalLM(config))
    theirs.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    said |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    return tmp_path, theirs


@torch.no_grad()
def test_a_llama_with_a_tokenizer_of_sentencepiece_is_the_same_here(llama2, tmp_path):
    folder, theirs = llama2
    ours, tokenizer = load_pretrained(folder)
    text = "low é▁ lowest"
    for where in (folder, tmp_path / "again"):
        if where != folder:
            save_pretrained(ours, tokenizer, where)
        reads = transformers.AutoTokenizer.from_pretrained(where)
        start = tokenizer.ids_of(tokenizer.options.start_tokens)
        ids = torch.tensor([[*start, *tokenizer.encode(text)]])
        assert ids.tolist() == reads([text])["input_ids"]
        assert tokenizer.decode(ids[0], True) == reads.decode(ids[0], True)
        turns = [{"role": "user", "content": text}]
        asked = reads.apply_chat_template(turns, tokenize=True, return_dict=False)
        assert encode_prompt([Message("user", text)], tokenizer) == asked
        again, read = load_pretrained(where)
        assert (read.options, read.vocab) == (tokenizer.options, tokenizer.vocab)
        check_close(again(ids), theirs(ids).logits)
        new = theirs.generate(ids, max_new_tokens=8, do_sample=False)
        assert torch.equal(generate(again, ids, 8, sampling=GREEDY, stop=[2]), new)


def test_what_a_model_writes_is_joined_to_its_prompt_as_theirs_decode_both(
    llama2, monkeypatch
):
    model, tokenizer = load_pretrained(llama2[0])
    reads = transformers.AutoTokenizer.from_pretrained(llama2[0])
    new = tokenizer.encode("low lower é")
    monkeypatch.setattr(generation, "stream", lambda *_, **__: iter(new))
    for prompt, text in (("low", "low low lower é"), ("", "low lower é")):
        ids = [1, *tokenizer.encode(prompt), *new]
        assert reads.decode(ids, skip_special_tokens=True) == text
        assert write(model, tokenizer, prompt) == text
