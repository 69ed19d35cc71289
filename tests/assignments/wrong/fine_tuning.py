# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="mask-from-zeros" answer="pad" fails="test-batch,hidden-batch"
def pad(texts):
    longest = max(len(text) for text in texts)
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    return ids, ids != 0


# %% wrong="padded-on-the-left" answer="pad" fails="test-batch,hidden-batch"
def pad(texts):
    longest = max(len(text) for text in texts)
    rows = [[0] * (longest - len(text)) + text for text in texts]
    mask = [[i >= longest - len(text) for i in range(longest)] for text in texts]
    return torch.tensor(rows), torch.tensor(mask)


# %% wrong="last-position" answer="pool-last" fails="test-batch,hidden-batch"
def pool_last(features, mask):
    return features[:, -1]


# %% wrong="number-of-tokens" answer="pool-last" fails="test-batch,hidden-batch"
def pool_last(features, mask):
    return features[torch.arange(len(features)), mask.sum(dim=1) - 1]


# %% wrong="no-gap-between" answer="pool-last" fails="hidden-batch"
def pool_last(features, mask):
    places = mask.int().argmax(dim=1) + mask.sum(dim=1) - 1
    return features[torch.arange(len(features)), places]


# %% wrong="only-two-sides" answer="pool-last" fails="hidden-batch"
def pool_last(features, mask):
    last = torch.where(mask[:, -1], mask.shape[1] - 1, mask.sum(dim=1) - 1)
    return features[torch.arange(len(features)), last]


# %% wrong="mean-of-the-text" answer="pool-last" fails="test-batch,hidden-batch"
def pool_last(features, mask):
    kept = features * mask[:, :, None]
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)


# %% wrong="rank-forgotten" answer="lora-forward" fails="test-lora-forward,hidden-lora-forward"
def lora_forward(x, weight, bias, a, b, alpha):
    y = x @ weight.T + alpha * (x @ a.T @ b.T)
    return y if bias is None else y + bias


# %% wrong="bias-forgotten" answer="lora-forward" fails="test-lora-forward,hidden-lora-forward"
def lora_forward(x, weight, bias, a, b, alpha):
    return x @ weight.T + alpha / len(a) * (x @ a.T @ b.T)


# %% wrong="merged-in-place" answer="merge-all" fails="test-adapters,hidden-merge-all"
def merge_all(weight, adapters):
    for a, b, alpha in adapters:
        weight += alpha / len(a) * b @ a
    return weight


# %% wrong="rank-of-the-first" answer="merge-all" fails="test-adapters,hidden-merge-all"
def merge_all(weight, adapters):
    if not adapters:
        return weight
    rank = len(adapters[0][0])
    return weight + sum(alpha / rank * b @ a for a, b, alpha in adapters)


# %% wrong="scale-forgotten" answer="make-adapter" fails="test-adapters,hidden-make-adapter"
def make_adapter(change, rank, alpha):
    u, s, v = torch.linalg.svd(change)
    return v[:rank], u[:, :rank] * s[:rank]


# %% wrong="tall-only" answer="make-adapter" fails="hidden-make-adapter"
def make_adapter(change, rank, alpha):
    u, s, v = torch.linalg.svd(change)
    return (s[:, None] * v)[:rank], u[:, :rank] * rank / alpha


# %% wrong="columns-of-v" answer="make-adapter" fails="test-adapters,hidden-make-adapter"
def make_adapter(change, rank, alpha):
    u, s, v = torch.linalg.svd(change)
    return v[:, :rank].T, u[:, :rank] * s[:rank] * rank / alpha


# %% wrong="adapters-not-in-the-total" answer="training-cost" fails="test-training-cost,hidden-training-cost"
def training_cost(shapes, way, targets, rank):
    total = sum(prod(shape) for shape in shapes.values())
    learned = sum(
        prod(shape)
        for name, shape in shapes.items()
        if way == "full" or name.startswith("head.")
    )
    if way == "lora":
        for name, shape in shapes.items():
            if name.split(".")[-1] in targets:
                learned += rank * sum(shape)
    return total, learned, 4 * total + 12 * learned


# %% wrong="target-anywhere-in-the-name" answer="training-cost" fails="test-training-cost,hidden-training-cost"
def training_cost(shapes, way, targets, rank):
    total = learned = 0
    for name, shape in shapes.items():
        total += prod(shape)
        if way == "full" or name.startswith("head."):
            learned += prod(shape)
        if way == "lora" and any(target in name for target in targets):
            total += rank * sum(shape)
            learned += rank * sum(shape)
    return total, learned, 4 * total + 12 * learned


# %% wrong="vectors-get-adapters" answer="training-cost" fails="hidden-training-cost"
def training_cost(shapes, way, targets, rank):
    total = learned = 0
    for name, shape in shapes.items():
        total += prod(shape)
        if way == "full" or name.startswith("head."):
            learned += prod(shape)
        if way == "lora" and name.split(".")[-1] in targets:
            total += rank * sum(shape)
            learned += rank * sum(shape)
    return total, learned, 4 * total + 12 * learned


# %% wrong="begins-with-head" answer="training-cost" fails="hidden-training-cost"
def training_cost(shapes, way, targets, rank):
    total = learned = 0
    for name, shape in shapes.items():
        total += prod(shape)
        if way == "full" or name.startswith("head"):
            learned += prod(shape)
        if way == "lora" and len(shape) == 2 and name.split(".")[-1] in targets:
            total += rank * sum(shape)
            learned += rank * sum(shape)
    return total, learned, 4 * total + 12 * learned


# %% wrong="ends-with-the-target" answer="training-cost" fails="hidden-training-cost"
def training_cost(shapes, way, targets, rank):
    total = learned = 0
    for name, shape in shapes.items():
        total += prod(shape)
        if way == "full" or name.startswith("head."):
            learned += prod(shape)
        if way == "lora" and len(shape) == 2 and name.endswith(tuple(targets)):
            total += rank * sum(shape)
            learned += rank * sum(shape)
    return total, learned, 4 * total + 12 * learned


# %% wrong="infinite-weight" answer="class-weights" fails="test-classes,hidden-classes"
def class_weights(labels, n_classes):
    return len(labels) / (n_classes * labels.bincount(minlength=n_classes))


# %% wrong="share-for-weight" answer="class-weights" fails="test-classes,hidden-classes"
def class_weights(labels, n_classes):
    return labels.bincount(minlength=n_classes) / len(labels)


# %% wrong="divided-by-the-number" answer="weighted-loss" fails="test-classes,hidden-classes"
def weighted_loss(logits, labels, weights):
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return (weights[labels] * losses).mean()


# %% wrong="log-of-softmax" answer="weighted-loss" fails="hidden-classes"
def weighted_loss(logits, labels, weights):
    losses = -logits.softmax(dim=1).log()[torch.arange(len(labels)), labels]
    own = weights[labels]
    return (own * losses).sum() / own.sum()


# %% wrong="f1-of-the-means" answer="scores" fails="test-scores,hidden-scores"
def scores(predicted, labels, n_classes):
    found = [y for p, y in zip(predicted, labels) if p == y]
    there = sorted({*predicted, *labels})
    precision = sum(found.count(c) / max(1, predicted.count(c)) for c in there)
    recall = sum(found.count(c) / max(1, labels.count(c)) for c in there)
    macro = 2 * precision * recall / max(1e-9, precision + recall) / len(there)
    return len(found) / len(labels), macro


# %% wrong="absent-classes-count" answer="scores" fails="test-scores,hidden-scores"
def scores(predicted, labels, n_classes):
    found = [y for p, y in zip(predicted, labels) if p == y]
    f1 = [
        2 * found.count(c) / max(1, predicted.count(c) + labels.count(c))
        for c in range(n_classes)
    ]
    return len(found) / len(labels), sum(f1) / len(f1)


# %% wrong="only-classes-that-occur" answer="scores" fails="hidden-scores"
def scores(predicted, labels, n_classes):
    found = [y for p, y in zip(predicted, labels) if p == y]
    f1 = [
        2 * found.count(c) / (predicted.count(c) + labels.count(c)) for c in set(labels)
    ]
    return len(found) / len(labels), sum(f1) / len(f1)


# %% wrong="recall-for-f1" answer="scores" fails="test-scores,hidden-scores"
def scores(predicted, labels, n_classes):
    found = [y for p, y in zip(predicted, labels) if p == y]
    recall = [found.count(c) / labels.count(c) for c in set(labels)]
    return len(found) / len(labels), sum(recall) / len(recall)


# %% wrong="mean-of-the-texts" answer="forgetting" fails="test-forgetting,hidden-forgetting"
def forgetting(before, after, n_tokens):
    n = len(before)
    worse = [(new - old) / m for old, new, m in zip(before, after, n_tokens)]
    mean = sum(worse) / n
    variance = sum((d - mean) ** 2 for d in worse) / (n - 1)
    return mean, (variance / n) ** 0.5


# %% wrong="size-of-the-change" answer="forgetting" fails="hidden-forgetting"
def forgetting(before, after, n_tokens):
    n = len(before)
    size = sum(n_tokens) / n
    worse = [abs(new - old) / size for old, new in zip(before, after)]
    mean = sum(worse) / n
    variance = sum((d - mean) ** 2 for d in worse) / (n - 1)
    return mean, (variance / n) ** 0.5


# %% wrong="never-below-zero" answer="forgetting" fails="hidden-forgetting"
def forgetting(before, after, n_tokens):
    n = len(before)
    size = sum(n_tokens) / n
    worse = [(new - old) / size for old, new in zip(before, after)]
    mean = sum(worse) / n
    variance = sum((d - mean) ** 2 for d in worse) / (n - 1)
    return max(0.0, mean), (variance / n) ** 0.5


# %% wrong="not-paired" answer="forgetting" fails="test-forgetting,hidden-forgetting"
def forgetting(before, after, n_tokens):
    n = len(before)
    size = sum(n_tokens) / n
    old, new = torch.tensor([before, after], dtype=torch.float64) / size
    error = ((old.var() + new.var()) / n) ** 0.5
    return (new.mean() - old.mean()).item(), error.item()
