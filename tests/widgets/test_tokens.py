"""The explorers: what Python writes into them, and their JavaScript, run in Node.

How they look and answer the keyboard is tested in a browser, in tests/site.
"""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenization_cases import PATTERNS, sentencepiece, texts

from llmcourse.model.generation import Sampling, next_token_distribution
from llmcourse.text.bpe import spell
from llmcourse.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    WordTokenizer,
)
from llmcourse.widgets.sampling import SamplingExplorer
from llmcourse.widgets.tokens import (
    GuessExplorer,
    MergeExplorer,
    TokenExplorer,
    merges_script,
    specification,
)

CORPUS = [
    "hug pug pun bun hugs hug pug",
    "It's naïve: 東京 costs 12345 or 1,234.5 🙂\n\n  x",
]


def tokenizers() -> dict[str, Any]:
    """Return every kind of tokenizer that runs in the page."""
    bpe = {
        f"bpe {n}": BPETokenizer.train(
            CORPUS, 256 + n + 15, special_tokens=["<|end|>"] * n, pattern=pattern
        )
        for n, pattern in zip((0, 1, 0), PATTERNS, strict=True)
    }
    simple = {"characters": CharacterTokenizer(), "bytes": ByteTokenizer()}
    return {"words": WordTokenizer.train(CORPUS), **simple, **bpe}


# Worked examples


def test_merges_of_a_small_text_by_hand():
    """``hug pug hug``: "hug" 1, " pug" 1, " hug" 1.

    u g occurs 3 times and goes first; then h ug stands twice, in "hug" and " hug".
    """
    explorer = MergeExplorer("hug pug hug", n_merges=2)
    assert explorer.words == [["hug", 1], ["Ġpug", 1], ["Ġhug", 1]]
    assert explorer.steps == [["u", "g"], ["h", "ug"]]


def test_sampling_by_hand(javascript):
    """Logits of 1/2, 1/4, 1/8, 1/8, in another order.

    At temperature 1/2 probabilities are squared: 16 : 4 : 1 : 1 of 22.  Top-k 2
    leaves 2/3 and 1/3.  Top-p 0.7 needs the second token to get there, 0.5 does not.
    """
    logits = [math.log(p) for p in (1 / 8, 1 / 2, 1 / 8, 1 / 4)]

    def shape(temperature: float, top_k: int, top_p: float) -> Any:
        options = {"temperature": temperature, "topK": top_k, "topP": top_p}
        probs = javascript(
            SamplingExplorer, "m.shape(x.logits, x)", {"logits": logits, **options}
        )
        return pytest.approx(probs)

    assert shape(1, 4, 1) == [1 / 8, 1 / 2, 1 / 8, 1 / 4]
    assert shape(0.5, 4, 1) == [1 / 22, 16 / 22, 1 / 22, 4 / 22]
    assert shape(1, 2, 1) == [0, 2 / 3, 0, 1 / 3]
    assert shape(1, 4, 0.7) == [0, 2 / 3, 0, 1 / 3]
    assert shape(1, 4, 0.5) == [0, 1, 0, 0]
    assert shape(0, 4, 1) == [0, 1, 0, 0]


def test_entropy_of_an_even_choice_among_four_is_log_4(javascript):
    assert javascript(SamplingExplorer, "m.entropy(x)", [0.25] * 4 + [0]) == (
        pytest.approx(math.log(4))
    )


# Laws


@settings(
    max_examples=5,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(some=st.lists(texts, min_size=40, max_size=60))
def test_tokenizers_in_the_page_equal_python(javascript, some: list[str]):
    """Ids and pieces are equal for every kind of tokenizer on texts that are hard.

    Many texts at once, for Node takes longest to start.
    """
    ours = tokenizers()
    specs = [s["spec"] for s in TokenExplorer(["a"], ours).tokenizers]
    theirs = javascript(
        TokenExplorer,
        "x.specs.map((spec) => x.texts.map(m.encoder(spec)))",
        {"specs": specs, "texts": some},
    )
    for (name, tokenizer), results in zip(ours.items(), theirs, strict=True):
        for text, result in zip(some, results, strict=True):
            assert result["ids"] == tokenizer.encode(text), (name, text)
            assert result["pieces"] == tokenizer.tokens(text), (name, text)


HARD = [
    "",
    "Once there was an unbelievable fox.",
    "👍🏽 means yes, 🤷 who knows 👩‍👩‍👧‍👦🇩🇪",
    "שלום עולם, مرحبا بالعالم ١٢٣",
    "人人生而自由，在尊严和权利上一律平等。ไทยไม่มีช่องว่าง",
    "def f(x):\n\treturn  x\u00a0+ 12345\r\n \u200f\u2028 end   ",
    "It's they'll I'VE  'don't' naïve ﬁn ſ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "<|endoftext|> is plain text",
    "a" * 2_000,
    "qjxzkv" * 333,
    "\x00\x1c\x1f\x85\ufeff",
]


def test_gpt2_on_fetched_merges_equals_python(javascript):
    """Merges as the site writes them; on hard texts, and on 100,000 characters."""
    gpt2 = BPETokenizer.from_gpt2()
    (state,) = TokenExplorer(["a"], {"GPT-2": gpt2}).tokenizers
    spec = specification(gpt2, max_merges=50_000)
    assert spec is not None
    file, content = merges_script(spec["merges"])
    about = state["fetched"]
    assert (about["file"], about["bytes"]) == (file, len(content))
    some = [*HARD, " ".join(HARD[1:] * 25)[:100_000]]
    assert len(some[-1]) == 100_000
    results = javascript(
        TokenExplorer,
        "(globalThis.window = {}, (0, eval)(x.script), x.texts.map(m.encoder("
        "{ kind: 'bpe', ...x.fetched,"
        " merges: window.llmcourseMerges[x.fetched.file].split('\\n') })))",
        {"script": content.decode(), "fetched": about, "texts": some},
    )
    for text, result in zip(some, results, strict=True):
        assert result["ids"] == gpt2.encode(text), text[:50]
        assert result["pieces"] == gpt2.tokens(text), text[:50]


@pytest.mark.parametrize("text", ["hug pug hugs", "naïve 東京 🙂 pun-bun"])
def test_all_steps_lead_to_the_tokens(javascript, text: str):
    """Applied in the page, the steps shown end in what the tokenizer gives."""
    tokenizer = BPETokenizer.train(CORPUS, 256 + 20)
    explorer = MergeExplorer(text, tokenizer=tokenizer)
    words = javascript(
        MergeExplorer,
        "m.wordsAfter(x.words, x.steps, x.steps.length)"
        ".map(([pieces]) => pieces.map((p) => m.show(m.unspell(p))))",
        {"words": explorer.words, "steps": explorer.steps},
    )
    assert [piece for word in words for piece in word] == tokenizer.tokens(text)


def test_each_learned_step_merges_a_most_frequent_pair(javascript):
    """What the page says beside the next pair, that it is most frequent, is true."""
    explorer = MergeExplorer(CORPUS, n_merges=20)
    counts = javascript(
        MergeExplorer,
        "x.steps.map((_, n) => m.pairCounts(m.wordsAfter(x.words, x.steps, n)))",
        {"words": explorer.words, "steps": explorer.steps},
    )
    for step, pairs in zip(explorer.steps, counts, strict=True):
        assert {tuple(pair): n for pair, n in pairs}[tuple(step)] == pairs[0][1]


def next_pairs(javascript: Any, explorer: MergeExplorer) -> list[Any]:
    """Return what the page calls next before each step and after the last."""
    state = {name: getattr(explorer, name) for name in ("words", "steps", "learning")}
    return javascript(
        MergeExplorer,
        "[...x.steps, null].map((_, n) => m.nextPair("
        "m.wordsAfter(x.words, x.steps, n), x.steps, n, x.learning))",
        state,
    )


def test_the_next_pair_has_its_count_and_there_is_one_beyond_the_last_step(javascript):
    """``banana bandana``: of b an and an a, both twice, b has the smaller id.

    After three merges, ban·ana and ban·d·ana, each pair occurs once; d has the
    smallest id.  After three more, both words are one piece.
    """
    three, six = (MergeExplorer(["banana", "bandana"], n_merges=n) for n in (3, 6))
    begun = [[["a", "n"], 4], [["b", "an"], 2], [["an", "a"], 2], [["d", "ana"], 1]]
    assert next_pairs(javascript, three) == begun
    *pairs, last = next_pairs(javascript, six)
    assert pairs[:4] == begun
    assert last is None


def test_the_next_pair_is_the_step_that_comes(javascript):
    learned = MergeExplorer(CORPUS, n_merges=20)
    tokenizer = BPETokenizer.train(CORPUS, 256 + 20)
    applied = MergeExplorer("hug pug hugs", tokenizer=tokenizer)
    for explorer in (learned, applied):
        following = next_pairs(javascript, explorer)[:-1]
        assert [pair for pair, _ in following] == explorer.steps
    *_, (_, times), last = next_pairs(javascript, applied)
    assert (times, last) == (1, None)


def test_draws_follow_the_distribution_and_the_seed(javascript):
    """20,000 draws per seed: each share is within 5 standard errors of its own.

    The seeds are fixed, so this cannot fail by chance.
    """
    probs, n = [0.6, 0.0, 0.3, 0.1], 20_000
    draws = javascript(
        SamplingExplorer,
        "x.seeds.map((seed) => { const random = m.randomFrom(seed);"
        "return Array.from({ length: x.n }, () => m.draw(x.probs, random())); })",
        {"probs": probs, "n": n, "seeds": [0, 0, 1]},
    )
    assert draws[0] == draws[1] != draws[2]
    for i, p in enumerate(probs):
        error = 5 * math.sqrt(p * (1 - p) / n)
        assert draws[0].count(i) / n == pytest.approx(p, abs=error)


def test_a_whole_vocabulary_fits_into_a_notebook(javascript):
    """Its state is two texts, each a line of the notebook, and no token is left out."""
    names = [f" token {i}" for i in range(3_072)]
    explorer = SamplingExplorer(names, [i / 7 for i in range(3_072)])
    assert javascript(SamplingExplorer, "JSON.parse(x)", explorer.tokens) == names
    assert json.loads(explorer.logits)[:3] == [0, 0.143, 0.286]
    assert len(explorer.tokens) + len(explorer.logits) < 100_000


def test_top_k_slider_ends_at_all_tokens(javascript):
    for n in (2, 10, 16, 1_024):
        steps = javascript(SamplingExplorer, "m.steps(x)", n)
        assert steps[0] == 1
        assert steps[-1] == n
        assert steps == sorted(set(steps))


def test_large_vocabularies_carry_results_only():
    """A tokenizer the page does not know is shown by what it gave, and stays small."""

    class Halves:
        vocab_size = 9

        def encode(self, text: str) -> list[int]:
            return [7, 8]

        def decode(self, ids: Iterable[int]) -> str:
            return ""

        def tokens(self, text: str) -> list[str]:
            return [text[:2], text[2:]]

    (state,) = TokenExplorer(["abcd", "efg"], {"halves": Halves()}).tokenizers
    assert state.keys() == {"name", "given"}
    assert state["given"] == [
        {"ids": [7, 8], "pieces": ["ab", "cd"]},
        {"ids": [7, 8], "pieces": ["ef", "g"]},
    ]


@pytest.mark.parametrize(
    "explorer",
    [
        TokenExplorer(["a b"], tokenizers()),
        MergeExplorer(CORPUS, n_merges=10),
        SamplingExplorer(["a", "b"], [0.0, 1.0], prompt="It is"),
    ],
    ids=repr,
)
def test_state_is_small_and_the_text_form_is_stable(explorer: Any):
    """A notebook carries both: nbval compares the one, its size limit weighs both."""
    assert " at 0x" not in repr(explorer)
    assert repr(explorer).startswith(f"{type(explorer).__name__}(")
    state = {name: explorer.get_state()[name] for name in explorer.keys}
    assert len(json.dumps(state)) < 40_000
    # Text from texts, tokens or prompts never becomes markup.
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


# Reference


@settings(
    max_examples=3,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cases=st.lists(
        st.tuples(
            st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=9, unique=True),
            st.sampled_from([0.0, 0.05, 0.7, 1.0, 3.0]),
            st.integers(1, 9),
            st.sampled_from([0.05, 0.3, 0.95, 1.0]),
        ),
        min_size=40,
        max_size=60,
    )
)
def test_sampling_equals_the_packages_own(javascript, cases: list[Any]):
    """The sliders do what ``llmcourse.model.generation`` does."""
    theirs = javascript(
        SamplingExplorer,
        "x.map(([logits, temperature, topK, topP]) =>"
        " m.shape(logits, { temperature, topK, topP }))",
        cases,
    )
    for (logits, temperature, top_k, top_p), probs in zip(cases, theirs, strict=True):
        wanted = next_token_distribution(
            torch.tensor(logits, dtype=torch.float64),
            Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
        )
        torch.testing.assert_close(torch.tensor(probs, dtype=torch.float64), wanted)


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenExplorer([], {"c": CharacterTokenizer()}), "at least one text"),
        (lambda: TokenExplorer("abc", {"c": CharacterTokenizer()}), "list of at least"),
        (lambda: TokenExplorer([""], {"c": CharacterTokenizer()}), "not empty"),
        (lambda: TokenExplorer(["\ud800"], {"c": ByteTokenizer()}), "lone surrogate"),
        (lambda: TokenExplorer(["abc"], {}), "tokenizers must be at least 1"),
        (lambda: MergeExplorer(""), "not empty"),
        (lambda: MergeExplorer([]), "at least one text"),
        (lambda: MergeExplorer("ab", n_merges=2), "vocab_size must be at most 257"),
        (lambda: MergeExplorer("ab", n_merges=-1), "vocab_size must be at least 256"),
        (
            lambda: MergeExplorer(" ".join(f"w{i}x" for i in range(501)), n_merges=1),
            "words must be in 0 … 500",
        ),
        (
            lambda: MergeExplorer("ab", tokenizer=sentencepiece(["low"])),
            "tokenizer must have plain options",
        ),
        (lambda: SamplingExplorer(["a"], [0.0]), "tokens must be at least 2, got 1"),
        (
            lambda: SamplingExplorer(["a", "b"], [0.0]),
            "number of logits must be 2, got 1",
        ),
        (lambda: SamplingExplorer(["a", "b"], [0.0, math.inf]), "must be finite"),
        (lambda: SamplingExplorer(["a", "b"], [0.0, math.nan]), "must be finite"),
    ],
)
def test_what_cannot_be_shown_is_refused(make: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_merges_that_are_guessed_are_those_of_training(javascript):
    """Ties, repeated letters, several scripts, and words that become one piece."""
    cases = [
        "hug pug hug bun",
        "aaaa aaa aa abab abab",
        "banana bandana cabana",
        "東京 東京都 🙂🙂 naïve, naive!",
        "the quick brown fox jumps over the lazy dog, and the dog sleeps",
    ]
    learned = javascript(
        GuessExplorer,
        "x.texts.map((text) => m.learn(text, x.pattern, 12))",
        {"texts": cases, "pattern": GuessExplorer("a").pattern},
    )
    for text, merges in zip(cases, learned, strict=True):
        tokenizer = BPETokenizer.train([text], 256 + 12, allow_fewer=True)
        wanted = [[spell(a), spell(b)] for a, b in tokenizer.merges]
        assert merges == wanted


def test_a_text_to_guess_in_must_be_one():
    with pytest.raises(ValueError, match="not empty"):
        GuessExplorer("")


def test_a_page_does_not_run_a_tokenizer_of_sentencepiece():
    assert specification(sentencepiece(["low ! lower"])) is None
