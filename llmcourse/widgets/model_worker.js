// What a page asks of the model, answered in a worker; where there is none, in the page
// itself, which then gets its turn every few milliseconds.
//
//     load     the bytes of the weights file  ->  what the page must know of the model
//     read     { text } or { ids }  ->  { ids, text, surprises, logits }: of each token
//              -ln p in nats, and the scores of what follows
//     write    { ids, settings }  ->  the same after some more tokens, and whether the
//              text has ended

const SLICE = 12; // milliseconds between two turns of the page
const PIECE = 150; // milliseconds of writing

// -ln p of one token, from the scores of all.
function surprise(logits, id) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, score) => total + Math.exp(score - largest), 0);
  return Math.log(sum) + largest - logits[id];
}

// `pause` lets the page have its turn; a worker needs none.
export function modelServer(send, pause = null) {
  let model, tokenizer, start;
  const known = []; // the tokens in the model's cache, and of each how surprising it was
  const surprises = [];
  let logits; // after the last of them

  let since = 0; // when the page had its turn

  // Read one token more.
  async function advance(id) {
    if (surprises.length === known.length) surprises.push(known.length ? surprise(logits, id) : 0);
    logits = model.logits(model.read(id));
    known.push(id);
    if (pause && performance.now() - since > SLICE) {
      await pause();
      since = performance.now();
    }
  }

  // What the page is told of the tokens that have been read.
  function told(more) {
    const ids = known.slice(1);
    return { ids, text: tokenizer.decode(ids), surprises: surprises.slice(1), logits: Array.from(logits), ...more };
  }

  const tasks = {
    load(buffer) {
      const { tensors, texts } = readSafetensors(buffer);
      const config = JSON.parse(texts.config);
      model = new Transformer(config, tensors);
      tokenizer = new Tokenizer(JSON.parse(texts.tokenizer));
      start = config.bos_token_id; // stands before every text, and ends it
      return { start, limit: model.contextLength - 1, tokens: tokenizer.pieces.map(show) };
    },

    async read({ text, ids }) {
      const limit = model.contextLength - 1;
      const long = (n) => new Error(`The text has ${n} tokens; the model sees ${limit} at most.`);
      if (text?.length > limit * tokenizer.longest) throw long(`more than ${limit}`);
      ids ??= tokenizer.encode(text);
      if (ids.length > limit) throw long(ids.length);
      const wanted = [start, ...ids];
      let same = 0;
      while (same < known.length && known[same] === wanted[same]) same += 1;
      // The scores after an earlier token are not kept: that token is read again.
      if (same < known.length) same = Math.max(0, same - 1);
      model.forget(same);
      known.length = same;
      surprises.length = Math.min(surprises.length, same + 1);
      for (const id of wanted.slice(same)) await advance(id);
      return told(text === undefined ? {} : { text });
    },

    async write({ ids, settings }) {
      await tasks.read({ ids });
      let ended = false;
      const until = performance.now() + PIECE;
      while (!ended && known.length <= model.contextLength - 1 && performance.now() < until) {
        const id = seededToken(Array.from(logits), settings, known.length - 1);
        ended = id === start;
        if (!ended) await advance(id);
      }
      return told({ ended });
    },
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
