"""Retrieval: documents longer than the context window.

    chunking      a long text in pieces, each with its position
    summarising   map-reduce and refine
    bm25          ranking by words; fusing and measuring rankings
    dense         ranking by learned vectors
    retrieval     find passages, then answer from them
    books         books of tales with questions whose answers are known
    needles       one sentence hidden in a long text

Read first: bm25, retrieval.
"""
