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

// The pair to be merged after the first `n` steps and how often it occurs; null if there
// is none. While merges are learned it is known beyond the last step, too.
export function nextPair(now, steps, n, learning) {
  if (learning) return rankedPairs(now, steps.slice(0, n))[0] ?? null;
  const wanted = steps[n]?.join(" ");
  return pairCounts(now).find(([pair]) => pair.join(" ") === wanted) ?? null;
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
  const done = make("p");
  const coming = make("p");
  const text = make("div", { className: "words" });
  const pairs = make("ol", { className: learning ? "bars merges" : "bars ranks" });
  const vocabulary = make("p", { className: "pieces" });
  const vocabularySize = make("span", { className: "numbers" });
  const tokenCount = make("span", { className: "numbers" });

  function move(by) {
    position.input.value = Number(position.input.value) + by;
    position.refresh();
    draw();
  }

  // What was merged, and what will be.
  function say(n, current, next) {
    const [left, right] = steps[n - 1] ?? [];
    done.replaceChildren(...(n > 0
      ? ["Just merged ", chip(left), " + ", chip(right), " → ", chip(left + right), "."]
      : ["Nothing is merged yet."]));
    if (!next) {
      coming.textContent = learning ? "No pair is left: each word is one piece." : "No known pair is left: these are the tokens.";
      return;
    }
    const [pair, times] = next;
    const equals = current.filter((entry) => entry[1] === times).length - 1;
    const why = !learning
      ? `the earliest-learned pair here: merge ${thousands(ranks[pair.join(" ")] + 1)}`
      : equals ? `as often as ${count(equals, "other")}; the smaller ids go first` : "more often than any other";
    const when = n < steps.length ? "Next: " : "All requested merges are done. The next would be ";
    coming.replaceChildren(when, chip(pair[0]), " + ", chip(pair[1]), `, ${count(times, "time")}, ${why}.`);
  }

  function drawPairs(current, next) {
    const rank = ([pair]) => ranks[pair.join(" ")] ?? Infinity;
    const isNext = ([pair]) => pair.join(" ") === next?.[0].join(" ");
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
          make("span", { className: "track" }, bar), make("span", { className: "value" }, isNext(entry) ? `${value} ← next` : value));
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
    const next = nextPair(now, steps, n, learning);
    say(n, current, next);
    drawPairs(current, n < steps.length ? next : null);
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
    make("div", { className: "sentence", "aria-live": "polite" }, done, coming),
    panel(learning ? "The text, each word once" : "The text", tokenCount, text),
    make("div", { className: "columns" },
      panel("Pairs of neighbours", "", pairs),
      panel(learning ? "The vocabulary grows" : "Pieces used on the way", vocabularySize, vocabulary)),
  );
  draw();
}

export default { render };
