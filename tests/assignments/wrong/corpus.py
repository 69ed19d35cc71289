# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="compatibility-form" answer="normalise" fails="test-normalise,hidden-normalise"
def normalise(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = (
        c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf")
    )
    text = unicodedata.normalize("NFKC", "".join(kept))
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


# %% wrong="composed-before-dropping" answer="normalise" fails="hidden-normalise"
def normalise(text):
    text = unicodedata.normalize("NFC", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = (
        c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf")
    )
    lines = [" ".join(line.split()) for line in "".join(kept).split("\n")]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


# %% wrong="tabs-dropped" answer="normalise" fails="test-normalise,hidden-normalise"
def normalise(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = (c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf"))
    text = unicodedata.normalize("NFC", "".join(kept))
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


# %% wrong="one-line" answer="normalise" fails="test-normalise,hidden-normalise"
def normalise(text):
    kept = (
        c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf")
    )
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


# %% wrong="spaces-in-the-share" answer="fault" fails="hidden-fault"
def fault(text):
    if len(text.split()) < 8:
        return "short"
    if sum(c.isalpha() for c in text) / len(text) < 0.6:
        return "symbols"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if (len(lines) - len(set(lines))) / len(lines) > 0.25:
        return "repeats"
    return None


# %% wrong="empty-lines-repeat" answer="fault" fails="test-fault,hidden-fault"
def fault(text):
    words = text.split()
    if len(words) < 8:
        return "short"
    characters = "".join(words)
    if sum(c.isalpha() for c in characters) / len(characters) < 0.6:
        return "symbols"
    lines = [line.strip() for line in text.split("\n")]
    if (len(lines) - len(set(lines))) / len(lines) > 0.25:
        return "repeats"
    return None


# %% wrong="ascii-letters" answer="fault" fails="hidden-fault"
def fault(text):
    words = text.split()
    if len(words) < 8:
        return "short"
    characters = "".join(words)
    if len(re.findall("[A-Za-z]", characters)) / len(characters) < 0.6:
        return "symbols"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if (len(lines) - len(set(lines))) / len(lines) > 0.25:
        return "repeats"
    return None


# %% wrong="last-shingle-lost" answer="signature" fails="test-signature,hidden-signature"
def shingles(text, n):
    words = text.lower().split()
    if len(words) < n:
        return {tuple(words)} - {()}
    return {tuple(words[i : i + n]) for i in range(len(words) - n)}


def jaccard(a, b):
    return len(a & b) / len(a | b) if a or b else 0.0


def signature(numbers, hashes, p):
    return [min(((f * x + o) % p for x in numbers), default=p) for f, o in hashes]


# %% wrong="divided-by-both-sizes" answer="signature" fails="test-signature,hidden-signature,test-without-copies,hidden-without-copies"
def shingles(text, n):
    words = text.lower().split()
    if len(words) < n:
        return {tuple(words)} - {()}
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def jaccard(a, b):
    return len(a & b) / (len(a) + len(b)) if a or b else 0.0


def signature(numbers, hashes, p):
    return [min(((f * x + o) % p for x in numbers), default=p) for f, o in hashes]


# %% wrong="smallest-number-hashed" answer="signature" fails="test-signature,hidden-signature"
def shingles(text, n):
    words = text.lower().split()
    if len(words) < n:
        return {tuple(words)} - {()}
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def jaccard(a, b):
    return len(a & b) / len(a | b) if a or b else 0.0


def signature(numbers, hashes, p):
    return [(f * min(numbers) + o) % p if numbers else p for f, o in hashes]


# %% wrong="place-forgotten" answer="candidates" fails="test-candidates,hidden-candidates"
def candidates(signatures, n_bands):
    buckets = {}
    for number, row in enumerate(signatures):
        size = len(row) // n_bands
        for place in range(n_bands):
            band = tuple(row[place * size : (place + 1) * size])
            buckets.setdefault(band, []).append(number)
    return {pair for bucket in buckets.values() for pair in combinations(bucket, 2)}


# %% wrong="any-number-of-a-band" answer="candidates" fails="test-candidates,hidden-candidates"
def candidates(signatures, n_bands):
    pairs = set()
    for (i, one), (j, other) in combinations(enumerate(signatures), 2):
        if any(x == y for x, y in zip(one, other)):
            pairs.add((i, j))
    return pairs


# %% wrong="rows-for-bands" answer="candidates" fails="test-candidates,hidden-candidates"
def candidates(signatures, n_bands):
    buckets = {}
    for number, row in enumerate(signatures):
        for start in range(0, len(row), n_bands):
            band = start, *row[start : start + n_bands]
            buckets.setdefault(band, []).append(number)
    return {pair for bucket in buckets.values() for pair in combinations(bucket, 2)}


# %% wrong="dropped-ones-drop-others" answer="without-copies" fails="test-without-copies,hidden-without-copies"
def without_copies(sets, pairs, threshold):
    dropped = {j for i, j in pairs if jaccard(sets[i], sets[j]) >= threshold}
    return [j for j in range(len(sets)) if j not in dropped]


# %% wrong="candidates-unchecked" answer="without-copies" fails="test-without-copies,hidden-without-copies"
def without_copies(sets, pairs, threshold):
    kept = []
    for j in range(len(sets)):
        if not any((i, j) in pairs for i in kept):
            kept.append(j)
    return kept


# %% wrong="above-the-threshold" answer="without-copies" fails="test-without-copies,hidden-without-copies"
def without_copies(sets, pairs, threshold):
    kept = []
    for j in range(len(sets)):
        earlier = [i for i in kept if (i, j) in pairs]
        if all(jaccard(sets[i], sets[j]) <= threshold for i in earlier):
            kept.append(j)
    return kept


# %% wrong="each-for-itself" answer="held-out" fails="test-held-out,hidden-held-out"
def held_out(texts, pairs, share):
    return [unit(text) < share for text in texts]


# %% wrong="pairs-but-no-chains" answer="held-out" fails="test-held-out,hidden-held-out"
def held_out(texts, pairs, share):
    smallest = list(texts)
    for a, b in pairs:
        smallest[a] = smallest[b] = min(smallest[a], smallest[b])
    return [unit(text) < share for text in smallest]


# %% wrong="drawn-at-random" answer="held-out" fails="test-held-out,hidden-held-out"
def held_out(texts, pairs, share):
    drawn = torch.Generator().manual_seed(0)
    return (torch.rand(len(texts), generator=drawn) < share).tolist()


# %% wrong="first-of-the-group" answer="held-out" fails="test-held-out,hidden-held-out"
def held_out(texts, pairs, share):
    group = list(range(len(texts)))
    for a, b in pairs:
        low, high = sorted((group[a], group[b]))
        group = [low if each == high else each for each in group]
    return [unit(texts[each]) < share for each in group]


# %% wrong="end-in-the-next-document" answer="packing" fails="test-packing,hidden-packing"
def pack(documents, length, end):
    row = [x for ids in documents for x in (*ids, end)]
    return [row[i : i + length] for i in range(0, len(row) - length + 1, length)]


def may_look(window, end):
    number = (torch.tensor(window) == end).cumsum(0)
    return (number[:, None] == number).tril()


# %% wrong="only-causal" answer="packing" fails="test-packing,hidden-packing"
def pack(documents, length, end):
    row = [x for ids in documents for x in (*ids, end)]
    return [row[i : i + length] for i in range(0, len(row) - length + 1, length)]


def may_look(window, end):
    return torch.ones(len(window), len(window), dtype=torch.bool).tril()


# %% wrong="end-between-only" answer="packing" fails="test-packing,hidden-packing"
def pack(documents, length, end):
    row = []
    for ids in documents:
        row += [end, *ids] if row else ids
    return [row[i : i + length] for i in range(0, len(row) - length + 1, length)]


def may_look(window, end):
    is_end = torch.tensor(window) == end
    number = is_end.cumsum(0) - is_end.int()
    return (number[:, None] == number).tril()


# %% wrong="last-window-short" answer="packing" fails="test-packing,hidden-packing"
def pack(documents, length, end):
    row = [x for ids in documents for x in (*ids, end)]
    return [row[i : i + length] for i in range(0, len(row), length)]


def may_look(window, end):
    is_end = torch.tensor(window) == end
    number = is_end.cumsum(0) - is_end.int()
    return (number[:, None] == number).tril()


# %% wrong="spaces-before-signs" answer="normalise" fails="hidden-normalise"
def normalise(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [" ".join(line.split()) for line in text.split("\n")]
    kept = [
        c for c in "\n".join(lines) if c == "\n" or unicodedata.category(c)[0] != "C"
    ]
    lines = unicodedata.normalize("NFC", "".join(kept)).split("\n")
    text = "\n".join(line.strip() for line in lines)
    return re.sub("\n{3,}", "\n\n", text).strip("\n")


# %% wrong="all-of-category-c" answer="normalise" fails="hidden-normalise"
def normalise(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = [c for c in text if c in "\n\t" or unicodedata.category(c)[0] != "C"]
    lines = unicodedata.normalize("NFC", "".join(kept)).split("\n")
    text = "\n".join(" ".join(line.split()) for line in lines)
    return re.sub("\n{3,}", "\n\n", text).strip("\n")


# %% wrong="digits-in-a-row" answer="candidates" fails="hidden-candidates"
def candidates(rows, n_bands):
    buckets = {}
    for number, row in enumerate(rows):
        size = len(row) // n_bands
        for place in range(n_bands):
            band = row[place * size : (place + 1) * size]
            key = place, "".join(map(str, band))
            buckets.setdefault(key, []).append(number)
    return {pair for bucket in buckets.values() for pair in combinations(bucket, 2)}


# %% wrong="equal-texts-together" answer="held-out" fails="hidden-held-out"
def held_out(texts, pairs, share):
    group = {text: {text} for text in texts}
    for a, b in pairs:
        both = group[texts[a]] | group[texts[b]]
        for text in both:
            group[text] = both
    return [unit(min(group[text])) < share for text in texts]
