// The context window: what fits of a text, what a query sees, what it costs.

const KINDS = [["full", "full attention"], ["window", "a sliding window"], ["sinks", "a window and sinks"]];
const LENGTHS = Array.from({ length: 14 }, (_, i) => 128 * 2 ** i); // up to a million

// Whether the query at place t sees the key at place s, in one layer.
export function sees(kind, t, s, { window, sinks }) {
  if (s > t) return false;
  return kind === "full" || t - s < window || (kind === "sinks" && s < sinks);
}

// Pairs of a query and a key it sees, in one head of one layer, among n tokens.
export function pairs(kind, n, { window, sinks }) {
  const inWindow = (length, width) => {
    const w = Math.min(length, width);
    return (w * (w + 1)) / 2 + (length - w) * w;
  };
  if (kind === "full") return inWindow(n, n);
  const extra = kind === "sinks" ? sinks : 0;
  // A query at t sees the sinks beside its window from t = window on, one more each time.
  const outside = Math.max(0, n - window);
  return inWindow(n, window) + inWindow(outside, extra);
}

// Positions whose keys and values are kept while writing.
export function kept(kind, n, { window, sinks }) {
  return kind === "full" ? n : Math.min(n, window + (kind === "sinks" ? sinks : 0));
}

export const cachePerToken = ({ layers, kv_heads: heads, d_head: width }, bytesEach) => 2 * layers * heads * width * bytesEach;

// How far back what a query knows can come from, through all layers.
export const reach = (kind, t, { window }, layers) => (kind === "full" ? t : Math.min(t, layers * (window - 1)));

// The tokens that are shown: the first, and those about the query.
export function shownPlaces(t, n, { first = 8, before = 160, after = 16 } = {}) {
  return Array.from({ length: n }, (_, s) => s).filter((s) => s < first || (s >= t - before && s <= t + after));
}

function render({ model, el }) {
  const spec = JSON.parse(model.get("spec"));
  const sizes = model.get("models");
  const encode = quickEncoder(spec);
  const shownAs = pieceBytes(spec);
  const root = card(el, "Window explorer");
  let ids = [];

  const own = textField("A text, or one of your own", { value: model.get("text"), rows: 4 }, read);
  const which = choice("Model", sizes.map(({ name }, i) => [i, name]), place);
  const kind = choice("Each query sees", KINDS, mark);
  const query = slider("Query", { min: 1, max: 1, value: 1, show: (t) => `token ${thousands(t)}` }, mark);
  const window = slider("Window", { min: 1, max: 256, value: 32, show: (w) => count(w, "token") }, mark);
  const sinks = slider("Sinks", { min: 0, max: 8, value: 4 }, mark);
  const fits = make("p", { className: "sentence", "aria-live": "polite" });
  const seen = make("p", { className: "sentence", "aria-live": "polite" });
  const pieces = make("p", { className: "pieces context" });
  const length = slider("Length", { min: 0, max: LENGTHS.length - 1, value: 5, show: (i) => count(LENGTHS[i], "token") }, price);
  const each = choice("Cache, bytes a number", [[4, "4 (float32)"], [2, "2 (bfloat16)"], [1, "1 (int8)"]], price);
  const table = make("p", { className: "legend" });
  const scores = make("ol", { className: "bars named" });
  const cache = make("ol", { className: "bars named" });
  const settings = () => ({ window: Number(window.input.value), sinks: Number(sinks.input.value) });
  kind.list.value = "window";
  each.list.value = "2";

  function read() {
    const fault = faultOf(own.area.value);
    own.tell(fault);
    if (!fault) ids = encode(own.area.value);
    place();
  }

  // A query is chosen among what fits; at first the last token.
  function place() {
    const { context, name } = sizes[which.list.value];
    const n = Math.min(ids.length, context);
    query.input.max = n;
    query.input.value = n;
    query.refresh();
    const cut = ids.length - n;
    fits.replaceChildren("The text has ", make("strong", {}, count(ids.length, "token")), `; the window of ${name} holds ${thousands(context)}. `,
      cut ? `The last ${thousands(n)} fit, and the ${thousands(cut)} before them are cut off.` : `All fit, and leave room for ${count(context - n, "token")}.`);
    mark();
  }

  function mark() {
    const { context, layers } = sizes[which.list.value];
    const inside = ids.slice(-context);
    const t = Number(query.input.value) - 1;
    const how = kind.list.value;
    const set = settings();
    window.input.disabled = how === "full";
    sinks.input.disabled = how !== "sinks";
    const far = reach(how, t, set, layers);
    const element = (s) => {
      const looked = sees(how, t, s, set);
      const state = looked ? "" : s <= t && t - s <= far ? "through" : "unseen";
      return piece(show(shownAs[inside[s]]), looked ? 0 : null, s === t ? "newest" : state);
    };
    const places = shownPlaces(t, inside.length);
    pieces.replaceChildren(...places.flatMap((s, i) => {
      const left = s - (places[i - 1] ?? -1) - 1;
      return left ? [`… ${thousands(left)} …`, element(s)] : [element(s)];
    }));
    if (places.at(-1) < inside.length - 1) pieces.append(`… ${thousands(inside.length - 1 - places.at(-1))} more`);
    const direct = inside.reduce((sum, _, s) => sum + sees(how, t, s, set), 0);
    const others = how === "sinks" ? "nothing else can, but for what the sinks hold" : "nothing else can";
    seen.replaceChildren("In one layer the query (outlined) sees ", make("strong", {}, count(direct, "token")), " (blue), itself included. ",
      how === "full" ? "Nothing before it is hidden." : `Through ${count(layers, "layer")}, ` + (far < t
        ? `the ${count(far, "token")} before it can reach it (underlined); ${others}.`
        : "all that comes before can reach it (underlined)."));
    price();
  }

  function price() {
    const n = LENGTHS[length.input.value];
    const { name, layers, heads } = sizes[which.list.value];
    const perToken = cachePerToken(sizes[which.list.value], Number(each.list.value));
    const set = settings();
    const rows = (values, text) => KINDS.map(([how, label], i) =>
      barRow(label, values[i] / Math.max(...values), text(values[i]), how === kind.list.value ? "chosen" : ""));
    scores.replaceChildren(...rows(KINDS.map(([how]) => pairs(how, n, set)), thousands));
    cache.replaceChildren(...rows(KINDS.map(([how]) => perToken * kept(how, n, set)), bytesText));
    table.textContent = `Naive attention fills a table of ${thousands(n)} × ${thousands(n)} = ${thousands(n * n)} scores in each of ${count(layers * heads, "head")} of ${name}, the hidden ones included. A token keeps ${bytesText(perToken)} in the cache.`;
  }

  root.append(
    own.label,
    own.fault,
    make("div", { className: "controls" }, which.label, kind.label),
    fits,
    make("div", { className: "controls thirds" }, query.label, window.label, sinks.label),
    seen,
    pieces,
    panel("What it costs", "",
      make("div", { className: "controls" }, length.label, each.label),
      make("p", { className: "legend" }, "Scores that are used, in one head of one layer"), scores,
      make("p", { className: "legend" }, "Keys and values that are kept while writing"), cache,
      table));
  read();
}

export default { render };
