"""What would end a run hours later is refused before it starts."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helpers import small_recipe

import hybridir
from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval.shards import Index
from hybridir.runs import checks, mine_job
from hybridir.runs.backend import here
from hybridir.runs.checks import check_space, check_writable
from hybridir.runs.corpus import cache_folder
from hybridir.runs.mine_job import Mining
from hybridir.runs.prepare import Prepared, load_data
from hybridir.runs.recipe import Recipe
from hybridir.translation import translation_job
from hybridir.translation.translation_job import Translation


def test_the_space_is_about_what_a_run_takes(
    small_run: Prepared, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both for an encoder that is built and one that is read; what is there already is not asked for again."""
    size = sum(p.numel() * 4 for p in Encoder.load(small_run.initial).parameters())
    free = 0
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    for name in ("", small_run.initial.name):
        recipe = small_recipe(tmp_path, cache, encoder={"name": name}, train={"keep_last": 2})
        free = int(14 * size * 1.1)
        check_space(recipe, tmp_path, cache)
        with pytest.raises(ValueError, match=r"GB free, but the run needs about .* 4 checkpoints .* train.keep_last"):
            check_space(recipe, tmp_path, cache, corpus=int(0.4 * 14 * size))
        free = int(14 * size * 0.8)
        with pytest.raises(ValueError, match="GB free"):
            check_space(recipe, tmp_path, cache)
    (tmp_path / "checkpoints" / "step-1").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-1" / "model.safetensors").write_bytes(bytes(6 * size))
    check_space(recipe, tmp_path, cache)


def test_storage_that_takes_no_files_is_named() -> None:
    folder = Path("/proc/self/task")  # refuses root too
    with pytest.raises(ValueError, match=f"^{folder} cannot be written to .*: name another folder by --cache$"):
        check_writable(folder, "--cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_cache_that_another_user_put_beside_the_output_is_not_taken(tmp_path: Path) -> None:
    """Where all may write, as in /tmp, it may hold any corpus under the right name."""
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 65534, 65534)
    output = tmp_path / "run"
    backend, index = here(), cast(Index, None)  # which is looked at later
    for start in (
        lambda: cache_folder(Recipe(), output),
        lambda: hybridir.train([{"query": "q", "passage": "p", "language": "en"}], output=output),
        lambda: mine_job._prepare(Mining(output=str(output)), index, EncoderConfig(), backend),
        lambda: translation_job._prepare(Translation(output=str(output), languages=("de",)), output, backend.read),
    ):
        with pytest.raises(ValueError, match=r"cache is another user's.*if you trust it, name it by --cache"):
            start()
    assert cache_folder(Recipe(cache=str(tmp_path / "cache")), tmp_path / "run") == tmp_path / "cache"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no encoder at"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
        (lambda folder: (folder / "config.json").write_text("{}", encoding="utf-8"), "no encoder at"),
    ],
)
def test_a_wrong_model_folder_is_refused_before_the_data_is_read(
    damage: Callable[[Path], Any], message: str, small_run: Prepared, cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small_run.initial.name, folder)
    damage(folder)
    recipe = small_recipe(tmp_path / "run", cache, encoder={"name": str(folder)}, data={"facts": 123})
    with pytest.raises(ValueError, match=message):
        load_data(recipe, tmp_path / "run", lambda shards: pytest.fail("the data was read"))


def test_what_weights_are_chosen_by_is_no_benchmark(tmp_path: Path) -> None:
    """SQuADShifts, for example, where its questions are the validation pairs."""
    validation = Source(format="squadshifts", path=str(tmp_path / "nyt"))
    data = DataConfig(path=str(tmp_path / "pairs.jsonl"), validation=validation)
    for path in (tmp_path / "nyt", tmp_path / "other" / ".." / "nyt"):
        with pytest.raises(ValueError, match=r"benchmark\.path is .*nyt', which data\.validation reads"):
            Recipe(data=data, benchmark=BenchmarkConfig(name="beir", path=str(path)))
    Recipe(data=data, benchmark=BenchmarkConfig(name="beir", path=str(tmp_path / "amazon")))
    Recipe(data=data)
