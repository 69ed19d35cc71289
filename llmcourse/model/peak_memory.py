"""The peak memory of a computation: the most bytes that its tensors held at once.

Every tensor that a torch operation makes counts, until it is freed. Tensors from before
do not count, nor does memory that an operation frees before it ends. Unlike the memory
of the process, which the system hands out in large pieces and takes back late, this is
the same in every run.
"""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of new tensors while it is entered.

    >>> import torch
    >>> with PeakMemory() as memory:
    ...     x = torch.ones(1000)  # 4,000 bytes
    ...     y = x + x  # twice that, and then the first is dropped
    ...     del x
    ...     z = y * 2
    >>> memory.peak, memory.live
    (8000, 8000)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0  # bytes of the tensors that are held now
        self.peak = 0  # bytes, the most that were held at once
        self._places: set[int] = set()  # where they lie

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count what it made."""
        read = {_place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and _place(tensor) not in read:
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        place, storage = _place(tensor), tensor.untyped_storage()
        if place in self._places or storage.nbytes() == 0:
            return
        self._places.add(place)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, place, storage.nbytes())

    def _drop(self, place: int, n_bytes: int) -> None:
        self._places.discard(place)
        self.live -= n_bytes


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
