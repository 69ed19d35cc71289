"""What the tests of word vectors share."""

import math

from llmcourse.text.embeddings import similarities


def nearest(vectors, query, k, kind="cosine", exclude=()):
    """Return the ids of the k vectors most like a query, and their similarities."""
    scores = similarities(query, vectors, kind)
    scores[list(exclude)] = -math.inf
    values, ids = scores.topk(k)
    return ids, values
