// How surprising each word of a story is, in nats, under the grammar that wrote it and
// under models that had to learn it.

const CERTAIN = 1e-9; // nats; less is rounding
const MOST = 300 * Math.LN10; // nats; the probability of more can be too small for a number

export const total = (nats) => nats.reduce((sum, x) => sum + x, 0);

// How warm each word is, or how high its column, from 0 to 1, which `top` nats reach.
export const warmth = (nats, top) => nats.map((x) => (top > 0 ? Math.min(1, x / top) : 0));

// A surprise in words: "3.00 nats: probability 0.050, one chance in 20".
export function say(nats) {
  if (nats < CERTAIN) return "0 nats: no other word can stand here";
  if (nats > MOST) return `${nats.toFixed(2)} nats: probability below 1e-300`;
  const p = Math.exp(-nats);
  const odds = 1 / p;
  const chance = p >= 0.001 ? p.toFixed(3) : p.toExponential(1);
  const one = odds < 9.95 ? odds.toFixed(1) : odds < 1e6 ? thousands(Math.round(odds)) : odds.toExponential(1).replace("+", "");
  return `${nats.toFixed(2)} nats: probability ${chance}, one chance in ${one}`;
}

function render({ model, el }) {
  const stories = model.get("stories"); // [[word, ...], ...]
  const predictors = model.get("predictors"); // [{name, nats: [[number, ...], ...]}, ...]
  const root = card(el, "Surprise explorer");
  root.classList.add("surprise");

  const option = (text, i) => make("option", { value: String(i) }, text);
  const opening = (words) => `${words.slice(0, 7).join(" ")} …`;
  const story = make("select", {}, ...stories.map((words, i) => option(opening(words), i)));
  const predictor = make("select", {}, ...predictors.map(({ name }, i) => option(name, i)));
  const place = slider("Word", { min: 1, max: 2, value: 1, show: (i) => `${i} of ${stories[story.value || 0].length}` }, point);

  const text = make("p", { className: "story" });
  const profile = make("div", { className: "profile", "aria-hidden": "true" });
  const word = make("span", { className: "piece" });
  const value = make("span");
  const readout = make("p", { className: "sentence readout", "aria-live": "polite" }, word, value);
  const sum = make("p", { className: "sentence sum", "aria-live": "polite" });
  const scale = make("span");
  const legend = make("p", { className: "legend" }, make("span", {}, "0"), make("span", { className: "ramp" }), scale);
  let words, nats, spans, columns;

  function pick(i) {
    place.input.value = i + 1;
    place.refresh();
    point();
  }

  // Show one word: the one under the pointer, otherwise the slider's.
  function point(hovered) {
    const i = Number.isInteger(hovered) ? hovered : Number(place.input.value) - 1;
    [spans, columns].forEach((list) => list.forEach((e, k) => e.classList.toggle("here", k === i)));
    word.textContent = words[i];
    value.textContent = ` ${say(nats[i])}.`;
  }

  function draw() {
    const chosen = Number(story.value);
    words = stories[chosen];
    nats = predictors[predictor.value].nats[chosen];
    // Models are often far more surprised than the grammar: colours saturate there,
    // columns do not.
    const hottest = Math.max(...predictors[0].nats[chosen]);
    const heat = warmth(nats, hottest);
    const height = warmth(nats, Math.max(...predictors.flatMap((each) => each.nats[chosen])));
    const listening = (tag, className, share, i) => {
      const element = make(tag, { className, style: `--share: ${share.toFixed(3)}` });
      element.addEventListener("click", () => pick(i));
      element.addEventListener("pointerenter", () => point(i));
      return element;
    };
    spans = words.map((shown, i) => {
      const span = listening("span", "heated", heat[i], i);
      span.textContent = shown;
      return span;
    });
    columns = words.map((_, i) => listening("span", "column", height[i], i));
    text.replaceChildren(...spans.flatMap((span) => [span, " "]));
    profile.replaceChildren(...columns);
    place.input.max = words.length;
    place.input.value = Math.min(place.input.value, words.length);
    place.refresh();
    scale.textContent = `${hottest.toFixed(1)} nats${predictors.length > 1 ? " or more" : ""}`;
    const here = total(nats);
    const floor = total(predictors[0].nats[chosen]);
    const each = `Sum over ${count(words.length, "word")}: ${here.toFixed(2)} nats, ${(here / words.length).toFixed(2)} per word`;
    sum.textContent = predictor.value === "0"
      ? `${each}. This is −log P(text).`
      : `${each}; ${predictors[0].name} needs ${floor.toFixed(2)}, the other ${(here - floor).toFixed(2)} are what this model has not learned.`;
    point();
  }

  story.addEventListener("change", draw);
  predictor.addEventListener("change", draw);
  for (const area of [text, profile]) area.addEventListener("pointerleave", point);

  const field = (name, control) => make("label", { className: "wide" }, make("span", {}, name), control);
  root.append(
    make("div", { className: "controls" },
      ...(stories.length > 1 ? [field("Story", story)] : []),
      ...(predictors.length > 1 ? [field("Predicted by", predictor)] : [])),
    text,
    profile,
    legend,
    make("div", { className: "controls" }, place.label),
    readout,
    sum,
  );
  place.input.max = stories[0].length;
  place.input.value = model.get("word");
  draw();
}

export default { render };
