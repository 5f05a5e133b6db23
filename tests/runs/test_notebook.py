"""The functions for notebooks, and the lines of the README that show them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, pairs_of

import hybridir
from hybridir import Encoder, evaluate, train
from hybridir.data.config import Source
from hybridir.data.records import Pair
from hybridir.runs.notebook import Run

SMALL: dict[str, Any] = {
    "encoder": {"layers": 1, "hidden_size": 32, "vocab_size": 400},
    "train": {"steps": 4, "batch_size": 8},
    "validation": {"batches": 2, "batch_size": 4},
    "benchmark": {"name": "sample", "facts": 80, "languages": ["de", "en"]},
}


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, str]]:
    """Pairs as a user has them, in two languages."""
    read = pairs_of(Source(format="sample", facts=900, languages=("de", "en")))
    return [
        {"group_id": one.group_id, "language": one.language, "query": one.query, "passage": one.passage.text}
        for one in read
        if isinstance(one, Pair)
    ]


@pytest.fixture(scope="module")
def run(pairs: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(pairs[:200], output=tmp_path_factory.mktemp("notebook") / "run", **SMALL)


def test_the_lines_of_the_readme(
    pairs: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from hybridir import.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    shorter = code.replace('{"steps": 200}', '{"steps": 2}, benchmark={"facts": 80, "languages": ["de", "en"]}')
    assert shorter != code
    exec(compile(shorter, "README", "exec"), {})
    last = capsys.readouterr().out.splitlines()[-1]
    assert last in ("Bern is in Switzerland.", "Oslo liegt in Norwegen.")
    assert (tmp_path / "outputs" / "faq" / "report.html").exists()


def test_a_run_has_its_encoder_and_results(run: Run) -> None:
    assert run.results["training"]["step"] == 4
    embeddings = run.encoder.encode(["a", "b"], "query")
    assert embeddings.shape == (2, 32)
    assert np.array_equal(Encoder.load(str(run.folder)).encode(["a", "b"], "query"), embeddings)
    assert not (run.folder / "tracking.json").exists()


def test_the_same_encoder_measures_the_same_by_any_name(run: Run, tmp_path: Path) -> None:
    benchmark = SMALL["benchmark"]
    by_run = evaluate(run, benchmark, compare_to=["bm25"], output=tmp_path / "1").results
    by_name = evaluate(run.folder, benchmark, output=tmp_path / "2").results
    in_memory = evaluate(run.encoder, benchmark, output=tmp_path / "3").results
    assert by_run["systems"].keys() == {"BM25"}
    for setting in ("monolingual", "crosslingual", "multilingual"):
        assert by_run[setting] == by_name[setting] == in_memory[setting] == run.results[setting]


def test_wrong_values_are_told_in_one_sentence(tmp_path: Path) -> None:
    for sections, message in (
        ({"train": {"step": 4}}, "step"),
        ({"trian": {"steps": 4}}, "trian"),
        ({"encoder": {"layers": 0}}, r"encoder\.layers is 0"),
        ({"train": {"steps": "many"}}, "many"),
    ):
        with pytest.raises(ValueError, match=message):
            train([{"query": "a", "passage": "b", "language": "en"}], output=tmp_path / "run", **sections)
    with pytest.raises(AttributeError, match="no attribute 'tune'"):
        hybridir.tune  # noqa: B018
    assert {"Encoder", "train", "evaluate"} <= set(dir(hybridir))
