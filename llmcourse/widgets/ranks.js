// LoRA's rank: what adapters learn and what is forgotten, over the learning rate, beside
// training all weights.

const HIGH = 190; // of each chart, in its own units
const WIDE = 320;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 24, 12, 38];
const FORGOTTEN = [0, 0.1, 1, 10]; // nats per token, the lines of the chart

export const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

// A scale that is logarithmic, and even near 0.
export const stretched = (nats) => Math.asinh(nats / 0.03);

export const percent = (share) => `${Number((100 * share).toFixed(1))} %`;

// "+0.05", "−0.01", "0.00"
export function added(nats) {
  const shown = Math.abs(nats).toFixed(2);
  return Number(shown) ? `${nats < 0 ? "−" : "+"}${shown}` : shown;
}

const rateText = (rate) => rate.toExponential(); // "1.6e-3", as in the code

// "98 % to 100 %": the lowest and the highest of some runs.
export const range = (values, show) => `${show(Math.min(...values))} to ${show(Math.max(...values))}`;

// "61,440 (2.2 %)": of the weights that learn when all do.
export const learnedText = (n, all) => `${thousands(n)} (${Number(((100 * n) / all).toPrecision(2))} %)`;

// One result over the rates. `bend` makes its values heights, `lines` are [value, text].
function rateChart(title, rates, { bend, low, high, lines, show }) {
  const chart = svg("svg", { class: "chart", role: "img", viewBox: `0 0 ${WIDE} ${HIGH}` });
  const x = (i) => LEFT + (i / Math.max(1, rates.length - 1)) * (WIDE - LEFT - RIGHT);
  const y = (value) => HIGH - BOTTOM - ((bend(value) - bend(low)) / (bend(high) - bend(low) || 1)) * (HIGH - TOP - BOTTOM);
  const text = (at, up, content, className) => svg("text", { x: at, y: up, class: className }, content);
  const path = (values, name) => svg("path", { d: values.map((runs, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(mean(runs)).toFixed(1)}`).join(""), class: name });

  // Each line is { label, name, values: the runs at each rate, at: the chosen rate }.
  function draw(drawn, others) {
    chart.replaceChildren(
      ...lines.flatMap(([value, label, className = "grid"]) => [
        svg("line", { x1: LEFT, x2: WIDE - RIGHT, y1: y(value), y2: y(value), class: className }),
        text(LEFT - 6, y(value) + 4, label, "down")]),
      ...rates.map((rate, i) => text(x(i), HIGH - BOTTOM + 16, rateText(rate), "across")),
      text(WIDE - RIGHT, HIGH - 4, "learning rate", "down"),
      ...others.map((values) => path(values, "rest")),
      ...drawn.flatMap(({ name, values, at }) => [
        svg("line", { x1: x(at), x2: x(at), y1: TOP, y2: HIGH - BOTTOM, class: `rule ${name}` }),
        path(values, name),
        ...values.flatMap((runs, i) => runs.map((value) => svg("circle", { cx: x(i), cy: y(value), r: i === at ? 5 : 3, class: name })))]));
    const told = drawn.map(({ label, values }) => `${label}: ${values.map((runs, i) => `${show(mean(runs))} at ${rateText(rates[i])}`).join(", ")}.`);
    chart.setAttribute("aria-label", `${title}, over the learning rate, means of the runs. ${told.join(" ")}`);
  }

  return { element: panel(title, "", chart), draw };
}

function render({ model, el }) {
  const { guess, rates, ways } = JSON.parse(model.get("found")); // ways: [{ rank, learned, runs: [[[right, forgotten], ...], ...] }, ...]
  const [full, ...adapters] = ways;
  const root = card(el, "Rank explorer");
  root.classList.add("tuned");

  const results = ways.flatMap(({ runs }) => runs.flat());
  const forgotten = results.map((run) => run[1]);
  const top = Math.max(0.1, ...forgotten);
  const right = rateChart("Right (share of held-out texts)", rates, {
    bend: (share) => share, low: Math.min(guess, ...results.map((run) => run[0])), high: 1, show: percent,
    lines: [[guess, percent(guess), "level"], [(1 + guess) / 2, percent((1 + guess) / 2)], [1, "100 %"]] });
  const lost = rateChart("Forgotten (nats/token on plain text)", rates, {
    bend: stretched, low: Math.min(0, ...forgotten), high: top, show: added,
    lines: FORGOTTEN.filter((nats) => nats <= top).map((nats) => [nats, String(nats)]) });

  const middle = Math.floor(rates.length / 2);
  const rank = slider("Rank", { min: 0, max: adapters.length - 1, value: Math.floor(adapters.length / 2), show: (i) => String(adapters[i].rank) }, show);
  const low = slider("Rate of the adapters", { min: 0, max: rates.length - 1, value: middle, show: (i) => rateText(rates[i]) }, show);
  const all = slider("Rate of all weights", { min: 0, max: rates.length - 1, value: middle, show: (i) => rateText(rates[i]) }, show);
  const sentence = make("p", { className: "sentence", "aria-live": "polite" });
  const bars = make("ol", { className: "bars named" });
  const named = make("span", {});

  const told = (label, rate, runs) => {
    const [shares, nats] = [0, 1].map((k) => runs.map((run) => run[k]));
    return [
      `${label} at ${rateText(rate)}: `, make("strong", {}, `${percent(mean(shares))} right`), ` (${range(shares, percent)}), plain text `,
      make("strong", {}, `${added(mean(nats))} nats/token`), ` (${range(nats, added)}).`, make("br")];
  };

  function show() {
    const way = adapters[rank.input.value];
    const label = `Rank ${way.rank}`;
    const chosen = [[label, "held", way, Number(low.input.value)], ["All weights", "other", full, Number(all.input.value)]];
    for (const [k, chart] of [right, lost].entries()) {
      const values = ({ runs }) => runs.map((each) => each.map((run) => run[k]));
      chart.draw(chosen.map(([label, name, of, at]) => ({ label, name, at, values: values(of) })), adapters.map(values));
    }
    named.textContent = label.toLowerCase();
    sentence.replaceChildren(...chosen.flatMap(([label, , { runs }, at]) => told(label, rates[at], runs[at])));
    bars.replaceChildren(...chosen.map(([label, , { learned }]) =>
      barRow(label, learned / full.learned, learnedText(learned, full.learned))));
  }

  const key = (name, meaning) => make("span", { className: "entry" }, make("span", { className: `key ${name}` }), meaning);
  root.append(
    make("div", { className: "controls thirds" }, rank.label, low.label, all.label),
    sentence,
    make("div", { className: "columns" }, right.element, lost.element),
    make("p", { className: "legend keys" }, key("held", named), key("rest", "other ranks"), key("other", "all weights"), key("level", "guessing")),
    panel("Weights that learn", "", bars),
    make("p", { className: "legend" }, `Each dot is one of ${count(full.runs[0].length, "run")}, with texts, head and order of its own; the lines go through the means. In the text: mean (lowest to highest). The scale of nats is logarithmic, and even near 0.`));
  show();
}

export default { render };
