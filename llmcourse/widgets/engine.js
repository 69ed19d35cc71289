// The course's transformer in the page: `llmcourse.model.transformer.Transformer` of the
// family "llama", in plain JavaScript, one token at a time with a key-value cache.
//
//     id ── embedding ──┬─────────────(+)──┬─────────────────(+)── … ── norm ── logits
//                       │              │   │                  │
//                       └ norm, attention  └ norm, feed-forward
//                       └───────── one block, n_layers times ──┘
//
// D d_model, H query heads, K key-value heads, d = D / H, F d_ff, V vocabulary,
// S positions read so far. A tensor is { numbers, scale }: its numbers in one flat array,
// row by row, and what each row is multiplied by, or null.

// The tensors and the texts of a safetensors file: eight bytes that say how long the
// header is, the header in JSON, then the numbers. `X.scale` holds the scale of `X`.
export function readSafetensors(buffer) {
  const early = new Error("The file of the weights ends too early.");
  if (buffer.byteLength < 8) throw early;
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  if (buffer.byteLength < start) throw early;
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const { __metadata__: texts = {}, ...described } = header;
  const tensors = {};
  for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(described)) {
    if (!(dtype in NUMBERS)) throw new Error(`Weights of type ${dtype} cannot be read.`);
    if (buffer.byteLength < start + to) throw early;
    tensors[name] = { numbers: NUMBERS[dtype](buffer.slice(start + from, start + to)), scale: null };
  }
  for (const [name, tensor] of Object.entries(tensors)) tensor.scale = tensors[`${name}.scale`]?.numbers ?? null;
  return { tensors, texts };
}

// Numbers of each type: 32-bit floats, or whole numbers of 8 bits as they are.
const NUMBERS = {
  F32: (bytes) => new Float32Array(bytes),
  BF16: (bytes) => new Float32Array(Uint32Array.from(new Uint16Array(bytes), (bits) => bits << 16).buffer),
  I8: (bytes) => new Int8Array(bytes),
};

// weight @ x: (rows, columns) and (columns) make (rows). Nearly all of the time is spent
// here, so weights that a kernel holds are multiplied there (kernel.js).
export function multiply({ numbers, scale, kernel }, x, rows) {
  const sums = kernel?.fits(x, rows) ? kernel.multiply(numbers, x, rows) : multiplyRows(numbers, x, rows);
  if (scale) for (let row = 0; row < rows; row++) sums[row] *= scale[row];
  return sums;
}

// Four rows at once take half as long as one after the other.
function multiplyRows(weight, x, rows) {
  const out = new Float32Array(rows);
  const columns = x.length;
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    const a = row * columns;
    const b = a + columns;
    const c = b + columns;
    const d = c + columns;
    let sumA = 0;
    let sumB = 0;
    let sumC = 0;
    let sumD = 0;
    for (let i = 0; i < columns; i++) {
      sumA += weight[a + i] * x[i];
      sumB += weight[b + i] * x[i];
      sumC += weight[c + i] * x[i];
      sumD += weight[d + i] * x[i];
    }
    out[row] = sumA;
    out[row + 1] = sumB;
    out[row + 2] = sumC;
    out[row + 3] = sumD;
  }
  for (; row < rows; row++) {
    for (let i = 0; i < columns; i++) out[row] += weight[row * columns + i] * x[i];
  }
  return out;
}

// Scaled to root-mean-square 1, then each coordinate by a weight: (D) makes (D).
function rmsNorm(x, { numbers: weight }, eps) {
  let squares = 0;
  for (const value of x) squares += value * value;
  const scale = 1 / Math.sqrt(squares / x.length + eps);
  return x.map((value, i) => value * scale * weight[i]);
}

// Scores become shares of one, in place.
function softmax(scores) {
  const largest = scores.reduce((a, b) => Math.max(a, b));
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += scores[i] = Math.exp(scores[i] - largest);
  for (let i = 0; i < scores.length; i++) scores[i] /= sum;
}

function add(x, update) {
  for (let i = 0; i < x.length; i++) x[i] += update[i];
}

export class Transformer {
  // What config.json says, and the tensors under Hugging Face's names.
  constructor(config, tensors) {
    if (config.model_type !== "llama") throw new Error(`A model of type ${config.model_type} cannot be run here.`);
    if (config.rope_scaling) throw new Error("A model with scaled positions cannot be run here.");
    const weight = (name) => {
      if (!tensors[name]) throw new Error(`The file of the weights lacks ${name}.`);
      return tensors[name];
    };
    this.width = config.hidden_size; // D
    this.nHeads = config.num_attention_heads; // H
    this.nKeyHeads = config.num_key_value_heads; // K
    this.headWidth = this.width / this.nHeads; // d
    this.hiddenWidth = config.intermediate_size; // F
    this.vocabSize = config.vocab_size; // V
    this.contextLength = config.max_position_embeddings;
    this.eps = config.rms_norm_eps;
    this.embedding = weight("model.embed_tokens.weight"); // (V, D)
    this.unembedding = config.tie_word_embeddings ? this.embedding : weight("lm_head.weight");
    this.norm = weight("model.norm.weight");
    this.blocks = Array.from({ length: config.num_hidden_layers }, (_, l) => {
      const own = (name) => weight(`model.layers.${l}.${name}.weight`);
      return {
        attentionNorm: own("input_layernorm"),
        query: own("self_attn.q_proj"), // (H d, D)
        key: own("self_attn.k_proj"), // (K d, D)
        value: own("self_attn.v_proj"), // (K d, D)
        output: own("self_attn.o_proj"), // (D, H d)
        feedForwardNorm: own("post_attention_layernorm"),
        gate: own("mlp.gate_proj"), // (F, D)
        up: own("mlp.up_proj"), // (F, D)
        down: own("mlp.down_proj"), // (D, F)
        keys: [], // the cache: S vectors (K d), keys and values of the positions so far
        values: [],
      };
    });
    this.frequencies = Float32Array.from({ length: this.headWidth / 2 }, (_, i) =>
      config.rope_theta ** ((-2 * i) / this.headWidth)); // radians per position
  }

  // How many positions have been read: S.
  get length() {
    return this.blocks[0].keys.length;
  }

  // Forget all but the first n positions.
  forget(n) {
    for (const { keys, values } of this.blocks) keys.length = values.length = Math.min(n, keys.length);
  }

  // Read one token and return the residual stream (D) above it. Into `seen`, if given,
  // goes what there is to see: `stream` gets (D) before each block and after the last,
  // `attention` for each block the weights of each head (H arrays of S).
  read(id, seen) {
    return this.pass(this.embed(id), seen);
  }

  // The same from the vector of a token (D), which is changed.
  pass(x, seen = { stream: [], attention: [] }) {
    if (this.length >= this.contextLength) throw new Error(`The model sees ${this.contextLength} tokens at most.`);
    for (const block of this.blocks) {
      seen.stream.push(x.slice());
      add(x, this.attend(block, rmsNorm(x, block.attentionNorm, this.eps), seen.attention));
      add(x, this.feedForward(block, rmsNorm(x, block.feedForwardNorm, this.eps)));
    }
    seen.stream.push(x);
    return x;
  }

  // The row of the embedding for one token (D).
  embed(id) {
    const { numbers, scale } = this.embedding;
    const row = new Float32Array(numbers.subarray(id * this.width, (id + 1) * this.width));
    return scale ? row.map((number) => number * scale[id]) : row;
  }

  // The scores of all tokens (V) to be the next, from a residual stream (D).
  logits(x) {
    return multiply(this.unembedding, rmsNorm(x, this.norm, this.eps), this.vocabSize);
  }

  attend(block, x, seen) {
    const { nHeads, nKeyHeads, headWidth: d } = this;
    const position = block.keys.length;
    const query = this.turn(multiply(block.query, x, nHeads * d), position);
    block.keys.push(this.turn(multiply(block.key, x, nKeyHeads * d), position));
    block.values.push(multiply(block.value, x, nKeyHeads * d));
    const context = new Float32Array(nHeads * d);
    const weights = [];
    for (let head = 0; head < nHeads; head++) {
      const from = head * d;
      const shared = Math.floor((head * nKeyHeads) / nHeads) * d; // its key-value head
      const shares = new Float32Array(block.keys.length); // (S)
      for (let s = 0; s < shares.length; s++) {
        const key = block.keys[s];
        let score = 0;
        for (let i = 0; i < d; i++) score += query[from + i] * key[shared + i];
        shares[s] = score / Math.sqrt(d);
      }
      softmax(shares);
      for (let s = 0; s < shares.length; s++) {
        const value = block.values[s];
        for (let i = 0; i < d; i++) context[from + i] += shares[s] * value[shared + i];
      }
      weights.push(shares);
    }
    seen.push(weights);
    return multiply(block.output, context, this.width);
  }

  // Rotary positions: coordinates i and i + d / 2 of each head turn by an angle.
  turn(x, position) {
    const { frequencies, headWidth: d } = this;
    for (let i = 0; i < d / 2; i++) {
      const cos = Math.cos(position * frequencies[i]);
      const sin = Math.sin(position * frequencies[i]);
      for (let first = i; first < x.length; first += d) {
        const second = first + d / 2;
        [x[first], x[second]] = [x[first] * cos - x[second] * sin, x[second] * cos + x[first] * sin];
      }
    }
    return x;
  }

  // down(silu(gate(x)) * up(x))
  feedForward(block, x) {
    const hidden = multiply(block.gate, x, this.hiddenWidth);
    const up = multiply(block.up, x, this.hiddenWidth);
    for (let i = 0; i < hidden.length; i++) hidden[i] *= up[i] / (1 + Math.exp(-hidden[i]));
    return multiply(block.down, hidden, this.width);
  }
}
