# %% [markdown]
# (corpus)=
# # The corpus
#
# A training corpus is raw text with the copies, the noise and the test set taken out, and with a record of what each step removed.
#
# **You will be able to**
#
# - find copies and near copies among many documents without comparing every pair,
# - build a corpus from raw text and say what each step removed, rightly and wrongly,
# - split a corpus, and find test passages that leaked into the training text,
# - say what an entropy floor is, and read a loss against it.
#
# **You need** Python, sets and logarithms, but no knowledge of language models.
#
# **Takes** about 45 minutes to read with the code.
#
# **Runs in** about 45 seconds on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import ast
import bz2
import lzma
import pydoc
import re
import tempfile
import textwrap
import zlib
from collections import Counter, defaultdict
from functools import partial
from hashlib import blake2b
from html.parser import HTMLParser
from itertools import accumulate, chain, combinations, pairwise
from math import exp, log, sqrt
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from llmcourse import plotting
from llmcourse.checks import corpus as checks
from llmcourse.text import cleaning, corpus, deduplication, documents, packing, tales
from llmcourse.text.grammar import Grammar
from llmcourse.text.ngrams import NGramModel
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.widgets.surprise import SurpriseExplorer

plotting.use_course_style()

# %% [markdown]
# ## The problem
#
# "Collect a massive raw text corpus" is the first line of every recipe for a language model, and often the only one about text.
# The text comes mostly from three kinds of source, each with its own faults.
#
# | Kind | What it is like | What has to be done |
# |---|---|---|
# | web pages | endless, of every kind, full of copies and menus | extract the text, filter, remove copies |
# | books | long and well written, few, mostly under copyright | find what may be used, undo hyphens and page numbers |
# | code | exact; the same files in thousands of projects | respect licences, remove copies, keep spaces and line breaks |
#
# The web is the largest by far: **{term}`Common Crawl`** has collected pages since 2008, and stores them as they were sent, in files called **WARC**.
# Here are twelve such pages, as a crawler might bring them from the site of a small harbour town.
# The texts are invented; the faults are not.
# First come the menu that every page begins with, and the text of one page.

# %%
MENU = "Home | News | Boats | Contact us\n"
LIGHT = (
    "The old lighthouse was built in 1866 and has been dark since the storm of 1953. "
    "This week two painters and a carpenter began to repair the lamp room, and they "
    "found a letter behind the stairs."
)

# %% [markdown]
# The second text has faults that nobody sees on a page; most of them are written here as escapes.

# %%
BAKER = (
    "René has run the cafe\u0301 by the harbour for thirty years.\u200b He gets up at "
    "three, bakes\xa0the bread himself and knows what every fisherman wants before the "
    "door has closed. \x93I never write anything down,\x94 he says."
)

# %% [markdown]
# The third is plain.

# %%
FERRY = (
    "The ferry to the island leaves at eight in the morning and at noon. In winter it "
    "waits for the tide, and when the wind is too strong it does not leave at all, so "
    "that the children of the island have a holiday nobody planned."
)

# %% [markdown]
# Each text is on one page of the crawl.
# Four more pages are copies of these three, two exact and two near.

# %%
page_texts = {"lighthouse": LIGHT, "cafe": BAKER, "ferry": FERRY}
page_texts["lighthouse?print=1"] = LIGHT
page_texts["archive/lighthouse"] = LIGHT
page_texts["cafe?lang=en"] = BAKER.replace("thirty", "forty")
page_texts["ferry/old"] = FERRY.replace("at noon", "at one")

# %% [markdown]
# Of the next two pages, one is in German, and the other is an offer that repeats itself.

# %%
page_texts["leuchtturm"] = (
    "Der alte Leuchtturm ist seit dem Sturm dunkel. Nun wird er von "
    "zwei Malern und einem Tischler repariert, und sie haben einen Brief gefunden."
)
page_texts["offers"] = "cheap boats for sale " * 8

# %% [markdown]
# The last three hold beginnings without an end, an error message, and nothing that can be read.

# %%
page_texts["teaser"] = (
    "The mayor has decided that the ...\nA whale was seen on ...\n"
    "What the baker never told you about the bread is ...\nRead on and be ..."
)
page_texts["404"] = "We could not find this page."
page_texts["empty"] = "\x00\x00"

# %% [markdown]
# With the menu added, these are the twelve pages; the cell prints the beginning of the second one.

# %%
crawl = [
    documents.Document(MENU + text, name=name) for name, text in page_texts.items()
]
print(len(crawl), "pages")
for line in crawl[1].text.split("\n"):
    print(ascii(line[:60]))

# %% [markdown]
# `ascii` spells out the unusual characters.
# The menu comes first, and é is stored in two different ways.
# In *René* it is one character; in *café* it is an e followed by a combining accent, so a model would see two different letters.
# A zero-width space hides after *years.*
# Further on come a no-break space and two control characters, which were quotation marks before somebody read them in the wrong encoding.
#
# Above all, a model learns what is frequent, so let's count in how many lines each run of five words occurs.
# (`deduplication.words` cuts a text into its words, in lower case and without punctuation.)


# %%
def frequent_runs(pages, n=5):
    """Return the number of lines in which each run of n words occurs."""
    counts = Counter()
    for line in "\n".join(page.text for page in pages).split("\n"):
        tokens = deduplication.words(line)
        runs = [" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        counts.update(list(dict.fromkeys(runs)))  # each run once per line
    return counts


# %%
for run, count in frequent_runs(crawl).most_common(5):
    print(f"{count:>2} × {run}")

# %% [markdown]
# The menu comes first, followed by runs from a page that was crawled three times.
# Real crawls are no better: one well-known web corpus holds the same English sentence tens of thousands of times, and models trained on it recite such passages {cite:p}`lee2022`.
# This is **memorisation**.
# So copies have to go, but which pages *are* copies?
# `ferry` and `ferry/old` differ in one word, and no exact comparison finds the pair.

# %% [markdown]
# ## By hand
#
# Take two short sentences and cut each into its pairs of neighbouring words, its *shingles*.


# %%
def pairs_of_words(sentence):
    """Return the shingles of two words of a sentence, in order."""
    tokens = sentence.split()
    return [f"{a} {b}" for a, b in pairwise(tokens)]


# %%
a = pairs_of_words("the fox ran into the old mill")
b = pairs_of_words("the fox ran out of the old mill")
shared, union = set(a) & set(b), list(dict.fromkeys(a + b))
print("shared:", sorted(shared))
print(
    f"Jaccard similarity: {len(shared)}/{len(union)} = {len(shared) / len(union):.2f}"
)

# %% [markdown]
# Four of the nine different shingles are in both sentences, so the **{term}`Jaccard similarity`** is 4/9.
#
# ![Two overlapping boxes, one for each sentence. In both: the fox, fox ran, the old, old mill. Only in A: ran into, into the. Only in B: ran out, out of, of the. 4 of 9 are shared.](figures/shared-shingles.svg)
#
# *The shingles of the two sentences: the green ones are in both.*
#
# Now for the trick that makes this cheap, **{term}`MinHash`**.
# Number the nine shingles from 0 to 8 and put them in a random order.
# A hash function, such as $(3x + 1) \bmod 11$, gives shingle number $x$ a value, and the smallest value comes first.
# (11 is a prime number above 8, so all nine values differ.)
# For each sentence we keep only its smallest value.
# Sentence A has the shingles 0 to 5; B shares 0, 1, 4 and 5, and has 6 to 8 for itself.

# %%
for factor, offset in ((3, 1), (2, 2), (3, 5)):
    values = {shingle: (factor * x + offset) % 11 for x, shingle in enumerate(union)}
    smallest_a = min(values[shingle] for shingle in a)
    smallest_b = min(values[shingle] for shingle in b)
    result = "agree" if smallest_a == smallest_b else "differ"
    print(f"({factor}x + {offset}) mod 11: {list(values.values())}", end=", ")
    print(f"smallest: A {smallest_a}, B {smallest_b} → {result}")

# %% [markdown]
# One of the three hash functions agrees, so three numbers per sentence estimate the similarity as 1/3; the truth is 4/9.
# Three numbers are few, so the estimate is coarse.
# But the mean of such estimates is right, and here is why.
# In a random order each of the nine shingles is equally likely to come first.
# If the first of all nine is shared, it has the smallest value in both sentences, and the two values agree.
# If it is not shared, only one sentence has it, and the two values differ.
# So they agree with probability 4/9: the Jaccard similarity itself.
#
# ![Three rows of the same nine shingles, each in the order of one hash function. Below each shingle is A, B or both. The first shingle is in B alone, then in A and B, then in A alone; the minima differ, agree and differ.](figures/first-of-all-decides.svg)
#
# *Only the first shingle of each order matters.
# If both sentences have it (A B), their minima agree.*

# %% [markdown]
# ## The idea
#
# A corpus is built in steps, cheap ones first:
#
# 1. **Extract** the text from pages and files.
# 2. **Clean**: one Unicode form, one kind of line end, no invisible characters, no repeated menus (*boilerplate*).
# 3. **Filter**: keep prose in the wanted language, by rules that people can read.
# 4. **Deduplicate**: exact copies by a *hash*, a number computed from the whole text, and near copies by MinHash; cleaning comes first, because it makes copies equal.
# 5. **Split** into documents for training, for choosing settings (*validation*) and for the final measurement (*test*), and check that no passage to learn from is also one to measure with.
# 6. **Pack** the {term}`token` ids into one long array on disk.
#
# *Near copies.*
# Let $A$ and $B$ be the sets of shingles of two texts, and $h_1, \dots, h_k$ random hash functions {cite:p}`broder1997`:
#
# $$
# \begin{gathered}
# J(A, B) = \frac{|A \cap B|}{|A \cup B|}, \\
# P\bigl(\min h_i(A) = \min h_i(B)\bigr) = J(A, B).
# \end{gathered}
# $$
#
# The $k$ minima of a text are its *signature*.
# The share of places where two signatures agree estimates $J$, with a standard error of $\sqrt{J(1-J)/k}$.
# (The *standard error* says how far an estimate typically is from the truth; it is almost never off by more than four of them.)
#
# *Not all pairs.*
# Cut the $k$ numbers into $b$ bands of $r$, and look only at pairs of texts that agree in all $r$ numbers of at least one band.
# Texts with equal bands are found by sorting or with a dictionary {cite:p}`leskovec2020`.
# A pair of similarity $s$ agrees in any given band with probability $s^r$, and in none of the $b$ bands with probability $(1 - s^r)^b$.
# So it is looked at with probability
#
# $$
# 1 - (1 - s^r)^b ,
# $$
#
# which, plotted over $s$, is a steep S: near 0 for unrelated texts, near 1 for copies.
#
# *The floor.*
# The source of a corpus limits how well any model of it can do.
# Let this source give a story $x$ the probability $P(x)$.
# Then the *surprise* of the story is $-\log P(x)$: 0 if it is certain, and large if it is rare.
# The mean surprise is the **{term}`entropy`** of the source {cite:p}`shannon1948`:
#
# $$
# H = -\sum_x P(x) \log P(x) \;\le\; -\sum_x P(x) \log Q(x) .
# $$
#
# This holds for every model $Q$.
# The right-hand side is the {term}`cross-entropy` of $Q$: the model's mean surprise, called its *loss*, which training minimises.
# With natural logarithms its unit is the {term}`nat`.
# The cross-entropy is never below $H$, whatever the model {cite:p}`cover2006`; by chance, the mean over a few stories can be.
# So $H$ is the floor under every loss; for human text it is unknown, and for text from a known source it can be computed.
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $A, B$ | sets of shingles of two texts | sets of 64-bit numbers | `deduplication.shingles(text, n)` |
# | $J, s$ | Jaccard similarity | a number from 0 to 1 | `deduplication.jaccard(a, b)` |
# | $k$ | hashes in a signature | 128 | `n_hashes` |
# | $b, r$ | bands, hashes in a band; $br = k$ | 32, 4 | `n_bands`, `n_rows` |
# | $P(x)$ | true probability of a story | in $(0, 1]$ | `exp(tales.log_prob(x))` |
# | $H$ | entropy of the source | nats per story, per word | `tales.world().entropy()`, `tales.entropy_per_word()` |

# %% [markdown]
# ## In code
#
# A signature takes a few lines.
# One good hash function becomes $k$ different ones when we write a number from 0 to $k - 1$ in front of each shingle.
# The package hashes in a different and much faster way, so its values differ.
# But the estimates have to agree: both must be within four standard errors of the exact similarity, as the folded cell checks.


# %%
def minhash_signature(text, n, n_hashes):
    """Return the smallest hash of the shingles of n words, for each hash function."""
    tokens = deduplication.words(text)
    runs = {" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}
    return [
        min(blake2b(f"{i} {run}".encode()).digest() for run in runs)
        for i in range(n_hashes)
    ]


# %%
old = FERRY.replace("at noon", "at one")
mine = [minhash_signature(text, 3, 1024) for text in (FERRY, old)]
sets = [deduplication.shingles(text, n=3) for text in (FERRY, old)]
exact = deduplication.jaccard(*sets)
estimate = sum(x == y for x, y in zip(*mine)) / 1024
print(f"Jaccard similarity: exact {exact:.2f}, estimated {estimate:.2f}")

# %% tags=["hide-input"]
# The estimate and the package's lie within four standard errors
theirs = deduplication.signatures(sets, n_hashes=1024)
standard_error = sqrt(exact * (1 - exact) / 1024)
assert abs(estimate - exact) < 4 * standard_error
assert abs(deduplication.estimated_jaccard(*theirs) - exact) < 4 * standard_error

# %% [markdown]
# Only one word was changed, yet the similarity is well below 1, because that word is in three shingles of each text.
#
# Now for the bands: texts with an equal band fall into the same bucket of a dictionary.
#
# ![Three grids of 32 columns and 4 rows, green where two signatures agree. For ferry and ferry/old, with similarity 0.87, nearly everything is green and 19 columns are full. For sentences A and B, with similarity 0.44, half is green and 2 columns are full. For ferry and lighthouse nothing is green.](figures/bands-that-agree.svg)
#
# *Each column is a band of 4 hashes; green means that the two texts agree, and a bar that the whole band does.
# One full band is enough for the two texts to be compared.*


# %%
def candidates(signatures, n_bands):
    """Return the pairs of texts that agree in at least one whole band."""
    pairs = set()
    for band in np.split(signatures, n_bands, axis=1):
        buckets = defaultdict(list)
        for number, row in enumerate(band):
            buckets[row.tobytes()].append(number)
        for bucket in buckets.values():
            pairs.update(combinations(bucket, 2))
    return sorted(pairs)


# %%
sets = [deduplication.shingles(document.text, n=3) for document in crawl]
signatures = deduplication.signatures(sets, n_hashes=128)
print("pairs to compare:", candidates(signatures, n_bands=32))

# %% tags=["hide-cell"]
# The package proposes the same pairs
theirs = deduplication.candidate_pairs(signatures, n_bands=32)
assert candidates(signatures, n_bands=32) == [tuple(pair) for pair in theirs.tolist()]

# %% [markdown]
# Of all the pairs among twelve pages, only these few have to be looked at.
# Pages 0, 3 and 4 are the lighthouse, 1 and 5 the café, 2 and 6 the ferry: every copy is found, and nothing else.
#
# The whole chain is `corpus.build_corpus`.
# Its default settings are meant for thousands of long pages.
# For these twelve short pages we lower three settings: the words that a page needs, the pages that make a line boilerplate, and the words in a shingle.
# `cleaning.GOPHER` holds the rules of the quality filter, named after the model Gopher, for whose corpus they were made {cite:p}`rae2021`.
# A rule has a name, a function that measures a text, and the least and the greatest value allowed.
# Here the language filter comes before the quality filter, so that both have something to do.

# %%
rules = [
    cleaning.Rule("number of words", cleaning.word_count, 15, 1e5),
    *cleaning.GOPHER[1:],
]

# %%
steps = (
    cleaning.clean,
    partial(cleaning.remove_boilerplate, min_documents=4),
    cleaning.filter_language,
    partial(cleaning.filter_quality, rules=rules),
    deduplication.remove_duplicates,
    partial(deduplication.remove_near_duplicates, n=3),
)

# %%
kept, report = corpus.build_corpus(crawl, steps)
print(report, "\n")
for removal in chain.from_iterable(step.examples for step in report.steps[1:]):
    print(removal)
print("kept:", [document.name for document in kept])

# %% tags=["remove-cell"]
assert max(frequent_runs(kept).values()) == 1

# %% [markdown]
# ![Twelve lines, one for each page, through six steps. empty ends at boilerplate, leuchtturm at language, three pages at quality, two at copies, two at near copies; lighthouse, cafe and ferry reach the end. Pages left: 12, 11, 10, 7, 5, 3.](figures/twelve-pages-become-three.svg)
#
# *A cross marks the step that removed a page.
# Below each step is the number of pages that it left.*
#
# Each step says how much it removed and why, with one example for each reason; percentages are of what reached the step.
# Boilerplate removal dropped `empty`, since nothing was left of it.
# The symbols counted in `teaser` are its three dots, `...`.
# Seven of the twelve pages held only three texts, and the other five were not wanted.
# In the text that is left, no run of five words occurs in two lines.

# %% [markdown]
# ## Experiment
#
# ### From a web page to its text
#
# A page arrives as HTML: text between tags, with menus, programs and styles.
# Text extraction decides which parts of it a model will read.
# Here is a small page, written for this course.

# %%
PAGE = """<!doctype html><html><head><title>Harbour news</title>
<style>p {color: navy}</style><script>track("visit");</script></head>
<body><nav><a href="/">Home</a><a href="/boats">Boats</a></nav>
<h1>The lamp room</h1><p>The lighthouse of 1866 is <b>open</b> again: painters &amp;
carpenters have worked there since spring.</p><p>Greet every boat:</p>
<pre>for boat in harbour:
    greet(boat)</pre>
<footer>&copy; Harbour town. All rights reserved.</footer></body></html>"""

# %% [markdown]
# The first idea that comes to mind is to delete everything between `<` and `>`.

# %%
print(re.sub("<[^>]*>", "", PAGE))

# %% [markdown]
# The style and the program are still there, menu items and headings run into the next words, and `&amp;` should be `&`.
# A parser understands tags.
# Ours skips those that hold no prose, and starts a new line at those that begin a block.


# %%
class TextOfPage(HTMLParser):
    """Collect the text of a page in `parts`."""

    SKIPPED = ("title", "script", "style", "nav", "header", "footer", "aside", "form")
    BLOCKS = ("h1", "h2", "h3", "p", "div", "li", "pre", "tr", "table", "section", "br")
    depth = 0  # how many skipped tags are open
    parts = ()  # the text so far

    def handle_starttag(self, tag, attributes):
        if tag in self.SKIPPED:
            self.depth += 1
        if tag in self.BLOCKS:
            self.parts += ("\n",)

    def handle_endtag(self, tag):
        if tag in self.SKIPPED:
            self.depth -= 1
        if tag in self.BLOCKS:
            self.parts += ("\n",)

    def handle_data(self, data):
        if self.depth == 0:
            self.parts += (data,)


# %%
def page_text(page):
    """Return the text of an HTML page."""
    parser = TextOfPage()
    parser.feed(page)
    return cleaning.clean_text("".join(parser.parts))


print(page_text(PAGE))

# %% tags=["remove-cell"]
assert "greet(boat)" in page_text(PAGE) and "rights" not in page_text(PAGE)

# %% [markdown]
# To test it on a page that we did not write, the next cell reads the documentation page that Python makes for its module `textwrap`.
# (The numbers depend on your Python.)

# %% tags=["nbval-ignore-output"]
page = pydoc.HTMLDoc().docmodule(textwrap)
text = page_text(page)
print(f"{len(page):,} characters of HTML, {len(text):,} of text:")
print(textwrap.shorten(text[text.index("Text wrapping") :], 90))

# %% tags=["remove-cell"]
documented = set(textwrap.wrap.__doc__.split())
assert len(text) < len(page) / 2 and len(documented - set(text.split())) <= 2

# %% [markdown]
# Real pages leave tags unclosed, and put menus into any `<div>`.
# So programs such as **trafilatura** also look at how much of a block consists of links, and how long its lines are {cite:p}`barbaresi2021`.
# The choice matters: for FineWeb, a corpus of English web pages, text that trafilatura extracted gave better models than the text that Common Crawl extracts itself {cite:p}`penedo2024`.
#
# ### From a book's pages to its text
#
# A printed page breaks its lines, divides words, and adds a title and a number.
# The next cell prints a tale in this way, so we know what should come out.


# %% tags=["hide-input"]
def printed(text, head, width=38, n_lines=9):
    """Return the pages of a text: a title, lines with divided words, a number."""
    lines, line = [], ""
    for word in text.split():
        room = width - len(line) - 1
        if len(word) <= room:
            line = f"{line} {word}".strip()
        elif len(word) >= 7 and room >= 4:  # divided, at a hyphen if it has one
            own = word[:room].find("-")
            cut = own if own > 0 else min(room - 1, len(word) - 3)
            lines.append(f"{line} {word[:cut]}-")
            line = word[cut:].removeprefix("-")
        else:
            lines.append(line)
            line = word
    lines.append(line)
    pages = [lines[i : i + n_lines] for i in range(0, len(lines), n_lines)]
    return ["\n".join((head, *page, str(n))) for n, page in enumerate(pages, 1)]


tale = next(tales.generate(1, seed=0)).text
pages = printed(tale, head="TALES OF THE VILLAGE")
print(pages[1])

# %% [markdown]
# Three rules undo most of it: drop lines that recur, drop numbers alone on a line, and rejoin words cut by a hyphen at a line's end.
# The third takes a function that joins the two halves; the plainest one drops the hyphen.


# %%
def without_hyphen(left, right):
    """Return a divided word as one, without its hyphen."""
    return left + right


# %%
def book_text(pages, join=without_hyphen):
    """Return the text of printed pages, in one line; `join` makes divided words whole."""
    lines = [line for page in pages for line in page.splitlines()]
    counts = Counter(lines)
    kept = [line for line in lines if counts[line] == 1 and not line.isdigit()]
    divided = re.compile(r"(\w+)-\n(\w+)")
    whole = divided.sub(lambda match: join(match[1], match[2]), "\n".join(kept))
    return whole.replace("\n", " ")


# %% [markdown]
# The next cell prints the words that come out but are not in the tale.

# %%
print("not in the tale:", set(book_text(pages).split()) - set(tale.split()))

# %% [markdown]
# One hyphen belonged to its word, and the page does not say which.
# Other text does: the form that is more frequent there is probably right.

# %%
other_tales = " ".join(story.text for story in tales.generate(1000, seed=1))
word_counts = Counter(re.findall(r"[\w-]+", other_tales))
for word in ("market-day", "marketday"):
    print(f"{word:10} {word_counts[word]} times")

# %% [markdown]
# With a function that takes the more frequent form, `book_text` gives back the tale.


# %%
def more_frequent(left, right):
    """Return a divided word with or without its hyphen, as other tales have it."""
    return max(left + right, f"{left}-{right}", key=lambda word: word_counts[word])


print("the same as the tale:", book_text(pages, more_frequent) == tale)

# %% tags=["remove-cell"]
assert book_text(pages, more_frequent) == tale

# %% [markdown]
# The rules can drop too much: a refrain recurs like a title, and a year can be alone on its line.
# Paragraph breaks are lost as well when lines are joined.
# Older books have to be scanned first, and a program reads the letters: **{term}`OCR`**, which now and then takes *rn* for *m*.
#
# ### Code
#
# Models read programs as well, and cleaning meant for prose may break them.
# The files of Python's standard library are on your machine.
# (How many there are depends on your Python, and so do the numbers below.)

# %% tags=["nbval-ignore-output"]
programs = [
    path.read_text(encoding="utf-8", errors="replace")
    for path in sorted(Path(pydoc.__file__).parent.glob("*.py"))
]
print(len(programs), "files")

# %% [markdown]
# Two texts are the same program if Python reads the same syntax tree in both.


# %%
def syntax_tree(text):
    """Return the syntax tree of a program, or None if it cannot be parsed."""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return None


# %% [markdown]
# Suppose that every run of spaces becomes one space, and those at the beginning of a line are dropped.


# %%
def join_spaces(text):
    """Return a text with single spaces, and with none at the beginning of a line."""
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))


# %% [markdown]
# We count the files that are still the same programs after this change, and after our `clean_text`.

# %% tags=["nbval-ignore-output"]
for name, change in (
    ("join_spaces", join_spaces),
    ("clean_text", cleaning.clean_text),
):
    same = sum(syntax_tree(text) == syntax_tree(change(text)) for text in programs)
    print(f"after {name:11} {same:4} files are the same program")

# %% [markdown]
# We also count the files that would pass the rules for good prose.

# %% tags=["nbval-ignore-output"]
passed = sum(cleaning.quality_fault(text) is None for text in programs)
print(f"{passed} of {len(programs)} files pass as prose")

# %% [markdown]
# In Python, spaces at the beginning of a line are grammar, so `clean_text` keeps them.
# In the few files whose program changed, it was mostly blank lines inside strings that were lost.
# The files are full of sentences meant for people, so most of them pass as prose: the rules cannot tell code from prose.
# Code is collected by file name, and filtered by its own rules: whether a program wrote it, whether it is all data {cite:p}`chen2021`, what its licence allows {cite:p}`kocetkov2022`.
# Whole files are copied from project to project, so collections of code are searched for copies as well.

# %% [markdown]
# ### Near copies in real text
#
# The documentation that comes with Python is real text, and it is on every machine that runs this page.
# In it we plant edited copies whose exact similarity to their originals is known, so that we can count what MinHash finds.
#
# *Predict:* a signature of 128 numbers is cut into 32 bands of 4, or into 16 bands of 8.
# Which of the two finds more copies, and at which similarity does each begin to miss them?
#
# :::{dropdown} Answer
# The short bands, since four numbers agree more easily than eight.
# They begin to miss copies below a similarity of about 0.6, the long bands below about 0.85.
# :::
#
# We take the longer texts of the documentation, cleaned and without exact copies.
# (How many there are depends on your Python.)

# %% tags=["nbval-ignore-output"]
cleaned, _ = cleaning.clean([*documents.python_docs()])
distinct, _ = deduplication.remove_duplicates(cleaned)
long_texts = [d.text for d in distinct if len(d.text.split()) >= 200]
print(len(long_texts), "texts of at least 200 words")

# %% [markdown]
# To each of 160 of them we add an edited copy; the similarities that we ask for go from 0.15 to 0.95.

# %%
wanted = np.linspace(0.15, 0.95, 160).tolist()
texts, planted = deduplication.plant_near_duplicates(long_texts[:160], wanted)
similarity = np.array([pair.similarity for pair in planted])
print(len(planted), "planted pairs")

# %% [markdown]
# One signature for each text would make a coarse measurement, so we take ten, and note where the two texts of a pair agree.
# On average, the share of equal hashes is near the exact similarity.

# %% tags=["nbval-ignore-output"]
sets = [deduplication.shingles(text) for text in texts]
signatures = deduplication.signatures(sets, n_hashes=1280)  # ten signatures of 128
first = [pair.first for pair in planted]
second = [pair.second for pair in planted]
agree = signatures[first] == signatures[second]  # (pair, hash)
print(f"mean similarity {similarity.mean():.2f}, hashes that agree {agree.mean():.2f}")

# %% tags=["remove-cell"]
assert abs(similarity.mean() - agree.mean()) < 0.02

# %% tags=["hide-input"] mystnb={"image": {"alt": "The share of planted copies that are found, against their similarity. Measured points lie on two S-shaped curves: 32 bands of 4 rise steeply around a similarity of 0.4, 16 bands of 8 around 0.7."}}
fig, ax = plt.subplots(figsize=(4, 2.5))
groups = np.array_split(np.argsort(similarity), 16)
middle = [similarity[group].mean() for group in groups]
grid = np.linspace(0, 1, 101)
for n_rows, mark, line in ((4, "o", "-"), (8, "s", "--")):
    in_bands = agree.reshape(len(agree), 10, -1, n_rows)  # (pair, signature, band, row)
    found = in_bands.all(axis=-1).any(axis=-1).mean(axis=1)
    n_bands = 128 // n_rows
    curve = [deduplication.candidate_probability(s, n_bands, n_rows) for s in grid]
    (drawn,) = ax.plot(grid, curve, line)
    half = grid[np.searchsorted(curve, 0.5)]
    name, side = f"  {n_bands} bands of {n_rows}  ", "right" if n_rows == 4 else "left"
    ax.annotate(name, (half, 0.5), ha=side, color=drawn.get_color(), fontsize=8)
    ax.plot(
        middle, [found[g].mean() for g in groups], mark, color=drawn.get_color(), ms=4
    )
    predicted = [
        deduplication.candidate_probability(s, n_bands, n_rows) for s in similarity
    ]
    misses = [abs(found[g].mean() - np.mean(np.array(predicted)[g])) for g in groups]
    assert np.mean(misses) < 0.05
_ = ax.set(xlabel="Jaccard similarity of the pair", ylabel="share found")

# %% [markdown]
# *Share of planted copies that the bands propose: dots as measured, lines by the formula.*
#
# The points are measured, the curves are $1 - (1 - s^r)^b$, and nothing was fitted.
# Short bands find more pairs, long bands fewer; both find nearly every copy that differs only a little.
# The rise is near $(1/b)^{1/r}$: there $s^r = 1/b$, and $1 - (1 - 1/b)^b$ is nearly two thirds.
# Well below that point most copies are missed; with more hashes the curve can be made steeper.
#
# Finding candidates by equal bands is called **locality-sensitive hashing**, LSH.
# What it proposes is then checked exactly, so a pair is reported only if its similarity really reaches a threshold that we choose.
# The slow way, comparing all pairs, gives the truth.
# The following numbers depend on your version of Python and its documentation; what the text concludes from them does not.

# %% tags=["nbval-ignore-output"]
exact = {
    (i, j): deduplication.jaccard(sets[i], sets[j])
    for i, j in combinations(range(len(texts)), 2)
}
proposed = deduplication.candidate_pairs(signatures[:, :128], n_bands=32)
print(f"{len(exact):,} pairs in all, {len(proposed):,} proposed by LSH")

# %% [markdown]
# *Recall* is the share of the true pairs that was reported, and *precision* the share of the reported pairs that is true.
# The function below measures both for one threshold, and the precision without the exact check.


# %%
def measure(threshold):
    """Return the number of true pairs, recall, and precision with and without check."""
    true = [pair for pair in exact if exact[pair] >= threshold]
    wanted = [deduplication.Pair(*pair, exact[pair]) for pair in true]
    found = deduplication.near_duplicates(texts, threshold=threshold)
    precision, recall = deduplication.precision_recall(found, wanted)
    n_right = sum(exact[tuple(pair)] >= threshold for pair in proposed.tolist())
    return len(true), recall, precision, n_right / len(proposed)


# %% [markdown]
# *Promised* is the formula's value for a pair just at the threshold; the last column is the precision of all that LSH proposes.

# %% tags=["nbval-ignore-output"]
measured = {threshold: measure(threshold) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)}
print("threshold  true pairs  promised  recall  precision  without the check")
for threshold, (n_true, recall, precision, unchecked) in measured.items():
    promised = deduplication.candidate_probability(threshold, 32, 4)
    print(f"{threshold:9} {n_true:11} {promised:9.2f}", end=" ")
    print(f"{recall:7.2f} {precision:10.2f} {unchecked:18.2f}")

# %% tags=["remove-cell"]
assert all(recall > 0.9 for _, recall, _, _ in measured.values())
assert all(precision == 1.0 for _, _, precision, _ in measured.values())
assert len(proposed) * 100 < len(exact)

# %% [markdown]
# The exact check makes the precision perfect.
# The recall is at least what the curve promises, since nearly all true pairs are above the threshold, where the curve is higher.
# Fewer than one pair in a hundred had to be compared.
# The gain grows with the corpus: the number of pairs grows with the square of its size, but the work of LSH only about in proportion.
#
# ### A corpus from this machine
#
# Now the same documentation goes through the whole chain, with the default settings.
# Again, the numbers depend on your version of Python.

# %% tags=["nbval-ignore-output"]
kept, report = corpus.build_corpus(documents.python_docs())
print(report, "\n")
filtered = report.steps[2]
print(filtered)

# %% tags=["remove-cell"]
assert 0.1 < filtered.removed_share < 0.6
assert 1 - filtered.characters_out / filtered.characters_in < filtered.removed_share / 2
assert next(iter(filtered.reasons)) == "number of words"

# %% [markdown]
# The filter's rules were made for web pages, and here it removes a large share of the documents.
# But this text was written with care by people who know their language.
# On text known to be good, whatever a filter removes is a false alarm, so the share that it removes *is* its false-positive rate.
#
# Most false alarms come from one rule, the minimum number of words.
# Two sentences would be too short for a web page, but as a docstring they can still be good text.
# The removed documents are short, so the share of the *characters* that is lost is much smaller.
# A filter is made for one kind of text, and its error has to be measured on the kind that you have.

# %% [markdown]
# ### A test set that leaked
#
# `corpus.split` puts each document into training (about 90 %), validation or test (5 % each) by a hash of its text.
# So exact copies land on the same side, and no document changes sides when the corpus grows.
# The report above found hardly any copies, and yet this split is not clean.

# %% tags=["nbval-ignore-output"]
parts = corpus.split(kept)
overlaps = corpus.contamination(parts["train"], parts["test"], n=13)
print(f"{len(overlaps)} of {len(parts['test'])} test documents", end=" ")
print("share 13 words in a row with training text")
for overlap in sorted(overlaps, key=lambda overlap: -overlap.share)[:3]:
    name, source = overlap.document.name, overlap.training.name
    print(f"  {name}: {overlap.share:.0%} is also in training, first in {source}")

# %% tags=["remove-cell"]
assert overlaps

# %% [markdown]
# In the first pair, one section of the reference is both a topic of its own and part of a longer chapter.
# (With your Python it may be a different pair.)
# The test text is contained in the training text, yet the two are not *similar*, because most of the longer text is something else.
# A threshold low enough to find them would also remove texts that differ.
# That is why we look for {term}`contamination` separately from copies, by shared runs of words {cite:p}`brown2020`.
#
# ![Two near copies as bars of equal length, green except for a small gap. Below, a short test text, all green, and a long training text that holds it as a small green part.](figures/contained-but-not-similar.svg)
#
# *Green is what two texts share.
# The lower pair shares little of its longer text, so its similarity is low.*
#
# To see how much a leak matters, we need the simplest model that remembers: an **{term}`n-gram`** model.
# It counts which word followed each run of up to $n - 1$ words, and mixes the longer runs with the shorter ones {cite:p}`witten1991`.
#
# Do it by hand with three sentences: *the fox ran*, *the fox slept*, *the hen ran*.
# After *fox* came *ran* once and *slept* once.
# Plain counts would give each of them 1/2, and every other word 0.
# But text keeps bringing new words, and a word with probability 0 would be an infinite surprise.
# So some probability has to be left for words that are new after *fox*.
#
# Both times that a word came after *fox*, it was new there, so we should expect more new ones.
# So we add as many as were new, here 2, to the 2 words seen, and share these 2 out according to the shorter run:
#
# $$p(\text{ran} \mid \text{fox}) = \frac{1 + 2 \cdot p(\text{ran})}{2 + 2}.$$
#
# The run *fox* has one word; the only shorter run is the empty one, which every word of the text follows.
# After it 9 words were seen, 2 of them *ran*, and 5 were new when they first came, so here we add 5.
# Below that there are no more counts, so we take all possible words, here 10, to be equally probable:
#
# $$
# \begin{gathered}
# p(\text{ran}) = \frac{2 + 5 \cdot 1/10}{9 + 5} = \frac{5}{28}, \\[0.5em]
# p(\text{ran} \mid \text{fox}) = \frac{1 + 2 \cdot 5/28}{4} = \frac{19}{56}.
# \end{gathered}
# $$
#
# A run that was never seen adds nothing: the shorter one decides.


# %%
def count_next_words(texts, n):
    """Return how often each word came after each run of up to n - 1 words."""
    after = defaultdict(Counter)
    for text in texts:
        tokens = ("",) * (n - 1) + tuple(text.split())  # "" is before the first word
        for i in range(n - 1, len(tokens)):
            for length in range(n):
                after[tokens[i - length : i]][tokens[i]] += 1
    return after


# %%
def mixed_prob(word, run, after, n_words=10_000):
    """Return the probability of a word after a run, mixed with its shorter ends."""
    prob = 1 / n_words  # nothing was seen: all words are equally probable
    for length in range(len(run) + 1):
        counts = after.get(run[len(run) - length :], Counter())
        if counts:
            seen, new = counts.total(), len(counts)
            prob = (counts[word] + new * prob) / (seen + new)
    return prob


# %%
after = count_next_words(["the fox ran", "the fox slept", "the hen ran"], n=2)
print("probability after fox, in parts of 56")
for word in ("ran", "slept", "the", "fox", "hen", "dog"):
    print(f"{word:5} {56 * mixed_prob(word, ('fox',), after, n_words=10):2.0f}")

# %% [markdown]
# *dog* is one of the five possible words that never came.
# All the words together get 19 + 17 + 7 + 5 + 3 + 5 · 1 = 56 of 56 parts.
# *the* never came after *fox*, but it is frequent, so it gets more than *hen*.
# A mixture like this, which leaves something for what was never seen, is called **{term}`smoothing`**.
#
# The package's `NGramModel` does the same; for real texts it assumes 10,000 possible words.
# The training text is 1,000 {term}`tales`, short stories written by the course's own generator; more about them below.
# Another 200 are **{term}`held-out`**, and half of those are slipped into the training text.
#
# *Predict:* as the memory $n$ gets longer, what happens to the loss on the 100 stories that leaked, and on the 100 that did not?
#
# :::{dropdown} Answer
# Both fall at first.
# On the stories that leaked it keeps falling, below the floor; on the others it stops falling at a memory of a few words.
# :::

# %%
train = [story.text for story in tales.generate(1000, seed=1)]
held_out = [story.text for story in tales.generate(200, seed=2)]
leaked, unseen = held_out[:100], held_out[100:]
print(len(train), "training stories,", len(leaked), "leaked,", len(unseen), "unseen")

# %% [markdown]
# First our own functions read the beginning of an unseen story, with runs of up to two words before each word.
# Beside each word is the probability that they give it.
# (As in `count_next_words`, empty words come before the first.)

# %%
after = count_next_words(train, n=3)
words = ["", "", *unseen[0].split()[:8]]
probs = []
for first, second, word in zip(words, words[1:], words[2:]):
    probs.append(mixed_prob(word, (first, second), after))
    print(f"{word:12} {probs[-1]:.3f}")

# %% tags=["hide-cell"]
theirs = NGramModel(train, 3).surprises(unseen[0])[:8]
assert np.allclose(-np.log(probs), theirs)

# %% [markdown]
# The package agrees, word by word, as the folded cell checks.
# The loss of a model is its mean surprise, in nats per word.


# %%
def nats_per_word(nats, texts):
    """Return a number of nats, spread over the words of the texts."""
    return nats / sum(len(text.split()) for text in texts)


def loss_on(texts, model):
    """Return the mean surprise of a model on the texts, in nats per word."""
    return nats_per_word(sum(sum(model.surprises(text)) for text in texts), texts)


# %% [markdown]
# Now for the loss, with the leaked stories in the training text.

# %%
floor = nats_per_word(-sum(map(tales.log_prob, held_out)), held_out)
loss = {"leaked": {}, "unseen": {}}
for n in (1, 2, 3, 5, 8):
    model = NGramModel(train + leaked, n)
    loss["leaked"][n] = loss_on(leaked, model)
    loss["unseen"][n] = loss_on(unseen, model)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss in nats per word against the longest run counted, n. On unseen stories it falls until n is 3 and then stays far above the floor. On leaked stories it keeps falling and ends below the floor."}}
fig, ax = plt.subplots(figsize=(4, 2.5))
for (name, losses), style in zip(loss.items(), ("s--", "o-"), strict=True):
    ax.plot([*losses], [*losses.values()], style, ms=4, label=name)
ax.axhline(floor, color="0.45", linestyle=":", label="floor")
_ = ax.set(
    xlabel="longest run counted, n (words)", ylabel="loss (nats/word)", ylim=(0, None)
)
_ = plotting.label_lines(ax)
assert loss["leaked"][8] < floor < min(loss["unseen"].values()) / 2
assert min(loss["unseen"], key=loss["unseen"].get) in (3, 5)

# %% [markdown]
# *Loss of models that count runs of up to n words, on stories that leaked and on unseen ones; dotted, the floor.*
#
# On the stories that it has not seen, the model stops improving when its memory reaches a few words: the longer a run, the less often it recurs.
# On the leaked ones it keeps improving, since it has memorised them, and its loss falls *below the floor*.
# The dotted floor is the mean true surprise of these 200 stories.
# No honest model can be far below it, so a known floor also reveals leaks.
# With human text there is no such alarm: the score over all 200 stories would just look better, and more so for a model that remembers more.
#
# The check for contamination finds the leak by the shared runs.

# %%
training = [documents.Document(text) for text in train + leaked]
tested = [documents.Document(t, name=str(i)) for i, t in enumerate(held_out)]
for n in (8, 13, 20, 40):
    found = {int(o.document.name) for o in corpus.contamination(training, tested, n=n)}
    true = len(found & set(range(100)))  # the first hundred leaked
    print(f"runs of {n:>2} words: {true} of 100 leaks found", end=", ")
    print(f"{len(found) - true} false alarms")

# %% [markdown]
# Every leak is found at every length, but with the customary 13 words many of the other stories are reported as well.
# The tales have turns of phrase that are longer than that, as contracts, recipes and weather reports do.
# The length has to suit the text, and somebody has to look at what was found.

# %% [markdown]
# ### A text whose entropy is known
#
# We train on tales because their source is a grammar, so the lowest loss that any model can reach is known.
# The next cell holds a tiny but complete grammar of the same form, with five rules and two lists of words.
# `<opening>` calls a rule, `[a|b]` is a choice, and `(3)` is a weight.
# `{animal.a=animal}` draws an animal from the list, remembers it, and writes it after *a* or *an*.
# `{animal.the}` writes the same animal after *the*, and `{Animal.the}` does so with a capital.
# The rule `end` depends on the food that was drawn.

# %%
FABLE = """
rule story
    <opening> <hunger> <find> <end>
rule opening
    (3) There was {animal.a=animal}.
    (1) Long ago there lived {animal.a=animal}.
rule hunger
    In [spring|autumn] {animal.the} was hungry.
rule find
    {Animal.the} found {food.a=food}.
rule end @ food
    plum: {Animal.the} ate {food.the}.
    nut: (1) {Animal.the} ate {food.the}.
    nut: (3) {Animal.the} hid {food.the}.
list animal
    owl, fox, mouse, mole
list food
    plum, nut
"""

# %% [markdown]
# What is the probability of this fable?
#
# > There was a fox.
# > In autumn the fox was hungry.
# > The fox found a nut.
# > The fox hid the nut.
#
# To **parse** it is to find the choices that made it:
#
# | Text | Rule and choice | Probability |
# |---|---|---|
# | There was | `opening`, the first of weights 3 and 1 | 3/4 |
# | a fox | `animal`, one of four | 1/4 |
# | In autumn | `hunger`, one of two | 1/2 |
# | a nut | `food`, one of two | 1/2 |
# | hid the nut | `end` for a nut, the second of weights 1 and 3 | 3/4 |
#
# All later mentions of the fox and the nut are certain, since the grammar remembers them.
# The product is $\frac{3 \cdot 3}{4 \cdot 4 \cdot 2 \cdot 2 \cdot 4} = \frac{9}{256}$.

# %%
fables = Grammar(FABLE)
fable = "There was a fox. In autumn the fox was hungry. The fox found a nut. "
fable += "The fox hid the nut."
print(f"log P = {fables.log_prob(fable):.2f} nats, by hand {log(9 / 256):.2f}")
# %% [markdown]
# This grammar is so small that all its fables can be listed.
# So its entropy can also be computed from the definition, as a sum over them.

# %%
probs = [exp(story.log_prob) for story in fables.enumerate()]
by_definition = -sum(p * log(p) for p in probs)
print(f"{len(probs)} fables, probabilities sum to {sum(probs):.2f}")
print(f"entropy {fables.entropy():.2f} nats, by the definition {by_definition:.2f}")

# %% tags=["remove-cell"]
assert np.isclose(fables.log_prob(fable), log(9 / 256)) and len(probs) == 48
assert np.isclose(sum(probs), 1)
assert np.isclose(fables.entropy(), by_definition)

# %% [markdown]
# The grammar of the tales is of this kind, with nearly a hundred rules and two thousand words.
# This is one of its rules.
# (A note such as `{kind: girl}` writes nothing, but is remembered; `[|little |young ]` writes one of the two words or nothing.)
#
# ```text
# rule being
#     (4) {kind: girl}[|little |young ]girl [named|called] {hero=girl}
#     (4) {kind: boy}[|little |young ]boy [named|called] {hero=boy}
#     (1) [|little |young ]{kind=species} [named|called] {hero=sheanimal}
#     (1) [|little |young ]{kind=species} [named|called] {hero=heanimal}
# ```
#
# The grammar of the tales has far too many stories to list, but log-probability and entropy are computed in the same way, exactly.
# It keeps track of a small world: who is in the story, what they wear and wish for, and whom they meet.
# What is said early decides what is said later.

# %%
stories = [*tales.generate(1000, seed=3)]
story = stories[0]
print(textwrap.fill(story.text, 80), "\n")
print(textwrap.fill(str(dict(story.facts)), 80), "\n")
print(f"log P = {story.log_prob:.1f} nats")

# %% [markdown]
# This probability is exact, since every story parses into the one series of choices that makes it.
# The true probability of each word, given all the words before it, is exact as well.
# It is the probability that a story begins with all the words up to this one, divided by the probability that it begins with those before.


# %%
def surprises(text):
    """Return the exact surprise of each word of a tale, in nats."""
    ends = [*accumulate(len(word) + 1 for word in text.split())][:-1]
    logs = [0.0, *(tales.world().prefix_log_prob(text[:end]) for end in ends)]
    return [before - after for before, after in pairwise([*logs, tales.log_prob(text)])]


# %%
exactly = surprises(story.text)
certain = sum(nats < 1e-9 for nats in exactly)
print(f"{len(exactly)} words, {certain} of them certain")
print(f"sum of all surprises {sum(exactly):.1f} nats")

# %% tags=["remove-cell"]
assert np.allclose(exactly, tales.word_surprises(story.text), atol=1e-9)
assert np.isclose(sum(exactly), -story.log_prob)
assert certain > len(exactly) / 2

# %% [markdown]
# A reader who knows the grammar and forgets nothing can predict more than half of the words of this story with certainty: their surprise is 0.
#
# ![Seven facts of the story, marked along its 134 words. The first mention of each has a surprise, from 1.6 nats for finch to 5.7 for Polly. The later mentions, such as ten and nine after eleven, have none, though they come 16 to 116 words after the first.](figures/told-early-needed-late.svg)
#
# *What is surprising at first is certain later, for a model that remembers it from dozens of words back.
# The count of apricots goes from 11 to 10 and 9 as two are given away; the last 11 is what the postman had ordered.*
#
# To see how well counts of words can predict such a story, three models count in 2,000 other tales.

# %%
other_stories = [story.text for story in tales.generate(2000, seed=1)]
models = {
    "counts of single words": NGramModel(other_stories, 1),
    "counts of pairs": NGramModel(other_stories, 2),
    "counts of runs of three": NGramModel(other_stories, 3),
}

# %% [markdown]
# In the explorer, warm colours mark surprising words.
# Move along a story with the slider, and compare the first mention of a name, a colour or a garment with the second.
# Then let the counting models predict the same story.

# %%
SurpriseExplorer(
    [story.text for story in stories[:4]],
    {name: model.surprises for name, model in models.items()},
)

# %% [markdown]
# Look for words that are cold under the grammar and warm under the counts of three.
# Some depend on something said more than two words before: a model with a longer memory can predict these.
# Others are rare runs that the counted stories happen to lack.
#
# `base-llm`, trained on such tales and shipped with the course, remembers a few hundred words.
# Here it reads words of your own.
# Name somebody, and see whether the name surprises it again later.
#
# :::{div} llmcourse-sentence by-surprise
# On the course's site, `base-llm` reads words of yours here, and shows how surprising each is to it.
# It begins with *Long ago there was a kind little boy named Walter, who lived above the bakery with his musical mother. He mostly wore a faded blue cardigan and liked painting. Nearly every day Walter put on his blue cardigan*.
# :::
#
# Now for the source as a whole.
# A compressor is a model too, and a model is a compressor: a text costs as many bits as its surprise, in nats, divided by $\ln 2$ {cite:p}`deletang2024`.
# So compressors and counts of words can be compared on the same 1,000 stories, in **{term}`bits per byte`**.
# (The counts have seen 2,000 other stories; the compressors start from nothing.)
# The floor is the entropy of the grammar, computed exactly, without a sample.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Horizontal bars of bits per byte, longest first: gzip, counts of single words, xz, bz2, counts of pairs, counts of runs of three; the floor is a small fraction of any of them."}}
data = "\n".join(story.text for story in stories).encode()
nats = {
    name: sum(sum(model.surprises(s.text)) for s in stories)
    for name, model in models.items()
}
bits = {name: value / log(2) / len(data) for name, value in nats.items()}
for name, compress in {
    "gzip": zlib.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}.items():
    bits[name] = 8 * len(compress(data)) / len(data)
bits["the floor"] = tales.bits_per_byte()
fig, ax = plt.subplots(figsize=(4, 2.5))
plotting.plot_bars(
    ax, dict(sorted(bits.items(), key=lambda bar: -bar[1])), "bits per byte"
)
assert sorted(bits.values())[1] > 3 * bits["the floor"]

# %% [markdown]
# *Bits per byte of 1,000 stories: compressors, counts of words, and the floor.*
#
# The mean surprise of these stories should agree with the exact entropy, within a few standard errors.

# %%
sample = np.array([-story.log_prob for story in stories])
standard_error = sample.std() / sqrt(len(sample))
print(f"exact entropy: {tales.world().entropy():.1f} nats per story")
print(
    f"mean of 1,000 stories: {sample.mean():.1f} ± {standard_error:.1f} nats per story"
)
print(f"per word: {tales.entropy_per_word():.2f} nats, as uncertain as", end=" ")
print(f"{exp(tales.entropy_per_word()):.2f} equally likely words")

# %% tags=["remove-cell"]
assert abs(sample.mean() - tales.world().entropy()) < 4 * standard_error

# %% [markdown]
# (Each of $N$ equally likely words has a surprise of $\ln N$.
# So an entropy of $h$ per word is as uncertain as $e^h$ equally likely words.)
#
# The best model in the figure needs more than three times the floor.
# Without the floor that would look like a good result, since it is far less than gzip needs.
# With human text, nobody knows how much of a loss is the model's fault and how much is the freedom of the text itself.
# Shannon estimated the entropy of English with a human reader {cite:p}`shannon1951`.
# Here, a chapter that trains on the tales can say how far its model still has to go.
#
# ### Mixtures, and repeated data
#
# A corpus is a mixture of several sources, each with a chosen share.
# The best sources are often small, so they are read more than once: they are **up-sampled**.
# One pass over a source is an **epoch**.
# The recipe for the first LLaMA is public {cite:p}`touvron2023`; its two largest models read 1.4 trillion tokens.

# %%
LLAMA = {  # percent of all tokens read, epochs
    "web (Common Crawl)": (67, 1.10),
    "web (C4)": (15, 1.06),
    "code (GitHub)": (4.5, 0.64),
    "Wikipedia": (4.5, 2.45),
    "books": (4.5, 2.23),
    "papers (arXiv)": (2.5, 1.06),
    "questions (Stack Exchange)": (2, 1.03),
}

# %% [markdown]
# The share and the epochs give the tokens read and the size of each source.

# %%
print("billions of tokens          read   in the source")
for name, (share, epochs) in LLAMA.items():
    read = share / 100 * 1400
    print(f"{name:26} {read:5.0f} {read / epochs:15.0f}")

# %% tags=["remove-cell"]
assert sum(share for share, _ in LLAMA.values()) > 99

# %% [markdown]
# Four fifths are web pages.
# Books and Wikipedia are read more than twice, code less than once.
#
# FineWeb, a later corpus, holds 15 trillion tokens {cite:p}`penedo2024`.
# Llama 3 read about as many: half of them general knowledge, a quarter mathematics and reasoning, 17 % code, and 8 % in other languages {cite:p}`grattafiori2024`.
# Some sources are {term}`synthetic data`: SmolLM2 also read textbooks that a model had written {cite:p}`allal2025`.
#
# To see what changes with the share of a source, we count runs of three in 60,000 words, some from the Python manual and the rest from tales.
# Then we measure the loss on held-out text of both.
# As we saw, some of the manual's test text is also in its training text.
# (The numbers depend on your Python.)

# %%
manual = [document.text for document in parts["train"]]
test_texts = {"tales": unseen, "manual": [d.text for d in parts["test"]][:50]}


def first_words(texts, n):
    """Return the first n words of some texts, as one text."""
    return " ".join(" ".join(texts).split()[:n])


# %% tags=["nbval-ignore-output"]
mixed = {"tales": [], "manual": []}
print("share of the manual   loss on tales   loss on the manual   (nats/word)")
for share in (0, 0.1, 0.5, 0.9, 1):
    n = round(60_000 * share)
    model = NGramModel([first_words(manual, n), first_words(train, 60_000 - n)], 3)
    for name, texts in test_texts.items():
        mixed[name].append(loss_on(texts, model))
    print(f"{share:19.0%} {mixed['tales'][-1]:15.2f} {mixed['manual'][-1]:20.2f}")

# %% tags=["remove-cell"]
assert mixed["tales"] == sorted(mixed["tales"])
assert mixed["manual"] == sorted(mixed["manual"], reverse=True)

# %% [markdown]
# The more the model reads of one source, the better it predicts that source, and the worse it predicts the other.
# But the first tenth of a source gains more than any later tenth, so in this experiment a small share goes a long way.
# Real shares are tuned by training small models {cite:p}`xie2023`.
#
# To measure repetition, the next cell reads the same 125 tales up to eight times, or new tales in place of each repetition.
# Again it measures the loss of counts of three on unseen tales.

# %%
repeated, fresh = {}, {}
print("tales read   all new   125 repeated   (nats/word)")
for times in (1, 2, 4, 8):
    repeated[times] = loss_on(unseen, NGramModel(train[:125] * times, 3))
    fresh[times] = loss_on(unseen, NGramModel(train[: 125 * times], 3))
    print(f"{125 * times:10,} {fresh[times]:9.2f} {repeated[times]:14.2f}")

# %% tags=["remove-cell"]
assert fresh[8] < fresh[4] < fresh[2] < fresh[1] == repeated[1] < repeated[8]

# %% [markdown]
# New text helps each time.
# Repeating the same text does harm here: the counts grow, so the model becomes too sure of the few runs that it has seen.
# It **{term}`overfits <overfitting>`**.
# Networks that train in small steps tolerate repetition better.
# For large models, up to four epochs were nearly as good as new text, and later ones gained less and less {cite:p}`muennighoff2023`.
#
# ### Personal data and licences
#
# Text from the web holds **personal data**, or PII (*personally identifiable information*): names, addresses, telephone numbers.
# Models recite it: prompted in the right way, GPT-2 gave away names and telephone numbers from its training text {cite:p}`carlini2021`.
# So personal data is searched for, and replaced by marks.
# These are patterns for three kinds of it.

# %%
PERSONAL = {
    "[EMAIL]": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "[PHONE]": r"\+\d[\d /-]{7,}\d",
    "[IP]": r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
}

# %% [markdown]
# The notice below is invented.

# %%
notice = "Greta Holm, 4 Quay Street, greta.holm@harbour.example, +49 30 1234567, "
notice += "wrote release 2.4.10.1 of the timetable on the server 192.0.2.7."
for mark, pattern in PERSONAL.items():
    notice = re.sub(pattern, mark, notice)
print(textwrap.fill(notice, 80))

# %% [markdown]
# The name and the street are still there, and a release number was taken for an address.
# Patterns find what has a fixed form; finding names takes a model, and no method finds everything.
# FineWeb replaces e-mail and IP addresses in this way {cite:p}`penedo2024`.
#
# Whether a text may be used is a question of its own.
# Most books and web pages are under copyright; whether training on them is allowed differs from country to country, and is before the courts.
# Some corpora keep to what is free: The Stack holds code under permissive licences, and lets authors have theirs taken out {cite:p}`kocetkov2022`.
# So for each document, a corpus records where it came from, when, and under which licence.
# The tales were written for this course, and Python's documentation comes with Python, under its licence.
#
# ### Packed for training
#
# Training reads many short stretches of a corpus, in random order, and the corpus may be larger than memory.
# Some programs begin a stretch anywhere; the training in [Pretraining](pretraining.ipynb) begins each at the start of a story.
# Either way, the documents become one flat file of token ids, the numbers that a {term}`tokenizer` makes of a text; the next chapter trains one.
# The file is written one document at a time, each followed by the id of a mark, `<|endoftext|>`, here 0.
# To read it, the program *maps* it into memory: only the parts that are used are loaded.
#
# ![Three stories in boxes; below them one row of ids, with a 0 after the ids of each story; below that two slices of equal length, one of which runs past the end of a story.](figures/one-flat-file.svg)
#
# *Documents of any length become one file.
# If slices begin anywhere, one may hold the end of one story and the beginning of the next.*

# %%
tokenizer = BPETokenizer.train(train[:200], 512, special_tokens=["<|endoftext|>"])
folder = tempfile.TemporaryDirectory()
path = f"{folder.name}/train.bin"
header = packing.pack(documents.tales(1000, seed=1), tokenizer, path)
print(f"{header.n_documents:,} stories are packed")

# %% [markdown]
# Here the file is mapped, and its first ids are read.

# %%
ids = packing.load_tokens(path, tokenizer)
print(f"{len(ids):,} ids, {ids.itemsize} bytes each")
print("the first ten:", ids[:10].tolist())

# %% tags=["remove-cell"]
end = ids.tolist().index(header.end_of_text)
assert tokenizer.decode(ids[:end].tolist()) == train[0]
assert (ids == header.end_of_text).sum() == header.n_documents == 1000
del ids  # Windows does not delete a file that is still mapped
folder.cleanup()

# %% [markdown]
# ### What breaks it
#
# Near-copy removal trusts similarity, but similarity can come from what does not matter.
# Fifty pages begin with different stories, cut after 50 words, and all end with the same three news items.

# %%
NEWS = " ".join((LIGHT, BAKER, FERRY))
beginnings = [" ".join(text.split()[:50]) for text in train[:50]]
pages = [documents.Document(beginning + "\n" + NEWS) for beginning in beginnings]
print(len(pages), "pages of", len(pages[0].text.split()), "words")

# %% [markdown]
# We count the pages left after near copies are removed, at three thresholds.
# (The 128 hashes are cut into 64 bands of 2, so that pairs of low similarity are proposed as well.)

# %%
for threshold in (0.3, 0.5, 0.7):
    remaining, _ = deduplication.remove_near_duplicates(
        pages, threshold=threshold, n_bands=64
    )
    print(f"threshold {threshold}: pages left {len(remaining):>2} of {len(pages)}")

# %% [markdown]
# Now boilerplate is removed first.

# %%
without, _ = cleaning.remove_boilerplate(pages)
remaining, _ = deduplication.remove_near_duplicates(without, threshold=0.3, n_bands=64)
print(f"without the news: pages left {len(remaining)} of {len(pages)}")

# %% tags=["remove-cell"]
assert len(remaining) == len(pages)

# %% [markdown]
# With a low threshold, all pages but one are removed, though no two stories are alike.
# Once the news has been removed as boilerplate, no page is lost at the same threshold: the order of the steps matters.
#
# Filters fail in a different way: they keep only what looks like the prose that they were made for.
# Here are four other kinds of text, first a poem and a list.

# %%
POEM = (
    "Fog\non the harbour.\nNo bell.\nOnly the slow\nslap of water\non wood,\non wood."
)
LIST = "\n".join(
    f"- {n} {boat}" for n in range(30) for boat in ("sloop", "yawl", "cutter")
)
print(*LIST.splitlines()[:3], sep="\n")

# %% [markdown]
# The other two are some code and a table of tides.

# %%
CODE = "\n".join(f"x[{i}] += dt * f(x[{i - 1}], t)  # step {i}" for i in range(1, 30))
TIDES = "\n".join(
    f"{d:02} Nov {d % 12}:15 {d % 7}.{d} m {d % 9}:40 0.{d} m" for d in range(1, 29)
)
print(CODE.splitlines()[0], TIDES.splitlines()[0], sep="\n")

# %% [markdown]
# The cell below prints the first rule that each of them breaks, and the language that the filter guesses.

# %%
print("text   broken rule      value  language")
for name, text in {"poem": POEM, "list": LIST, "code": CODE, "table": TIDES}.items():
    fault, value = cleaning.quality_fault(text)
    print(f"{name:6} {fault:15} {value:6.3g}  {cleaning.guess_language(text)}")
for rule in cleaning.GOPHER[:2]:
    print(f"rule: {rule.name} at least {rule.low:g}")

# %% [markdown]
# With the default settings, a text needs at least 50 words, with an average of at least 3 characters.
# The poem has too few words; the list, the code and the table have words that are too short.
# Each is stopped by the first rule that it breaks, and all four are removed.
# A model trained on what is left has seen little text of these kinds.
# The harm is not spread evenly: a widely used list of forbidden words was found to remove text by and about minorities more often than other text {cite:p}`dodge2021`.
# The remedy is the report: look at what each rule removes before you adopt it.

# %% [markdown]
# ### A filter that is learned
#
# A filter can also be learned from examples: some texts that are called good and some that are called bad.
# As good ones we take every second long text of the documentation, and as bad ones every second program.
# The words of both are counted.
# We divide a word's share of the good words by its share of the bad ones.
# The logarithm of this quotient is the word's **log-odds**, above 0 if the word is more frequent in the good texts.
# (Every count is raised by one, so that no share is zero; punctuation stays with its word.
# The numbers depend on your Python, here and in the next outputs.)

# %% tags=["nbval-ignore-output"]
good = Counter(" ".join(long_texts[::2]).split())
bad = Counter(" ".join(programs[::2]).split())
known = good.keys() | bad.keys()
n_good, n_bad = good.total() + len(known), bad.total() + len(known)
log_odds = {
    word: log((good[word] + 1) / n_good) - log((bad[word] + 1) / n_bad)
    for word in known
}
for word in ("which", "the", "for", "return", "def"):
    print(f"{word:7}{log_odds[word]:z5.1f}")

# %% [markdown]
# A text's score is the mean log-odds of its words, where a word that is in neither half counts as 0.
# The filter keeps a text whose score is above 0.


# %%
def prose_score(text):
    """Return the mean log-odds of a text's words, in nats."""
    words = text.split()
    return sum(log_odds.get(word, 0.0) for word in words) / max(len(words), 1)


# %% [markdown]
# On the halves that were not counted, this is what the rules keep, and what the word counts keep.

# %% tags=["nbval-ignore-output"]
kept_by = {}
print("kept by        the rules   word counts")
for name, half in {
    "documentation": long_texts[1::2],
    "programs": programs[1::2],
}.items():
    by_rules = np.mean([cleaning.quality_fault(text) is None for text in half])
    by_counts = np.mean([prose_score(text) > 0 for text in half])
    kept_by[name] = by_rules, by_counts
    print(f"{name:13}{by_rules:11.0%}{by_counts:14.0%}")

# %% tags=["remove-cell"]
assert kept_by["documentation"][1] > 0.8 and log_odds["which"] > 0 > log_odds["def"]
assert kept_by["programs"][0] > 0.5 and kept_by["programs"][1] < 0.2

# %% [markdown]
# The rules keep most of the programs; the word counts keep only a few, and about as much of the documentation as the rules do.
# (The comparison is not quite fair: the rules were not made for just these two kinds of text.)
# Now the counts judge other texts, among them the words of the page about the ferry, sorted, and one word fifty times.

# %% tags=["nbval-ignore-output"]
others = {"ferry": FERRY, "ferry, sorted": " ".join(sorted(FERRY.split()))}
others |= {"poem": POEM, "code": CODE, "the the the …": "the " * 50}
for name, text in others.items():
    print(f"{name:14}{prose_score(text):5.2f}")

# %% tags=["remove-cell"]
scores = [prose_score(text) for text in others.values()]
assert abs(scores[0] - scores[1]) < 1e-9 and min(scores[0], scores[2]) > 0 > scores[3]
assert max(scores) == scores[4]

# %% [markdown]
# The poem, which the rules removed, is kept, and the code is not.
# But the score does not depend on the order of the words, so sorted words pass as well as sentences, and `the` fifty times gets the highest score of all.
# And this filter finds code bad only because we said so: with good and bad texts exchanged, it would keep most programs and remove most of the documentation.
# "Good" is whatever was put among the good texts.
#
# ## Takeaways
#
# - Text comes from web pages, books and code; extraction decides what on a page is text.
# - Raw text is full of copies, and a model learns what is frequent, so copies are removed.
#   Exact ones are found by a hash, near ones by MinHash, whose agreement rate estimates the Jaccard similarity.
# - LSH makes this cheap: with $b$ bands of $r$ hashes, a pair of similarity $s$ is looked at with probability $1 - (1 - s^r)^b$, so most pairs never are.
# - A filter is a set of bets about what good text looks like, and its false-positive rate is measured on text known to be good.
#   A learned filter prefers whatever was put among its good examples.
# - A hash puts exact copies on the same side of the split, and shared runs of words show what else leaked: a leak makes a model that remembers look like one that understands.
# - Sources are mixed in chosen shares; new text beats the same text again; personal data and licences are dealt with before training, not after.
# - The entropy of a source is the floor under the loss of every model of it; for the tales it is known exactly.
#
# *In practice* the steps are the same, with more machines.
# Public recipes for web corpora start from rules much like these {cite:p}`raffel2020,rae2021`.
# FineWeb documents each step with a model trained with and without it {cite:p}`penedo2024`.
# It removes near copies crawl by crawl, because doing so over all crawls at once did not help the models.
# Lately, the main step is often a learned filter.
# That of DCLM, another public corpus, was trained with answers to instructions and well-rated explanations as the good texts, and with random web pages as the bad ones {cite:p}`li2024`.
# FineWeb-Edu keeps the pages to which a classifier gives high marks as teaching material; its examples were marked by a large language model {cite:p}`penedo2024`.
# Deduplicated text gives better models for the same computation, and models that recite less {cite:p}`lee2022`.
# Training small models on stories from a small world is an idea of {cite:t}`eldan2023`: **TinyStories**.
# Those stories were written by a large model, so their entropy is not known.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("corpus")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (derive): how many hashes? ★★
#
# The standard error of the estimated similarity is $\sqrt{J(1-J)/k}$.
# It arises because each of the $k$ hashes is a coin that shows "agree" with probability $J$.
# For which $J$ is it largest?
# How many hashes are needed so that it is at most 0.02 for every $J$?

# %% tags=["hide-cell", "solution"]
# J(1 - J) = 1/4 - (J - 1/2)² is largest at J = 1/2, so √(1/(4k)) ≤ 0.02: k ≥ 625.
needed = 1 / (4 * 0.02**2)
print(f"{needed:.0f} hashes")
assert all(sqrt(j * (1 - j) / needed) <= 0.02 + 1e-12 for j in np.linspace(0, 1, 101))

# %% [markdown]
# ### Exercise 2 (build): containment ★
#
# A topic of the reference was contained in a chapter, and Jaccard similarity did not see it.
# Write a measure that does see it: the share of the first set that is also in the second, or 0 for an empty first set.
#
# ```python
# def containment(a: set, b: set) -> float: ...
# ```
#
# Check it with `checks.containment(containment)`.
# A page of 1,000 shingles holds a whole story of 100: what are the story's containment and its Jaccard similarity?
# Suppose that `build_corpus` had one more step, which removes every document whose containment in another one is at least 0.8.
# Name a document that it would remove rightly, and one that it would remove wrongly.


# %% tags=["hide-cell", "solution"]
def containment(a, b):
    """Return the share of the first set that is in the second."""
    return len(a & b) / len(a) if a else 0.0


checks.containment(containment)
part, whole = set(range(100)), set(range(1000))
print(
    f"containment {containment(part, whole)}, Jaccard {len(part & whole) / len(part | whole)}"
)
# Rightly: a topic of the reference that a chapter holds whole. Wrongly: a notice of two
# lines below a long licence that other pages have too, if the licence was left in.

# %% [markdown]
# ### Exercise 3 (build): choose bands ★★
#
# The curve $1 - (1 - s^r)^b$ rises most steeply near $s = (1/b)^{1/r}$.
# Write a function that divides `n_hashes` into bands so that this point is as near as possible to a threshold.
#
# ```python
# def choose_bands(n_hashes: int, threshold: float) -> tuple[int, int]: ...  # bands, rows
# ```
#
# Check it with `checks.choose_bands(choose_bands)`.
# FineWeb uses 112 hashes and aims at a similarity of 0.75 {cite:p}`penedo2024`; which bands would you choose, and how often would they propose a pair of that similarity?


# %% tags=["hide-cell", "solution"]
def choose_bands(n_hashes, threshold):
    """Return the number of bands and of hashes in each, for a threshold."""
    divisors = [b for b in range(1, n_hashes + 1) if n_hashes % b == 0]
    n_bands = min(divisors, key=lambda b: abs((1 / b) ** (b / n_hashes) - threshold))
    return n_bands, n_hashes // n_bands


checks.choose_bands(choose_bands)
n_bands, n_rows = choose_bands(112, 0.75)
found = deduplication.candidate_probability(0.75, n_bands, n_rows)
print(
    f"{n_bands} bands of {n_rows} propose {found:.0%} of the pairs of similarity 0.75"
)

# %% [markdown]
# ### Exercise 4 (build): a split that stays ★★
#
# A corpus grows every month, and no document may ever change sides.
# Write a function that decides from a document's text alone whether it is held out.
#
# ```python
# def is_held_out(text: str, share: float) -> bool: ...
# ```
#
# Check it with `checks.is_held_out(is_held_out)`.
# Why is Python's own `hash(text)` no good for this?


# %% tags=["hide-cell", "solution"]
def is_held_out(text, share):
    """Return whether a text falls into the held-out share, by a hash of it."""
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share


checks.is_held_out(is_held_out)  # hash(text) is salted: another one in each process

# %% [markdown]
# ### Exercise 5 (build, explore): find the leaks ★★★
#
# Write the check for contamination: return the numbers of the test texts that share a run of `n` words with any training text.
# Ignore case and punctuation: cut texts into words with `deduplication.words`.
#
# ```python
# def find_leaks(train: list[str], test: list[str], n: int) -> list[int]: ...
# ```
#
# Check it with `checks.find_leaks(find_leaks)`.
# Then use it on the tales of the experiment: what is the smallest `n` for which no story is reported wrongly?
# Can a leak be noticed without the training text?
# Three models report losses of 1.9, 0.7 and 0.5 nats per word on 1,000 tales; compare each with the entropy per word that the chapter printed.


# %% tags=["hide-cell", "solution"]
def find_leaks(train, test, n):
    """Return the numbers of the test texts that share n words in a row with training."""

    def runs(text):
        tokens = deduplication.words(text)
        return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}

    seen = set().union(*map(runs, train))
    return [number for number, text in enumerate(test) if runs(text) & seen]


checks.find_leaks(find_leaks)
clean_from = next(n for n in range(13, 80) if not find_leaks(train, unseen, n))
print(f"no false alarm from runs of {clean_from} words on")
assert find_leaks(train + leaked, held_out, clean_from) == [*range(100)]
# The floor is 0.64 nats per word. A loss of 1.9 leaves much to be learned, 0.7 hardly
# anything; 0.5 is below the floor, so the tales leaked or the loss is measured wrongly.
assert round(tales.entropy_per_word(), 2) == 0.64

# %% [markdown]
# ### Exercise 6 (build): groups of copies ★★★
#
# Put the parts together: from texts to groups of near copies, without comparing every pair.
#
# ```python
# def copy_groups(texts: list[str], threshold: float) -> list[list[int]]: ...
# ```
#
# Use shingles of three words and 128 hashes in 32 bands, and check exactly what the bands propose.
# Then form groups: if A is like B and B like C, all three belong together.
# It takes about 25 lines.
# On the twelve pages of the crawl, with a threshold of 0.6, it must find `[[0, 3, 4], [1, 5], [2, 6]]`.
# Then test a chain of three texts.
# The first has 40 different words; in the second its words 5, 15, 25 and 35 are replaced.
# In the third only words 5 and 15 are, by the same new words.
# All three must be one group, `[[0, 1, 2]]`.
# Can two texts in the same group be hardly alike?


# %% tags=["hide-cell", "solution"]
def copy_groups(texts, threshold):
    """Return the numbers of the texts that are near copies, group by group."""
    sets = []
    for text in texts:
        tokens = deduplication.words(text)
        sets.append({" ".join(tokens[i : i + 3]) for i in range(len(tokens) - 2)})
    buckets = defaultdict(list)
    for number, runs in enumerate(sets):
        if runs:
            hashes = [
                min(
                    blake2b(f"{k} {run}".encode(), digest_size=8).digest()
                    for run in runs
                )
                for k in range(128)
            ]
            for band in range(32):
                buckets[band, *hashes[4 * band : 4 * band + 4]].append(number)
    leader = [*range(len(texts))]  # of the group of each text
    for bucket in buckets.values():
        for a, b in combinations(bucket, 2):
            if len(sets[a] & sets[b]) >= threshold * len(sets[a] | sets[b]):
                old, new = max(leader[a], leader[b]), min(leader[a], leader[b])
                leader = [new if each == old else each for each in leader]
    groups = defaultdict(list)
    for number, first in enumerate(leader):
        groups[first].append(number)
    return [group for group in groups.values() if len(group) > 1]


found = copy_groups([document.text for document in crawl], threshold=0.6)
assert found == [[0, 3, 4], [1, 5], [2, 6]]


def edited(*places):
    return " ".join(f"{'new' if i in places else 'w'}{i}" for i in range(40))


three = [edited(), edited(5, 15, 25, 35), edited(5, 15)]
assert copy_groups(three, threshold=0.6) == [[0, 1, 2]]
assert copy_groups(three[:2], threshold=0.6) == []
# Yes: a chain of small edits leads far, and only neighbours in it are alike.

# %% [markdown]
# ## Sources
#
# Resemblance and its estimate by minima of hashes are from {cite:t}`broder1997`; for banding and its curve see section 3.4 of {cite:t}`leskovec2020`.
# Entropy is from {cite:t}`shannon1948`; that no model beats it on average is in section 2.6 of {cite:t}`cover2006`, and the estimate for English with human readers is from {cite:t}`shannon1951`.
# The rules of the quality filter follow {cite:t}`rae2021`, the guess of the language {cite:t}`grefenstette1995`, the smoothing of counts method C of {cite:t}`witten1991`.
# On text extraction see {cite:t}`barbaresi2021`, on mixtures {cite:t}`touvron2023` and {cite:t}`xie2023`, on repetition {cite:t}`muennighoff2023`, on recited personal data {cite:t}`carlini2021`, and on code with licences {cite:t}`kocetkov2022`.
# What copies do to a model was measured by {cite:t}`lee2022`, the contamination check with 13 words is from {cite:t}`brown2020`, and {cite:t}`deletang2024` compare language models with compressors.
