// What a model takes of a card's memory: `llmcourse.model.costs` in the page.

// Bytes for each parameter; only who answers keeps keys and values.
export const USES = [
  { name: "answer, float32", weights: 4, gradients: 0, optimizer: 0, answers: true },
  { name: "answer, bfloat16", weights: 2, gradients: 0, optimizer: 0, answers: true },
  { name: "answer, weights in 8 bits", weights: 1, gradients: 0, optimizer: 0, answers: true },
  { name: "answer, weights in 4 bits", weights: 0.5, gradients: 0, optimizer: 0, answers: true },
  { name: "train with AdamW, float32", weights: 4, gradients: 4, optimizer: 8, answers: false },
  { name: "train with AdamW, mixed precision", weights: 2, gradients: 2, optimizer: 12, answers: false },
];
const USABLE = 0.9; // of a card: the rest is left free
const LENGTHS = Array.from({ length: 14 }, (_, i) => 128 * 2 ** i);

export function parameters({ vocab, width, layers, heads, kv_heads: shared, d_head: each, d_ff: inner, positions, gpt2, tied }) {
  const [queries, keys] = [heads * each, shared * each];
  const embedding = vocab * width;
  const attention = layers * width * (2 * queries + 2 * keys);
  const network = layers * (gpt2 ? 2 : 3) * width * inner;
  const norms = (2 * layers + 1) * width * (gpt2 ? 2 : 1);
  const biases = gpt2 ? layers * (queries + 2 * keys + width + inner + width) : 0;
  return embedding * (tied ? 1 : 2) + attention + network + norms + biases + positions * width;
}

// Bytes of each part, for so many texts of so many tokens.
export function parts(model, use, { length, texts, bytesEach }) {
  const n = parameters(model);
  const perToken = 2 * model.layers * model.kv_heads * model.d_head * bytesEach;
  return {
    weights: n * use.weights,
    gradients: n * use.gradients,
    optimizer: n * use.optimizer,
    cache: use.answers ? perToken * length * texts : 0,
    oneText: perToken * length,
  };
}

export const total = ({ weights, gradients, optimizer, cache }) => weights + gradients + optimizer + cache;

// How many texts fit beside the weights.
export const room = ({ weights, oneText }, card) => Math.max(0, Math.floor((USABLE * card - weights) / oneText));

export const divisors = (n) => Array.from({ length: n }, (_, i) => i + 1).filter((k) => n % k === 0);

// As cards are sold: a gigabyte is a thousand million.
export function decimalText(n) {
  const unit = n < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(n) / 3));
  const value = n / 1000 ** unit;
  return `${value < 100 && unit ? value.toFixed(1) : thousands(Math.round(value))} ${["bytes", "kB", "MB", "GB", "TB"][unit]}`;
}

// "8.0 billion"
export function countText(n) {
  const unit = n < 1e6 ? 0 : Math.min(3, Math.floor(Math.log10(n) / 3));
  return unit < 2 ? thousands(n) : `${(n / 1000 ** unit).toFixed(1)} ${["million", "billion"][unit - 2]}`;
}

function render({ model, el }) {
  const models = model.get("models");
  const cards = model.get("cards"); // [{ name, bytes }, ...]
  const root = card(el, "Memory explorer");
  let options = []; // numbers of key-value heads

  const which = choice("Model", models.map(({ name }, i) => [i, name]), choose);
  const onto = choice("Card", cards.map(({ name, bytes }, i) => [i, `${name}, ${decimalText(bytes)}`]), show);
  const use = choice("To", USES.map(({ name }, i) => [i, name]), show);
  const each = choice("Cache, bytes a number", [[4, "4 (float32)"], [2, "2 (bfloat16)"], [1, "1 (8 bits)"]], show);
  const length = slider("Tokens of a text", { min: 0, max: LENGTHS.length - 1, value: 6, show: (i) => thousands(LENGTHS[i]) }, show);
  const texts = slider("Texts at once", { min: 0, max: 10, value: 3, show: (i) => thousands(2 ** i) }, show);
  const heads = slider("Key-value heads", { min: 0, max: 1, value: 0, show: (i) => `${options[i] ?? ""} of ${models[which.list.value].heads}` }, show);
  const verdict = make("p", { className: "sentence", "aria-live": "polite" });
  const bars = make("ol", { className: "bars named" });

  // A model begins with its own key-value heads.
  function choose() {
    const chosen = models[which.list.value];
    options = chosen.gpt2 ? [chosen.heads] : divisors(chosen.heads);
    heads.input.max = options.length - 1;
    heads.input.value = options.indexOf(chosen.kv_heads);
    heads.input.disabled = options.length === 1;
    heads.refresh();
    show();
  }

  function show() {
    const sizes = { ...models[which.list.value], kv_heads: options[heads.input.value] };
    const how = USES[use.list.value];
    const onCard = cards[onto.list.value];
    const setting = { length: LENGTHS[length.input.value], texts: 2 ** texts.input.value, bytesEach: Number(each.list.value) };
    for (const control of [length.input, texts.input, each.list]) control.disabled = !how.answers;
    const found = parts(sizes, how, setting);
    const sum = total(found);
    const scale = Math.max(sum, onCard.bytes);
    const named = [["weights", found.weights], ["gradients", found.gradients], ["optimizer", found.optimizer], ["keys and values", found.cache]];
    bars.replaceChildren(
      ...named.flatMap(([name, bytes], i) => {
        const row = barRow(name, bytes / scale, decimalText(bytes));
        row.querySelector(".bar").dataset.hue = i;
        return bytes ? [row] : [];
      }),
      barRow("together", named.map(([, bytes]) => bytes / scale), decimalText(sum), "chosen"),
      barRow(onCard.name, [onCard.bytes / scale], decimalText(onCard.bytes), "whole"));
    const usable = USABLE * onCard.bytes;
    const fits = sum <= usable;
    const n = room(found, onCard.bytes);
    verdict.replaceChildren(
      make("strong", {}, fits ? "It fits." : "It does not fit."),
      ` ${sizes.name} has ${countText(parameters(sizes))} parameters. `,
      how.answers
        ? `Beside the weights ${n ? `there is room for ${count(n, "text")}` : "there is no room for a text"} of ${thousands(setting.length)} tokens.`
        : fits ? "What is left is for the activations." : `It would take ${count(Math.ceil(sum / usable), "such card")}, and more for the activations.`);
  }

  root.append(
    make("div", { className: "controls" }, which.label, onto.label),
    make("div", { className: "controls" }, use.label, each.label),
    make("div", { className: "controls thirds" }, length.label, texts.label, heads.label),
    verdict,
    bars,
    make("p", { className: "legend" }, "A tenth of the card is left free. The optimizer is AdamW: two means, and in mixed precision a copy of the weights. A GB is a billion bytes, as cards are sold."));
  use.list.value = "1";
  each.list.value = "2";
  // The largest model that the first card holds, without much room for texts.
  const holds = models.map((sizes) => 2 * parameters(sizes) <= USABLE * cards[0].bytes);
  which.list.value = String(Math.max(0, holds.lastIndexOf(true)));
  choose();
}

export default { render };
