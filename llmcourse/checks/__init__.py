"""A check for each exercise that asks for code, in one module for each chapter.

A check calls the reader's function on small cases. It says nothing when all is right,
and otherwise raises `AssertionError` with a message that explains the mistake:

    from llmcourse.checks import tokenization as checks

    checks.longest_match(my_longest_match)

`base` has the decorator of all checks.
"""
