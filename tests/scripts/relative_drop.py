"""Simulates the interval of a relative drop: python tests/scripts/relative_drop.py [ROUNDS]

A benchmark is drawn anew in each round: clusters with a difficulty of their own, questions in several languages, ranks
from a log-normal distribution, RR@10. Noise shifts the rank of a question by a factor. Printed are the shares of rounds
in which the interval holds the true drop (of a very large benchmark): Fieller's, and percentiles of a bootstrap of
clusters; and how much wider the interval of a difference of two systems is if both see other noise.
"""

import sys

import numpy as np

from hybridir.evaluation.intervals import macro_mean
from hybridir.evaluation.retention import relative_drop

LANGUAGES, QUESTIONS = 5, 4


def draw(random: np.random.Generator, n_clusters: int, spread: float, hard: float = 0.0):  # type: ignore[no-untyped-def]
    """Plain and noisy RR@10 of questions, with strata and clusters."""
    shape = (n_clusters, QUESTIONS, LANGUAGES)
    level = hard + spread * random.normal(size=(n_clusters, 1, 1)) + random.normal(size=shape)
    harm = np.abs(0.4 + 0.6 * random.normal(size=shape) + 0.3 * random.normal(size=(n_clusters, 1, 1)))
    plain, noisy = (np.floor(np.exp(x)) + 1 for x in (level, level + harm))
    cluster = np.broadcast_to(np.arange(n_clusters)[:, None, None], shape).ravel()
    language = np.broadcast_to(np.arange(LANGUAGES), shape).ravel()
    return *(np.where(x <= 10, 1 / x, 0).ravel() for x in (plain, noisy)), language, cluster


def percentiles(random, plain, noisy, cluster, n_clusters: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """The bootstrap of clusters; all have the same number of questions, so that sums will do."""
    sums = np.stack([np.bincount(cluster, weights=x) for x in (plain, noisy)])
    chosen = random.integers(n_clusters, size=(1000, n_clusters))
    found = 1 - sums[1][chosen].sum(axis=1) / sums[0][chosen].sum(axis=1)
    return tuple(np.quantile(found, [0.025, 0.975]))  # type: ignore[return-value]


def coverage(rounds: int, n_clusters: int, spread: float) -> tuple[float, float, float]:
    random = np.random.default_rng(0)
    plain, noisy, language, _ = draw(random, 40_000, spread)
    true = 1 - macro_mean(noisy, language) / macro_mean(plain, language)
    hits = np.zeros(3)
    for _ in range(rounds):
        plain, noisy, language, cluster = draw(random, n_clusters, spread)
        found = relative_drop(plain, noisy, language, cluster)
        low, high = percentiles(random, plain, noisy, cluster, n_clusters)
        hits[0] += found.interval is not None and found.interval[0] <= true <= found.interval[1]
        hits[1] += low <= true <= high
        hits[2] += found.interval is None
    return tuple(hits / rounds)  # type: ignore[return-value]


def pairing(rounds: int) -> float:
    """How much wider the interval of drop A - drop B is with noise drawn for each system than with shared noise.

    Both systems find a question as hard, apart from a small term of their own; noise of a question is how far its edits
    happen to push it.
    """
    random = np.random.default_rng(1)
    widths = np.zeros(2)
    for _ in range(rounds):
        hard = random.normal(size=400)
        own = 0.3 * random.normal(size=(2, 400))
        shared, other = np.abs(0.4 + 0.6 * random.normal(size=(2, 400)))
        for n, harm in enumerate(((shared, shared), (shared, other))):
            drop = []
            for system in range(2):
                ranks = [np.floor(np.exp(hard + own[system] + x)) + 1 for x in (0, harm[system])]
                drop.append(-np.subtract(*[np.where(x <= 10, 1 / x, 0) for x in ranks[::-1]]))
            widths[n] += np.std(drop[0] - drop[1])
    return float(widths[1] / widths[0])


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("clusters  spread  Fieller  percentiles  unbounded")
    for n_clusters in (10, 20, 50, 141):
        for spread in (0.3, 1.0):
            fieller, boot, open_ = coverage(rounds, n_clusters, spread)
            print(f"{n_clusters:8}  {spread:6}  {fieller:7.3f}  {boot:11.3f}  {open_:9.3f}")
    print(f"interval with independent noise / with shared noise: {pairing(rounds // 4):.2f}")
