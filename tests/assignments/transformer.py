# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.model.attention, llmcourse.model.positions, llmcourse.model.transformer]
# ---

# %% [markdown]
# # Assignment: a transformer block
#
# You build one block of a model of Llama's shape from tensors alone: attention, heads, rotary positions, norm and feed-forward network.
# At the end your block reads a text one token at a time, and gets the same numbers as from the whole text at once.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. Attention | 3 | ★★ | 20 |
# | 2. Heads | 2 | ★ | 10 |
# | 3. Rotary positions | 3 | ★★ | 20 |
# | 4. Norm and network | 2 | ★ | 15 |
# | 5. A block | 3 | ★★ | 20 |
# | 6. A key-value cache | 2 | ★★★ | 25 |
# | 7. The mask (written) | 2 | ★★ | 20 |
# | 8. What the cache keeps, and what a block hands on (written) | 3 | ★★ | 20 |
#
# 20 points in all. Read the chapters [Attention](../attention.ipynb) and [The transformer](../transformer.ipynb) first; the letters are the same here: $B$ sequences, $T$ queries, $S$ keys, $H$ heads of width $d$, and $D = H d$.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has all of this.
# The first code cell locks it away: here you write it yourself.
# Write it without `torch.nn` as well: products, sums and exponentials are enough.
# Functions of torch itself, such as `torch.softmax` and `torch.sigmoid`, are fine.
# (The tests see only results; whoever marks your work reads the code.)

# %% given="setup"
import sys
from math import log

import torch

from llmcourse.classroom.tasks import close, describe, generator, is_pair

for module in ("attention", "positions", "transformer"):
    sys.modules[f"llmcourse.model.{module}"] = None  # this is what you write yourself


def meaning(got, mistakes):
    """Return what is known of the mistakes that make the numbers of a result."""
    if not isinstance(got, torch.Tensor):
        return ""
    numbers = got.flatten().tolist()
    return "".join(
        f"; {text}"
        for known, text in mistakes.items()
        if any(abs(number - known) < 2e-3 for number in numbers)
    )


def some_block():
    """Return a stream x (1, 3, 8) and weights, of no special kind, with F = 3."""
    shapes = dict.fromkeys(("query", "key", "value", "output"), (8, 8))
    shapes |= {"gate": (3, 8), "up": (3, 8), "down": (8, 3), "x": (1, 3, 8)}
    shapes |= {"attention_norm": (8,), "feed_forward_norm": (8,)}
    made = {}
    for i, (name, shape) in enumerate(shapes.items()):
        numbers = torch.arange(torch.Size(shape).numel()) % 89
        made[name] = (numbers * (i + 3) ** 2 % 89 - 44).reshape(shape) / 44
    return made.pop("x"), made


# %% [markdown]
# ## 1. Attention (3 points)
#
# Write `attend(query, key, value, start=0)`: what each position gathers.
#
# $$
# s_{ts} = \frac{q_t \cdot k_s}{\sqrt d}, \qquad
# a_{ts} = \frac{e^{s_{ts}}}{\sum_r e^{s_{tr}}}, \qquad
# c_t = \sum_s a_{ts} v_s,
# $$
#
# where the sums run over the keys that the query may see.
# The keys are at the positions 0, 1, 2, …, and the first query is at the position `start`, the next one at `start + 1`, and so on.
# A query sees the keys at its own position and before it.
# Scores may be so large that $e^s$ overflows; `torch.softmax` takes care of that.
#
# | Name | Shape |
# |---|---|
# | `query` | (…, T, d) |
# | `key` | (…, S, d) |
# | `value` | (…, S, width of a value) |
# | result | (…, T, width of a value) |
#
# The dots are any number of dimensions, for example $B$ and $H$, or none.
#
# An example with $d = 4$: the keys are $(1, 0, 0, 0)$ and $(0, 0, 0, 0)$, the values 8 and 4, and both queries are $(2 \ln 3, 0, 0, 0)$.
# The second query has the scores $\ln 3$ and 0, so its weights are 3/4 and 1/4, and it gathers $\frac34 \cdot 8 + \frac14 \cdot 4 = 7$.
# The first query sees only itself and gathers 8.


# %% answer="attend"
def attend(query, key, value, start=0):
    """Return what each query gathers from the keys at its position and before it."""
    ### BEGIN SOLUTION
    query_at = torch.arange(query.shape[-2]) + start
    allowed = torch.arange(key.shape[-2]) <= query_at[:, None]  # (T, S)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (..., T, S)
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
    return weights @ value
    ### END SOLUTION


# %% test="attend" points=1
query = torch.tensor([[2 * log(3), 0, 0, 0], [2 * log(3), 0, 0, 0]])
key = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
value = torch.tensor([[8.0], [4.0]])
got = attend(query, key, value)
assert isinstance(got, torch.Tensor), f"a tensor was wanted, got {describe(got)}"
assert got.shape == (2, 1), (
    f"two queries gather a value of one number each: shape (2, 1), got {describe(got)}"
)
second = {
    7.6: "7.6 comes from scores that are not divided by the root of d = 4, which is 2",
    6.5359: "6.5359 comes from scores divided by d = 4, not by its root, which is 2",
    8.0: "8 is the value of the first key alone: a query sees its own position, too, "
    "and the softmax runs over keys, not over queries",
    9.0: "9 comes from weights 1 and 1/4: a sum over the last dimension needs keepdim=True, "
    "so that each row is divided by its own sum",
    4.0: "4 comes from the last key alone, or from one sum for all queries: each query "
    "has its own sum, over keys that are not after it",
}
assert close(got[1], torch.tensor([7.0])), (
    "the second query weighs the values by 3/4 and 1/4 and gathers 7; "
    f"got {describe(got[1])}{meaning(got[1], second)}"
)
first = {
    7.0: "7 comes from seeing the future, too",
    6.0: "6 comes from hiding the future after the softmax: hide it before, so that the "
    "weights sum to 1",
}
assert close(got[0], torch.tensor([8.0])), (
    "the first query sees its own position only, so it gathers 8; "
    f"got {describe(got[0])}{meaning(got[0], first)}"
)
query, key = torch.zeros(2, 3), torch.ones(4, 3)
value = torch.tensor([[6.0], [2.0], [1.0], [7.0]])
got = attend(query, key, value, start=2)
early = {
    6.0: "6 is what position 0 gathers: the first query is at the position `start`"
}
assert close(got, torch.tensor([[3.0], [4.0]])), (
    "where all scores are 0, two queries at the positions 2 and 3 gather the mean of "
    "three values, 3, and of four, 4: wanted [[3.0], [4.0]], "
    f"got {describe(got)}{meaning(got, early)}"
)
factor = torch.arange(1.0, 7).reshape(2, 3, 1, 1)  # B 2, H 3: another value in each
got = attend(query.expand(2, 3, 2, 3), key.expand(2, 3, 4, 3), factor * value, start=2)
assert close(got, factor * torch.tensor([[3.0], [4.0]])), (
    "2 sequences of 3 heads, the values 1 to 6 times those before: wanted 1 to 6 times "
    f"[[3.0], [4.0]], shape (2, 3, 2, 1), got {describe(got)}; swap and count the last two "
    "dimensions, from the end"
)

# %% hidden="attend" points=2
# Hidden: batches and heads, a start, values of another width, large and low scores (2 points)
g = generator(1)
cases = (0, 6, 6), (3, 4, 7), (2, 3, 9), (8, 1, 9), (3, 1, 9), (0, 3, 7)
for start, n_queries, n_keys in cases:
    query = torch.randn(2, 3, n_queries, 3, generator=g)
    key = torch.randn(2, 3, n_keys, 3, generator=g)
    value = torch.randn(2, 3, n_keys, 5, generator=g)
    saved = [each.clone() for each in (query, key, value)]
    allowed = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(start)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=allowed
    )
    got = attend(query, key, value, start)
    where = f"{n_queries} queries from position {start} on, {n_keys} keys"
    assert isinstance(got, torch.Tensor), (
        f"{where}: wanted a tensor, got {describe(got)}"
    )
    assert got.shape == wanted.shape, (
        f"{where}: queries of shape (2, 3, {n_queries}, 3) and values 5 wide give "
        f"{tuple(wanted.shape)}, got {describe(got)}"
    )
    assert close(got, wanted), (
        f"{where}: other numbers than torch's; scale by the root of the last dimension, "
        "compare the position of a key with start + t, and take the softmax over keys"
    )
    assert all(map(torch.equal, (query, key, value), saved)), (
        f"{where}: attend must not change its inputs"
    )
    if start == 0:
        assert close(attend(query, key, value), wanted), (
            "without `start` the first query is at position 0"
        )
    got = attend(query[0, 0], key[0, 0], value[0, 0], start)
    assert close(got, wanted[0, 0]), (
        f"{where}, without batch and heads: wanted {describe(wanted[0, 0])}, got {describe(got)}"
    )
    got = attend(query[0], key[0], value[0], start)
    assert close(got, wanted[0]), (
        f"{where}, one dimension before the last two: wanted {describe(wanted[0])}, got "
        f"{describe(got)}"
    )
large = attend(torch.full((2, 1), 300.0), torch.full((2, 1), 300.0), torch.ones(2, 1))
assert close(large, torch.ones(2, 1)), (
    f"scores of 90,000 overflow in e to the power of them: got {describe(large)}, wanted "
    "ones; softmax subtracts the largest score first"
)
wanted = torch.tensor([[1.0], [2.0]])
got = attend(torch.full((2, 1), 300.0), torch.tensor([[-300.0], [300.0]]), wanted)
assert close(got, wanted), (
    "the first query has a very low score with itself, -90,000, and still sees nothing "
    "else; the future is hidden with -inf, before the softmax: wanted [[1.0], [2.0]], "
    f"got {describe(got)}"
)
got = attend(torch.full((2, 1), 300.0), torch.tensor([[150.0], [300.0]]), wanted)
assert close(got, wanted), (
    "the second query has the scores 45,000 and 90,000, so it gathers the second value "
    f"alone: wanted [[1.0], [2.0]], got {describe(got)}"
)

# %% [markdown]
# ## 2. Heads (2 points)
#
# One product makes the queries of all heads at once, side by side: $D = H d$ numbers for each position.
# The first head has the first $d$ of them, the second head the next $d$, and so on.
#
# - Write `split_heads(x, n_heads)`: from (B, T, D) to (B, H, T, d).
# - Write `join_heads(x)`: from (B, H, T, d) back to (B, T, D).
#
# With $D = 4$ and two heads, the position $(1, 2, 3, 4)$ has $(1, 2)$ in the first head and $(3, 4)$ in the second.


# %% answer="heads"
def split_heads(x, n_heads):
    """Return (B, T, D) as (B, H, T, d): each head has a slice of the width."""
    ### BEGIN SOLUTION
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)
    ### END SOLUTION


def join_heads(x):
    """Return (B, H, T, d) as (B, T, D): the heads side by side."""
    ### BEGIN SOLUTION
    return x.transpose(1, 2).flatten(2)
    ### END SOLUTION


# %% test="heads" points=1
x = torch.arange(1, 25).reshape(1, 4, 6)  # B 1, T 4, D 6: 1 to 6, 7 to 12, ...
got = split_heads(x, 2)
assert isinstance(got, torch.Tensor), f"a tensor was wanted, got {describe(got)}"
assert tuple(got.shape) == (1, 2, 4, 3), (
    f"1 sequence, 2 heads, 4 positions, 3 wide: (1, 2, 4, 3), got {tuple(got.shape)}; "
    "cut the width into H parts of d numbers, and then swap T and H"
)
assert got[0, 0].tolist() == [[1, 2, 3], [7, 8, 9], [13, 14, 15], [19, 20, 21]], (
    "the first head has the first half of every position: [[1, 2, 3], [7, 8, 9], "
    f"[13, 14, 15], [19, 20, 21]], got {got[0, 0].tolist()}; a reshape alone mixes "
    "positions: split the width first, and then swap T and H"
)
got = join_heads(torch.stack((x[..., :3], x[..., 3:]), dim=1))
assert isinstance(got, torch.Tensor), f"a tensor was wanted, got {describe(got)}"
assert tuple(got.shape) == (1, 4, 6), (
    f"2 heads, 3 wide, joined: shape (1, 4, 6), got {tuple(got.shape)}"
)
assert torch.equal(got, x), (
    "the heads of one position go side by side: the first position is "
    f"[1, 2, 3, 4, 5, 6], got {got[0, 0].tolist()}; swap H and T back first"
)

# %% hidden="heads" points=1
# Hidden: several sequences, and a round trip (1 point)
x = torch.randn(2, 5, 12, generator=generator(2))
for n_heads in (1, 3, 4, 12):
    got, d = split_heads(x, n_heads), 12 // n_heads
    assert tuple(got.shape) == (2, n_heads, 5, d), (
        f"wanted (B, H, T, d) = {(2, n_heads, 5, d)}, got {describe(got)}"
    )
    for head in range(n_heads):
        wanted = torch.stack([row[:, head * d : head * d + d] for row in x])
        assert torch.equal(got[:, head], wanted), (
            f"head {head} of {n_heads} has the columns {head * d} to {head * d + d - 1}"
        )
    wanted = x.reshape(2, 5, n_heads, d).permute(0, 2, 1, 3)
    back = join_heads(wanted)
    assert close(back, x), (
        f"{n_heads} heads, joined, are what was split: wanted (2, 5, 12), got {describe(back)}"
    )

# %% [markdown]
# ## 3. Rotary positions (3 points)
#
# RoPE turns each pair of coordinates by an angle that grows with the position.
# Pair $i$ consists of the coordinates $i$ and $i + d/2$, for $i = 0, \dots, d/2 - 1$, and at position $t$ it is turned by the angle $\alpha = t \cdot \text{base}^{-2i/d}$:
#
# $$
# x_i' = x_i \cos\alpha - x_{i + d/2} \sin\alpha
# $$
#
# $$
# x_{i + d/2}' = x_i \sin\alpha + x_{i + d/2} \cos\alpha.
# $$
#
# Write `rotate(x, positions, base=10_000.0)`, where `x` is of shape (…, T, d) with an even $d$, and `positions`, of shape (T,), holds the position of each vector.
# The result has the dtype of `x`.
#
# With $d = 4$ and base 10,000 there are two pairs, of the coordinates 0 and 2, and 1 and 3.
# At position 1 the first is turned by 1, the second by $10{,}000^{-1/2} = 0.01$.


# %% answer="rotate"
def rotate(x, positions, base=10_000.0):
    """Return vectors, each turned by angles that grow with its position."""
    ### BEGIN SOLUTION
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / half)
    angles = positions[:, None] * frequencies  # (T, half)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.cat(turned, dim=-1).to(x.dtype)
    ### END SOLUTION


# %% test="rotate" points=1
x = torch.tensor([[1.0, 2.0, 0.0, 0.0]])
got = rotate(x, torch.tensor([0]))
assert close(got, x), (
    f"at position 0 nothing is turned: wanted {describe(x)}, got {describe(got)}"
)
got = rotate(x, torch.tensor([1]))
assert not close(got, x), (
    f"at position 1 both pairs are turned, got {describe(got)} as at position 0; the "
    "position is what `positions` says, not where the vector is in `x`"
)
wanted = torch.tensor([[0.5403, 1.9999, 0.8415, 0.0200]])
turns = {
    -1.1426: "-1.1426 comes from pairs of neighbours: coordinate i belongs to i + d/2",
    0.4546: "0.4546 comes from a second formula that reads what the first has changed: "
    "both read the old numbers",
    -0.8415: "-0.8415 comes from turning backwards: the minus is in the first formula",
    0.1997: "0.1997 comes from an angle of 0.1: the exponent is -2i/d, for i below d/2",
}
assert close(got, wanted, 1e-4), (
    "at position 1 the pair (1, 0) is turned by 1 and the pair (2, 0) by 0.01: wanted "
    f"{describe(wanted)}, got {describe(got)}{meaning(got, turns)}"
)
got = rotate(torch.cat((x, x)), torch.tensor([3, 1]))
wanted = torch.tensor([[-0.9900, 1.9991, 0.1411, 0.0600], wanted[0].tolist()])
assert close(got, wanted, 1e-4), (
    "the same vector at position 3 and at position 1 (in this order): wanted "
    f"{describe(wanted)}, got {describe(got)}; every position has an angle for each pair, so "
    "there are T rows of d/2 angles: positions[:, None] times the frequencies"
)
query, key = (
    torch.tensor([[1.0, -2.0, 3.0, 0.5]]),
    torch.tensor([[0.3, 1.0, -1.0, 2.0]]),
)
scores = [
    float((rotate(query, torch.tensor([t + 3])) * rotate(key, torch.tensor([t]))).sum())
    for t in (0, 5, 40)
]
assert max(scores) - min(scores) < 1e-3, (
    "a query three positions after a key has the same score with it everywhere, "
    f"got {[round(score, 3) for score in scores]} at three places; turn both coordinates "
    "of a pair by the same angle, which is proportional to the position"
)

# %% hidden="rotate" points=2
# Hidden: several heads, any positions, other bases and dtypes; lengths stay (2 points)
g = generator(3)
x = torch.randn(2, 3, 5, 8, generator=g)
saved = x.clone()
positions = torch.randint(0, 3000, (5,), generator=g)
positions[0] = 2911


def turned_by(x, positions, base):
    half = x.shape[-1] // 2
    out = torch.empty_like(x, dtype=torch.double)
    for t, position in enumerate(positions.tolist()):
        for i in range(half):
            angle = torch.tensor(position * base ** (-i / half), dtype=torch.double)
            pair = torch.complex(x[..., t, i].double(), x[..., t, i + half].double())
            pair = pair * torch.polar(torch.ones_like(angle), angle)
            out[..., t, i], out[..., t, i + half] = pair.real, pair.imag
    return out


for base in (10_000.0, 500_000.0, 100.0):
    got, wanted = rotate(x, positions, base), turned_by(x, positions, base)
    assert isinstance(got, torch.Tensor), f"wanted a tensor, got {describe(got)}"
    assert got.shape == x.shape, f"the shape stays (2, 3, 5, 8), got {describe(got)}"
    assert close(got, wanted, 2e-3), (
        f"base {base:g}: pair i turns by t · base^(-2i/d), where t is the position that "
        "`positions` gives, which may be in any order"
    )
    assert close(got.norm(dim=-1), x.norm(dim=-1), 1e-3), "turning keeps the length"
got = rotate(x, positions)
assert close(got, turned_by(x, positions, 10_000.0), 1e-3), (
    "if no base is given it is 10,000"
)
assert torch.equal(x, saved), "rotate must not change its input"
assert got.dtype == torch.float32, f"float32 in, float32 out; got {got.dtype}"
for dtype in (torch.float64, torch.bfloat16):
    got = rotate(x.to(dtype), positions)
    assert got.dtype == dtype, (
        f"the result has the dtype of x: wanted {dtype}, got {got.dtype}"
    )
    assert close(got, turned_by(x.to(dtype), positions, 10_000.0), 5e-2), (
        f"x of {dtype}: other numbers than those of its angles in float32; positions and "
        "frequencies stay as they are, and only the result gets the dtype of x"
    )

# %% [markdown]
# ## 4. Norm and network (2 points)
#
# These two parts work on each position separately.
#
# - Write `rms_norm(x, weight, eps=1e-5)`: with the mean over the last dimension, $\operatorname{norm}(x) = g \odot x \,/\, \sqrt{\frac1D \sum_i x_i^2 + \varepsilon}$.
# - Write `swiglu(x, w_gate, w_up, w_down)`: $W_\text{down} \left(\operatorname{silu}(W_\text{gate}\, x) \odot W_\text{up}\, x\right)$ with $\operatorname{silu}(y) = y / (1 + e^{-y})$.
#
# Matrices are stored as in torch, with one row for each number that comes out: `w_gate` and `w_up` are of shape (F, D), and `w_down` of shape (D, F).
# For `x` of shape (…, D), the product $W x$ of each position is therefore `x @ w.T`.
#
# For example, the norm of $(3, 4, 0, 0)$ divides by $\sqrt{25/4} = 2.5$.


# %% answer="parts"
def rms_norm(x, weight, eps=1e-5):
    """Return each vector, brought to a root mean square of 1, times the weights."""
    ### BEGIN SOLUTION
    mean_square = x.square().mean(dim=-1, keepdim=True)
    return weight * x / (mean_square + eps).sqrt()
    ### END SOLUTION


def swiglu(x, w_gate, w_up, w_down):
    """Return what the feed-forward network makes of each position."""
    ### BEGIN SOLUTION
    gate = x @ w_gate.T
    return (gate * gate.sigmoid() * (x @ w_up.T)) @ w_down.T
    ### END SOLUTION


# %% test="parts" points=1
x = torch.tensor([[3.0, 4, 0, 0], [0, 0, 6, 8], [0, 0, 0, 2], [1, 1, 1, 1]])
got = rms_norm(x, torch.tensor([1.0, 2.0, 1.0, 1.0]))
assert isinstance(got, torch.Tensor), f"a tensor was wanted, got {describe(got)}"
assert close(got, [[1.2, 3.2, 0, 0], [0, 0, 1.2, 1.6], [0, 0, 0, 2], [1, 2, 1, 1]]), (
    "(3, 4, 0, 0) divided by 2.5 is (1.2, 1.6, 0, 0), (0, 0, 6, 8) divided by 5 is "
    "(0, 0, 1.2, 1.6), and the second weight is 2: wanted [[1.2, 3.2, 0, 0], "
    f"[0, 0, 1.2, 1.6], [0, 0, 0, 2], [1, 2, 1, 1]], got {', '.join(map(describe, got))}; "
    "each row is divided by the root of the mean of its own 4 squares, so a mean over the "
    "last dimension needs keepdim=True"
)
got = rms_norm(x[:1], torch.ones(4), 18.75)
assert close(got, torch.tensor([[0.6, 0.8, 0.0, 0.0]])), (
    "with eps = 18.75 the root is that of 25/4 + 18.75 = 25, so (3, 4, 0, 0) becomes "
    f"(0.6, 0.8, 0, 0); got {describe(got)}; eps is added before the root is taken"
)
got = swiglu(
    torch.tensor([[2.0, 5.0]]),
    torch.tensor([[0.0, 0.0], [100.0, 0.0], [-100.0, 0.0]]),
    torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
    torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.01, 0.0]]),
)
assert close(got, torch.tensor([[1000.0, 10.0]]), 1e-3), (
    "the gates are 0, 200 and -200, so silu gives 0, 200 and 0; times the ups 7, 5 and 5 "
    f"that is 0, 1000, 0, and down makes [[1000, 10]] of it; got {describe(got)}"
)

# %% hidden="parts" points=1
# Hidden: random values, vectors so small that eps counts, inputs unchanged (1 point)
g = generator(4)
x, weight = torch.randn(2, 3, 6, generator=g), torch.randn(6, generator=g)
saved = x.clone()
for scale in (1.0, 1e-3, 100.0):
    wanted = torch.nn.functional.rms_norm(scale * x, (6,), weight, eps=1e-5)
    got = rms_norm(scale * x, weight.clone())
    assert close(got, wanted, 1e-4), (
        f"vectors of size {scale:g}: each is divided by the root of (the mean of its own "
        f"squares, plus eps), and eps is 1e-5 if none is given; got {describe(got)}"
    )
wanted = torch.nn.functional.rms_norm(x, (6,), weight, eps=0.5)
kept = weight.clone()
got = rms_norm(x, weight, 0.5)
assert close(got, wanted), "eps is added to the mean square, before the root is taken"
assert torch.equal(weight, kept), "rms_norm must not change the weight"
w_gate, w_up, w_down = (torch.randn(*s, generator=g) for s in ((5, 6), (5, 6), (6, 5)))
linear, silu = torch.nn.functional.linear, torch.nn.functional.silu
wanted = linear(silu(linear(x, w_gate)) * linear(x, w_up), w_down)
kept = [each.clone() for each in (w_gate, w_up, w_down)]
got = swiglu(x, w_gate, w_up, w_down)
assert close(got, wanted, 1e-4), (
    "swiglu: the gate passes through silu, the up does not, and down comes last; "
    f"wanted shape (2, 3, 6), got {describe(got)}"
)
assert torch.equal(x, saved), "neither function may change its input"
assert all(map(torch.equal, (w_gate, w_up, w_down), kept)), (
    "swiglu must not change the matrices"
)

# %% [markdown]
# ## 5. A block (3 points)
#
# A block adds to the residual stream twice, and each part reads a normalised stream:
#
# $$
# h \leftarrow h + \operatorname{attention}(\operatorname{norm}(h))
# $$
#
# $$
# h \leftarrow h + \operatorname{ffn}(\operatorname{norm}(h)).
# $$
#
# Here $\operatorname{attention}(y) = W_O \left[c^1, \dots, c^H\right]$: the contexts $c$ of all heads, side by side, come from the queries $W_Q\, y$, the keys $W_K\, y$ and the values $W_V\, y$.
# Queries and keys, but not values, are turned by their positions 0, 1, 2, …, in every head separately.
# The two norms have weights of their own, and $\varepsilon$ and the base of the rotation have their defaults: $10^{-5}$ and 10,000.
#
# Write `block(x, weights, n_heads)`, from (B, T, D) to (B, T, D), with the functions that you have written.
# The tensor `x` that comes in stays as it is.
# `weights` is a dict:
#
# | Name | Shape | What it is |
# |---|---|---|
# | `attention_norm` | (D,) | $g$ of the norm before attention |
# | `query`, `key`, `value` | (D, D) | $W_Q$, $W_K$, $W_V$ of all heads, one above the other: the first $d$ rows are those of the first head |
# | `output` | (D, D) | $W_O$ |
# | `feed_forward_norm` | (D,) | $g$ of the norm before the network |
# | `gate`, `up` | (F, D) | $W_\text{gate}$, $W_\text{up}$ |
# | `down` | (D, F) | $W_\text{down}$ |


# %% answer="block"
def block(x, weights, n_heads):
    """Return the residual stream after a block, (B, T, D)."""
    ### BEGIN SOLUTION
    seen = rms_norm(x, weights["attention_norm"])
    query, key, value = (
        split_heads(seen @ weights[name].T, n_heads)
        for name in ("query", "key", "value")
    )
    positions = torch.arange(x.shape[1])
    context = attend(rotate(query, positions), rotate(key, positions), value)
    x = x + join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    return x + swiglu(seen, weights["gate"], weights["up"], weights["down"])
    ### END SOLUTION


# %% test="block" points=1
one, zero = torch.eye(4), torch.zeros(4, 4)
weights = {"attention_norm": torch.ones(4), "feed_forward_norm": torch.ones(4)}
weights |= dict.fromkeys(("query", "key", "output", "gate", "up", "down"), zero)
weights["value"] = one
x = torch.tensor([[[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 8.0, 6.0]]])
got = block(x, weights, 2)
assert close(got, x), (
    "where W_O and W_down are 0, nothing is added, and the stream goes through as it is; "
    f"wanted {describe(x)}, got {describe(got)}; add to the stream itself, not to its norm"
)
got = block(x, weights | {"output": one}, 2)
assert close(got[0, 0], torch.tensor([4.2, 5.6, 0.0, 0.0])), (
    "the first position sees itself alone; its value is its norm, (1.2, 1.6, 0, 0), "
    f"which is added to (3, 4, 0, 0); got {describe(got[0, 0])}"
)
assert close(got[0, 1], torch.tensor([0.6, 0.8, 8.8, 6.6])), (
    "where all scores are 0, the second position adds the mean of both norms, "
    f"(0.6, 0.8, 0.8, 0.6), to (0, 0, 8, 6); got {describe(got[0, 1])}"
)
x, weights = some_block()  # B 1, T 3, D 8
saved = x.clone()
got = block(x, weights | {"down": torch.zeros(8, 3)}, 2)
assert torch.equal(x, saved), (
    "block must not change its input; `x += y` does, and `x = x + y` does not"
)
mistakes = {
    0.2228: "0.2228 comes from queries and keys that are not turned",
    0.9693: "0.9693 comes from turning before the heads are split: turn each head",
    3.6201: "3.6201 comes from values that are turned, too",
    0.9029: "0.9029 comes from `x @ w`, where W x is `x @ w.T`",
    -1.1879: "-1.1879 comes from `@ w` for W_O, where W_O c is `c @ w.T`",
    0.6864: "0.6864 comes from queries, keys and values of h: those of norm(h) were wanted",
    -1.9433: "-1.9433 comes from adding to norm(h): add to h itself",
}
wanted = torch.tensor(
    [0.7101, -1.9623, 0.3997, -0.6742, 0.6725, 1.0837, 1.4721, 0.3982]
)
assert close(got[0, 2], wanted, 2e-3), (
    "where only W_down is 0, attention alone is added, and the third position is "
    f"{describe(wanted)}, got {describe(got[0, 2])}{meaning(got[0, 2, :1], mistakes)}"
)
got = block(x, weights, 2)
mistakes = {
    -1.094: "-1.094 comes from a network that reads the norm of the stream before attention",
    0.6433: "0.6433 comes from a network that reads the stream without its norm",
    -0.7395: "-0.7395 comes from `attention_norm` in the place of `feed_forward_norm`",
}
wanted = torch.tensor(
    [-0.0080, -2.2073, 0.6849, 0.1412, 0.0518, 0.9933, 1.9119, 0.8422]
)
assert close(got[0, 2], wanted, 2e-3), (
    "and with the network, which works on the stream after attention, the third position "
    f"is {describe(wanted)}, got {describe(got[0, 2])}{meaning(got[0, 2, :1], mistakes)}"
)


# %% hidden="block" points=2
# Hidden: random weights, several sequences; nobody sees the future (2 points)
def random_weights(d_model, d_ff, g):
    shapes = dict.fromkeys(("query", "key", "value", "output"), (d_model, d_model))
    shapes |= {"gate": (d_ff, d_model), "up": (d_ff, d_model), "down": (d_model, d_ff)}
    shapes |= {"attention_norm": (d_model,), "feed_forward_norm": (d_model,)}
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


def unchanged(weights, kept):
    """Whether a dict of tensors is as it was."""
    return list(weights) == list(kept) and all(
        torch.equal(weights[name], kept[name]) for name in kept
    )


def whole_block(x, weights, n_heads):
    """Compute a block head by head, in other words than the task's."""
    w, n = weights, x.shape[1]
    norm = torch.nn.functional.rms_norm
    seen = norm(x, x.shape[-1:], w["attention_norm"], eps=1e-5)
    d, added = x.shape[-1] // n_heads, torch.zeros_like(x)
    for head in range(n_heads):
        rows = slice(head * d, head * d + d)
        q, k, v = (seen @ w[name][rows].T for name in ("query", "key", "value"))
        q, k = (turned_by(each, torch.arange(n), 10_000.0).float() for each in (q, k))
        context = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True
        )
        added = added + context @ w["output"][:, rows].T
    x = x + added
    seen = norm(x, x.shape[-1:], w["feed_forward_norm"], eps=1e-5)
    gate = torch.nn.functional.silu(seen @ w["gate"].T)
    return x + (gate * (seen @ w["up"].T)) @ w["down"].T


g = generator(5)
for n_heads, d_model, d_ff in ((3, 12, 7), (1, 6, 10), (2, 8, 5)):
    weights = random_weights(d_model, d_ff, g)
    x = torch.randn(2, 5, d_model, generator=g)
    saved, kept = x.clone(), {name: each.clone() for name, each in weights.items()}
    wanted = whole_block(x, weights, n_heads)
    got = block(x, weights, n_heads)
    assert close(got, wanted, 1e-3), (
        f"{n_heads} heads, D {d_model}, F {d_ff}: wanted shape {tuple(wanted.shape)}, got "
        f"{describe(got)}, or other numbers; both norms come before their part, queries and "
        "keys are turned after the heads are split, and the network reads the new stream"
    )
    assert torch.equal(x, saved), "block must not change its input"
    assert unchanged(weights, kept), "block must not change the dict of weights"
    x[:, 3:] = 0.5
    got = block(x, weights, n_heads)
    assert close(got[:, :3], wanted[:, :3], 1e-3), (
        "two later tokens were changed, and earlier positions have moved: they must not "
        "see the future"
    )

# %% [markdown]
# ## 6. A key-value cache (2 points)
#
# Earlier positions never change when a text goes on, so their keys and values can be kept.
# Write `cached_block(x, weights, n_heads, cache)`: it reads only new positions, and returns two things, the new positions' stream and the new cache.
#
# - `cache` is a pair `(key, value)` of tensors of shape (B, H, S, d), of the $S$ positions that were read before.
#   At the beginning $S$ is 0.
# - `x`, of shape (B, T, D), holds the positions $S$, …, $S + T - 1$; so the `start` of your `attend` is $S$.
# - New keys and values are put after the old ones, along the dimension of $S$.
# - Keys are stored after they have been turned, so none is turned twice.
# - The cache that comes in stays as it is; the one that is returned holds $S + T$ positions.


# %% answer="cached-block"
def cached_block(x, weights, n_heads, cache):
    """Return the stream of new positions after a block, and the longer cache."""
    ### BEGIN SOLUTION
    seen = rms_norm(x, weights["attention_norm"])
    query, key, value = (
        split_heads(seen @ weights[name].T, n_heads)
        for name in ("query", "key", "value")
    )
    start = cache[0].shape[2]
    positions = torch.arange(x.shape[1]) + start
    key = torch.cat((cache[0], rotate(key, positions)), dim=2)
    value = torch.cat((cache[1], value), dim=2)
    context = attend(rotate(query, positions), key, value, start)
    x = x + join_heads(context) @ weights["output"].T
    seen = rms_norm(x, weights["feed_forward_norm"])
    x = x + swiglu(seen, weights["gate"], weights["up"], weights["down"])
    return x, (key, value)
    ### END SOLUTION


# %% test="cached-block" points=1
x, weights = some_block()  # as in the test of block
cache = torch.zeros(1, 2, 0, 4), torch.zeros(1, 2, 0, 4)
got = cached_block(x, weights, 2, cache)
assert is_pair(got), (
    f"two things were wanted, the stream and the new cache; got {describe(got)}"
)
whole, longer = got
assert isinstance(whole, torch.Tensor), (
    f"the first is the stream, a tensor; got {describe(whole)}"
)
assert is_pair(longer), (
    f"the second is the cache, a pair (key, value); got {describe(longer)}"
)
wanted = torch.tensor(
    [-0.0080, -2.2073, 0.6849, 0.1412, 0.0518, 0.9933, 1.9119, 0.8422]
)
assert close(whole[0, 2], wanted, 2e-3), (
    "three tokens, read at once with an empty cache, come out as from block: the third is "
    f"{describe(wanted)}, got {describe(whole[0, 2])}"
)
assert len(longer) == 2, f"a cache is a pair (key, value), got {len(longer)} things"
for part, name in zip(longer, ("keys", "values")):
    assert tuple(part.shape) == (1, 2, 3, 4), (
        f"after 3 tokens the {name} are of shape (1, 2, 3, 4), got {tuple(part.shape)}"
    )
wanted = torch.tensor([1.3084, 1.1186, -0.2151, 2.0056])
assert close(longer[0][0, 1, 2], wanted, 2e-3), (
    f"the key of the third position in the second head is {describe(wanted)}, got "
    f"{describe(longer[0][0, 1, 2])}; the cache holds keys as they are after they have been "
    "turned, and old keys are not turned again"
)
wanted = torch.tensor([-1.7960, -0.1565, 1.0010, -0.9649])
assert close(longer[1][0, 1, 2], wanted, 2e-3), (
    f"the value of the third position in the second head is {describe(wanted)}, got "
    f"{describe(longer[1][0, 1, 2])}; values come second, and are not turned"
)
for t in range(3):
    got, cache = cached_block(x[:, t : t + 1], weights, 2, cache)
    for part, all_at_once, name in zip(cache, longer, ("keys", "values")):
        wanted = all_at_once[:, :, : t + 1]
        assert part.shape == wanted.shape, (
            f"after {t + 1} tokens, read one by one, the {name} are of shape "
            f"{tuple(wanted.shape)}, got {tuple(part.shape)}"
        )
        assert close(part, wanted, 1e-4), (
            f"after {t + 1} tokens, read one by one, the second head's {name} are the same "
            f"as when all are read at once: {describe(wanted[0, 1])}, got {describe(part[0, 1])}; "
            "new ones come after the old, a new position is the length of the cache, and "
            "old keys are not turned again"
        )
    assert close(got, whole[:, t : t + 1], 1e-4), (
        f"token {t}, read alone with the cache of {t} others, must come out as it does "
        f"when all are read at once; wanted {describe(whole[:, t])}, got {describe(got)}; the query "
        "is turned by its position, which is the length of the cache, and that is also "
        "the `start` of attend"
    )

# %% hidden="cached-block" points=1
# Hidden: several tokens at once, several sequences, the old cache unchanged (1 point)
g = generator(6)
weights = random_weights(12, 7, g)
kept = {name: each.clone() for name, each in weights.items()}
x = torch.randn(2, 9, 12, generator=g)
before = x.clone()
whole = whole_block(x, weights, 3)
for cuts in ((9,), (4, 5), (1, 3, 1, 4)):
    cache, read = (torch.zeros(2, 3, 0, 4), torch.zeros(2, 3, 0, 4)), 0
    for n in cuts:
        saved = [part.clone() for part in cache]
        got, longer = cached_block(x[:, read : read + n], weights, 3, cache)
        assert close(got, whole[:, read : read + n], 1e-3), (
            f"{n} tokens after {read} others: wanted shape (2, {n}, 12), got {describe(got)}, "
            "or other numbers; the first new query is at the length of the cache, in the "
            "rotation and in the mask"
        )
        assert all(map(torch.equal, cache, saved)), "the old cache must not be changed"
        assert torch.equal(x, before), "cached_block must not change its input"
        assert unchanged(weights, kept), "cached_block must not change the weights"
        cache, read = longer, read + n
seen = torch.nn.functional.rms_norm(x, (12,), weights["attention_norm"], eps=1e-5)
key = (seen @ weights["key"].T).reshape(2, 9, 3, 4).transpose(1, 2)
value = (seen @ weights["value"].T).reshape(2, 9, 3, 4).transpose(1, 2)
assert close(cache[0], turned_by(key, torch.arange(9), 10_000.0), 1e-3), (
    "the first part of the cache holds the keys, turned by their own positions"
)
assert close(cache[1], value, 1e-3), (
    "the second part of the cache holds the values, which are not turned"
)

# %% [markdown]
# ## 7. The mask (2 points, written)
#
# Two students have made a mistake in the mask.
#
# - Ana has none: every position sees all positions.
# - Ben multiplies the weights by 0 where the key is in the future, *after* the softmax, and changes nothing else.
#
# Both train on next-token prediction.
# For each, say what is wrong with what a position gathers, and whether and how you would notice from the training loss. (1 point)
# Then describe one test of a few lines that finds both mistakes before any training: what do you change, and what must not move? (1 point)

# %% [markdown] written="mask" points=2
# Ana's position t gathers from position t + 1, whose token is exactly what it has to predict.
# So the model learns to copy it, and the training loss falls far below what is possible, towards 0, which should make you suspicious.
#
# Ben's weights no longer sum to one: the softmax was taken over the future too, so the early positions gather too little, by a factor that depends on the scores of tokens that they should not know.
# So a little of the future still leaks, through the denominator, and the loss looks plausible: it hardly shows anything.
#
# The test: read a text, change its last token, read it again, and compare what comes out at all earlier positions.
# Nothing may move there; with random weights a lot moves with Ana's mask, and a little with Ben's.
# (Where $W_Q$ or $W_K$ is 0, all scores are 0, and Ben's mistake does not show.)
# (Appending a token and comparing finds both as well.)
#
# One point: Ana's model copies its target, and the loss is too good to be true; Ben's rows do not sum to one, the future has influence through the sum, and the loss hardly shows it.
# One point: a late token is changed, or appended, and what comes out before it is compared.
# A test that looks only at the last position finds neither.

# %% [markdown]
# ## 8. What the cache keeps, and what a block hands on (3 points, written)
#
# Your cache keeps keys and values, but no queries.
# Why are old queries never needed again? (1 point)
# And why could a model of several blocks without a causal mask not use such a cache? (1 point)
#
# A text repeats itself: `A B … A`, and the model should write `B`.
# The chapter *The transformer* shows two heads in two blocks that do this together.
# What does the first head leave in the stream at `B`, who reads it, and why is one block not enough? (1 point)

# %% [markdown] written="cache" points=3
# The query of a position is used once, to compute what that position gathers; this never changes, and new tokens ask with their own queries.
# Keys and values are needed again by every later position.
#
# Without the mask a new token changes what every earlier position gathers, so the stream of the earlier positions changes after the first block, and with it their keys and values in all later blocks.
# What was kept would be out of date, and everything would have to be read again.
#
# The first head looks one place back: at `B` it adds to the stream that an `A` came before.
# In the second block the key of that position is made from this stream, so the query of the last `A`, which asks for a place with an `A` before it, finds it, and the value brings `B`.
# In a model of one block keys are made from the token and its place alone; they do not know what came before them.
#
# One point: a query serves its own position only, once.
# One point: without the mask old positions' streams change, so from the second block on the kept keys and values are wrong.
# (Only those of the first block would stay right.)
# One point: the token before is written at `B` by the first block, and read through the keys of the second; the keys of a single block cannot know it.
