# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="keys-only" answer="cache-bytes" fails="test-cache-bytes,hidden-cache-bytes"
def cache_bytes(windows, n_tokens, n_kv_heads, d_head, n_bytes):
    kept = sum(n_tokens if w is None else min(w, n_tokens) for w in windows)
    return kept * n_kv_heads * d_head * n_bytes


# %% wrong="windows-always-full" answer="cache-bytes" fails="test-cache-bytes,hidden-cache-bytes"
def cache_bytes(windows, n_tokens, n_kv_heads, d_head, n_bytes):
    kept = sum(w or n_tokens for w in windows)
    return 2 * kept * n_kv_heads * d_head * n_bytes


# %% wrong="list-filled-in" answer="cache-bytes" fails="hidden-cache-bytes"
def cache_bytes(windows, n_tokens, n_kv_heads, d_head, n_bytes):
    for i, w in enumerate(windows):
        if w is None or w > n_tokens:
            windows[i] = n_tokens
    return 2 * sum(windows) * n_kv_heads * d_head * n_bytes


# %% wrong="not-low-enough" answer="read-block" fails="hidden-read-block"
def read_block(state, scores, values):
    largest, total, mixture = state
    new = largest.maximum(scores.amax(dim=-1))
    base = new.clamp(min=-1e4)
    weights, shrink = (scores - base[..., None]).exp(), (largest - base).exp()
    total = total * shrink + weights.sum(dim=-1)
    return new, total, mixture * shrink[..., None] + weights @ values


# %% wrong="scores-changed-in-place" answer="read-block" fails="hidden-read-block"
def read_block(state, scores, values):
    largest, total, mixture = state
    new = largest.maximum(scores.amax(dim=-1))
    base = new.clamp(min=-1e30)
    scores -= base[..., None]
    shrink = (largest - base).exp()
    total = total * shrink + scores.exp().sum(dim=-1)
    return new, total, mixture * shrink[..., None] + scores.exp() @ values


# %% wrong="never-shrunk" answer="read-block" fails="test-read-block,hidden-read-block,hidden-blockwise"
def read_block(state, scores, values):
    largest, total, mixture = state
    new = largest.maximum(scores.amax(dim=-1))
    weights = (scores - new.clamp(min=-1e30)[..., None]).exp()
    return new, total + weights.sum(dim=-1), mixture + weights @ values


# %% wrong="without-a-largest" answer="read-block" fails="test-read-block,hidden-read-block,hidden-blockwise"
def read_block(state, scores, values):
    largest, total, mixture = state
    new = largest.maximum(scores.amax(dim=-1))
    weights, base = scores.exp(), new.clamp(min=-1e30)
    old = largest.clamp(min=-1e30)
    total = total * old.exp() + weights.sum(dim=-1)
    mixture = mixture * old.exp()[..., None] + weights @ values
    return new, total / base.exp(), mixture / base.exp()[..., None]


# %% wrong="nan-for-the-unseen" answer="read-block" fails="test-read-block,hidden-read-block"
def read_block(state, scores, values):
    largest, total, mixture = state
    new = largest.maximum(scores.amax(dim=-1))
    weights, shrink = (scores - new[..., None]).exp(), (largest - new).exp()
    total = total * shrink + weights.sum(dim=-1)
    return new, total, mixture * shrink[..., None] + weights @ values


# %% wrong="largest-of-the-block" answer="read-block" fails="test-read-block,hidden-read-block,test-blockwise,hidden-blockwise"
def read_block(state, scores, values):
    largest, total, mixture = state
    new = scores.amax(dim=-1)
    base = new.clamp(min=-1e30)
    weights, shrink = (scores - base[..., None]).exp(), (largest - base).exp()
    total = total * shrink + weights.sum(dim=-1)
    return new, total, mixture * shrink[..., None] + weights @ values


# %% wrong="columns-from-zero" answer="blockwise" fails="test-blockwise,hidden-blockwise"
def blockwise(query, key, value, block):
    n_heads, length, d_head = query.shape
    total = torch.zeros(n_heads, length)
    mixture = torch.zeros(n_heads, length, value.shape[2])
    state = torch.full((n_heads, length), -torch.inf), total, mixture
    for start in range(0, length, block):
        here = slice(start, start + block)
        scores = query @ key[:, here].transpose(1, 2) / d_head**0.5
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
        state = read_block(state, scores, value[:, here])
    return state[2] / state[1][..., None]


# %% wrong="last-block-dropped" answer="blockwise" fails="test-blockwise,hidden-blockwise"
def blockwise(query, key, value, block):
    n_heads, length, d_head = query.shape
    at, total = torch.arange(length), torch.zeros(n_heads, length)
    mixture = torch.zeros(n_heads, length, value.shape[2])
    state = torch.full((n_heads, length), -torch.inf), total, mixture
    for number in range(length // block):
        here = slice(number * block, number * block + block)
        scores = query @ key[:, here].transpose(1, 2) / d_head**0.5
        scores = scores.masked_fill(at[here] > at[:, None], -torch.inf)
        state = read_block(state, scores, value[:, here])
    return state[2] / state[1][..., None]


# %% wrong="empty-slots-read" answer="window-step" fails="test-window-step,hidden-window-step"
def window_step(query, key, value, cache, position):
    keys, values = cache[0].clone(), cache[1].clone()
    slot = position % keys.shape[1]
    keys[:, slot], values[:, slot] = key, value
    scores = torch.einsum("hd,hsd->hs", query, keys) / query.shape[1] ** 0.5
    context = torch.einsum("hs,hsd->hd", scores.softmax(dim=1), values)
    return context, (keys, values)


# %% wrong="written-after-reading" answer="window-step" fails="test-window-step,hidden-window-step"
def window_step(query, key, value, cache, position):
    keys, values = cache[0].clone(), cache[1].clone()
    window = keys.shape[1]
    n = max(1, min(position, window))
    scores = torch.einsum("hd,hsd->hs", query, keys[:, :n]) / query.shape[1] ** 0.5
    context = torch.einsum("hs,hsd->hd", scores.softmax(dim=1), values[:, :n])
    keys[:, position % window], values[:, position % window] = key, value
    return context, (keys, values)


# %% wrong="cache-changed-in-place" answer="window-step" fails="hidden-window-step"
def window_step(query, key, value, cache, position):
    keys, values = cache
    window = keys.shape[1]
    keys[:, position % window], values[:, position % window] = key, value
    n = min(position + 1, window)
    scores = torch.einsum("hd,hsd->hs", query, keys[:, :n]) / query.shape[1] ** 0.5
    context = torch.einsum("hs,hsd->hd", scores.softmax(dim=1), values[:, :n])
    return context, (keys, values)


# %% wrong="moved-instead-of-rolled" answer="window-step" fails="test-window-step,hidden-window-step"
def window_step(query, key, value, cache, position):
    window = cache[0].shape[1]
    keys = torch.cat((cache[0], key[:, None]), dim=1)[:, 1:]
    values = torch.cat((cache[1], value[:, None]), dim=1)[:, 1:]
    n = min(position + 1, window)
    scores = torch.einsum("hd,hsd->hs", query, keys[:, -n:]) / query.shape[1] ** 0.5
    context = torch.einsum("hs,hsd->hd", scores.softmax(dim=1), values[:, -n:])
    return context, (keys, values)


# %% wrong="query-divided-in-place" answer="window-step" fails="hidden-window-step"
def window_step(query, key, value, cache, position):
    keys, values = cache[0].clone(), cache[1].clone()
    window = keys.shape[1]
    keys[:, position % window], values[:, position % window] = key, value
    n = min(position + 1, window)
    query /= query.shape[1] ** 0.5
    scores = torch.einsum("hd,hsd->hs", query, keys[:, :n])
    context = torch.einsum("hs,hsd->hd", scores.softmax(dim=1), values[:, :n])
    return context, (keys, values)


# %% wrong="softmax-by-hand" answer="window-step" fails="hidden-window-step"
def window_step(query, key, value, cache, position):
    keys, values = cache[0].clone(), cache[1].clone()
    window = keys.shape[1]
    keys[:, position % window], values[:, position % window] = key, value
    n = min(position + 1, window)
    scores = torch.einsum("hd,hsd->hs", query, keys[:, :n]) / query.shape[1] ** 0.5
    powers = scores.exp()
    weights = powers / powers.sum(dim=1, keepdim=True)
    context = torch.einsum("hs,hsd->hd", weights, values[:, :n])
    return context, (keys, values)


# %% wrong="future-hidden-after-the-softmax" answer="grouped" fails="hidden-grouped"
def grouped(query, key, value):
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    n_queries, n_keys = scores.shape[-2:]
    weights = scores.softmax(dim=-1).tril(n_keys - n_queries)
    return weights / weights.sum(dim=-1, keepdim=True) @ value


# %% wrong="heads-dealt-out" answer="grouped" fails="test-grouped,hidden-grouped"
def grouped(query, key, value):
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat(1, group, 1, 1), value.repeat(1, group, 1, 1)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    n_queries, n_keys = scores.shape[-2:]
    future = torch.ones(n_queries, n_keys).triu(1 + n_keys - n_queries).bool()
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ value


# %% wrong="queries-taken-for-the-first" answer="grouped" fails="test-grouped,hidden-grouped"
def grouped(query, key, value):
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    future = torch.ones(*scores.shape[-2:]).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ value


# %% wrong="multiplied-for-divided" answer="frequencies" fails="test-frequencies,hidden-frequencies"
def frequencies(d_head, base, factor, way, trained_length):
    if way == "ntk":
        base = base * factor ** (d_head / (d_head - 2))
    plain = base ** (-torch.arange(0, d_head, 2) / d_head)
    if way == "linear":
        return plain * factor
    if way == "yarn":
        share = ((trained_length * plain / (2 * pi) - 1) / 31).clamp(0, 1)
        return share * plain + (1 - share) * plain * factor
    return plain


# %% wrong="base-times-factor" answer="frequencies" fails="test-frequencies,hidden-frequencies"
def frequencies(d_head, base, factor, way, trained_length):
    if way == "ntk":
        base = base * factor
    plain = base ** (-torch.arange(0, d_head, 2) / d_head)
    if way == "linear":
        return plain / factor
    if way == "yarn":
        share = ((trained_length * plain / (2 * pi) - 1) / 31).clamp(0, 1)
        return share * plain + (1 - share) * plain / factor
    return plain


# %% wrong="radians-for-rounds" answer="frequencies" fails="test-frequencies,hidden-frequencies"
def frequencies(d_head, base, factor, way, trained_length):
    if way == "ntk":
        base = base * factor ** (d_head / (d_head - 2))
    plain = base ** (-torch.arange(0, d_head, 2) / d_head)
    if way == "linear":
        return plain / factor
    if way == "yarn":
        share = ((trained_length * plain - 1) / 31).clamp(0, 1)
        return share * plain + (1 - share) * plain / factor
    return plain


# %% wrong="share-not-bounded" answer="frequencies" fails="test-frequencies,hidden-frequencies"
def frequencies(d_head, base, factor, way, trained_length):
    if way == "ntk":
        base = base * factor ** (d_head / (d_head - 2))
    plain = base ** (-torch.arange(0, d_head, 2) / d_head)
    if way == "linear":
        return plain / factor
    if way == "yarn":
        share = (trained_length * plain / (2 * pi) - 1) / 31
        return share * plain + (1 - share) * plain / factor
    return plain
