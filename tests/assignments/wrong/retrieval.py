# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="chunk-in-a-chunk" answer="token-spans" fails="test-spans,hidden-token-spans"
def token_spans(n, size, overlap):
    return [(s, min(s + size, n)) for s in range(0, n, size - overlap)]


# %% wrong="overlap-forgotten" answer="token-spans" fails="test-spans,hidden-token-spans"
def token_spans(n, size, overlap):
    return [(s, min(s + size, n)) for s in range(0, n, size)]


# %% wrong="rest-left-out" answer="token-spans" fails="test-spans,hidden-token-spans"
def token_spans(n, size, overlap):
    return [(s, s + size) for s in range(0, n - size + 1, size - overlap)]


# %% wrong="new-sentence-not-checked" answer="sentence-spans" fails="test-spans,hidden-sentence-spans"
def sentence_spans(lengths, size, overlap):
    spans, start, end = [], 0, 0
    while end < len(lengths):
        while end < len(lengths) and sum(lengths[start : end + 1]) <= size:
            end += 1
        end = max(end, spans[-1][1] + 1 if spans else 1)
        spans.append((start, end))
        while sum(lengths[start:end]) > overlap:
            start += 1
    return spans


# %% wrong="sentences-without-overlap" answer="sentence-spans" fails="test-spans,hidden-sentence-spans"
def sentence_spans(lengths, size, overlap):
    spans, start = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or sum(lengths[start : end + 1]) > size:
            spans.append((start, end))
            start = end
    return spans


# %% wrong="overlap-not-reached" answer="sentence-spans" fails="hidden-sentence-spans"
def sentence_spans(lengths, size, overlap):
    spans, start, end = [], 0, 0
    while end < len(lengths):
        while end < len(lengths) and sum(lengths[start : end + 1]) <= size:
            end += 1
        spans.append((start, end))
        while start < end and (
            sum(lengths[start:end]) >= overlap or sum(lengths[start : end + 1]) > size
        ):
            start += 1
    return spans


# %% wrong="once-for-each-word" answer="build-index" fails="test-bm25,hidden-bm25"
def build_index(documents):
    index = {}
    for number, document in enumerate(documents):
        for word in set(document):
            index.setdefault(word, []).append((number, 1))
    return index


# %% wrong="one-entry-for-each-occurrence" answer="build-index" fails="test-bm25,hidden-bm25"
def build_index(documents):
    index = {}
    for number, document in enumerate(documents):
        for word in document:
            index.setdefault(word, []).append((number, document.count(word)))
    return index


# %% wrong="query-as-a-set" answer="bm25" fails="test-bm25,hidden-bm25"
def bm25(query, index, lengths, k1, b):
    mean = sum(lengths) / len(lengths)
    scores = [0.0] * len(lengths)
    for word in set(query):
        entries = index.get(word, [])
        rarity = log(1 + (len(lengths) - len(entries) + 0.5) / (len(entries) + 0.5))
        for number, n in entries:
            norm = k1 * (1 - b + b * lengths[number] / mean)
            scores[number] += rarity * n / (n + norm)
    return scores


# %% wrong="plain-idf" answer="bm25" fails="test-bm25,hidden-bm25"
def bm25(query, index, lengths, k1, b):
    mean = sum(lengths) / len(lengths)
    scores = [0.0] * len(lengths)
    for word in query:
        for number, n in index.get(word, []):
            norm = k1 * (1 - b + b * lengths[number] / mean)
            scores[number] += log(len(lengths) / len(index[word])) * n / (n + norm)
    return scores


# %% wrong="length-upside-down" answer="bm25" fails="test-bm25,hidden-bm25"
def bm25(query, index, lengths, k1, b):
    mean = sum(lengths) / len(lengths)
    scores = [0.0] * len(lengths)
    for word in query:
        entries = index.get(word, [])
        rarity = log(1 + (len(lengths) - len(entries) + 0.5) / (len(entries) + 0.5))
        for number, n in entries:
            norm = k1 * (1 - b + b * mean / lengths[number])
            scores[number] += rarity * n / (n + norm)
    return scores


# %% wrong="unknown-word-fails" answer="bm25" fails="test-bm25,hidden-bm25"
def bm25(query, index, lengths, k1, b):
    mean = sum(lengths) / len(lengths)
    scores = [0.0] * len(lengths)
    for word in query:
        entries = index[word]
        rarity = log(1 + (len(lengths) - len(entries) + 0.5) / (len(entries) + 0.5))
        for number, n in entries:
            norm = k1 * (1 - b + b * lengths[number] / mean)
            scores[number] += rarity * n / (n + norm)
    return scores


# %% wrong="unknown-word-into-the-index" answer="bm25" fails="hidden-bm25"
def bm25(query, index, lengths, k1, b):
    mean = sum(lengths) / len(lengths)
    scores = [0.0] * len(lengths)
    for word in query:
        entries = index.setdefault(word, [])
        rarity = log(1 + (len(lengths) - len(entries) + 0.5) / (len(entries) + 0.5))
        for number, n in entries:
            norm = k1 * (1 - b + b * lengths[number] / mean)
            scores[number] += rarity * n / (n + norm)
    return scores


# %% wrong="empty-documents-left-out" answer="bm25" fails="hidden-bm25"
def bm25(query, index, lengths, k1, b):
    mean = sum(lengths) / sum(n > 0 for n in lengths)
    scores = [0.0] * len(lengths)
    for word in query:
        entries = index.get(word, [])
        rarity = log(1 + (len(lengths) - len(entries) + 0.5) / (len(entries) + 0.5))
        for number, n in entries:
            norm = k1 * (1 - b + b * lengths[number] / mean)
            scores[number] += rarity * n / (n + norm)
    return scores


# %% wrong="dot-product" answer="nearest" fails="test-nearest,hidden-nearest"
def nearest(queries, vectors, k):
    scores = queries @ vectors.T
    numbers = scores.argsort(descending=True, stable=True)[:, :k]
    return scores.gather(1, numbers), numbers


# %% wrong="zeros-divided" answer="nearest" fails="test-nearest,hidden-nearest"
def nearest(queries, vectors, k):
    scores = (queries / queries.norm(dim=1, keepdim=True)) @ (
        vectors / vectors.norm(dim=1, keepdim=True)
    ).T
    numbers = scores.argsort(descending=True, stable=True)[:, :k]
    return scores.gather(1, numbers), numbers


# %% wrong="question-of-zeros-divided" answer="nearest" fails="hidden-nearest"
def nearest(queries, vectors, k):
    queries = queries / queries.norm(dim=1, keepdim=True)
    scores = queries @ functional.normalize(vectors).T
    numbers = scores.argsort(descending=True, stable=True)[:, :k]
    return scores.gather(1, numbers), numbers


# %% wrong="topk-too-large" answer="nearest" fails="test-nearest,hidden-nearest"
def nearest(queries, vectors, k):
    scores = functional.normalize(queries) @ functional.normalize(vectors).T
    return scores.topk(k, dim=1)


# %% wrong="ranks-from-zero" answer="fuse" fails="test-fuse,hidden-fuse"
def fuse(rankings, weights, k):
    sums = {}
    for ranking, weight in zip(rankings, weights):
        for rank, item in enumerate(ranking):
            sums[item] = sums.get(item, 0.0) + weight / (k + rank)
    return sorted(sums.items(), key=lambda pair: -pair[1])


# %% wrong="best-rank-only" answer="fuse" fails="test-fuse,hidden-fuse"
def fuse(rankings, weights, k):
    best = {}
    for ranking, weight in zip(rankings, weights):
        for rank, item in enumerate(ranking, start=1):
            best[item] = max(best.get(item, 0.0), weight / (k + rank))
    return sorted(best.items(), key=lambda pair: -pair[1])


# %% wrong="weights-forgotten" answer="fuse" fails="test-fuse,hidden-fuse"
def fuse(rankings, weights, k):
    sums = Counter()
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            sums[item] += 1 / (k + rank)
    return sums.most_common()


# %% wrong="ties-by-name" answer="fuse" fails="hidden-fuse"
def fuse(rankings, weights, k):
    sums = {}
    for ranking, weight in zip(rankings, weights):
        for rank, item in enumerate(ranking, start=1):
            sums[item] = sums.get(item, 0.0) + weight / (k + rank)
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))


# %% wrong="share-of-the-right-chunks" answer="measures" fails="test-measures,hidden-measures"
def measures(rankings, relevant, k):
    recall, inverse = 0.0, 0.0
    for ranking, right in zip(rankings, relevant):
        recall += len(set(ranking[:k]) & set(right)) / len(right)
        places = [n for n, item in enumerate(ranking, start=1) if item in right]
        inverse += 1 / places[0] if places else 0.0
    return recall / len(rankings), inverse / len(rankings)


# %% wrong="mrr-only-to-k" answer="measures" fails="test-measures,hidden-measures"
def measures(rankings, relevant, k):
    hits, inverse = 0, 0.0
    for ranking, right in zip(rankings, relevant):
        places = [n for n, item in enumerate(ranking[:k], start=1) if item in right]
        if places:
            hits += 1
            inverse += 1 / places[0]
    return hits / len(rankings), inverse / len(rankings)


# %% wrong="all-right-chunks-count" answer="measures" fails="test-measures,hidden-measures"
def measures(rankings, relevant, k):
    hits, inverse = 0, 0.0
    for ranking, right in zip(rankings, relevant):
        for n, item in enumerate(ranking, start=1):
            if item in right:
                hits += n <= k
                inverse += 1 / n
    return hits / len(rankings), inverse / len(rankings)


# %% wrong="groups-of-a-fixed-size" answer="plan" fails="test-plan,hidden-plan"
def plan(lengths, room, summary):
    if max(lengths) > room or (summary > room / 2 and len(lengths) > 1):
        raise ValueError("does not fit")
    rounds, cost, now = [], 0, list(lengths)
    while True:
        rounds.append(now)
        cost += sum(now) + summary * len(now)
        if len(now) == 1:
            return rounds, cost
        size = room // summary
        parts = [now[i : i + size] for i in range(0, len(now), size)]
        now = [summary * len(part) for part in parts]


# %% wrong="only-what-is-read" answer="plan" fails="test-plan,hidden-plan"
def plan(lengths, room, summary):
    if max(lengths) > room:
        raise ValueError("does not fit")
    rounds, now = [list(lengths)], list(lengths)
    while len(now) > 1:
        groups = []
        for n in now:
            n = min(n, summary)
            if groups and groups[-1] + n <= room:
                groups[-1] += n
            else:
                groups.append(n)
        if len(groups) == len(now):
            raise ValueError("never ends")
        now = groups
        rounds.append(now)
    return rounds, sum(map(sum, rounds))


# %% wrong="long-summaries-refused" answer="plan" fails="hidden-plan"
def plan(lengths, room, summary):
    if max(lengths) > room or (len(lengths) > 1 and 2 * summary > room):
        raise ValueError("does not fit")
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


# %% wrong="grouped-in-the-first-round" answer="plan" fails="test-plan,hidden-plan"
def plan(lengths, room, summary):
    rounds, cost, now = [], 0, list(lengths)
    if max(now) > room:
        raise ValueError("does not fit")
    while True:
        groups = []
        for n in now:
            if groups and groups[-1] + n <= room:
                groups[-1] += n
            else:
                groups.append(n)
        if rounds and len(groups) == len(now) > 1:
            raise ValueError("never ends")
        rounds.append(groups)
        now = [min(n, summary) for n in groups]
        cost += sum(groups) + sum(now)
        if len(now) == 1:
            return rounds, cost
