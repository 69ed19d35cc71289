"""Text: where it comes from, and how it becomes numbers.

    tales           stories whose exact probability is known
    grammar         the interpreter that writes, parses and measures them
    grammar_text    the format of a grammar's file
    documents       sources: tales, Python's documentation, your own files
    corpus          from raw text to splits, with a report of every step
    cleaning        uniform text, and rules for quality
    deduplication   exact copies, and near ones by MinHash
    bpe             byte-pair encoding: pre-tokens, merges, ids
    tokenizers      words, characters, bytes, BPE
    tokenizer_files `tokenizer.json`, read and written
    ngrams          counts as a language model, and gzip as another
    embeddings      word vectors: skip-gram, similarity, analogies
    packing         documents as rows of token ids

Read first: tales, bpe.
"""
