# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.model.attention, llmcourse.model.costs, llmcourse.model.long_context, llmcourse.model.positions]
# ---

# %% [markdown]
# # Assignment: a longer context window
#
# You write what makes long windows possible: attention that never holds the table of scores, a cache that forgets, keys that heads share, and positions that stretch.
# First you compute what a window costs.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. The memory of a cache | 2 | ★ | 10 |
# | 2. The online softmax | 3 | ★★★ | 25 |
# | 3. Attention in blocks | 2 | ★★ | 20 |
# | 4. A rolling cache | 3 | ★★ | 20 |
# | 5. Grouped queries | 2 | ★★ | 15 |
# | 6. Stretched positions | 3 | ★★ | 20 |
# | 7. Three systems (written) | 3 | ★★ | 15 |
# | 8. A claim (written) | 2 | ★★ | 10 |
#
# 20 points in all. Read the chapter [The context window](../context_window.ipynb) first.
# As there, $H$ heads have the width $d$, $K$ is the number of key-value heads, and a window has $w$ positions; here $T$ queries meet $S$ keys.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has all of this.
# The first code cell locks it away: here you write it yourself, without torch's own attention.

# %% given="setup"
import sys
from math import exp, log, pi

import torch

from llmcourse.classroom.tasks import close, describe, generator

for module in ("attention", "costs", "long_context", "positions"):
    sys.modules[f"llmcourse.model.{module}"] = None  # this is what you write yourself


# %% [markdown]
# ## 1. The memory of a cache (2 points)
#
# Some models have layers of two kinds: a few look at the whole text, the others at a window.
# A layer with full attention keeps the keys and values of all positions; a layer with a window of $w$ keeps only those of the last $w$.
#
# Write `cache_bytes(windows, n_tokens, n_kv_heads, d_head, n_bytes)`: the bytes of the key-value cache for one text.
# `windows` is a list with one entry for each layer: its window, or `None` for full attention.
# `n_bytes` is the size of one number.
#
# An example: three layers, `[None, 4, 4]`, 10 tokens, 2 key-value heads 8 wide, 2 bytes for each number.
# The layers keep 10, 4 and 4 positions, and a position takes $2 \cdot 2 \cdot 8 \cdot 2 = 64$ bytes, for a key and a value; that is 1,152 bytes.


# %% answer="cache-bytes"
def cache_bytes(windows, n_tokens, n_kv_heads, d_head, n_bytes):
    """Return the bytes of the key-value cache of one text."""
    ### BEGIN SOLUTION
    kept = sum(n_tokens if w is None else min(w, n_tokens) for w in windows)
    return 2 * kept * n_kv_heads * d_head * n_bytes
    ### END SOLUTION


# %% test="cache-bytes" points=1
got = cache_bytes([None, 4, 4], 10, 2, 8, 2)
assert got == 1152, (
    f"18 positions of 64 bytes are 1,152 bytes, got {got}; a position keeps a key and a "
    "value in every key-value head"
)
got = cache_bytes([None, 4, 4], 3, 2, 8, 2)
assert got == 576, (
    f"3 tokens do not fill a window of 4: 9 positions of 64 bytes are 576, got {got}"
)

# %% hidden="cache-bytes" points=1
# Hidden: other models, among them all full, all windows, and no text (1 point)
for windows, sizes in (
    ([None] * 5, (7, 3, 16, 4)),
    ([6, 1, 3], (5, 1, 4, 2)),
    ([None, 2, 1024], (1000, 4, 2, 1)),
    ([8, None], (0, 3, 5, 2)),
):
    n_tokens, *others = sizes
    wanted = 0
    for window in windows:
        for position in range(n_tokens):
            if window is None or position >= n_tokens - window:
                wanted += 2 * others[0] * others[1] * others[2]
    given = list(windows)
    got = cache_bytes(given, *sizes)
    assert given == windows, "cache_bytes must not change the list of windows"
    assert got == wanted, (
        f"windows {windows}, {n_tokens} tokens, {others[0]} heads {others[1]} wide, "
        f"{others[2]} bytes a number: wanted {wanted} bytes, got {got}"
    )

# %% [markdown]
# ## 2. The online softmax (3 points)
#
# The softmax over a long row can be computed block by block.
# For each query three things are kept: the largest score so far $m$, the sum $\ell$, and the mixture $c$.
# The sum $\ell$ adds up $e^{s - m}$ over all scores $s$ so far; the mixture adds up $e^{s - m}$ times the value.
# At the end $c / \ell$ is what attention gives.
#
# Write `read_block(state, scores, values)`, which reads one more block and returns the new state; the old one stays as it is.
#
# | Name | Shape |
# |---|---|
# | `state`, a tuple $(m, \ell, c)$ | (…, T), (…, T), (…, T, width of a value) |
# | `scores` | (…, T, block) |
# | `values` | (…, block, width of a value) |
#
# - When the largest score rises from $m$ to $m'$, everything summed so far shrinks by the factor $e^{m - m'}$.
# - At the beginning $m = -\infty$, and $\ell$ and $c$ are 0.
# - A score of $-\infty$ is a key that the query may not see.
#   It can happen that *all* scores of a query so far are $-\infty$: then $\ell$ and $c$ stay 0, and no `nan` may appear.
#
# An example for one query: the scores 0 and $\ln 2$ with the values 6 and 3 give $m = \ln 2$, $\ell = \frac12 + 1 = \frac32$ and $c = 3 + 3 = 6$.
# A second block, with the score $\ln 6$ and the value 9, shrinks them to $\frac13$: $\ell = \frac12 + 1 = \frac32$, $c = 2 + 9 = 11$.


# %% answer="read-block"
def read_block(state, scores, values):
    """Return the state (m, l, c) of each query after one more block of keys."""
    ### BEGIN SOLUTION
    largest, total, mixture = state
    new = largest.maximum(scores.amax(dim=-1))
    base = new.clamp(min=-1e30)  # finite, so that -inf minus it is -inf and not nan
    weights = (scores - base[..., None]).exp()
    shrink = (largest - base).exp()
    total = total * shrink + weights.sum(dim=-1)
    mixture = mixture * shrink[..., None] + weights @ values
    return new, total, mixture
    ### END SOLUTION


# %% test="read-block" points=1
state = torch.tensor([-torch.inf]), torch.zeros(1), torch.zeros(1, 1)
state = read_block(state, torch.tensor([[0.0, log(2)]]), torch.tensor([[6.0], [3.0]]))
for got, wanted, name in zip(state, ([log(2)], [1.5], [[6.0]]), ("m", "l", "c")):
    assert close(got, torch.tensor(wanted)), (
        f"after the scores 0 and ln 2 with the values 6 and 3, {name} is {wanted}, "
        f"got {describe(got)}; take all exponentials relative to the largest score"
    )
state = read_block(state, torch.tensor([[log(6)]]), torch.tensor([[9.0]]))
for got, wanted, name in zip(state, ([log(6)], [1.5], [[11.0]]), ("m", "l", "c")):
    assert close(got, torch.tensor(wanted)), (
        f"after the score ln 6 with the value 9, {name} is {wanted}, got {describe(got)}; "
        "sum and mixture are multiplied by 2/6 before the new is added"
    )
state = read_block(state, torch.tensor([[-torch.inf]]), torch.tensor([[5.0]]))
assert close(state[2], torch.tensor([[11.0]])), (
    f"a key with the score -inf changes nothing: c stays 11, got {describe(state[2])}"
)
state = torch.full((2,), -torch.inf), torch.zeros(2), torch.zeros(2, 1)
scores = torch.tensor([[log(2), 0.0, -torch.inf], [-torch.inf] * 3])
state = read_block(state, scores, torch.tensor([[6.0], [3.0], [1.0]]))
assert close(state[0], torch.tensor([log(2), -torch.inf])), (
    f"each query has its own largest score, ln 2 and -inf, got {describe(state[0])}"
)
for got, wanted, name in zip(state[1:], ([1.5, 0.0], [[7.5], [0.0]]), ("l", "c")):
    assert close(got, torch.tensor(wanted)), (
        f"of two queries the first has the scores ln 2 and 0, and the second sees nothing: "
        f"{name} is {wanted}, got {describe(got)}; where all is -inf, put a finite number in "
        "the place of m before you subtract it"
    )

# %% hidden="read-block" points=2
# Hidden: several heads, any blocks, large scores, keys that nobody may see (2 points)
g = generator(1)
for scale, cuts in (
    (1.0, (4, 1, 6)),
    (300.0, (2, 9)),
    (5.0, (1, 1, 1, 8)),
    (1.0, (11,)),
):
    scores = scale * torch.randn(2, 3, 11, generator=g)
    scores[0, :2, :5] = -torch.inf
    scores[1, 0, 7:] = -torch.inf
    values = torch.randn(2, 11, 4, generator=g)
    shape = f"blocks of {', '.join(map(str, cuts))} keys, scores of size {scale:g}"
    state = torch.full((2, 3), -torch.inf), torch.zeros(2, 3), torch.zeros(2, 3, 4)
    read = 0
    for n in cuts:
        block = slice(read, read + n)
        given = *state, scores[..., block].clone(), values[:, block].clone()
        saved = [part.clone() for part in given]
        new = read_block(given[:3], *given[3:])
        assert all(map(torch.equal, given, saved)), (
            "the old state, the scores and the values must stay as they are"
        )
        state, read = new, read + n
        for part, size in zip(state, ((2, 3), (2, 3), (2, 3, 4))):
            assert getattr(part, "shape", None) == size, (
                f"{shape}: wanted a part of the state of shape {size}, got {describe(part)}"
            )
            assert not part.isnan().any(), (
                f"{shape}: nan after {read} keys; where all scores so far are -inf, "
                "-inf minus -inf comes up"
            )
        seen = scores[..., :read].double()
        best = seen.amax(dim=-1)
        powers = (seen - best.where(best.isfinite(), 0.0)[..., None]).exp()
        assert close(state[0], best), f"{shape}: m is the largest of the {read} scores"
        assert close(state[1], powers.sum(dim=-1), 1e-4), (
            f"{shape}: after {read} keys l is the sum of exponentials relative to m"
        )
        wanted = torch.einsum("hts,hsd->htd", powers, values[:, :read].double())
        assert close(state[2], wanted, 1e-4), (
            f"{shape}: after {read} keys c is the sum of exponentials times values"
        )
state = torch.full((1,), -torch.inf), torch.zeros(1), torch.zeros(1, 1)
state = read_block(state, torch.tensor([[-2e4, -2e4 - 1]]), torch.tensor([[1.0], [0]]))
for got, wanted, name in zip(state, ([-2e4], [1 + exp(-1)], [[1.0]]), ("m", "l", "c")):
    assert close(got, torch.tensor(wanted)), (
        f"the scores -20,000 and -20,001 are low but finite: {name} is {wanted}, got "
        f"{describe(got)}; only where all scores are -inf, m needs another number in its place"
    )

# %% [markdown]
# ## 3. Attention in blocks (2 points)
#
# Write `blockwise(query, key, value, block)`: causal attention, with `read_block`, over keys in blocks of `block`; the last block may be shorter.
# So there are never more than $T \cdot \text{block}$ scores per head at once.
# (The tests see only the result. Whoever marks your work will look in your code for a table of all scores.)
#
# `query` and `key` are of shape (H, T, d), `value` is of shape (H, T, width of a value), and so is the result.
# Scores are divided by $\sqrt d$, and position $t$ sees the positions up to $t$.


# %% answer="blockwise"
def blockwise(query, key, value, block):
    """Return causal attention's context, from one block of keys after the other."""
    ### BEGIN SOLUTION
    at = torch.arange(query.shape[1])
    total = torch.zeros(query.shape[:2])
    mixture = torch.zeros(*query.shape[:2], value.shape[2])
    state = torch.full(query.shape[:2], -torch.inf), total, mixture
    for start in range(0, len(at), block):
        here = slice(start, start + block)
        scores = query @ key[:, here].transpose(1, 2) / query.shape[2] ** 0.5
        scores = scores.masked_fill(at[here] > at[:, None], -torch.inf)
        state = read_block(state, scores, value[:, here])
    return state[2] / state[1][..., None]
    ### END SOLUTION


# %% test="blockwise" points=1
query, key = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
value = torch.tensor([[[6.0], [2.0], [1.0]]])
for block in (1, 2, 3):
    got = blockwise(query, key, value, block)
    assert close(got, torch.tensor([[[6.0], [4.0], [3.0]]])), (
        "where all scores are 0, each position gathers the mean of the values up to it: "
        f"6, 4, 3; in blocks of {block} got {describe(got)}"
    )
query = torch.zeros(2, 3, 4)
query[:, :, 0] = 2 * log(3)
key = torch.zeros(2, 3, 4)
key[0, 0, 0] = key[1, 1, 0] = 1.0  # another key counts in each head
got = blockwise(query, key, value.expand(2, 3, 1), 2)
assert close(got, torch.tensor([[[6.0], [5.0], [4.2]], [[6.0], [3.0], [2.6]]])), (
    "2 heads, d = 4, one score of ln 3 in each, of key 0 in head 0 and of key 1 in head 1: "
    "the weights are 3/4 and 1/4, then 3/5, 1/5 and 1/5, and the heads gather 6, 5, 4.2 "
    f"and 6, 3, 2.6; got {describe(got)}; scores are divided by the root of d, which is 2"
)

# %% hidden="blockwise" points=1
# Hidden: random values against torch, blocks that do not divide the length (1 point)
g = generator(2)
for block, scale in ((1, 1.0), (4, 1.0), (5, 20.0), (11, 1.0), (64, 3.0)):
    query, key = scale * torch.randn(2, 3, 11, 5, generator=g)
    value = torch.randn(3, 11, 4, generator=g)
    saved = query.clone(), key.clone(), value.clone()
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True
    )
    got = blockwise(query, key, value, block)
    assert close(got, wanted, 1e-4), (
        f"11 positions in blocks of {block}: wanted shape (3, 11, 4) and torch's numbers, "
        f"got {describe(got)}; the columns of a block begin at its start, not at 0, and "
        "scores are divided by the root of d"
    )
    assert all(map(torch.equal, (query, key, value), saved)), (
        "blockwise must not change its inputs"
    )

# %% [markdown]
# ## 4. A rolling cache (3 points)
#
# In a layer with a window of $w$, a token sees its own position and the $w - 1$ before it.
# When a text is written one token at a time, a cache of $w$ slots is enough: position $t$ goes into slot $t \bmod w$, overwriting the position that has just left the window.
# The slots are then not in the order of the text, but that does not matter: attention is a sum, and positions are in the keys.
# Here and in the next task, scores may again be so large that $e^s$ overflows; `torch.softmax` takes care of that.
#
# Write `window_step(query, key, value, cache, position)`.
#
# | Name | Shape |
# |---|---|
# | `query`, `key` of the new token | (H, d) |
# | `value` of the new token | (H, width of a value) |
# | `cache`, a pair of keys and values | (H, w, d), (H, w, width of a value) |
# | `position` of the new token, from 0 | a number |
#
# Return what the new token gathers, of shape (H, width of a value), and the new cache.
# As long as fewer than $w$ positions have been written, the other slots may hold anything, even `nan`, and must not be looked at.
# The cache that comes in stays as it is.


# %% answer="window-step"
def window_step(query, key, value, cache, position):
    """Return what a token gathers from the last w positions, and the new cache."""
    ### BEGIN SOLUTION
    keys, values = cache[0].clone(), cache[1].clone()
    window = keys.shape[1]
    keys[:, position % window] = key
    values[:, position % window] = value
    n = min(position + 1, window)  # slots that are filled
    scores = torch.einsum("hd,hsd->hs", query, keys[:, :n]) / query.shape[1] ** 0.5
    context = torch.einsum("hs,hsd->hd", scores.softmax(dim=1), values[:, :n])
    return context, (keys, values)
    ### END SOLUTION


# %% test="window-step" points=1
cache = torch.full((1, 2, 3), 50.0), torch.full((1, 2, 1), 50.0)  # a window of 2
for position, (number, wanted) in enumerate(((6.0, 6.0), (2.0, 4.0), (1.0, 1.5))):
    new = torch.tensor([[number]])
    got, cache = window_step(torch.zeros(1, 3), torch.ones(1, 3), new, cache, position)
    assert close(got, torch.tensor([[wanted]])), (
        "where all scores are 0, a token gathers the mean of the last 2 values, itself "
        f"included: at position {position} of 6, 2, 1 that is {wanted}, got {describe(got)}; "
        "slots that were never written do not count"
    )
assert cache[1].flatten().tolist() == [1.0, 2.0], (
    "position 2 goes into slot 2 mod 2 = 0, over the oldest: the values are [1, 2], "
    f"got {cache[1].flatten().tolist()}"
)
query = torch.tensor([[2 * log(3), 0.0, 0.0, 0.0], [0.0, 2 * log(3), 0.0, 0.0]])
keys, values = torch.zeros(2, 3, 4), torch.tensor([[[8.0], [4.0], [0.0]]] * 2)
keys[0, 0, 0] = keys[1, 1, 1] = 1.0
got = window_step(query, torch.zeros(2, 4), torch.zeros(2, 1), (keys, values), 2)[0]
assert close(got, torch.tensor([[5.6], [4.0]])), (
    "2 heads, d = 4, a window of 3: head 0 weighs the values 8, 4, 0 by 3/5, 1/5, 1/5, and "
    f"head 1 by 1/5, 3/5, 1/5, which gives 5.6 and 4; got {describe(got)}; scores are "
    "products with the keys in the slots, divided by the root of d, which is 2"
)

# %% hidden="window-step" points=2
# Hidden: windows of all sizes against a mask over the whole text (2 points)
g = generator(3)
for window in (1, 3, 4, 20):
    query, key = torch.randn(2, 3, 10, 5, generator=g)
    value = torch.randn(3, 10, 2, generator=g)
    back = torch.arange(10)[:, None] - torch.arange(10)
    seen = (back >= 0) & (back < window)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen
    )
    cache = tuple(torch.full((3, window, n), torch.nan) for n in (5, 2))
    for t in range(10):
        saved = cache[0].clone(), cache[1].clone()
        new = query[:, t].clone(), key[:, t].clone(), value[:, t].clone()
        got, later = window_step(*new, cache, t)
        assert all(map(torch.equal, new, (x[:, t] for x in (query, key, value)))), (
            "window_step must not change the query, the key and the value of the new token"
        )
        assert close(got, wanted[:, t], 1e-4), (
            f"window of {window}, position {t}: wanted shape (3, 2), got {describe(got)}, or "
            f"other numbers than from the last {min(t + 1, window)} keys, itself included"
        )
        for now, then in zip(cache, saved):
            same = torch.equal(now.nan_to_num(9e9), then.nan_to_num(9e9))
            assert same, "the old cache must stay as it is"
        cache = later
        for part, text, name in zip(cache, (key, value), ("keys", "values")):
            assert part.shape[:2] == (3, window), (
                f"the {name} keep the shape (3, {window}, …), got {describe(part)}"
            )
            assert torch.equal(part[:, t % window], text[:, t]), (
                f"window of {window}: position {t} goes into slot {t % window}"
            )
hundred = torch.full((1, 4), 100.0)
cache = torch.full((1, 2, 4), 99.0), torch.ones(1, 2, 1)
got = window_step(hundred, hundred, torch.full((1, 1), 3.0), cache, 3)[0]
assert close(got, [[3.0]]), (
    "the new key has the score 20,000, the other one 19,800: neither may overflow, and "
    f"the new value, 3, is gathered alone; got {describe(got)}"
)

# %% [markdown]
# ## 5. Grouped queries (2 points)
#
# The $H$ query heads share $K$ key-value heads: the first $H / K$ query heads use the first of them, the next $H / K$ the second, and so on.
# This makes the cache smaller by the factor $H / K$.
#
# Write `grouped(query, key, value)`: causal attention from (B, H, T, d), (B, K, S, d) and (B, K, S, width of a value) to (B, H, T, width of a value).
# The queries are the last $T$ of the $S$ positions, so query $t$ is at the position $S - T + t$.
#
# With four query heads and two key-value heads, the heads 0 and 1 use the first, the heads 2 and 3 the second.


# %% answer="grouped"
def grouped(query, key, value):
    """Return the context of query heads that share key-value heads."""
    ### BEGIN SOLUTION
    group = query.shape[1] // key.shape[1]
    query = query.unflatten(1, (-1, group))  # (B, K, H / K, T, d)
    scores = query @ key[:, :, None].transpose(-2, -1) / query.shape[-1] ** 0.5
    n_queries, n_keys = scores.shape[-2:]
    future = torch.ones(n_queries, n_keys).triu(1 + n_keys - n_queries).bool()
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    return (weights @ value[:, :, None]).flatten(1, 2)
    ### END SOLUTION


# %% test="grouped" points=1
value = torch.tensor([[[[1.0]], [[2.0]]]])  # B 1, K 2, S 1: two heads, one position
got = grouped(torch.ones(1, 4, 1, 3), torch.ones(1, 2, 1, 3), value)
assert getattr(got, "shape", None) == (1, 4, 1, 1), (
    f"a context for each of 4 query heads: (1, 4, 1, 1), got {describe(got)}"
)
assert got.flatten().tolist() == [1, 1, 2, 2], (
    "neighbouring query heads share a key-value head: 1, 1, 2, 2, "
    f"got {got.flatten().tolist()}"
)
value = torch.tensor([[[6.0], [2.0], [1.0]], [[60.0], [20.0], [10.0]]])[None]
got = grouped(torch.zeros(1, 4, 2, 5), torch.ones(1, 2, 3, 5), value)
wanted = torch.tensor([[4.0], [3.0]])
assert close(got, torch.stack((wanted, wanted, 10 * wanted, 10 * wanted))[None]), (
    "2 queries, the last of 3 positions, scores of 0: the first sees two keys and gathers "
    "the mean of 6 and 2, the second sees all three; wanted 4 and 3, and 40 and 30 with "
    f"the second key-value head, got {describe(got)}; query t is at the position S - T + t"
)
query, key = torch.zeros(1, 4, 2, 4), torch.zeros(1, 2, 3, 4)
query[..., 0], key[:, :, 0, 0] = 2 * log(3), 1.0
got = grouped(query, key, value)[0, 0]
assert close(got, torch.tensor([[5.0], [4.2]])), (
    "d = 4, and key 0 has the score ln 3, the others 0: the first head gathers 3/4 · 6 + "
    f"1/4 · 2 = 5, and 3/5 · 6 + 1/5 · 2 + 1/5 · 1 = 4.2; got {describe(got)}; scores are "
    "divided by the root of d, which is 2"
)

# %% hidden="grouped" points=1
# Hidden: random values against torch, from no sharing to one head for all, large and low scores (1 point)
large = torch.full((1, 1, 2, 4), 40.0)
got = grouped(large, large, torch.ones(1, 1, 2, 1))
assert close(got, torch.ones(1, 1, 2, 1)), (
    f"scores of 3,200 must not overflow: the mean of 1 and 1 is 1, got {describe(got)}"
)
key = torch.tensor([[[[-300.0], [300.0]]]])
wanted = torch.tensor([[[[1.0], [2.0]]]])
got = grouped(torch.full((1, 1, 2, 1), 300.0), key, wanted)
assert close(got, wanted), (
    "the first query has a very low score with itself, -90,000, and still sees nothing "
    "else; the future is hidden with -inf, before the softmax: wanted 1 and 2, got "
    f"{describe(got)}"
)
g = generator(4)
for n_kv_heads, n_queries in ((1, 7), (2, 3), (3, 1), (6, 4)):
    query = torch.randn(2, 6, n_queries, 3, generator=g)
    key = torch.randn(2, n_kv_heads, 7, 3, generator=g)
    value = torch.randn(2, n_kv_heads, 7, 5, generator=g)
    saved = query.clone(), key.clone(), value.clone()
    seen = torch.ones(n_queries, 7, dtype=torch.bool).tril(7 - n_queries)
    owners = [head * n_kv_heads // 6 for head in range(6)]
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key[:, owners], value[:, owners], attn_mask=seen
    )
    got = grouped(query, key, value)
    assert close(got, wanted), (
        f"6 query heads, {n_kv_heads} key-value heads, the last {n_queries} of 7 "
        f"positions: wanted shape (2, 6, {n_queries}, 5), got {describe(got)}, or other "
        "numbers; the queries are the last positions of the text"
    )
    assert all(map(torch.equal, (query, key, value), saved)), (
        "grouped must not change its inputs"
    )

# %% [markdown]
# ## 6. Stretched positions (3 points)
#
# RoPE turns pair $i$, for $i = 0, \dots, d/2 - 1$, by the angle $t \cdot f_i$ with the frequency $f_i = \text{base}^{-2i/d}$.
# A model that was trained on texts of length $N$ has to read texts $s$ times as long.
# There are three ways, and each changes the frequencies but no weights.
#
# - `"linear"`, position interpolation: $f_i / s$.
# - `"ntk"`: another base, $\text{base} \cdot s^{d / (d - 2)}$.
#   The fastest pair stays as it is, and the slowest becomes $s$ times as slow.
# - `"yarn"`: count the rounds that pair $i$ makes in a text of the trained length, $r_i = N f_i / 2\pi$.
#   A pair with 32 rounds or more stays as it is, and one with a single round or less is divided by $s$.
#   In between the two are blended: $\gamma_i f_i + (1 - \gamma_i) f_i / s$ with $\gamma_i = (r_i - 1) / 31$, kept between 0 and 1.
#
# Write `frequencies(d_head, base, factor, way, trained_length)`: the frequencies, a tensor of shape (d/2,).
# `d_head` is even and more than 2; `factor` is $s$, and with $s = 1$ all ways give $f_i$.
#
# With $d = 4$ and base 10,000 the frequencies are 1 and 0.01.
# Stretched four times they are 0.25 and 0.0025 by `"linear"`, and 1 and 0.0025 by `"ntk"`, whose base is $10{,}000 \cdot 4^2$.
# By `"yarn"`, with a trained length of 628, the first pair makes about 100 rounds and stays, and the second makes not quite one and becomes 0.0025.
# (The chapter blends by the number of the pair, and here by its rounds, so the numbers in between differ.)


# %% answer="frequencies"
def frequencies(d_head, base, factor, way, trained_length):
    """Return by what angle each pair turns from one position to the next, (d / 2,)."""
    ### BEGIN SOLUTION
    if way == "ntk":
        base = base * factor ** (d_head / (d_head - 2))
    plain = base ** (-torch.arange(0, d_head, 2) / d_head)
    if way == "linear":
        return plain / factor
    if way == "yarn":
        rounds = trained_length * plain / (2 * pi)
        share = ((rounds - 1) / 31).clamp(0, 1)
        return share * plain + (1 - share) * plain / factor
    return plain
    ### END SOLUTION


# %% test="frequencies" points=1
for way, wanted in (
    ("linear", [0.25, 0.0025]),
    ("ntk", [1.0, 0.0025]),
    ("yarn", [1.0, 0.0025]),
):
    got = frequencies(4, 10_000.0, 4.0, way, 628)
    assert getattr(got, "shape", None) == (2,), (
        f"{way}: one for each pair, got {describe(got)}"
    )
    assert close(got, torch.tensor(wanted), 1e-6), (
        f"{way}, d = 4, base 10,000, stretched four times: wanted {wanted}, "
        f"got {got.tolist()}"
    )

got = frequencies(4, 10_000.0, 4.0, "yarn", 5498)
assert close(got, torch.tensor([1.0, 0.004375]), 1e-6), (
    "with a trained length of 5,498 the second pair makes 8.75 rounds, so γ is 0.25: "
    f"0.25 · 0.01 + 0.75 · 0.0025 = 0.004375; wanted [1.0, 0.004375], got {got.tolist()}"
)

# %% hidden="frequencies" points=2
# Hidden: other widths, bases, factors and lengths, and a factor of 1 (2 points)
g = generator(5)
for d_head, base, factor, length in (
    (8, 10_000.0, 3.0, 192),
    (6, 500_000.0, 16.0, 8192),
    (16, 100.0, 1.5, 40),
    (32, 10_000.0, 8.0, 2048),
    (10, 1000.0, 1.0, 100),
):
    for way in ("linear", "ntk", "yarn"):
        got = frequencies(d_head, base, factor, way, length)
        where = f"{way}, d {d_head}, base {base:g}, factor {factor:g}, trained {length}"
        assert getattr(got, "shape", None) == (d_head // 2,), (
            f"{where}: {d_head // 2} pairs, got {describe(got)}"
        )
        wanted = []
        for i in range(d_head // 2):
            f = 1 / base ** (2 * i / d_head)
            if way == "linear":
                wanted.append(f / factor)
            elif way == "ntk":
                wanted.append(f / factor ** (2 * i / (d_head - 2)))
            else:
                rounds = length * f / 2 / pi
                if rounds >= 32:
                    wanted.append(f)
                elif rounds <= 1:
                    wanted.append(f / factor)
                else:
                    wanted.append(f / factor + (rounds - 1) / 31 * (f - f / factor))
        ratios = got.double() / torch.tensor(wanted, dtype=torch.double)
        assert close(ratios, torch.ones_like(ratios), 1e-4), (
            f"{where}: divided by what was wanted, your frequencies are "
            f"{[round(ratio, 6) for ratio in ratios.tolist()]}, from the fastest to the "
            "slowest pair"
        )

# %% [markdown]
# ## 7. Three systems (3 points, written)
#
# You may choose full attention with grouped queries, a sliding window in every layer, or linear attention.
# Choose one for each system, or two together, and say what it costs or gives up:
#
# - an assistant that is asked for one number in a contract of a hundred pages;
# - a keyboard on a phone with little memory that suggests the next word of a message;
# - a program that listens to a stream of sensor data for months, and has to tell whether the last hour was like the average so far.

# %% [markdown] written="systems" points=3
# The contract: full attention with grouped queries.
# The number may be anywhere and has to be found exactly; a window does not reach it, and a state of fixed size blurs it with everything else.
# It costs arithmetic that grows with the square of the length and a cache that grows with the length, which grouping divides by H / K.
#
# The keyboard: a sliding window.
# The next word depends mostly on the last few sentences, and memory stays at w positions.
# What lies further back than layers times the window's reach is forgotten.
#
# The stream: linear attention, and a window for the last hour.
# It never ends, so nothing that grows can be kept, and an average is exactly what a sum of fixed size holds; a window alone would know only the last hour.
# Single events from long ago cannot be looked up again.
#
# One point for each: a choice that fits, with its cost.
# Other choices count if the reason is right (for the stream, linear attention alone, in which older values fade, or a running mean beside a window).

# %% [markdown]
# ## 8. A claim (2 points, written)
#
# A company's model has 32 layers, each with a sliding window of 4,096 tokens.
# It claims a *context of 131,072 tokens, since 32 times 4,096*.
# What is true about this, and what is not?
# Describe a test that would tell, and say what its result should be compared with.

# %% [markdown] written="claim" points=2
# It is true that information can travel: each layer reaches 4,095 positions further back, so after 32 layers a position may depend on others about 131,000 back.
# (Exactly 32 · 4,095.)
# But it has to be handed on through 32 layers, each time as part of a mixture, and must have been worth handing on before anybody knew the question.
# That something can arrive does not mean that it does; nothing farther than 4,096 can be looked up directly, and the model must have been trained on such distances.
#
# The test is a needle in a haystack: a fact at many depths in texts of many lengths, its question at the end, and the share of right answers for each distance, above all just below and far above 4,096.
# The share far above 4,096 is compared with the one just below it, and with guessing.
#
# One point: reach in principle as against what is really handed on.
# One point: a test over distances (or depths and lengths) with a comparison to guessing or to short distances.
