"""Retrieval: documents longer than the context window.

    chunking      a long text in pieces, each with its place
    summarising   map-reduce and refine
    bm25          ranking by words; fusion and measures of rankings
    dense         ranking by vectors that learn
    retrieval     find passages, then answer from them
    books         books of tales with questions whose answers are known
    needles       one sentence hidden in a long text

Read first: bm25, retrieval.
"""
