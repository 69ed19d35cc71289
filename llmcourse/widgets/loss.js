// A training's loss on its way down, and what the model wrote on the way.

const HIGH = 260; // of the chart, in its own units
const WIDE = 600;
const NARROW = 350; // on a phone, where the same letters need a larger share
const LEFT = 34; // room for the numbers beside it
const RIGHT = 74; // and for the names of the levels
const TOP = 26;
const BOTTOM = 36;
const LABEL = 15; // height of a line of text

// Round steps from 0: at most `most` of them reach the top, and one at least.
export function ticks(top, most = 5) {
  const raw = top / most;
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * ten).find((s) => s >= raw && s <= top) ?? 2 * ten;
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step);
}

// Heights for labels from top to bottom, moved down until none covers another.
export function apart(heights, least = LABEL) {
  let last = -Infinity;
  return heights.map((y) => (last = Math.max(y, last + least)));
}

// How far a loss has come from the highest level to the lowest, from 0 to 1.
export const progress = (loss, start, floor) => (start - loss) / (start - floor);

// "832,000 tokens", "no token": what has been read.
const read = (n) => (n === 0 ? "Untrained" : `After ${count(n, "token")}`);

// Between which two levels a loss lies, as levels go down.
export function between(loss, levels) {
  const below = levels.findIndex((level) => level.loss <= loss);
  if (below === 0) return `above ${levels[0].name}`;
  if (below < 0) return `below ${levels.at(-1).name}`;
  return `between ${levels[below - 1].name} and ${levels[below].name}`;
}

function render({ model, el }) {
  const moments = model.get("moments"); // [{tokens, loss, text}, ...]
  const levels = model.get("levels"); // [{name, loss}, ...], the highest first
  const curve = model.get("curve"); // [[tokens, loss], ...]
  const root = card(el, "Loss explorer");
  root.classList.add("losses");

  const last = Math.max(moments.at(-1).tokens, ...curve.map(([n]) => n));
  const top = Math.max(levels[0].loss, ...moments.map((each) => each.loss), ...curve.map(([, loss]) => loss)) * 1.04;
  const text = (at, up, content, className = "") => svg("text", { x: at, y: up, class: className }, content);
  const y = (loss) => HIGH - BOTTOM - (loss / top) * (HIGH - TOP - BOTTOM);
  const rule = svg("line", { y1: TOP, y2: HIGH - BOTTOM, class: "rule" });
  const dot = svg("circle", { r: 6, class: "marker" });
  const chart = svg("svg", { class: "chart", role: "img", "aria-label": "Loss in nats per token over the tokens seen, with the levels to compare it with" });
  let wide, x;

  function draw(width) {
    wide = width;
    const end = wide - RIGHT;
    x = (n) => LEFT + (n / last) * (end - LEFT);
    const path = (points) => points.map(([n, loss], i) => `${i ? "L" : "M"}${x(n).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
    const across = (loss, name) => svg("line", { x1: LEFT, x2: end, y1: y(loss), y2: y(loss), class: name });
    const heights = apart(levels.map(({ loss }) => y(loss)));
    chart.setAttribute("viewBox", `0 0 ${wide} ${HIGH}`);
    chart.replaceChildren(
      ...ticks(top).flatMap((loss) => [across(loss, "grid"), text(LEFT - 6, y(loss) + 4, String(Number(loss.toPrecision(6))), "down")]),
      ...ticks(last, wide === WIDE ? 4 : 2).map((n) => text(x(n), HIGH - BOTTOM + 17, thousands(n), "across")),
      text(end, HIGH - 3, "tokens seen", "down"),
      text(2, 12, "nats/token"),
      ...levels.flatMap(({ name, loss }, i) => [across(loss, "level"), text(end + 6, heights[i] + 4, name, "name")]),
      svg("path", { d: path(curve), class: "batches" }),
      svg("path", { d: path(moments.map(({ tokens, loss }) => [tokens, loss])), class: "held" }),
      ...moments.map(({ tokens, loss }) => svg("circle", { cx: x(tokens), cy: y(loss), r: 3.2, class: "stop" })),
      rule,
      dot,
    );
  }

  const place = slider("Moment", { min: 1, max: moments.length, value: model.get("moment"), show: (i) => `${i} of ${moments.length}` }, show);
  const sentence = make("p", { className: "sentence", "aria-live": "polite" });
  const sample = make("p", { className: "sample", "aria-live": "polite" });
  const back = button("Back", () => move(-1));
  const on = button("On", () => move(1));

  function move(by) {
    place.input.value = Number(place.input.value) + by;
    place.refresh();
    show();
  }

  function show() {
    const i = Number(place.input.value) - 1;
    const { tokens, loss, text: written } = moments[i];
    const [at, up] = [x(tokens), y(loss)];
    for (const [name, value] of Object.entries({ cx: at, cy: up })) dot.setAttribute(name, value);
    for (const name of ["x1", "x2"]) rule.setAttribute(name, at);
    const share = Math.round(100 * progress(loss, levels[0].loss, levels.at(-1).loss));
    sentence.replaceChildren(`${read(tokens)}: `, make("strong", {}, `${loss.toFixed(2)} nats/token`), `, as unsure as a fair choice among ${thousands(Math.round(Math.exp(loss)))}; ${between(loss, levels)}. ${share}\u00a0% of the way from ${levels[0].name} to ${levels.at(-1).name} is done.`);
    sample.textContent = written;
    enable(back, i > 0, on);
    enable(on, i < moments.length - 1, back);
  }

  // The moment nearest to where the chart was clicked.
  chart.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect();
    const at = ((event.clientX - box.left) * wide) / box.width;
    const far = moments.map((each) => Math.abs(x(each.tokens) - at));
    place.input.value = far.indexOf(Math.min(...far)) + 1;
    place.refresh();
    show();
  });

  const key = (name, meaning) => make("span", { className: "entry" }, make("span", { className: `key ${name}` }), meaning);
  root.append(
    chart,
    make("p", { className: "legend" }, ...(curve.length ? [key("batches", "training batches")] : []), key("held", "held-out text, with the moments")),
    make("div", { className: "controls" }, place.label, make("div", { className: "buttons" }, back, on)),
    sentence,
    sample,
  );
  draw(WIDE);
  show();
  new ResizeObserver(() => {
    const fitting = root.clientWidth && root.clientWidth < 480 ? NARROW : WIDE;
    if (fitting === wide) return;
    draw(fitting);
    show();
  }).observe(root);
}

export default { render };
