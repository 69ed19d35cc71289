"""Put the service under load, and let it run on, beside `transformers` one at a time.

    python tests/benchmarks/bench_serving.py [REQUESTS OF THE SOAK]

`llmcourse serve --model instruct-llm` runs as a process of its own, with its defaults:
16 requests at a time, 64 that wait. Everything goes over real connections.

- *load*: 1, 4, 16 and 64 callers, each of whom asks again as soon as it is answered.
  Half of what is asked are questions about a tale, half are tales to be written, all
  as conversations, greedily, with at most 96 new tokens
- *transformers*: `LlamaForCausalLM.generate`, the same weights, the same prompts and
  the same limits, one after the other, with its key-value cache and no HTTP at all. The
  script ends with an error if any of the service's answers is not, word for word, the
  one that is written there
- *soak*: requests of 16 callers: conversations and texts, whole and streamed,
  bad requests of five kinds, and callers who vanish, in the middle of an answer, of a
  stream, or of what they send. Every answer must have the status that it should have,
  and the same request the same answer from beginning to end

Throughput is in tokens written per second, once of the clock and once of the processor
time that the service's process, or `generate`, took: other work on the machine changes
the first more than the second. Waiting is in percentiles of the seconds from asking to
the whole answer. One thread computes on either side. Memory is the service's resident
set, read from `/proc`, so this needs Linux.

On one of two x86-64 cores (AMD EPYC), which service, callers and `transformers` share,
Python 3.11, torch 2.13, transformers 5.24, uvicorn 0.54:

    memory in MiB: 400 at the start
(measured with an `instruct-llm` of three layers)

    tokens per second       clock  ratio  processor  ratio    p50    p95    p99
      transformers            625   1.00        634   1.00
      service, callers  1     350   0.56        358   0.56   0.08   0.28   0.30
      service, callers  4     896   1.43        932   1.47   0.09   0.44   0.45
      service, callers 16    1529   2.45       1615   2.55   0.39   1.00   1.03
      service, callers 64    1540   2.47       1635   2.58   1.85   2.78   2.81
    soak, memory in MiB: 427 before
      432 after 600 requests
      433 after 1200 requests
      433 after 1800 requests
      433 after 2400 requests
      1000 × 200, 300 × 400, 100 × 404, 100 × 413, 600 × stream, 300 × vanished

From 16 callers on the slots are full, throughput stays and only waiting grows. A caller
who is alone gets less than from `generate`: so that an answer is the same to the last
bit whoever else is there, each step computes 16 rows, and 15 of them are for nobody.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from transformers import LlamaForCausalLM
from transformers.utils import logging

from llmcourse.finetuning.chat import END_OF_TURN, Message, encode_prompt
from llmcourse.finetuning.instructions import QUESTIONS, examples
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.serving.load_test import load_test

NAME = "instruct-llm"
CALLERS = (1, 4, 16, 64)
N_LOAD = 192  # requests of each load
MOST_NEW = 96  # tokens of each answer
N_SOAK = 2400  # requests
KINDS = 24  # of requests in the soak
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def prompts() -> list[str]:
    """Return what is asked: questions about tales, and tales to be written."""
    asked = examples(24, seed=7, kinds=QUESTIONS, held_out=True)
    ordered = examples(24, seed=8, kinds=("write",), held_out=True)
    pairs = zip(asked, ordered, strict=True)
    return [example.prompt for pair in pairs for example in pair]


@contextmanager
def service() -> Iterator[tuple[str, int]]:
    """Let the service run; give its address and the number of its process."""
    command = [sys.executable, "-m", "llmcourse", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", NAME],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"},
    )
    assert process.stderr is not None
    try:
        url = process.stderr.readline().split()[-1]
        while True:
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        yield url, process.pid
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Return the resident set of a process, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def chat_body(prompt: str, **more: Any) -> dict[str, Any]:
    """Return a request for the likeliest answer to a prompt."""
    talk = [{"role": "user", "content": prompt}]
    return {"model": NAME, "messages": talk, "temperature": 0} | more


def their_answers(asked: list[str]) -> tuple[list[str], float, float, int]:
    """Return what `transformers` writes, its seconds, of both kinds, and tokens."""
    _, tokenizer = load_pretrained(NAME)
    theirs = LlamaForCausalLM.from_pretrained(find_model(NAME), dtype=torch.float32)
    stop = [tokenizer.special_tokens[END_OF_TURN], 0]
    texts, n_tokens = [], 0

    def write(ids: list[int]) -> list[int]:
        found = theirs.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=MOST_NEW,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=0,
        )
        new: list[int] = found[0, len(ids) :].tolist()
        return new[:-1] if new[-1] in stop else new

    encoded = [encode_prompt([Message("user", prompt)], tokenizer) for prompt in asked]
    write(encoded[0])  # the first one is slower
    start, worked = time.perf_counter(), time.process_time()
    for ids in encoded:
        new = write(ids)
        n_tokens += len(new)
        texts.append(tokenizer.decode(new))
    taken = time.perf_counter() - start, time.process_time() - worked
    return texts, *taken, n_tokens


def our_answers(url: str, asked: list[str]) -> list[str]:
    """Return what the service answers to prompts, one after the other."""
    texts = []
    with httpx.Client(base_url=url, timeout=120) as http:
        for prompt in asked:
            found = http.post(CHAT, json=chat_body(prompt, max_tokens=MOST_NEW))
            texts.append(found.json()["choices"][0]["message"]["content"])
    return texts


def compare_load(url: str, pid: int) -> None:
    """Print throughput and waiting by the number of callers, and those of theirs."""
    asked = prompts()
    ours = our_answers(url, asked)
    texts, seconds, worked, n_tokens = their_answers(asked)
    if ours != texts:
        raise SystemExit("both must write the same greedily, but they differ")
    clock, processor = n_tokens / seconds, n_tokens / worked
    print(
        "tokens per second       clock  ratio  processor  ratio    p50    p95    p99\n"
        f"  transformers         {clock:6.0f}   1.00     {processor:6.0f}   1.00",
        flush=True,
    )

    def body(number: int) -> dict[str, Any]:
        return chat_body(asked[number % len(asked)], max_tokens=MOST_NEW)

    for n_callers in CALLERS:
        start = processor_seconds(pid)
        load = asyncio.run(load_test(url, body, n_callers, N_LOAD, path=CHAT))
        rate = load.n_tokens / (processor_seconds(pid) - start)
        waits = "".join(f" {load.percentile(p):6.2f}" for p in (50, 95, 99))
        print(
            f"  service, callers {n_callers:2}  {load.tokens_per_second:6.0f}"
            f"  {load.tokens_per_second / clock:5.2f}     {rate:6.0f}"
            f"  {rate / processor:5.2f}{waits}",
            flush=True,
        )


class Soak:
    """Requests of many kinds, each with the status that its answer should have."""

    def __init__(self, url: str) -> None:
        self.url, self.asked = url, prompts()
        self.statuses: Counter[int | str] = Counter()
        self.found: dict[int, Any] = {}

    async def request(self, http: httpx.AsyncClient, number: int) -> None:
        """Make a request; the number says which."""
        which = number % KINDS
        prompt = self.asked[which]
        chat = chat_body(prompt, max_tokens=12)
        text = {"model": NAME, "prompt": "Once", "max_tokens": 12, "seed": which}
        bad: dict[int, tuple[str, Any, int]] = {
            0: (TEXT, b'{"model": ', 400),
            1: (TEXT, text | {"model": "gpt-4"}, 404),
            2: (CHAT, chat | {"max_tokens": -5}, 400),
            3: (CHAT, chat_body("x " * 3000), 400),
            4: (TEXT, b"x" * 2_000_000, 413),
        }
        if which in bad:
            await self.whole(http, which, *bad[which])
        elif which == 5:
            await self.vanish_while_sending()
        elif which == 6:
            await self.vanish_while_waiting(http, chat | {"max_tokens": 200})
        elif which == 7:
            await self.vanish_midstream(http, chat | {"max_tokens": 200})
        elif which % 2:
            path, body = (CHAT, chat) if which % 4 == 1 else (TEXT, text)
            await self.streamed(http, which, path, body)
        else:
            path, body = (CHAT, chat) if which % 4 == 0 else (TEXT, text)
            await self.whole(http, which, path, body, 200)

    async def whole(
        self, http: httpx.AsyncClient, which: int, path: str, body: Any, wanted: int
    ) -> None:
        """Ask, and read the answer at once."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = await http.post(path, **sent)
        if answer.status_code != wanted:
            raise SystemExit(f"{wanted} expected, got {answer.status_code} {answer}")
        found = answer.json()
        self.same(which, [found.get(key) for key in ("choices", "data", "error")])
        self.statuses[wanted] += 1

    async def streamed(
        self, http: httpx.AsyncClient, which: int, path: str, body: Any
    ) -> None:
        """Ask, and read the answer piece by piece."""
        async with http.stream("POST", path, json=body | {"stream": True}) as answer:
            lines = [line async for line in answer.aiter_lines() if line]
        if lines[-1] != "data: [DONE]":
            raise SystemExit(f"a stream ended with {lines[-1]!r}")
        events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        self.same(which, [event["choices"] for event in events])
        self.statuses["stream"] += 1

    async def vanish_midstream(self, http: httpx.AsyncClient, body: Any) -> None:
        """Go away after the first line of a stream."""
        async with http.stream("POST", CHAT, json=body | {"stream": True}) as answer:
            await anext(answer.aiter_lines())
        self.statuses["vanished"] += 1

    async def vanish_while_waiting(self, http: httpx.AsyncClient, body: Any) -> None:
        """Go away before there is an answer."""
        try:
            await http.post(CHAT, json=body, timeout=0.05)
        except httpx.TimeoutException:
            self.statuses["vanished"] += 1

    async def vanish_while_sending(self) -> None:
        """Go away in the middle of a request."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {TEXT} HTTP/1.1\r\nHost: x\r\n".encode())
        writer.write(b'Content-Length: 99\r\n\r\n{"model":')
        await writer.drain()
        writer.close()
        self.statuses["vanished"] += 1

    def same(self, which: int, found: Any) -> None:
        """Check that a request gets the answer that it got the first time."""
        if self.found.setdefault(which, found) != found:
            raise SystemExit(f"request {which} has got two different answers")

    async def run(self, n: int, n_callers: int = 16) -> None:
        """Make n requests."""
        numbers = iter(range(n))
        limits = httpx.Limits(max_connections=2 * n_callers)
        async with httpx.AsyncClient(
            base_url=self.url, limits=limits, timeout=120
        ) as http:

            async def caller() -> None:
                for number in numbers:
                    await self.request(http, number)

            await asyncio.gather(*(caller() for _ in range(n_callers)))


def soak(url: str, pid: int, n: int) -> None:
    """Print the memory of the service before, during and after many requests."""
    soaked = Soak(url)
    print(f"soak, memory in MiB: {memory(pid):.0f} before", flush=True)
    for quarter in range(1, 5):
        asyncio.run(soaked.run(n // 4))
        print(f"  {memory(pid):.0f} after {quarter * (n // 4)} requests", flush=True)
    numbers = httpx.get(f"{url}/health").json()
    for name in ("running", "waiting"):
        if numbers[name]:
            raise SystemExit(f"a request is still {name}")
    told = ", ".join(
        f"{n} × {what}"
        for what, n in sorted(soaked.statuses.items(), key=lambda pair: str(pair[0]))
    )
    print(f"  {told}")


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    n_soak = int(sys.argv[1]) if len(sys.argv) > 1 else N_SOAK
    with service() as (url, pid):
        print(f"memory in MiB: {memory(pid):.0f} at the start", flush=True)
        compare_load(url, pid)
        soak(url, pid, n_soak)


if __name__ == "__main__":
    main()
