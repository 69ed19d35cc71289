# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="end-not-written" answer="chat-ids" fails="test-chat-ids,hidden-chat-ids"
def chat_ids(turns, to_answer):
    ids, written = [SPECIAL["<|endoftext|>"]], [False]
    for role, content in turns:
        body = encode(content)
        ids += [SPECIAL[f"<|{role}|>"], *body, SPECIAL["<|end|>"]]
        written += [False, *[role == "assistant"] * len(body), False]
    if to_answer:
        ids.append(SPECIAL["<|assistant|>"])
        written.append(False)
    return ids, written


# %% wrong="mark-counts" answer="chat-ids" fails="test-chat-ids,hidden-chat-ids"
def chat_ids(turns, to_answer):
    ids, written = [SPECIAL["<|endoftext|>"]], [False]
    for role, content in turns:
        part = [SPECIAL[f"<|{role}|>"], *encode(content), SPECIAL["<|end|>"]]
        ids += part
        written += [role == "assistant"] * len(part)
    if to_answer:
        ids.append(SPECIAL["<|assistant|>"])
        written.append(False)
    return ids, written


# %% wrong="text-first" answer="chat-ids" fails="hidden-chat-ids"
def chat_ids(turns, to_answer):
    import re

    text = "<|endoftext|>" + "".join(f"<|{r}|>{t}<|end|>" for r, t in turns)
    text += "<|assistant|>" * to_answer
    ids, written, own = [], [], False
    for piece in re.split(r"(<\|\w+\|>)", text):
        new = [SPECIAL[piece]] if piece in SPECIAL else encode(piece)
        ids += new
        written += [own] * len(new)
        if piece in SPECIAL:
            own = piece == "<|assistant|>"
    return ids, written


# %% wrong="no-start" answer="chat-ids" fails="test-chat-ids,hidden-chat-ids,test-fit-history,hidden-fit-history"
def chat_ids(turns, to_answer):
    ids, written = [], []
    for role, content in turns:
        body = [*encode(content), SPECIAL["<|end|>"]]
        ids += [SPECIAL[f"<|{role}|>"], *body]
        written += [False] + [role == "assistant"] * len(body)
    if to_answer:
        ids.append(SPECIAL["<|assistant|>"])
        written.append(False)
    return ids, written


# %% wrong="mask-of-the-inputs" answer="training-row" fails="test-training-row,hidden-training-row"
def training_row(ids, written):
    return ids[:-1], ids[1:], written[:-1]


# %% wrong="targets-not-shifted" answer="training-row" fails="test-training-row,hidden-training-row"
def training_row(ids, written):
    return ids[:-1], ids[:-1], written[:-1]


# %% wrong="mean-over-answers" answer="answer-loss" fails="test-answer-loss,hidden-answer-loss"
def answer_loss(logits, targets, mask):
    rows = zip(logits, targets, mask)
    means = [functional.cross_entropy(x[m], y[m]) for x, y, m in rows]
    return torch.stack(means).mean()


# %% wrong="divided-by-all-positions" answer="answer-loss" fails="test-answer-loss,hidden-answer-loss"
def answer_loss(logits, targets, mask):
    every = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten().clamp(min=0), reduction="none"
    )
    return every.where(mask.flatten(), 0.0).mean()


# %% wrong="multiplied-by-the-mask" answer="answer-loss" fails="test-answer-loss,hidden-answer-loss"
def answer_loss(logits, targets, mask):
    log_probs = logits.log_softmax(dim=-1)
    every = -log_probs.gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0]
    return (every * mask).sum() / mask.sum()


# %% wrong="a-number" answer="answer-loss" fails="test-answer-loss,hidden-answer-loss"
def answer_loss(logits, targets, mask):
    return functional.cross_entropy(logits[mask], targets[mask]).item()


# %% wrong="detached" answer="answer-loss" fails="hidden-answer-loss"
def answer_loss(logits, targets, mask):
    with torch.no_grad():
        return functional.cross_entropy(logits[mask], targets[mask])


# %% wrong="logits-overwritten" answer="answer-loss" fails="hidden-answer-loss"
def answer_loss(logits, targets, mask):
    logits[~mask] = 0.0
    targets = targets.where(mask, -100)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


# %% wrong="mean-of-means" answer="whole-loss" fails="test-answer-loss,hidden-whole-loss"
def whole_loss(losses, counts):
    return sum(losses) / len(losses)


# %% wrong="nan-times-zero" answer="whole-loss" fails="test-answer-loss,hidden-whole-loss"
def whole_loss(losses, counts):
    return sum(loss * n for loss, n in zip(losses, counts)) / sum(counts)


# %% wrong="nan-overwritten" answer="whole-loss" fails="hidden-whole-loss"
def whole_loss(losses, counts):
    for i, n in enumerate(counts):
        if not n:
            losses[i] = 0.0
    return sum(loss * n for loss, n in zip(losses, counts)) / sum(counts)


# %% wrong="as-they-come" answer="first-fit" fails="test-first-fit,hidden-first-fit"
def first_fit(lengths, room):
    rows, left = [], []
    for i, n in enumerate(lengths):
        for row in range(len(rows)):
            if left[row] >= n:
                break
        else:
            row = len(rows)
            rows.append([])
            left.append(room)
        rows[row].append(i)
        left[row] -= n
    return rows


# %% wrong="only-the-last-row" answer="first-fit" fails="test-first-fit,hidden-first-fit"
def first_fit(lengths, room):
    rows, left = [], 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > left:
            rows.append([])
            left = room
        rows[-1].append(i)
        left -= lengths[i]
    return rows


# %% wrong="best-fit" answer="first-fit" fails="hidden-first-fit"
def first_fit(lengths, room):
    rows, left = [], []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [row for row, free in enumerate(left) if free >= lengths[i]]
        if fitting:
            row = min(fitting, key=lambda row: left[row])
        else:
            row = len(rows)
            rows.append([])
            left.append(room)
        rows[row].append(i)
        left[row] -= lengths[i]
    return rows


# %% wrong="never-full" answer="first-fit" fails="test-first-fit,hidden-first-fit"
def first_fit(lengths, room):
    rows, left = [], []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [row for row, free in enumerate(left) if free > lengths[i]]
        if not fitting:
            rows.append([])
            left.append(room)
        row = fitting[0] if fitting else len(rows) - 1
        rows[row].append(i)
        left[row] -= lengths[i]
    return rows


# %% wrong="positions-of-the-row" answer="packed-positions" fails="test-packed,hidden-packed"
def packed_positions(lengths):
    return torch.arange(sum(lengths))


# %% wrong="only-causal" answer="packed-mask" fails="test-packed,hidden-packed"
def packed_mask(lengths):
    return torch.ones(sum(lengths), sum(lengths), dtype=torch.bool).tril()


# %% wrong="sees-what-is-later" answer="packed-mask" fails="test-packed,hidden-packed"
def packed_mask(lengths):
    text = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return text[:, None] == text


# %% wrong="one-turn-at-a-time" answer="fit-history" fails="test-fit-history,hidden-fit-history"
def fit_history(turns, room):
    kept, dropped = list(turns), []
    first = int(turns[0][0] == "system")
    while len(chat_ids(kept, True)[0]) > room:
        if len(kept) == first + 1:
            raise ValueError("too long")
        dropped.append(kept.pop(first))
    return kept, dropped


# %% wrong="system-dropped" answer="fit-history" fails="test-fit-history,hidden-fit-history"
def fit_history(turns, room):
    kept, dropped = list(turns), []
    while len(chat_ids(kept, True)[0]) > room:
        if len(kept) < 3:
            raise ValueError("too long")
        dropped += kept[:2]
        kept = kept[2:]
    return kept, dropped


# %% wrong="no-mark-to-answer" answer="fit-history" fails="test-fit-history,hidden-fit-history"
def fit_history(turns, room):
    kept, dropped = list(turns), []
    first = int(turns[0][0] == "system")
    while len(chat_ids(kept, False)[0]) > room:
        if len(kept) == first + 1:
            raise ValueError("too long")
        dropped += kept[first : first + 2]
        del kept[first : first + 2]
    return kept, dropped


# %% wrong="never-refused" answer="fit-history" fails="hidden-fit-history"
def fit_history(turns, room):
    kept, dropped = list(turns), []
    first = int(turns[0][0] == "system")
    while len(chat_ids(kept, True)[0]) > room and len(kept) > first + 1:
        dropped += kept[first : first + 2]
        del kept[first : first + 2]
    return kept, dropped


# %% wrong="content-stripped" answer="chat-ids" fails="hidden-chat-ids"
def chat_ids(turns, to_answer):
    ids, written = [256], [False]
    for role, content in turns:
        body = [*encode(content.strip()), 260]
        ids += [SPECIAL[f"<|{role}|>"], *body]
        written += [False] + [role == "assistant"] * len(body)
    return ([*ids, 259], [*written, False]) if to_answer else (ids, written)


# %% wrong="marked-after-users-only" answer="chat-ids" fails="hidden-chat-ids"
def chat_ids(turns, to_answer):
    ids, written = [256], [False]
    for role, content in turns:
        body = [*encode(content), 260]
        ids += [SPECIAL[f"<|{role}|>"], *body]
        written += [False] + [role == "assistant"] * len(body)
    if to_answer and turns[-1][0] == "user":
        return [*ids, 259], [*written, False]
    return ids, written


# %% wrong="log-of-softmax" answer="answer-loss" fails="hidden-answer-loss"
def answer_loss(logits, targets, mask):
    probs = logits[mask].softmax(dim=-1)
    return -probs.gather(1, targets[mask][:, None]).log().mean()


# %% wrong="what-still-fits" answer="fit-history" fails="hidden-fit-history"
def fit_history(turns, room):
    first = 1 if turns[0][0] == "system" else 0
    kept, dropped = turns[-1:], []
    if len(chat_ids(turns[:first] + kept, True)[0]) > room:
        raise ValueError("too long")
    for i in range(len(turns) - 3, first - 1, -2):
        exchange = turns[i : i + 2]
        if len(chat_ids(turns[:first] + exchange + kept, True)[0]) <= room:
            kept = exchange + kept
        else:
            dropped = exchange + dropped
    return turns[:first] + kept, dropped
