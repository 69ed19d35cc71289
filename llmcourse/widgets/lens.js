// What a model would say after each of its layers: the residual stream, read by the last
// norm and the unembedding.

// From which state on the best guess is the last one's.
export function settled(states) {
  const last = states.at(-1).best[0].id;
  let from = states.length - 1;
  while (from > 0 && states[from - 1].best[0].id === last) from -= 1;
  return from;
}

const percents = (p) => (p < 0.005 ? "< 1 %" : `${Math.round(100 * p)} %`);

// The values: `tokens` as texts, `names` of all tokens by id, and for each token what
// each state of its stream makes of the next: `lens` of { best: [{ id, p }], next }.
function render({ model, el }) {
  const tokens = model.get("tokens");
  const names = model.get("names");
  const lens = model.get("lens");
  const root = card(el, "Logit lens");
  root.classList.add("attention", "lens");
  const place = slider("After token", { min: 1, max: tokens.length, value: model.get("query"), show: (i) => `${i} of ${tokens.length}` }, show);
  const spans = tokens.map((token, i) => {
    const span = make("span", { className: "word-piece" }, token.replace(/^ /, "").replace(/\n/g, "↵"));
    span.addEventListener("click", () => {
      place.input.value = i + 1;
      place.refresh();
      show();
    });
    return span;
  });
  const states = make("ol", { className: "states" });
  const readout = make("p", { className: "sentence readout", "aria-live": "polite" });
  const stateName = (i) => (i ? `after block ${i}` : "embedding");

  function show() {
    const here = Number(place.input.value) - 1;
    model.set("query", here + 1);
    const next = tokens[here + 1];
    spans.forEach((span, i) => {
      span.classList.toggle("here", i === here);
      span.classList.toggle("unseen", i > here);
    });
    states.replaceChildren(...lens[here].map(({ best, next: p }, i) => {
      const guesses = best.map(({ id, p }) => {
        const guess = make("span", { className: "guess" }, piece(names[id], null), make("small", {}, percents(p)));
        guess.style.setProperty("--share", p.toFixed(3));
        guess.classList.toggle("came", names[id] === next);
        return guess;
      });
      const true_ = make("small", { className: "next" }, p === null ? "" : percents(p));
      return make("li", {}, make("span", { className: "label" }, stateName(i)), make("span", { className: "guesses" }, ...guesses), true_);
    }));
    const from = settled(lens[here]);
    const last = lens[here].at(-1);
    readout.replaceChildren(
      "Its last guess, ", piece(names[last.best[0].id], null), `, is the best one ${from ? `from block ${from} on` : "from the embedding on"}. `,
      ...(next === undefined ? ["Here the text ends."] : ["What came is ", piece(next, null), `, which the last block gives ${percents(last.next)}.`]));
  }

  root.append(
    make("p", { className: "reading" }, ...spans.flatMap((span, i) => (tokens[i].startsWith(" ") ? [" ", span] : [span]))),
    make("div", { className: "controls" }, place.label),
    readout,
    make("div", { className: "panel" },
      make("div", { className: "head" }, make("strong", {}, "The next token, as guessed from each state of the stream")),
      states,
      make("p", { className: "legend" }, "The three best guesses. Framed: the token that came next in the text, with its probability on the right.")));
  show();
}

export default { render };
