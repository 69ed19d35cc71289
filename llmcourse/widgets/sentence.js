// What a model sees in the reader's own sentence: what its heads look at, how surprising
// each word is, and what it would say after each block. The explorers of these draw it.

const START = "■"; // how the mark before a text is shown

const SIGHTS = [
  { name: "what each head looks at", mark: "by-attention", draw: attention.render, of: attentionOf },
  { name: "how surprising each word is", mark: "by-surprise", draw: surprise.render, of: surpriseOf },
  { name: "what comes next, by each block", mark: "by-layer", draw: lens.render, of: lensOf },
];

// Tokens as the words that they are part of: [{ text, nats }].
function wordsOf(tokens, nats) {
  const words = [];
  tokens.forEach((token, i) => {
    if (!words.length || /^\s/.test(token)) words.push({ text: "", nats: 0 });
    words.at(-1).text += token;
    words.at(-1).nats += nats[i];
  });
  return words.map(({ text, nats }) => ({ text: text.trim() || visible(text), nats }));
}

// How much each head of each layer looks at some keys, on average over a text.
function meanWeight(read, tokens, { layers, heads }, keyOf) {
  const bytes = attention.unpack(read.attention);
  const queries = tokens.map((_, query) => query).filter((query) => keyOf(query) >= 0);
  const mean = (layer, head) => queries.reduce((sum, query) =>
    sum + attention.row(bytes, tokens.length, heads, layer, head, query)[keyOf(query)], 0) / queries.length;
  return Array.from({ length: layers }, (_, layer) => Array.from({ length: heads }, (_, head) => mean(layer, head)));
}

function attentionOf(read, tokens, about) {
  const kinds = [
    ["an earlier place of what comes next", (query) => read.ids.lastIndexOf(read.ids[query + 1], query)],
    ["the token before", (query) => query - 1],
    [`the mark before the text, ${START}`, () => 0],
  ].filter(([, keyOf]) => tokens.some((_, query) => keyOf(query) >= 0));
  const scored = kinds.map(([name, keyOf]) => ({ name, scores: meanWeight(read, tokens, about, keyOf) }));
  // Begin with the head that does most of the first kind, where it does so most.
  const [layer, head] = attention.best(scored[0].scores);
  const bytes = attention.unpack(read.attention);
  const keys = tokens.map((_, query) => kinds[0][1](query));
  const weights = keys.map((key, query) =>
    (key < 0 ? -1 : attention.row(bytes, tokens.length, about.heads, layer, head, query)[key]));
  return {
    texts: [{ tokens, weights: read.attention }],
    kinds: scored,
    over: "this text",
    layer: layer + 1,
    head: head + 1,
    query: weights.indexOf(Math.max(...weights)) + 1,
    n_layers: about.layers,
    n_heads: about.heads,
  };
}

function surpriseOf(read, tokens) {
  const words = wordsOf(tokens.slice(1), read.surprises);
  return {
    stories: [words.map(({ text }) => text)],
    predictors: [{ name: "base-llm", nats: [words.map(({ nats }) => nats)] }],
    word: 1,
  };
}

function lensOf(read, tokens, about) {
  return { tokens, names: about.tokens, lens: read.lens, query: tokens.length };
}

function sentenceExplorer(place) {
  const model = pageModels.get("base-llm");
  const begin = Math.max(0, SIGHTS.findIndex(({ mark }) => place.classList.contains(mark)));
  const first = examplesOf(place)[0] ?? "Once there was a";
  const card = modelCard(place, "own-sentence", "Explorer of your own sentence", "Read");
  const area = make("textarea", { rows: 2, spellcheck: false, value: first });
  const look = mainButton("Read", read);
  const sight = make("select", {}, ...SIGHTS.map(({ name }, i) => make("option", { value: String(i) }, name)));
  const after = make("div", { className: "seen" });
  const chosen = {}; // layer, head and token: kept while texts and sights change
  let seen = null; // what the model read last

  async function read() {
    if (card.fetching) return;
    await card.run(async () => {
      await card.fetch(model);
      if (!area.value) throw new Error("Type a word or more: there is nothing to read.");
      seen = await model.ask("look", { text: area.value });
      card.tell(`${count(seen.ids.length - 1, "token")} read, and the mark ${START} before them.`);
      delete chosen.query;
      show();
    });
  }

  // The explorers ask for values as from a notebook's widget.
  function show() {
    if (!seen) return;
    const tokens = seen.ids.map((id, i) => (i ? model.about.tokens[id] : `${START} `));
    const { draw, of } = SIGHTS[sight.value];
    const values = { ...of(seen, tokens, model.about), ...chosen };
    const el = make("div");
    draw({ model: { get: (name) => values[name], set: (name, value) => (chosen[name] = value) }, el });
    after.replaceChildren(el);
  }

  sight.value = String(begin);
  sight.addEventListener("change", () => (seen ? show() : read()));
  answerKeys(card.root, area, { ask: read });
  card.root.append(
    make("label", { className: "field" }, make("span", {}, "A sentence of your own"), area),
    make("div", { className: "controls" },
      make("div", { className: "buttons" }, look),
      make("label", { className: "wide" }, make("span", {}, "Show"), sight)),
    card.progress,
    card.status,
    after);
  card.tell(`Press Read to fetch base-llm, a language model made in this course (${model.size}). It reads your sentence in the browser.`);
}

for (const place of document.querySelectorAll(".llmcourse-sentence")) sentenceExplorer(place);
