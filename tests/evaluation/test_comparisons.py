"""Differences of two systems over clusters and seeds, and the intervals of the headline numbers."""

import numpy as np
import pytest
from helpers import rows_of
from made import own_first, parallel, ranked

from hybridir.data.records import Benchmark
from hybridir.evaluation.comparisons import comparisons, intervals
from hybridir.evaluation.intervals import seed_interval
from hybridir.evaluation.scores import Scores, stack
from hybridir.evaluation.settings import measure, summarise


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
