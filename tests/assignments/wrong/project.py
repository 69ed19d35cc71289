# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="letters-for-bytes" answer="manifest" fails="test-manifest,hidden-manifest"
def form(text):
    return " ".join(text.lower().split())


def manifest(documents):
    n_forms = len({form(text) for text in documents})
    digests = sorted(hashlib.sha256(text.encode()).hexdigest() for text in documents)
    n = len(documents)
    return {
        "documents": n,
        "bytes": sum(map(len, documents)),
        "words": sum(len(text.split()) for text in documents),
        "duplicates": (n - n_forms) / n if n else 0.0,
        "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    }


# %% wrong="order-in-the-fingerprint" answer="manifest" fails="test-manifest,hidden-manifest"
def form(text):
    return " ".join(text.lower().split())


def manifest(documents):
    n_forms = len({form(text) for text in documents})
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in documents]
    n = len(documents)
    return {
        "documents": n,
        "bytes": sum(len(text.encode()) for text in documents),
        "words": sum(len(text.split()) for text in documents),
        "duplicates": (n - n_forms) / n if n else 0.0,
        "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    }


# %% wrong="empty-corpus-divides" answer="manifest" fails="test-manifest,hidden-manifest"
def form(text):
    return " ".join(text.lower().split())


def manifest(documents):
    n_forms = len({form(text) for text in documents})
    digests = sorted(hashlib.sha256(text.encode()).hexdigest() for text in documents)
    n = len(documents)
    return {
        "documents": n,
        "bytes": sum(len(text.encode()) for text in documents),
        "words": sum(len(text.split()) for text in documents),
        "duplicates": (n - n_forms) / n,
        "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    }


# %% wrong="strip-only" answer="manifest" fails="test-manifest,hidden-manifest,test-split,hidden-split"
def form(text):
    return text.lower().strip()


def manifest(documents):
    n_forms = len({form(text) for text in documents})
    digests = sorted(hashlib.sha256(text.encode()).hexdigest() for text in documents)
    n = len(documents)
    return {
        "documents": n,
        "bytes": sum(len(text.encode()) for text in documents),
        "words": sum(len(text.split()) for text in documents),
        "duplicates": (n - n_forms) / n if n else 0.0,
        "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    }


# %% wrong="copies-stay" answer="split" fails="test-split,hidden-split"
def split(documents, share):
    train = [text for text in documents if unit(form(text)) >= share]
    return train, [text for text in documents if unit(form(text)) < share]


# %% wrong="hash-of-the-raw-text" answer="split" fails="test-split,hidden-split"
def split(documents, share):
    sides, seen = ([], []), set()
    for text in documents:
        if form(text) not in seen:
            seen.add(form(text))
            sides[unit(text) < share].append(text)
    return sides


# %% wrong="every-nth" answer="split" fails="hidden-split"
def split(documents, share):
    firsts = {}
    for text in documents:
        firsts.setdefault(form(text), text)
    ones = list(firsts.values())
    n = round(len(ones) * (1 - share))
    return ones[:n], ones[n:]


# %% wrong="forms-returned" answer="split" fails="test-split,hidden-split"
def split(documents, share):
    forms = list(dict.fromkeys(form(text) for text in documents))
    train = [text for text in forms if unit(text) >= share]
    return train, [text for text in forms if unit(text) < share]


# %% wrong="runs-as-sets" answer="leaked" fails="test-leaked"
def leaked(train, held_out, n):
    def runs(texts):
        rows = [form(text).split() for text in texts]
        return {tuple(w[i : i + n]) for w in rows for i in range(len(w) - n + 1)}

    known, found = runs(train), runs(held_out)
    return len(known & found) / max(1, len(found))


# %% wrong="across-documents" answer="leaked" fails="test-leaked"
def leaked(train, held_out, n):
    def runs(texts):
        words = form(" ".join(texts)).split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    known = set(runs(train))
    found = [run in known for run in runs(held_out)]
    return sum(found) / max(1, len(found))


# %% wrong="last-run-missing" answer="leaked" fails="test-leaked"
def leaked(train, held_out, n):
    def runs(text):
        words = form(text).split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n)]

    known = {run for text in train for run in runs(text)}
    found = [run in known for text in held_out for run in runs(text)]
    return sum(found) / max(1, len(found))


# %% wrong="nats-per-byte" answer="curve" fails="test-curve,hidden-curve"
def curve(text):
    found = {}
    for line in text.splitlines():
        event = json.loads(line) if line.strip() else {}
        if "bytes" in event:
            found[event["step"]] = event["loss"] * event["tokens"] / event["bytes"]
    return sorted(found.items())


def best(points):
    return min(points, key=lambda point: (point[1], point[0]), default=None)


# %% wrong="first-line-of-a-step" answer="curve" fails="test-curve,hidden-curve"
def curve(text):
    found = {}
    for line in text.splitlines():
        event = json.loads(line) if line.strip() else {}
        if "bytes" in event:
            n_bits = event["loss"] / log(2) * event["tokens"]
            found.setdefault(event["step"], n_bits / event["bytes"])
    return sorted(found.items())


def best(points):
    return min(points, key=lambda point: (point[1], point[0]), default=None)


# %% wrong="best-is-the-last" answer="curve" fails="hidden-curve"
def curve(text):
    found = {}
    for line in text.splitlines():
        event = json.loads(line) if line.strip() else {}
        if "bytes" in event:
            n_bits = event["loss"] / log(2) * event["tokens"]
            found[event["step"]] = n_bits / event["bytes"]
    return sorted(found.items())


def best(points):
    return points[-1] if points else None


# %% wrong="last-number-only" answer="spent" fails="test-spent"
def spent(seconds):
    return seconds[-1] if seconds else 0


def within(parts, budget):
    left = budget - sum(spent(seconds) for seconds in parts.values()) / 60
    return left >= 0, left


# %% wrong="all-lines-added" answer="spent" fails="test-spent"
def spent(seconds):
    return sum(seconds)


def within(parts, budget):
    left = budget - sum(spent(seconds) for seconds in parts.values()) / 60
    return left >= 0, left


# %% wrong="seconds-for-minutes" answer="spent" fails="test-spent"
def spent(seconds):
    pairs = zip(seconds, [*seconds[1:], -1])
    return sum(now for now, later in pairs if later < now)


def within(parts, budget):
    left = budget - sum(spent(seconds) for seconds in parts.values())
    return left >= 0, left
