// A tokenizer for whole texts, of what bpe.js knows.

// What the encoder of a tokenizer makes of a text, its words met before looked up.
export function quickEncoder(spec) {
  const whole = encoder(spec);
  const split = new RegExp(spec.pattern, "gu");
  const met = new Map();
  return (text) =>
    (text.match(split) ?? []).flatMap((word) => {
      if (!met.has(word)) met.set(word, whole(word).ids);
      return met.get(word);
    });
}

// The bytes of each id of such a tokenizer, counted from its first.
export function pieceBytes({ merges, first }) {
  const spelled = [...BYTE_ORDER.map((b) => BYTE_TO_CHAR.get(b)), ...merges.map((pair) => pair.replace(" ", ""))];
  const pieces = [];
  spelled.forEach((name, i) => (pieces[first + i] = unspell(name)));
  return pieces;
}
