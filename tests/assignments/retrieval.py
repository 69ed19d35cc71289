# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked:
#       - llmcourse.retrieval.bm25
#       - llmcourse.retrieval.chunking
#       - llmcourse.retrieval.summarising
#       - llmcourse.text.embeddings
# ---

# %% [markdown]
# # Assignment: search before you answer
#
# You write a search engine from scratch: cut documents into chunks, find them by their words and by vectors, fuse the two, and measure what is found.
# Then you plan how to summarise a book that no window can hold.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. Chunks | 3 | ★★★ | 25 |
# | 2. An index, and BM25 | 3 | ★★ | 25 |
# | 3. The nearest vectors | 2 | ★★ | 15 |
# | 4. Fuse rankings | 2 | ★ | 10 |
# | 5. How good a search is | 2 | ★★ | 15 |
# | 6. Plan a summary | 3 | ★★★ | 25 |
# | 7. Explain (written) | 5 | ★★ | 25 |
#
# 20 points in all. Read the chapter [Documents longer than the window](../retrieval.ipynb) first.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has a search of its own. The first code cell locks it away: here you write it yourself.

# %% given="setup"
import sys
from collections import Counter
from math import log

import torch
from torch.nn import functional

from llmcourse.classroom.tasks import generator, is_pair

for module in ("bm25", "chunking", "summarising"):
    sys.modules[f"llmcourse.retrieval.{module}"] = None  # this is what you write
sys.modules["llmcourse.text.embeddings"] = None


def close(got, want):
    """Whether something is a list of nearly the wanted numbers."""
    got = got.tolist() if hasattr(got, "tolist") else got  # a tensor
    if not isinstance(got, list | tuple) or len(got) != len(want):
        return False
    return all(abs(a - b) < 1e-6 for a, b in zip(got, want))


# %% [markdown]
# ## 1. Chunks (3 points)
#
# A chunk is a *span* `(start, end)`: everything from `start` up to, but not including, `end`, as in `ids[start:end]`.
#
# Write `token_spans(n, size, overlap)`: the spans of a text of `n` tokens, cut into chunks of `size` tokens, each of which begins with the last `overlap` tokens of the one before.
# The last chunk may be shorter, and ends with the text; `overlap` is smaller than `size`.
# No chunk lies inside another, and an empty text has none.
# For 10 tokens, size 5 and overlap 2: (0, 5), (3, 8), (6, 10).
#
# It is better not to cut a sentence in two.
# Write `sentence_spans(lengths, size, overlap)`: spans of **sentences**, where `lengths` says how many tokens each sentence has, and none has more than `size`.
#
# - A chunk takes as many of the following sentences as fit into `size` tokens.
# - The next chunk begins with as many of the last sentences of this one as have at most `overlap` tokens together. If the next new sentence would not fit after them, the first of them are left out until it fits.
# - The last chunk ends with the last sentence.
#
# For the lengths `[4, 3, 2, 6]`, size 10 and overlap 5: the first three have 9 tokens, so the first span is (0, 3).
# The last two of them have 5, but with the 6 that makes 11, so only the 2 is repeated: (2, 4).


# %% answer="token-spans"
def token_spans(n, size, overlap):
    """Return the spans of chunks of size tokens with an overlap."""
    ### BEGIN SOLUTION
    starts = range(0, max(n - overlap, 1), size - overlap)
    return [(start, min(start + size, n)) for start in starts] if n else []
    ### END SOLUTION


# %% answer="sentence-spans"
def sentence_spans(lengths, size, overlap):
    """Return spans of whole sentences that fit into size tokens, with an overlap."""
    ### BEGIN SOLUTION
    spans, start, end = [], 0, 0
    while end < len(lengths):
        while end < len(lengths) and sum(lengths[start : end + 1]) <= size:
            end += 1
        spans.append((start, end))
        while sum(lengths[start:end]) > overlap or sum(lengths[start : end + 1]) > size:
            start += 1
    return spans
    ### END SOLUTION


# %% test="spans" points=1
got = [tuple(span) for span in token_spans(10, 5, 2)]
assert got == [(0, 5), (3, 8), (6, 10)], (
    "10 tokens, size 5, overlap 2: each chunk begins 2 tokens before the end of the one "
    f"before it; wanted (0, 5), (3, 8), (6, 10), got {got}"
)
got = [tuple(span) for span in token_spans(8, 5, 2)]
assert got == [(0, 5), (3, 8)], (
    f"after (3, 8) everything is there; another chunk would lie in it; got {got}"
)
got = [tuple(span) for span in sentence_spans([4, 3, 2, 6], 10, 5)]
assert got == [(0, 3), (2, 4)], (
    "4 + 3 + 2 fit into 10; of 3 + 2 the 3 is left out, since 3 + 2 + 6 are 11: wanted "
    f"(0, 3), (2, 4), got {got}"
)

# %% hidden="token-spans" points=1
# Hidden: empty and short texts, no overlap, many sizes (1 point)
assert token_spans(0, 5, 2) == [], "an empty text has no chunks"
got = [tuple(span) for span in token_spans(1, 5, 4)]
assert got == [(0, 1)], f"a text of one token is one chunk, (0, 1); got {got}"
for size in range(1, 9):
    for overlap in range(size):
        for n in range(1, 30):
            want, end = [(0, min(size, n))], min(size, n)
            while end < n:
                want.append((end - overlap, min(end - overlap + size, n)))
                end = want[-1][1]
            got = [tuple(span) for span in token_spans(n, size, overlap)]
            assert got == want, (
                f"{n} tokens, size {size}, overlap {overlap}: wanted {want}, got {got}"
            )

# %% hidden="sentence-spans" points=1
# Hidden: one sentence, an overlap that just fits, none, a large one, random lengths (1 point)
assert sentence_spans([], 5, 2) == [], "no sentences, no chunks"
got = [tuple(span) for span in sentence_spans([5], 5, 2)]
assert got == [(0, 1)], f"a sentence that just fits is a chunk, (0, 1); got {got}"
got = [tuple(span) for span in sentence_spans([5, 2, 3, 5], 10, 5)]
assert got == [(0, 3), (1, 4)], (
    "lengths 5, 2, 3, 5, size 10, overlap 5: 2 + 3 are just 5, and with the new 5 just 10, "
    f"so both are repeated: wanted (0, 3), (1, 4), got {got}"
)
for number, (size, overlap) in enumerate(((20, 0), (20, 7), (25, 24), (12, 4))):
    draw = generator(1 + number)
    lengths = torch.randint(1, 13, (40,), generator=draw).tolist()
    copy, want, start, end = list(lengths), [], 0, 0
    while end < 40:
        if want:
            start = min(
                s
                for s in range(start + 1, end + 1)
                if sum(lengths[s:end]) <= overlap and sum(lengths[s : end + 1]) <= size
            )
        end = max(e for e in range(41) if e > start and sum(lengths[start:e]) <= size)
        want.append((start, end))
    got = [tuple(span) for span in sentence_spans(lengths, size, overlap)]
    assert lengths == copy, "sentence_spans must not change the lengths"
    assert got == want, (
        f"lengths {lengths}, size {size}, overlap {overlap}: wanted {want}, got {got}"
    )

# %% [markdown]
# ## 2. An index, and BM25 (3 points)
#
# A search that reads all documents for every query is slow.
# An **inverted index** is built once: it says for each word which documents contain it.
# Write `build_index(documents)`: from a list of documents, each a list of words, to a dict with an entry for every word.
# The entry is a list of pairs `(number of the document, how often it has the word)`, in the order of the documents.
#
# Then write `bm25(query, index, lengths, k1, b)`: a list with the score of each document.
# `query` is a list of words, `lengths` has the number of words of each document, and
#
# $$\text{score}(c) = \sum_q w_q \cdot \frac{f_q}{f_q + k_1 L_c},$$
#
# $$w_q = \ln\Bigl(1 + \frac{N - n_q + \frac12}{n_q + \frac12}\Bigr), \qquad L_c = 1 - b + b\,\frac{|c|}{\overline{|c|}}.$$
#
# $N$ is the number of documents, $n_q$ how many of them have the word $q$, $f_q$ how often document $c$ has it, $|c|$ its number of words, and $\overline{|c|}$ their mean.
# A word that is in the query twice counts twice, and one that no document has does not count.
# A document without the word gets nothing for it; `k1` may be 0.
# Only documents that the index lists for a word of the query need to be looked at.
# The index that comes in is a plain dict and stays as it is.
#
# Take *a red boat*, *a blue boat* and *a red hat a red coat*, and the query *red hat*.
# With $k_1 = 1$ and $b = 0$ the scores are 0.24, 0 and 0.80, as in the chapter.


# %% answer="build-index"
def build_index(documents):
    """Return for each word the documents that have it, and how often."""
    ### BEGIN SOLUTION
    index = {}
    for number, document in enumerate(documents):
        for word, n in Counter(document).items():
            index.setdefault(word, []).append((number, n))
    return index
    ### END SOLUTION


# %% answer="bm25"
def bm25(query, index, lengths, k1, b):
    """Return how well each document matches the words of a query."""
    ### BEGIN SOLUTION
    mean = sum(lengths) / len(lengths)
    scores = [0.0] * len(lengths)
    for word in query:
        entries = index.get(word, [])
        rarity = log(1 + (len(lengths) - len(entries) + 0.5) / (len(entries) + 0.5))
        for number, n in entries:
            norm = k1 * (1 - b + b * lengths[number] / mean)
            scores[number] += rarity * n / (n + norm)
    return scores
    ### END SOLUTION


# %% test="bm25" points=1
three = ["a red boat", "a blue boat", "a red hat a red coat"]
index = build_index([text.split() for text in three])
assert isinstance(index, dict), f"an index is a dict, got {index!r}"
got = index.get("red", [])
assert all(map(is_pair, got)), (
    f"an entry is a list of pairs (number of the document, how often); got {got}"
)
assert [tuple(pair) for pair in got] == [(0, 1), (2, 2)], (
    f"red is once in document 0 and twice in document 2; got {got}"
)
got = bm25(["red", "hat"], index, [3, 3, 6], 1.0, 0.0)
want = [log(1.6) / 2, 0.0, log(1.6) * 2 / 3 + log(1 + 2.5 / 1.5) / 2]
assert close(got, want), (
    "red is in two of three documents, ln 1.6, and hat in one, ln 2.67; wanted "
    f"{want}, got {got}"
)

got = bm25(["red", "hat", "red"], index, [3, 3, 6], 1.0, 1.0)
red, hat = log(1.6), log(1 + 2.5 / 1.5)
want = [2 * red / (1 + 3 / 4), 0.0, 2 * red * 2 / (2 + 6 / 4) + hat / (1 + 6 / 4)]
assert close(got, want), (
    "with b = 1 the lengths 3, 3 and 6 are compared with their mean, 4, so k₁ becomes 3/4 "
    f"and 6/4; and red is twice in the query: wanted {want}, got {got}"
)

got = bm25(["red", "zebra"], dict(index), [3, 3, 6], 1.0, 0.0)
want = [log(1.6) / 2, 0.0, log(1.6) * 2 / 3]
assert close(got, want), (
    "the index is a plain dict, and zebra, which is not in it, does not count: wanted "
    f"{want}, got {got}"
)

# %% hidden="bm25" points=2
# Hidden: random documents and queries, several k1 and b, words twice and unknown (2 points)
assert build_index([[], []]) == {}, "empty documents have no words"
got = {word: [*map(tuple, own)] for word, own in build_index([["A", "a", "a"]]).items()}
assert got == {"A": [(0, 1)], "a": [(0, 2)]}, (
    f"words stay as they are written; got {got}"
)
draw = generator(10)
letters = torch.randint(0, 9, (5, 30), generator=draw).tolist()
sizes = 7, 30, 1, 18, 4
documents = [["abcdefghi"[i] for i in row[:n]] for row, n in zip(letters, sizes)]
copy = [list(document) for document in documents]
index = build_index(documents)
assert documents == copy, "build_index must not change the documents"
for word in "abcdefghi":
    want = [(i, d.count(word)) for i, d in enumerate(documents) if word in d]
    got = [tuple(pair) for pair in index.get(word, [])]
    assert got == want, f"the word {word!r}: wanted {want}, got {got}"
for k1, b in ((1.5, 0.75), (0.4, 1.0), (2.0, 0.0), (0.0, 0.5)):
    for query in ("ab", "cca", "defghi", "zzb", ""):
        want = []
        for document in documents:
            score = 0.0
            for q in query:
                with_q = sum(q in other for other in documents)
                f = document.count(q)
                idf = log((len(documents) + 1) / (with_q + 0.5))
                pivot = 1 - b + b * len(document) / (sum(sizes) / 5)
                score += idf * f / (f + k1 * pivot) if f else 0.0
            want.append(score)
        given = list(query), dict(index), list(sizes)
        before = repr(given)
        got = bm25(*given, k1, b)
        assert close(got, want), (
            f"query {query!r}, k1 {k1}, b {b}: wanted {want}, got {got}; the length of a "
            "document counts against the mean length, and a word twice counts twice"
        )
        assert repr(given) == before, (
            "bm25 must not change the query, the index and the lengths: they were "
            f"{before}, and are {given}"
        )
got = bm25(["a"], build_index([["a"], []]), [1, 0], 1.0, 0.5)
assert close(got, [log(2) / 2.5, 0.0]), (
    "an empty document counts in the number of documents and in the mean length: wanted "
    f"{[log(2) / 2.5, 0.0]}, got {got}"
)

# %% [markdown]
# ## 3. The nearest vectors (2 points)
#
# A search by vectors takes the chunks whose vectors have the largest cosine with the question's.
# Write `nearest(queries, vectors, k)`: from vectors of the questions (Q, D) and of the chunks (N, D) to the pair `(scores, numbers)`, both (Q, k).
# For each question they hold the $k$ largest cosines, the largest first, and the numbers of their chunks, of `torch.int64`.
# If there are fewer than $k$ chunks, all of them are in the result.
# The cosine with a vector of zeros is 0.
# Of equal cosines, the chunk with the smaller number comes first.
#
# The question (1, 0) and the chunks (0, 2), (3, 4), (5, 0): the nearest are chunk 2, with the cosine 1, and chunk 1, with 0.6.


# %% answer="nearest"
def nearest(queries, vectors, k):
    """Return the largest cosines of each query, and the numbers of their vectors."""
    ### BEGIN SOLUTION
    scores = functional.normalize(queries) @ functional.normalize(vectors).T
    numbers = scores.argsort(descending=True, stable=True)[:, :k]
    return scores.gather(1, numbers), numbers
    ### END SOLUTION


# %% test="nearest" points=1
chunks = torch.tensor([[0.0, 2], [3, 4], [5, 0]])
got = nearest(torch.tensor([[1.0, 0]]), chunks, 2)
assert is_pair(got, torch.Tensor), (
    f"a pair of tensors (scores, numbers) was wanted, got {got!r}"
)
scores, numbers = got
assert numbers.tolist() == [[2, 1]], (
    f"(5, 0) has the direction of (1, 0), and (3, 4) the cosine 0.6; got {numbers}"
)
assert close(scores[0].tolist(), [1.0, 0.6]), (
    f"lengths do not count in a cosine: 1.0 and 0.6, got {scores}"
)

chunks = torch.tensor([[0.0, 2, 0], [3, 4, 0], [0, 0, 0], [5, 0, 0]])
scores, numbers = nearest(torch.tensor([[0.0, 7, 0], [10, 0, 0]]), chunks, 3)
assert numbers.tolist() == [[0, 1, 2], [3, 1, 0]], (
    "two questions, along the second and the first axis: wanted [[0, 1, 2], [3, 1, 0]], "
    f"got {numbers.tolist()}; a row for each question, and of equal cosines the smaller "
    "number first"
)
assert close(scores.flatten().tolist(), [1.0, 0.8, 0.0, 1.0, 0.6, 0.0]), (
    "lengths do not count, of questions neither, and the cosine with zeros is 0: wanted "
    f"[[1, 0.8, 0], [1, 0.6, 0]], got {scores.tolist()}"
)
_, numbers = nearest(torch.tensor([[10.0, 0, 0]]), chunks, 9)
assert numbers.tolist() == [[3, 1, 0, 2]], (
    f"9 of 4 chunks are all 4: wanted [[3, 1, 0, 2]], got {numbers.tolist()}"
)

# %% hidden="nearest" points=1
# Hidden: random vectors, several questions, ties, zeros, a large k (1 point)
queries = torch.randn(3, 5, generator=generator(20), dtype=torch.float64)
vectors = torch.randn(8, 5, generator=generator(21), dtype=torch.float64)
vectors *= torch.arange(1.0, 9.0)[:, None]
vectors[6] = 0.0
before = queries.clone(), vectors.clone()
for k in (1, 4, 8, 20):
    scores, numbers = nearest(queries, vectors, k)
    size = 3, min(k, 8)
    assert scores.shape == size, f"k = {k}: {size}, got {tuple(scores.shape)}"
    assert numbers.shape == size, f"k = {k}: {size}, got {tuple(numbers.shape)}"
    assert numbers.dtype == torch.int64, f"torch.int64, got {numbers.dtype}"
    for query, own, found in zip(queries, scores.tolist(), numbers.tolist()):
        cosines = functional.cosine_similarity(query[None], vectors).tolist()
        want = sorted(range(8), key=lambda i: -cosines[i])[:k]
        assert found == want, f"k = {k}: wanted the chunks {want}, got {found}"
        assert close(own, [cosines[i] for i in want]), f"cosines {cosines}, got {own}"
assert torch.equal(queries, before[0]), "nearest must not change the queries"
assert torch.equal(vectors, before[1]), "nearest must not change the vectors"
same = torch.tensor([[0.0, 3], [2, 0], [0, 0], [1, 0], [0, -1], [4, 0], [0, 0]])
_, numbers = nearest(torch.tensor([[1.0, 0]]), same, 7)
assert numbers.tolist() == [[1, 3, 5, 0, 2, 4, 6]], (
    "three chunks have the cosine 1 and four the cosine 0, two of which are zeros; of "
    f"equal ones the smaller number first: got {numbers}"
)
scores, numbers = nearest(torch.zeros(1, 2), torch.eye(2), 2)
assert scores.tolist() == [[0, 0]], (
    "a question of zeros has the cosine 0 with every chunk: wanted [[0, 0]], got "
    f"{scores.tolist()}"
)
assert numbers.tolist() == [[0, 1]], (
    f"of equal cosines the smaller number first: [[0, 1]], got {numbers.tolist()}"
)
many = torch.stack((2.0 ** (torch.arange(500) % 20), torch.zeros(500)), dim=1)
_, numbers = nearest(torch.tensor([[1.0, 0]]), many, 500)
assert numbers.tolist() == [list(range(500))], (
    "500 chunks with the cosine 1 keep their order: a sort does that only if it is told "
    "to, by stable=True"
)

# %% [markdown]
# ## 4. Fuse rankings (2 points)
#
# Scores of BM25 and cosines are on different scales, but ranks are on one.
# Write `fuse(rankings, weights, k)`: a list of pairs `(item, score)`, the best first, where a score is a float.
# The score of an item is the sum of $w / (k + \text{rank})$ over all rankings that it is in.
# The best rank is 1, and $w$ is the weight of the ranking: you may trust one search more than another.
# Of equal scores, the item that comes first in the rankings, read one after the other, comes first.
#
# `fuse([["a", "b"], ["c", "b"]], [1, 1], 1)`: b has $\tfrac13 + \tfrac13$, and a and c have $\tfrac12$ each, so b comes first, then a, then c.


# %% answer="fuse"
def fuse(rankings, weights, k):
    """Return the items of several rankings with their fused scores, best first."""
    ### BEGIN SOLUTION
    sums = {}
    for ranking, weight in zip(rankings, weights):
        for rank, item in enumerate(ranking, start=1):
            sums[item] = sums.get(item, 0.0) + weight / (k + rank)
    return sorted(sums.items(), key=lambda pair: -pair[1])
    ### END SOLUTION


# %% test="fuse" points=1
got = fuse([["a", "b"], ["c", "b"]], [1, 1], 1)
assert isinstance(got, list), f"a list of pairs (item, score) was wanted, got {got!r}"
assert all(map(is_pair, got)), f"each is a pair (item, score), got {got}"
assert [item for item, _ in got] == ["b", "a", "c"], (
    f"b is second twice, 1/3 + 1/3; a and c are first once, 1/2; got {got}"
)
assert close([score for _, score in got], [2 / 3, 1 / 2, 1 / 2]), (
    f"with k = 1 a first place is 1 / (1 + 1) and a second 1 / (1 + 2); got {got}"
)

got = fuse([["a", "b"], ["c", "b", "d"]], [1, 3], 2)
assert [item for item, _ in got] == ["b", "c", "d", "a"], (
    "the second ranking weighs 3: b has 1/4 + 3/4, c has 3/3, d has 3/5 and a has 1/3; b "
    f"and c are equal, and b comes first in the rankings; got {got}"
)

# %% hidden="fuse" points=1
# Hidden: weights, rankings of different lengths, other k, empty rankings (1 point)
assert list(fuse([], [], 60)) == [], "no rankings, no items"
assert [item for item, _ in fuse([[], [7, 3]], [1, 1], 60)] == [7, 3], (
    "an empty ranking"
)
got = [item for item, _ in fuse([["b", "a"], ["a", "b"]], [1, 1], 1)]
assert got == ["b", "a"], (
    "a and b have 1/2 + 1/3 each, and b comes first in the rankings, read one after the "
    f"other: wanted ['b', 'a'], got {got}"
)
draw = generator(30)
rankings = [torch.randperm(12, generator=draw).tolist()[:n] for n in (12, 5, 8)]
copy = [list(ranking) for ranking in rankings]
for weights, k in (([1, 1, 1], 60), ([0.5, 2, 1], 3), ([1, 0.25, 4], 0)):
    want = {}
    for item in range(12):
        found = [(r.index(item), w) for r, w in zip(rankings, weights) if item in r]
        want[item] = sum(w / (k + 1 + place) for place, w in found)
    got = dict(fuse(rankings, weights, k))
    assert sorted(got) == list(range(12)), f"all 12 items, each once; got {sorted(got)}"
    for item, score in want.items():
        assert abs(got[item] - score) < 1e-9, (
            f"weights {weights}, k {k}: item {item} has {score:.5f}, got {got[item]:.5f}"
        )
    scores = list(got.values())
    assert scores == sorted(scores, reverse=True), f"the best first, got {scores}"
assert rankings == copy, "fuse must not change the rankings"

# %% [markdown]
# ## 5. How good a search is (2 points)
#
# A search is measured on questions whose right chunks are known.
# Write `measures(rankings, relevant, k)`: the pair `(recall at k, MRR)` of two floats, both means over the questions.
#
# - `rankings` has for each question, of which there is at least one, the chunks that were found, the best first; the list of a question may be empty.
# - `relevant` has for each question the list of the right chunks.
# - A question counts for **recall at k** if a right chunk is among the first $k$.
# - For the **mean reciprocal rank** it contributes 1 over the place of the first right chunk, wherever that is, and 0 if there is none.
#
# Two questions, `[["c", "a", "x"], ["y"]]`, with the right chunks `[["a", "b"], ["b"]]`: the recall at 1 is 0, at 2 it is 1/2, and the MRR is $(1/2 + 0)/2 = 1/4$.


# %% answer="measures"
def measures(rankings, relevant, k):
    """Return the recall at k and the mean reciprocal rank over all questions."""
    ### BEGIN SOLUTION
    hits, inverse = 0, 0.0
    for ranking, right in zip(rankings, relevant):
        places = [n for n, item in enumerate(ranking, start=1) if item in right]
        if places:
            hits += places[0] <= k
            inverse += 1 / places[0]
    return hits / len(rankings), inverse / len(rankings)
    ### END SOLUTION


# %% test="measures" points=1
found, right = [["c", "a", "x"], ["y"]], [["a", "b"], ["b"]]
for k, want in ((1, (0.0, 0.25)), (2, (0.5, 0.25))):
    got = measures(found, right, k)
    assert close(got, want), (
        f"k = {k}: wanted (recall, MRR) {want}, got {got}; the first question has its "
        "right chunk in place 2, the second has none"
    )

found, right = [["x", "a", "b"], [], ["c"]], [["b", "a"], ["b"], ["c"]]
got = measures(found, right, 1)
assert close(got, (1 / 3, 1 / 2)), (
    "three questions with the first right chunk in place 2, in none and in place 1: the "
    f"recall at 1 is 1/3, the MRR (1/2 + 0 + 1)/3 = 1/2; got {got}; a question counts "
    "once, by its first right chunk"
)

# %% hidden="measures" points=1
# Hidden: random rankings, several right chunks, empty rankings (1 point)
assert close(measures([[]], [[1]], 3), (0.0, 0.0)), "nothing was found"
assert close(measures([[4, 1, 2]], [[1, 2]], 2), (1.0, 0.5)), (
    "two right chunks: the first of them counts, and the question counts once"
)
draw = generator(40)
found = [torch.randperm(9, generator=draw).tolist()[: 4 + q % 4] for q in range(25)]
right = [torch.randperm(9, generator=draw).tolist()[: 1 + q % 3] for q in range(25)]
before = repr((found, right))
for k in (1, 2, 3, 5):
    hit = torch.tensor([bool(set(f[:k]) & set(r)) for f, r in zip(found, right)])
    ranks = torch.tensor(
        [
            min((f.index(i) + 1 for i in r if i in f), default=1e9)
            for f, r in zip(found, right)
        ]
    )
    want = hit.double().mean().item(), (1 / ranks.double()).mean().item()
    got = measures(found, right, k)
    assert close(got, want), f"25 questions, k = {k}: wanted {want}, got {got}"
assert repr((found, right)) == before, (
    "measures must not change the rankings and the right chunks"
)

# %% [markdown]
# ## 6. Plan a summary (3 points)
#
# A book is to be summarised by map-reduce, and you want to know in advance how many calls that takes and what they cost.
# Write `plan(lengths, room, summary)`: the pair `(rounds, cost)`.
#
# - `lengths` has the tokens of each piece of the book, which has at least one. A call can read `room` tokens, and writes `summary` tokens, or as many as it has read, if that is fewer.
# - In the first round each piece is read by a call of its own.
# - In each further round the summaries of the previous round are read: neighbours together, as many from the left as fit into `room`, then the next ones.
# - It ends with the round that writes a single summary.
#
# `rounds` is a list of rounds, each the list of the tokens that its calls read.
# `cost` is the number of all tokens that are read and written.
#
# Raise a `ValueError` if a piece does not fit into `room`, or if there are several summaries and no two neighbours fit together: it would never end.
#
# Four pieces of 90 tokens, room for 100, summaries of 40: four calls read 90 each, then two read 80 each, and one reads 80.
# `rounds` is `[[90, 90, 90, 90], [80, 80], [80]]`, and the cost is $600 + 7 \cdot 40 = 880$.


# %% answer="plan"
def plan(lengths, room, summary):
    """Return what the calls of each round read, and the tokens of all calls."""
    ### BEGIN SOLUTION
    if max(lengths) > room:
        raise ValueError(f"a piece of {max(lengths)} tokens does not fit into {room}")
    rounds, cost, now = [], 0, list(lengths)
    while True:
        rounds.append(now)
        written = [min(n, summary) for n in now]
        cost += sum(now) + sum(written)
        if len(written) == 1:
            return rounds, cost
        now = []
        for n in written:
            if now and now[-1] + n <= room:
                now[-1] += n
            else:
                now.append(n)
        if len(now) == len(written):
            raise ValueError(f"no two summaries of {summary} tokens fit into {room}")
    ### END SOLUTION


# %% test="plan" points=1
got = plan([90, 90, 90, 90], 100, 40)
assert is_pair(got), f"a pair (rounds, cost) was wanted, got {got!r}"
rounds, cost = got
assert all(isinstance(r, list | tuple) for r in rounds), (
    f"rounds is a list of lists, one for each round; got {rounds}"
)
assert [list(r) for r in rounds] == [[90, 90, 90, 90], [80, 80], [80]], (
    "two summaries of 40 fit into 100, three do not: four calls, two, and one; got "
    f"{rounds}"
)
assert cost == 880, (
    f"read are 360 + 160 + 80 tokens, and written 7 · 40: 880, got {cost}"
)

rounds, cost = plan([30, 100, 30, 30, 100], 100, 40)
assert [list(r) for r in rounds] == [[30, 100, 30, 30, 100], [100, 70], [80]], (
    "the pieces are read one by one in the first round, and 30 tokens give 30: the "
    "summaries 30, 40, 30, 30, 40 are grouped as 100 and 70, not by a fixed number; got "
    f"{rounds}"
)
assert cost == 290 + 170 + 170 + 80 + 80 + 40, (
    "read are 290, 170 and 80 tokens, written 170, 80 and 40: 830, got "
    f"{cost}; a call writes no more than it has read"
)

# %% hidden="plan" points=2
# Hidden: one piece, short pieces, what never ends, what does not fit, random books (2 points)
rounds, cost = plan([70], 100, 40)
assert ([list(r) for r in rounds], cost) == ([[70]], 110), (
    f"a single piece takes one call: [[70]] and 110 tokens, got {rounds} and {cost}"
)
rounds, cost = plan([5, 100, 7], 100, 50)
assert ([list(r) for r in rounds], cost) == ([[5, 100, 7], [62]], 286), (
    "a piece of 5 tokens has a summary of 5, not of 50: 5 + 50 + 7 = 62 are read then; "
    f"wanted [[5, 100, 7], [62]] and 112 + 62 + 62 + 50 = 286, got {rounds} and {cost}"
)
rounds, cost = plan([10, 10, 10], 100, 60)
assert ([list(r) for r in rounds], cost) == ([[10, 10, 10], [30]], 120), (
    "two summaries of 60 would not fit into 100, but pieces of 10 have summaries of 10: "
    f"wanted [[10, 10, 10], [30]] and 120, got {rounds} and {cost}"
)
for lengths, room, summary, why in (
    ([10, 101], 100, 40, "a piece of 101 tokens does not fit into 100"),
    ([90, 90, 90], 100, 51, "two summaries of 51 tokens never fit into 100"),
    ([90, 10, 90], 99, 90, "90 and 10 are 100, and do not fit into 99"),
):
    try:
        plan(lengths, room, summary)
    except ValueError:
        continue
    raise AssertionError(f"{why}: that is a ValueError")


def groups_of(sizes, room):
    """Return the sums of neighbours that fit together, from the left."""
    if not sizes:
        return []
    n = max(i for i in range(1, len(sizes) + 1) if i == 1 or sum(sizes[:i]) <= room)
    return [sum(sizes[:n]), *groups_of(sizes[n:], room)]


for number, (room, summary) in enumerate(((100, 50), (100, 17), (60, 25), (90, 30))):
    lengths = torch.randint(4, room, (23,), generator=generator(50 + number)).tolist()
    copy, want = list(lengths), [lengths]
    while len(want[-1]) > 1:
        want.append(groups_of([min(n, summary) for n in want[-1]], room))
    total = sum(n + min(n, summary) for now in want for n in now)
    rounds, cost = plan(lengths, room, summary)
    assert lengths == copy, "plan must not change the lengths"
    assert [list(r) for r in rounds] == want, (
        f"lengths {lengths}, room {room}, summary {summary}: wanted {want}, got {rounds}"
    )
    assert cost == total, f"the cost of these rounds is {total}, got {cost}"

# %% [markdown]
# ## 7. Explain (5 points, written)
#
# **Question A** (3 points).
# Three searches were measured on the 60 questions of a test.
#
# | Search | Recall at 1 | Recall at 5 | MRR |
# |---|---|---|---|
# | BM25 | 0.62 | 0.70 | 0.65 |
# | trained vectors | 0.55 | 0.88 | 0.69 |
# | both, fused | 0.60 | 0.93 | 0.73 |
#
# You have two products: the window of one has room for a single chunk, that of the other for five.
# Say which search you would take for each, and how sure you can be with 60 questions (the 95 % interval of a share of 0.6 goes from about 0.47 to 0.71). (1 point)
# Name one kind of question for which BM25 is better and one for which vectors are. (1 point)
# Say why fusing ranks is better here than adding the scores. (1 point)

# %% [markdown] written="three-searches" points=3
# Question A.
# For a single chunk, recall at 1 counts.
# BM25 is ahead with 0.62, but 0.62, 0.60 and 0.55 are all within one interval, so 60 questions do not decide.
# More questions are needed, or a comparison question by question.
# For five chunks, recall at 5 counts: the fused search has 0.93, clearly more than the 0.70 of BM25.
# It is not certain that it is better than the vectors, with 0.88.
# BM25 is better for rare words that must match to the letter: names, numbers, error messages.
# Vectors are better for questions worded differently from the text (*dressed* and *wore*).
# BM25 scores have no upper limit and depend on the query, while cosines are at most 1, so in a sum one of them would decide alone; ranks are on one scale.
#
# One point: recall at 1 and at 5, each for its product, with the doubt about 60 questions. One point: a kind of question for each. One point: scales that cannot be compared.

# %% [markdown]
# **Question B** (2 points).
# A friend wants to ask two things about a book of 300 pages: *In which town was Nora's uncle born?* and *How does the tone change in the course of the book?*
# Say for each whether you would retrieve or summarise by map-reduce, and why the other would fail. (1 point each)

# %% [markdown] written="retrieve-or-summarise" points=2
# Question B.
# For the town, retrieve.
# The answer is in one place, and that chunk can be found by its names.
# Summaries are made before the question is known, and such a detail is the first thing to be left out.
# For the tone, use map-reduce, or refine.
# The answer is in no single chunk; it comes from all of them in order.
# A search would bring the few chunks that contain words like the question's, and the rest of the book would not be read.
#
# One point for each, with the reason why the other fails.
