// Byte-pair encoding in the page. Pieces are spelled in GPT-2's byte alphabet: one
// printable character per byte, "Ġ" for the space.

const [BYTE_TO_CHAR, CHAR_TO_BYTE] = (() => {
  const toChar = new Map();
  const isPrintable = (b) => (b > 32 && b < 127) || (b > 160 && b !== 173);
  for (let b = 0; b < 256; b++) if (isPrintable(b)) toChar.set(b, String.fromCharCode(b));
  const others = [...Array(256).keys()].filter((b) => !isPrintable(b));
  others.forEach((b, n) => toChar.set(b, String.fromCharCode(256 + n)));
  return [toChar, new Map([...toChar].map(([b, c]) => [c, b]))];
})();
const BYTE_ORDER = [...BYTE_TO_CHAR.keys()];

export const utf8 = (text) => [...new TextEncoder().encode(text)];
export const spell = (bytes) => bytes.map((b) => BYTE_TO_CHAR.get(b)).join("");
export const unspell = (spelled) => [...spelled].map((c) => CHAR_TO_BYTE.get(c));

const strictly = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// The text of some bytes; a byte that is no text alone as \xe2.
export function show(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; ) {
    const lead = bytes[i];
    const length = lead < 128 ? 1 : lead < 224 ? 2 : lead < 240 ? 3 : 4;
    try {
      text += strictly.decode(new Uint8Array(bytes.slice(i, i + length)));
      i += length;
    } catch {
      text += `\\x${lead.toString(16)}`;
      i += 1;
    }
  }
  return text;
}

// Replace the pair wherever it stands in the list of pieces, left to right.
export function mergePair(pieces, left, right) {
  const merged = [];
  for (let i = 0; i < pieces.length; i++) {
    if (pieces[i] === left && pieces[i + 1] === right) merged.push(left + pieces[++i]);
    else merged.push(pieces[i]);
  }
  return merged;
}

// The pieces of a word: the pair of the lowest rank is merged, wherever it stands, until
// no pair has one.
export function mergedPieces(word, ranks) {
  let pieces = [...spell(utf8(word))];
  for (;;) {
    let best = Infinity;
    let at = 0;
    for (let i = 1; i < pieces.length; i++) {
      const rank = ranks.get(`${pieces[i - 1]} ${pieces[i]}`) ?? Infinity;
      if (rank < best) [best, at] = [rank, i];
    }
    if (best === Infinity) return pieces;
    pieces = mergePair(pieces, pieces[at - 1], pieces[at]);
  }
}

// How often each pair of neighbours occurs in words [pieces, count], the most
// frequent first: [[left, right], count].
export function pairCounts(words) {
  const counts = new Map();
  for (const [pieces, n] of words)
    for (let i = 1; i < pieces.length; i++) {
      const key = `${pieces[i - 1]} ${pieces[i]}`;
      counts.set(key, (counts.get(key) ?? 0) + n);
    }
  return [...counts].map(([key, n]) => [key.split(" "), n]).sort((a, b) => b[1] - a[1]);
}

// The ids of pieces: bytes first, then what was merged, in order.
const idsOf = (merges) => {
  const ids = new Map(BYTE_ORDER.map((b, i) => [BYTE_TO_CHAR.get(b), i]));
  merges.forEach(([left, right], i) => {
    if (!ids.has(left + right)) ids.set(left + right, 256 + i);
  });
  return ids;
};

// Pairs and how often they occur: the most frequent first, of equals that with the smaller
// ids, as `BPETokenizer.train` takes them.
export function rankedPairs(words, merges) {
  const ids = idsOf(merges);
  const order = ([[a, b], n], [[c, d], k]) => k - n || ids.get(a) - ids.get(c) || ids.get(b) - ids.get(d);
  return pairCounts(words).sort(order);
}

// Tokenizers by kind: text -> { pieces, ids }. `spec` is what Python wrote down.
const ENCODERS = {
  characters: () => (text) => {
    const pieces = [...text];
    return { pieces, ids: pieces.map((c) => c.codePointAt(0)) };
  },
  bytes: () => (text) => {
    const ids = utf8(text);
    return { pieces: ids.map((b) => show([b])), ids };
  },
  words: ({ words }) => {
    const vocab = new Map(words.map((word, id) => [word, id]));
    return (text) => {
      // Python's str.split() counts four control characters as white space.
      const found = text.split(/[\p{White_Space}\x1c-\x1f]+/u).filter(Boolean);
      const ids = found.map((word) => vocab.get(word) ?? 0);
      return { pieces: ids.map((id) => words[id]), ids };
    };
  },
  bpe: ({ pattern, merges, first }) => {
    const split = new RegExp(pattern, "gu");
    const ranks = new Map(merges.map((pair, rank) => [pair, rank]));
    const alphabet = BYTE_ORDER.map((b) => BYTE_TO_CHAR.get(b));
    const all = alphabet.concat(merges.map((pair) => pair.replace(" ", "")));
    const vocab = new Map(all.map((name, i) => [name, first + i]));
    return (text) => {
      const names = (text.match(split) ?? []).flatMap((word) => mergedPieces(word, ranks));
      const pieces = names.map((name) => show(unspell(name)));
      return { pieces, ids: names.map((name) => vocab.get(name)) };
    };
  },
};

export const encoder = (spec) => ENCODERS[spec.kind](spec);
