"""What the end of a worker means: an error of its own, which would come again, or something that was lost.

torch, gloo and NCCL tell most of these apart by their words alone; the tests have them as they were printed.
"""

import torch
import torch.distributed as dist

from hybridir.runtime.durable import PERMANENT

_OF_A_PEER = ("gloo", "NCCL", "onnection")
_OF_ITS_OWN = ("device-side assert", "out of memory")
_OF_A_WAIT = ("imed out", "health check has been hanging")


def may_pass(error: Exception) -> bool:
    """Whether an error comes from the loss of a worker or of its GPU, or of storage for a while."""
    if isinstance(error, OSError):
        return error.errno not in PERMANENT
    if isinstance(error, torch.AcceleratorError):
        return not any(words in str(error) for words in _OF_ITS_OWN)
    of_a_peer = isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_A_PEER)
    return of_a_peer or isinstance(error, dist.DistError) or is_of_ray(error)


def is_of_ray(error: Exception) -> bool:
    """Whether Ray says this of a worker that does not say anything itself."""
    return type(error).__module__.startswith("ray.")


def has_died(error: Exception) -> bool:
    """Whether Ray saw the end of the worker."""
    return hasattr(error, "health_check_failure")


def was_waited_for(error: Exception) -> bool:
    """Whether Ray or a peer waited for an answer in vain."""
    return any(words in str(error) for words in _OF_A_WAIT)


def cause_of_end(error: Exception) -> Exception:
    """What ended a start of Ray Train: an error of one of its workers, of their start, or of what controls them."""
    failures = getattr(error, "worker_failures", None)
    error = next(iter(failures.values())) if failures else getattr(error, "controller_failure", error)
    return getattr(error, "cause", error)  # of a task: peers of a worker that is lost while they meet


def in_short(error: Exception) -> str:
    """The cause of an error, in one line."""
    cause = getattr(error, "health_check_failure", error)
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:300]}"
