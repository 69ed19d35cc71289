"""llama.cpp, run in Chromium by `@wllama/wllama`, writes what we would write.

`npm pack @wllama/wllama` fetches 3.5 MB; LLMCOURSE_WLLAMA names the unpacked `package`.
"""

import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from tokenization_cases import sentencepiece

from llmcourse.finetuning.chat import Message, encode_prompt
from llmcourse.model.folders import load_pretrained
from llmcourse.model.gguf_files import write_gguf
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.packing import text_borders

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gguf", reason='needs pip install "llmcourse[interop]"')

N_TOKENS = 60
STARTS = (
    *("Once upon a time", "The old hen", "One day,", "Tom", "In the forest"),
    *("A girl called Mia", "It was raining", "The king", "Her brother", "Nobody knew"),
)
ORDERS = (
    *("Tell me a story about a boy called Tom.", "Write a story about a hen."),
    *("Who are you?", "What is the capital of France?", "Thank you!"),
)
ASK = """async ([file, prompts, chat, max_tokens]) => {
  const { Wllama, LoggerWithoutDebug } = await import("./esm/index.js");
  const paths = { default: "./esm/wasm/wllama.wasm" };
  const wllama = new Wllama(paths, { logger: LoggerWithoutDebug });
  wllama.setCompat(null);
  await wllama.loadModel([await (await fetch(file)).blob()], {
    n_ctx: 512, n_threads: 1, n_gpu_layers: 0, warmup: false,
    cache_type_k: "f32", cache_type_v: "f32",
  });
  const written = [];
  for (const prompt of prompts) {
    const options = { max_tokens, temperature: 0, top_k: 1 };
    if (chat) {
      const messages = [{ role: "user", content: prompt }];
      const reply = await wllama.createChatCompletion({ messages, ...options });
      written.push(reply.choices[0].message.content);
    } else {
      const reply = await wllama.createCompletion({ prompt, ...options });
      written.push(reply.choices[0].text);
    }
  }
  await wllama.exit();
  return written;
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the package's scripts, which a browser may read."""
    package = Path(os.environ.get("LLMCOURSE_WLLAMA", "-"))
    if not (package / "esm" / "index.js").is_file():
        pytest.skip("LLMCOURSE_WLLAMA names no unpacked `npm pack @wllama/wllama`")
    if not shutil.which("chromium"):
        pytest.skip("no Chromium is installed")
    folder = tmp_path_factory.mktemp("wllama")
    shutil.copytree(package / "esm", folder / "esm")
    (folder / "index.html").write_text("<!doctype html><title>llama.cpp</title>")
    return folder


def by_llama_cpp(folder, name, prompts, *, chat=False, n_tokens=N_TOKENS):
    """Return what llama.cpp writes after each prompt, greedily."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    def drive():
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page()
            page.set_default_timeout(300_000)
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
            return page.evaluate(ASK, [name, list(prompts), chat, n_tokens])

    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:  # in a thread of its own, for Playwright leaves an event loop behind
            return ThreadPoolExecutor(1).submit(drive).result()
        finally:
            server.shutdown()


def export(folder, model, kind):
    path = folder / f"{model}-{kind}.gguf"
    write_gguf(*load_pretrained(model), path, kind)
    return path


@torch.no_grad()
def behind_our_best(model, tokenizer, prompt, text, *, chat):
    """Return by how many nats a text's tokens are less probable than our best ones.

    A text that was not cut off must also end where ours would. Where two tokens are
    equally likely, rounding decides which one is written.
    """
    start, ends = text_borders(tokenizer)
    ids = [*start, *tokenizer.encode(prompt)]
    if chat:
        ids = encode_prompt([Message("user", prompt)], tokenizer)
    written = tokenizer.encode(text)
    log_probs = model(torch.tensor([[*ids, *written]]))[0].log_softmax(-1)
    rows = log_probs[len(ids) - 1 :]
    chosen = [*rows[range(len(written)), written]]
    if len(written) < N_TOKENS:
        chosen.append(rows[-1, [*ends]].max())
    best = rows.amax(dim=-1)[: len(chosen)]
    return (best - torch.stack(chosen)).max().item()


@pytest.mark.parametrize(("kind", "most"), [("F16", 0.02), ("Q8_0", 0.3)])
@pytest.mark.parametrize("name", ["base-llm", "base-llm-small", "instruct-llm"])
def test_each_token_is_our_best_or_nearly_so(folder, name, kind, most):
    """With Q8_0, it rounds what it multiplies with to 8 bits, which we do not.

    The largest distances were 0.004 and 0.16 nats when this was written.
    """
    chat = name == "instruct-llm"
    prompts = ORDERS if chat else STARTS
    path = export(folder, name, kind)
    model, tokenizer = load_pretrained(path)
    texts = by_llama_cpp(folder, path.name, prompts, chat=chat)
    read = partial(behind_our_best, model, tokenizer, chat=chat)
    assert max(map(read, prompts, texts)) < most


def test_it_splits_text_as_our_sentencepiece_does(folder):
    """With random weights, the next token depends on all ids of the prompt."""
    tokenizer = sentencepiece(["low lower lowest new newer newest"] * 3)
    n_ids, first = tokenizer.vocab_size, 3 + 256  # after special tokens and bytes
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=n_ids, tied_embeddings=False))
    with torch.no_grad():
        model.unembedding.weight[:first] = 0
        model.unembedding.weight[first:].normal_()
    write_gguf(model.eval(), tokenizer, folder / "pieces.gguf", "F32")
    chance = random.Random(0)
    prompts = ["".join(chance.choices("lowernst  é🦊", k=n)) for n in range(1, 33)]
    wanted = []
    for prompt in prompts:
        ids = torch.tensor([[1, *tokenizer.encode(prompt)]])
        wanted.append(tokenizer.pieces[int(model(ids)[0, -1].argmax())].decode())
    assert len({*wanted}) > 10
    assert by_llama_cpp(folder, "pieces.gguf", prompts, n_tokens=1) == wanted
