"""How many CPU cores this process may use."""

import os


def usable_cpus() -> int:
    """The cores that this process may run on; all of the machine's where the system does not say (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
