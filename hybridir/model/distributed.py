"""Devices, ranks, and a gather that carries gradients. Needs torch alone; without a process group there is one rank.

All ranks must call these functions together, with tensors of equal shape.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def pick_device(use_gpu: bool) -> torch.device:
    """The GPU of this process, or its CPUs; `ValueError` where it has no GPU."""
    if use_gpu and not torch.cuda.is_available():
        raise ValueError(
            "scaling.use_gpu is true, and torch sees no GPU here: set it to false, or install a CUDA build"
        )
    return torch.device("cuda" if use_gpu else "cpu")


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def gather(tensor: Tensor) -> Tensor:
    """The tensors of all ranks, joined along the first dimension in the order of the ranks; without gradient."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_with_grad(tensor: Tensor) -> Tensor:
    """As `gather`, and every rank's loss reaches the embeddings of all ranks.

    The backward pass sums the gradients that all ranks have for this rank's part. With the loss of a rank being the
    mean over *its* queries, the mean over ranks that DDP takes is exactly the gradient of the global batch: no factor
    of the world size belongs anywhere.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)


def broadcast_object(value: object) -> object:
    """Rank 0's value, on every rank."""
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
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may share what it hands over
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]
