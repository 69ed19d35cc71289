// Temperature, top-k and top-p on one real next-token distribution.

const SHOWN = 12;
const LAST_DRAWS = 24;

// Probabilities after temperature, then top-k, then top-p, renormalised. Temperature 0
// is the limit: the most probable token alone.
export function shape(logits, { temperature, topK, topP }) {
  const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a]);
  const largest = logits[order[0]];
  const weights = logits.map((x) => (temperature > 0 ? Math.exp((x - largest) / temperature) : 0));
  if (temperature === 0) weights[order[0]] = 1;
  order.slice(topK).forEach((i) => (weights[i] = 0));
  const sum = () => weights.reduce((a, b) => a + b, 0);
  const enough = topP * sum() * (1 - 1e-6); // 0.5 + 0.5 reaches 1 after rounding
  let mass = 0;
  for (const i of order) {
    if (topP < 1 && mass >= enough) weights[i] = 0;
    mass += weights[i];
  }
  const total = sum();
  return weights.map((w) => w / total);
}

// In nats.
export const entropy = (probs) => probs.reduce((h, p) => h - (p > 0 ? p * Math.log(p) : 0), 0);

// Uniform numbers in [0, 1) from a seed: the generator "mulberry32", public domain.
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function draw(probs, uniform) {
  let rest = uniform;
  let last = 0;
  for (let i = 0; i < probs.length; i++) {
    if (probs[i] === 0) continue;
    last = i;
    rest -= probs[i];
    if (rest < 0) return i;
  }
  return last; // rounding left a rest
}

const percent = (p) => (p === 0 ? "0" : p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);

// 1, 2, 3, ..., 10, 15, 20, 30, 50, 100, ... up to all.
export function steps(n) {
  const round = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30, 50, 70];
  for (let ten = 100; ten < n; ten *= 10) round.push(ten, 2 * ten, 5 * ten);
  return [...round.filter((k) => k < n), n];
}

function render({ model, el }) {
  const tokens = JSON.parse(model.get("tokens"));
  const logits = JSON.parse(model.get("logits"));
  const prompt = model.get("prompt");
  const ranked = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a]);
  const shown = ranked.slice(0, SHOWN);
  const others = ranked.slice(SHOWN);
  const unshaped = shape(logits, { temperature: 1, topK: tokens.length, topP: 1 });
  const root = card(el, "Sampling explorer");

  const sizes = steps(tokens.length);
  const temperature = slider("Temperature", { min: 0, max: 3, step: 0.05, value: model.get("temperature"), show: (t) => t.toFixed(2) }, refresh);
  const topK = slider("Top-k", { min: 0, max: sizes.length - 1, value: sizes.length - 1, show: (i) => (i === sizes.length - 1 ? "all" : String(sizes[i])) }, refresh);
  const topP = slider("Top-p", { min: 0.05, max: 1, step: 0.05, value: 1, show: (p) => p.toFixed(2) }, refresh);
  const seed = make("input", { type: "number", min: 0, max: 999999, step: 1, value: model.get("seed") });

  const numbers = make("p", { className: "sentence", "aria-live": "polite" });
  const drawn = make("p", { className: "pieces drawn", "aria-live": "polite" });
  let probs, random, draws, tally;

  const makeBar = (label) => {
    const bar = make("span", { className: "bar" });
    const mark = make("span", { className: "before" });
    const dot = make("span", { className: "dot" });
    const value = make("span", { className: "value" });
    const row = make("li", {}, make("span", { className: "label" }, label), make("span", { className: "track" }, bar, mark, dot), value);
    return { row, bar, mark, dot, value };
  };
  const bars = shown.map((i, rank) => makeBar(piece(tokens[i], rank)));
  if (others.length) bars.push(makeBar(`${thousands(others.length)} others`));
  const groups = [...shown.map((i) => [i]), ...(others.length ? [others] : [])];
  const massOf = (values) => groups.map((group) => group.reduce((sum, i) => sum + values[i], 0));
  const before = massOf(unshaped);

  function refresh() {
    probs = shape(logits, { temperature: Number(temperature.input.value), topK: sizes[topK.input.value], topP: Number(topP.input.value) });
    restart();
  }

  // Draws belong to one distribution: a change of it, or of the seed, forgets them.
  function restart() {
    random = randomFrom(Number(seed.value));
    draws = [];
    tally = tokens.map(() => 0);
    show();
  }

  function show() {
    const now = massOf(probs);
    const seen = massOf(tally);
    const scale = Math.max(...now, ...before);
    bars.forEach(({ row, bar, mark, dot, value }, b) => {
      bar.style.width = `${(100 * now[b]) / scale}%`;
      mark.style.left = `${(100 * before[b]) / scale}%`;
      dot.hidden = !draws.length;
      dot.style.left = `${Math.min(100, (100 * seen[b]) / Math.max(1, draws.length) / scale)}%`;
      value.textContent = percent(now[b]);
      row.classList.toggle("removed", now[b] === 0);
    });
    const h = entropy(probs);
    const kept = probs.filter((p) => p > 0).length;
    numbers.textContent = `Entropy ${h.toFixed(2)} nats: as uncertain as an even choice among ${Math.exp(h).toFixed(1)} tokens. ${kept === 1 ? "One token" : count(kept, "token")} can be drawn.`;
    drawn.replaceChildren(...draws.slice(-LAST_DRAWS).map((i) => piece(tokens[i], ranked.indexOf(i) < SHOWN ? ranked.indexOf(i) : null)));
    if (!draws.length) drawn.replaceChildren(`Nothing drawn yet from seed ${seed.value || 0}.`);
    else drawn.prepend(`${count(draws.length, "draw")}: ${draws.length > LAST_DRAWS ? "… " : ""}`);
  }

  function sample(n) {
    for (let k = 0; k < n; k++) {
      const i = draw(probs, random());
      draws.push(i);
      tally[i] += 1;
    }
    show();
  }
  seed.addEventListener("input", restart);

  if (prompt) root.append(make("p", { className: "prompt" }, prompt, make("span", { className: "blank" }, "?")));
  root.append(
    make("div", { className: "controls thirds" }, temperature.label, topK.label, topP.label),
    numbers,
    make("ol", { className: "bars" }, ...bars.map(({ row }) => row)),
    make("p", { className: "legend" }, "Bar: probability now. Line: at temperature 1, nothing removed. Dot: share of the draws."),
    make("div", { className: "controls" },
      make("div", { className: "buttons" }, button("Draw one", () => sample(1)), button("Draw 100", () => sample(100)), button("Start again", restart)),
      make("label", { className: "seed" }, make("span", {}, "Seed"), seed)),
    drawn,
  );
  refresh();
}

export default { render };
