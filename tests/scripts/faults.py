"""Kills the sample job at random moments, and checks that it ends as if nothing had happened.

python tests/scripts/faults.py DIR [--kind worker|driver|node] [--kills 20] [--seed 0] [--steps 200]

A worker: of the two, either one. The driver: the job is started again with --resume at once. A node: of a simulated
cluster with two nodes of one worker each, beside the head; all its processes, and a new node joins. The moments are
uniform over the length of an undisturbed run (of a worker: from its start to its end), counted anew after each kill: a
run is killed until it comes to its end. Then history, weights and MLflow are compared with an undisturbed run. What is
found is appended to DIR/faults.jsonl; the table at the end is made from all of that file.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

from hybridir.on_ray.cluster import _LOCAL, _QUIET
from hybridir.runtime.history import read_history

ROOT = Path(__file__).parents[2]
VOLATILE = {"time", "seconds", "pairs_per_s", "data_wait", "attempt"}
"""What two equal runs write differently."""
KINDS = ("worker", "driver", "node")
EVERY = 10
"""Steps between checkpoints."""
PATIENCE = 600.0
"""Seconds in which workers have to start, and in which a run has to end once it is not killed any more."""


class Run:
    """The job, in a folder of its own."""

    def __init__(self, folder: Path, steps: int, environment: dict[str, str], *more: str) -> None:
        self.output, self.log = folder / "run", folder / "log.txt"
        folder.mkdir(parents=True)
        self._command = [
            *(sys.executable, "jobs/train.py", "--output", str(self.output), "--cache", str(folder.parent / "cache")),
            *("--train.steps", str(steps), "--train.checkpoint_every", str(EVERY), "--validation.every", "20"),
            *("--benchmark.facts", "60", "--scaling.max_failures", "1000", *more),
        ]
        self._environment = environment
        self.start()

    def start(self) -> None:
        """For the first time, or again once it is a run that can be resumed."""
        more = ["--resume"] if (self.output / "config.yaml").exists() else []
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*self._command, *more], cwd=ROOT, stdout=log, stderr=log, env=self._environment
            )

    def lines(self) -> list[dict[str, Any]]:
        """The history, which a new attempt cuts back."""
        return list(read_history(self.output / "history.jsonl"))

    def wait(self) -> bool:
        """Whether it comes to a good end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(PATIENCE) == 0
        return False

    def result(self) -> dict[str, Any]:
        """What must not depend on faults: the steps, the weights, and what MLflow has."""
        client = MlflowClient(f"sqlite:///{self.output.parent / 'mlflow.db'}")
        runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
        points = [[(p.step, p.value) for p in client.get_metric_history(r.info.run_id, "loss")] for r in runs]
        return {
            "history": [{k: v for k, v in line.items() if k not in VOLATILE} for line in self.lines()],
            "weights": hashlib.sha256((self.output / "model" / "model.safetensors").read_bytes()).hexdigest(),
            "MLflow": [sorted(run) for run in points],
            "MLflow's end": [run.info.status for run in runs],
            "models": len(client.search_model_versions()),
        }


def workers_of(run: Run) -> list[psutil.Process]:
    """The processes that train, in a settled order."""
    processes = psutil.process_iter(["cmdline"])
    titles = [(p, " ".join(p.info["cmdline"] or ())) for p in processes]
    found = [p for p, title in titles if re.match(r"ray::.*TrainWorker", title) and _descends(p, run.process.pid)]
    return sorted(found, key=lambda process: process.pid)


def kill(kind: str, run: Run, workers: list[psutil.Process], nodes: "Nodes | None", rng: random.Random) -> None:
    if kind == "worker":
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            rng.choice(workers).kill()
    elif kind == "driver":
        run.process.kill()
        run.process.wait()
        run.start()
    elif nodes:
        nodes.lose(rng)
        nodes.add()


def _descends(process: psutil.Process, pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return pid in (parent.pid for parent in process.parents())
    return False


class Nodes:
    """A simulated cluster: the head, and two nodes with room for a worker each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.address = self._cluster.address
        self._nodes: list[Any] = []
        self.add()
        self.add()

    def add(self) -> None:
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def lose(self, rng: random.Random) -> None:
        """All processes of a node end at once."""
        node = self._nodes.pop(rng.randrange(len(self._nodes)))
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [*raylet.children(recursive=True), raylet]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._cluster.remove_node(node, allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@contextlib.contextmanager
def cluster_for(kind: str) -> Iterator[tuple[Nodes | None, dict[str, str]]]:
    """Where the job of a kind runs: on a simulated cluster, or where it starts Ray itself."""
    nodes = Nodes() if kind == "node" else None
    try:
        yield nodes, os.environ | ({"RAY_ADDRESS": nodes.address} if nodes else {})
    finally:
        if nodes:
            nodes.shutdown()


def disturb(run: Run, kind: str, span: float, most: int, rng: random.Random, nodes: Nodes | None) -> list[float]:
    """Kills until the run has come to its end, or so often; the moments, in unix seconds."""
    killed: list[float] = []
    workers: list[psutil.Process] = []
    while len(killed) < most:
        if kind == "worker":
            workers = new_workers(run, workers)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(rng.uniform(0, span))
            break
        if not all(worker.is_running() for worker in workers):
            break  # they have done their work
        killed.append(time.time())
        kill(kind, run, workers, nodes, rng)
    return killed


def new_workers(run: Run, before: list[psutil.Process]) -> list[psutil.Process]:
    """The two that train, once there are two others than before; none where the run ends without."""
    until = time.monotonic() + PATIENCE
    while run.process.poll() is None:
        there = workers_of(run)
        if len(there) == 2 and not set(there) & set(before):
            return there
        assert time.monotonic() < until, f"no new workers: see {run.log}"
        time.sleep(0.05)
    return []


def ways_back(run: Run, killed: list[float]) -> Iterator[dict[str, float]]:
    """Of each kill: its step, and where new steps came before the next kill, when, and how many were done again."""
    files = (run.output / name for name in ("history.jsonl", "history.discarded.jsonl"))
    lines = sorted((line for file in files for line in read_history(file)), key=lambda line: line["time"])
    for moment, following in zip(killed, [*killed[1:], math.inf], strict=True):
        attempt = max((line["attempt"] for line in lines if line["time"] <= moment), default=0)
        reached = max((line["step"] for line in lines if line["attempt"] <= attempt), default=-1)
        again = [line for line in lines if line["attempt"] > attempt and line["time"] < following]
        new = next((line["time"] for line in again if line["step"] > reached), None)
        redone = sum(line["step"] <= reached for line in again)
        yield {"step": reached + 1} | ({"recovered_s": new - moment, "redone": redone} if new else {})


def series(directory: Path, kind: str, options: argparse.Namespace) -> None:
    """All kills of a kind."""
    rng = random.Random(f"{options.seed} {kind}")
    with cluster_for(kind) as (nodes, environment):
        run = Run(directory / f"{kind}-undisturbed-{time.time_ns()}", options.steps, environment)
        began = time.monotonic()
        if kind == "worker":
            workers, began = new_workers(run, []), time.monotonic()
            psutil.wait_procs(workers)
            span = time.monotonic() - began
        if not run.wait():
            raise RuntimeError(f"the undisturbed run failed: see {run.log}")
        if kind != "worker":
            span = time.monotonic() - began
        print(f"moments of a {kind}: from 0 to {span:.0f} s", flush=True)
        expected = run.result()
        assert [len(points) for points in expected["MLflow"]] == [options.steps], "one run, each step once"
        left = options.kills
        while left:
            run = Run(directory / f"{kind}-{time.time_ns()}", options.steps, environment)
            wrong, killed = ["it was not waited for"], list[float]()
            try:
                killed = disturb(run, kind, span, left, rng, nodes)
                wrong = ["it did not come to its end"]
                if run.wait():
                    result = run.result()
                    wrong = [name for name in expected if result[name] != expected[name]]
            finally:
                if run.process.poll() is None:
                    run.process.send_signal(signal.SIGINT)
                    run.wait()
                left -= len(killed)
                kills = [
                    {"kind": kind, "seed": options.seed, "wrong": wrong, "at_s": moment} | back
                    for moment, back in zip(killed, ways_back(run, killed), strict=True)
                ]
                with open(directory / "faults.jsonl", "a", encoding="utf-8") as file:
                    file.writelines(json.dumps(kill) + "\n" for kill in kills)
            words = f"not as undisturbed: {', '.join(wrong)}" if wrong else "as undisturbed"
            print(f"{run.output}: killed {len(killed)} times, {words}; {left} to go", flush=True)
            if wrong and not killed:
                raise RuntimeError(f"a run that was not even killed did not end well: see {run.log}")


def table(directory: Path) -> str:
    """What all series in a folder found, in Markdown."""
    kills = [json.loads(line) for line in (directory / "faults.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = ["| SIGKILL of | kills | survived | seconds to the next new step | steps redone |", "| --- " * 5 + "|"]
    for kind in KINDS:
        if own := [kill for kill in kills if kill["kind"] == kind]:
            figures = (spread([kill[name] for kill in own if name in kill]) for name in ("recovered_s", "redone"))
            rows.append(f"| {kind} | {len(own)} | {sum(not kill['wrong'] for kill in own)} | {' | '.join(figures)} |")
    return "\n".join(rows)


def spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f}; {len(values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=lambda name: Path(name).absolute())
    parser.add_argument("--kind", choices=KINDS, action="append", help="all of them when omitted")
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200, help="of a run")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    os.environ.update({k: v for k, v in (_QUIET | _LOCAL | {"RAY_AUTH_MODE": "token"}).items() if k not in os.environ})
    print(f"seed {options.seed}", flush=True)
    for kind in options.kind or KINDS:
        series(options.directory, kind, options)
    print(f"\nmedian (least to greatest; of how many)\n\n{table(options.directory)}")


if __name__ == "__main__":
    main()
