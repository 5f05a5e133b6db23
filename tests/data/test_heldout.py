"""The validation pairs of a corpus as a benchmark, and retrieval on it while a run goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import corpus_of, read_lines, small_recipe, train_here

from hybridir.data.build import build_corpus
from hybridir.data.config import BenchmarkConfig
from hybridir.data.intake import to_batches
from hybridir.data.records import Pair, Passage
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.settings import SETTINGS, evaluate_encoder, summarise
from hybridir.evaluation.validation_metrics import METRICS, known_values
from hybridir.runs.plans import check_held_out, held_out
from hybridir.runs.prepare import Prepared
from hybridir.training.validation import ValidationConfig

VALIDATED = {"every": 4, "batches": 2, "batch_size": 4, "retrieval": 500}


def pair(group: str, language: str, passage: str, together: str = "") -> Pair:
    return Pair(
        group_id=group,
        language=language,
        query=f"{group} in {language}?",
        passage=Passage(passage_id="", language=language, text=passage),
        passage_group_id=together,
        split="train" if group == "t" else "validation",
    )


def test_questions_passages_and_answers(tmp_path: Path) -> None:
    """Questions share a passage or a passage group; training pairs are not among them."""
    records = [
        *(pair("t", language, f"trained {language}") for language in ("de", "en")),
        *(pair("a", language, f"one {language}") for language in ("de", "en", "es")),
        pair("b", "de", "one de"),
        pair("c", "en", "two en", "x"),
        pair("d", "en", "three en", "x"),
    ]
    corpus = corpus_of(records, tmp_path)
    benchmark = read_benchmark(BenchmarkConfig(name="validation", path=str(corpus.directory)))
    assert benchmark.languages == ("de", "en", "es")
    answers = {
        query.query_id: {benchmark.passages[place].text for place in relevant}
        for query, relevant in zip(benchmark.queries, benchmark.relevant, strict=True)
    }
    one = {"one de", "one en", "one es"}
    two = {"two en", "three en"}
    assert answers == {"de:a": one, "en:a": one, "es:a": one, "de:b": one, "en:c": two, "en:d": two}
    assert len(benchmark.passages) == 5
    clusters = {query.query_id: query.cluster for query in benchmark.queries}
    assert clusters["de:a"] == clusters["de:b"] != clusters["en:c"] == clusters["en:d"]
    some = read_benchmark(BenchmarkConfig(name="validation", path=str(corpus.directory), languages=("en",), groups=2))
    assert {query.language for query in some.queries} == {"en"}
    assert len(some.queries) == 2
    assert {query.query_id for query in some.queries} < set(answers)


def test_a_question_with_several_answers_is_asked_once(tmp_path: Path) -> None:
    records = [pair("a", "de", "eins"), pair("a", "en", "one"), pair("a", "en", "uno"), pair("b", "en", "two")]
    corpus = corpus_of(records, tmp_path)
    benchmark = read_benchmark(BenchmarkConfig(name="validation", path=str(corpus.directory)))
    answers = zip(benchmark.queries, benchmark.relevant, strict=True)
    assert {query.query_id: sorted(benchmark.passages[n].text for n in found) for query, found in answers} == {
        "de:a": ["eins", "one", "uno"],
        "en:a": ["eins", "one", "uno"],
        "en:b": ["two"],
    }
    assert len(benchmark.queries) == 3


def test_retrieval_is_validated_while_a_run_goes_on(
    make_run: Callable[..., Prepared], tmp_path: Path, float64: Path
) -> None:
    """The last validation is what the model that is left gives on the same questions."""
    validated = VALIDATED | {"metric": "mean", "keep": "last"}
    run = make_run(tmp_path / "run", validation=validated, encoder={"name": str(float64)})
    state, encoder = train_here(run)
    found = [line["validation"] for line in read_lines(tmp_path / "run" / "history.jsonl") if "validation" in line]
    assert len(found) == 2
    assert run.job.held_out
    benchmark = read_benchmark(run.job.held_out)
    summary = summarise(evaluate_encoder(encoder, benchmark), benchmark)
    for setting in SETTINGS:
        assert found[-1]["mAP"][setting] == pytest.approx(summary[setting]["mAP"], abs=1e-9)
    assert found[-1]["rank_distance"] == pytest.approx(summary["multilingual"]["rank_distance"])
    assert found[-1]["mAP"]["mean"] == pytest.approx(np.mean([summary[s]["mAP"] for s in SETTINGS]))
    assert state["best_value"] == found[-1]["mAP"]["mean"]


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_is_kept_by_the_metric_that_is_named(
    metric: str, make_run: Callable[..., Prepared], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", validation=VALIDATED | {"every": 1, "metric": metric})
    state, _ = train_here(run)
    lines = read_lines(tmp_path / "run" / "history.jsonl")
    values = [known_values(line["validation"])[metric] for line in lines]
    best = min(values) if metric in ("loss", "rank_distance") else max(values)
    assert (state["best_value"], state["best_step"]) == (best, values.index(best) + 1)


def test_a_metric_without_questions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set validation\.retrieval to a number of groups"):
        ValidationConfig(metric="mean")


def test_a_metric_that_the_pairs_cannot_give_is_refused(tmp_path: Path) -> None:
    records = [pair(name, language, f"{name} {language}") for name, language in (("a", "de"), ("b", "en"), ("t", "de"))]
    corpus = corpus_of(records, tmp_path)
    wanted: dict[str, Any] = VALIDATED | {"metric": "crosslingual"}
    with pytest.raises(ValueError, match="no answers in several languages: choose monolingual"):
        check_held_out(small_recipe(tmp_path / "run", tmp_path, validation=wanted), corpus, ["crosslingual"])
    fine = small_recipe(tmp_path / "run", tmp_path, validation=VALIDATED | {"metric": "monolingual"})
    check_held_out(fine, corpus, ["monolingual"])
    assert held_out(fine, corpus)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(
    make_run: Callable[..., Prepared], on_ranks: Callable[..., None], tmp_path: Path, float64: Path
) -> None:
    sections = {"validation": VALIDATED, "encoder": {"name": str(float64)}}
    run = make_run(tmp_path / "run", **sections)
    on_ranks(2, _train_on_a_rank, run)
    found = [line["validation"] for line in read_lines(tmp_path / "run" / "history.jsonl") if "validation" in line]
    alone = make_run(tmp_path / "alone", **sections)
    train_here(alone)
    expected = [line["validation"] for line in read_lines(tmp_path / "alone" / "history.jsonl") if "validation" in line]
    for one, other in zip(found, expected, strict=True):
        assert one["mAP"] == pytest.approx(other["mAP"], abs=1e-6)


def _train_on_a_rank(run: Prepared) -> None:
    train_here(run)


def test_a_test_part_is_of_whole_passage_groups_and_changes_no_other_part(tmp_path: Path) -> None:
    """200 groups, two of which always share a passage: about 40 are kept for the test, none of them elsewhere."""
    records = [
        Pair(
            group_id=str(n),
            language=language,
            query=f"question {n} in {language}?",
            passage=Passage(passage_id="", language=language, text=f"answer {n // 2} in {language}"),
        )
        for n in range(200)
        for language in ("de", "en")
    ]
    without = build_corpus(to_batches(records), tmp_path / "without", 0.1)
    corpus = build_corpus(to_batches(records), tmp_path / "with", 0.1, 0.2)
    assert not without.groups("test").any()
    assert (without.groups("validation") == corpus.groups("validation")).all()
    assert (corpus.groups("train") | corpus.groups("test") == without.groups("train")).all()
    part_of = dict(zip(corpus.passage_group.tolist(), corpus.part_of.tolist(), strict=True))
    assert [part_of[group] for group in corpus.passage_group.tolist()] == corpus.part_of.tolist()
    assert 20 <= corpus.groups("test").sum() <= 50  # 0.2 of 200, less the pairs that validation has: about 32
    again = build_corpus(to_batches(records[::-1]), tmp_path / "again", 0.1, 0.2)
    assert again.fingerprint == corpus.fingerprint

    test = read_benchmark(BenchmarkConfig(name="heldout", path=str(corpus.directory)))
    assert len({query.group_id for query in test.queries}) == corpus.groups("test").sum()
    assert len(test.passages) == 200  # 100 answers in two languages: those of all parts are candidates
    for query, relevant in zip(test.queries, test.relevant, strict=True):
        answer = int(query.group_id) // 2
        expected = {f"answer {answer} in {x}" for x in ("de", "en")}
        assert {test.passages[n].text for n in relevant} == expected
    asked = {query.group_id for query in test.queries}
    validated = read_benchmark(BenchmarkConfig(name="validation", path=str(corpus.directory)))
    assert asked.isdisjoint(query.group_id for query in validated.queries)
    some = read_benchmark(BenchmarkConfig(name="heldout", path=str(corpus.directory), groups=3))
    assert len(some.queries) == 6
    assert "3 of" in some.notes[0]
    with pytest.raises(ValueError, match=r"heldout: the data has no test pairs\. Raise data\.test_share"):
        read_benchmark(BenchmarkConfig(name="heldout", path=str(without.directory)))
