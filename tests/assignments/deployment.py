# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked:
#       - llmcourse.model.generation
#       - llmcourse.model.quantization
#       - llmcourse.serving.answers
#       - llmcourse.serving.batching
# ---

# %% [markdown]
# # Assignment: the parts of a service
#
# A service draws tokens, turns them into text as they come, shares its slots among many callers, keeps its weights small, and says no in time.
# You write each of these parts separately.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. The next token | 3 | ★★ | 20 |
# | 2. Text that comes in bytes | 2 | ★ | 10 |
# | 3. Strings that end an answer | 3 | ★★★ | 25 |
# | 4. Who has which slot | 3 | ★★ | 25 |
# | 5. Four bits | 2 | ★★★ | 20 |
# | 6. Limits | 2 | ★★ | 15 |
# | 7. Explain (written) | 5 | ★★ | 25 |
#
# 20 points in all. Read the chapter [Deployment](../deployment.ipynb) first.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has all of this, too. The first code cell locks it away: here you write it yourself.

# %% given="setup"
import codecs
import sys
from fractions import Fraction
from math import exp

import torch

from llmcourse.classroom.tasks import close, describe, generator, is_pair

for module in (
    "llmcourse.model.generation",
    "llmcourse.model.quantization",
    "llmcourse.serving.answers",
    "llmcourse.serving.batching",
):
    sys.modules[module] = None  # this is what you write yourself


# %% [markdown]
# ## 1. The next token (3 points)
#
# Write `next_token_probs(logits, temperature, top_k, top_p)`: from the logits (V,) of all tokens to the probabilities (V,) with which the next one is drawn.
#
# 1. The logits are divided by `temperature` and go through a softmax. At temperature 0 the largest logit gets the probability 1, whatever `top_k` and `top_p` are.
# 2. If `top_k` (at least 1) is not `None`, only the `top_k` most probable tokens stay (all, if there are fewer), and their probabilities are made to sum to 1 again.
# 3. Then, if `top_p` (above 0, at most 1) is not `None`, go through the tokens that are left, the most probable first, and keep them until their sum reaches `top_p`. The token that reaches it is also kept, so there is always one. Their probabilities are made to sum to 1 again.
#
# Among equal logits, the one with the smaller id comes first: `argsort(descending=True, stable=True)` does that.
# The logits that come in stay as they are; a logit may be $-\infty$.
#
# For the probabilities 0.5, 0.3, 0.2 and `top_p=0.6` the first two stay: 0.625, 0.375, 0.


# %% answer="next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
    """Return the probabilities that the next token is drawn with."""
    ### BEGIN SOLUTION
    if temperature == 0:
        temperature, top_k = 1.0, 1
    order = logits.argsort(descending=True, stable=True)
    kept = (logits[order] / temperature).softmax(dim=0)
    if top_k is not None:
        kept[top_k:] = 0.0
        kept = kept / kept.sum()
    if top_p is not None:
        kept[kept.cumsum(dim=0) - kept >= top_p] = 0.0
        kept = kept / kept.sum()
    probs = torch.zeros_like(logits)
    probs[order] = kept
    return probs
    ### END SOLUTION


# %% test="next-token-probs" points=1
logits = torch.tensor([0.5, 0.3, 0.2]).log()
for temperature, top_k, top_p, want in (
    (1.0, None, None, [0.5, 0.3, 0.2]),
    (0.5, None, None, [25 / 38, 9 / 38, 4 / 38]),
    (0.0, None, None, [1.0, 0.0, 0.0]),
    (1.0, 2, None, [0.625, 0.375, 0.0]),
    (1.0, None, 0.6, [0.625, 0.375, 0.0]),
    (1.0, None, 0.4, [1.0, 0.0, 0.0]),
):
    got = next_token_probs(logits, temperature, top_k, top_p)
    assert close(got, want), (
        f"temperature {temperature}, top_k {top_k}, top_p {top_p}: wanted {want}, got {got}"
    )

logits = torch.tensor([0.2, 0.1, 0.4, 0.3]).log()  # not in order
for top_k, top_p, want, why in (
    (2, None, [0, 0, 4 / 7, 3 / 7], "the tokens 2 and 3 stay, at their own places"),
    (
        None,
        0.5,
        [0, 0, 4 / 7, 3 / 7],
        "0.4 is below 0.5, so the 0.3 that reaches it stays",
    ),
    (2, 0.5, [0, 0, 1, 0], "top_k makes 4/7 of 0.4, which is enough for top_p"),
):
    got = next_token_probs(logits, 1.0, top_k, top_p)
    assert close(got, want), (
        f"probabilities 0.2, 0.1, 0.4, 0.3, top_k {top_k}, top_p {top_p}: {why}; wanted "
        f"{want}, got {got}"
    )

# %% hidden="next-token-probs" points=2
# Hidden: random logits in any order, all three at once, ties, -inf, large logits (2 points)
for logits in 2 * torch.randn(12, 9, generator=generator(1)):
    logits[4] = float("-inf")
    before = logits.clone()
    for temperature, top_k, top_p in (
        (0.7, None, None),
        (1.6, 4, None),
        (0.9, None, 0.83),
        (1.3, 5, 0.71),
        (2.0, 3, 0.45),
        (1.0, 40, 1.0),
        (0.0, 3, 0.5),
    ):
        scale = temperature or 1e-3
        ids = sorted(range(9), key=lambda i: -logits[i].item())[: top_k or 9]
        weights = [exp((logits[i] - logits.max()).item() / scale) for i in ids]
        want, reached = torch.zeros(9), 0.0
        for i, weight in zip(ids, weights):
            if reached < (top_p or 2.0):
                want[i] = weight
            reached += weight / sum(weights)
        want /= want.sum()
        got = next_token_probs(logits, temperature, top_k, top_p)
        assert close(got, want), (
            f"logits {logits}, temperature {temperature}, top_k {top_k}, top_p {top_p}: "
            f"wanted {want}, got {got}"
        )
    assert torch.equal(logits, before), "next_token_probs must not change the logits"
same = torch.zeros(4)
assert close(next_token_probs(same, 1.0, 2, None), [0.5, 0.5, 0, 0]), (
    "of equal logits those with the smaller ids stay, and no more than top_k"
)
assert close(next_token_probs(same, 1.0, None, 0.5), [0.5, 0.5, 0, 0]), (
    "two tokens of 1/4 reach a top_p of 1/2, and the third is not needed"
)
got = next_token_probs(torch.zeros(500), 1.0, 3, None)
assert got.nonzero().flatten().tolist() == [0, 1, 2], (
    f"of 500 equal logits the first three stay, got {got.nonzero().flatten()}; a sort "
    "keeps the order of equals only if it is told to: stable=True"
)
got = next_token_probs(torch.zeros(500), 1.0, None, 0.005)
assert got.nonzero().flatten().tolist() == [0, 1, 2], (
    "of 500 equal logits the first three reach a top_p of 0.005, got "
    f"{got.nonzero().flatten()}; equals are in the order of their ids here, too"
)
got = next_token_probs(torch.tensor([0.0, 0.1]), 0.1, None, None)
assert close(got, [1 / (1 + exp(1)), exp(1) / (1 + exp(1))]), (
    "the logits 0 and 0.1 are 0 and 1 at temperature 0.1, which is low but not 0: wanted "
    f"[0.2689, 0.7311], got {describe(got)}"
)
assert close(next_token_probs(same, 0.0, None, None), [1.0, 0, 0, 0]), (
    "at temperature 0 the first of the largest"
)
got = next_token_probs(torch.tensor([0.0, 2000.0, 1999.0]), 1.0, None, None)
assert close(got, [0.0, exp(1) / (1 + exp(1)), 1 / (1 + exp(1))]), (
    f"logits of 2000 must not overflow, got {got}"
)

# %% [markdown]
# ## 2. Text that comes in bytes (2 points)
#
# A token is a run of bytes. The letter `é` is two bytes, which may be in two tokens.
# A stream must not send half a character, but must not wait longer than it has to.
# Write `text_pieces(tokens)`: from a list of `bytes` to a list of strings, one for each token and one more.
#
# - The string of a token is all the text that is complete with it and has not been sent yet; it may be empty.
# - The last string is what is left at the end: `\ufffd` for a character that was never completed, otherwise empty.
# - What is not valid UTF-8 becomes `\ufffd` as well.
#
# `codecs.getincrementaldecoder("utf-8")`, called with `errors="replace"`, makes an object that keeps half a character until the rest comes: `decoder.decode(data)`, and `decoder.decode(b"", final=True)` at the end.
#
# `[b"caf", b"\xc3", b"\xa9!"]` gives `["caf", "", "é!", ""]`.


# %% answer="text-pieces"
def text_pieces(tokens):
    """Return the text that each token completes, and what is left in the end."""
    ### BEGIN SOLUTION
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces = [decoder.decode(token) for token in tokens]
    return [*pieces, decoder.decode(b"", final=True)]
    ### END SOLUTION


# %% test="text-pieces" points=1
got = text_pieces([b"caf", b"\xc3", b"\xa9!"])
assert got == ["caf", "", "é!", ""], (
    "the byte c3 alone is half of é: nothing is sent for it, and é comes with the next "
    f"token; got {got}"
)

# %% hidden="text-pieces" points=1
# Hidden: several scripts cut anywhere, invalid bytes, an end in the middle (1 point)
assert text_pieces([]) == [""], "no tokens: only what is left, which is nothing"
got = text_pieces([b"a\xf0\x9f", b"\x99\x82", b"\xe8"])
assert got == ["a", "🙂", "", "\ufffd"], (
    f"🙂 is complete with the second token, and e8 never is; got {got}"
)
got = text_pieces([b"\xe8", b"a"])
assert got == ["", "\ufffda", ""], (
    f"with the a it is certain that e8 is never completed: both are sent; got {got}"
)
got = text_pieces([b"x", b"\xff", b"y"])
assert got == ["x", "\ufffd", "y", ""], f"one wrong byte spoils only itself; got {got}"
got = text_pieces([b"\xff\xc3", b"\xa9"])
assert got == ["\ufffd", "é", ""], (
    f"ff is wrong, and c3 after it is half of é, which a9 completes; got {got}"
)
data = "žluťoučký kůň, 語言模型 🙂🙃 ok".encode()
cuts = torch.randint(0, len(data), (14,), generator=generator(2)).sort().values.tolist()
tokens = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]
copies = list(tokens)
got = text_pieces(copies)
assert copies == tokens, "text_pieces must not change the tokens"
assert len(got) == 16, f"15 tokens: 15 strings and one more, got {len(got)}"
for n in range(15):
    want = b"".join(tokens[: n + 1]).decode("utf-8", errors="ignore")
    sent = "".join(got[: n + 1])
    assert sent == want, f"after {n + 1} tokens {want!r} is complete, sent was {sent!r}"

# %% [markdown]
# ## 3. Strings that end an answer (3 points)
#
# A caller may name strings at which an answer ends, such as `"\n\n"` or `"User:"`.
# They may begin in one piece of the text and end in another, and no part of one may be sent.
# Write `until_stop(pieces, stops)`: the pair `(sent, stopped)`.
#
# `pieces` is a list of strings, in the order in which they come, and `stops` a list of strings, none of them empty.
# For each piece, `sent` has the text that can be sent at that point: everything so far that has not been sent, **except a last part that might be the beginning of a stop string**.
# As soon as a stop string is complete, the last element of `sent` is what came before it, `stopped` is `True`, and the other pieces are not read.
# (If one piece completes several, the one that begins first counts.)
# If no stop string comes, `stopped` is `False`, and `sent` has one more element: what had been held back.
#
# Take the pieces `"one, t"`, `"wo, th"`, `"ree"` and the stop string `", three"`.
# After the first piece, `", t"` might go on with `hree`, so only `"one"` is sent.
# Then `", two"` is sent, and `", th"` is held back.
# Then the stop string is complete, and nothing more is sent: `(["one", ", two", ""], True)`.


# %% answer="until-stop"
def until_stop(pieces, stops):
    """Return what can be sent with each piece, and whether a stop string came."""
    ### BEGIN SOLUTION
    sent, held = [], ""
    for piece in pieces:
        text = held + piece
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            return [*sent, text[: min(found)]], True
        begun = [stop[:n] for stop in stops for n in range(len(stop))]
        held = max((end for end in begun if text.endswith(end)), key=len, default="")
        sent.append(text.removesuffix(held))
    return [*sent, held], False
    ### END SOLUTION


# %% test="until-stop" points=1
got = until_stop(["one, t", "wo, th", "ree"], [", three"])
assert is_pair(got), f"a pair, got {describe(got)}"
assert tuple(got) == (["one", ", two", ""], True), (
    f"', t' and ', th' might be the beginning of ', three'; got {got}"
)
got = until_stop(["Hi", "!\n"], ["\n\n"])
assert tuple(got) == (["Hi", "!", "\n"], False), (
    "one line break might be the first of two, so it is held back; at the end of the "
    f"text it is sent; got {got}"
)

# %% hidden="until-stop" points=2
# Hidden: no stop strings, several, overlapping beginnings, random texts cut anywhere (2 points)
got = until_stop(["a", "", "b"], [])
assert tuple(got) == (["a", "", "b", ""], False), f"nothing to stop at, got {got}"
assert tuple(until_stop([], ["x"])) == ([""], False), "no pieces: nothing was held back"
got = until_stop(["aab", "x"], ["aabaac", "bx"])
assert tuple(got) == (["", "aa"], True), (
    "all of aab may begin aabaac, so it is held back; then bx is complete, and aa is "
    f"sent; got {got}"
)
got = until_stop(["no", "w then stop it"], ["stop", "then"])
assert tuple(got) == (["no", "w "], True), (
    f"both are in the second piece, and 'then' begins first; got {got}"
)
pieces, stops = ["xabcd", "e"], ["abcd", "bc"]
got = until_stop(pieces, stops)
assert tuple(got) == (["x"], True), (
    f"abcd begins first, though bc inside of it ends first: 'x' is sent, got {got}"
)
assert (pieces, stops) == (["xabcd", "e"], ["abcd", "bc"]), (
    "until_stop must not change its two lists"
)
got = until_stop(["ab", "c", "x"], ["abcd", "bc"])
assert tuple(got) == (["", "a"], True), (
    "with the second piece bc is complete, so the answer ends, though abcd might have "
    f"followed: a is sent, got {got}"
)
got = until_stop(["abc", ".d"], ["."])
assert tuple(got) == (["abc", ""], True), (
    f"a stop string is text, not a pattern: '.' stops at '.' alone, got {got}"
)
for number in range(60):
    draw = generator(100 + number)
    text = "".join("ab-"[i] for i in torch.randint(0, 3, (14,), generator=draw))
    sizes = torch.randint(0, 4, (9,), generator=draw).tolist()
    pieces = [text[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(9)]
    stops = [["ab-a", "bb"], ["aab", "-a-", "b-bb"], ["abab"]][number % 3]
    want, stopped, done = [], False, 0
    for n in range(9):
        read = text[: sum(sizes[: n + 1])]
        starts = [i for i in range(len(read)) if read.startswith(tuple(stops), i)]
        stopped = bool(starts)
        safe = min(starts) if stopped else len(read)
        for i in range(len(read), done - 1, -1):
            if not stopped and any(stop.startswith(read[i:]) for stop in stops):
                safe = i
        want.append(read[done:safe])
        done = safe
        if stopped:
            break
    want += [] if stopped else [read[done:]]
    copies = list(pieces), list(stops)
    got = until_stop(*copies)
    assert copies == (pieces, stops), "until_stop must not change its two lists"
    assert tuple(got) == (want, stopped), (
        f"pieces {pieces}, stop strings {stops}: wanted {(want, stopped)}, got {got}"
    )

# %% [markdown]
# ## 4. Who has which slot (3 points)
#
# Requests come and go, and each slot writes one token per step.
# Write `timeline(requests, n_slots)`: a list of steps, each a list that says for every slot which request it writes for, or `None`.
#
# A request is a pair `(arrival, n_tokens)`: it is there from step `arrival` on, and needs at least one token.
# Steps are counted from 1.
# At the beginning of a step the free slots are given to the waiting requests, slot 0 first.
# Requests get them in order of arrival, and those that arrived together in the order of the list.
# A request keeps its slot until it has all its tokens; the slot is free for the **next** step.
# Steps with no requests are also in the list; it ends with the last token.
#
# `[(1, 2), (1, 1), (2, 2)]` with two slots: request 1 is done after one step, and its slot goes to request 2: `[[0, 1], [0, 2], [None, 2]]`.


# %% answer="timeline"
def timeline(requests, n_slots):
    """Return for each step which request each slot writes for."""
    ### BEGIN SOLUTION
    waiting = sorted(range(len(requests)), key=lambda i: requests[i][0])
    left = [n for _, n in requests]
    steps = []
    while waiting or any(left):
        last = steps[-1] if steps else [None] * n_slots
        now = [i if i is not None and left[i] else None for i in last]
        for slot in range(n_slots):
            arrived = waiting and requests[waiting[0]][0] <= len(steps) + 1
            if now[slot] is None and arrived:
                now[slot] = waiting.pop(0)
        for i in now:
            if i is not None:
                left[i] -= 1
        steps.append(now)
    return steps
    ### END SOLUTION


# %% test="timeline" points=1
got = timeline([(1, 2), (1, 1), (2, 2)], 2)
assert got == [[0, 1], [0, 2], [None, 2]], (
    f"wanted [[0, 1], [0, 2], [None, 2]], step by step; got {got}"
)
got = timeline([(1, 2), (1, 7), (1, 3), (1, 1), (1, 4)], 2)
assert [row[0] for row in got] == [0, 0, 2, 2, 2, 3, 4, 4, 4, 4], (
    f"slot 0 of the chapter's example has A A C C C D E E E E; got {got}"
)
got = timeline([(5, 1), (2, 1)], 1)
assert got == [[None], [1], [None], [None], [0]], (
    "request 1 arrives at step 2 and request 0 at step 5, so nobody is there in the steps "
    f"1, 3 and 4: wanted [[None], [1], [None], [None], [0]], got {got}"
)

# %% hidden="timeline" points=2
# Hidden: arrivals in any order, steps without requests, one slot, many random requests (2 points)
assert timeline([], 3) == [], "no requests, no steps"
got = timeline([(4, 1), (2, 1)], 1)
assert got == [[None], [1], [None], [0]], (
    f"steps in which nobody is there count, and the first to arrive is first: got {got}"
)
got = timeline([(1, 1)], 3)
assert got == [[0, None, None]], (
    f"free slots are None, slot 0 is taken first: got {got}"
)
for n_slots, number in ((1, 0), (2, 1), (3, 2), (5, 3)):
    draw = generator(20 + number)
    times = torch.randint(1, 26, (14,), generator=draw).tolist()
    sizes = torch.randint(1, 9, (14,), generator=draw).tolist()
    requests = list(zip(times, sizes))
    copy = list(requests)
    free, table = [1] * n_slots, {}
    for i in sorted(range(14), key=lambda i: (times[i], i)):
        start = max(times[i], min(free))
        slot = next(s for s in range(n_slots) if free[s] <= start)
        table |= {(step, slot): i for step in range(start, start + sizes[i])}
        free[slot] = start + sizes[i]
    want = [[table.get((t, s)) for s in range(n_slots)] for t in range(1, max(free))]
    got = timeline(requests, n_slots)
    assert requests == copy, "timeline must not change the requests"
    assert got == want, (
        f"{n_slots} slots, requests {requests}: wanted {want}, got {got}"
    )

# %% [markdown]
# ## 5. Four bits (2 points)
#
# Write `quantize4(weight, group)`: a matrix (rows, columns) as whole numbers from −7 to 7, with a scale for every `group` neighbours in a row.
# Return the pair `(packed, scale)`.
#
# - `scale` has the shape (rows, columns / group) and the dtype of the weight. It is the largest absolute value of the group, divided by 7, or 1 if all weights of the group are 0.
# - A weight becomes the nearest whole number to weight / scale.
# - Two neighbouring numbers share a byte: 8 is added to both, which gives 1 to 15, and the byte is the first plus 16 times the second. `packed` is `torch.uint8`, (rows, columns / 2).
#
# Also write the way back, `dequantize4(packed, scale)`: the matrix of number · scale, of the scale's dtype.
# `columns` is a multiple of `group`, and even; `group` may be odd.
#
# The row 7, −2, 0, 1 with a group of 2 has the scales 1 and 1/7, and the numbers 7, −2, 0, 7.
# Its bytes are $15 + 16 \cdot 6 = 111$ and $8 + 16 \cdot 15 = 248$.


# %% answer="quantize4"
def quantize4(weight, group):
    """Return a matrix as bytes of two numbers each, and the scale of each group."""
    ### BEGIN SOLUTION
    groups = weight.unflatten(1, (-1, group))
    scale = groups.abs().amax(dim=2) / 7
    scale = scale.where(scale > 0, 1.0)
    numbers = (groups / scale[:, :, None]).round().flatten(1) + 8
    packed = numbers[:, 0::2] + 16 * numbers[:, 1::2]
    return packed.to(torch.uint8), scale
    ### END SOLUTION


# %% answer="dequantize4"
def dequantize4(packed, scale):
    """Return the matrix that the bytes and scales stand for."""
    ### BEGIN SOLUTION
    numbers = torch.stack((packed % 16, packed // 16), dim=2).flatten(1)
    groups = numbers.unflatten(1, (scale.shape[1], -1)).to(scale.dtype) - 8
    return (groups * scale[:, :, None]).flatten(1)
    ### END SOLUTION


# %% test="four-bits" points=1
got = quantize4(torch.tensor([[7.0, -2, 0, 1]]), 2)
assert is_pair(got), f"a pair, got {describe(got)}"
packed, scale = got
assert close(scale, [[1.0, 1 / 7]]), f"the largest are 7 and 1, over 7; got {scale}"
assert packed.tolist() == [[111, 248]], (
    f"numbers 7, -2 and 0, 7; plus 8: 15, 6 and 8, 15; 15 + 16 · 6 = 111; got {packed}"
)
got = dequantize4(packed, scale)
assert close(got, [[7.0, -2, 0, 1]]), f"and back: 7, -2, 0, 1; got {got}"
weight = torch.tensor([[7.0, 2.6, -2.6, -14, 0, 2], [0.0, 0, 0, 3.5, 1.4, -0.2]])
packed, scale = quantize4(weight, 3)
assert close(scale, [[1.0, 2], [1, 0.5]]), (
    f"two rows of two groups: 7/7, 14/7, then 1 for a group of zeros, 3.5/7; got {scale}"
)
assert packed.tolist() == [
    [15 + 16 * 11, 5 + 16, 8 + 16 * 9],
    [136, 8 + 16 * 15, 11 + 16 * 8],
], (
    "the nearest numbers are 7, 3, -3, -7, 0, 1 and 0, 0, 0, 7, 3, 0, plus 8: wanted bytes "
    f"{[[191, 21, 152], [136, 248, 139]]}, got {packed.tolist()}; round, do not cut off"
)

# %% hidden="four-bits" points=1
# Hidden: random matrices, groups of several sizes, a group of zeros, types (1 point)
for group, columns in ((3, 12), (2, 10), (8, 8), (5, 10)):
    weight = torch.randn(5, columns, generator=generator(group), dtype=torch.float64)
    weight[1, :group] = 0.0
    before = weight.clone()
    packed, scale = quantize4(weight, group)
    assert torch.equal(weight, before), "quantize4 must not change the weight"
    bytes_ = torch.zeros(5, columns // 2, dtype=torch.uint8)
    assert getattr(packed, "dtype", None) == bytes_.dtype, (
        f"bytes are a tensor of torch.uint8, got {describe(packed)}"
    )
    assert packed.shape == bytes_.shape, (
        f"{columns} numbers are {columns // 2} bytes, got {tuple(packed.shape)}"
    )
    largest = torch.stack(
        [part.abs().amax(dim=1) for part in weight.split(group, 1)], 1
    )
    want = torch.where(largest == 0, 1.0, largest / 7)
    assert close(scale, want), (
        f"scales of groups of {group}: wanted {want}, got {scale}"
    )
    assert scale.dtype == torch.float64, f"scales have the weight's type: {scale.dtype}"
    per_weight = want.repeat_interleave(group, dim=1)
    numbers = (weight / per_weight).round().int() + 8
    for row, own in zip(packed.tolist(), numbers.tolist()):
        halves = [half for byte in row for half in (byte & 15, byte >> 4)]
        assert halves == own, (
            f"groups of {group}: a row is {own} (plus 8), got {halves}"
        )
    copies = packed.clone(), scale.clone()
    got = dequantize4(*copies)
    assert torch.equal(copies[0], packed), "dequantize4 must not change the bytes"
    assert torch.equal(copies[1], scale), "dequantize4 must not change the scale"
    assert close(got, (numbers - 8) * per_weight), (
        f"groups of {group}: number · scale, in the order of the columns; got {got}"
    )
    assert got.dtype == torch.float64, f"of the scale's type, got {got.dtype}"
packed, scale = quantize4(torch.tensor([[1e-6, -3e-6]]), 2)
assert packed.tolist() == [[26]], (
    f"1 and -3 millionths are the numbers 2 and -7: 10 + 16 · 1 = 26, got {packed}"
)
types = scale.dtype, dequantize4(packed, scale).dtype
assert types == (torch.float32, torch.float32), (
    f"the scale and what comes back have the weight's type, torch.float32; got {types}"
)

# %% [markdown]
# ## 6. Limits (2 points)
#
# A **token bucket** limits what one caller may use, but lets short bursts pass.
# A bucket holds at most `capacity` tokens, and is full at the beginning.
# Each second `rate` tokens flow in, continuously, and what does not fit is lost.
# A request takes as many tokens as it costs, if there are enough, and is refused otherwise; a refused request takes nothing.
#
# Write `admitted(requests, rate, capacity)`: a list of bools.
# A request is a pair `(time, cost)`, with the time in seconds from 0 on, in order.
#
# With one token a second and a capacity of 2, the second of the requests `(0, 2)`, `(1, 2)`, `(2, 2)` is refused: only one token has come back.
# At 2 seconds there are two again.


# %% answer="admitted"
def admitted(requests, rate, capacity):
    """Return for each request whether the bucket had enough tokens for it."""
    ### BEGIN SOLUTION
    level, last, answers = capacity, 0.0, []
    for time, cost in requests:
        level = min(capacity, level + rate * (time - last))
        last = time
        answers.append(cost <= level)
        if cost <= level:
            level -= cost
    return answers
    ### END SOLUTION


# %% test="admitted" points=1
got = admitted([(0, 2), (1, 2), (2, 2)], 1, 2)
assert got == [True, False, True], (
    "full with 2 at the start; after a second 1, not enough, and nothing is taken; "
    f"after two seconds 2: wanted yes, no, yes, got {got}"
)
got = admitted([(0, 2), (100, 2), (100, 1)], 1, 2)
assert got == [True, True, False], (
    f"in 100 seconds no more than 2 are saved up: yes, yes, no, got {got}"
)

# %% hidden="admitted" points=1
# Hidden: many random requests, fractions of a second, a cost above the capacity (1 point)
assert admitted([], 1, 1) == [], "no requests, no answers"
assert admitted([(5, 3)], 1, 2) == [False], "what costs more than the capacity never is"
for rate, capacity in ((0.5, 4), (2, 6), (8, 3)):
    draw = generator(40 + capacity)
    times = (torch.randint(0, 400, (80,), generator=draw) / 16).sort().values.tolist()
    costs = torch.randint(1, 5, (80,), generator=draw).tolist()
    full, want = Fraction(0), []  # when the bucket is full again
    for time, cost in zip(times, costs):
        later = max(full, Fraction(time)) + Fraction(cost) / Fraction(rate)
        want.append(later - Fraction(time) <= Fraction(capacity) / Fraction(rate))
        full = later if want[-1] else full
    requests = list(zip(times, costs))
    got = admitted(requests, rate, capacity)
    assert requests == list(zip(times, costs)), "admitted must not change the requests"
    assert len(got) == 80, f"80 requests: 80 answers, got {len(got)}"
    first = next((i for i in range(80) if got[i] != want[i]), None)
    assert got == want, (
        f"rate {rate}, capacity {capacity}: request {first} of {costs[:6]} … at "
        f"{times[:6]} … got the wrong answer; does a refused request take something?"
    )

# %% [markdown]
# ## 7. Explain (5 points, written)
#
# **Question A** (3 points).
# A model of $7 \cdot 10^9$ weights is stored in four bits, with a scale of 16 bits for each group of 32 weights.
# Work out the bits per weight and the size in bytes, and compare with 16 bits per weight.
# One weight in a row is 100 times as large as the others.
# Say what happens to the others with one scale for the whole row, and with groups of 32.
# Then say which part of the service gets faster with smaller weights, the prefill or the decode of a single request, and why.

# %% [markdown] written="small-weights" points=3
# Question A.
# 4 + 16/32 = 4.5 bits per weight; 7·10⁹ · 4.5 / 8 = 3.9·10⁹ bytes, which is 28 % of 14·10⁹.
# With one scale for the row, a step is 1/7 of the large weight, about 14 times as large as any other weight.
# So all others become 0, and what they held is lost.
# In groups of 32, only the 31 neighbours of the large one suffer; every other group has a scale that fits.
# The decode of a single request becomes faster: it fetches every weight for one token, and waits for memory.
# The prefill uses each weight for many tokens and waits for arithmetic, of which there is no less (dequantization even adds some).
#
# One point: 4.5 bits and 3.9 GB. One point: the row is rounded to zero, and groups confine the damage. One point: the decode, since it is bound by memory.

# %% [markdown]
# **Question B** (2 points).
# A colleague draws all random numbers of a service from one generator, in the order in which the slots come.
# Every answer is drawn from the right probabilities.
# Say what a caller who sends a seed will notice, why it happens, and what you would do instead.

# %% [markdown] written="one-generator" points=2
# Question B.
# The same request with the same seed gives a different answer each time, depending on who else is being answered.
# Each draw for another caller moves the shared generator on, so this caller's draws get different numbers.
# Give each request a generator of its own, seeded with its seed, from which nobody else draws.
# (For answers to be equal down to the last token, the logits must not depend on the neighbours either.)
#
# One point: not repeatable, since others use up random numbers. One point: a generator for each request.
