# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.text.bpe, llmcourse.text.tokenizers]
# ---

# %% [markdown]
# # Assignment: a byte-pair tokenizer
#
# You build byte-pair encoding from scratch: learn merges from a text, cut new text with them, and put it together again.
# At the end you have a tokenizer that loses no letters of any language, only the white space.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. Count pairs | 2 | ★ | 10 |
# | 2. Merge a pair | 2 | ★ | 10 |
# | 3. Learn merges | 3 | ★★ | 20 |
# | 4. Encode | 3 | ★★★ | 25 |
# | 5. Decode | 2 | ★★ | 10 |
# | 6. What a tokenizer costs | 2 | ★ | 10 |
# | 7. Why subwords (written) | 3 | ★★ | 15 |
# | 8. Numbers (written) | 3 | ★★ | 15 |
#
# 20 points in all. Read the chapter [Tokenization](../tokenization.ipynb) first.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
#
# The package `llmcourse` has a tokenizer of its own. The first code cell locks it away: here you write it yourself.

# %% given="setup"
import sys
from collections import Counter

import torch

from llmcourse.classroom.tasks import generator

for module in ("llmcourse.text.bpe", "llmcourse.text.tokenizers"):
    sys.modules[module] = None  # this is what you write yourself

TEXT = "low low low low low lower lower newest newest newest newest newest newest"

# %% [markdown]
# ## 1. Count pairs (2 points)
#
# A text is a list of words, and a word is a list of ids.
# Write `pair_counts(words)`: a `Counter` (or a `dict`) from each pair of neighbours `(left, right)` to how often it occurs in all words.
# A pair never reaches from one word into the next.
#
# For `[[1, 2, 1, 2], [2, 1]]` the pair `(1, 2)` occurs twice, and `(2, 1)` twice.


# %% answer="pair-counts"
def pair_counts(words):
    """Return how often each pair of neighbours occurs in a list of lists of ids."""
    ### BEGIN SOLUTION
    counts = Counter()
    for word in words:
        counts.update(zip(word, word[1:]))
    return counts
    ### END SOLUTION


# %% test="pair-counts" points=1
assert pair_counts([[1, 2, 1, 2], [2, 1]]) == {(1, 2): 2, (2, 1): 2}, (
    "in [1, 2, 1, 2] and [2, 1] there are two pairs (1, 2) and two pairs (2, 1); "
    "the 2 that ends the first word and the 2 that begins the second are not neighbours"
)

# %% hidden="pair-counts" points=1
# Hidden: words of one id, no words, and the same id three times (1 point)
assert pair_counts([]) == {}, "no words have no pairs"
assert pair_counts([[7], []]) == {}, "a word of one id, or none, has no pair"
assert pair_counts([[1, 1, 1]]) == {(1, 1): 2}, "1 1 1 holds the pair (1, 1) twice"

# %% [markdown]
# ## 2. Merge a pair (2 points)
#
# Write `merge(ids, pair, new_id)`: a new list in which every occurrence of the pair is replaced by the one id, from left to right.
# A new id is not merged again in the same pass.
# The list that comes in stays as it is.


# %% answer="merge"
def merge(ids, pair, new_id):
    """Return the ids with every occurrence of a pair replaced, from left to right."""
    ### BEGIN SOLUTION
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == tuple(pair):
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged
    ### END SOLUTION


# %% test="merge" points=1
assert merge([1, 2, 3, 1, 2], (1, 2), 9) == [9, 3, 9], (
    "both pairs (1, 2) become 9, also the one at the end"
)
assert merge([1, 1, 1], (1, 1), 9) == [9, 1], (
    "from left to right: the first two become 9, and the third is left over"
)
ids = [1, 2, 3]
merge(ids, (1, 2), 9)
assert ids == [1, 2, 3], f"the list that comes in stays as it is; it has become {ids}"

# %% hidden="merge" points=1
# Hidden: the list that comes in stays as it is; a new id is not merged again (1 point)
ids = [1, 2, 1, 2]
assert merge(ids, (1, 2), 2) == [2, 2], "both pairs (1, 2) become 2"
assert merge([1, 1, 2], (1, 2), 2) == [1, 2], (
    "a new id is not merged again in the same pass"
)
assert ids == [1, 2, 1, 2], "merge must not change the list that it is given"
assert merge([1, 2, 2], (1, 2), 1) == [1, 2], (
    "a new id is not merged again, with what follows it either"
)
got = merge([11, 2, 1, 21], (1, 2), 9)
assert got == [11, 2, 1, 21], f"there is no pair (1, 2) in [11, 2, 1, 21]; got {got}"
assert merge([], (1, 2), 9) == [], "an empty list stays empty"
assert merge([5], (5, 5), 9) == [5], "one id has no pair"

# %% [markdown]
# ## 3. Learn merges (3 points)
#
# Write `learn(text, n_merges)`: the list of merges `(left, right)` that byte-pair encoding learns.
#
# - Cut the text at white space (`text.split()`); each word is the list of its UTF-8 bytes, so the ids 0 … 255 are taken.
# - Then, `n_merges` times: count the pairs, take the most frequent one, give it the next free id (256, 257, …), and merge it in every word.
# - If several pairs are equally frequent, take the smallest (Python's order of tuples).
# - Stop early when no pair is left.


# %% answer="learn"
def learn(text, n_merges):
    """Return the merges that byte-pair encoding learns, as pairs of ids."""
    ### BEGIN SOLUTION
    words = [list(word.encode("utf-8")) for word in text.split()]
    merges = []
    for number in range(n_merges):
        counts = pair_counts(words)
        if not counts:
            break
        most = max(counts.values())
        best = min(pair for pair, count in counts.items() if count == most)
        merges.append(best)
        words = [merge(word, best, 256 + number) for word in words]
    return merges
    ### END SOLUTION


# %% test="learn" points=1
merges = learn(TEXT, 3)
assert len(merges) == 3, f"three merges were asked for, got {len(merges)}"
assert merges[0] == tuple(b"we"), (
    "'we' occurs 8 times, six times in 'newest' and twice in 'lower', more often than "
    f"any other pair; got {merges[0]}"
)
assert merges[1] == tuple(b"lo"), (
    "after the first merge the pairs are counted again: 'lower' is l, o, 256, r now, so "
    f"'lo' occurs 7 times and 'ow' only 5 times; got {merges[1]}"
)
assert merges[2] == (ord("e"), 256), (
    "four pairs occur 6 times each, and (101, 256), 'e' with 'we', is the smallest; "
    f"got {merges[2]}"
)

got = learn("é é", 1)
assert got == [(195, 169)], (
    f"ids are bytes of UTF-8, and é is two of them, 195 and 169; got {got}"
)

# %% hidden="learn" points=2
# Hidden: ties, other scripts, more merges than pairs, a longer text (2 points)
assert learn("ab ba", 1) == [(97, 98)], "of equally frequent pairs take the smallest"
assert learn("aaaa", 5) == [(97, 97), (256, 256)], "stop when no pair is left"
assert learn("", 3) == [], "an empty text teaches nothing"
assert learn("a\nb\ta\u3000b", 1) == [], (
    "words end at any white space, also at a line end, a tab or a space of another script"
)
assert learn("é é", 1) == [(195, 169)], "ids are the bytes of UTF-8, not characters"
letters = torch.randint(0, 4, (300,), generator=generator(1)).tolist()
babble = "".join("abc "[i] for i in letters)
words, expected = [list(word.encode()) for word in babble.split()], []
for number in range(24):
    counts = Counter(pair for word in words for pair in zip(word, word[1:]))
    best = sorted(counts, key=lambda pair: (-counts[pair], pair))[0]
    expected.append(best)
    for word in words:
        i = 0
        while i < len(word) - 1:
            if (word[i], word[i + 1]) == best:
                word[i : i + 2] = [256 + number]
            i += 1
got = learn(babble, 24)
assert got == expected, (
    f"of 24 merges of a random text, the first {sum(g == e for g, e in zip(got, expected))} "
    "or so are right; is every word merged, and are the pairs counted anew each time?"
)

# %% [markdown]
# ## 4. Encode (3 points)
#
# Write `encode(text, merges)`: the ids of a text.
# The text is cut as in training, at white space, and each word starts out as its bytes.
# Then the merges are applied **in the order in which they were learned**: as long as some pair of a word is among the merges, merge the one that was learned first, wherever it is in the word.
# The ids of all words make one list.
#
# The order matters.
# With the merges `[(98, 99), (97, 98)]`, the word `abc` is `[97, 256]`: `bc` was learned first, so `ab`, though it comes first in the word, is never there to be merged.


# %% answer="encode"
def encode(text, merges):
    """Return the ids of a text, by merges in the order in which they were learned."""
    ### BEGIN SOLUTION
    rank = {tuple(pair): number for number, pair in enumerate(merges)}
    ids = []
    for word in text.split():
        word = list(word.encode("utf-8"))
        while True:
            known = [pair for pair in zip(word, word[1:]) if pair in rank]
            if not known:
                break
            first = min(known, key=rank.get)
            word = merge(word, first, 256 + rank[first])
        ids += word
    return ids
    ### END SOLUTION


# %% test="encode" points=1
assert encode("low", [(108, 111), (256, 119)]) == [257], "lo, then lo with w: one id"
assert encode("abc", [(98, 99), (97, 98)]) == [97, 256], (
    "'bc' was learned before 'ab', so it is merged first, wherever it is in the word"
)

# %% hidden="encode" points=2
# Hidden: merges of merges, random words, other scripts, empty texts (2 points)
assert encode("ñ x", []) == [195, 177, 120], "without merges a text is its bytes"
assert encode("", [(97, 97)]) == [], "an empty text has no ids"
assert encode("a\nb\t c\u3000d", []) == [97, 98, 99, 100], (
    "words end at any white space, also at a line end, a tab or a space of another script"
)
merges = [(97, 98), (256, 97), (98, 97), (257, 258), (99, 256)]
new = "".join(
    "abc "[i] for i in torch.randint(0, 4, (2_000,), generator=generator(2)).tolist()
)
expected = []
for word in new.split():
    word = list(word.encode())
    for number, pair in enumerate(merges):
        i = 0
        while i < len(word) - 1:
            if (word[i], word[i + 1]) == pair:
                word[i : i + 2] = [256 + number]
            i += 1
    expected += word
got = encode(new, merges)
assert type(got) is list, f"encode returns a list of ids, got {type(got).__name__}"
assert got == expected, (
    "on random words the ids differ: merge the pair that was learned first, in the whole "
    "word, and only then look for the next"
)

# %% [markdown]
# ## 5. Decode (2 points)
#
# Write `decode(ids, merges)`: the text that the ids stand for.
# White space was dropped when the text was cut, so what comes back is the words without it; a real tokenizer keeps it inside its tokens.
#
# One id may hold half a character: `é` is two bytes.
# So put all bytes together first, and only then turn them into a string.
# What is not valid UTF-8 becomes `\ufffd` (`errors="replace"`), never an exception: a model may write its ids in any order.


# %% answer="decode"
def decode(ids, merges):
    """Return the text of ids."""
    ### BEGIN SOLUTION
    pieces = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        pieces.append(pieces[left] + pieces[right])
    return b"".join(pieces[i] for i in ids).decode("utf-8", errors="replace")
    ### END SOLUTION


# %% test="decode" points=1
assert decode([257], [(108, 111), (256, 119)]) == "low", (
    "257 is 256 and w; 256 is l and o"
)
assert decode([195, 169], []) == "é", (
    "the two bytes of é make one character: join the bytes before you decode them"
)

# %% hidden="decode" points=1
# Hidden: merges of merges in other scripts, and ids that do not decode to text (1 point)
for text in ("newest", "žluťoučký", "語言模型", "🙂"):
    first, second, third, *rest = text.encode()
    got = decode([257, *rest], [(first, second), (256, third)])
    assert got == text, f"the ids of {text!r} came back as {got!r}"
assert decode([], [(97, 97)]) == "", "no ids are an empty text"
assert decode([195], []) == "\ufffd", (
    "half a character becomes \ufffd, not an exception"
)
assert decode([97, 255, 98], []) == "a\ufffdb", "one wrong byte spoils only itself"

# %% [markdown]
# ## 6. What a tokenizer costs (2 points)
#
# With fewer tokens for the same text, each has more to be predicted, so models with different tokenizers are compared per byte.
# A model has a mean loss of `loss` nats per token, on a text of `n_bytes` bytes that is `n_tokens` tokens long.
# Write `bits_per_byte(loss, n_tokens, n_bytes)`.
# One bit is $\ln 2$ nats.


# %% answer="bits-per-byte"
def bits_per_byte(loss, n_tokens, n_bytes):
    """Return a loss in nats per token as bits per byte."""
    ### BEGIN SOLUTION
    from math import log

    return loss * n_tokens / n_bytes / log(2)
    ### END SOLUTION


# %% test="bits-per-byte" points=1
assert abs(bits_per_byte(0.6931471805599453, 100, 100) - 1) < 1e-6, (
    "ln 2 nats per token, one token per byte: that is one bit per byte"
)

got = bits_per_byte(1.3862943611198906, 30, 120)
assert abs(got - 0.5) < 1e-6, (
    "2 ln 2 nats are 2 bits per token, 60 bits for 30 tokens, and half a bit for each of "
    f"120 bytes: wanted 0.5, got {got}"
)

# %% hidden="bits-per-byte" points=1
# Hidden: other losses and lengths (1 point)
assert abs(bits_per_byte(2.0794415416798357, 25, 100) - 0.75) < 1e-6, (
    "3 bits per token and 4 bytes per token are 3/4 of a bit per byte"
)
got = bits_per_byte(2.0794415416798357, 40, 100)
assert abs(got - 1.2) < 1e-6, (
    "3 bits for each of 40 tokens are 120 bits, and 1.2 for each of 100 bytes; got "
    f"{got}"
)

# %% [markdown]
# ## 7. Why subwords (3 points, written)
#
# In five sentences at most: what goes wrong with a vocabulary of words, what with one of single bytes, and why do merges of frequent pairs avoid both?
# Name one cost of merging.

# %% [markdown] written="why-subwords" points=3
# With words, every word that the training text lacks becomes one unknown token, and its spelling is lost; new words never stop coming.
# With bytes nothing is unknown, but a text is four or five times as long, and attention and the context window pay for every token.
# Merging frequent pairs gives frequent words one token and rare ones a few, and since all bytes stay in the vocabulary, nothing is unknown.
# A cost: the model does not see letters (spelling, counting letters, rhymes), or numbers are cut unevenly, or languages that were rare in the training text need more tokens.
#
# One point: unknown words, and the information that is lost. One point: length, and what it costs. One point: the middle way, with bytes to fall back on, and a real cost.

# %% [markdown]
# ## 8. Numbers (3 points, written)
#
# A tokenizer has learned the merges `(48, 48)` (`00`) and `(49, 48)` (`10`), in this order, from a text of prices.
# Work out by hand how it cuts `100` and `1000`.
# Why may such cuts make it harder for a model to add numbers, and what do the tokenizers of recent models do about it?

# %% [markdown] written="numbers" points=3
# `00` is merged first. `100` is `1` `00`, and `1000` is `1` `00` `0`: the merge goes from left to right, and `10` never arises.
# So the same digit is sometimes a token of its own and sometimes in a pair, and the place of a digit in its token does not tell its value: `00` holds tens and ones in 100, and hundreds and tens in 1000.
# A model has to learn addition for each way of cutting. Recent tokenizers cut numbers into single digits, or into groups of up to three, before they merge (some from the right).
#
# One point: both cuts right. One point: a digit's place value is not at a fixed place of a token. One point: single digits or fixed groups, in the pre-tokenizer's pattern.
