# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.text.cleaning, llmcourse.text.corpus, llmcourse.text.deduplication, llmcourse.text.packing]
# ---

# %% [markdown]
# # Assignment: from raw text to training rows
#
# You take a text from the crawl to the model: clean it, filter it, find its near copies without comparing all pairs, split it without leaks, and pack it.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. One form | 2 | ★★ | 15 |
# | 2. A filter | 2 | ★ | 10 |
# | 3. Shingles and signatures | 3 | ★★ | 20 |
# | 4. Bands | 2 | ★★ | 15 |
# | 5. Near copies go | 2 | ★★ | 15 |
# | 6. A split without leaks | 2 | ★★★ | 20 |
# | 7. Packing | 2 | ★★ | 15 |
# | 8. Order and proof (written) | 5 | ★★ | 25 |
#
# 20 points in all. Read the chapter [The corpus](../corpus.ipynb) first.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has all of this.
# The first code cell locks it away: here you write it yourself.

# %% given="setup"
import re
import sys
import unicodedata
from hashlib import blake2b
from itertools import combinations

import torch

from llmcourse.classroom.tasks import generator

for module in ("cleaning", "corpus", "deduplication", "packing"):
    sys.modules[f"llmcourse.text.{module}"] = None  # this is what you write yourself


def unit(text):
    """Return a number from 0 to 1 that depends on the text alone."""
    digest = blake2b(text.encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def draw(high, n, generator):
    """Return a list of n random whole numbers below `high`, for tests."""
    return torch.randint(0, high, (n,), generator=generator).tolist()


# %% [markdown]
# ## 1. One form (2 points)
#
# Texts that look the same should be the same, or copies are never found.
# Write `normalise(text)`, which does this in order:
#
# 1. `\r\n`, and after that each single `\r`, becomes `\n`.
# 2. Characters of the Unicode categories `Cc` (control) and `Cf` (format, such as the zero-width space) are dropped, except `\n` and `\t`.
#    `unicodedata.category(character)` gives a character's category.
# 3. The text is brought to the form NFC (`unicodedata.normalize("NFC", text)`), in which `e` with a combining accent is one letter.
# 4. In each line (lines end at `\n`), every run of white space becomes one space, and there is none at either end.
#    A no-break space is white space.
# 5. Two or more empty lines in a row become one, and there are none at the beginning or the end of the text.


# %% answer="normalise"
def normalise(text):
    """Return a text in one form of characters, spaces and lines."""
    ### BEGIN SOLUTION
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    dropped = "Cc", "Cf"
    text = "".join(
        c for c in text if c in "\n\t" or unicodedata.category(c) not in dropped
    )
    text = unicodedata.normalize("NFC", text)
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    ### END SOLUTION


# %% test="normalise" points=1
for raw, wanted, why in (
    ("cafe\u0301", "café", "e and a floating accent become one letter, by NFC"),
    ("after\u200b years", "after years", "the zero-width space is dropped"),
    ("the\xa0 \tbread ", "the bread", "a run of white space becomes one space"),
    ("one\r\ntwo\rthree", "one\ntwo\nthree", "every line end becomes \\n"),
    ("\n\na\n \n\n\nb\n", "a\n\nb", "one empty line stays between two paragraphs"),
    ("one\ttwo ", "one two", "a tab is white space, and is not dropped before step 4"),
    ("½ m²", "½ m²", "NFC changes no sign into another, as NFKC does"),
):
    got = normalise(raw)
    assert got == wanted, f"{why}: {raw!r} becomes {wanted!r}, got {got!r}"

# %% hidden="normalise" points=1
# Hidden: several faults at once, control characters, texts of nothing (1 point)
for raw, wanted in (
    ("\x00\x93Stop\x94,\x07 he  said.", "Stop, he said."),
    ("e\u200b\u0301te\u0301", "été"),
    ("  a\tb\n\tc  \n", "a b\nc"),
    ("a\n\nb", "a\n\nb"),
    ("a\nb", "a\nb"),
    ("a\r\n\r\n\r\nb", "a\n\nb"),
    ("so\xadft\ufeff hy\u2060phen", "soft hyphen"),
    (" \n \u200b\n\t", ""),
    ("", ""),
    ("Zwölf Bäume\n\n\n\n木 が\u3000あ", "Zwölf Bäume\n\n木 が あ"),
    ("x² ﬁ ½", "x² ﬁ ½"),
    ("a \u200b b", "a b"),
    ("a\ue000b", "a\ue000b"),
    ("a\u2028b", "a b"),
):
    got = normalise(raw)
    assert got == wanted, (
        f"{raw!a} becomes {wanted!a}, got {got!a}; follow the five steps in "
        "their order, and change nothing else"
    )
    assert normalise(got) == got, f"{got!a} is in the one form, and must stay as it is"

# %% [markdown]
# ## 2. A filter (2 points)
#
# Write `fault(text)`: the name of the first rule that a text breaks, or `None` if it breaks none.
# The rules, in this order:
#
# - `"short"`: it has fewer than 8 words (`text.split()`).
# - `"symbols"`: fewer than 60 % of its characters that are not white space are letters (`character.isalpha()`).
# - `"repeats"`: more than a quarter of its lines are the same as an earlier line.
#   Lines that are empty or only white space do not count, nor does white space at the ends of a line.


# %% answer="fault"
def fault(text):
    """Return the name of the first rule that a text breaks, or None."""
    ### BEGIN SOLUTION
    words = text.split()
    if len(words) < 8:
        return "short"
    characters = "".join(words)
    if sum(c.isalpha() for c in characters) / len(characters) < 0.6:
        return "symbols"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if (len(lines) - len(set(lines))) / len(lines) > 0.25:
        return "repeats"
    return None
    ### END SOLUTION


# %% test="fault" points=1
GOOD = "The ferry to the island leaves\nat eight in the morning\nand at noon."
for text, wanted, why in (
    (GOOD, None, "fourteen words, nearly all letters, three different lines"),
    ("We could not find this page.", "short", "six words are fewer than 8"),
    ("01 Nov 5:15 3.2 m 9:40 0.4 m", "symbols", "digits and marks are not letters"),
    ("Buy boats here\n" * 5, "repeats", "four of five lines repeat the first"),
    (
        "Été à l'île\n\n\nle ciel\n\n\nla mer\n\n\net toi",
        None,
        "accents are letters, and empty lines do not count",
    ),
):
    got = fault(text)
    assert got == wanted, f"{text!r}: {why}, so wanted {wanted!r}, got {got!r}"

# %% hidden="fault" points=1
# Hidden: texts exactly at a limit, the order of the rules, empty lines (1 point)
for text, wanted, why in (
    ("a b c d e f g h", None, "8 words are enough"),
    ("a b c d e f g", "short", "7 words are too few"),
    ("", "short", "a text of nothing has no words"),
    (" \n\t ", "short", "white space alone has no words"),
    ("! ! ! ! ! ! !", "short", "the first rule that is broken counts"),
    ("a a 1 " * 3 + "a", None, "7 letters of 10 characters"),
    ("a 1 a 1 a a 1 1 a a", None, "6 letters of 10 characters are exactly 60 %"),
    ("a 1 a 1 a 1 1 1 a a", "symbols", "5 letters of 10 characters"),
    ("žluťoučký kůň 語 言 模 型 é ß", None, "letters of all scripts are letters"),
    (
        "\n".join("abcdefaa"),
        None,
        "2 lines of 8 repeat an earlier one, exactly a quarter",
    ),
    ("\n".join("abcdefgaaa"), "repeats", "3 lines of 10 repeat an earlier one"),
    ("\n".join("aabbccddee"), "repeats", "5 lines of 10 repeat an earlier one"),
    ("\n\n\n".join("abcdefgh"), None, "empty lines do not count as repeated"),
    (
        "a b c d\n a b c d \ne f g h",
        "repeats",
        "white space at the ends does not count",
    ),
    ("1 2\n" * 9, "symbols", "it breaks two rules, and the first one counts"),
    (
        "we sell boats\n\n\nwe sell boats\n\n\nand old sails",
        "repeats",
        "1 line of 3 repeats an earlier one, since empty lines do not count",
    ),
    (
        "Hello, said he; then, she: “yes!” (no) a b",
        None,
        "letters are counted among characters, not among words",
    ),
):
    got = fault(text)
    assert got == wanted, f"{text!r}: {why}, so wanted {wanted!r}, got {got!r}"

# %% [markdown]
# ## 3. Shingles and signatures (3 points)
#
# - Write `shingles(text, n)`: the set of all runs of `n` words, as tuples.
#   Words are `text.lower().split()`.
#   A text with at least one word, but fewer than `n`, has one shingle: all its words.
#   A text without words has none.
# - Write `jaccard(a, b)`: the number of elements in both sets, divided by the number in at least one of them; 0 for two empty sets.
# - Write `signature(numbers, hashes, p)`: from a set of whole numbers (one for each shingle) to a list.
#   Each pair `(factor, offset)` in `hashes` is a hash function, $h(x) = (\text{factor} \cdot x + \text{offset}) \bmod p$, and the list holds the smallest value of each, in order.
#   For an empty set every place is `p`.
#
# For the numbers 1, 2 and 4 and the function $3x + 1 \bmod 11$ the values are 4, 7 and 2, so the signature is `[2]`.


# %% answer="signature"
def shingles(text, n):
    """Return the set of runs of n words of a text, as tuples."""
    ### BEGIN SOLUTION
    words = text.lower().split()
    if len(words) < n:
        return {tuple(words)} - {()}
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    ### END SOLUTION


def jaccard(a, b):
    """Return what two sets share, as a share of all that is in them."""
    ### BEGIN SOLUTION
    return len(a & b) / len(a | b) if a or b else 0.0
    ### END SOLUTION


def signature(numbers, hashes, p):
    """Return the smallest value of each hash function over a set of numbers."""
    ### BEGIN SOLUTION
    return [
        min(((factor * x + offset) % p for x in numbers), default=p)
        for factor, offset in hashes
    ]
    ### END SOLUTION


# %% test="signature" points=1
got = shingles("The fox saw the fox", 2)
wanted = {("the", "fox"), ("fox", "saw"), ("saw", "the")}
assert got == wanted, f"'the fox' occurs twice and counts once, got {got}"
got = shingles("one two three four", 3)
assert got == {("one", "two", "three"), ("two", "three", "four")}, (
    f"four words have two runs of three, the last one included, got {got}"
)
got = jaccard({1, 2, 3}, {2, 3, 4, 5})
assert got == 0.4, f"2 things are shared, 5 are in one or the other: 0.4, got {got}"
got = signature({1, 2, 4}, [(3, 1), (2, 2)], 11)
assert got == [2, 4], (
    "3x + 1 mod 11 gives 4, 7, 2, and 2x + 2 mod 11 gives 4, 6, 10: the smallest are 2 "
    f"and 4, got {got}"
)

# %% hidden="signature" points=2
# Hidden: random texts and sets, short texts, empty ones (2 points)
g = generator(1)
for n in (1, 2, 3, 5):
    for length in (0, 1, 2, 4, 30):
        words = ["abcDE"[i] for i in draw(5, length, g)]
        small, wanted = [word.lower() for word in words], set()
        for start in range(length):
            if start + n <= length:
                wanted.add(tuple(small[start : start + n]))
        if 0 < length < n:
            wanted = {tuple(small)}
        got = shingles("  ".join(words), n)
        assert got == wanted, (
            f"runs of {n} of {length} words: wanted {len(wanted)} shingles such as "
            f"{sorted(wanted)[:2]}, got {len(got)} such as {sorted(got)[:2]}"
        )
p = 2**31 - 1
hashes = [(1 + f, o) for f, o in zip(draw(p - 1, 400, g), draw(p, 400, g))]
a, b = set(range(60)), set(range(20, 80))
for one, other, wanted in (
    (a, b, 0.5),
    (a, a, 1.0),
    (a, set(), 0.0),
    (set(), set(), 0.0),
):
    got = jaccard(one, other)
    assert abs(got - wanted) < 1e-12, (
        f"sets of {len(one)} and {len(other)} things: wanted {wanted}, got {got}"
    )
rows = []
for numbers in (a, b, {7}):
    smallest = []
    for factor, offset in hashes:
        smallest.append(sorted((factor * x + offset) % p for x in numbers)[0])
    rows.append(signature(numbers, hashes, p))
    assert rows[-1] == smallest, (
        f"{len(numbers)} numbers, 400 hash functions: wanted a list of the smallest value "
        "of each function, in order"
    )
assert signature(set(), hashes[:3], p) == [p] * 3, "an empty set has p in every place"
assert signature({3}, [], p) == [], "no hash functions, nothing in the signature"

# %% [markdown]
# ## 4. Bands (2 points)
#
# Two signatures agree in many places if the texts are similar.
# To find such pairs without comparing them all, each signature is cut into `n_bands` bands of equal length.
# A pair is a candidate if the signatures agree in *all* numbers of at least one band.
#
# Write `candidates(signatures, n_bands)`: from a list of signatures to the set of candidate pairs `(i, j)` with `i < j`.
# The length of the signatures is a multiple of `n_bands`.
# Use a dictionary from a band and its place to the texts that have it there.
#
# The signatures `[1, 2, 3, 4]`, `[1, 2, 9, 9]` and `[3, 4, 1, 2]` in two bands give `{(0, 1)}`: the third has the same two bands as the first, but in other places.


# %% answer="candidates"
def candidates(signatures, n_bands):
    """Return the pairs of signatures that agree in at least one whole band."""
    ### BEGIN SOLUTION
    buckets = {}
    for number, row in enumerate(signatures):
        size = len(row) // n_bands
        for place in range(n_bands):
            band = place, *row[place * size : (place + 1) * size]
            buckets.setdefault(band, []).append(number)
    return {pair for bucket in buckets.values() for pair in combinations(bucket, 2)}
    ### END SOLUTION


# %% test="candidates" points=1
rows = [[1, 2, 3, 4], [1, 2, 9, 9], [3, 4, 1, 2]]
got = candidates(rows, 2)
assert got == {(0, 1)}, (
    "the texts 0 and 1 agree in the first band; 2 has the same bands as 0, but at other "
    f"places: wanted {{(0, 1)}}, got {got}"
)
got = candidates([[1, 2, 3, 4], [1, 9, 3, 9]], 2)
assert got == set(), (
    f"they agree in half of the places, but in no whole band: no pair, got {got}"
)

got = candidates([[1, 2, 3, 4, 5, 6], [1, 2, 9, 9, 9, 9], [9, 9, 9, 4, 5, 6]], 2)
assert got == {(0, 2)}, (
    "six numbers in two bands are bands of three: 0 and 2 agree in the second, and 0 and 1 "
    f"in two numbers only; wanted {{(0, 2)}}, got {got}"
)

# %% hidden="candidates" points=1
# Hidden: random signatures, one band, bands of one number (1 point)
g = generator(2)
for n_bands, n_rows, high in ((4, 3, 2), (1, 2, 3), (6, 1, 9), (3, 2, 3)):
    rows = [draw(high, n_bands * n_rows, g) for _ in range(14)]
    rows.append(list(rows[3]))
    wanted = set()
    for i in range(15):
        for j in range(i):
            same = [x == y for x, y in zip(rows[i], rows[j])]
            bands = [same[k : k + n_rows] for k in range(0, len(same), n_rows)]
            if any(map(all, bands)):
                wanted.add((j, i))
    got = candidates(rows, n_bands)
    assert got == wanted, (
        f"{n_bands} bands of {n_rows}: {len(wanted - got)} pairs are missing and "
        f"{len(got - wanted)} are too many; pairs are (i, j) with i < j, and all numbers of "
        "one band must agree"
    )
assert candidates([], 4) == set(), "no texts, no pairs"
got = candidates([[1, 23], [12, 3]], 1)
assert got == set(), f"1, 23 and 12, 3 are different bands, so no pair; got {got}"

# %% [markdown]
# ## 5. Near copies go (2 points)
#
# Candidates are checked exactly, and only the first of several similar texts is kept.
# Write `without_copies(sets, pairs, threshold)`: a list with the numbers of the texts that are kept.
#
# `sets` holds the shingles of each text, and `pairs` the candidates.
# Go through the texts in order.
# A text is dropped if some earlier text *that was kept* makes a candidate pair with it and their Jaccard similarity is at least `threshold`.
# So if 1 is a copy of 0, and 2 is similar only to 1, then 1 is dropped and 2 is kept.


# %% answer="without-copies"
def without_copies(sets, pairs, threshold):
    """Return the numbers of the texts that are not near copies of one kept before."""
    ### BEGIN SOLUTION
    kept = []
    for j in range(len(sets)):
        earlier = [i for i in kept if (i, j) in pairs]
        if all(jaccard(sets[i], sets[j]) < threshold for i in earlier):
            kept.append(j)
    return kept
    ### END SOLUTION


# %% test="without-copies" points=1
sets = [{1, 2, 3, 4}, {1, 2, 3, 4, 5}, {3, 4, 5, 6}, {1, 2, 3, 4}]
got = without_copies(sets, {(0, 1), (1, 2), (0, 3)}, 0.5)
assert list(got) == [0, 2], (
    "1 is like 0 (4/5) and goes; 2 is like 1 (1/2), which is gone, so it stays; 3 equals "
    f"0 and goes: wanted [0, 2], got {got}"
)
got = without_copies(sets, {(0, 1)}, 0.9)
assert list(got) == [0, 1, 2, 3], (
    "4/5 is below 0.9, and only candidates are compared, so all stay: wanted "
    f"[0, 1, 2, 3], got {got}"
)

got = without_copies(sets, {(0, 1)}, 0.8)
assert list(got) == [0, 2, 3], (
    f"4/5 is at least 0.8, so 1 goes: wanted [0, 2, 3], got {got}"
)

# %% hidden="without-copies" points=1
# Hidden: random sets, candidates that are not similar, similarity at the threshold (1 point)
g = generator(3)
for threshold, share in ((0.5, 1.0), (0.25, 0.6), (1.0, 1.0), (1 / 3, 0.9)):
    sets = [set(draw(6, 4, g)) for _ in range(16)]
    everyone = list(combinations(range(16), 2))
    chosen = torch.rand(len(everyone), generator=g).tolist()
    pairs = {pair for pair, x in zip(everyone, chosen) if x < share}
    saved, dropped = [set(each) for each in sets], set()
    for j in range(16):
        for i in range(j):
            common = len([x for x in sets[i] if x in sets[j]])
            union = len(sets[i]) + len(sets[j]) - common
            if i not in dropped and (i, j) in pairs and common / union >= threshold:
                dropped.add(j)
    got = without_copies(sets, pairs, threshold)
    assert list(got) == sorted(set(range(16)) - dropped), (
        f"threshold {threshold:.2f}, {len(pairs)} candidates among 16 texts: wanted "
        f"{sorted(set(range(16)) - dropped)}, got {got}; a similarity of just the threshold "
        "drops, and a text that was dropped drops no other"
    )
    assert sets == saved, "without_copies must not change the sets"
assert list(without_copies([], set(), 0.5)) == [], "no texts, none kept"

# %% [markdown]
# ## 6. A split without leaks (2 points)
#
# Suppose that near copies are kept, because each has something of its own.
# Then all of them must be on *one* side, or the test asks for text that was learned.
# And a text must not change sides when the corpus gains texts that are unlike it, so no random number is drawn: a hash of the text decides.
#
# Write `held_out(texts, pairs, share)`: a list with `True` for each text that is held out.
#
# - Texts connected by `pairs`, directly or through others, form a group: with the pairs (0, 1) and (1, 2), the texts 0, 1 and 2 are one group.
#   A text without a pair is a group by itself.
#   The two numbers of a pair may be in any order, and may be equal.
#   Equal texts are connected only if some pair says so.
# - A group is held out if `unit(t) < share`, where $t$ is its alphabetically smallest text (Python's order of strings).
#   The first code cell has `unit`, which turns a text into a number from 0 to 1.


# %% answer="held-out"
def held_out(texts, pairs, share):
    """Return whether each text is held out; connected texts are on one side."""
    ### BEGIN SOLUTION
    group = list(range(len(texts)))
    for a, b in pairs:
        old, new = group[a], group[b]
        group = [new if each == old else each for each in group]
    smallest = {}
    for text, each in zip(texts, group):
        smallest[each] = min(text, smallest.get(each, text))
    return [unit(smallest[each]) < share for each in group]
    ### END SOLUTION


# %% test="held-out" points=1
texts = ["a hen", "a cat", "a dog", "an owl"]  # unit: 0.39, 0.51, 0.66, 0.13
numbers = [round(unit(text), 2) for text in texts]
got = held_out(texts, [], 0.5)
assert list(got) == [unit(text) < 0.5 for text in texts], (
    f"without pairs each text decides for itself: unit gives {numbers}, and below 0.5 is "
    f"held out; got {got}"
)
for pairs in ([(0, 3), (1, 2), (0, 1)], [(1, 2), (0, 1), (0, 3)]):
    got = held_out(texts, pairs, 0.5)
    assert list(got) == [unit("a cat") < 0.5] * 4, (
        f"the pairs {pairs} connect all four texts, and the smallest, 'a cat', decides for "
        f"all; got {got}"
    )

# %% hidden="held-out" points=1
# Hidden: random groups, long chains, equal texts, a corpus that grows (1 point)
g = generator(4)
for share, n_pairs in 4 * [(0.3, 8), (0.5, 14)] + [(0.0, 5), (1.0, 5)]:
    texts = [f"text {i}" for i in draw(1000, 24, g)]
    pairs = list(zip(draw(24, n_pairs, g), draw(24, n_pairs, g)))
    pairs += [(20, 21), (22, 23), (21, 22)]
    wanted = []
    for start in range(24):
        found, size = {start}, 0
        while len(found) > size:
            size = len(found)
            found |= {b for a, b in pairs if a in found}
            found |= {a for a, b in pairs if b in found}
        wanted.append(unit(sorted(texts[i] for i in found)[0]) < share)
    saved = list(pairs)
    got = [bool(side) for side in held_out(texts, pairs, share)]
    assert got == wanted, (
        f"share {share}, {len(pairs)} pairs among 24 texts: {sum(map(int.__ne__, got, wanted))}"
        " texts are on another side than the smallest text of their group asks for"
    )
    assert pairs == saved, "held_out must not change the pairs"
    more = held_out([*texts, "text z"], pairs, share)
    assert [bool(side) for side in more][:24] == wanted, (
        "a text that is new and connected with none must not move the others"
    )
got = list(held_out(["a hen"], [], unit("a hen")))
assert got == [False], f"a share of just unit(t) does not hold t out, got {got}"
got = list(held_out(["b", "b", "a"], [(0, 2)], 0.5))
assert got == [True, False, True], (
    "the first 'b' is connected with 'a' and goes with it, and the second, an equal text, "
    f"decides for itself: wanted [True, False, True], got {got}"
)
assert list(held_out([], [], 0.5)) == [], "no texts, nothing held out"

# %% [markdown]
# ## 7. Packing (2 points)
#
# A document is a list of ids.
# All documents are put into one row, each followed by the id `end`, and the row is cut into windows of `length` ids; what is left at the end is dropped.
# So a window may hold the end of one document and the beginning of the next, and a token should not look across the border.
#
# - Write `pack(documents, length, end)`: the list of windows.
# - Write `may_look(window, end)`: a tensor of bool, of shape (T, T) for $T$ ids, true where token $t$ may look at token $s$: $s$ is not after $t$, and both are in the same document.
#   An `end` belongs to the document that it ends.
#
# With `end` = 0, the window `[5, 0, 7]` lets 5 look at itself, 0 at 5 and itself, and 7 only at itself.


# %% answer="packing"
def pack(documents, length, end):
    """Return windows of ids, cut from all documents with an end after each."""
    ### BEGIN SOLUTION
    row = []
    for ids in documents:
        row += [*ids, end]
    return [row[i : i + length] for i in range(0, len(row) - length + 1, length)]
    ### END SOLUTION


def may_look(window, end):
    """Return who may look at whom: back, and in the same document, (T, T)."""
    ### BEGIN SOLUTION
    is_end = torch.tensor(window) == end
    number = is_end.cumsum(0) - is_end.int()  # of ends before the token
    return (number[:, None] == number).tril()
    ### END SOLUTION


# %% test="packing" points=1
got = pack([[5, 6], [7], [8, 9, 1]], 3, 0)
assert got == [[5, 6, 0], [7, 0, 8], [9, 1, 0]], (
    f"the row is 5 6 0 7 0 8 9 1 0: wanted [[5, 6, 0], [7, 0, 8], [9, 1, 0]], got {got}"
)
got = pack([[5, 6], [7, 8, 9]], 4, 0)
assert got == [[5, 6, 0, 7]], (
    f"the row is 5 6 0 7 8 9 0, and the last 3 ids fill no window: [[5, 6, 0, 7]], got {got}"
)
got = may_look([5, 0, 7], 0)
assert got.dtype == torch.bool, f"true or false was wanted, got {got.dtype}"
assert got.int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]], (
    "5 sees itself, 0 sees the 5 of its document and itself, 7 begins a new document: "
    f"wanted [[1, 0, 0], [1, 1, 0], [0, 0, 1]], got {got.int().tolist()}"
)

# %% hidden="packing" points=1
# Hidden: random documents, empty ones, all lengths of windows, other ends (1 point)
g = generator(5)
for length, end in ((1, 0), (4, 3), (7, 99), (40, 0), (500, 0)):
    documents = [[1 + x for x in draw(2, n, g)] for n in [0, *draw(9, 12, g)]]
    saved = [list(ids) for ids in documents]
    row = [x for ids in documents for x in (*ids, end)]
    got, wanted = pack(documents, length, end), []
    while len(row) >= length:
        wanted, row = [*wanted, row[:length]], row[length:]
    assert got == wanted, (
        f"13 documents in windows of {length}: wanted {len(wanted)} windows, got "
        f"{len(got)}, or others; each document has an end after it, also the last and an "
        "empty one, and a window that is not full is dropped"
    )
    assert documents == saved, "pack must not change the documents"
    for window in wanted[:12]:
        seen = may_look(window, end)
        assert tuple(seen.shape) == (length, length), (
            f"a window of {length} ids has a mask of {(length, length)}, got {seen.shape}"
        )
        for t in range(length):
            begin = max([s + 1 for s in range(t) if window[s] == end], default=0)
            assert seen[t].tolist() == [begin <= s <= t for s in range(length)], (
                f"in the window {window} with end {end}, token {t} sees the tokens "
                f"{begin} to {t}, got {seen[t].nonzero().flatten().tolist()}"
            )
assert pack([], 4, 0) == [], "no documents, no windows"
seen = may_look([0, 0, 5, 6], 0).int().tolist()
assert seen == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], (
    f"two ends in a row are two documents; got {seen}"
)

# %% [markdown]
# ## 8. Order and proof (5 points, written)
#
# **The order of the steps** (3 points).
# A colleague first looks for near copies in the raw pages, then removes menus and normalises, and finally draws the test set at random.
# Name three things that go wrong, each with an example: at least one copy that is missed or found wrongly, and a leak.
# Then say what order avoids them.

# %% [markdown] written="order" points=3
# - Copies are missed: the same page with different line ends, a combining accent or a zero-width space has different shingles, or a different hash, until it is normalised.
# - Different pages are taken for copies: pages of one site that share a long menu and the same news are similar in what does not matter, and all but one are dropped.
# - Near copies that remain (or that became equal only through cleaning) are split up by the random draw: one is learned, one is in the test.
#   A random draw also moves texts to the other side when the corpus grows and is drawn again.
#
# So: normalise, remove menus, filter, remove exact and then near copies, and split at the end by a hash of the text, with groups of similar texts kept together.
#
# One point for each fault with an example, at least one of them a missed copy or a false one, and one a leak; the order must follow from them.
# (Half a point off if no order is given.)

# %% [markdown]
# **A score that is too good** (2 points).
# A model is tested on 1,000 stories whose entropy floor is known: 1.3 nats per word.
# Its loss on them is 1.1.
# Say what this proves and why.
# The test stories were checked for runs of 50 words shared with the training text, and none was found.
# Name one way in which the leak may have escaped the check.

# %% [markdown] written="too-good" points=2
# On stories that are new to it, no model can be below the entropy of the source on average; over 1,000 stories, chance does not explain so large a gap.
# So the model has seen these stories, or something that gives them away: the test leaked (or the loss or the floor is computed wrongly, say in different units or with a mask that shows the future).
#
# Runs of 50 words are long: a copy with a word changed in every other sentence shares none, and neither does a story that is shorter than that.
# Nor does one that differs only in spelling, punctuation or white space, if these were not normalised first.
# Translations and retellings share no run at all.
#
# One point: below the floor on average is impossible for text that is new, so there is a leak or a mistake in measuring.
# One point: a way past the check that works for runs of 50 words.
