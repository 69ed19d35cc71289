"""llama.cpp, run in Chromium by `@wllama/wllama`, writes what we write.

`npm pack @wllama/wllama` fetches 3.5 MB; LLMCOURSE_WLLAMA names the unpacked `package`.
"""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from llmcourse.finetuning.answering import answer_batch
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.gguf_files import write_gguf
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


def by_llama_cpp(folder, name, prompts, *, chat=False):
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
            return page.evaluate(ASK, [name, list(prompts), chat, N_TOKENS])

    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:  # in a thread of its own, for Playwright leaves an event loop behind
            return ThreadPoolExecutor(1).submit(drive).result()
        finally:
            server.shutdown()


def by_us(model, tokenizer, prompt):
    """Return what we write after a prompt, greedily."""
    start, ends = text_borders(tokenizer)
    ids = torch.tensor([*start, *tokenizer.encode(prompt)])
    written = generate(model, ids, N_TOKENS, sampling=GREEDY, stop=ends)
    return tokenizer.decode([i for i in written[len(ids) :].tolist() if i not in ends])


def export(folder, model, kind):
    path = folder / f"{model}-{kind}.gguf"
    write_gguf(*load_pretrained(model), path, kind)
    return path


def test_a_base_model_in_f16_writes_our_words(folder):
    path = export(folder, "base-llm", "F16")
    model, tokenizer = load_pretrained(path)
    ours = [by_us(model, tokenizer, start) for start in STARTS]
    assert by_llama_cpp(folder, path.name, STARTS) == ours


def test_a_chat_in_f16_has_our_answers(folder):
    path = export(folder, "instruct-llm", "F16")
    model, tokenizer = load_pretrained(path)
    ours = answer_batch(
        model, tokenizer, ORDERS, max_new_tokens=[N_TOKENS] * len(ORDERS)
    )
    theirs = by_llama_cpp(folder, path.name, ORDERS, chat=True)
    assert theirs == ours


@pytest.mark.parametrize(("name", "least"), [("base-llm-small", 4), ("base-llm", 1)])
def test_in_q8_0_some_of_ten_texts_are_ours_to_the_end(folder, name, least):
    """It rounds what it multiplies with to 8 bits as well, which we do not."""
    path = export(folder, name, "Q8_0")
    model, tokenizer = load_pretrained(path)
    ours = [by_us(model, tokenizer, start) for start in STARTS]
    theirs = by_llama_cpp(folder, path.name, STARTS)
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= least
