"""GGUF files, beside the package `gguf` and the reading of `transformers`."""

import math
import random
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from model_cases import LLAMA
from tokenization_cases import sentencepiece, sentencepiece_document

from llmcourse.finetuning.chat import END_OF_TEXT
from llmcourse.model import gguf_files
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.model.gguf_files import GGUFFile, write_gguf
from llmcourse.model.long_context import set_attention
from llmcourse.model.positions import RopeScaling
from llmcourse.model.transformer import Transformer
from llmcourse.text.bpe import DIGITS_PATTERN, GPT4_PATTERN
from llmcourse.text.tokenizer_files import BPEOptions
from llmcourse.text.tokenizers import BPETokenizer

gguf = pytest.importorskip("gguf", reason='needs pip install "llmcourse[interop]"')

# Rows of 64 and 96 numbers are two and three blocks of 32.
CONFIG = replace(LLAMA, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, context_length=40)
OLD = {"factor": 8.0, "original_length": 8192, "fast": 4}
CONFIGS = {
    "llama": CONFIG,
    "untied": replace(CONFIG, tied_embeddings=False),
    "wide heads": replace(CONFIG, head_width=24),
    "llama3": replace(CONFIG, rope_scaling=RopeScaling(kind="llama3", **OLD)),
    "qwen2": replace(CONFIG, qkv_bias=True, rope_base=1e6),
    # transformers reads no head_dim of qwen3 from GGUF: 128 is what its class takes.
    "qwen3": replace(CONFIG, qk_norm=True, head_width=128, norm_eps=1e-6),
}
ALL_CONFIGS = pytest.mark.parametrize("name", CONFIGS)
IDS = torch.randint(262, (2, 30), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(["low lower lowest"], 262, [END_OF_TEXT])


def make_model(config=CONFIG):
    """Return a model of which no weight, bias or norm could be left out unseen."""
    model = Transformer(config, torch.Generator().manual_seed(0)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture
def path(tokenizer, tmp_path):
    write_gguf(make_model(), tokenizer, tmp_path / "model.gguf", "F32")
    return tmp_path / "model.gguf"


# Law


@ALL_CONFIGS
@torch.no_grad()
def test_loading_undoes_writing(name, tokenizer, tmp_path):
    model = make_model(CONFIGS[name])
    write_gguf(model, tokenizer, tmp_path / "model.gguf", "F32")
    again, same = load_pretrained(tmp_path / "model.gguf")
    assert again.config == model.config
    assert torch.equal(again(IDS), model(IDS))
    assert (same.vocab, same.merges) == (tokenizer.vocab, tokenizer.merges)
    assert same.special_tokens == tokenizer.special_tokens


@pytest.mark.parametrize(("kind", "error"), [("F16", 2e-3), ("Q8_0", 5e-2)])
@torch.no_grad()
def test_fewer_bits_change_little(kind, error, tokenizer, tmp_path):
    model = make_model()
    write_gguf(model, tokenizer, tmp_path / "model.gguf", kind)
    off = load_pretrained(tmp_path / "model.gguf")[0](IDS) - model(IDS)
    assert 0 < off.std() < error * model(IDS).std()


def test_a_tokenizer_comes_back_as_it_was(tmp_path):
    marks = ["<|begin|>", "<|im_end|>", "<think>", END_OF_TEXT]
    for pattern in (GPT4_PATTERN, DIGITS_PATTERN):
        plain = BPETokenizer.train(["low lower lowest"], 264, marks, pattern)
        tokenizer = plain.with_options(
            n_ids=272,
            start_tokens=("<|begin|>",),
            end_tokens=("<|im_end|>", END_OF_TEXT),
            kept_tokens=("<think>",),
            chat_template="{{ messages }}",
        )
        model = make_model(replace(CONFIG, vocab_size=272))
        write_gguf(model, tokenizer, tmp_path / "model.gguf")
        _, again = load_pretrained(tmp_path / "model.gguf")
        assert again.options == tokenizer.options
        assert again.pattern == pattern
        text = "lower than 1234 é<|im_end|>"
        assert again.encode(text, "all") == tokenizer.encode(text, "all")


# Reference


@ALL_CONFIGS
@torch.no_grad()
def test_transformers_reads_the_file_with_equal_logits(name, tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    if CONFIGS[name].rope_scaling is not None:
        pytest.skip("transformers does not read scaled positions from GGUF")
    model = make_model(CONFIGS[name])
    write_gguf(model, tokenizer, tmp_path / "model.gguf", "F32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    )
    logits = theirs(IDS).logits
    assert logits.std() > 0.2
    torch.testing.assert_close(model(IDS), logits, rtol=1e-5, atol=1e-5)


KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]


def write_blocks(path, kind, rows=3, blocks=2):
    """Write a file with one tensor of random blocks; return what `gguf` makes of it."""
    number = gguf.GGMLQuantizationType[kind]
    per_block, n_bytes = gguf.GGML_QUANT_SIZES[number]
    stored = np.random.default_rng(0).integers(
        0, 60, (rows, blocks * n_bytes), np.uint8
    )
    writer = gguf.GGUFWriter(path, "llama")
    shape = (rows, blocks * per_block)
    if kind in ("F32", "F16"):
        stored = stored.view({"F32": np.float32, "F16": np.float16}[kind])
        writer.add_tensor("output.weight", stored)
    else:
        writer.add_tensor("output.weight", stored, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf.dequantize(stored, number).reshape(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_the_package(kind, tmp_path):
    wanted = write_blocks(tmp_path / "one.gguf", kind)
    found = GGUFFile(tmp_path / "one.gguf")["lm_head.weight"]
    assert found.std() > 0
    assert np.array_equal(found.numpy(), wanted)


def test_settings_are_those_that_the_package_reads(path):
    theirs = gguf.GGUFReader(path)
    ours = GGUFFile(path).settings
    for name, value in ours.items():
        assert theirs.fields[name].contents() == value
    assert len(ours) == len(theirs.fields) - 3  # which counts the header too


def changed(path, **settings):
    """Return the file's reader, told other settings."""
    file = GGUFFile(path)
    for name, value in settings.items():
        file.settings[name.replace("__", ".")] = value
    file._architecture = file.settings["general.architecture"]
    return file


@pytest.fixture(scope="module")
def spoken():
    """SentencePiece's tokens, as such a file lists them, and what each is good for."""
    words = ["low", "lower", "lowest", "new", "newer", "newest", "wide", "wider"]
    model = sentencepiece_document([" ".join(words)] * 3, vocab_size=300)["model"]
    scores = dict.fromkeys(model["vocab"], 0.0)
    scores |= {"".join(pair): -1.0 - i for i, pair in enumerate(model["merges"])}
    return scores


def merged_by_score(text, scores):
    """Return SentencePiece's pieces of a text, by its own rule, pair after pair."""
    pieces = [*text.replace(" ", "▁")]
    while True:
        pairs = [scores.get(a + b, -math.inf) for a, b in pairwise(pieces)]
        best = max(pairs, default=-math.inf)
        if best == -math.inf:
            break
        at = pairs.index(best)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    bytes_ = [[f"<0x{byte:02X}>" for byte in piece.encode()] for piece in pieces]
    return [
        one
        for piece, instead in zip(pieces, bytes_, strict=True)
        for one in ([piece] if piece in scores else instead)
    ]


@pytest.fixture(params=[True, False])
def sentencepieces(path, spoken, request):
    """A tokenizer as such a file describes it, and whether a ▁ is added."""
    names = [*spoken]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(names) - 259)
    file = changed(
        path,
        tokenizer__ggml__model="llama",
        tokenizer__ggml__tokens=names,
        tokenizer__ggml__token_type=kinds,
        tokenizer__ggml__scores=[*spoken.values()],
        tokenizer__ggml__bos_token_id=1,
        tokenizer__ggml__eos_token_id=2,
        tokenizer__ggml__add_space_prefix=request.param,
    )
    file.settings.pop("tokenizer.ggml.add_bos_token", None)
    return file.tokenizer(len(names)), request.param


def test_sentencepiece_s_tokenizer_merges_the_best_pieces_first(sentencepieces, spoken):
    tokenizer, spaced = sentencepieces
    names, chance = [*spoken], random.Random(0)
    for length in [*range(20)] * 10:
        text = "".join(chance.choices("lowernstid é🦊", k=length))
        wanted = merged_by_score(" " * (spaced and text != "") + text, spoken)
        ids = tokenizer.encode(text)
        assert [names[i] for i in ids] == wanted
        assert tokenizer.decode(ids) == text
    assert tokenizer.options.start_tokens == ("<s>",)
    assert tokenizer.options.end_tokens == ("</s>",)


def test_sentencepiece_s_tokenizer_comes_back(sentencepieces, tmp_path):
    tokenizer, _ = sentencepieces
    model = Transformer(replace(LLAMA, vocab_size=tokenizer.vocab_size))
    write_gguf(model, tokenizer, tmp_path / "model.gguf", kind="F32")
    _, found = load_pretrained(tmp_path / "model.gguf")
    assert found.options == tokenizer.options
    parts = [(t.vocab, t.merges, t.special_tokens) for t in (found, tokenizer)]
    assert parts[0] == parts[1]


# Refusal


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"llama__expert_count": 8}, "llama.expert_count is not supported, got 8"),
        ({"llama__attention__sliding_window": 9}, "sliding_window is not supported"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type is not"),
        ({"llama__rope__dimension_count": 8}, "llama.rope.dimension_count must be"),
        ({"llama__block_count": "two"}, "num_hidden_layers must be a positive whole"),
        ({"llama__attention__head_count": [4, 4]}, "num_attention_heads must be a"),
        ({"general__architecture": "mamba"}, "general.architecture must be 'llama'"),
        ({"tokenizer__ggml__model": "bert"}, "must be 'gpt2' or 'llama', got 'bert'"),
        ({"tokenizer__ggml__model": "llama"}, "must have a score for each token"),
        ({"tokenizer__ggml__pre": "viking"}, "tokenizer.ggml.pre must be .*'viking'"),
        ({"tokenizer__ggml__tokens": [1]}, "tokens must be a list of texts"),
        ({"tokenizer__ggml__merges": ["a"]}, "a merge must be a pair of pieces"),
        ({"tokenizer__ggml__token_type": [1]}, "must have a kind for each token"),
    ],
)
def test_what_is_not_known_is_refused_by_name(path, settings, message, monkeypatch):
    settings = {"llama__attention__key_length": 16, **settings}
    monkeypatch.setattr(
        "llmcourse.model.folders.GGUFFile", lambda path: changed(path, **settings)
    )
    with pytest.raises(ValueError, match=message):
        load_pretrained(path)


def test_another_scaling_than_llama_3s_is_refused(path, tokenizer):
    config = CONFIGS["llama3"]
    other = replace(config.rope_scaling, slow=2, fast=3)
    write_gguf(make_model(replace(config, rope_scaling=other)), tokenizer, path)
    with pytest.raises(ValueError, match="rope_freqs.weight is not the scaling"):
        load_pretrained(path)


@pytest.mark.parametrize("kind", ["I8", "Q8_K"])
def test_an_unknown_quantization_is_refused(kind, path, tokenizer, monkeypatch):
    place = GGUFFile(path)._stored["blk.0.ffn_up.weight"]
    place = place._replace(kind=gguf.GGMLQuantizationType[kind])

    class Other(GGUFFile):
        def _read_header(self):
            settings, stored = super()._read_header()
            return settings, stored | {"blk.0.ffn_up.weight": place}

    monkeypatch.setattr("llmcourse.model.folders.GGUFFile", Other)
    with pytest.raises(ValueError, match=f"is stored as {kind}, which cannot be read"):
        load_pretrained(path)


def test_another_attention_is_refused(tokenizer, tmp_path):
    model = Transformer(replace(LLAMA, vocab_size=tokenizer.vocab_size))
    set_attention(model, "window", window=2)
    with pytest.raises(ValueError, match="full attention is needed"):
        write_gguf(model, tokenizer, tmp_path / "model.gguf")


@pytest.mark.parametrize(("kind", "value"), [("F16", 1e5), ("Q8_0", math.nan)])
def test_weights_that_would_not_come_back_are_not_written(kind, value, path, tokenizer):
    before, model = path.read_bytes(), make_model()
    with torch.no_grad():
        model.blocks[0].feed_forward.up.weight[0, 0] = value
    with pytest.raises(ValueError, match=f"up_proj.weight must be finite in {kind}"):
        write_gguf(model, tokenizer, path, kind)
    assert path.read_bytes() == before


def test_a_tokenizer_of_bytes_alone_comes_back(tmp_path):
    tokenizer = BPETokenizer.train(["hello"], 257, [END_OF_TEXT])
    model = Transformer(replace(LLAMA, vocab_size=257))
    write_gguf(model, tokenizer, tmp_path / "model.gguf", kind="F32")
    found = load_pretrained(tmp_path / "model.gguf")[1]
    assert found.encode("hello") == tokenizer.encode("hello")


def test_a_model_or_a_tokenizer_without_a_name_is_refused(tokenizer, tmp_path):
    gpt2 = make_model(replace(CONFIG, family="gpt2", n_kv_heads=4))
    with pytest.raises(ValueError, match="model_type of a GGUF file must be 'llama'"):
        write_gguf(gpt2, tokenizer, tmp_path / "model.gguf")
    linear = replace(CONFIG, rope_scaling=RopeScaling(kind="linear", factor=4.0))
    with pytest.raises(
        ValueError, match="rope_scaling of a GGUF file must be 'llama3'"
    ):
        write_gguf(make_model(linear), tokenizer, tmp_path / "model.gguf")
    own = BPETokenizer({b"a": 0}, [], {END_OF_TEXT: 1}, options=BPEOptions(nfc=True))
    with pytest.raises(ValueError, match="GGUF has no name for the way"):
        write_gguf(make_model(), own, tmp_path / "model.gguf")
    with pytest.raises(ValueError, match="GGUF has no name for the way"):
        write_gguf(make_model(), sentencepiece(["low"], "first"), tmp_path / "a.gguf")
    fewer = sentencepiece(["low low"])
    parts = fewer.vocab, fewer.merges[:-1], fewer.special_tokens, fewer.pattern
    fewer = BPETokenizer(*parts, fewer.options)
    with pytest.raises(ValueError, match="that make a third must be a merge"):
        write_gguf(make_model(), fewer, tmp_path / "a.gguf")
    with pytest.raises(ValueError, match="kind must be 'F32' or"):
        write_gguf(make_model(), tokenizer, tmp_path / "model.gguf", "Q4_0")
    assert not [*tmp_path.iterdir()]


def test_a_missing_package_is_named(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ImportError, match="needs the package gguf.*llmcourse.interop"):
        load_pretrained(path)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.1, 0.5, 0.9999])
def test_a_truncated_file_is_refused(share, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"model\.gguf.* must be a (whole )?GGUF file"):
        load_pretrained(path)


def test_a_file_without_weights_is_refused(path):
    data = path.read_bytes()
    path.write_bytes(data[:8] + bytes(8) + data[16:])  # the number of tensors
    with pytest.raises(ValueError, match="layers, but 0 weights"):
        load_pretrained(path)


def test_a_forged_header_is_refused_or_harmless(path):
    """No crash, no hang and no memory for what a number promises and nothing holds."""
    whole, luck, refused = path.read_bytes(), random.Random(0), 0
    end = whole.index(b"blk.1.")  # within the header
    tracemalloc.start()
    for number in range(300):
        forged = bytearray(whole)
        for place in luck.sample(range(4, 400 if number % 2 else end), 3):
            forged[place] = luck.choice([0, 1, 8, 9, 127, 255])
        if number % 3 == 0:  # a count or a length becomes huge
            place = luck.randrange(8, end - 8)
            huge = 2 ** luck.choice([31, 40, 63])
            forged[place : place + 8] = huge.to_bytes(8, "little")
        path.write_bytes(forged)
        try:
            load_pretrained(path)
        except ValueError:
            refused += 1
    assert refused > 150
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100 << 20  # no size that a file names is believed


@pytest.mark.parametrize("field", ["n_tensors", "n_settings", "array", "text"])
def test_a_promise_of_more_than_the_file_holds_is_refused(field, tmp_path):
    import struct

    many = 2**62
    head = {"n_tensors": (many, 0), "n_settings": (0, many)}.get(field, (0, 1))
    data = b"GGUF" + struct.pack("<IQQ", 3, *head)
    if field == "array":
        data += struct.pack("<Q4sIIQ", 4, b"name", 9, 0, many)
    elif field == "text":
        data += struct.pack("<Q4sIQ", 4, b"name", 8, many)
    (tmp_path / "model.gguf").write_bytes(data)
    with pytest.raises(ValueError, match="it ends too early"):
        GGUFFile(tmp_path / "model.gguf")


def test_a_tensor_that_is_not_known_keeps_its_name():
    assert gguf_files._renamed("blk.0.ssm_a", gguf_files._modules(1)) == "blk.0.ssm_a"


def test_a_gguf_file_is_a_model(path):
    assert find_model(path) == path
    assert find_model(str(path)) == path
