# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="no-root" answer="attend" fails="test-attend,hidden-attend,test-block,hidden-block,test-cached-block,hidden-cached-block"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    scores = query @ key.transpose(-2, -1)
    return scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ value


# %% wrong="mask-after-softmax" answer="attend" fails="test-attend,hidden-attend,test-block,hidden-block,test-cached-block,hidden-cached-block"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores.softmax(dim=-1) * allowed) @ value


# %% wrong="divided-again-after-softmax" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    weights = scores.softmax(dim=-1) * allowed
    return weights / weights.sum(dim=-1, keepdim=True) @ value


# %% wrong="not-low-enough" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, -1e4).softmax(dim=-1) @ value


# %% wrong="start-forgotten" answer="attend" fails="test-attend,hidden-attend,test-cached-block,hidden-cached-block"
def attend(query, key, value, start=0):
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1) @ value


# %% wrong="queries-taken-for-the-last" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    n_queries, n_keys = scores.shape[-2:]
    allowed = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    return scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ value


# %% wrong="softmax-by-hand" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    powers = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).exp() * allowed
    return powers / powers.sum(dim=-1, keepdim=True) @ value


# %% wrong="sum-of-columns" answer="attend" fails="test-attend,hidden-attend,test-block,hidden-block,test-cached-block,hidden-cached-block"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    powers = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).exp() * allowed
    return powers / powers.sum(dim=-1) @ value


# %% wrong="one-text-only" answer="attend" fails="test-attend,hidden-attend,test-block,hidden-block,test-cached-block,hidden-cached-block"
def attend(query, key, value, start=0):
    query_at = torch.arange(len(query)) + start
    allowed = torch.arange(len(key)) <= query_at[:, None]
    scores = query @ key.T / query.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ value


# %% wrong="itself-not-seen" answer="attend" fails="test-attend,hidden-attend,test-block,hidden-block,test-cached-block,hidden-cached-block"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) < query_at[:, None]
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ value


# %% wrong="one-query-sees-all" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    if query.shape[-2] > 1:
        query_at = torch.arange(query.shape[-2]) + start
        allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
        scores = scores.masked_fill(~allowed, float("-inf"))
    return scores.softmax(dim=-1) @ value


# %% wrong="zero-taken-for-not-given" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    start = start or key.shape[-2] - query.shape[-2]
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ value


# %% wrong="cut-so-that-nothing-overflows" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    powers = scores.clamp(-80, 80).exp() * allowed
    return powers / powers.sum(dim=-1, keepdim=True) @ value


# %% wrong="none-or-two-dimensions" answer="attend" fails="hidden-attend"
def attend(query, key, value, start=0):
    plain = query.ndim == 2
    if plain:
        query, key, value = (x[None, None] for x in (query, key, value))
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]
    scores = torch.einsum("bhtd,bhsd->bhts", query, key) / query.shape[-1] ** 0.5
    context = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ value
    return context[0, 0] if plain else context


# %% wrong="reshaped-only" answer="heads" fails="test-heads,hidden-heads,test-block,hidden-block,test-cached-block,hidden-cached-block"
def split_heads(x, n_heads):
    batch, length, width = x.shape
    return x.reshape(batch, n_heads, length, width // n_heads)


def join_heads(x):
    batch, n_heads, length, d_head = x.shape
    return x.reshape(batch, length, n_heads * d_head)


# %% wrong="every-hth-coordinate" answer="heads" fails="test-heads,hidden-heads,test-block,hidden-block,test-cached-block,hidden-cached-block"
def split_heads(x, n_heads):
    return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


def join_heads(x):
    return x.permute(0, 2, 3, 1).flatten(2)


# %% wrong="heads-and-width-swapped" answer="heads" fails="test-heads,hidden-heads,test-block,hidden-block,test-cached-block,hidden-cached-block"
def split_heads(x, n_heads):
    return x.unflatten(-1, (-1, n_heads)).transpose(1, 2)


def join_heads(x):
    return x.transpose(1, 2).flatten(2)


# %% wrong="neighbours-paired" answer="rotate" fails="test-rotate,hidden-rotate,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    angles = positions[:, None] * base ** (-torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., ::2], x[..., 1::2]
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.stack(turned, dim=-1).flatten(-2)


# %% wrong="turned-backwards" answer="rotate" fails="test-rotate,hidden-rotate,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    angles = positions[:, None] * base ** (-torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    turned = first * cos + second * sin, second * cos - first * sin
    return torch.cat(turned, dim=-1)


# %% wrong="counted-from-zero" answer="rotate" fails="test-rotate,hidden-rotate,test-cached-block,hidden-cached-block"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / half)
    angles = torch.arange(x.shape[-2])[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.cat(turned, dim=-1)


# %% wrong="a-position-for-each-pair" answer="rotate" fails="test-rotate,hidden-rotate,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / half)
    angles = positions * frequencies
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.cat(turned, dim=-1)


# %% wrong="half-the-exponent" answer="rotate" fails="test-rotate,hidden-rotate,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / x.shape[-1])
    angles = positions[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.cat(turned, dim=-1)


# %% wrong="overwritten-before-it-is-read" answer="rotate" fails="test-rotate,hidden-rotate,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / half)
    angles = positions[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    first = first * cos - second * sin
    turned = first, first * sin + second * cos
    return torch.cat(turned, dim=-1)


# %% wrong="dtype-of-the-angles" answer="rotate" fails="hidden-rotate"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / half)
    angles = positions[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.cat(turned, dim=-1)


# %% wrong="angles-in-the-dtype-of-x" answer="rotate" fails="hidden-rotate"
def rotate(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / half)
    angles = positions[:, None].to(x.dtype) * frequencies.to(x.dtype)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.cat(turned, dim=-1)


# %% wrong="norm-for-mean" answer="parts" fails="test-parts,hidden-parts,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rms_norm(x, weight, eps=1e-5):
    return weight * x / (x.norm(dim=-1, keepdim=True) + eps)


def swiglu(x, w_gate, w_up, w_down):
    gate = x @ w_gate.T
    return (gate * gate.sigmoid() * (x @ w_up.T)) @ w_down.T


# %% wrong="dimension-not-kept" answer="parts" fails="test-parts,hidden-parts,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rms_norm(x, weight, eps=1e-5):
    return weight * x / (x.square().mean(dim=-1) + eps).sqrt()


def swiglu(x, w_gate, w_up, w_down):
    gate = x @ w_gate.T
    return (gate * gate.sigmoid() * (x @ w_up.T)) @ w_down.T


# %% wrong="eps-after-the-root" answer="parts" fails="test-parts,hidden-parts"
def rms_norm(x, weight, eps=1e-5):
    return weight * x / (x.square().mean(dim=-1, keepdim=True).sqrt() + eps)


def swiglu(x, w_gate, w_up, w_down):
    gate = x @ w_gate.T
    return (gate * gate.sigmoid() * (x @ w_up.T)) @ w_down.T


# %% wrong="mean-over-everything" answer="parts" fails="test-parts,hidden-parts,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rms_norm(x, weight, eps=1e-5):
    return weight * x / (x.square().mean() + eps).sqrt()


def swiglu(x, w_gate, w_up, w_down):
    gate = x @ w_gate.T
    return (gate * gate.sigmoid() * (x @ w_up.T)) @ w_down.T


# %% wrong="sigmoid-for-silu" answer="parts" fails="test-parts,hidden-parts,test-block,hidden-block,test-cached-block,hidden-cached-block"
def rms_norm(x, weight, eps=1e-5):
    return weight * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def swiglu(x, w_gate, w_up, w_down):
    return ((x @ w_gate.T).sigmoid() * (x @ w_up.T)) @ w_down.T


# %% wrong="residual-of-the-norm" answer="block" fails="test-block,hidden-block"
def block(x, weights, n_heads):
    x = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(x @ weights[name].T, n_heads) for name in names)
    at = torch.arange(x.shape[1])
    context = attend(rotate(query, at), rotate(key, at), value)
    x = x + join_heads(context) @ weights["output"].T
    x = rms_norm(x, weights["feed_forward_norm"])
    return x + swiglu(x, weights["gate"], weights["up"], weights["down"])


# %% wrong="parts-side-by-side" answer="block" fails="test-block,hidden-block"
def block(x, weights, n_heads):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n].T, n_heads) for n in names)
    at = torch.arange(x.shape[1])
    context = attend(rotate(query, at), rotate(key, at), value)
    seen = rms_norm(x, weights["feed_forward_norm"])
    added = swiglu(seen, weights["gate"], weights["up"], weights["down"])
    return x + join_heads(context) @ weights["output"].T + added


# %% wrong="turned-before-the-split" answer="block" fails="test-block,hidden-block"
def block(x, weights, n_heads):
    seen, at = rms_norm(x, weights["attention_norm"]), torch.arange(x.shape[1])
    query, key = (rotate(seen @ weights[name].T, at) for name in ("query", "key"))
    value = seen @ weights["value"].T
    heads = (split_heads(part, n_heads) for part in (query, key, value))
    x = x + join_heads(attend(*heads)) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    return x + swiglu(seen, weights["gate"], weights["up"], weights["down"])


# %% wrong="not-turned" answer="block" fails="test-block,hidden-block"
def block(x, weights, n_heads):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n].T, n_heads) for n in names)
    context = attend(query, key, value)
    x = x + join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    return x + swiglu(seen, weights["gate"], weights["up"], weights["down"])


# %% wrong="not-transposed" answer="block" fails="test-block,hidden-block"
def block(x, weights, n_heads):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n], n_heads) for n in names)
    at = torch.arange(x.shape[1])
    context = attend(rotate(query, at), rotate(key, at), value)
    x = x + join_heads(context) @ weights["output"]
    seen = rms_norm(x, weights["feed_forward_norm"])
    return x + swiglu(seen, weights["gate"], weights["up"], weights["down"])


# %% wrong="input-overwritten" answer="block" fails="test-block,hidden-block"
def block(x, weights, n_heads):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n].T, n_heads) for n in names)
    at = torch.arange(x.shape[1])
    context = attend(rotate(query, at), rotate(key, at), value)
    x += join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    return x + swiglu(seen, weights["gate"], weights["up"], weights["down"])


# %% wrong="weights-taken-out" answer="block" fails="test-block,hidden-block"
def block(x, weights, n_heads):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights.pop(n).T, n_heads) for n in names)
    at = torch.arange(x.shape[1])
    context = attend(rotate(query, at), rotate(key, at), value)
    x = x + join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    return x + swiglu(seen, weights["gate"], weights["up"], weights["down"])


# %% wrong="positions-begin-again" answer="cached-block" fails="test-cached-block,hidden-cached-block"
def cached_block(x, weights, n_heads, cache):
    seen, at = rms_norm(x, weights["attention_norm"]), torch.arange(x.shape[1])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n].T, n_heads) for n in names)
    start = cache[0].shape[2]
    key = torch.cat((cache[0], rotate(key, at)), dim=2)
    value = torch.cat((cache[1], value), dim=2)
    context = attend(rotate(query, at), key, value, start)
    x = x + join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    x = x + swiglu(seen, weights["gate"], weights["up"], weights["down"])
    return x, (key, value)


# %% wrong="turned-again-and-again" answer="cached-block" fails="test-cached-block,hidden-cached-block"
def cached_block(x, weights, n_heads, cache):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n].T, n_heads) for n in names)
    start = cache[0].shape[2]
    key = torch.cat((cache[0], key), dim=2)
    value = torch.cat((cache[1], value), dim=2)
    key = rotate(key, torch.arange(key.shape[2]))
    query = rotate(query, start + torch.arange(x.shape[1]))
    x = x + join_heads(attend(query, key, value, start)) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    x = x + swiglu(seen, weights["gate"], weights["up"], weights["down"])
    return x, (key, value)


# %% wrong="one-token-at-a-time-only" answer="cached-block" fails="test-cached-block,hidden-cached-block"
def cached_block(x, weights, n_heads, cache):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n].T, n_heads) for n in names)
    at = cache[0].shape[2] + torch.arange(x.shape[1])
    key = torch.cat((cache[0], rotate(key, at)), dim=2)
    value = torch.cat((cache[1], value), dim=2)
    context = attend(rotate(query, at), key, value, key.shape[2])
    x = x + join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    x = x + swiglu(seen, weights["gate"], weights["up"], weights["down"])
    return x, (key, value)


# %% wrong="no-turn-no-network" answer="cached-block" fails="test-cached-block,hidden-cached-block"
def cached_block(x, weights, n_heads, cache):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n], n_heads) for n in names)
    key = torch.cat((cache[0], key), dim=2)
    value = torch.cat((cache[1], value), dim=2)
    context = attend(query, key, value, cache[0].shape[2])
    return x + join_heads(context) @ weights["output"], (key, value)


# %% wrong="new-keys-before-old" answer="cached-block" fails="test-cached-block,hidden-cached-block"
def cached_block(x, weights, n_heads, cache):
    seen = rms_norm(x, weights["attention_norm"])
    names = "query", "key", "value"
    query, key, value = (split_heads(seen @ weights[n].T, n_heads) for n in names)
    start = cache[0].shape[2]
    at = start + torch.arange(x.shape[1])
    key = torch.cat((rotate(key, at), cache[0]), dim=2)
    value = torch.cat((value, cache[1]), dim=2)
    context = attend(rotate(query, at), key, value, start)
    x = x + join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    x = x + swiglu(seen, weights["gate"], weights["up"], weights["down"])
    return x, (key, value)
