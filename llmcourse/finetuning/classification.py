"""A language model that names the class of a text instead of its next token.

    ids ── the model's layers ── norm ──┬── unembedding ── next token
                                        └── head ── class       (a matrix of its own)

A classifier is the same transformer with another matrix at the end, with a row for
each class. It scores the classes at every position; only the last one counts, where
the whole text has been read.

Source: Radford et al. (2018), "Improving language understanding by generative
pre-training", section 3.2.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.arguments import check_positive
from llmcourse.finetuning.examples import TokenizedExample, collate
from llmcourse.model.folders import shapes_only
from llmcourse.model.transformer import Transformer, TransformerConfig


class Classifier(nn.Module):
    """A transformer with a new head that scores classes.

    The layers are the given model's own, not copies: training the classifier changes
    that model too, unless they are frozen.

    Args:
        model: A pretrained model.
        n_classes: How many classes there are.
        generator: Source of the head's first weights; None draws from torch's global
            one.

    Raises:
        ValueError: If there are no classes.

    >>> from llmcourse.model.transformer import TINY
    >>> classifier = Classifier(Transformer(TINY), n_classes=3)
    >>> classifier(torch.tensor([[5, 0, 3, 9]])).shape
    torch.Size([1, 4, 3])
    """

    def __init__(
        self,
        model: Transformer,
        n_classes: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_positive(n_classes=n_classes)
        self.n_classes = n_classes
        self.body = without_unembedding(model)
        self.head = nn.Linear(model.config.d_model, n_classes)
        nn.init.normal_(self.head.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.head.bias)  # no strong opinion yet
        self.head.to(model.embedding.weight)  # same dtype and device

    @property
    def config(self) -> TransformerConfig:
        """Shape and sizes of the model inside."""
        return self.body.config

    def freeze_body(self) -> None:
        """Freeze everything but the head."""
        self.body.requires_grad_(False)

    def forward(
        self, ids: Int[Tensor, "batch query"]
    ) -> Float[Tensor, "batch query n_classes"]:
        """Return the (unitless) logits of the classes after each position.

        Args:
            ids: The tokens.

        Raises:
            ValueError: As in `Transformer`.
        """
        features: Tensor = self.body(ids)  # (B, T, D)
        logits: Tensor = self.head(features)
        return logits


def without_unembedding(model: Transformer) -> Transformer:
    """Return another transformer with the same layers that does not score tokens.

    Instead, it returns the normalised residual stream, (B, T, D).
    """
    body = shapes_only(replace(model.config, tied_embeddings=False))
    for name, layer in model.named_children():
        setattr(body, name, layer)
    body.add_module("unembedding", nn.Identity())
    return body


@torch.no_grad()
def classify(
    classifier: Classifier, examples: Sequence[TokenizedExample], batch_size: int = 32
) -> Float[Tensor, "example n_classes"]:
    """Return the probability of each class for each text, as fractions of one.

    Args:
        classifier: Reads the texts.
        examples: See `TokenizedExample.of_label`; their labels are ignored.
        batch_size: Texts read at a time.

    Raises:
        ValueError: If there are no texts, or as in `Transformer`.
    """
    rows = []
    for start in range(0, max(1, len(examples)), batch_size):
        part = examples[start : start + batch_size]
        logits = classifier(collate(part).ids.to(classifier.head.weight.device))
        last = torch.tensor([len(example) - 1 for example in part])
        rows.append(logits[torch.arange(len(part)), last].softmax(dim=-1).cpu())
    return torch.cat(rows)


def accuracy(classifier: Classifier, examples: Sequence[TokenizedExample]) -> float:
    """Return the fraction of texts whose most probable class is the right one.

    Args:
        classifier: Reads the texts.
        examples: Texts with labels, see `TokenizedExample.of_label`.

    Raises:
        ValueError: As in `classify`.
    """
    found = classify(classifier, examples).argmax(dim=-1)
    labels = torch.stack([example.targets[-1] for example in examples])
    return (found == labels).float().mean().item()
