// Byte-pair encoding, one merge after the other: `words` are [spelled text, count],
// `steps` the pairs that are merged, in order.

const SHOWN_PAIRS = 8;
const SHOWN_WORDS = 40;

// The words, cut into pieces, after the first `n` steps.
export function wordsAfter(words, steps, n) {
  return words.map(([spelled, times]) => [
    steps.slice(0, n).reduce((pieces, [left, right]) => mergePair(pieces, left, right), [...spelled]),
    times,
  ]);
}

const readable = (spelled) => show(unspell(spelled));

function render({ model, el }) {
  const words = model.get("words");
  const steps = model.get("steps");
  const ranks = model.get("ranks"); // of known pairs; empty where merges were learned here
  const learning = model.get("learning");
  const root = card(el, "Merge explorer");
  const hues = new Map(steps.map(([left, right], i) => [left + right, i]));
  const chip = (spelled, newest) =>
    piece(readable(spelled), hues.get(spelled) ?? null, spelled === newest ? "newest" : "");

  const back = button("‹ Undo", () => move(-1));
  const on = button("Merge ›", () => move(1));
  const position = slider("Merges done",
    { min: 0, max: steps.length, value: model.get("step"), show: (n) => `${n} of ${steps.length}` },
    draw);
  const sentence = make("p", { className: "sentence", "aria-live": "polite" });
  const text = make("div", { className: "words" });
  const pairs = make("ol", { className: learning ? "bars" : "bars ranks" });
  const vocabulary = make("p", { className: "pieces" });
  const vocabularySize = make("span", { className: "numbers" });
  const tokenCount = make("span", { className: "numbers" });

  function move(by) {
    position.input.value = Number(position.input.value) + by;
    position.refresh();
    draw();
  }

  function say(n, current) {
    const parts = [];
    if (n > 0) {
      const [left, right] = steps[n - 1];
      parts.push("Just merged ", chip(left), " + ", chip(right), " → ", chip(left + right), ". ");
    }
    if (n === steps.length) parts.push(learning ? "These are all merges that were asked for." : "No known pair is left: these are the tokens.");
    else {
      const [left, right] = steps[n];
      const times = current.find(([[l, r]]) => l === left && r === right)?.[1] ?? 0;
      const why = learning ? `the most frequent pair: ${count(times, "time")}` : `the earliest-learned pair here: merge ${thousands(ranks[`${left} ${right}`] + 1)}`;
      parts.push("Next ", chip(left), " + ", chip(right), `, ${why}.`);
    }
    sentence.replaceChildren(...parts);
  }

  function drawPairs(n, current) {
    const next = steps[n]?.join(" ");
    const rank = ([pair]) => ranks[pair.join(" ")] ?? Infinity;
    const isNext = ([pair]) => pair.join(" ") === next;
    // The next pair first; then by what decides.
    const order = (a, b) => isNext(b) - isNext(a) || (learning ? b[1] - a[1] : rank(a) - rank(b) || 0);
    const top = [...current].sort(order).slice(0, SHOWN_PAIRS);
    const most = Math.max(1, ...top.map((entry) => entry[1]));
    pairs.replaceChildren(
      ...top.map((entry) => {
        const [[left, right], times] = entry;
        const known = Number.isFinite(rank(entry));
        const label = make("span", { className: "label" }, chip(left), chip(right));
        const bar = make("span", { className: "bar" });
        bar.style.width = `${(100 * times) / most}%`;
        const value = learning ? thousands(times) : known ? `merge ${thousands(rank(entry) + 1)}` : "not known";
        return make("li", { className: isNext(entry) ? "chosen" : "" }, label,
          make("span", { className: "track" }, bar), make("span", { className: "value" }, value));
      }),
    );
    if (!top.length) pairs.replaceChildren(make("li", { className: "none" }, "No pairs are left."));
  }

  function draw() {
    const n = Number(position.input.value);
    const now = wordsAfter(words, steps, n);
    const current = pairCounts(now);
    const newest = n > 0 ? steps[n - 1].join("") : null;
    enable(back, n > 0, on);
    enable(on, n < steps.length, back);
    say(n, current);
    drawPairs(n, current);
    text.replaceChildren(
      ...now.slice(0, SHOWN_WORDS).map(([pieces, times]) => {
        const word = make("span", { className: "word" }, ...pieces.map((p) => chip(p, newest)));
        if (learning) word.append(make("small", {}, `× ${thousands(times)}`));
        return word;
      }),
    );
    if (now.length > SHOWN_WORDS) text.append(`and ${thousands(now.length - SHOWN_WORDS)} more`);
    const tokens = now.reduce((sum, [pieces, times]) => sum + pieces.length * times, 0);
    tokenCount.textContent = count(tokens, "token");
    const learned = [...new Set(steps.slice(0, n).map((pair) => pair.join("")))];
    vocabulary.replaceChildren(make("span", { className: "piece base" }, "256 bytes"), ...learned.map((p) => chip(p, newest)));
    vocabularySize.textContent = learning ? count(256 + learned.length, "piece") : count(learned.length, "merge");
  }

  const panel = (title, numbers, ...content) =>
    make("div", { className: "panel" }, make("div", { className: "head" }, make("strong", {}, title), numbers), ...content);
  root.append(
    make("div", { className: "controls" }, position.label, make("div", { className: "buttons" }, back, on)),
    sentence,
    panel(learning ? "The text, each word once" : "The text", tokenCount, text),
    make("div", { className: "columns" },
      panel("Pairs of neighbours", "", pairs),
      panel(learning ? "The vocabulary grows" : "Pieces used on the way", vocabularySize, vocabulary)),
  );
  draw();
}

export default { render };
