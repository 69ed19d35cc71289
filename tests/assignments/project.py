# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.text.corpus, llmcourse.text.deduplication, llmcourse.training.losses]
# ---

# %% [markdown]
# # Final project: a language model of your own
#
# You go through every stage once, on a text of your own choice: collect and clean a corpus, train a tokenizer and a model, tune it for a use, measure it, and report.
#
# **The budget** is two hours of processor time (120 minutes, all cores added up) for everything that computes: tokenizer, training, tuning, evaluation, failed attempts included.
# A laptop manages that in an evening.
# Your teacher may set a different budget; if so, state it in your report.
#
# **The corpus** is yours: letters, recipes, song lyrics, source code, a language that you speak at home.
# 1 to 20 MB of plain text is a good size.
# You need the right to use it, and it must not contain anything that people would not want recited.
# Keep one document to a file, such as a song or a recipe, and cut a long text into its chapters: the split (task 2) puts whole documents on one side or the other.
# After the five tools, the section *From tools to a model* has scripts that clean, train and write the log.
#
# **You hand in** this notebook, the log and the model's folder, and the manifest of the corpus, not the corpus itself.
#
# | Task | Points | Difficulty | Time |
# |---|---|---|---|
# | 1. A manifest | 2 | ★ | 20 minutes |
# | 2. A split without leaks | 2 | ★★ | 20 minutes |
# | 3. How much leaks | 1 | ★★ | 15 minutes |
# | 4. Bits per byte from a log | 2 | ★★ | 20 minutes |
# | 5. What it took | 1 | ★★ | 15 minutes |
# | 6. Report: question and corpus (written) | 4 | ★★ | two hours |
# | 7. Report: model and results (written) | 5 | ★★★ | a day |
# | 8. Report: limits, and what you would do next (written) | 3 | ★★★ | an hour |
#
# 20 points in all.
# Eight of them are for small tools that you use on your own corpus and log; twelve are for the report, one for each numbered part.
# A model that writes badly can earn all points, if the report says how badly and why.
#
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The first code cell locks away the package's own versions of these tools.

# %% given="setup"
import hashlib
import json
import sys
from math import log

import torch

from llmcourse.classroom.tasks import generator

for module in ("text.corpus", "text.deduplication", "training.losses"):
    sys.modules[f"llmcourse.{module}"] = None  # this is what you write


def unit(text):
    """Return a number from 0 to 1, below 1, that depends on the text alone."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def draw(words, n, generator):
    """Return a text of n random words of a list, for tests."""
    places = torch.randint(0, len(words), (n,), generator=generator).tolist()
    return " ".join(words[i] for i in places)


# %% [markdown]
# ## 1. A manifest (2 points)
#
# A manifest says what is in a corpus without showing it.
# Two documents count as duplicates if they have the same *form*: all letters in lower case, each run of white space one space, none at the ends.
#
# Write `form(text)`, which returns that, and `manifest(documents)`, for a list of strings, which returns a dict:
#
# - `"documents"`: how many there are, duplicates included;
# - `"bytes"`: how many bytes of UTF-8 they have together, as they are;
# - `"words"`: how many words, separated by white space;
# - `"duplicates"`: the share of documents, 0 to 1, whose form an earlier document has; 0 for an empty corpus;
# - `"sha256"`: a fingerprint of the corpus that does not depend on the order of the documents.
#   Take the SHA-256 of each document (`.hexdigest()` of `hashlib.sha256(text.encode())`), sort these, join them with `"\n"`, and take the SHA-256 of the result in the same way.
#
# Of `"Ein Bär"`, `"ein  bär\n"` and `"zwei"`, the second is a duplicate of the first: the share is 1/3.
# There are 8 + 10 + 4 = 22 bytes, as ä has two, and 5 words.


# %% answer="manifest"
def form(text):
    """Return a text in lower case with single spaces."""
    ### BEGIN SOLUTION
    return " ".join(text.lower().split())
    ### END SOLUTION


def manifest(documents):
    """Return counts, the share of duplicates and a fingerprint, in a dict."""
    ### BEGIN SOLUTION
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
    ### END SOLUTION


# %% test="manifest" points=1
for text, wanted in (("ein  bär\n", "ein bär"), (" A\tB ", "a b"), ("\n", "")):
    got = form(text)
    assert got == wanted, f"the form of {text!r} is {wanted!r}, got {got!r}"
texts = ["Ein Bär", "ein  bär\n", "zwei"]
got = manifest(texts)
for name, wanted, why in (
    ("documents", 3, "duplicates count here"),
    ("bytes", 22, "ä is one letter of two bytes; spaces and line ends count"),
    ("words", 5, "2 + 2 + 1"),
    ("duplicates", 1 / 3, "the second has the form of the first"),
):
    assert name in got, f"the dict has {sorted(got)}, but {name!r} is missing"
    near = abs(got[name] - wanted) < 1e-9
    assert near, f"{name}: {why}; wanted {wanted}, got {got[name]}"
assert got["sha256"] == manifest(texts[::-1])["sha256"], (
    "the fingerprint must be the same in another order: sort the documents' digests"
)
wanted = "5ea7f93bfa8ec1060bd73692f3f41eb11bf91df7ca396f37df8be9dc379d8ef5"
assert got["sha256"] == wanted, (
    f"the fingerprint of the three texts, as they are, is {wanted}, got {got['sha256']}"
)
got = manifest([])
assert got["duplicates"] == 0, f"an empty corpus has no duplicates, got {got}"

# %% hidden="manifest" points=1
# Hidden: random corpora, fingerprints, texts of nothing, no documents (1 point)
g = generator(1)
names = ["Ana", "ana", "żółw", "a\u00a0b", "MÜLLER", "müller\n", "\t3"]
for n in (1, 6, 40):
    documents = [draw(names, 1 + i % 3, g) for i in range(n)]
    documents += ["", "  "] if n == 6 else []
    saved = list(documents)
    got, seen, n_again = manifest(documents), [], 0
    for text in documents:
        plain = " ".join(text.casefold().replace("\u00a0", " ").split())
        n_again += plain in seen
        seen.append(plain)
    lines = [hashlib.sha256(text.encode()).hexdigest() for text in documents]
    whole = "\n".join(sorted(lines)).encode()
    wanted = {
        "documents": len(documents),
        "bytes": len("".join(documents).encode()),
        "words": len(" ".join(documents).split()),
        "duplicates": n_again / len(documents),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }
    for name, value in wanted.items():
        near = got[name] == value if name == "sha256" else abs(got[name] - value) < 1e-9
        assert near, (
            f"{name} of {len(documents)} documents: wanted {value}, got {got[name]}; "
            "counts and fingerprint are of the documents as they are, duplicates of forms"
        )
    assert documents == saved, "manifest must not change the documents"
got = manifest([])
assert (got["documents"], got["bytes"], got["words"]) == (0, 0, 0), (
    f"an empty corpus has nothing to count, got {got}"
)

# %% [markdown]
# ## 2. A split without leaks (2 points)
#
# The held-out documents must not be in the training data, not even with different spaces or capitals, and a document must stay on its side when the corpus grows.
# So no draw decides: the document itself does.
#
# Write `split(documents, share)`: two lists, training and held-out, each in the order of `documents`.
# A document is held out if `unit` of its *form* is less than `share`.
# `unit` is given above: a number from 0 to 1, from a hash of the text.
# Of documents with the same form only the first stays; the others are dropped.


# %% answer="split"
def split(documents, share):
    """Return training and held-out documents, without duplicates."""
    ### BEGIN SOLUTION
    sides, seen = ([], []), set()
    for text in documents:
        plain = form(text)
        if plain not in seen:
            seen.add(plain)
            sides[unit(plain) < share].append(text)
    return sides
    ### END SOLUTION


# %% test="split" points=1
texts = ["zwei", "Ein Bär", "drei", "ein  bär\n", "vier"]
train, held_out = split(texts, 0.5)
assert sorted(train + held_out) == ["Ein Bär", "drei", "vier", "zwei"], (
    "each document goes to one side, and the second of two with the same form is dropped; "
    f"got {train} and {held_out}"
)
for text in train + held_out:
    wanted = unit(form(text)) < 0.5
    assert (text in held_out) == wanted, (
        f"unit of the form of {text!r} is {unit(form(text)):.3f}: it is "
        f"{'held out' if wanted else 'for training'} at a share of 0.5"
    )
got = [list(side) for side in split(texts, 0.0)]
assert got == [["zwei", "Ein Bär", "drei", "vier"], []], (
    f"at a share of 0 nothing is held out, and the order stays; got {got}"
)

# %% hidden="split" points=1
# Hidden: random corpora at several shares, a corpus that grows (1 point)
g = generator(2)
names = ["Ana", "ana ", "Bär", "BÄR", "żółw", "x\ty", "x y", "9"]
for share in (0.0, 0.2, 0.5, 0.9, 1.0):
    documents = [draw(names, 1 + i % 3, g) for i in range(60)]
    saved, firsts = list(documents), {}
    for text in documents:
        firsts.setdefault(" ".join(text.lower().split()), text)
    ones = [t for plain, t in firsts.items() if not unit(plain) < share]
    others = [t for plain, t in firsts.items() if unit(plain) < share]
    train, held_out = split(documents, share)
    assert list(train) == ones, (
        f"a share of {share}: wanted {len(ones)} documents for training, in their order, "
        f"got {len(train)}, or others; the unit is that of the form, and the first of "
        "those with one form stays as it is"
    )
    assert list(held_out) == others, (
        f"a share of {share}: wanted {len(others)} held-out documents in their order, got "
        f"{len(held_out)}, or others"
    )
    again = split([*documents, "new", "more"], share)
    assert list(again[0])[: len(ones)] == ones, (
        "two documents more must leave the others on their sides"
    )
    assert documents == saved, "split must not change the documents"
for text in ("zwei", "Ein Bär"):
    train, held_out = split([text], unit(form(text)))
    assert (list(train), list(held_out)) == ([text], []), (
        "a document whose unit is the share itself is not less than it, so it is for "
        f"training; got {train} and {held_out}"
    )
assert [list(side) for side in split([], 0.5)] == [[], []], (
    "no documents, two empty sides"
)

# %% [markdown]
# ## 3. How much leaks (1 point)
#
# Documents with different forms may still share long passages: a quotation, a menu, a licence.
#
# Write `leaked(train, held_out, n)`: the share of the held-out runs of n words that also occur in a training document.
# Runs are taken from the forms (`form`) and do not cross from one document to the next.
# Each place counts, even if the same run occurs several times.
# A document of fewer than n words has no run; if there is no held-out run at all, the share is 0.
#
# With n = 2, "the old sea" has the runs *the old* and *old sea*; if training has "The old man", one of two leaks: 0.5.


# %% answer="leaked"
def leaked(train, held_out, n):
    """Return the share of held-out runs of n words that training has, too."""

    ### BEGIN SOLUTION
    def runs(text):
        words = form(text).split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    known = {run for text in train for run in runs(text)}
    found = [run in known for text in held_out for run in runs(text)]
    return sum(found) / max(1, len(found))
    ### END SOLUTION


# %% test="leaked" points=1
for train, held_out, n, wanted, why in (
    (["The old man"], ["the old  sea"], 2, 0.5, "'the old' leaks, 'old sea' does not"),
    (["a b", "c d"], ["b c"], 2, 0.0, "'b c' is in no training document by itself"),
    (["a b"], ["a", "b"], 2, 0.0, "no held-out document has a run of two words"),
    (
        ["a b"],
        ["a", "b c a b"],
        2,
        1 / 3,
        "one of three runs, and none across documents",
    ),
    (["x a y"], ["a a b a"], 1, 0.75, "each place counts: three of four"),
    ([], ["a b c"], 3, 0.0, "no training text, no leak"),
    (["a b c"], [], 1, 0.0, "nothing is held out"),
    (["q a b c r"], ["a b c"], 3, 1.0, "the only run leaks"),
):
    got = leaked(train, held_out, n)
    assert abs(got - wanted) < 1e-9, (
        f"training {train}, held out {held_out}, runs of {n}: {why}; wanted {wanted}, "
        f"got {got}"
    )
g = generator(3)
letters = list("abcdE")
for n in (1, 2, 3, 5):
    train = [draw(letters, 2 + i % 7, g) for i in range(9)]
    held_out = [draw(letters, i % 8, g) for i in range(8)]
    texts, n_leaks, n_runs = [f" {text} ".lower() for text in train], 0, 0
    for text in held_out:
        words = text.lower().split()
        for end in range(n, len(words) + 1):
            n_runs += 1
            n_leaks += any(f" {' '.join(words[end - n : end])} " in t for t in texts)
    got = leaked(train, held_out, n)
    assert abs(got - n_leaks / n_runs) < 1e-9, (
        f"runs of {n}: {n_leaks} of {n_runs} leak, got a share of {got}"
    )

# %% [markdown]
# ## 4. Bits per byte from a log (2 points)
#
# A log has one JSON object per line.
# Lines that measure the held-out loss have the keys `"step"`, `"loss"` in nats per token, `"tokens"` and `"bytes"`: how many tokens and bytes were read for it.
# Other lines, without `"bytes"`, are about training and do not count here, and may lack other keys, too; empty lines are skipped.
#
# Write `curve(text)`, for the whole log as one string: a list of tuples (step, bits per byte), sorted by step.
#
# $$
# \text{bits per byte} = \frac{\text{loss}}{\ln 2} \cdot \frac{\text{tokens}}{\text{bytes}}.
# $$
#
# A run that was stopped and resumed measures some steps again: of several lines with the same step, the *last* counts.
#
# Then write `best(points)`: the tuple with the lowest bits per byte, or `None` if the list is empty.
# If there are several, it is the one with the smallest step, whatever the order of the list.


# %% answer="curve"
def curve(text):
    """Return (step, bits per byte) for each step that was measured, sorted."""
    ### BEGIN SOLUTION
    found = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        event = json.loads(line)
        if "bytes" in event:
            n_bits = event["loss"] / log(2) * event["tokens"]
            found[event["step"]] = n_bits / event["bytes"]
    return sorted(found.items())
    ### END SOLUTION


def best(points):
    """Return the earliest point with the lowest bits per byte, None without points."""
    ### BEGIN SOLUTION
    return min(points, key=lambda point: (point[1], point[0]), default=None)
    ### END SOLUTION


# %% test="curve" points=1
events = [
    {"seconds": 1.5},
    {"step": 100, "loss": 7 * log(2), "tokens": 50, "bytes": 200},
    {"step": 0, "loss": 8 * log(2), "tokens": 50, "bytes": 100},
    {"step": 1, "loss": 5.1},
    {"step": 100, "loss": 3 * log(2), "tokens": 50, "bytes": 200},
]
log_text = "\n".join(json.dumps(event) for event in events) + "\n\n"
got = [tuple(point) for point in curve(log_text)]
assert [step for step, _ in got] == [0, 100], (
    f"the steps 0 and 100 have lines with bytes, in this order; got the points {got}"
)
for (step, value), wanted in zip(got, (4.0, 0.75)):
    assert abs(value - wanted) < 1e-9, (
        f"step {step}: bits per token · tokens / bytes is {wanted}, got {value}; a bit is "
        "ln 2 nats, and of two lines with one step the last counts"
    )
assert tuple(best(got)) == got[1], f"the lowest is that of step 100, got {best(got)}"
assert best([]) is None, f"without points there is no best, got {best([])}"

# %% hidden="curve" points=1
# Hidden: resumed runs, lines in any order, ties, a log of nothing (1 point)
g = generator(4)
for n in (1, 9, 30):
    lines, wanted = ["", "  "], {}
    for i in range(n):
        step = 50 * int(torch.randint(0, 12, (), generator=g))
        loss = round(1 + 5 * float(torch.rand((), generator=g)), 4)
        tokens, size = 40 + 3 * i, 90 + 11 * i
        event = {"step": step, "loss": loss, "tokens": tokens, "bytes": size}
        lines += [json.dumps(event), json.dumps({"step": step, "loss": 9.0}), ""]
        lines.append(json.dumps({"step": step + 1, "loss": 0.1, "tokens": 8}))
        wanted[step] = loss * tokens / (size * log(2))
    got = curve("\n".join(lines))
    assert [step for step, _ in got] == sorted(wanted), (
        f"the steps that were measured, sorted: {sorted(wanted)}, got {got}"
    )
    for step, value in got:
        assert abs(value - wanted[step]) < 1e-9, (
            f"step {step}: the last of its lines has {wanted[step]:.4f} bits per byte, "
            f"got {value}"
        )
    low = min(wanted.values())
    assert abs(best(got)[1] - low) < 1e-9, f"the lowest is {low:.4f}, got {best(got)}"
assert list(curve("")) == [], "an empty log has no points"
got = best([(300, 1.5), (100, 2.0), (200, 1.5)])
assert tuple(got) == (200, 1.5), (
    f"of two points with 1.5 the earlier step counts, 200, got {got}"
)

# %% [markdown]
# ## 5. What it took (1 point)
#
# Your log also says what was spent: each line has `"seconds"`, the processor seconds since the *process* started, by `time.process_time()`.
# When a run is stopped and resumed, a new process starts, and its seconds begin near 0 again.
#
# Write `spent(seconds)`, for the list of these numbers in the order of the lines: the processor seconds of all processes together.
# The numbers of one process never fall, so a number below the one before it means a new process.
# Each process took what its last line says.
#
# Then write `within(parts, budget)`.
# `parts` is a dict from names, such as `"tokenizer"` or `"failed attempt"`, to lists of such numbers, and `budget` is in *minutes*.
# Return two things: whether all parts together took at most the budget, and the minutes that are left, negative if the budget is overspent.
#
# 10, 50, 90, 20, 70 are two processes of 90 and 70 seconds: 160 in all.


# %% answer="spent"
def spent(seconds):
    """Return the processor seconds of all processes of a log together."""
    ### BEGIN SOLUTION
    total = 0
    for now, later in zip(seconds, [*seconds[1:], -1]):
        if later < now:
            total += now
    return total
    ### END SOLUTION


def within(parts, budget):
    """Return whether all parts are within a budget, and the minutes left."""
    ### BEGIN SOLUTION
    left = budget - sum(spent(seconds) for seconds in parts.values()) / 60
    return left >= 0, left
    ### END SOLUTION


# %% test="spent" points=1
for seconds, wanted in (
    ([10, 50, 90, 20, 70], 160),
    ([5, 5, 5], 5),
    ([0], 0),
    ([3, 2, 1], 6),
    ([30, 40, 40, 45, 45, 1], 46),
    ([], 0),
    ([0.5, 0.25], 0.75),
):
    got = spent(seconds)
    assert got == wanted, (
        f"{seconds}: {wanted} in all, got {got}; add up the last number of each process, "
        "which is the one before a fall, or the last of all"
    )
for budget, wanted in ((3, (True, 0)), (2, (False, -1)), (10, (True, 7))):
    fits, left = within({"training": [60, 90, 30], "tokenizer": [20, 60]}, budget)
    assert (bool(fits), left) == wanted, (
        f"90 + 30 and 60 seconds are 3 minutes, of {budget}: wanted {wanted}, got "
        f"{(fits, left)}"
    )
fits, left = within({}, 4)
assert (bool(fits), left) == (True, 4), (
    f"nothing is spent of 4 minutes, got {left} left"
)
g = generator(5)
for n in (1, 4, 9):
    processes = [
        torch.rand(1 + i % 4, generator=g, dtype=torch.float64).cumsum(0) + 9 - i
        for i in range(n)
    ]
    ends = [each[-1].item() for each in processes]
    ordered = [x for each in processes for x in each.tolist()]
    falls = [i for i in range(1, len(ordered)) if ordered[i] < ordered[i - 1]]
    wanted = sum(ordered[i - 1] for i in falls) + ends[-1]
    got = spent(ordered)
    assert abs(got - wanted) < 1e-9, (
        f"{len(falls) + 1} processes took {wanted:.3f} seconds, got {got}"
    )

# %% [markdown]
# ## From tools to a model
#
# The tools are done; now the model.
# The scripts below are a starting point: change them as you like.
# Save them beside this notebook and run them in a terminal: the notebook locks modules that they need.
#
# `clean.py` reads the folder `texts` and prints what each rule removed, with examples for your report.
# Other rules are in `llmcourse.text.cleaning`: `filter_quality`, for one, drops what is not English prose.
#
# ```python
# """python clean.py: read texts/, write raw.json and cleaned.json, lists of texts."""
#
# import json
# from pathlib import Path
#
# from llmcourse.text.cleaning import clean
# from llmcourse.text.corpus import build_corpus
# from llmcourse.text.deduplication import remove_near_duplicates
# from llmcourse.text.documents import read_texts
#
# skipped = {}  # files that are not text, and why
# raw = list(read_texts("texts", skipped))
# cleaned, report = build_corpus(raw, [clean, remove_near_duplicates])
# print(report)
# for step in report.steps:
#     for removal in step.examples:
#         print(removal)
# print("skipped:", skipped)
# for name, documents in {"raw": raw, "cleaned": cleaned}.items():
#     texts = [document.text for document in documents]
#     Path(f"{name}.json").write_text(json.dumps(texts), encoding="utf-8")
# ```
#
# Then apply your own tools, in a new cell at the end of this notebook:
#
# ```python
# from pathlib import Path
#
# texts = json.loads(Path("cleaned.json").read_text(encoding="utf-8"))
# for name, side in zip(("training", "held_out"), split(texts, 0.05)):
#     Path(name).mkdir()  # an error if it is there: delete an earlier split first
#     for i, text in enumerate(side):
#         Path(name, f"{i:05}.txt").write_text(text, encoding="utf-8")
# ```
#
# `python train.py run 0` trains a tokenizer and a model on `training`, with the seed 0, and writes `run/log.jsonl` and `run/model`.
# Stopped by Ctrl-C, the same command goes on from the last checkpoint.
# The log measures the loss on your held-out documents; the package's own curve, for which it holds out a part of `training`, is not used.
# A recipe has sizes, a learning rate and a number of steps: `llmcourse pretrain --preset small --data training --dry-run` says how long it would take here.
#
# ```python
# """python train.py FOLDER SEED: train on training/, measure on held_out/."""
#
# import json
# import sys
# import time
# from dataclasses import replace
# from pathlib import Path
#
# import torch
#
# from llmcourse.model.folders import save_pretrained
# from llmcourse.text.corpus import own_steps
# from llmcourse.text.documents import read_texts
# from llmcourse.training.checkpoints import Run
# from llmcourse.training.config import Evaluation
# from llmcourse.training.evaluation import text_loss
# from llmcourse.training.pipeline import fit_recipe, prepare_text
# from llmcourse.training.presets import PRESETS
# from llmcourse.training.pretraining import pretrain
#
# folder, seed = Path(sys.argv[1]), int(sys.argv[2])
# folder.mkdir(exist_ok=True)
#
#
# def write(**line):
#     with open(folder / "log.jsonl", "a") as log:
#         log.write(json.dumps({"seconds": time.process_time()} | line) + "\n")
#
#
# def record(event):
#     if isinstance(event, Evaluation):
#         found = text_loss(model, data.tokenizer, held_out)
#         counts = {"tokens": found.n_tokens, "bytes": found.n_bytes}
#         write(step=event.step, loss=found.loss, **counts)
#     else:
#         write(step=event.step, loss=event.loss)
#
#
# write()  # a new process begins: its seconds, nothing else
# held_out = [document.text for document in read_texts("held_out", {})]
# recipe = replace(PRESETS["small"], seed=seed)
# training = replace(recipe.pretraining, steps=1_000, eval_interval=100)
# recipe = replace(recipe, pretraining=training)
# data = prepare_text(recipe, read_texts("training", {}), steps=own_steps())
# recipe = fit_recipe(recipe, data)  # as many ids as the tokenizer has
# model = recipe.new_model()
# generator = torch.Generator().manual_seed(seed)
# run = Run(folder=folder / "checkpoints", progress=record)
# pretrain(model, data.train, data.valid, training, generator, run=run)
# save_pretrained(model, data.tokenizer, folder / "model")
# ```
#
# `llmcourse generate --model run/model "Once"` lets the model write, and `llmcourse evaluate --model run/model --data held_out` measures it.
# Time what you do in a terminal, too: it belongs to the budget.

# %% [markdown]
# ## 6. Report: question and corpus (4 points, written)
#
# In half a page:
#
# 1. **Question.** What should your model be able to do that can be measured? State what you expect, with a number, before you train.
# 2. **Source and rights.** Where the text comes from, who wrote it, under which licence or permission you use it, and what you left out on purpose: names, addresses, anything said in confidence.
# 3. **Cleaning.** What was removed, by which rule, and how much: documents and bytes before and after. Show one thing that a rule removed by mistake.
# 4. **Manifest and split.** `manifest` before and after cleaning, the share held out, and `leaked` for runs of 8 words or more. If something leaks, say what it is and what you did.

# %% [markdown] written="corpus" points=4
# One point for each of the four parts.
#
# - *Question*: full if a measurement could prove the expectation wrong, such as "below 1.9 bits per byte on held-out recipes, where xz, with the training text before it, needs 2.2" or "at least 60 % of the answers name an ingredient that the question names". Half if it is only "writes good recipes".
# - *Source and rights*: full if source, licence or permission, and people who appear in the text are all dealt with. Nothing if the right to use the text is not stated.
# - *Cleaning*: full with numbers before and after, and a real mistake that a rule made (every rule makes some; "none" means that nobody looked). Half without the mistake.
# - *Manifest and split*: full if the numbers fit together (bytes after cleaning, share held out, fingerprint), no duplicates are left after the split, and a leak above about 1 % is explained. Half if the split was drawn at random by documents but near copies were removed first.
#
# An example of the whole: "4,113 recipes of a cooking club, with its permission of 3 May; authors' names are removed, by a list and by hand in a sample of 100, of which 2 still had one.
# Before: 4,902 documents, 5.1 MB, 14 % duplicates; after: 4,113 and 4.2 MB, 0 %.
# The rule that drops documents of fewer than 30 words also dropped nine real recipes for drinks.
# 5 % are held out; of their runs of 8 words 0.7 % are in training, nearly all of them 'preheat the oven to 180 degrees and grease a'."

# %% [markdown]
# ## 7. Report: model and results (5 points, written)
#
# On one page, with a figure:
#
# 1. **Model and budget.** Sizes of model and vocabulary, tokens seen, how you chose them for this budget, and `within` for all parts, failed attempts included.
# 2. **Curve and baselines.** The held-out curve in bits per byte, beside at least two baselines: `xz -9` with the training text before it (the compressed bytes of both together, less those of the training text alone; `gzip` looks back only 32 KiB), and an n-gram model. Say where you stopped and why.
# 3. **One comparison.** One choice against another, with everything else the same, including the budget, and three seeds each; mean and standard error, and what follows.
# 4. **Tuning or use.** What you did beyond pretraining (instructions, preferences, retrieval, or a prompt), and a number before and after.
# 5. **Samples.** Six samples from one stated setting, not hand-picked, and what is wrong with them. Check one for text that was learned by heart, and say how.

# %% [markdown] written="results" points=5
# One point for each of the five parts.
#
# - *Model and budget*: full if the sizes follow from something (a scaling law, a sweep on a tenth of the budget, memory) and the minutes of all parts add up; half if the minutes cover only the last run.
# - *Curve and baselines*: full with two baselines in the same unit on the same held-out text. Half if the units differ (perplexities across tokenizers do not compare) or if a baseline had less text to learn from and the report does not say so. The model with the lowest held-out loss must have been kept, or a reason given.
# - *One comparison*: full with three seeds on each side, an error, and a conclusion that fits it; "no difference was found" is as good as a difference. Half with fewer seeds, if the report says that nothing follows.
# - *Tuning or use*: full with the same measure before and after, on cases that were not tuned on. Half if only examples are shown.
# - *Samples*: full if they were not hand-picked, the setting (temperature, seed, prompt) is stated, faults are named by kind ("forgets the amount after two lines"), and the training text was searched for long runs of words from a sample. Half if they were hand-picked.
#
# An example of part 3: "Vocabularies of 1,024 and 4,096, 12 minutes a run, seeds 0 to 2: 1.93 ± 0.01 and 1.96 ± 0.02 bits per byte. The difference of 0.03 has an error of 0.022, so we cannot say which is better; we kept 1,024, which is smaller."

# %% [markdown]
# ## 8. Report: limits, and what you would do next (3 points, written)
#
# In half a page:
#
# 1. **What your numbers do not show.** Name at least two reasons why your main result may not hold elsewhere or may be wrong, each with a check that would tell.
# 2. **Harm.** Who could be hurt if others used your model, by what, and what you would do about it before giving it to anyone. "It is too small to harm" is not an answer.
# 3. **Run it again.** The commands, seeds, versions and the fingerprint of the corpus with which a stranger can get your main number, within a stated tolerance; and what you would do first with ten times the budget, and why you expect that to help most. Plan it: FLOPs, hours and memory, and how many processors or GPUs share the work, with what each would hold and exchange.

# %% [markdown] written="limits" points=3
# One point for each of the three parts.
#
# - *What the numbers do not show*: full with two reasons that belong to this project and a check for each. "All held-out recipes are by the same four authors as the training data; hold out an author and measure again." "One seed for the tuned model; two more would show whether 61 against 55 % is luck." Half for reasons that fit every project ("more data would help").
# - *Harm*: full if a person, a way and a measure are named. "A recipe for canning beans with too short a time can make people ill; the model mixes times up in 3 of 20 samples, so it must not be given out as a cookbook, and its card says so in the first line." Memorised personal text counts as well. Half if it is general.
# - *Run it again*: full if nothing that a stranger needs is missing, with a tolerance that comes from the seeds or the machine, and a next step that follows from a result in part 7 rather than from a wish. Half if one of the two is missing, or if the plan's hours and memory do not follow from its parameters and tokens.
