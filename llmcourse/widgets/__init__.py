"""Explorers: small interactive figures that work in a page without a kernel.

    tokens      a text under several tokenizers; byte-pair encoding, merge by merge
    embedding   word vectors: a map, neighbours, sums
    attention   which tokens each head of a model looks at
    surprise    the words of a tale, coloured by how surprising they are
    loss        a run's loss, and what the model wrote along the way
    sampling    temperature, top-k and top-p on one next-token distribution
    window      the context window: what fits, what a query sees, what it costs
    search      chunks and BM25: what each word is worth, the best passages
    batching    requests that share a model's steps, as timelines
    memory      how much memory a model takes, in use and in training
    stopping    a policy, stopped where the reader likes: learned and gold reward
    ranks       LoRA's rank: what is learned and forgotten, against full fine-tuning
    sizes       sizes of well-known models
    base        what they share
    page_model  models that run in the pages of the site: on the reader's own words, in
                conversations, and side by side

Each explorer is an anywidget. Python checks what it is given and writes it into the
widget's state; the JavaScript beside these files responds to the reader, so an explorer
works on the static site as it does in JupyterLab. To show one, end a cell with it. The
models are for the site only: their weights are too large for a notebook.
"""
