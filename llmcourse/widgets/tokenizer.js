// The tokenizer of a model folder in the page: `llmcourse.text.tokenizers.BPETokenizer`.
// The byte alphabet, and how pairs are merged, are those of bpe.js.

// GPT-2's pattern of pre-tokens; what JavaScript calls \s is another set.
export const SPLIT = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";

export class Tokenizer {
  // What tokenizer.json says.
  constructor({ model, pre_tokenizer: split, added_tokens: special = [] }) {
    if (model.type !== "BPE" || split?.type !== "ByteLevel" || !split.use_regex)
      throw new Error("A tokenizer of this kind cannot be run here.");
    this.vocab = new Map(Object.entries(model.vocab)); // spelled piece -> id
    this.ranks = new Map(model.merges.map((pair, rank) => [[pair].flat().join(" "), rank]));
    this.pieces = []; // the bytes of each id
    this.special = new Map(special.map(({ content, id }) => [content, id]));
    for (const name of this.special.keys()) this.vocab.delete(name);
    for (const [name, id] of this.vocab) this.pieces[id] = unspell(name);
    for (const [name, id] of this.special) this.pieces[id] = utf8(name);
    this.longest = this.pieces.reduce((longest, bytes) => Math.max(longest, bytes.length), 0);
    this.words = new Map(); // the ids of pre-tokens that have been met
  }

  encode(text) {
    if (/\p{Surrogate}/u.test(text)) throw new Error("The text holds half of a character (a lone surrogate).");
    return (text.match(new RegExp(SPLIT, "gu")) ?? []).flatMap((word) => {
      if (!this.words.has(word)) this.words.set(word, this.idsOf(word));
      return this.words.get(word);
    });
  }

  idsOf(word) {
    return mergedPieces(word, this.ranks).map((name) => this.vocab.get(name));
  }

  // The text of some ids; bytes that are no UTF-8 become U+FFFD.
  decode(ids) {
    const bytes = new Uint8Array(ids.flatMap((id) => this.pieces[id]));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }
}
