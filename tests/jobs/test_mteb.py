"""A run's model in mteb, as it is: the same numbers as here, on a task of our own and without the hub."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from helpers import small_recipe
from sentence_transformers import SentenceTransformer

from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.settings import evaluate_encoder
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.runs.backend import here
from hybridir.runs.training_run import run_training

mteb = pytest.importorskip("mteb", reason='mteb is not installed: pip install -e ".[mteb]"')
from mteb.abstasks import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

BENCHMARK = BenchmarkConfig(facts=80, languages=("de", "en", "es"), split="test")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, cache: Path, float64: Path) -> Path:
    output = tmp_path_factory.mktemp("mteb") / "run"
    encoder: dict[str, Any] = {"name": str(float64), "query_prefix": "Query: ", "passage_prefix": "Passage: "}
    encoder |= {"max_query_length": 128, "max_passage_length": 128}  # sentence-transformers knows one length for both
    run_training(replace(small_recipe(output, cache, encoder=encoder), benchmark=BENCHMARK), nullcontext(here()))
    return output / "model"


def task_of(benchmark: Benchmark) -> Any:
    """All languages in one pool, as a task of mteb."""

    class Pooled(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="Pooled",
            description="Questions in any language, answers in all.",
            dataset={"path": "none", "revision": "none"},
            type="Retrieval",
            category="t2t",
            eval_langs=["deu-Latn", "eng-Latn", "spa-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, **options: Any) -> None:
            passages = [{"id": f"p{n}", "text": passage.text} for n, passage in enumerate(benchmark.passages)]
            queries = [{"id": query.query_id, "text": query.text} for query in benchmark.queries]
            pairs = zip(benchmark.queries, benchmark.relevant, strict=True)
            relevant = {query.query_id: {f"p{place}": 1 for place in places} for query, places in pairs}
            split = {"corpus": Dataset.from_list(passages), "queries": Dataset.from_list(queries)}
            self.dataset = {"default": {"test": split | {"relevant_docs": relevant, "top_ranked": None}}}
            self.data_loaded = True

    return Pooled()


def scores(model: Path, benchmark: Benchmark, **options: Any) -> tuple[float, float]:
    """nDCG@10 and mAP (to depth 1000, which is more than there are passages) by mteb, which averages over queries."""
    encoder = SentenceTransformer(str(model), device="cpu", **options)
    found = mteb.evaluate(encoder, task_of(benchmark), cache=None, show_progress_bar=False).task_results[0]
    values = found.scores["test"][0]
    return values["ndcg_at_10"], values["map_at_1000"]


def without_near_ties(benchmark: Benchmark, encoder: Encoder) -> Benchmark:
    """The queries whose relevant passages have the same ranks in float32, in which mteb searches.

    The error of a dot product of two unit vectors is below 2 (D + 2) u, u = 2 ** -24 (Higham 2002, section 3.1).
    """
    query_QD = encoder.encode([query.text for query in benchmark.queries], "query").astype(np.float64)
    passage_PD = encoder.encode([passage.text for passage in benchmark.passages], "passage").astype(np.float64)
    bound = 4 * (query_QD.shape[1] + 2) * 2.0**-24
    kept = []
    for n, scores_P in enumerate(query_QD @ passage_PD.T):
        relevant = list(benchmark.relevant[n])
        others = np.delete(scores_P, relevant)
        if np.abs(others[:, None] - scores_P[relevant]).min() > bound:
            kept.append(n)
    queries, relevant_Q = ([of[n] for n in kept] for of in (benchmark.queries, benchmark.relevant))
    return replace(benchmark, queries=tuple(queries), relevant=tuple(relevant_Q))


@pytest.mark.filterwarnings("ignore")  # mteb warns of what it calls itself, and that it has no use for `passage`
def test_same_numbers(model: Path) -> None:
    encoder = Encoder.load(EncoderConfig(name=str(model)))
    benchmark = without_near_ties(read_benchmark(BENCHMARK), encoder)
    assert len(benchmark.queries) > 10
    assert len(benchmark.passages) < 1000
    per_query = evaluate_encoder(encoder, benchmark)
    ours = [float(per_query.column(name, "multilingual").values_KN.mean()) for name in ("nDCG@10", "mAP")]
    assert scores(model, benchmark) == pytest.approx(ours, abs=1e-5)  # mteb rounds to five places
    for side in ("query", "document"):  # the prompts of the model are what gives these numbers
        assert scores(model, benchmark, prompts={side: ""}) != pytest.approx(ours, abs=1e-2)
