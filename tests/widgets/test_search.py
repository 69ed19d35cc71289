"""The search explorer: chunks and scores in Node beside `llmcourse.retrieval`.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import json
from functools import partial

import pytest

from llmcourse.model.folders import load_pretrained
from llmcourse.retrieval.bm25 import BM25
from llmcourse.retrieval.books import book_questions, draw_book
from llmcourse.retrieval.chunking import fixed_chunks, recursive_chunks, sentence_chunks
from llmcourse.retrieval.retrieval import Retriever, passages
from llmcourse.text.deduplication import words
from llmcourse.text.documents import Document
from llmcourse.text.tokenizers import CharacterTokenizer
from llmcourse.widgets.search import SearchExplorer

CUTS = {
    "fixed": fixed_chunks,
    "sentences": sentence_chunks,
    "recursive": recursive_chunks,
}
BOOK = draw_book(6, seed=0)
ODD = (
    "  One.\n\n\nTwo 🙂🙂 (red)! e.g. three…\tשלום 東京東京\r\n"
    'four?" five.\x1cSix \u2028 end. '
)
CHUNKS = """([text, size, overlap]) => {
  const lengths = m.pieceBytes(x.spec).map((bytes) => bytes.length);
  const sizes = m.quickEncoder(x.spec)(text).map((id) => lengths[id]);
  return m.chunksOf(text, sizes, x.kind, size, overlap);
}"""


@pytest.fixture(scope="module")
def tokenizer():
    return load_pretrained("base-llm")[1]


@pytest.fixture(scope="module")
def spec(tokenizer):
    return json.loads(SearchExplorer("a", ["a"], tokenizer).spec)


@pytest.mark.parametrize("kind", CUTS)
def test_chunks_are_pythons(javascript, tokenizer, spec, kind):
    cases = [
        (text, *sizes)
        for text in (BOOK.text, ODD, "", "a")
        for sizes in ((8, 0), (16, 7), (64, 32), (288, 0))
    ]
    argument = {"spec": spec, "kind": kind, "cases": cases}
    results = javascript(SearchExplorer, f"x.cases.map({CHUNKS})", argument)
    for case, theirs in zip(cases, results, strict=True):
        text, size, overlap = case
        ours = CUTS[kind](text, tokenizer, size, overlap)
        assert [(c["text"], c["tokens"]) for c in theirs] == [
            (c.text, c.n_tokens) for c in ours
        ]


def test_words_are_pythons(javascript):
    cases = [BOOK.text, ODD, "Mia's Straße ﬁne_1 ΣΊΣΥΦΟΣ ² naïve", ""]
    cases += ["ısı STRAẞE İzmir ΟΔΟΣ ὈΔΥΣΣΕΎΣ"]
    cases += ["हिन्दी, की किताब ½", "كَتَبَ שָׁלוֹם", "I ❤️ you, 👩‍💻!"]
    assert javascript(SearchExplorer, "x.map(m.words)", cases) == [*map(words, cases)]


def test_scores_and_ranking_are_pythons(javascript, tokenizer):
    """Every question about a small book, over pieces of sentences."""
    cut = partial(sentence_chunks, tokenizer=tokenizer, size=48)
    found = passages([Document(BOOK.text)], cut)
    retriever = Retriever(found)
    documents = [words(passage.text) for passage in found]
    queries = [list(dict.fromkeys(words(q.text))) for q in book_questions(BOOK, seed=0)]
    results = javascript(
        SearchExplorer,
        "x.queries.map((query) => m.best(m.bm25(query, x.documents),"
        " x.documents.length))",
        {"queries": queries, "documents": documents},
    )
    index = BM25(documents)
    for query, theirs in zip(queries, results, strict=True):
        ours = index.search(query, len(documents))
        assert [i for i, _ in theirs] == [i for i, _ in ours]
        assert [s for _, s in theirs] == pytest.approx([s for _, s in ours])
        assert [i for i, _ in theirs[:5]] == retriever.ranking(" ".join(query), 5)


def test_scores_by_hand(javascript):
    """Two of three have "red": ln 1.6; one has "hat": ln 2.67; none has "sea"."""
    documents = [words(text) for text in ("a red boat", "a blue boat", "a red hat")]
    terms = javascript(SearchExplorer, "m.bm25(['red', 'hat', 'sea'], x)", documents)
    assert [term["having"] for term in terms] == [2, 1, 0]
    assert [round(term["rarity"], 2) for term in terms] == [0.47, 0.98, 2.08]
    assert terms[0]["scores"] == pytest.approx([0.188, 0, 0.188], abs=1e-3)
    assert terms[2]["scores"] == [0, 0, 0]


def test_a_word_that_is_asked_twice_counts_twice(javascript):
    documents = [words(text) for text in ("a red boat", "a blue boat", "a red hat")]
    query = words("hat red hat")
    terms = javascript(SearchExplorer, f"m.bm25({query!r}, x)", documents)
    assert [term["word"] for term in terms] == ["hat", "red"]
    sums = [
        sum(scores) for scores in zip(*(term["scores"] for term in terms), strict=True)
    ]
    assert sums == pytest.approx(BM25(documents).scores(query).tolist())


def test_the_state_is_plain_and_small(tokenizer):
    explorer = SearchExplorer(BOOK.text, ["Who?", "Where?"], tokenizer)
    state = {name: explorer.get_state()[name] for name in explorer.keys}
    assert len(json.dumps(state)) < 130_000
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


def test_what_cannot_be_shown_is_refused(tokenizer):
    with pytest.raises(ValueError, match="not empty"):
        SearchExplorer("", ["a"], tokenizer)
    with pytest.raises(ValueError, match="at least one text"):
        SearchExplorer("a", [], tokenizer)
    with pytest.raises(ValueError, match="plain BPE tokenizer"):
        SearchExplorer("a", ["a"], CharacterTokenizer())
