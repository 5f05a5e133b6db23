"""Kills the sample job at random moments, and checks that it ends as if nothing had happened.

python tests/faults.py DIR [--kind worker|driver|node] [--kills 20] [--seed 0] [--steps 60]

A worker: of the two, either one. The driver: the job is started again with --resume at once. A node: of a simulated
cluster with two nodes of one worker each, beside the head; all its processes, and a new node joins. The moments are
uniform over the steps, several in a run. After each run history, weights and MLflow are compared with an undisturbed
run. What is found is appended to DIR/faults.jsonl; the table at the end is made from all of that file.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

from hybridir.history import read_history
from hybridir.on_ray.cluster import _LOCAL, _QUIET

ROOT = Path(__file__).parents[1]
KINDS = ("worker", "driver", "node")
VOLATILE = {"time", "seconds", "pairs_per_s", "data_wait", "attempt"}
EVERY = 10
"""Steps between checkpoints."""
PATIENCE = 600.0
"""Seconds in which a run must make its next step."""


class Run:
    """The job, in a folder of its own."""

    def __init__(self, folder: Path, steps: int, environment: dict[str, str], *more: str) -> None:
        self.output, self.log = folder / "run", folder / "log.txt"
        folder.mkdir(parents=True)
        self._command = [
            *(sys.executable, "jobs/train.py", "--output", str(self.output), "--cache", str(folder.parent / "cache")),
            *("--train.steps", str(steps), "--train.checkpoint_every", str(EVERY), "--validation.every", "20"),
            *("--benchmark.facts", "300", "--scaling.max_failures", "1000", *more),
        ]
        self._environment = environment
        self.start()

    def start(self, *more: str) -> None:
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*self._command, *more], cwd=ROOT, stdout=log, stderr=log, env=self._environment
            )

    def lines(self) -> list[dict[str, Any]]:
        """The history, which a new attempt cuts back."""
        return list(read_history(self.output / "history.jsonl"))

    def wait_for(self, what: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The history, once it is as asked for."""
        until = time.monotonic() + PATIENCE
        while not what(lines := self.lines()):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.output} does not go on (exit code {self.process.poll()}): see {self.log}")
            time.sleep(0.05)
        return lines

    def result(self) -> dict[str, Any]:
        """What must not depend on faults: the steps, the weights, and what MLflow has."""
        lines = self.lines()
        client = MlflowClient(f"sqlite:///{self.output.parent / 'mlflow.db'}")
        runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
        points = [[(p.step, p.value) for p in client.get_metric_history(r.info.run_id, "loss")] for r in runs]
        return {
            "steps": [line["step"] for line in lines],
            "history": [{k: v for k, v in line.items() if k not in VOLATILE} for line in lines],
            "weights": hashlib.sha256((self.output / "model" / "model.safetensors").read_bytes()).hexdigest(),
            "MLflow": [sorted(run) for run in points],
        }


def kill_worker(run: Run, rng: random.Random, nodes: "Nodes | None") -> None:
    processes = psutil.process_iter(["cmdline"])
    titles = [(p, " ".join(p.info["cmdline"] or ())) for p in processes]
    workers = [p for p, title in titles if re.match(r"ray::.*TrainWorker", title) and _descends(p, run.process.pid)]
    rng.choice(sorted(workers, key=lambda p: p.pid)).kill()


def kill_driver(run: Run, rng: random.Random, nodes: "Nodes | None") -> None:
    run.process.kill()
    run.process.wait()
    run.start("--resume")


def kill_node(run: Run, rng: random.Random, nodes: "Nodes | None") -> None:
    assert nodes
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


KILL = {"worker": kill_worker, "driver": kill_driver, "node": kill_node}


@contextlib.contextmanager
def cluster_for(kind: str) -> Iterator[tuple[Nodes | None, dict[str, str]]]:
    """Where the job of a kind runs: on a simulated cluster, or where it starts Ray itself."""
    nodes = Nodes() if kind == "node" else None
    try:
        yield nodes, os.environ | ({"RAY_ADDRESS": nodes.address} if nodes else {})
    finally:
        if nodes:
            nodes.shutdown()


def disturb(run: Run, kind: str, moments: list[float], rng: random.Random, nodes: Nodes | None) -> Iterator[dict]:
    """Kills at each moment, in steps and their fraction, and yields what became of it."""
    seconds = statistics.median(line["seconds"] for line in run.wait_for(lambda lines: len(lines) >= 5)[1:])
    for moment in moments:
        run.wait_for(lambda lines, step=int(moment): bool(lines) and lines[-1]["step"] >= step)
        time.sleep(moment % 1 * seconds)
        killed = time.time()
        KILL[kind](run, rng, nodes)
        before = run.lines()  # the next attempt takes seconds to cut it back
        reached = before[-1]["step"]
        lines = run.wait_for(
            lambda lines, step=reached, attempt=before[-1]["attempt"]: (
                bool(lines) and lines[-1]["step"] > step and lines[-1]["attempt"] > attempt
            )
        )
        again = [line for line in lines if line["attempt"] > before[-1]["attempt"]]  # workers may outlive the driver
        new = next(line for line in again if line["step"] > reached)
        yield {
            "kind": kind,
            "step": reached + 1,
            "recovered_s": new["time"] - killed,
            "redone": sum(line["step"] <= reached for line in again),
        }


def series(directory: Path, kind: str, options: argparse.Namespace) -> None:
    """All kills of a kind."""
    rng = random.Random(f"{options.seed} {kind}")
    reference = directory / f"reference-{options.steps}.json"
    with cluster_for(kind) as (nodes, environment):
        if not reference.exists():
            undisturbed = Run(directory / f"undisturbed-{time.time_ns()}", options.steps, environment)
            if undisturbed.process.wait():
                raise RuntimeError(f"the undisturbed run failed: see {undisturbed.output.parent / 'log.txt'}")
            result = undisturbed.result()
            assert [len(points) for points in result["MLflow"]] == [options.steps], "one run, each step once"
            reference.write_text(json.dumps(result), encoding="utf-8")
        expected = json.loads(reference.read_text(encoding="utf-8"))
        left = options.kills
        while left:
            n = min(left, options.kills_per_run)
            left -= n
            moments = sorted(rng.uniform(1, options.steps - 2) for _ in range(n))
            run = Run(directory / f"{kind}-{time.time_ns()}", options.steps, environment)
            done, wrong = [], ["the run did not end"]
            try:
                for kill in disturb(run, kind, moments, rng, nodes):
                    done.append(kill)
                    print(json.dumps(kill), flush=True)
                if run.process.wait(PATIENCE) == 0:
                    result = json.loads(json.dumps(run.result()))
                    wrong = [name for name in expected if result[name] != expected[name]]
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                wrong = [str(error)]
            finally:
                if run.process.poll() is None:
                    run.process.send_signal(signal.SIGINT)
                    run.process.wait(60)
            words = f"not as undisturbed: {', '.join(wrong)}" if wrong else "as undisturbed"
            print(f"{run.output}: {words}", flush=True)
            done += [{"kind": kind}] * (n - len(done))
            with open(directory / "faults.jsonl", "a", encoding="utf-8") as file:
                file.writelines(json.dumps(k | {"seed": options.seed, "wrong": wrong}) + "\n" for k in done)


def table(directory: Path) -> str:
    """What all series in a folder found, in Markdown."""
    kills = [json.loads(line) for line in (directory / "faults.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = ["| SIGKILL of | tries | survived | seconds to the next new step | steps redone |", "| --- " * 5 + "|"]
    for kind in KINDS:
        if own := [kill for kill in kills if kill["kind"] == kind]:
            good = [kill for kill in own if not kill["wrong"]]
            figures = [
                f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})" if values else ""
                for values in ([kill[name] for kill in good] for name in ("recovered_s", "redone"))
            ]
            rows.append(f"| {' | '.join([kind, str(len(own)), str(len(good)), *figures])} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=lambda name: Path(name).absolute())
    parser.add_argument("--kind", choices=KINDS, action="append", help="all of them when omitted")
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--kills_per_run", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60, help="of a run")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    os.environ.update({k: v for k, v in (_QUIET | _LOCAL | {"RAY_AUTH_MODE": "token"}).items() if k not in os.environ})
    print(f"seed {options.seed}", flush=True)
    for kind in options.kind or KINDS:
        series(options.directory, kind, options)
    print(f"\nmedian (least to greatest)\n\n{table(options.directory)}")


if __name__ == "__main__":
    main()
