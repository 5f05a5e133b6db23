"""Rankings to results: the numbers of bias, differences over clusters and seeds, examples, what is written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import rows_of

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query, benchmark_fingerprint
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.comparisons import comparisons, intervals
from hybridir.evaluation.intervals import seed_interval
from hybridir.evaluation.scores import Scores, stack
from hybridir.evaluation.settings import measure, summarise
from hybridir.retrieval.search import Ranking, rank_all
from hybridir.runs.provenance import provenance
from hybridir.runs.results import examples, write_results


def parallel(languages: tuple[str, ...] = ("de", "en"), n_questions: int = 6, n_clusters: int = 3) -> Benchmark:
    """Each question is asked in every language, and has one answer in each."""
    ends = [(x, n) for x in languages for n in range(n_questions)]
    return Benchmark(
        name="made",
        languages=languages,
        passages=Passages(Passage(passage_id=str(n), language=x, text=f"answer {n} in {x}") for x, n in ends),
        queries=tuple(
            Query(query_id=f"{x}:{n}", language=x, text=f"question {n}", group_id=str(n), cluster=str(n % n_clusters))
            for x, n in ends
        ),
        relevant=tuple(tuple(range(n, len(ends), n_questions)) for _, n in ends),
        notes=("one query was left out",),
    )


def ranked(benchmark: Benchmark, score_QP: np.ndarray) -> Ranking:
    return rank_all(lambda queries, passages: score_QP[queries, passages], benchmark, 10)


def own_first(benchmark: Benchmark) -> np.ndarray:
    """2 for the right answer in the query's language, 1 for all others there, 0.5 for right answers elsewhere."""
    score_QP = np.zeros((len(benchmark.queries), len(benchmark.passages)), dtype=np.float32)
    for q, query in enumerate(benchmark.queries):
        score_QP[q, list(benchmark.relevant[q])] = 0.5
        for p, passage in enumerate(benchmark.passages):
            if passage.language == query.language:
                score_QP[q, p] = 2 if p in benchmark.relevant[q] else 1
    return score_QP


def test_bias_of_a_system_that_prefers_the_own_language() -> None:
    made = parallel()
    ranking = ranked(made, own_first(made))
    found = bias_results(ranking, made, summarise(measure(ranking, made), made))
    assert found["preference_rate"] == {"mean": 1, "per_language": {"de": 1, "en": 1}}
    assert found["score_margin"] == {"mean": 1.5, "per_language": {"de": 1.5, "en": 1.5}}
    assert found["rank_distance_by_answers"] == {"2": {"n": 12, "rank_distance": 6}}  # ranks 1 and 7
    upper = found["rank_distribution"]["upper"]
    assert found["rank_distribution"]["same"] == [float(end == 1) for end in upper]
    assert found["rank_distribution"]["other"] == [float(end == 10) for end in upper]
    shares = found["top_k_languages"]
    assert (shares["k"], shares["corpus"]) == (10, {"de": 0.5, "en": 0.5})
    assert shares["by_query_language"] == {"de": {"de": 0.6, "en": 0.4}, "en": {"de": 0.4, "en": 0.6}}
    assert shares["kl"] == pytest.approx(1 + 0.6 * np.log2(0.6) + 0.4 * np.log2(0.4))
    assert found["friedman"]["de"]["mean_rank"] == {"de": 1, "en": 2}
    assert (found["friedman"]["de"]["w"], found["friedman"]["de"]["n"]) == (1, 6)
    assert found["rank_correlation"]["per_pair"].keys() == {"de-en"}
    assert found["rank_correlation"]["mean"] < 0.6  # the same passages, the languages the other way round
    assert found["min_max"]["multilingual"]["ratio"] == 1


def test_bias_without_parallel_answers_says_only_what_it_can() -> None:
    """As in MIRACL: questions and answers of one language, no translations."""
    made = parallel()
    own = tuple(
        tuple(p for p in found if made.passages[p].language == query.language)
        for query, found in zip(made.queries, made.relevant, strict=True)
    )
    questions = tuple(
        Query(query_id=q.query_id, language=q.language, text=q.text, group_id=q.query_id, cluster=q.cluster)
        for q in made.queries
    )
    lone = Benchmark(name="lone", languages=made.languages, passages=made.passages, queries=questions, relevant=own)
    ranking = ranked(lone, own_first(made))
    found = bias_results(ranking, lone, summarise(measure(ranking, lone), lone))
    assert found.keys() == {"top_k_languages", "min_max"}
    assert "crosslingual" not in found["min_max"]


def test_one_language_has_no_bias() -> None:
    """Nor rank distances, even where a question has two right answers."""
    made = parallel(("de",))
    made = replace(made, relevant=tuple((n, (n + 1) % 6) for n in range(6)))
    ranking = ranked(made, own_first(made))
    assert not [name for name in measure(ranking, made).values if name.startswith("rank_distance")]
    assert bias_results(ranking, made, summarise(measure(ranking, made), made)) == {}


def noisy(made: Benchmark, seed: int, lead: float = 0.0) -> Scores:
    random = np.random.default_rng(seed)
    score_QP = random.standard_normal((len(made.queries), len(made.passages))).astype(np.float32)
    score_QP += lead * (own_first(made) > 1.5)
    return measure(ranked(made, score_QP), made)


def test_differences_are_paired_over_seeds() -> None:
    made = parallel(n_questions=30, n_clusters=10)
    ours, theirs = (
        stack([noisy(made, seed, lead) for seed in seeds]) for seeds, lead in ((range(5), 1), (range(5, 10), 0))
    )
    rows = comparisons(("ours", "theirs"), ours, theirs, made.languages)
    [row] = [one for one in rows if (one["setting"], one["measure"], one["language"]) == ("monolingual", "mAP", "")]
    assert (row["seeds"], row["over"]) == (5, "clusters and seeds")
    by_seed = [[rows_of(one, made, seed) for seed in range(5)] for one in (ours, theirs)]
    kept = [n for n, one in enumerate(by_seed[0][0]) if one.setting == "monolingual"]
    change = [[a[n].values["mAP"] - b[n].values["mAP"] for n in kept] for a, b in zip(*by_seed, strict=True)]
    of = [made.queries[by_seed[0][0][n].query] for n in kept]
    test = seed_interval(np.array(change), [one.language for one in of], [one.cluster for one in of])
    assert (row["difference"], *row["interval"]) == pytest.approx((test.difference, test.low, test.high))
    assert (row["p"], row["detectable"]) == pytest.approx((test.p, test.detectable))
    assert row["value"] == pytest.approx(summarise(ours, made)["monolingual"]["mAP"])


def test_one_seed_is_compared_to_each_of_several_and_other_numbers_are_refused() -> None:
    made = parallel(n_questions=12)
    several, one = stack([noisy(made, seed) for seed in range(3)]), noisy(made, 7)
    assert {row["seeds"] for row in comparisons(("ours", "BM25"), several, one, made.languages)} == {3}
    many = stack([noisy(made, seed) for seed in range(5)])
    assert {row["over"] for row in comparisons(("ours", "BM25"), many, one, made.languages)} == {
        "clusters and the system's seeds"
    }
    with pytest.raises(ValueError, match="ours has 3 seeds, theirs has 2: compare systems with equally many"):
        comparisons(("ours", "theirs"), several, several.seeds([0, 1]), made.languages)


def test_pairs_of_languages_are_corrected_for_their_number() -> None:
    made = parallel(("de", "en", "es"), n_questions=24, n_clusters=12)
    rows = comparisons(("ours", "theirs"), noisy(made, 1), noisy(made, 2), made.languages)
    pairs = {one["language"]: one for one in rows if one["setting"] == "crosslingual" and one["language"]}
    assert pairs.keys() == {"de-en", "de-es", "en-de", "en-es", "es-de", "es-en"}
    least = min(pairs.values(), key=lambda one: one["p"])
    assert least["p_holm"] == pytest.approx(min(1, 6 * least["p"]))
    assert all(one["p_holm"] is None for one in rows if not one["language"])
    few = parallel(("de", "en", "es"), n_questions=12, n_clusters=6)  # p is 1 / 32 at least: no 6 tests can pass
    rows = comparisons(("ours", "theirs"), noisy(few, 1), noisy(few, 2), few.languages)
    assert {one["p_holm"] for one in rows} == {None}


def test_every_headline_number_has_an_interval() -> None:
    made = parallel(n_questions=12)
    scores = noisy(made, 3)
    found = intervals(scores)
    summary = summarise(scores, made)
    for setting, measures in found.items():
        counted = {k for k in summary[setting] if not k.startswith(("n_", "excluded"))}
        assert measures.keys() == counted
        for name, one in measures.items():
            assert one["interval"][0] <= summary[setting][name] <= one["interval"][1]


def test_conditions_are_not_mixed() -> None:
    made = parallel(n_questions=6)
    plain, noised = noisy(made, 1), noisy(made, 2)
    both = Scores(
        {
            name: np.concatenate([rows, np.full(len(rows), "delete") if name == "condition" else noised.rows[name]])
            for name, rows in plain.rows.items()
        },
        {name: np.concatenate([values, noised.values[name]], axis=1) for name, values in plain.values.items()},
    )
    for condition, alone in (("", plain), ("delete", noised)):
        column = both.column("mAP", "monolingual", condition=condition)
        assert (column.values_KN == alone.column("mAP", "monolingual").values_KN).all()


def test_seeds_from_before_a_measure_was_added_are_joined_without_it() -> None:
    made = parallel(n_questions=6)
    old, new = noisy(made, 1), noisy(made, 2)
    lacking = Scores(old.rows, {name: values for name, values in old.values.items() if name != "R@10"})
    assert stack([lacking, new]).values.keys() == stack([new, lacking]).values.keys() == lacking.values.keys()


def test_examples_are_the_largest_gain_and_loss_of_each_language() -> None:
    made = parallel(("de", "en", "es"), n_questions=20)
    random = np.random.default_rng(0)
    rankings = {
        name: [ranked(made, random.random((60, 60), dtype=np.float32))] for name in ("ours", "BM25", "untrained")
    }
    scores = {name: stack([measure(one, made) for one in own]) for name, own in rankings.items()}
    found = examples(rankings, scores, made)
    assert [one["language"] for one in found] == ["de", "de", "en", "en", "es", "es"]
    assert {one["against"] for one in found} == {"untrained"}
    rows = scores["ours"].rows
    own, other = (scores[name].values["mAP"][0] for name in ("ours", "untrained"))
    pooled = rows["setting"] == "multilingual"
    language = {query.query_id: query.language for query in made.queries}
    for best, worst in zip(found[::2], found[1::2], strict=True):
        here = pooled & np.array([language[name] == best["language"] for name in rows["query_id"].tolist()])
        assert best["gain"] == (own - other)[here].max() > 0
        assert worst["gain"] == (own - other)[here].min() < 0
    for one in found:
        ranks = np.sort([answer["rank"] for answer in one["answers"]])
        assert one["AP"] == pytest.approx(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        before = np.sort([answer["before"] for answer in one["answers"]])
        assert one["AP"] - one["gain"] == pytest.approx(np.mean(np.arange(1, len(before) + 1) / before))
        assert [hit["rank"] for hit in one["retrieved"]] == list(range(1, 6))
        right = {hit["rank"] for hit in one["retrieved"] if hit["relevant"]}
        assert right == {answer["rank"] for answer in one["answers"] if answer["rank"] <= 5}
        hits = [hit["score"] for hit in one["retrieved"]]
        assert hits == sorted(hits, reverse=True)
    alone = examples({"ours": rankings["ours"]}, scores, made)
    assert not any("gain" in one for one in alone)


def test_results_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = parallel(n_questions=12)
    rankings = {name: [ranked(made, own_first(made) + n)] for n, name in enumerate(("ours", "theirs"))}
    facts: dict[str, Any] = {"provenance": provenance(made, {"seed": 1}, {"ours": "abc"})}
    write_results(made, rankings, tmp_path, facts)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["encoder"] == "ours"
    assert results["systems"].keys() == {"theirs"}
    assert results["notes"] == ["one query was left out"]
    assert results["provenance"]["fingerprints"] == {"benchmark": benchmark_fingerprint(made), "ours": "abc"}
    assert "NaN" not in (tmp_path / "results.json").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "one query was left out" in page
    assert "There are only 3 clusters of questions" in page
    assert "monolingual mAP, ours - theirs: +0.000" in capsys.readouterr().out


def test_a_fingerprint_changes_with_the_judgements() -> None:
    made = parallel()
    other = Benchmark(**{**vars(made), "relevant": ((0,), *made.relevant[1:])})
    assert benchmark_fingerprint(made) != benchmark_fingerprint(other)
