"""The numbers of an evaluation on real data, against those of other programs: recompute.py and ir-measures."""

import json
from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
import recompute
from helpers import XQUAD_R, job
from recompute import LOOSE, TOLERANCE, World

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import build_small_encoder
from hybridir.model.tokenizer import load_tokenizer
from hybridir.retrieval import systems
from hybridir.retrieval.nearest import rank_vectors
from hybridir.retrieval.search import Ranking
from hybridir.retrieval.trec import write_qrels, write_runs
from hybridir.runs.prepare import Prepared

LANGUAGES = ("ar", "de", "en")
MANY_TIES = 2**3
"""A grid so coarse that many passages tie."""
MEASURES = {
    "R@1": ir_measures.R @ 1,
    "R@10": ir_measures.R @ 10,
    "R@100": ir_measures.R @ 100,
    "success@1": ir_measures.Success @ 1,
    "success@10": ir_measures.Success @ 10,
    "nDCG@10": ir_measures.nDCG @ 10,
    "RR@10": ir_measures.RR @ 10,
}

pytestmark = pytest.mark.skipif(not (XQUAD_R / "en.json").exists(), reason=f"no XQuAD-R in {XQUAD_R}")


@dataclass
class Made:
    """A model, its embeddings on the grid of recompute.py, and those of another model on a coarse one."""

    world: World
    folder: Path
    model: Path
    embeddings: Path
    tied: Path


@pytest.fixture(scope="module")
def made(small_run: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("recompute")
    world = recompute.read(XQUAD_R, list(LANGUAGES), "test")
    tokenizer = load_tokenizer(small_run.initial.name, None)
    lengths = {"max_query_length": 64, "max_passage_length": 64}  # sentence-transformers knows one length
    prompts = {"query_prefix": "Query: ", "passage_prefix": "Passage: "}
    config = EncoderConfig(hidden_size=64, layers=1, **lengths, **prompts)
    for seed, name, grid in ((1, "model", recompute.GRID), (2, "other", MANY_TIES)):
        encoder = build_small_encoder(config, tokenizer, seed)
        encoder.backbone.embeddings.word_embeddings.weight.data *= 10  # over positions: scores spread, few nearly tie
        encoder.double().save(folder / name)  # so that the two programs' embeddings differ by their last bit alone
        recompute.embed(folder / f"{name}-embeddings", world, folder / name, grid)
    return Made(world, folder, folder / "model", folder / "model-embeddings", folder / "other-embeddings")


def evaluate(output: Path, encoder: Path, *others: Path) -> Path:
    """The job, in this process; returns the folder of the results."""
    others_named = json.dumps([str(other) for other in others])
    done = job(
        *("--encoder.name", encoder, "--compare_to", others_named, "--output", output),
        *("--benchmark.name", "xquad-r", "--benchmark.path", XQUAD_R, "--benchmark.languages", json.dumps(LANGUAGES)),
        *("--benchmark.split", "test"),
        name="evaluate",
    )
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def results(made: Made) -> Path:
    return evaluate(made.folder / "results", made.embeddings, made.tied)


def test_every_number_agrees(made: Made, results: Path) -> None:
    agreement = recompute.recompute(results, XQUAD_R, [made.embeddings, made.tied])
    assert agreement.failures == []
    assert agreement.tolerance == TOLERANCE
    assert agreement.numbers > 900


def test_ties_are_many(made: Made) -> None:
    """So the rule for them is tested too."""
    query_QD, passage_PD, _ = recompute.embeddings(made.tied, made.world)
    scores_QP = query_QD @ passage_PD.T
    own_Q = scores_QP[np.arange(len(query_QD)), np.tile(made.world.answer_GL[:, 0], len(LANGUAGES))]
    assert np.mean((scores_QP == own_Q[:, None]).sum(axis=1)) > 3


def test_from_the_encoder_on_all_but_near_ties_agree(made: Made) -> None:
    results = evaluate(made.folder / "from-encoder", made.model)
    agreement = recompute.recompute(results, XQUAD_R, [made.model])
    assert agreement.failures == []
    assert agreement.tolerance == LOOSE
    assert agreement.close > 0.75 * agreement.numbers


def one_rank_wrong(query_QD: np.ndarray, passage_PD: np.ndarray, benchmark: Benchmark, *more: Any) -> Ranking:
    """`rank_vectors`, but the best-placed Arabic answer stands a place lower among its language."""
    ranking = rank_vectors(query_QD, passage_PD, benchmark, *more)
    arabic = ranking.above[: len(benchmark.queries) : len(LANGUAGES), 0]  # of the Arabic queries, which are first
    arabic[np.argmin(arabic)] += 1
    return ranking


def test_one_rank_off_by_one_is_found(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "rank_vectors", one_rank_wrong)
    results = evaluate(tmp_path / "wrong", made.embeddings)
    agreement = recompute.recompute(results, XQUAD_R, [made.embeddings])
    assert agreement.failures[0].startswith("monolingual.mAP: ")


def test_a_number_that_is_not_recomputed_is_a_failure(results: Path) -> None:
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    changed = deepcopy(content)
    changed["bias"]["friedman"]["de"]["new"] = 1.0
    changed["per_pair"]["ar-en"]["mAP"] *= 1 + 2e-6
    del changed["per_pair"]["ar-en"]["RR@10"]
    agreement = recompute.Agreement(TOLERANCE)
    agreement.compare(changed, content)
    assert [failure.split(": ")[:2] for failure in agreement.failures[1:]] == [
        ["missing", "per_pair.ar-en.RR@10"],
        ["not recomputed", "bias.friedman.de.new"],
    ]
    assert agreement.failures[0].startswith("per_pair.ar-en.mAP: ")


def by_ir_measures(folder: Path, system: str, setting: str, measures: Iterable) -> dict[str, float]:
    """Means over the queries of each language in a run, then over languages (and targets, of cross-lingual runs)."""
    cells = defaultdict(list)
    for qrels in sorted(folder.glob(f"{setting}*.qrels")):
        run = ir_measures.read_trec_run(str(folder / f"{system}.{qrels.stem}.trec"))
        for found in ir_measures.iter_calc(list(measures), ir_measures.read_trec_qrels(str(qrels)), run):
            cells[found.measure, qrels.stem, found.query_id.split(":")[0]].append(found.value)
    means = defaultdict(list)
    for (measure, _, _), values in cells.items():
        means[str(measure)].append(np.mean(values))
    return {measure: float(np.mean(values)) for measure, values in means.items()}


@pytest.mark.parametrize("setting", recompute.SETTINGS)
def test_cut_measures_of_the_runs_agree_with_ir_measures(made: Made, results: Path, setting: str) -> None:
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    for system, ours in ((made.embeddings.name, content), (made.tied.name, content["systems"][made.tied.name])):
        theirs = by_ir_measures(results / "runs", system, setting, MEASURES.values())
        assert {name: ours[setting][name] for name in MEASURES} == pytest.approx(
            {name: theirs[str(measure)] for name, measure in MEASURES.items()}, rel=1e-9
        )


def test_map_of_whole_runs_agrees_with_ir_measures(made: Made, results: Path, tmp_path: Path) -> None:
    """Runs as deep as the pool: what average precision is of."""
    config = BenchmarkConfig(name="xquad-r", path=str(XQUAD_R), languages=LANGUAGES)
    benchmark = sources.read_benchmark(config)
    query_QD, passage_PD, _ = recompute.embeddings(made.tied, made.world)
    depth = len(benchmark.passages)
    write_runs(rank_vectors(query_QD, passage_PD, benchmark, depth), benchmark, tmp_path, "tied", depth)
    write_qrels(benchmark, tmp_path)
    ours = json.loads((results / "results.json").read_text(encoding="utf-8"))["systems"][made.tied.name]
    theirs = by_ir_measures(tmp_path, "tied", "monolingual", [ir_measures.AP])
    assert ours["monolingual"]["mAP"] == pytest.approx(theirs["AP"], rel=1e-9)
