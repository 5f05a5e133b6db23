"""Devices, ranks and collective operations; without a process group there is one rank.

All ranks must call a collective operation together, with tensors of equal shape.

Shapes: n rows of one rank, W ranks.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def pick_device(use_gpu: bool) -> torch.device:
    """The GPU of this process if `use_gpu`, else the CPU; `ValueError` if torch sees no GPU."""
    if use_gpu and not torch.cuda.is_available():
        raise ValueError(
            "scaling.use_gpu is true, but torch sees no GPU here: set it to false, or install a CUDA build of torch"
        )
    return torch.device("cuda" if use_gpu else "cpu")


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def gather(tensor: Tensor) -> Tensor:
    """Joins the tensors [n, ...] of all ranks in rank order, [W * n, ...]; without gradient."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_with_grad(tensor: Tensor) -> Tensor:
    """Like `gather`, but with gradient: the loss of every rank reaches the embeddings of all ranks.

    The backward pass sums, over all ranks, the gradients for this rank's rows. The loss of a rank is the mean over its
    own queries, and DDP averages gradients over ranks: the result is exactly the gradient of the global batch, without
    any factor W.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)


def broadcast_object(value: object) -> object:
    """Returns rank 0's value (any object that processes can send each other) on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return gather(tensor)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may share it, all_reduce changes it
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]
