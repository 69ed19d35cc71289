"""Data parallelism: each process has the whole model, and its rows of every batch.

    rows of a batch    0   1   2   3
    process 0          0       2       gradients ╮
    process 1              1       3   gradients ┴ added ── the same step in both

The sum is the gradient of the whole batch, so all processes make the step that a single
one would make, up to rounding, and their weights stay the same. All draw the same
batches in the same order, however many there are. The first process writes the files.

    torchrun --nproc-per-node 2 -m llmcourse pretrain --preset base-llm --out run/

Fine-tuning divides its batches in the same way, by examples instead of windows; PPO and
GRPO do so by answers, each sampled and scored by the process that learns from it.
torchrun starts the processes, tells each its number, and ends all when one fails.
Without it there is one process, and nothing here has any effect.

`shard` also divides up every weight, and so its gradient and the optimizer's state
(FSDP). A block's weights are gathered when it computes.

Sources: Li et al. (2020), "PyTorch distributed: Experiences on accelerating data
parallel training"; Zhao et al. (2023), "PyTorch FSDP: Experiences on scaling fully
sharded data parallel".
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn, zeros_like
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from llmcourse.arguments import check_multiple
from llmcourse.model.transformer import Block, Transformer
from llmcourse.training.config import PretrainingConfig

_Rows = TypeVar("_Rows", Tensor, Sequence[Any])


@contextmanager
def processes(device: str = "cpu") -> Iterator[None]:
    """Join the processes that torchrun started, if it did.

    Args:
        device: What they compute on: "cuda" gives each process a GPU of its own.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Imported later, its functions would hold the group in their default arguments, and
    # threads of gloo would go on while the interpreter ends, which can abort it.
    import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    yield
    dist.destroy_process_group()


def n_processes() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; the first, 0, writes the files."""
    return dist.get_rank() if n_processes() > 1 else 0


def own_rows(batch: _Rows) -> _Rows:
    """Return the rows of a batch, a tensor or a list, that this process learns from."""
    return batch[rank() :: n_processes()]


def add_up(loss: float, model: nn.Module) -> float:
    """Add the gradients of all processes, in place; return the sum of their losses."""
    if n_processes() == 1:
        return loss
    gradients = [w.grad for w in model.parameters() if w.grad is not None]
    if is_sharded(gradients):
        for gradient in gradients:
            gradient.mul_(n_processes())  # FSDP has averaged them
        return add(torch.tensor(loss, device=gradients[0].device)).item()
    total = parameters_to_vector([*gradients, gradients[0].new_tensor([loss])])
    vector_to_parameters(add(total), gradients)
    return total[-1].item()


def add(values: Tensor) -> Tensor:
    """Return the sum of the processes' values, which overwrites this one's."""
    if n_processes() > 1:
        dist.all_reduce(values)
    return values


def all_rows(own: Tensor, n: int) -> Tensor:
    """Return all n rows of a batch, of which each process has its `own_rows`."""
    if n_processes() == 1:
        return own
    kind = torch.uint8 if own.dtype == torch.bool else own.dtype  # gloo adds no bools
    whole = own.new_zeros((n, *own.shape[1:]), dtype=kind)
    whole[rank() :: n_processes()] = own.to(kind)
    return add(whole).to(own.dtype)


def wait() -> None:
    """Wait for all processes, so that all can read the first one's files."""
    if n_processes() > 1:
        dist.barrier()


def share_out(
    function: Callable[[Tensor], Tensor], tensors: Iterable[Tensor]
) -> Iterable[Tensor]:
    """Return the function's value for each tensor; each process computes some of them.

    A single process computes each value when it is requested. Several processes fill
    in zeros for each other's values, and add all up. Sharded tensors are gathered and
    computed one after another in every process: all at once would not fit into memory.

    Args:
        function: Its value has the tensor's shape.
        tensors: What it is called with, one at a time.
    """
    if n_processes() == 1:
        return map(function, tensors)
    tensors = [*tensors]
    if not tensors:
        return []
    if is_sharded(tensors):
        return (part_like(function(whole(tensor)), tensor) for tensor in tensors)
    made = [
        function(tensor) if place % n_processes() == rank() else zeros_like(tensor)
        for place, tensor in enumerate(tensors)
    ]
    vector_to_parameters(add(parameters_to_vector(made)), made)
    return made


def check_divides(config: PretrainingConfig) -> None:
    """Raise ValueError if a batch cannot be divided equally."""
    parts = {"processes times accumulation": n_processes() * config.accumulation}
    check_multiple(batch_size=config.batch_size, **parts)


def check_alike(what: str, value: str | int) -> None:
    """Raise ValueError if a value is not the same in all processes."""
    if n_processes() == 1:
        return
    found: list[str | int] = [value] * n_processes()
    dist.all_gather_object(found, value)
    if len(set(found)) > 1:
        raise ValueError(f"all processes must have the same {what}, got {found}")


def shard(model: nn.Module) -> None:
    """Let each process keep only a part of every weight; change the model in place.

    A single process keeps everything.
    """
    if n_processes() == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (n_processes(),))
    for part in [*model.modules()]:
        if isinstance(part, Block):
            fully_shard(part, mesh=mesh)  # what is gathered together
    fully_shard(model, mesh=mesh)


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Return whether this process has only a part of any of the tensors."""
    return n_processes() > 1 and any(hasattr(t, "full_tensor") for t in tensors)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor, gathered from all processes if each has only a part."""
    made: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return made


def part_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return this process's part of a tensor, divided like a sharded weight."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    place = weight.device_mesh, weight.placements
    # Each process has all of the tensor, so nothing is sent.
    return distribute_tensor(tensor.to(weight.device), *place, src_data_rank=None)


def unshard(model: Transformer) -> Transformer:
    """Return a model with whole weights: the model itself, if nothing is sharded."""
    if not is_sharded(model.parameters()):
        return model
    made = Transformer(model.config, torch.Generator())
    weights = model.state_dict()
    for name, weight in made.state_dict().items():
        weight.copy_(whole(weights[name]))
    return made
