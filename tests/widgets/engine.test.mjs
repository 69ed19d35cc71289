// Laws of the engine and the tokenizer of a page, by `node --test`; see test_page_model.py,
// which joins the scripts to one module and compares it with PyTorch.

import assert from "node:assert/strict";
import { test } from "node:test";

const { Tokenizer, Transformer, makeKernel, multiply, readSafetensors } = await import(process.env.ENGINE);

// A safetensors file of named tensors: [dtype, numbers as an array of that type].
function file(tensors, texts = {}) {
  const header = { __metadata__: texts };
  let end = 0;
  for (const [name, [dtype, numbers]] of Object.entries(tensors)) {
    header[name] = { dtype, shape: [numbers.length], data_offsets: [end, (end += numbers.byteLength)] };
  }
  const said = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + said.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(said.length), true);
  bytes.set(said, 8);
  let at = 8 + said.length;
  for (const [, numbers] of Object.values(tensors)) {
    bytes.set(new Uint8Array(numbers.buffer), at);
    at += numbers.byteLength;
  }
  return bytes.buffer;
}

// Two layers, three heads that share one key-value head; any numbers will do.
function smallModel() {
  const config = {
    model_type: "llama", hidden_size: 12, num_attention_heads: 3, num_key_value_heads: 1, num_hidden_layers: 2,
    intermediate_size: 7, vocab_size: 9, max_position_embeddings: 5, rms_norm_eps: 1e-5, rope_theta: 100, tie_word_embeddings: true,
  };
  const numbers = (n) => ({ numbers: Float32Array.from({ length: n }, (_, i) => Math.sin(1 + 7 * i + n)), scale: null });
  const tensors = { "model.embed_tokens.weight": numbers(9 * 12), "model.norm.weight": numbers(12) };
  for (const layer of [0, 1]) {
    const sizes = {
      input_layernorm: 12, post_attention_layernorm: 12, "self_attn.q_proj": 144, "self_attn.k_proj": 48, "self_attn.v_proj": 48,
      "self_attn.o_proj": 144, "mlp.gate_proj": 84, "mlp.up_proj": 84, "mlp.down_proj": 84,
    };
    for (const [name, n] of Object.entries(sizes)) tensors[`model.layers.${layer}.${name}.weight`] = numbers(n);
  }
  return { config, tensors };
}

test("a matrix times a vector, by hand; five rows are four and one", () => {
  const weight = { numbers: new Int8Array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), scale: null };
  assert.deepEqual([...multiply(weight, new Float32Array([1, -1]), 5)], [-1, -1, -1, -1, -1]);
  assert.deepEqual([...multiply(weight, new Float32Array([0, 2]), 5)], [4, 8, 12, 16, 20]);
  weight.scale = [1, 2, -1, 0.5, 0];
  assert.deepEqual([...multiply(weight, new Float32Array([0, 2]), 5)], [4, 16, -12, 8, 0]);
});

test("the kernel multiplies as JavaScript does, and leaves alone what it cannot read", () => {
  for (const [rows, columns] of [[1, 16], [5, 48], [7, 544], [3, 20]]) {
    const numbers = Int8Array.from({ length: rows * columns }, (_, i) => (i === 0 ? -128 : Math.round(127 * Math.sin(i * i))));
    const scale = Float32Array.from({ length: rows }, (_, row) => row - 1.5);
    const x = Float32Array.from({ length: columns }, (_, i) => Math.cos(3 * i));
    const tensors = { weight: { numbers, scale }, norm: { numbers: x, scale: null } };
    const slow = multiply(tensors.weight, x, rows);
    const kernel = makeKernel(tensors);
    assert.ok(kernel, "no WebAssembly here");
    assert.deepEqual(tensors.weight.numbers, numbers);
    assert.equal(kernel.fits(x, rows), columns % 16 === 0);
    assert.equal(tensors.norm.numbers, x);
    const fast = multiply(tensors.weight, x, rows);
    fast.forEach((sum, row) => assert.ok(Math.abs(sum - slow[row]) < 1e-3 * Math.sqrt(columns), `${sum} ${slow[row]}`));
  }
});

test("without WebAssembly there is no kernel", () => {
  const { WebAssembly: there } = globalThis;
  delete globalThis.WebAssembly;
  const tensors = { weight: { numbers: new Int8Array(16), scale: null } };
  assert.equal(makeKernel(tensors), null);
  assert.equal(multiply(tensors.weight, new Float32Array(16), 1)[0], 0);
  globalThis.WebAssembly = there;
});

test("numbers of every type, and rows with a scale", () => {
  const { tensors, texts } = readSafetensors(file({
    whole: ["I8", new Int8Array([1, -127, 64, 2])],
    "whole.scale": ["BF16", new Uint16Array([0x3f80, 0xbf00])], // 1 and -1/2
    float: ["F32", new Float32Array([0.1])],
  }, { config: "{}" }));
  assert.deepEqual([...tensors.whole.numbers], [1, -127, 64, 2]);
  assert.deepEqual([...tensors.whole.scale], [1, -0.5]);
  assert.equal(tensors.float.scale, null);
  assert.deepEqual([...tensors.float.numbers], [Math.fround(0.1)]);
  assert.equal(texts.config, "{}");
});

test("a file that ends too early is refused, wherever it ends", () => {
  const whole = file({ float: ["F32", new Float32Array(3)] });
  for (let n = 0; n < whole.byteLength; n++) assert.throws(() => readSafetensors(whole.slice(0, n)), /ends too early/);
  assert.throws(() => readSafetensors(file({ float: ["F64", new Float64Array(1)] })), /type F64/);
});

test("what was forgotten and read again gives the same, and leaves no trace", () => {
  const { config, tensors } = smallModel();
  const model = new Transformer(config, tensors);
  const read = (ids) => ids.map((id) => model.logits(model.read(id)));
  const first = read([3, 1, 4]);
  model.forget(1);
  assert.equal(model.length, 1);
  read([8, 8]);
  model.forget(1);
  assert.deepEqual(read([1, 4]), first.slice(1));
});

test("every head's weights sum to one, over the positions so far", () => {
  const { config, tensors } = smallModel();
  const model = new Transformer(config, tensors);
  for (const length of [1, 2, 3]) {
    const seen = { stream: [], attention: [] };
    model.read(length, seen);
    assert.equal(seen.stream.length, 3);
    for (const weights of seen.attention.flat()) {
      assert.equal(weights.length, length);
      assert.ok(Math.abs(weights.reduce((a, b) => a + b) - 1) < 1e-6);
    }
  }
});

test("what the engine cannot do is refused by name", () => {
  const { config, tensors } = smallModel();
  assert.throws(() => new Transformer({ ...config, model_type: "gpt2" }, tensors), /type gpt2/);
  assert.throws(() => new Transformer({ ...config, rope_scaling: {} }, tensors), /scaled positions/);
  assert.throws(() => new Transformer({ ...config, num_hidden_layers: 3 }, tensors), /lacks model.layers.2/);
  const model = new Transformer(config, tensors);
  for (let i = 0; i < 5; i++) model.read(0);
  assert.throws(() => model.read(0), /sees 5 tokens/);
  assert.throws(() => new Tokenizer({ model: { type: "Unigram" } }), /cannot be run/);
});
