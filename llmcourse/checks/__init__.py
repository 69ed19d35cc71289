"""One check for each exercise that asks for code.

A check feeds small cases to the reader's function. It says nothing when all is right,
and otherwise raises `AssertionError` with a text that is the lesson:

    checks.merge(my_merge)
"""

from llmcourse.checks.pipeline import bigram_probs, shift

__all__ = ["bigram_probs", "shift"]
