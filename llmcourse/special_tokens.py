"""More special tokens for a model that has been trained without them.

    ids         0 … V-1   V        V+1           …
    embedding   learned   <|user|> <|assistant|> …    rows that are new

A tokenizer only has to look them up; the model needs a row of its embedding for each.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer


def add_special_tokens(
    model: Transformer,
    tokenizer: BPETokenizer,
    names: Sequence[str],
    generator: torch.Generator | None = None,
) -> tuple[Transformer, BPETokenizer]:
    """Return a model and a tokenizer with more special tokens; neither is changed.

    The new tokens get the next ids, and rows of the embedding (and of the unembedding)
    close to the mean of the others, so that a trained model finds them neither likely
    nor strange. All other logits stay the same. The rows have to be learned: with
    low-rank adapters alone, `model.embedding` must be unfrozen for that.

    Args:
        model: Of any shape.
        tokenizer: Its tokenizer.
        names: The new special tokens.
        generator: Source of what tells the new rows apart, a tenth of the others'
            deviation; None draws from torch's global one.

    Raises:
        ValueError: If model and tokenizer do not belong together, if a name is there
            already, twice or none, or as `BPETokenizer`.

    Source: Hewitt (2021), "Initializing new word embeddings for pretrained language
    models".
    """
    n_old = model.config.vocab_size
    if tokenizer.vocab_size != n_old:
        raise ValueError(
            f"the model has {n_old} ids, so must the tokenizer, "
            f"got one with {tokenizer.vocab_size}"
        )
    there = [name for name in names if name in tokenizer.special_tokens]
    if there or len(set(names)) < len(names) or not names:
        raise ValueError(f"names must be of new tokens, each once, got {list(names)}")
    added = {name: n_old + place for place, name in enumerate(names)}
    larger = BPETokenizer(
        tokenizer.vocab,
        tokenizer.merges,
        tokenizer.special_tokens | added,
        tokenizer.pattern,
    )
    grown = copy.deepcopy(model)
    grown.config = replace(model.config, vocab_size=larger.vocab_size)
    for layer in (grown.embedding, grown.unembedding):
        if layer is not None:
            _grow(layer, len(names), generator)
    return grown, larger


def _grow(
    layer: nn.Embedding | nn.Linear, n_rows: int, generator: torch.Generator | None
) -> None:
    """Give a matrix with a row for each token more rows."""
    old: Float[Tensor, "vocab d_model"] = layer.weight.detach()
    noise = torch.randn(n_rows, old.shape[1], generator=generator).to(old)
    new = old.mean(dim=0) + 0.1 * old.std(dim=0) * noise
    layer.weight = nn.Parameter(torch.cat((old, new)), layer.weight.requires_grad)
    if isinstance(layer, nn.Embedding):
        layer.num_embeddings = len(layer.weight)
    else:
        layer.out_features = len(layer.weight)
