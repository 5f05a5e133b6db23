"""The numbers of language bias in the results."""

from dataclasses import replace

import numpy as np
import pytest
from made import own_first, parallel, ranked

from hybridir.data.records import Benchmark, Query
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.settings import measure, summarise


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
    assert found.keys() == {"top_k_languages", "min_max", "hubness"}
    assert "crosslingual" not in found["min_max"]


def test_one_language_has_no_bias() -> None:
    """Nor rank distances, even where a question has two right answers."""
    made = parallel(("de",))
    made = replace(made, relevant=tuple((n, (n + 1) % 6) for n in range(6)))
    ranking = ranked(made, own_first(made))
    assert not [name for name in measure(ranking, made).values if name.startswith("rank_distance")]
    assert bias_results(ranking, made, summarise(measure(ranking, made), made)) == {}
