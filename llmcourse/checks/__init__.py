"""One check for each exercise that asks for code.

A check feeds small cases to the reader's function. It says nothing when all is right,
and otherwise raises `AssertionError` with a text that is the lesson:

    checks.merge(my_merge)
"""

from llmcourse.checks.corpus import (
    choose_bands,
    containment,
    find_leaks,
    is_held_out,
)
from llmcourse.checks.pipeline import bigram_probs, shift
from llmcourse.checks.tokenization import (
    digit_groups,
    encode_pretoken,
    longest_match,
    predict_pieces,
)

__all__ = [
    "bigram_probs",
    "choose_bands",
    "containment",
    "digit_groups",
    "encode_pretoken",
    "find_leaks",
    "is_held_out",
    "longest_match",
    "predict_pieces",
    "shift",
]
