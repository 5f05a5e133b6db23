"""Machine and code of a run: described by tags, and measured while it runs. Covers the driver's machine only."""

import getpass
import json
import os
import platform
import shutil
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hybridir.runtime.cpus import usable_cpus
from hybridir.runtime.durable import appended, open_alone
from hybridir.runtime.history import read_history
from hybridir.runtime.versions import versions

PACKAGE = Path(__file__).parents[1]


def describe() -> dict[str, str]:
    """Tags: git commit (if the package is in a git checkout), versions of libraries, hardware."""
    found = _git() | {f"version.{name}": text for name, text in versions().items() if text != "not installed"}
    with suppress(PackageNotFoundError):
        found["version.mlflow"] = version("mlflow")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found |= {
        "hardware.host": platform.node(),
        "hardware.cpu": _cpu(),
        "hardware.cores": str(usable_cpus()),
        "hardware.memory_gib": f"{memory:.1f}",
        "hardware.gpus": _gpus(),
    }
    with suppress(KeyError, OSError):  # a user id without a name
        found["mlflow.user"] = getpass.getuser()
    return found


class Sampler:
    """Measures CPU, memory, disk, network and GPUs with MLflow's monitors; adds a line to `path` every `every` seconds.

    A line holds `step` (its number, from 0), `time` (unix seconds) and the monitors' values in MLflow's units.
    """

    def __init__(self, path: Path, every: float) -> None:
        _cut_torn_line(path)
        self._path, self._every = path, every
        self._step = sum(1 for _ in read_history(path))
        self._monitors = _monitors()
        for monitor in self._monitors:
            monitor.collect_metrics()  # CPU use is measured between two calls
            monitor.clear_metrics()

    def run(self, done: threading.Event) -> None:
        """Measures until `done` is set, and then once more."""
        while not done.wait(self._every):
            self._measure()
        self._measure()

    def _measure(self) -> None:
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        with appended(self._path) as file:
            file.write(json.dumps({"step": self._step, "time": time.time()} | values) + "\n")
        self._step += 1


def _monitors() -> list[Any]:
    """The monitors of MLflow that work here; the one for GPUs needs a GPU and nvidia-ml-py."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(Exception):
        found.append(GPUMonitor())
    return found


def _cut_torn_line(path: Path) -> None:
    """Removes an incomplete last line of a killed writer: the next line would be joined to it and lost too."""
    if path.exists():
        with os.fdopen(open_alone(path, os.O_RDWR), "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _git() -> dict[str, str]:
    if not _command("git", "ls-files", "--error-unmatch", "__init__.py"):
        return {}
    dirty = bool(_command("git", "status", "--porcelain"))
    return {"mlflow.source.git.commit": _command("git", "rev-parse", "HEAD"), "git.dirty": str(dirty).lower()}


def _cpu() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _gpus() -> str:
    names = Counter(_command("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines())
    return ", ".join(f"{count} x {name}" for name, count in names.items()) or "none"


def _command(*words: str) -> str:
    """The output of a command; empty if the command is missing or fails."""
    if not shutil.which(words[0]):
        return ""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(words, capture_output=True, text=True, cwd=PACKAGE, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""
