// Requests that share the steps of a model: in fixed batches, or continuously. As the
// `Batcher` of llmcourse.serving does it.

const CHUNK = 256; // most tokens of prompts that a step reads
const MOST_REQUESTS = 16;
const LIMITS = [["arrival", 0, 100], ["prompt", 1, 2000], ["answer", 1, 60]];
const PLANS = [["fixed", "Fixed batches"], ["continuous", "Continuous batching"]];

// Lines "arrival prompt answer" as requests, or what is wrong with them.
export function parsed(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!lines.length) return { fault: "There is no request: write one per line, such as “0 20 7”." };
  if (lines.length > MOST_REQUESTS) return { fault: `At most ${MOST_REQUESTS} requests fit here; these are ${thousands(lines.length)}.` };
  const requests = [];
  for (const [i, line] of lines.entries()) {
    const numbers = line.split(/[\s,;]+/).map(Number);
    const fits = numbers.length === 3 && LIMITS.every(([, low, high], k) => Number.isInteger(numbers[k]) && numbers[k] >= low && numbers[k] <= high);
    if (!fits) {
      const wanted = LIMITS.map(([name, low, high]) => `${name} from ${low} to ${thousands(high)}`).join(", ");
      return { fault: `Line ${i + 1} is not a request. It needs three whole numbers: ${wanted}.` };
    }
    requests.push({ name: String.fromCharCode(65 + i), arrival: numbers[0], prompt: numbers[1], answer: numbers[2] });
  }
  return { requests };
}

// What each slot does in each step, and when each request gets its first and last token.
// In each step free slots are given away, prompts are read, at most a chunk in all and
// first where least is left, and all whose prompts were read before write a token.
export function plan(requests, slots, kind) {
  const coming = requests.map((request, i) => ({ ...request, i, read: 0, written: 0 })).sort((a, b) => a.arrival - b.arrival);
  const waiting = [];
  let admitted = 0;
  const running = Array(slots).fill(null);
  const rows = Array.from({ length: slots }, () => []); // of each slot: [request or null, what it does]
  const times = requests.map(() => ({}));
  for (let step = 0; coming.length || waiting.length || running.some(Boolean); step++) {
    while (coming.length && coming[0].arrival <= step) waiting.push(coming.shift());
    if (kind === "continuous" || running.every((one) => !one)) {
      for (let slot = 0; slot < slots; slot++) {
        if (running[slot] || !waiting.length) continue;
        running[slot] = waiting.shift();
        running[slot].admitted = admitted++;
      }
    }
    const writing = running.filter((one) => one?.written);
    const unread = running.filter((one) => one && one.read < one.prompt).sort((a, b) => a.prompt - a.read - (b.prompt - b.read) || a.admitted - b.admitted);
    const reading = new Set();
    let read = 0;
    for (const one of unread) {
      if (read >= CHUNK) break;
      const part = Math.min(CHUNK, one.prompt - one.read);
      one.read += part;
      read += part;
      reading.add(one);
    }
    for (const one of [...writing, ...[...reading].filter((one) => one.read === one.prompt)]) {
      if (one.written === one.answer) continue; // finished, in a fixed batch
      one.written += 1;
      if (one.written === 1) times[one.i].first = step + 1;
      if (one.written === one.answer) times[one.i].last = step + 1;
    }
    running.forEach((one, slot) => {
      const idle = !one || times[one.i].last <= step;
      rows[slot].push([idle ? null : one.i, idle ? "idle" : reading.has(one) ? "reads" : one.written ? "writes" : "waits"]);
    });
    const done = (one) => one && one.written === one.answer;
    if (kind === "continuous" || running.every((one) => !one || done(one))) {
      running.forEach((one, slot) => {
        if (done(one)) running[slot] = null;
      });
    }
  }
  return { rows, times };
}

// Means over the requests, in steps, and the share of the slots' steps that are used.
export function summary(requests, { rows, times }) {
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    steps: rows[0].length,
    first: mean(times.map(({ first }, i) => first - requests[i].arrival)),
    last: mean(times.map(({ last }, i) => last - requests[i].arrival)),
    used: mean(rows.flat().map(([, does]) => Number(does !== "idle"))),
  };
}

// Runs of equal steps: [request, what it does, first step, number of steps].
export function runs(row) {
  const found = [];
  row.forEach(([request, does], step) => {
    const last = found.at(-1);
    if (last && last[0] === request && last[1] === does) last[3] += 1;
    else found.push([request, does, step, 1]);
  });
  return found;
}

function render({ model, el }) {
  const examples = model.get("examples"); // [{ name, requests: [[arrival, prompt, answer], ...] }, ...]
  const root = card(el, "Batching explorer");
  let requests = [];

  const example = choice("Examples", examples.map(({ name }, i) => [i, name]), () => {
    own.area.value = examples[example.list.value].requests.map((numbers) => numbers.join(" ")).join("\n");
    read();
  });
  const own = textField("Requests: the step of the arrival, tokens of the prompt, tokens of the answer", { value: "", rows: 6 }, () => {
    example.list.selectedIndex = -1; // so that the same can be chosen again
    read();
  });
  const slots = slider("Slots", { min: 1, max: 8, value: 2 }, show);
  const shown = PLANS.map(([kind, title]) => {
    const numbers = make("span", { className: "numbers" });
    const timeline = make("div", { className: "timeline", role: "img" });
    const finished = make("p", { className: "legend" });
    return { kind, numbers, timeline, finished, element: panel(title, numbers, timeline, finished) };
  });
  const verdict = make("p", { className: "sentence", "aria-live": "polite" });

  function read() {
    const result = parsed(own.area.value);
    own.tell(result.fault);
    if (result.fault) return;
    requests = result.requests;
    show();
  }

  function show() {
    const plans = PLANS.map(([kind]) => plan(requests, Number(slots.input.value), kind));
    const longest = Math.max(...plans.map(({ rows }) => rows[0].length));
    const results = plans.map((each) => summary(requests, each));
    shown.forEach(({ numbers, timeline, finished }, p) => {
      const { steps, first, last, used } = results[p];
      numbers.textContent = `${count(steps, "step")}, ${Math.round(100 * used)} % of the slots used`;
      timeline.replaceChildren(...plans[p].rows.map((row) => {
        const line = make("div", { className: "slot" });
        for (const [request, does, start, n] of runs(row)) {
          const segment = make("span", { className: `segment ${does}` }, request === null ? "" : requests[request].name);
          if (request !== null) segment.dataset.hue = request % 6;
          segment.style.left = `${(100 * start) / longest}%`;
          segment.style.width = `${(100 * n) / longest}%`;
          line.append(segment);
        }
        return line;
      }));
      const ends = plans[p].times.map((time, i) => `${requests[i].name} ${time.last}`).join(", ");
      timeline.setAttribute("aria-label", `What each slot does, step by step. Finished in step: ${ends}.`);
      finished.textContent = `Finished in step: ${ends}. On average a request waits ${first.toFixed(1)} steps for its first token, and ${last.toFixed(1)} for its last.`;
    });
    const [fixed, continuous] = results;
    verdict.textContent = fixed.steps === continuous.steps
      ? "Both plans take the same number of steps."
      : `Continuous batching takes ${count(continuous.steps, "step")} in place of ${fixed.steps}.`;
  }

  const key = (does, meaning) => make("span", { className: "entry" }, make("span", { className: `segment ${does}`, "data-hue": 0 }), meaning);
  root.append(
    make("div", { className: "controls" }, example.label, slots.label),
    own.label,
    own.fault,
    verdict,
    ...shown.map(({ element }) => element),
    make("p", { className: "legend keys" }, key("reads", "reads its prompt"), key("waits", "waits for others to be read"), key("writes", "writes"), key("idle", "empty slot")),
    make("p", { className: "legend" }, `A step reads at most about ${CHUNK} prompt tokens, the shortest prompt first, and writes one token for each request whose prompt has been read. Every step counts as one, whatever it does.`));
  example.list.dispatchEvent(new Event("change"));
}

export default { render };
