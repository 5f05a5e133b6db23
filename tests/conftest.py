"""Shared: a small corpus and its token cache, runs of a few steps with a tiny encoder, process groups."""

import atexit
import os
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
if "HF_HOME" not in os.environ:  # a user's own may hold things, or be read-only
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-")
    atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of several processes share the cores
os.environ.update(dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"))
if set_by_user := [name for name in os.environ if name.startswith(("RAY_", "MLFLOW_", "FORCE_COLOR", "COLUMNS"))]:
    for name in set_by_user:
        del os.environ[name]

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers import small_recipe

from hybridir.model.encoder import Encoder
from hybridir.runs.prepare import Prepared, prepare

# What takes long is imported once, in the process that those of a group are forked from.
mp.set_forkserver_preload(["hybridir.runs.prepare", "transformers.models.bert.modeling_bert", "torch._dynamo"])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of corpora, tokenizers and tokens that tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_run(cache: Path) -> Callable[..., Prepared]:
    """`make_run(output, train={"steps": 4}, ...)`: a run of a few steps, ready to train; sections as in the config."""

    def make(output: Path, **sections: dict[str, Any]) -> Prepared:
        output.mkdir(parents=True, exist_ok=True)
        return prepare(small_recipe(output, cache, **sections), output)

    return make


@pytest.fixture(scope="session")
def small_run(make_run: Callable[..., Prepared], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A prepared run that no test trains: for its corpus, its batches and its first encoder."""
    return make_run(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture(scope="session")
def float64(small_run: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That first encoder in float64: what is compared between different orders of sums is computed with it."""
    folder = tmp_path_factory.mktemp("float64") / "encoder"
    Encoder.load(small_run.initial).double().save(folder)
    return folder


@pytest.fixture(scope="session")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """`on_ranks(2, function, *arguments)` calls `function` in two processes that form a gloo group."""

    def start(world_size: int, function: Callable[..., None], *arguments: Any) -> None:
        meeting = tmp_path_factory.mktemp("group") / "meeting"
        mp.start_processes(
            _rank, (world_size, str(meeting), function, arguments), nprocs=world_size, start_method="forkserver"
        )

    return start


def _rank(rank: int, world_size: int, meeting: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    try:
        function(*arguments)
    finally:
        dist.destroy_process_group()
