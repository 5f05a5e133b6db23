"""Evaluations measure whole benchmarks, without what a compared model was trained on."""

from pathlib import Path

import pytest
import yaml
from helpers import XQUAD_R

from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.formats import lareqa
from hybridir.data.records import Pair
from hybridir.model.config import EncoderConfig
from hybridir.retrieval.systems import find_systems
from hybridir.runs.fill_in import LR_BUILT, LR_NAMED, TEST_SHARE, fill_in
from hybridir.runs.measured_on import read_measured
from hybridir.runs.recipe import Recipe

ENGLISH = BenchmarkConfig(name="xquad-r", path=str(XQUAD_R), languages=("en",))
published = pytest.mark.skipif(not XQUAD_R.exists(), reason="../shared/xquad-r is absent")


def a_run(folder: Path, data: dict[str, str], start: str = "") -> str:
    """A folder that says what its model was trained on."""
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data, "encoder": {"name": start}}), encoding="utf-8")
    return str(folder)


@published
def test_all_articles_are_measured() -> None:
    """XQuAD has 1,190 questions on 48 articles (Artetxe et al. 2020)."""
    found = read_measured(ENGLISH, find_systems(["bm25"]))
    assert len(found.benchmark.queries) == 1190
    assert len({query.cluster for query in found.benchmark.queries}) == 48
    assert (found.config.split, found.part) == ("all", ", the whole benchmark")
    assert found.benchmark.notes == ()


@published
def test_what_a_model_was_trained_on_is_left_out(tmp_path: Path) -> None:
    """Also if the folder has moved since, or the model started from one that was trained on it."""
    gone = str(tmp_path / "gone")
    first = a_run(tmp_path / "first", {"format": "lareqa", "path": str(XQUAD_R)})
    runs = [
        first,
        a_run(tmp_path / "moved", {"format": "lareqa", "path": gone}),
        a_run(tmp_path / "second", {"format": "jsonl", "path": gone}, start=f"{first}/model"),
    ]
    pairs = lareqa.find_shards(Source(format="lareqa", path=str(XQUAD_R), languages=("en",)))[0].read()
    trained = {pair.group_id for pair in pairs if isinstance(pair, Pair)}
    for run in runs:
        found = read_measured(ENGLISH, find_systems(["bm25", run]))
        assert {query.group_id for query in found.benchmark.queries}.isdisjoint(trained)
        assert len(found.benchmark.queries) == 1190 - len(trained) == 277
        assert f"{Path(run).name} trained on a part of xquad-r" in found.benchmark.notes[0]
        with pytest.raises(ValueError, match=r"benchmark\.split is all, but .* trained on a part of xquad-r"):
            read_measured(BenchmarkConfig(name="xquad-r", path=str(XQUAD_R), split="all"), find_systems([run]))
    other = a_run(tmp_path / "other", {"format": "jsonl", "path": gone})
    assert read_measured(ENGLISH, find_systems([other])).config.split == "all"


@published
def test_a_run_on_these_articles_is_measured_on_the_others() -> None:
    found = fill_in(Recipe(data=DataConfig(path=str(XQUAD_R))))
    assert (found.data.format, found.data.test_share) == ("lareqa", None)
    assert found.benchmark == BenchmarkConfig(name="xquad-r", path=str(XQUAD_R))


def test_what_a_recipe_leaves_open_is_filled_in_once(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("query,passage,language\nq,p,de\n", encoding="utf-8")
    own = fill_in(Recipe(data=DataConfig(path=str(file))))
    assert (own.data.format, own.data.test_share, own.benchmark.name) == ("csv", TEST_SHARE, "heldout")
    assert own.train.lr == LR_BUILT
    assert fill_in(own) == own
    named = fill_in(Recipe(data=DataConfig(path=str(file)), encoder=EncoderConfig(name="a"), benchmark=ENGLISH))
    assert (named.data.test_share, named.benchmark.split, named.train.lr) == (None, "all", LR_NAMED)
    sample = fill_in(Recipe())
    assert (sample.data.format, sample.benchmark) == ("sample", BenchmarkConfig(name="sample"))
    on_other_data = fill_in(Recipe(data=DataConfig(path=str(file)), benchmark=BenchmarkConfig(name="sample")))
    assert on_other_data.benchmark.split == "all"
    kept = fill_in(Recipe(data=DataConfig(path=str(file), test_share=0.3)))
    assert kept.data.test_share == 0.3
