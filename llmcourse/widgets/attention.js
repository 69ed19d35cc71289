// Which tokens each head of a model looks at, from each token of a text.

const STRONGEST = 4; // looked-at tokens that are named

// The bytes of a base64 text: weights from 0 to 255, row after row, each row up to its
// own token, for each head of each layer.
export function unpack(packed) {
  return Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
}

// Where a row begins among the rows of a triangle: 0, 1, 3, 6, ...
export const rowStart = (query) => (query * (query + 1)) / 2;

// The weights of one query, from the first key to itself, as shares of one.
export function row(bytes, nTokens, nHeads, layer, head, query) {
  const start = (layer * nHeads + head) * rowStart(nTokens) + rowStart(query);
  return [...bytes.slice(start, start + query + 1)].map((byte) => byte / 255);
}

// The places of the greatest weights, greatest first; nearer ones first where equal.
export function strongest(weights, n) {
  const order = weights.map((_, key) => key);
  order.sort((a, b) => weights[b] - weights[a] || b - a);
  return order.slice(0, n).filter((key) => weights[key] > 0.005);
}

// The layer and the head with the greatest score.
export function best(scores) {
  let found = [0, 0];
  scores.forEach((heads, layer) => heads.forEach((score, head) => {
    if (score > scores[found[0]][found[1]]) found = [layer, head];
  }));
  return found;
}

const share = (p) => `${Math.round(100 * p)} %`;

function render({ model, el }) {
  const texts = model.get("texts"); // [{tokens: [...], weights: "base64"}, ...]
  const kinds = model.get("kinds"); // [{name, scores: [[number, ...], ...]}, ...]
  const nLayers = model.get("n_layers");
  const nHeads = model.get("n_heads");
  const over = model.get("over") ?? "many texts"; // what the scores of kinds are of
  const unpacked = texts.map(({ weights }) => unpack(weights));
  const root = card(el, "Attention explorer");
  root.classList.add("attention");

  const option = (text, i) => make("option", { value: String(i) }, text);
  const opening = (tokens) => `${tokens.join("").trim().slice(0, 48)} …`;
  const text = make("select", {}, ...texts.map(({ tokens }, i) => option(opening(tokens), i)));
  const kind = make("select", {}, ...kinds.map(({ name }, i) => option(name, i)));
  const of = (n) => (i) => `${i} of ${n}`;
  const layer = slider("Layer", { min: 1, max: nLayers, value: model.get("layer"), show: of(nLayers) }, show);
  const head = slider("Head", { min: 1, max: nHeads, value: model.get("head"), show: of(nHeads) }, show);
  const query = slider("Looking from token", { min: 1, max: 2, value: 1, show: (i) => `${i} of ${texts[text.value || 0].tokens.length}` }, show);

  const words = make("p", { className: "reading" });
  const readout = make("p", { className: "sentence readout", "aria-live": "polite" });
  const matrix = make("div", { className: "matrix", "aria-hidden": "true" });
  const map = make("div", { className: "head-map", "aria-hidden": "true" });
  const about = make("p", { className: "sentence about", "aria-live": "polite" });
  let tokens, bytes, spans, rows, cells;

  const at = ({ input }) => Number(input.value) - 1;
  const move = (control, i) => {
    control.input.value = i + 1;
    control.refresh();
  };
  const pick = (i) => {
    move(query, i);
    show();
  };
  const tile = (className, i, onClick) => {
    const element = make("span", { className });
    element.addEventListener("click", onClick);
    return element;
  };
  const heat = (element, value) => element.style.setProperty("--share", value.toFixed(3));

  function show() {
    const here = at(query);
    Object.entries({ layer, head, query }).forEach(([name, control]) => model.set(name, at(control) + 1));
    const weights = row(bytes, tokens.length, nHeads, at(layer), at(head), here);
    spans.forEach((span, key) => {
      heat(span, weights[key] ?? 0);
      span.classList.toggle("here", key === here);
      span.classList.toggle("unseen", key > here);
    });
    rows.forEach((line, i) => {
      const values = row(bytes, tokens.length, nHeads, at(layer), at(head), i);
      values.forEach((value, key) => heat(line.children[key], value));
      line.classList.toggle("here", i === here);
    });
    const seen = strongest(weights, STRONGEST).flatMap((key) => [
      " ", piece(tokens[key], null), ` ${key === here ? "(itself) " : ""}${share(weights[key])},`,
    ]);
    seen.push(String(seen.pop() ?? " all alike, and at none much.").replace(/,$/, "."));
    readout.replaceChildren(piece(tokens[here], null), " looks at", ...seen);
    cells.forEach((list, l) => list.forEach((cell, h) =>
      cell.classList.toggle("here", l === at(layer) && h === at(head))));
    const scores = kinds.map(({ name, scores }) => `${name} ${share(scores[at(layer)][at(head)])}`);
    about.textContent = `Layer ${at(layer) + 1}, head ${at(head) + 1}, on average over ${over}: ${scores.join("; ")}.`;
  }

  // A new text: its tokens, its rows.
  function draw() {
    tokens = texts[text.value].tokens;
    bytes = unpacked[text.value];
    spans = tokens.map((token, i) => {
      const span = tile("word-piece", i, () => pick(i));
      span.textContent = token.replace(/^ /, "").replace(/\n/g, "↵");
      return span;
    });
    rows = tokens.map((_, i) => {
      const line = tile("matrix-row", i, () => pick(i));
      line.append(...tokens.slice(0, i + 1).map(() => make("span")));
      return line;
    });
    words.replaceChildren(...spans.flatMap((span, i) => (tokens[i].startsWith(" ") ? [" ", span] : [span])));
    matrix.style.setProperty("--n", tokens.length);
    matrix.replaceChildren(...rows);
    query.input.max = tokens.length;
    query.input.value = Math.min(query.input.value, tokens.length);
    query.refresh();
    show();
  }

  // A new kind: colour the map by it, and go to its strongest head.
  function sort() {
    const { scores } = kinds[kind.value];
    cells.forEach((list, l) => list.forEach((cell, h) => heat(cell, scores[l][h])));
    const [l, h] = best(scores);
    move(layer, l);
    move(head, h);
    show();
  }

  cells = Array.from({ length: kinds.length ? nLayers : 0 }, (_, l) =>
    Array.from({ length: nHeads }, (_, h) => tile("head-cell", h, () => {
      move(layer, l);
      move(head, h);
      show();
    })));
  map.append(...cells.map((list, l) => make("div", {}, make("small", {}, `layer ${l + 1}`), ...list)));
  text.addEventListener("change", draw);
  kind.addEventListener("change", sort);

  const field = (name, control) => make("label", { className: "wide" }, make("span", {}, name), control);
  const panel = (title, ...parts) => make("div", { className: "panel" }, make("div", { className: "head" }, make("strong", {}, title)), ...parts);
  root.append(
    make("div", { className: "controls" },
      ...(texts.length > 1 ? [field("Text", text)] : []),
      ...(kinds.length ? [field("Strongest head that looks at", kind)] : [])),
    make("div", { className: "controls thirds" }, layer.label, head.label, query.label),
    words,
    readout,
    make("div", { className: "columns" },
      panel("This head: rows look at columns", matrix),
      ...(kinds.length ? [panel("All heads: how much they look there", map, about)] : [])),
  );
  query.input.max = texts[0].tokens.length;
  query.input.value = model.get("query");
  if (kinds.length) {
    const { scores } = kinds[0];
    cells.forEach((list, l) => list.forEach((cell, h) => heat(cell, scores[l][h])));
  }
  draw();
}

export default { render };
