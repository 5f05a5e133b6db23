"""Measures of language bias, against hand values, scipy, and what a random ranking gives."""

import numpy as np
import pytest
from scipy import stats

from hybridir.evaluation import bias

NAN = float("nan")


def test_spread_of_the_answers_by_hand():
    ranks = np.array([8, 2, 4])
    assert bias.rank_distance(ranks) == 6
    assert bias.rank_distance_share(ranks, 11) == (6 - 2) / (11 - 3)
    assert bias.rank_distance_log2(ranks) == 2
    side_by_side, far_apart = np.array([5, 6, 7]), np.array([1, 2, 11])
    assert (bias.rank_distance_share(side_by_side, 11), bias.rank_distance_share(far_apart, 11)) == (0, 1)
    assert bias.rank_distance_share(np.array([1, 2, 3]), 3) == 0
    assert bias.rank_distance_log2(far_apart) == pytest.approx(np.log2(11))


@pytest.mark.parametrize(("n_passages", "n_answers"), [(40, 2), (100, 11), (1000, 11)])
def test_random_ranking_has_the_expected_spread(n_passages, n_answers):
    """(N + 1)(R - 1) / (R + 1), and (R - 1) / (R + 1) as a share, whatever the pool."""
    random = np.random.default_rng(n_passages)
    draws = [random.choice(n_passages, n_answers, replace=False) + 1 for _ in range(3000)]
    for found, expected in (
        ([bias.rank_distance(ranks) for ranks in draws], (n_passages + 1) * (n_answers - 1) / (n_answers + 1)),
        ([bias.rank_distance_share(ranks, n_passages) for ranks in draws], (n_answers - 1) / (n_answers + 1)),
    ):
        error = np.std(found) / len(found) ** 0.5
        assert abs(np.mean(found) - expected) < 4 * error
        assert 4 * error < 0.06 * expected  # the bound is narrow enough to fail


def test_friedman_by_hand():
    """Within queries 123, 123, 213: sums of ranks 4, 5, 9 about 6; chi2 = 2 (4 + 1 + 9) / (42 - 36) = 14/3."""
    found = bias.friedman(np.array([[5, 70, 800], [1, 2, 3], [9, 4, 11], [NAN, 1, 2]]))
    assert found.chi2 == pytest.approx(14 / 3)
    assert found.p == pytest.approx(np.exp(-7 / 3))  # chi2 with 2 degrees of freedom
    assert found.w == pytest.approx(7 / 9)
    assert found.n == 3
    assert found.mean_rank_L.tolist() == pytest.approx([4 / 3, 5 / 3, 3])


def test_friedman_of_two_languages():
    """4 of 4 queries: R = 4, 8 about 6, chi2 = (4 + 4) / (20 - 18) = 4, and W is 1."""
    found = bias.friedman(np.array([[1, 2]] * 4))
    assert (found.chi2, found.w) == (4, 1)
    assert found.p == pytest.approx(0.0455, abs=1e-4)  # two-sided normal at 2


@pytest.mark.parametrize("values", [5, 1000])
def test_friedman_is_scipys_with_ties(values):
    rank_QL = np.random.default_rng(values).integers(values, size=(30, 6))
    found = bias.friedman(rank_QL)
    assert (found.chi2, found.p) == pytest.approx(tuple(stats.friedmanchisquare(*rank_QL.T)))


def test_friedman_without_an_order():
    found = bias.friedman(np.ones((5, 3)))
    assert (found.chi2, found.p, found.w, found.mean_rank_L.tolist()) == (0, 1, 0, [2, 2, 2])
    for empty in (np.full((3, 4), NAN), np.ones((3, 1))):
        with pytest.raises(ValueError, match="answers in 2 languages"):
            bias.friedman(empty)


def test_preference_rate_by_hand():
    rank_QL = np.array([[1, 5, 9], [4, 3, 8], [NAN, 2, 1], [2, NAN, 1], [2, NAN, 3], [NAN, 7, NAN]])
    own_Q = np.array([0, 0, 0, 2, 0, 1])
    expected = [1, 0, NAN, 1, 1, NAN]  # the third has no answer of its own, the last no other
    assert np.array_equal(bias.own_language_first(rank_QL, own_Q), expected, equal_nan=True)
    assert np.nanmean(bias.own_language_first(rank_QL, own_Q)) == 3 / 4
    assert np.isnan(bias.own_language_first(rank_QL[-1:], own_Q[-1:])).all()
    assert rank_QL[0].tolist() == [1, 5, 9]  # what came in is left alone


def test_preference_rate_of_a_random_ranking_is_one_in_l():
    random = np.random.default_rng(0)
    rank_QL = random.random((4000, 5)).argsort(axis=1)
    rate = np.mean(bias.own_language_first(rank_QL, random.integers(5, size=4000)))
    assert abs(rate - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5


def test_score_margin_by_hand():
    score_QL = np.array([[0.9, 0.5, 0.3], [0.25, 0.75, NAN], [NAN, 0.1, 0.2], [NAN, 0.1, NAN]])
    own_Q = np.array([0, 0, 0, 1])
    assert bias.score_margins(score_QL, own_Q) == pytest.approx([0.5, -0.5, NAN, NAN], nan_ok=True)
    assert np.nanmean(bias.score_margins(score_QL, np.array([0, 1, 0, 1]))) == pytest.approx(0.5)


def test_language_histogram_by_hand():
    language_QK = np.array([[0, 0, 1, 1], [0, 2, -1, -1], [2, 2, 2, 2]])
    found = bias.language_histogram(language_QK, np.array([0, 0, 2]), 3)
    assert found[[0, 2]].tolist() == [[3 / 6, 2 / 6, 1 / 6], [0, 0, 1]]
    assert np.isnan(found[1]).all()  # no query
    assert bias.corpus_shares(np.array([0, 0, 0, 1]), 3).tolist() == [3 / 4, 1 / 4, 0]


def test_language_kl_by_hand():
    """All of one language of four is 2 bits, half of each of two 1 bit; a row without queries does not count."""
    share_LL = np.array([[1, 0, 0, 0], [0.5, 0, 0.5, 0], [NAN] * 4, [0.25] * 4])
    assert bias.language_kl(share_LL, np.full(4, 0.25)) == pytest.approx((2 + 1 + 0) / 3)
    assert bias.language_kl(np.array([[0.75, 0.25, 0]]), np.array([0.75, 0.25, 0])) == 0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2], [1, 2], 1),
        ([1, 2], [3, 4], 0),
        ([1, 2], [2, 1], 1 * 0.25 + 0.5 * (0 + 0.5 * 1)),
        ([1, 2], [1, 3], 0.5 * 0.25 + 0.5 * (1 + 0.5 * 0.5)),
        ([1, 2, 3], [3, 9, 1], 2 / 3 * 0.125 + 0.5 * (0 + 0 + 0.25 * 2 / 3)),
    ],
)
def test_rank_biased_overlap_by_hand(first, second, expected):
    found = bias.rank_biased_overlap(np.array([first, second]), np.array([second, first]), p=0.5)
    assert found.tolist() == pytest.approx([expected, expected])


def test_rank_correlation_by_hand():
    top_LGK = np.array([[[1, 2], [5, 6]], [[1, 2], [7, 8]], [[-1, -1], [5, 6]]])
    found = bias.rank_correlation(top_LGK)
    expected = [[NAN, 0.5, 1], [0.5, NAN, 0], [1, 0, NAN]]
    assert found == pytest.approx(np.array(expected), nan_ok=True)
    assert np.nanmean(found) == pytest.approx(0.5)
    assert np.isnan(bias.rank_correlation(np.array([[[1], [-1]], [[-1], [1]]]))).all()  # no question in common


def test_rank_distribution_by_hand():
    found = bias.rank_distribution(np.array([1, 2, 3, 5, 1000, 1001, 7000, 100]))
    assert found.tolist() == [1 / 8, 1 / 8, 2 / 8, 0, 0, 0, 1 / 8, 1 / 8, 2 / 8]
    assert len(found) == len(bias.RANK_BINS) + 1
    assert np.isnan(bias.rank_distribution(np.array([]))).all()


def test_min_max():
    found = bias.min_max({"de": 0.5, "en": 0.8, "th": 0.2, "zh": 0.2})
    assert found == {"min": ["th", 0.2], "max": ["en", 0.8], "ratio": pytest.approx(0.25)}
    assert bias.min_max({"de": 0.0}) == {"min": ["de", 0.0], "max": ["de", 0.0]}
