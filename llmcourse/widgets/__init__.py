"""Explorers: small interactive figures that live on in the page without a kernel.

    tokens      a text under several tokenizers; byte-pair encoding, merge by merge
    embedding   word vectors: a map, neighbours, sums
    attention   which tokens each head of a model looks at
    surprise    the words of a tale, coloured by how surprising they are
    loss        a training's loss, and what its model wrote on the way
    sampling    temperature, top-k and top-p on one next-token distribution
    window      the context window: what fits, what a query sees, what it costs
    search      chunks and BM25: what each word is worth, the best passages
    batching    requests that share a model's steps, as timelines
    memory      what a model takes of a card, answering and in training
    stopping    a policy, stopped where the reader likes: learned and gold reward
    ranks       LoRA's rank: what is learned and forgotten, beside all weights
    sizes       sizes of well-known models
    base        what they share
    page_model  models that run in the pages of the site: on the reader's own words, in
                conversations, and side by side

Each explorer is an anywidget. Python checks what it is given and writes it into the
widget's state; what answers the reader is the JavaScript beside these files, so it
works on the static site as it does in JupyterLab. End a cell with one to show it. The
models are for the site alone: their weights would be too much for a notebook.
"""
