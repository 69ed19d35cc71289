"""Short texts that tell a model's weights, or a list of texts, from all others.

A checkpoint, a file of pairs or a reward model names by them what it belongs to, and
is refused with anything else.
"""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def weights_fingerprint(model: nn.Module) -> str:
    """Return a text that tells a model's weights from others, 64 hexadecimal digits."""
    return _digest(model.state_dict().items())


def texts_fingerprint(texts: Iterable[str]) -> str:
    """Return a text that tells a list of texts from others, 64 hexadecimal digits.

    >>> texts_fingerprint(["a", "b"]) == texts_fingerprint(["ab"])
    False
    """
    return _digest((text, None) for text in texts)


def _digest(parts: Iterable[tuple[str, Tensor | None]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in parts:
        digest.update(f"{len(name)} {name}".encode())
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(data.numpy().data)
    return digest.hexdigest()
