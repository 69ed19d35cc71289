# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="divides-by-zero" answer="next-token-probs" fails="test-next-token-probs,hidden-next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
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


# %% wrong="reaching-token-dropped" answer="next-token-probs" fails="test-next-token-probs,hidden-next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
    if temperature == 0:
        temperature, top_k, top_p = 1.0, 1, None
    order = logits.argsort(descending=True, stable=True)
    kept = (logits[order] / temperature).softmax(dim=0)
    if top_k is not None:
        kept[top_k:] = 0.0
        kept = kept / kept.sum()
    if top_p is not None:
        kept[kept.cumsum(dim=0) > top_p] = 0.0
        kept = kept / kept.sum()
    probs = torch.zeros_like(logits)
    probs[order] = kept
    return probs


# %% wrong="sorted-and-left-so" answer="next-token-probs" fails="test-next-token-probs,hidden-next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
    if temperature == 0:
        temperature, top_k = 1.0, 1
    kept = (logits.sort(descending=True).values / temperature).softmax(dim=0)
    if top_k is not None:
        kept[top_k:] = 0.0
        kept = kept / kept.sum()
    if top_p is not None:
        kept[kept.cumsum(dim=0) - kept >= top_p] = 0.0
        kept = kept / kept.sum()
    return kept


# %% wrong="top-p-of-all" answer="next-token-probs" fails="test-next-token-probs,hidden-next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
    if temperature == 0:
        temperature, top_k = 1.0, 1
    order = logits.argsort(descending=True, stable=True)
    kept = (logits[order] / temperature).softmax(dim=0)
    before = kept.cumsum(dim=0) - kept
    if top_k is not None:
        kept[top_k:] = 0.0
    if top_p is not None:
        kept[before >= top_p] = 0.0
    probs = torch.zeros_like(logits)
    probs[order] = kept / kept.sum()
    return probs


# %% wrong="ties-all-kept" answer="next-token-probs" fails="hidden-next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
    if temperature == 0:
        temperature, top_k = 1.0, 1
    logits = logits / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    probs = logits.softmax(dim=0)
    if top_p is not None:
        ordered, order = probs.sort(descending=True, stable=True)
        ordered[ordered.cumsum(dim=0) - ordered >= top_p] = 0.0
        probs = torch.zeros_like(probs).scatter(0, order, ordered / ordered.sum())
    return probs


# %% wrong="low-taken-for-zero" answer="next-token-probs" fails="hidden-next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
    if temperature < 0.5:
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


# %% wrong="stable-for-top-k-only" answer="next-token-probs" fails="hidden-next-token-probs"
def next_token_probs(logits, temperature, top_k, top_p):
    if temperature == 0:
        temperature, top_k = 1.0, 1
    probs = (logits / temperature).softmax(dim=0)
    if top_k is not None:
        probs[logits.argsort(descending=True, stable=True)[top_k:]] = 0.0
        probs = probs / probs.sum()
    if top_p is not None:
        ordered, order = probs.sort(descending=True)
        ordered[ordered.cumsum(dim=0) - ordered >= top_p] = 0.0
        probs = torch.zeros_like(probs).scatter(0, order, ordered / ordered.sum())
    return probs


# %% wrong="decoded-one-by-one" answer="text-pieces" fails="test-text-pieces,hidden-text-pieces"
def text_pieces(tokens):
    return [token.decode("utf-8", errors="replace") for token in tokens] + [""]


# %% wrong="half-is-dropped" answer="text-pieces" fails="hidden-text-pieces"
def text_pieces(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(token) for token in tokens] + [""]


# %% wrong="one-wrong-byte-spoils-half" answer="text-pieces" fails="hidden-text-pieces"
def text_pieces(tokens):
    pieces, held = [], b""
    for token in tokens:
        held += token
        try:
            text, held = held.decode(), b""
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                text, held = held[: error.start].decode(), held[error.start :]
            else:
                text, held = held.decode(errors="replace"), b""
        pieces.append(text)
    return [*pieces, held.decode(errors="replace")]


# %% wrong="looks-at-single-pieces" answer="until-stop" fails="test-until-stop,hidden-until-stop"
def until_stop(pieces, stops):
    sent = []
    for piece in pieces:
        found = [piece.index(stop) for stop in stops if stop in piece]
        if found:
            return [*sent, piece[: min(found)]], True
        sent.append(piece)
    return [*sent, ""], False


# %% wrong="first-stop-of-the-list" answer="until-stop" fails="hidden-until-stop"
def until_stop(pieces, stops):
    sent, held = [], ""
    for piece in pieces:
        text = held + piece
        for stop in stops:
            if stop in text:
                return [*sent, text[: text.index(stop)]], True
        begun = [stop[:n] for stop in stops for n in range(len(stop))]
        held = max((end for end in begun if text.endswith(end)), key=len, default="")
        sent.append(text.removesuffix(held))
    return [*sent, held], False


# %% wrong="holds-back-by-length" answer="until-stop" fails="test-until-stop,hidden-until-stop"
def until_stop(pieces, stops):
    sent, held = [], ""
    longest = max(map(len, stops), default=1) - 1
    for piece in pieces:
        text = held + piece
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            return [*sent, text[: min(found)]], True
        cut = max(0, len(text) - longest)
        sent.append(text[:cut])
        held = text[cut:]
    return [*sent, held], False


# %% wrong="held-text-lost" answer="until-stop" fails="test-until-stop,hidden-until-stop"
def until_stop(pieces, stops):
    sent, held = [], ""
    for piece in pieces:
        text = held + piece
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            return [*sent, text[: min(found)]], True
        begun = [stop[:n] for stop in stops for n in range(len(stop))]
        held = max((end for end in begun if text.endswith(end)), key=len, default="")
        sent.append(text.removesuffix(held))
    return sent, False


# %% wrong="waits-for-an-earlier-stop" answer="until-stop" fails="hidden-until-stop"
def until_stop(pieces, stops):
    sent, held = [], ""
    for piece in pieces:
        text = held + piece
        found = [text.index(stop) for stop in stops if stop in text]
        begun = [stop[:n] for stop in stops for n in range(1, len(stop))]
        held = max((end for end in begun if text.endswith(end)), key=len, default="")
        if found and len(text) - len(held) >= min(found):
            return [*sent, text[: min(found)]], True
        sent.append(text.removesuffix(held))
    return [*sent, held], False


# %% wrong="stop-strings-as-patterns" answer="until-stop" fails="hidden-until-stop"
def until_stop(pieces, stops):
    import re

    sent, held = [], ""
    for piece in pieces:
        text = held + piece
        found = [m.start() for stop in stops if (m := re.search(stop, text))]
        if found:
            return [*sent, text[: min(found)]], True
        begun = [stop[:n] for stop in stops for n in range(len(stop))]
        held = max((end for end in begun if text.endswith(end)), key=len, default="")
        sent.append(text.removesuffix(held))
    return [*sent, held], False


# %% wrong="stop-strings-sorted" answer="until-stop" fails="hidden-until-stop"
def until_stop(pieces, stops):
    sent, held = [], ""
    stops.sort(key=len, reverse=True)
    for piece in pieces:
        text = held + piece
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            return [*sent, text[: min(found)]], True
        begun = [stop[:n] for stop in stops for n in range(len(stop))]
        held = max((end for end in begun if text.endswith(end)), key=len, default="")
        sent.append(text.removesuffix(held))
    return [*sent, held], False


# %% wrong="fixed-batches" answer="timeline" fails="test-timeline,hidden-timeline"
def timeline(requests, n_slots):
    steps = []
    for start in range(0, len(requests), n_slots):
        batch = list(enumerate(requests))[start : start + n_slots]
        for step in range(max(n for _, (_, n) in batch)):
            row = [i if step < n else None for i, (_, n) in batch]
            steps.append(row + [None] * (n_slots - len(row)))
    return steps


# %% wrong="arrivals-ignored" answer="timeline" fails="test-timeline,hidden-timeline"
def timeline(requests, n_slots):
    waiting, left = list(range(len(requests))), [n for _, n in requests]
    steps, now = [], [None] * n_slots
    while waiting or any(left):
        now = [i if i is not None and left[i] else None for i in now]
        for slot in range(n_slots):
            if now[slot] is None and waiting:
                now[slot] = waiting.pop(0)
        for i in now:
            if i is not None:
                left[i] -= 1
        steps.append(list(now))
    return steps


# %% wrong="one-scale-for-a-row" answer="quantize4" fails="test-four-bits,hidden-four-bits"
def quantize4(weight, group):
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    scale = scale.where(scale > 0, 1.0)
    numbers = (weight / scale).round() + 8
    packed = numbers[:, 0::2] + 16 * numbers[:, 1::2]
    return packed.to(torch.uint8), scale.expand(-1, weight.shape[1] // group)


# %% wrong="zeros-divided" answer="quantize4" fails="test-four-bits,hidden-four-bits"
def quantize4(weight, group):
    groups = weight.unflatten(1, (-1, group))
    scale = groups.abs().amax(dim=2) / 7
    numbers = (groups / scale[:, :, None]).round().flatten(1) + 8
    packed = numbers[:, 0::2] + 16 * numbers[:, 1::2]
    return packed.to(torch.uint8), scale


# %% wrong="cut-off-not-rounded" answer="quantize4" fails="test-four-bits,hidden-four-bits"
def quantize4(weight, group):
    groups = weight.unflatten(1, (-1, group))
    scale = groups.abs().amax(dim=2) / 7
    scale = scale.where(scale > 0, 1.0)
    numbers = (groups / scale[:, :, None] + 1e-4).floor().flatten(1) + 8
    packed = numbers[:, 0::2] + 16 * numbers[:, 1::2]
    return packed.to(torch.uint8), scale


# %% wrong="halves-swapped" answer="dequantize4" fails="test-four-bits,hidden-four-bits"
def dequantize4(packed, scale):
    numbers = torch.stack((packed // 16, packed % 16), dim=2).flatten(1)
    groups = numbers.unflatten(1, (scale.shape[1], -1)).to(scale.dtype) - 8
    return (groups * scale[:, :, None]).flatten(1)


# %% wrong="subtracted-as-bytes" answer="dequantize4" fails="test-four-bits,hidden-four-bits"
def dequantize4(packed, scale):
    numbers = torch.stack((packed % 16, packed // 16), dim=2).flatten(1) - 8
    groups = numbers.unflatten(1, (scale.shape[1], -1))
    return (groups * scale[:, :, None]).flatten(1)


# %% wrong="never-full" answer="admitted" fails="test-admitted,hidden-admitted"
def admitted(requests, rate, capacity):
    level, last, answers = capacity, 0.0, []
    for time, cost in requests:
        level += rate * (time - last)
        last = time
        answers.append(cost <= level)
        if cost <= level:
            level -= cost
    return answers


# %% wrong="refused-pays" answer="admitted" fails="test-admitted,hidden-admitted"
def admitted(requests, rate, capacity):
    level, last, answers = capacity, 0.0, []
    for time, cost in requests:
        level = min(capacity, level + rate * (time - last)) - cost
        last = time
        answers.append(level >= 0)
    return answers


# %% wrong="only-what-was-let-in" answer="admitted" fails="test-admitted,hidden-admitted"
def admitted(requests, rate, capacity):
    level, last, answers = capacity, 0.0, []
    for time, cost in requests:
        level = min(capacity, level + rate * (time - last))
        last = time
        if cost <= level:
            answers.append(True)
            level -= cost
    return answers


# %% wrong="windows-of-a-second" answer="admitted" fails="test-admitted,hidden-admitted"
def admitted(requests, rate, capacity):
    used, answers = {}, []
    for time, cost in requests:
        second = int(time)
        fits = used.get(second, 0) + cost <= capacity
        used[second] = used.get(second, 0) + cost * fits
        answers.append(fits)
    return answers
