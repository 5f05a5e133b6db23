"""Tells two kinds of error apart: those that would come again, and those of a lost worker, GPU, network or storage.

Most errors of torch, gloo and NCCL differ only in their messages; the tests hold such messages as they were printed.
"""

import torch
import torch.distributed as dist

from hybridir.runtime.durable import PERMANENT

_OF_A_PEER = ("gloo", "NCCL", "onnection")
_OF_ITS_OWN = ("device-side assert", "out of memory")
_OF_A_WAIT = ("imed out", "health check has been hanging")


def may_pass(error: Exception) -> bool:
    """Whether an error comes from a lost worker or GPU, or from storage that may come back: worth another try."""
    if isinstance(error, OSError):
        return error.errno not in PERMANENT
    if isinstance(error, torch.AcceleratorError):
        return not any(words in str(error) for words in _OF_ITS_OWN)
    of_a_peer = isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_A_PEER)
    return of_a_peer or isinstance(error, dist.DistError) or is_of_ray(error)


def is_of_ray(error: Exception) -> bool:
    """Whether Ray raised the error on behalf of a worker that could not."""
    return type(error).__module__.startswith("ray.")


def has_died(error: Exception) -> bool:
    """Whether Ray saw the worker end."""
    return hasattr(error, "health_check_failure")


def was_waited_for(error: Exception) -> bool:
    """Whether Ray or a peer waited for an answer until it timed out."""
    return any(words in str(error) for words in _OF_A_WAIT)


def cause_of_end(error: Exception) -> Exception:
    """The error that ended a start of Ray Train: of a worker, of starting the workers, or of their controller."""
    failures = getattr(error, "worker_failures", None)
    error = next(iter(failures.values())) if failures else getattr(error, "controller_failure", error)
    return getattr(error, "cause", error)  # in a task's error: a peer was lost during rendezvous


def in_short(error: Exception) -> str:
    """The cause of an error in one line of about 300 characters at most."""
    cause = getattr(error, "health_check_failure", error)
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:300]}"
