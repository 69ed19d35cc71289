# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="pairs-across-words" answer="pair-counts" fails="test-pair-counts,hidden-learn"
def pair_counts(words):
    ids = [i for word in words for i in word]
    return Counter(zip(ids, ids[1:]))


# %% wrong="merge-in-place" answer="merge" fails="test-merge,hidden-merge"
def merge(ids, pair, new_id):
    i = 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == tuple(pair):
            ids[i : i + 2] = [new_id]
        i += 1
    return ids


# %% wrong="merges-again" answer="merge" fails="hidden-merge"
def merge(ids, pair, new_id):
    merged = []
    for one in ids:
        merged.append(one)
        while tuple(merged[-2:]) == tuple(pair):
            merged[-2:] = [new_id]
    return merged


# %% wrong="last-id-forgotten" answer="merge" fails="test-merge,hidden-merge,hidden-learn,test-encode,hidden-encode"
def merge(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == tuple(pair):
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


# %% wrong="counted-once" answer="learn" fails="test-learn,hidden-learn"
def learn(text, n_merges):
    words = [list(word.encode()) for word in text.split()]
    counts = pair_counts(words)
    best = sorted(counts, key=lambda pair: (-counts[pair], pair))
    return best[:n_merges]


# %% wrong="first-of-equals" answer="learn" fails="test-learn,hidden-learn"
def learn(text, n_merges):
    words = [list(word.encode()) for word in text.split()]
    merges = []
    for number in range(n_merges):
        counts = pair_counts(words)
        if not counts:
            break
        best = max(counts, key=counts.get)
        merges.append(best)
        words = [merge(word, best, 256 + number) for word in words]
    return merges


# %% wrong="learned-between-spaces-alone" answer="learn" fails="hidden-learn"
def learn(text, n_merges):
    words = [list(word.encode()) for word in text.split(" ")]
    merges = []
    for number in range(n_merges):
        counts = pair_counts(words)
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        words = [merge(word, best, 256 + number) for word in words]
    return merges


# %% wrong="characters-for-bytes" answer="learn" fails="test-learn,hidden-learn"
def learn(text, n_merges):
    words = [[ord(letter) for letter in word] for word in text.split()]
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


# %% wrong="left-to-right" answer="encode" fails="test-encode,hidden-encode"
def encode(text, merges):
    rank = {tuple(pair): number for number, pair in enumerate(merges)}
    ids = []
    for word in text.split():
        word = list(word.encode())
        i = 0
        while i < len(word) - 1:
            if (word[i], word[i + 1]) in rank:
                word[i : i + 2] = [256 + rank[word[i], word[i + 1]]]
                i = 0
            else:
                i += 1
        ids += word
    return ids


# %% wrong="encoded-between-spaces-alone" answer="encode" fails="hidden-encode"
def encode(text, merges):
    rank = {tuple(pair): number for number, pair in enumerate(merges)}
    ids = []
    for word in text.split(" "):
        word = list(word.encode())
        while known := [pair for pair in zip(word, word[1:]) if pair in rank]:
            first = min(known, key=rank.get)
            word = merge(word, first, 256 + rank[first])
        ids += word
    return ids


# %% wrong="decoded-one-by-one" answer="decode" fails="test-decode,hidden-decode"
def decode(ids, merges):
    pieces = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        pieces.append(pieces[left] + pieces[right])
    return "".join(pieces[i].decode("utf-8", errors="replace") for i in ids)


# %% wrong="strict-decoding" answer="decode" fails="hidden-decode"
def decode(ids, merges):
    pieces = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        pieces.append(pieces[left] + pieces[right])
    return b"".join(pieces[i] for i in ids).decode("utf-8")


# %% wrong="per-token-over-bytes" answer="bits-per-byte" fails="test-bits-per-byte,hidden-bits-per-byte"
def bits_per_byte(loss, n_tokens, n_bytes):
    from math import log

    return loss * n_bytes / n_tokens / log(2)


# %% wrong="nats-for-bits" answer="bits-per-byte" fails="test-bits-per-byte,hidden-bits-per-byte"
def bits_per_byte(loss, n_tokens, n_bytes):
    return loss * n_tokens / n_bytes


# %% wrong="merged-again" answer="merge" fails="hidden-merge"
def merge(ids, pair, new_id):
    out = []
    for x in ids:
        if out and (out[-1], x) == tuple(pair):
            out[-1] = new_id
        else:
            out.append(x)
    return out


# %% wrong="split-as-bytes" answer="learn" fails="hidden-learn"
def learn(text, n_merges):
    words, merges = [list(word) for word in text.encode().split()], []
    for number in range(n_merges):
        counts = pair_counts(words)
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        words = [merge(word, best, 256 + number) for word in words]
    return merges
