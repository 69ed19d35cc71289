// Search by words: a text cut into chunks, scored by BM25. As `llmcourse.retrieval` does.

const SHOWN_PASSAGES = 3;
const K1 = 1.5;
const B = 0.75;
const [TOKEN, WORD, LINE, SENTENCE, PARAGRAPH] = [0, 1, 2, 3, 4]; // how good a place to cut
const LEVELS = {
  fixed: [TOKEN],
  sentences: [SENTENCE, TOKEN],
  recursive: [PARAGRAPH, SENTENCE, LINE, WORD, TOKEN],
};
const SPACE = /[\p{White_Space}\x1c-\x1f]+/gu;
const trimmed = (text) => text.replace(/^[\p{White_Space}\x1c-\x1f]+|[\p{White_Space}\x1c-\x1f]+$/gu, "");

// A word as a search compares it; by way of capitals, "ß" is "ss", as in Python's casefold.
// Only the dotless "ı" stays: its capital is that of "i".
const folded = (word) => word.toLowerCase().replace(/[^ı]+/g, (part) => part.toUpperCase().toLowerCase()).replaceAll("ς", "σ");
export const words = (text) => (text.normalize("NFKC").match(/[\p{Alphabetic}\p{N}\p{Pc}][\p{Alphabetic}\p{M}\p{N}\p{Pc}\p{Join_Control}]*/gu) ?? []).map(folded);

// Where a text can be cut: characters, and tokens up to there. `sizes` are the tokens' bytes.
function borders(text, sizes) {
  const characters = new Map();
  let [at, n] = [0, 0];
  for (const character of text) {
    n += utf8(character).length;
    at += character.length;
    characters.set(n, at);
  }
  const [ends, tokens] = [[0], [0]];
  let length = 0;
  sizes.forEach((size, i) => {
    length += size;
    if (!characters.has(length)) return; // the token ends inside a character
    ends.push(characters.get(length));
    tokens.push(i + 1);
  });
  return { ends, tokens };
}

function places(text, ends) {
  const found = ends.map(() => TOKEN);
  let border = 0;
  for (const { 0: space, index } of text.matchAll(SPACE)) {
    while (ends[border] < index) border++; // where a token reaches into the space, behind it
    if (!index || border === ends.length) continue;
    const lines = space.split("\n").length - 1;
    const behind = [...text.slice(index + space.length, index + space.length + 2)][0] ?? "";
    const ended = /[.!?…]["'”’)\]]*$/.test(text.slice(Math.max(index - 4, 0), index)) && !/^\p{Lowercase}/u.test(behind);
    const place = lines > 1 ? PARAGRAPH : ended ? SENTENCE : lines ? LINE : WORD;
    found[border] = Math.max(found[border], place);
  }
  return found;
}

// Chunks [first border, last border] of a span, cut at places of the first level, or of
// the next; pieces that are small enough are put together.
function cut(span, levels, how) {
  const [first, last] = span;
  const { tokens, places: good, size } = how;
  const cuts = [first];
  for (let border = first + 1; border < last; border++) if (good[border] >= levels[0]) cuts.push(border);
  cuts.push(last);
  const chunks = [];
  let small = [];
  for (let i = 1; i < cuts.length; i++) {
    const part = [cuts[i - 1], cuts[i]];
    if (tokens[part[1]] - tokens[part[0]] <= size) small.push(part);
    else {
      chunks.push(...packed(small, how), ...cut(part, levels.slice(1), how));
      small = [];
    }
  }
  return [...chunks, ...packed(small, how)];
}

// Neighbours put together, as many as fit; the last of them once more in the next.
function packed(parts, { tokens, size, overlap }) {
  const chunks = [];
  let held = [];
  for (const part of parts) {
    const end = tokens[part[1]];
    if (held.length && end - tokens[held[0][0]] > size) {
      chunks.push([held[0][0], held.at(-1)[1]]);
      const full = tokens[held.at(-1)[1]];
      const again = held.findIndex(([start]) => full - tokens[start] <= overlap && end - tokens[start] <= size);
      held = again < 0 ? [] : held.slice(again);
    }
    held.push(part);
  }
  if (held.length) chunks.push([held[0][0], held.at(-1)[1]]);
  return chunks;
}

// { text, start, end, tokens } of each chunk; `sizes` are the bytes of the text's tokens.
export function chunksOf(text, sizes, kind, size, overlap) {
  const { ends, tokens } = borders(text, sizes);
  if (ends.length < 2) return [];
  const how = { tokens, places: places(text, ends), size, overlap };
  return cut([0, ends.length - 1], LEVELS[kind], how).map(([a, b]) =>
    ({ text: text.slice(ends[a], ends[b]), start: ends[a], end: ends[b], tokens: tokens[b] - tokens[a] }));
}

// What BM25 gives each document for each word of a query: [{ word, having, rarity, scores }].
export function bm25(asked, documents) {
  const query = [...new Set(asked)];
  const times = (word) => asked.filter((other) => other === word).length;
  const mean = documents.reduce((sum, document) => sum + document.length, 0) / documents.length || 1;
  const counts = documents.map((document) => {
    const count = new Map();
    for (const word of document) count.set(word, (count.get(word) ?? 0) + 1);
    return count;
  });
  return query.map((word) => {
    const having = counts.reduce((sum, count) => sum + count.has(word), 0);
    const rarity = Math.log1p((documents.length - having + 0.5) / (having + 0.5));
    const scores = counts.map((count, i) => {
      const n = count.get(word) ?? 0;
      return (times(word) * rarity * n) / (n + K1 * (1 - B + (B * documents[i].length) / mean));
    });
    return { word, having, rarity, scores };
  });
}

// The places of the documents with the highest sums, those without any word left out.
export function best(terms, n) {
  const totals = Array.from({ length: n }, (_, i) => terms.reduce((sum, { scores }) => sum + scores[i], 0));
  const order = totals.map((_, i) => i).filter((i) => totals[i] > 0).sort((a, b) => totals[b] - totals[a] || a - b);
  return order.map((i) => [i, totals[i]]);
}

function render({ model, el }) {
  const spec = JSON.parse(model.get("spec"));
  const encode = quickEncoder(spec);
  const lengths = pieceBytes(spec).map((bytes) => bytes.length);
  const root = card(el, "Search explorer");
  let text, sizes, found;

  const own = textField("The text: a book of tales, or one of your own", { value: model.get("text"), rows: 4 }, read);
  const example = choice("Questions", model.get("questions").map((question) => [question, question]), () => {
    query.area.value = example.list.value;
    search();
  });
  const query = textField("Search for", { value: example.list.value, rows: 1 }, () => {
    example.list.value = query.area.value; // none is chosen any more, unless it is this one
    search();
  });
  const kind = choice("Cut", [["fixed", "every so many tokens"], ["sentences", "whole sentences"], ["recursive", "paragraphs, then sentences"]], split);
  const size = slider("At most", { min: 8, max: 320, step: 8, value: 64, show: (n) => count(n, "token") }, split);
  const overlap = slider("Overlap", { min: 0, max: 75, step: 5, value: 0, show: (share) => `${share} %` }, split);
  const pieces = make("p", { className: "sentence", "aria-live": "polite" });
  const terms = make("ol", { className: "bars named" });
  const passages = make("ol", { className: "passages" });

  function read() {
    const fault = faultOf(own.area.value);
    own.tell(fault);
    if (fault && text !== undefined) return;
    text = own.area.value;
    sizes = encode(text).map((id) => lengths[id]);
    split();
  }

  function split() {
    const n = Number(size.input.value);
    const chunks = chunksOf(text, sizes, kind.list.value, n, Math.floor((n * Number(overlap.input.value)) / 100));
    found = chunks.map((chunk) => ({ ...chunk, text: trimmed(chunk.text) })).filter((chunk) => chunk.text);
    for (const passage of found) passage.words = words(passage.text);
    search();
  }

  // The words of the query, coloured, in the order of the text.
  function marked(passage, asked) {
    const hues = new Map(asked.map(({ word }, i) => [word, i]));
    return passage.text.split(/([\p{Alphabetic}\p{N}\p{Pc}][\p{Alphabetic}\p{M}\p{N}\p{Pc}\p{Join_Control}]*)/u).map((part, i) => {
      const hue = i % 2 ? hues.get(folded(part)) : undefined;
      if (hue === undefined) return part;
      const span = make("span", { className: "hit" }, part);
      span.dataset.hue = hue % 5;
      return span;
    });
  }

  function search() {
    const fault = faultOf(query.area.value, 500);
    const wanted = fault ? [] : words(query.area.value);
    query.tell(fault ?? (wanted.length ? null : "There is no word to search for."));
    const asked = bm25(wanted, found.map((passage) => passage.words));
    const ranking = best(asked, found.length);
    const mean = sizes.length ? found.reduce((sum, { tokens }) => sum + tokens, 0) / Math.max(1, found.length) : 0;
    pieces.replaceChildren("The text has ", make("strong", {}, count(sizes.length, "token")), " and is cut into ",
      make("strong", {}, count(found.length, "passage")), ` of ${mean.toFixed(0)} tokens on average. ${thousands(ranking.length)} of them have a word of the question.`);
    const rarest = Math.max(1e-9, ...asked.map(({ rarity }) => rarity));
    terms.replaceChildren(...asked.map(({ word, having, rarity }, i) => {
      const row = barRow(word, rarity / rarest, `${rarity.toFixed(2)}, in ${having ? thousands(having) : "none"}`);
      row.querySelector(".bar").dataset.hue = i % 5;
      return row;
    }));
    const top = ranking[0]?.[1] ?? 1;
    const place = (at) => thousands([...text.slice(0, at)].length); // in characters, as in Python
    passages.replaceChildren(...ranking.slice(0, SHOWN_PASSAGES).map(([i, total]) => {
      const bars = barRow(`${place(found[i].start)}–${place(found[i].end)}`, asked.map(({ scores }) => scores[i] / top), total.toFixed(2));
      bars.querySelectorAll(".bar").forEach((bar, term) => (bar.dataset.hue = term % 5));
      const parts = asked.filter(({ scores }) => scores[i] > 0).map(({ word, scores }) => `${word} ${scores[i].toFixed(2)}`);
      return make("li", {}, make("ol", { className: "bars named" }, bars),
        make("p", { className: "legend" }, parts.join(" + ")),
        make("p", { className: "passage", dir: "auto" }, ...marked(found[i], asked)));
    }));
    if (!ranking.length) passages.replaceChildren(make("li", { className: "none" }, "No passage contains a word of the question."));
  }

  root.append(
    own.label,
    own.fault,
    make("div", { className: "controls" }, kind.label, size.label, overlap.label),
    pieces,
    make("div", { className: "controls" }, example.label),
    query.label,
    query.fault,
    panel("What each word is worth", "", terms,
      make("p", { className: "legend" }, "The bar is ln(1 + (N − n + ½) / (n + ½)): long for a word that few of the N passages have.")),
    panel("The best passages", "", passages,
      make("p", { className: "legend" }, "Its place, in characters; its score, and what each word adds to it.")));
  read();
}

export default { render };
