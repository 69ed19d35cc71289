# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="dot-products" answer="cosines" fails="test-cosines,hidden-cosines"
def cosines(x, y):
    return x @ y.T


# %% wrong="nan-for-zeros" answer="cosines" fails="test-cosines,hidden-cosines"
def cosines(x, y):
    return x @ y.T / torch.outer(x.norm(dim=1), y.norm(dim=1))


# %% wrong="eps-too-large" answer="cosines" fails="hidden-cosines"
def cosines(x, y):
    return x @ y.T / (torch.outer(x.norm(dim=1), y.norm(dim=1)) + 1e-3)


# %% wrong="one-length-only" answer="cosines" fails="test-cosines,hidden-cosines"
def cosines(x, y):
    return (x @ y.T / x.norm(dim=1, keepdim=True) ** 2).nan_to_num()


# %% wrong="across-texts" answer="context-pairs" fails="test-context-pairs,hidden-context-pairs"
def context_pairs(texts, window):
    ids, pairs = [i for text in texts for i in text], []
    for i, middle in enumerate(ids):
        around = ids[max(0, i - window) : i] + ids[i + 1 : i + 1 + window]
        pairs += [(middle, other) for other in around]
    return pairs


# %% wrong="negative-slice" answer="context-pairs" fails="test-context-pairs,hidden-context-pairs"
def context_pairs(texts, window):
    pairs = []
    for ids in texts:
        for i, middle in enumerate(ids):
            around = ids[i - window : i] + ids[i + 1 : i + 1 + window]
            pairs += [(middle, other) for other in around]
    return pairs


# %% wrong="other-words-only" answer="context-pairs" fails="test-context-pairs,hidden-context-pairs"
def context_pairs(texts, window):
    pairs = []
    for ids in texts:
        for i, middle in enumerate(ids):
            around = ids[max(0, i - window) : i + 1 + window]
            pairs += [(middle, other) for other in around if other != middle]
    return pairs


# %% wrong="without-the-root" answer="thin" fails="test-thin,hidden-thin"
def thin(ids, counts, threshold, draws):
    total = sum(counts)
    return [i for i, x in zip(ids, draws) if x < threshold * total / counts[i]]


# %% wrong="dropped-for-kept" answer="thin" fails="test-thin,hidden-thin"
def thin(ids, counts, threshold, draws):
    total = sum(counts)
    probs = [(threshold * total / max(1, count)) ** 0.5 for count in counts]
    return [i for i, draw in zip(ids, draws) if draw > probs[i]]


# %% wrong="counted-in-the-text" answer="thin" fails="test-thin,hidden-thin"
def thin(ids, counts, threshold, draws):
    probs = [(threshold * len(ids) / max(1, count)) ** 0.5 for count in counts]
    return [i for i, draw in zip(ids, draws) if draw < probs[i]]


# %% wrong="never-counted-dropped" answer="thin" fails="hidden-thin"
def thin(ids, counts, threshold, draws):
    total = sum(counts)
    probs = [(threshold * total / n) ** 0.5 if n else 0.0 for n in counts]
    return [i for i, draw in zip(ids, draws) if draw < probs[i]]


# %% wrong="sign-of-noise" answer="skipgram-loss" fails="test-skipgram-loss,hidden-skipgram-loss"
def skipgram_loss(middle, company, noise):
    logsigmoid = torch.nn.functional.logsigmoid
    good = torch.einsum("bd,bd->b", company, middle)
    bad = torch.einsum("bkd,bd->bk", noise, middle)
    return -logsigmoid(good) - logsigmoid(bad).sum(dim=1)


# %% wrong="one-minus-the-log" answer="skipgram-loss" fails="hidden-skipgram-loss"
def skipgram_loss(middle, company, noise):
    good = torch.einsum("bd,bd->b", company, middle).sigmoid()
    bad = torch.einsum("bkd,bd->bk", noise, middle).sigmoid()
    return -good.log() - (1 - bad).log().sum(dim=1)


# %% wrong="mean-of-noise" answer="skipgram-loss" fails="test-skipgram-loss,hidden-skipgram-loss"
def skipgram_loss(middle, company, noise):
    logsigmoid = torch.nn.functional.logsigmoid
    good = torch.einsum("bd,bd->b", company, middle)
    bad = torch.einsum("bkd,bd->bk", noise, middle)
    return -logsigmoid(good) - logsigmoid(-bad).mean(dim=1)


# %% wrong="repeats-lost" answer="skipgram-step" fails="test-skipgram-step,hidden-skipgram-step"
def skipgram_step(vectors, contexts, middles, targets, rate):
    vectors, contexts = vectors.clone(), contexts.clone()
    v, u = vectors[middles], contexts[targets]
    errors = torch.einsum("bkd,bd->bk", u, v).sigmoid()
    errors[:, 0] -= 1
    vectors[middles] -= rate * torch.einsum("bk,bkd->bd", errors, u)
    contexts[targets] -= rate * torch.einsum("bk,bd->bkd", errors, v)
    return vectors, contexts


# %% wrong="new-v-for-u" answer="skipgram-step" fails="test-skipgram-step,hidden-skipgram-step"
def skipgram_step(vectors, contexts, middles, targets, rate):
    v, u = vectors[middles], contexts[targets]
    errors = torch.einsum("bkd,bd->bk", u, v).sigmoid()
    errors[:, 0] -= 1
    by_v = torch.einsum("bk,bkd->bd", errors, u)
    vectors = vectors.index_add(0, middles, -rate * by_v)
    by_u = torch.einsum("bk,bd->bkd", errors, vectors[middles])
    contexts = contexts.index_add(0, targets.flatten(), -rate * by_u.flatten(0, 1))
    return vectors, contexts


# %% wrong="uphill" answer="skipgram-step" fails="test-skipgram-step,hidden-skipgram-step"
def skipgram_step(vectors, contexts, middles, targets, rate):
    v, u = vectors[middles], contexts[targets]
    errors = torch.einsum("bkd,bd->bk", u, v).sigmoid()
    errors[:, 0] -= 1
    by_v = torch.einsum("bk,bkd->bd", errors, u)
    by_u = torch.einsum("bk,bd->bkd", errors, v)
    vectors = vectors.index_add(0, middles, rate * by_v)
    contexts = contexts.index_add(0, targets.flatten(), rate * by_u.flatten(0, 1))
    return vectors, contexts


# %% wrong="tables-changed" answer="skipgram-step" fails="test-skipgram-step,hidden-skipgram-step"
def skipgram_step(vectors, contexts, middles, targets, rate):
    v, u = vectors[middles], contexts[targets]
    errors = torch.einsum("bkd,bd->bk", u, v).sigmoid()
    errors[:, 0] -= 1
    by_v = torch.einsum("bk,bkd->bd", errors, u)
    by_u = torch.einsum("bk,bd->bkd", errors, v)
    vectors.index_add_(0, middles, -rate * by_v)
    contexts.index_add_(0, targets.flatten(), -rate * by_u.flatten(0, 1))
    return vectors, contexts


# %% wrong="lengths-kept" answer="analogy" fails="test-analogy,hidden-analogy"
def analogy(vectors, a, b, c):
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    scores = unit @ (vectors[b] - vectors[a] + vectors[c])
    scores[[a, b, c]] = -torch.inf
    return int(scores.argmax())


# %% wrong="inputs-allowed" answer="analogy" fails="test-analogy,hidden-analogy"
def analogy(vectors, a, b, c):
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    return int((unit @ (unit[b] - unit[a] + unit[c])).argmax())


# %% wrong="turned-round" answer="analogy" fails="test-analogy,hidden-analogy"
def analogy(vectors, a, b, c):
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    scores = unit @ (unit[a] - unit[b] + unit[c])
    scores[[a, b, c]] = -torch.inf
    return int(scores.argmax())


# %% wrong="negative-kept" answer="counting" fails="test-counting,hidden-counting"
def ppmi(counts):
    rows, columns = counts.sum(dim=1, keepdim=True), counts.sum(dim=0)
    table = (counts * counts.sum() / (rows * columns)).log()
    return table.where(counts > 0, 0.0)


def svd_vectors(table, d):
    u, sizes, _ = torch.linalg.svd(table)
    return u[:, :d] * sizes[:d].sqrt()


# %% wrong="rows-for-columns" answer="counting" fails="test-counting,hidden-counting"
def ppmi(counts):
    rows = counts.sum(dim=1, keepdim=True)
    ratios = counts * counts.sum() / (rows * rows.T)
    return ratios.log().clamp(min=0).nan_to_num()


def svd_vectors(table, d):
    u, sizes, _ = torch.linalg.svd(table)
    return u[:, :d] * sizes[:d].sqrt()


# %% wrong="without-sizes" answer="counting" fails="test-counting,hidden-counting"
def ppmi(counts):
    rows, columns = counts.sum(dim=1, keepdim=True), counts.sum(dim=0)
    ratios = counts * counts.sum() / (rows * columns)
    return ratios.log().clamp(min=0).nan_to_num()


def svd_vectors(table, d):
    return torch.linalg.svd(table)[0][:, :d]


# %% wrong="zero-for-the-forbidden" answer="analogy" fails="hidden-analogy"
def analogy(vectors, a, b, c):
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    scores = unit @ (unit[b] - unit[a] + unit[c])
    scores[[a, b, c]] = 0
    return int(scores.argmax())


# %% wrong="draws-used-up" answer="thin" fails="hidden-thin"
def thin(ids, counts, threshold, draws):
    total = sum(counts)
    probs = [(threshold * total / n) ** 0.5 if n else 1.0 for n in counts]
    return [i for i in ids if draws.pop(0) < probs[i]]
