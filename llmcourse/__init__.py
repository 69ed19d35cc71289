"""The companion package of *Large Language Models Explained*.

Each module holds one idea of the course under the field's own name for it.
Types and comments use one set of letters (see the book's page *Notation*):

    batch    B  sequences             batch_size
    query    T  target positions      context_length (limit)
    key      S  source positions      context_length (limit)
    d_model  D  residual width        d_model
    d_ff     F  feed-forward width    d_ff
    head     H  query heads           n_heads
    kv_head  K  key-value heads       n_kv_heads
    d_head   –  width of one head     property
    vocab    V  vocabulary            vocab_size
    –        L  layers                n_layers
"""

__version__ = "0.1.0"
