// What a page asks of a model, answered in a worker; where there is none, in the page
// itself, which then gets its turn every few milliseconds.
//
//     load     the bytes of the weights file  ->  what the page must know of the model
//     read     { text }, { ids } or a conversation { messages }  ->  { ids, text,
//              surprises, entropies, logits }: of each token -ln p and what was expected
//              of it, in nats, and the scores of what follows
//     write    { ids, settings, from }  ->  the same after some more tokens, and whether
//              the text has ended; `text` begins at token `from`
//     look     { text }  ->  { ids, surprises, attention, lens }: what every head looks
//              at from each token, and what the model would say there after each layer
//     frame    { messages }  ->  the ids of a conversation, as long as the window allows
//     judge    { ids, told }  ->  the reward of what they stand for; see reward.js

const SLICE = 12; // milliseconds between two turns of the page
const PIECE = 150; // milliseconds of writing
const LOOKED_AT = 64; // tokens of a text, at most
const GUESSES = 3; // that are told of each layer

// Of one token -ln p, and the entropy, in nats, from the scores of all.
function nats(logits, id) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  let sum = 0;
  let weighted = 0;
  for (const score of logits) {
    const weight = Math.exp(score - largest);
    sum += weight;
    weighted += weight * (score - largest);
  }
  return { surprise: Math.log(sum) + largest - logits[id], entropy: Math.log(sum) - weighted / sum };
}

// What a layer would say: its best guesses, and how probable it finds the true token.
function guesses(logits, next) {
  softmax(logits);
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]);
  const best = order.slice(0, GUESSES).map((id) => ({ id, p: logits[id] }));
  return { best, next: next === undefined ? null : logits[next] };
}

// The weights of every head as `attention.py` packs them: layer by layer, head by head,
// from each token those up to itself, a byte each. `seen[token][layer][head]`.
function packed(seen) {
  const bytes = [];
  seen[0].forEach((heads, layer) => heads.forEach((_, head) => {
    for (const layers of seen) for (const weight of layers[layer][head]) bytes.push(Math.round(255 * weight));
  }));
  return btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
}

// `pause` lets the page have its turn; a worker needs none.
export function modelServer(send, pause = null) {
  let model, tokenizer, start, marks, ends, judge;
  const known = []; // the tokens in the model's cache, and of each what it was in nats
  const measured = [];
  let logits; // after the last of them

  let since = 0; // when the page had its turn

  async function turn() {
    if (!pause || performance.now() - since < SLICE) return;
    await pause();
    since = performance.now();
  }

  // Read one token more.
  async function advance(id) {
    if (measured.length === known.length) measured.push(known.length ? nats(logits, id) : null);
    logits = model.logits(model.read(id));
    known.push(id);
    await turn();
  }

  // Forget all but the first n tokens.
  function keep(n) {
    model.forget(n);
    known.length = n;
    measured.length = Math.min(measured.length, n + 1);
  }

  // What the page is told of the tokens that have been read.
  function told(more, from = 0) {
    const ids = known.slice(1);
    const [surprises, entropies] = ["surprise", "entropy"].map((what) =>
      measured.slice(1, known.length).map((each) => each[what]));
    return { ids, text: textOf(ids.slice(from)), surprises, entropies, logits: Array.from(logits), ...more };
  }

  const textOf = (ids) => tokenizer.decode(ids.filter((id) => !marks.has(id)));

  // The ids of a text, if they are not too many.
  function encode(text, limit = model.contextLength - 1, who = "the model sees") {
    const long = (n) => new Error(`The text has ${n} tokens; ${who} ${limit} at most.`);
    if (text.length > limit * tokenizer.longest) throw long(`more than ${limit}`);
    const ids = tokenizer.encode(text);
    if (ids.length > limit) throw long(ids.length);
    return ids;
  }

  const tasks = {
    load(buffer) {
      const { tensors, texts } = readSafetensors(buffer);
      makeKernel(tensors);
      const config = JSON.parse(texts.config);
      model = new Transformer(config, tensors);
      tokenizer = new Tokenizer(JSON.parse(texts.tokenizer));
      judge = "reward_pooling" in config ? new RewardModel(model, config, tensors) : null;
      start = config.bos_token_id; // stands before every text, and ends it
      marks = new Set(tokenizer.special.values()); // stand for no text
      ends = new Set([start, tokenizer.special.get("<|end|>")]);
      return {
        start,
        limit: model.contextLength - 1,
        tokens: tokenizer.pieces.map(show),
        special: Object.fromEntries(tokenizer.special),
        layers: model.blocks.length,
        heads: model.nHeads,
      };
    },

    async read({ text, ids, messages }) {
      const limit = model.contextLength - 1;
      if (messages) ids = encodePrompt(messages, tokenizer.special, encode).slice(1);
      ids ??= encode(text);
      if (ids.length > limit) throw new Error(`The conversation has ${ids.length} tokens; the model sees ${limit} at most.`);
      const wanted = [start, ...ids];
      let same = 0;
      while (same < known.length && known[same] === wanted[same]) same += 1;
      // The scores after an earlier token are not kept: that token is read again.
      if (same < known.length) same = Math.max(0, same - 1);
      keep(same);
      for (const id of wanted.slice(same)) await advance(id);
      return told(text === undefined ? {} : { text });
    },

    async write({ ids, settings, from = 0 }) {
      await tasks.read({ ids });
      let ended = false;
      const until = performance.now() + PIECE;
      while (!ended && known.length <= model.contextLength - 1 && performance.now() < until) {
        const id = seededToken(Array.from(logits), settings, known.length - 1);
        ended = ends.has(id);
        if (!ended) await advance(id);
      }
      return told({ ended }, from);
    },

    async look({ text }) {
      const ids = [start, ...encode(text, LOOKED_AT, "this explorer shows")];
      const attention = [];
      const lens = [];
      const surprises = [];
      keep(0);
      for (const [place, id] of ids.entries()) {
        const seen = { stream: [], attention: [] };
        model.read(id, seen);
        attention.push(seen.attention);
        const scores = seen.stream.map((x) => model.logits(x));
        if (place + 1 < ids.length) surprises.push(nats(scores.at(-1), ids[place + 1]).surprise);
        lens.push(scores.map((each) => guesses(each, ids[place + 1])));
        await turn();
      }
      keep(0);
      return { ids, surprises, attention: packed(attention), lens };
    },

    frame({ messages }) {
      const ids = encodeChat(messages, tokenizer.special, (text) => tokenizer.encode(text));
      const { contextLength } = model;
      return ids.length > contextLength ? [...ids.slice(0, contextLength - 1), ids.at(-1)] : ids;
    },

    judge: ({ ids, told }) => judge.reward(ids, told),
  };

  let queue = Promise.resolve(); // what is asked is answered in order
  return ({ number, task, argument }) => {
    queue = queue.then(async () => {
      try {
        send({ number, result: await tasks[task](argument) });
      } catch (error) {
        send({ number, error: error.message });
      }
    });
  };
}
