// What a page asks of the model, answered in a worker; where there is none, in the page
// itself, in slices of a few milliseconds.
//
//     load     the bytes of the weights file  ->  what the page must know of the model
//     read     { text } or { ids }  ->  { ids, text, logits }, the scores of what follows

const SLICE = 12; // milliseconds
const pause = () => new Promise((go) => setTimeout(go));

export function modelServer(send) {
  let model, tokenizer, start;
  let known = []; // the tokens in the model's cache

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
      same = Math.min(same, wanted.length - 1); // the last is read again: for its scores
      model.forget(same);
      known.length = same;
      let stream;
      let since = performance.now();
      for (const id of wanted.slice(same)) {
        stream = model.read(id);
        known.push(id);
        if (performance.now() - since < SLICE) continue;
        await pause();
        since = performance.now();
      }
      return { ids, text: text ?? tokenizer.decode(ids), logits: model.logits(stream) };
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
