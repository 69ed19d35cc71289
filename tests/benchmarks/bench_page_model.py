"""How fast `base-llm` writes in a page of the site, and how long the page stands still.

    jupyter-book build .
    python tests/benchmarks/bench_page_model.py [--texts 3] [--slower 4] [--wllama DIR]

Chromium opens the first page of the built site and lets the model write; then again
with the processor slowed down by the DevTools protocol, as if it were a phone's. That
slows the page, but not the worker in which the model runs. Where a browser has no
worker, the model runs in the page itself, and is slowed in full.

Tokens per second are also told of a core's own time, which page and worker took of it:
a machine with nothing else to do comes near to that. The longest task is that of the
page's main thread while the model writes, in ms of a core; during it the page answers
nobody.

`--wllama` names the unpacked `package` of `npm pack @wllama/wllama`: then the same
model also writes in llama.cpp, as a GGUF file in Q8_0, and what both have to fetch is
told.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

from llmcourse.model.folders import load_pretrained
from llmcourse.model.gguf_files import write_gguf

sys.path.insert(0, str(Path(__file__).parents[1] / "site"))
from server import HTML, serve  # type: ignore[import-not-found]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGE = "book/index.html"
TRACED = ("disabled-by-default-devtools.timeline", "__metadata")
PAGES_THREAD, WORKERS_THREAD = "CrRendererMain", "DedicatedWorker thread"

# One text from a seed: tokens, and the milliseconds they took.
WRITE = """async (seed) => {
  const root = document.querySelector(".writing");
  const field = root.querySelector("input[type=number]");
  const area = root.querySelector("textarea");
  const set = (input, value) => {
    input.value = value;
    input.dispatchEvent(new Event("input"));
  };
  const said = (wanted) => new Promise((resolve) => {
    const look = () => wanted.exec(root.querySelector("[role=status]").textContent);
    const observer = new MutationObserver(() => {
      if (look()) resolve(look());
    });
    observer.observe(root, { childList: true, characterData: true, subtree: true });
  });
  set(area, "Once there was");
  await new Promise((go) => setTimeout(go, 1000));
  set(field, seed);
  await new Promise((go) => setTimeout(go, 1000));
  const began = performance.now();
  const done = said(/^(\\d+) tokens? written/);
  root.querySelector("button").click();
  const tokens = Number((await done)[1]);
  return [tokens, performance.now() - began];
}"""


# The same by llama.cpp; its scripts and the model are in the folder that is served.
BY_LLAMA_CPP = """async (seeds) => {
  const { Wllama, LoggerWithoutDebug } = await import("./esm/index.js");
  const paths = { default: "./esm/wasm/wllama.wasm" };
  const wllama = new Wllama(paths, { logger: LoggerWithoutDebug });
  const options = { n_ctx: 512, n_threads: 1, n_gpu_layers: 0 };
  await wllama.loadModel([await (await fetch("model.gguf")).blob()], options);
  const found = [];
  for (const seed of seeds) {
    const began = performance.now();
    const told = await wllama.createCompletion({
      prompt: "Once there was", max_tokens: 192, temperature: 1, seed,
    });
    found.push([told.usage.completion_tokens, performance.now() - began]);
  }
  await wllama.exit();
  return found;
}"""


class Written(NamedTuple):
    """What one text took."""

    tokens: int
    ms: float
    core_ms: float  # of all tasks of page and worker
    longest: float  # task of the page, in ms of a core


def opened(browser: Browser, site: str, *, worker: bool) -> Page:
    """Return the page with the model fetched, and its scripts warm."""
    page = browser.new_page()
    page.set_default_timeout(300_000)
    if not worker:
        page.add_init_script("delete window.Worker")
    page.goto(site + PAGE)
    page.locator(".writing").first.get_by_role("button", name="Write").click()
    page.locator(".writing [role=status]", has_text="written").first.wait_for()
    return page


def measured(browser: Browser, page: Page, slower: int, seed: int) -> Written:
    """Return a text of the model, on a processor so many times as slow."""
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    browser.start_tracing(page=page, categories=list(TRACED))
    tokens, ms = page.evaluate(WRITE, seed)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["name"] == "thread_name"
    }
    tasks: dict[str, list[float]] = {PAGES_THREAD: [0.0], WORKERS_THREAD: []}
    for event in events:
        thread = names.get((event["pid"], event["tid"]))
        if event["name"] == "RunTask" and thread in tasks:
            tasks[thread].append(event.get("tdur", 0) / 1000)
    core_ms = sum(map(sum, tasks.values()))
    return Written(tokens, ms, core_ms, max(tasks[PAGES_THREAD]))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Print no line for each request."""


def llama_cpp(browser: Browser, package: Path, seeds: list[int]) -> tuple[float, int]:
    """Return tokens per second of llama.cpp, and the bytes that it fetches."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(package / "esm", folder / "esm")
        (folder / "index.html").write_text("<!doctype html><title>llama.cpp</title>")
        write_gguf(*load_pretrained("base-llm"), folder / "model.gguf", "Q8_0")
        fetched = ("esm/index.js", "esm/wasm/wllama.wasm", "model.gguf")
        size = sum((folder / part).stat().st_size for part in fetched)
        handler = partial(_Quiet, directory=name)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page = browser.new_page()
            page.set_default_timeout(300_000)
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
            texts = page.evaluate(BY_LLAMA_CPP, seeds)
            server.shutdown()
    return median(1000 * tokens / ms for tokens, ms in texts), size


def ours_fetched(browser: Browser, site: str) -> int:
    """Return the bytes of scripts and weights that our engine fetches."""
    page, sizes = browser.new_page(), []
    page.on("response", lambda answer: sizes.append((answer.url, len(answer.body()))))
    page.set_default_timeout(300_000)
    page.goto(site + PAGE)
    before = len(sizes)
    page.locator(".writing").first.get_by_role("button", name="Write").click()
    page.locator(".writing [role=status]", has_text="written").first.wait_for()
    return sum(size for _, size in sizes[before:])


def rounded(number: float) -> str:
    """Return a number with two digits at least."""
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def machine(browser: Browser) -> str:
    """Return on what this was measured, and how busy it was."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    return (
        f"Chromium {browser.version}, {cores} cores, load {load:.0f}, "
        f"{time.strftime('%Y-%m-%d')}"
    )


def main() -> None:
    """Print a line for each way to run the model and each speed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=3, help="of each; default: 3")
    parser.add_argument("--slower", type=int, default=4, help="default: 4 times")
    parser.add_argument("--wllama", type=Path, help="with llama.cpp for browsers")
    chosen = parser.parse_args()
    if not (HTML / PAGE).is_file():
        parser.error("the site is not built: run jupyter-book build .")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    executable = os.environ.get("CHROMIUM", found)
    print("| The model runs | Processor | Tokens/s | of a core | Longest task, ms |")
    print("|---|---|---|---|---|")
    with serve() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"]
        )
        for worker in (True, False):
            page = opened(browser, site, worker=worker)
            for slower in (1, chosen.slower):
                texts = [
                    measured(browser, page, slower, seed)
                    for seed in range(chosen.texts)
                ]
                place = "in a worker" if worker else "in the page itself"
                processor = "as it is" if slower == 1 else f"{slower} times as slow"
                speed = median(1000 * text.tokens / text.ms for text in texts)
                of_a_core = median(1000 * text.tokens / text.core_ms for text in texts)
                task = max(text.longest for text in texts)
                row = (place, processor, *map(rounded, (speed, of_a_core, task)))
                print(f"| {' | '.join(row)} |", flush=True)
            page.close()
        if chosen.wllama:
            speed, size = llama_cpp(browser, chosen.wllama, [*range(chosen.texts)])
            print(
                f"\nllama.cpp: {rounded(speed)} tokens/s, {size / 1e6:.1f} MB fetched"
            )
            print(f"ours: {ours_fetched(browser, site) / 1e6:.1f} MB fetched")
        print(f"\n{machine(browser)}")


if __name__ == "__main__":
    main()
