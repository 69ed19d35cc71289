// Word vectors: a flat map of them, the neighbours of a word, and sums of vectors.

const SHOWN = 6; // neighbours and answers in a list
const WIDE = 600; // of the map, in its own units
const HIGH = 360;
const MARGIN = 16;
const KINDS = [
  ["cosine", "Cosine", "the angle alone"],
  ["euclidean", "Distance", "nearest first"],
  ["dot", "Dot product", "with lengths"],
];

// One signed byte for each coordinate, row by row, in base64.
export function unpack(packed, width, scale) {
  const bytes = Int8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const rows = [];
  for (let i = 0; i < bytes.length; i += width) rows.push(Array.from(bytes.subarray(i, i + width), (b) => b * scale));
  return rows;
}

export const dot = (x, y) => x.reduce((sum, a, i) => sum + a * y[i], 0);
export const unit = (x) => {
  const length = Math.sqrt(dot(x, x));
  return x.map((a) => (length > 0 ? a / length : 0));
};

// How alike a query is to each vector: larger is more alike, so distances are negative.
export function similarities(vectors, query, kind) {
  if (kind === "dot") return vectors.map((x) => dot(x, query));
  if (kind === "cosine") {
    const q = unit(query);
    return vectors.map((x) => dot(unit(x), q));
  }
  return vectors.map((x) => -Math.hypot(...x.map((a, i) => a - query[i])));
}

// The k most alike, as [index, similarity]; the excluded do not count.
export function nearest(vectors, query, k, kind, excluded = []) {
  const scores = similarities(vectors, query, kind);
  return scores
    .map((score, i) => [i, score])
    .filter(([i]) => !excluded.includes(i))
    .sort((p, q) => q[1] - p[1] || p[0] - q[0])
    .slice(0, k);
}

// a is to b as c is to what? The step from a to b, made from c, all at length 1.
export function answers(vectors, [a, b, c], k, mayRepeat = false) {
  const [x, y, z] = [a, b, c].map((i) => unit(vectors[i]));
  const query = x.map((_, i) => y[i] - x[i] + z[i]);
  return nearest(vectors, query, k, "cosine", mayRepeat ? [] : [a, b, c]);
}

// Places in the map: the same scale on both axes, centred.
export function places(points, wide = WIDE, high = HIGH, margin = MARGIN) {
  const [xs, ys] = [0, 1].map((axis) => points.map((p) => p[axis]));
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [[left, right], [low, top]] = [range(xs), range(ys)];
  const scale = Math.min((wide - 2 * margin) / (right - left || 1), (high - 2 * margin) / (top - low || 1));
  return points.map(([x, y]) => [wide / 2 + (x - (left + right) / 2) * scale, high / 2 - (y - (low + top) / 2) * scale]);
}

// Heights for labels at given places, moved down until none covers another.
export function spread(labels, height) {
  const placed = [];
  for (const label of [...labels].sort((p, q) => p.y - q.y)) {
    let y = label.y;
    const covers = (other) => Math.abs(other.x - label.x) < (other.width + label.width) / 2 && Math.abs(other.y - y) < height;
    for (let other = placed.find(covers); other; other = placed.find(covers)) y = other.y + height;
    placed.push({ ...label, y });
  }
  return placed;
}

function render({ model, el }) {
  const words = model.get("words");
  const classes = model.get("classes");
  const classOf = model.get("class_of"); // -1: none
  const vectors = unpack(model.get("packed"), model.get("width"), model.get("scale"));
  const at = places(model.get("points"));
  const root = card(el, "Embedding explorer");
  root.classList.add("embedding");
  const alphabet = words.map((_, i) => i).sort((i, j) => (words[i] < words[j] ? -1 : 1));

  const option = (text, value) => make("option", { value: String(value) }, text);
  const field = (name, control) => make("label", { className: "wide" }, make("span", {}, name), control);
  function wordSelect(chosen, onChange) {
    const select = make("select", {}, ...alphabet.map((i) => option(words[i], i)));
    select.value = String(chosen);
    select.addEventListener("change", onChange);
    return select;
  }
  const hued = (i) => {
    const element = piece(words[i], classOf[i] < 0 ? null : classOf[i]);
    if (classOf[i] >= 6) element.classList.add("hollow");
    return element;
  };

  // The map
  const dots = at.map(([cx, cy], i) => {
    const one = svg("circle", { cx, cy, r: 3.4, class: classOf[i] >= 6 ? "dot hollow" : "dot" });
    if (classOf[i] >= 0) one.dataset.hue = classOf[i] % 6;
    return one;
  });
  const lines = svg("g", { class: "lines" });
  const steps = svg("g", { class: "lines" }); // above the dots, which are dense there
  const names = svg("g", { class: "names" });
  const marks = svg("g", { class: "marks" });
  const arrow = svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0 8 4 0 8Z" }));
  const map = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "map", role: "img", "aria-label": "Map of the words on their two principal components" }, svg("defs", {}, arrow), lines, ...dots, steps, names, marks);

  const word = wordSelect(model.get("chosen"), show);
  const only = make("select", {}, option("all", -1), ...classes.map((name, i) => option(name, i)));
  only.addEventListener("change", show);
  const status = make("p", { className: "legend", "aria-live": "polite" });
  const columns = KINDS.map(([kind, name, note]) => {
    const list = make("ol", { className: "near" });
    return { kind, list, panel: make("div", { className: "panel" }, make("div", { className: "head" }, make("strong", {}, name), make("span", { className: "numbers" }, note)), list) };
  });

  const three = model.get("analogy").map((i) => wordSelect(i, show));
  const repeat = make("input", { type: "checkbox" });
  repeat.addEventListener("change", show);
  const sentence = make("p", { className: "sentence", "aria-live": "polite" });
  const bars = make("ol", { className: "bars" });

  function nameClasses(chosenClass) {
    const labels = classes.map((name, k) => {
      const own = at.filter((_, i) => classOf[i] === k);
      const middle = (axis) => own.map((p) => p[axis]).sort((p, q) => p - q)[own.length >> 1];
      return { name, k, x: middle(0), y: middle(1), width: 9.5 * name.length + 6 };
    });
    const wanted = labels.filter(({ k }) => chosenClass < 0 || k === chosenClass);
    names.replaceChildren(...spread(wanted, 20).map(({ name, x, y }) => svg("text", { x, y: y + 5 }, name)));
  }

  function mark(i, className, text = words[i]) {
    const [x, y] = at[i];
    const nearEnd = x > WIDE - 90;
    return [svg("circle", { cx: x, cy: y, r: 6, class: `ring ${className}` }), svg("text", { x: x + (nearEnd ? -9 : 9), y: y - 7, class: className, "text-anchor": nearEnd ? "end" : "start" }, text)];
  }

  const line = (i, j, className) => svg("line", { x1: at[i][0], y1: at[i][1], x2: at[j][0], y2: at[j][1], class: className, ...(className === "step" ? { "marker-end": "url(#tip)" } : {}) });

  function show() {
    const chosen = Number(word.value);
    const chosenClass = Number(only.value);
    dots.forEach((one, i) => one.classList.toggle("away", chosenClass >= 0 && classOf[i] !== chosenClass));
    nameClasses(chosenClass);
    const members = classOf.filter((k) => chosenClass < 0 || k === chosenClass).length;
    status.textContent = `${chosenClass < 0 ? "All classes" : classes[chosenClass]}: ${count(members, "word")}. Grey are words of no class. Thin lines lead from ${words[chosen]} to its nearest by cosine; arrows lead from a to b, and from c to the best answer.`;
    for (const { kind, list } of columns) {
      list.replaceChildren(...nearest(vectors, vectors[chosen], SHOWN, kind, [chosen]).map(([i, value]) => make("li", {}, hued(i), make("small", {}, (kind === "euclidean" ? -value : value).toFixed(2)))));
    }
    const [a, b, c] = three.map((select) => Number(select.value));
    const best = answers(vectors, [a, b, c], SHOWN, repeat.checked);
    const [alone] = nearest(vectors, vectors[c], 1, "cosine", repeat.checked ? [c] : [a, b, c]);
    sentence.replaceChildren(hued(a), " is to ", hued(b), " as ", hued(c), " is to ", hued(best[0][0]), ". Nearest to ", hued(c), " alone: ", hued(alone[0]), ".");
    bars.replaceChildren(...best.map(([i, value]) => {
      const bar = make("span", { className: "bar", style: `width: ${(100 * Math.max(0, value / best[0][1])).toFixed(1)}%` });
      return make("li", {}, make("span", { className: "label" }, hued(i)), make("span", { className: "track" }, bar), make("span", { className: "value" }, value.toFixed(2)));
    }));
    lines.replaceChildren(...nearest(vectors, vectors[chosen], SHOWN, "cosine", [chosen]).map(([i]) => line(chosen, i, "near")));
    steps.replaceChildren(line(a, b, "step"), line(c, best[0][0], "step"));
    marks.replaceChildren(...mark(chosen, "chosen"));
  }

  // The word nearest to the pointer, if it is near.
  function under(event) {
    const box = map.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) * WIDE) / box.width, ((event.clientY - box.top) * HIGH) / box.height];
    const far = at.map(([u, v]) => Math.hypot(u - x, v - y));
    const i = far.indexOf(Math.min(...far));
    return far[i] < 14 ? i : null;
  }
  map.addEventListener("pointermove", (event) => {
    const i = under(event);
    const chosen = mark(Number(word.value), "chosen");
    marks.replaceChildren(...chosen, ...(i === null || i === Number(word.value) ? [] : mark(i, "hovered")));
  });
  map.addEventListener("pointerleave", () => marks.replaceChildren(...mark(Number(word.value), "chosen")));
  map.addEventListener("click", (event) => {
    const i = under(event);
    if (i === null) return;
    word.value = String(i);
    show();
  });

  root.append(
    make("div", { className: "controls" }, field("Word", word), field("Show", only)),
    map,
    status,
    make("div", { className: "columns thirds" }, ...columns.map(({ panel }) => panel)),
    make("div", { className: "controls analogy" }, ...three.map((select, i) => field(["a is to", "b, as", "c is to what?"][i], select)), make("label", { className: "check" }, repeat, make("span", {}, "a, b, c may be answers"))),
    sentence,
    bars,
  );
  show();
}

export default { render };
