"""Which errors are worth another try: not those that would come again, but those of a lost worker, GPU or connection.

torch, gloo and NCCL raise the same classes for both kinds, so most errors are told apart by their messages. The tests
have real messages of each kind.
"""

import torch
import torch.distributed as dist

from hybridir.runtime.durable import PERMANENT

_OF_A_PEER = ("gloo", "NCCL", "onnection")
_OF_ITS_OWN = ("device-side assert", "out of memory")
_OF_A_WAIT = ("imed out", "health check has been hanging")


def may_pass(error: Exception) -> bool:
    """Whether another try may succeed: a worker, GPU or connection was lost, or storage did not answer."""
    if isinstance(error, OSError):
        return error.errno not in PERMANENT
    if isinstance(error, torch.AcceleratorError):
        return not any(words in str(error) for words in _OF_ITS_OWN)
    of_a_peer = isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_A_PEER)
    return of_a_peer or isinstance(error, dist.DistError) or is_of_ray(error)


def is_of_ray(error: Exception) -> bool:
    """Whether Ray itself raised the error, because the worker could not."""
    return type(error).__module__.startswith("ray.")


def has_died(error: Exception) -> bool:
    """Whether Ray reports that the process of the worker ended."""
    return hasattr(error, "health_check_failure")


def was_waited_for(error: Exception) -> bool:
    """Whether Ray or another worker waited for an answer until a timeout."""
    return any(words in str(error) for words in _OF_A_WAIT)


def cause_of_end(error: Exception) -> Exception:
    """The error behind that of Ray Train: a worker's if there is one, else that of the controller of the workers."""
    failures = getattr(error, "worker_failures", None)
    error = next(iter(failures.values())) if failures else getattr(error, "controller_failure", error)
    return getattr(error, "cause", error)  # in a task's error: a peer was lost during rendezvous


def in_short(error: Exception) -> str:
    """The cause of an error in one line of about 300 characters at most."""
    cause = getattr(error, "health_check_failure", error)
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:300]}"
