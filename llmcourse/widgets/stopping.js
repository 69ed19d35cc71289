// A policy in training, stopped where the reader likes: learned and gold reward over the
// KL divergence, and what was written there.

const HIGH = 190; // of each chart, in its own units
const WIDE = 320;
const [LEFT, RIGHT, TOP, BOTTOM] = [38, 12, 12, 38];
const AT = [0, 1, 4, 9, 25, 64, 144, 400]; // nats; distances between them look alike

// Round numbers between two values, at most some five.
export function levels(low, high, most = 5) {
  const raw = (high - low) / most || 1;
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * ten).find((s) => s >= raw);
  const first = Math.ceil(low / step - 1e-9);
  const n = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: n }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

// The place of the highest value, the first of equals.
export const highest = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

const near = (kl) => Math.sqrt(Math.max(0, kl));
const signed = (x) => x.toFixed(2).replace("-", "−");

function rewardChart(name) {
  const chart = svg("svg", { class: "chart", role: "img", viewBox: `0 0 ${WIDE} ${HIGH}`, "aria-label": `${name} over the KL divergence, moment by moment` });
  const numbers = make("span", { className: "numbers" });
  const dot = svg("circle", { r: 6, class: "marker" });
  const rule = svg("line", { y1: TOP, y2: HIGH - BOTTOM, class: "rule" });
  let x, y;

  function draw(kls, values) {
    const [low, high] = [Math.min(0, ...values), Math.max(...values)];
    const far = Math.max(1, ...kls.map(near));
    x = (kl) => LEFT + (near(kl) / far) * (WIDE - LEFT - RIGHT);
    y = (value) => HIGH - BOTTOM - ((value - low) / (high - low || 1)) * (HIGH - TOP - BOTTOM);
    const text = (at, up, content, className) => svg("text", { x: at, y: up, class: className }, content);
    chart.replaceChildren(
      ...levels(low, high).flatMap((value) => [
        svg("line", { x1: LEFT, x2: WIDE - RIGHT, y1: y(value), y2: y(value), class: "grid" }),
        text(LEFT - 6, y(value) + 4, String(value).replace("-", "−"), "down")]),
      ...AT.filter((kl) => near(kl) <= far).map((kl) => text(x(kl), HIGH - BOTTOM + 16, String(kl), "across")),
      text(WIDE - RIGHT, HIGH - 4, "KL divergence (nats)", "down"),
      // Later moments are darker: a line would go to and fro, as the divergence does.
      ...values.map((value, i) => svg("circle", { cx: x(kls[i]), cy: y(value), r: 3.4, class: "stop", "fill-opacity": 0.25 + (0.75 * i) / Math.max(1, values.length - 1) })),
      rule,
      dot);
  }

  function mark(kl, value, shown) {
    dot.setAttribute("cx", x(kl));
    dot.setAttribute("cy", y(value));
    for (const end of ["x1", "x2"]) rule.setAttribute(end, x(kl));
    numbers.textContent = shown;
  }

  return { element: panel(name, numbers, chart), draw, mark };
}

function render({ model, el }) {
  const runs = JSON.parse(model.get("runs")); // [{ name, stops: [[step, kl, proxy, gold, text], ...] }, ...]
  const unit = model.get("unit");
  const root = card(el, "Stopping explorer");

  const which = choice("Policy", runs.map(({ name }, i) => [i, name]), choose);
  const moment = slider("Stopped at", { min: 1, max: 1, value: 1, show: (i) => `${i} of ${runs[which.list.value].stops.length}` }, show);
  const proxy = rewardChart("Learned reward");
  const gold = rewardChart("Gold reward");
  const sentence = make("p", { className: "sentence", "aria-live": "polite" });
  const sample = make("p", { className: "sample", "aria-live": "polite" });

  // A policy is shown at its end.
  function choose() {
    const { stops } = runs[which.list.value];
    const kls = stops.map(([, kl]) => kl);
    proxy.draw(kls, stops.map((stop) => stop[2]));
    gold.draw(kls, stops.map((stop) => stop[3]));
    moment.input.max = stops.length;
    moment.input.value = stops.length;
    moment.refresh();
    show();
  }

  function show() {
    const { stops } = runs[which.list.value];
    const [step, kl, learned, paid, text] = stops[moment.input.value - 1];
    proxy.mark(kl, learned, signed(learned));
    gold.mark(kl, paid, `${paid.toFixed(1)} points`);
    const top = stops[highest(stops.map((stop) => stop[3]))];
    const believed = stops[highest(stops.map((stop) => stop[2]))];
    sentence.replaceChildren(`${unit[0].toUpperCase()}${unit.slice(1)} ${step}: `, make("strong", {}, `${Math.max(0, kl).toFixed(1)} nats`),
      ` from the start. The learned reward is highest in ${unit} ${believed[0]}, where gold is ${believed[3].toFixed(1)}; gold is highest in ${unit} ${top[0]}, with ${top[3].toFixed(1)}.`);
    sample.hidden = !text;
    sample.textContent = text;
  }

  root.append(
    make("div", { className: "controls" }, which.label, moment.label),
    sentence,
    make("div", { className: "columns" }, proxy.element, gold.element),
    sample);
  choose();
}

export default { render };
