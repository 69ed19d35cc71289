// Guess the next merge of byte-pair encoding, on words of the reader's own.

const OFFERED = 8; // pairs to choose from
const SHOWN = 60; // words

// The pre-tokens of a text, spelled, with how often each occurs: [[pieces, times], ...].
export function countedWords(text, pattern) {
  const counts = new Map();
  for (const word of text.match(new RegExp(pattern, "gu")) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].map(([word, times]) => [[...spell(utf8(word))], times]);
}

export const merged = (words, [left, right]) => words.map(([pieces, times]) => [mergePair(pieces, left, right), times]);

export function learn(text, pattern, n) {
  let words = countedWords(text, pattern);
  const merges = [];
  while (merges.length < n) {
    const [best] = rankedPairs(words, merges);
    if (!best) break;
    words = merged(words, best[0]);
    merges.push(best[0]);
  }
  return merges;
}

const readable = (spelled) => visible(show(unspell(spelled)));
const written = ([left, right]) => `${readable(left)} + ${readable(right)}`;

function render({ model, el }) {
  const pattern = model.get("pattern");
  const root = card(el, "Guessing explorer");
  let words, merges, ranked, right;

  const own = textField("Your words", { value: model.get("text"), rows: 2 }, start);
  const pair = choice("Which pair is merged next?", [], mark);
  const guess = button("Guess", answer);
  const again = button("Start again", start);
  const said = make("p", { className: "sentence", "aria-live": "polite" });
  const numbers = make("span", { className: "numbers" });
  const outlined = make("p", { className: "legend" });
  const shown = make("div", { className: "words" });

  function start() {
    const fault = faultOf(own.area.value, 2000);
    own.tell(fault);
    if (fault && words) return;
    words = fault ? [] : countedWords(own.area.value, pattern);
    [merges, right] = [[], 0];
    said.textContent = "Choose the pair of neighbours that occurs most often, over all words.";
    next();
  }

  // The pairs are offered in the order of the text, so that it says nothing.
  function next() {
    ranked = rankedPairs(words, merges);
    const offered = ranked.slice(0, OFFERED).map(([each]) => each);
    const inText = words.flatMap(([pieces]) => pieces.slice(1).map((each, i) => `${pieces[i]} ${each}`));
    offered.sort((a, b) => inText.indexOf(a.join(" ")) - inText.indexOf(b.join(" ")));
    pair.list.replaceChildren(...offered.map((each) => make("option", { value: each.join(" ") }, written(each))));
    pair.list.disabled = !offered.length;
    guess.disabled &&= !offered.length; // so that it can have the focus
    enable(again, merges.length > 0, guess);
    enable(guess, offered.length > 0, again);
    if (!offered.length) said.append(" No pair is left.");
    numbers.textContent = `${right} of ${merges.length} right`;
    mark();
  }

  // The words, with the chosen pair outlined.
  function mark() {
    const [left, other] = pair.list.value.split(" ");
    outlined.textContent = other ? `Outlined: ${written([left, other])}` : "";
    const hues = new Map(merges.map((each, i) => [each.join(""), i]));
    shown.replaceChildren(...words.slice(0, SHOWN).map(([pieces, times]) => {
      const chips = pieces.map((each, i) => {
        const chosen = (each === left && pieces[i + 1] === other) || (each === other && pieces[i - 1] === left);
        return piece(show(unspell(each)), hues.get(each) ?? null, chosen ? "newest" : "");
      });
      return make("span", { className: "word" }, ...chips, make("small", {}, `× ${thousands(times)}`));
    }));
    if (words.length > SHOWN) shown.append(`and ${thousands(words.length - SHOWN)} more`);
  }

  function answer() {
    const [[best, most]] = ranked;
    const [taken, times] = ranked.find(([each]) => each.join(" ") === pair.list.value);
    const isRight = times === most;
    right += isRight;
    const merging = `${written(best)} is merged`;
    const tied = isRight && taken.join(" ") !== best.join(" ");
    said.textContent = isRight
      ? `Right: it occurs ${count(most, "time")}.${tied ? ` So does another, whose pieces are older, and ${merging}.` : ""}`
      : `No: ${written(taken)} occurs ${count(times, "time")}, and ${written(best)} ${count(most, "time")}; ${merging}.`;
    words = merged(words, best);
    merges.push(best);
    next();
  }

  root.append(
    own.label,
    own.fault,
    make("div", { className: "controls" }, pair.label, make("div", { className: "buttons" }, guess, again)),
    said,
    panel("The words", numbers, outlined, shown));
  start();
}

export default { render };
