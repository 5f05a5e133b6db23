"""The averages over languages and settings, by hand and for encoders whose numbers are known."""

import numpy as np
import pytest
from helpers import rows_of
from made import benchmark, scorer

from hybridir.evaluation import settings as evaluate
from hybridir.evaluation.settings import evaluate_encoder, evaluate_scores, summarise


class Vectors:
    """An encoder that knows a vector for every text."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, side):
        return np.stack([self.vectors[side, text] for text in texts]).astype(np.float32)


def test_three_settings_by_hand():
    """A query in each language, two answers, and one distractor a language; scores are given."""
    made = benchmark(
        ["de", "en"],
        [("de", "a"), ("de", "b"), ("en", "c"), ("en", "d")],
        [("de", "x", [0, 2]), ("en", "y", [0, 2])],
    )
    # Rank of x's answers: a 1 in de, c 2 in en, pooled 1 and 4. Of y's: a 2 in de, c 1 in en, pooled 3 and 2 (b ties).
    scores = np.array([[0.9, 0.5, 0.1, 0.2], [0.2, 0.3, 0.3, 0.1]], dtype=np.float32)
    result = summarise(evaluate_scores(scorer(scores), made), made)
    assert result["monolingual"]["mAP"] == 1
    assert result["crosslingual"]["mAP"] == 1 / 2
    assert (result["per_pair"]["de-en"]["mAP"], result["per_pair"]["en-de"]["mAP"]) == (1 / 2, 1 / 2)
    assert result["multilingual"]["mAP"] == pytest.approx(((1 + 2 / 4) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert result["multilingual"]["rank_distance"] == (3 + 1) / 2
    assert result["multilingual"]["R@1"] == 0.25
    assert result["multilingual"]["success@1"] == 0.5
    assert result["per_language"]["de"]["multilingual"]["rank_distance"] == 3
    assert result["per_language"]["en"]["monolingual"]["RR@10"] == 1
    assert set(result["per_pair"]) == {"de-de", "de-en", "en-de", "en-en"}
    for setting, n in (("monolingual", 2), ("crosslingual", 2), ("multilingual", 2)):
        assert (result[setting]["n_queries"], result[setting]["excluded"]) == (n, 0)


def test_macro_average_is_over_languages_not_queries():
    passages = [("de", "a"), ("de", "b"), ("en", "c"), ("en", "d")]
    queries = [("de", "", [0])] * 3 + [("en", "", [2])]
    made = benchmark(["de", "en"], passages, queries)
    scores = np.array([[1, 0, 0, 0]] * 3 + [[0, 0, 0, 1]], dtype=np.float32)
    result = summarise(evaluate_scores(scorer(scores), made), made)
    assert result["monolingual"]["mAP"] == (1 + 0.5) / 2


def test_excluded_are_counted():
    passages = [(x, "") for x in ("de", "de", "en", "en", "zh", "zh")]
    queries = [
        ("de", "", [0, 2]),  # de, en
        ("de", "", [1]),  # de alone
        ("en", "", [3, 0]),  # en, de
        ("zh", "", [2, 4, 5]),  # en, zh twice
        ("zh", "", []),  # nothing
    ]
    made = benchmark(["de", "en", "zh"], passages, queries)
    scores = evaluate_scores(scorer(np.random.default_rng(0).random((5, 6), dtype=np.float32)), made)
    result = summarise(scores, made)
    counts = {s: (result[s]["n_queries"], result[s]["excluded"]) for s in evaluate.SETTINGS}
    assert counts == {"monolingual": (4, 1), "crosslingual": (3, 7), "multilingual": (4, 1)}
    assert set(result["per_pair"]) == {"de-de", "de-en", "en-en", "en-de", "zh-zh", "zh-en"}
    pooled = {one.query: one.values for one in rows_of(scores, made) if one.setting == "multilingual"}
    assert [q for q in pooled if "rank_distance" in pooled[q]] == [0, 2, 3]  # at least two answers


def test_perfect_encoder_and_one_that_is_blind_across_languages():
    languages = ("de", "en", "zh")
    passages = [(x, f"{n} {x}") for x in languages for n in range(10)]
    queries = [(x, f"{n} {x}?", [n, n + 10, n + 20]) for x in languages for n in range(10)]
    made = benchmark(languages, passages, queries)
    axes = np.eye(13)
    for weight in (0.0, 5.0):  # of the language beside the meaning
        vectors = {}
        for number, x in enumerate(languages):
            for n in range(10):
                vector = axes[n] + weight * axes[10 + number]
                vectors["passage", f"{n} {x}"] = vectors["query", f"{n} {x}?"] = vector
        result = summarise(evaluate_encoder(Vectors(vectors), made), made)
        assert result["monolingual"]["mAP"] == result["crosslingual"]["mAP"] == 1
        assert (result["multilingual"]["mAP"] == 1) == (weight == 0)
        distance = result["multilingual"]["rank_distance"]
        assert distance == 2 if weight == 0 else distance > 9


@pytest.mark.parametrize(("n_languages", "size"), [(2, 50), (5, 30)])
def test_random_encoder_has_the_expected_rank_distance(n_languages, size):
    rng = np.random.default_rng(1)
    languages = [f"l{n}" for n in range(n_languages)]
    passages = [(x, f"{n} {x}") for x in languages for n in range(size)]
    queries = [(languages[0], f"q{i}", [i % size + size * n for n in range(n_languages)]) for i in range(600)]
    made = benchmark(languages, passages, queries)
    vectors = {("passage", t): rng.normal(size=256) for _, t in passages}
    vectors |= {("query", t): rng.normal(size=256) for _, t, _ in queries}
    scores = evaluate_encoder(Vectors(vectors), made)
    distances = scores.column("rank_distance", "multilingual").values_KN[0]
    total = len(passages)
    expected = (total + 1) * (n_languages - 1) / (n_languages + 1)
    assert abs(distances.mean() - expected) < 4 * distances.std() / len(distances) ** 0.5
    assert 4 * distances.std() / len(distances) ** 0.5 < 0.15 * expected  # the bound is narrow enough to fail
