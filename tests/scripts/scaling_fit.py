"""Simulates fits of the scaling law: python tests/scripts/scaling_fit.py [ROUNDS]

Losses are drawn from L(D) = (B / D)^b + d with clusters of questions, whose level and whose exponent vary, and with
seeds. Printed are the shares of rounds (of all, and of those with a law) in which the 95 % intervals hold the true
exponent, and the loss of new trainings at twice the largest size; how wide they are; and how often a law is found, also
where the truth is a straight line in log D. Nothing that covers less than 90 % is used for a claim.
"""

import sys

import numpy as np

from hybridir.evaluation.scaling_fit import Curve, curve, exchange_rate, fit, predict, slope

CLUSTERS, UNIT, OFFSET, LINE = 60, 120.0, 0.4, 0.3


def draw(
    random: np.random.Generator, sizes: np.ndarray, seeds: int, sd: float, exponent: float
) -> tuple[Curve, np.ndarray]:
    """A curve, and what `seeds` new trainings at twice the largest size give on the same questions.

    An exponent of 0 is a straight line in log D.
    """
    level_C = random.normal(0, 0.3, CLUSTERS)
    own_C = exponent * np.exp(random.normal(0, 0.1, CLUSTERS))
    all_sizes = np.append(sizes, 2 * sizes[-1])

    def losses(size: float) -> np.ndarray:
        if exponent:
            clean_C = (UNIT / size) ** own_C + OFFSET + level_C
        else:
            clean_C = 3 - LINE * np.log(size / sizes[0]) + level_C
        return clean_C + random.normal(0, sd, (seeds, 1)) + random.normal(0, 0.1, (seeds, CLUSTERS))

    values = [losses(size) for size in all_sizes]
    found = curve(list(sizes), values[:-1], ["x"] * CLUSTERS, np.arange(CLUSTERS))
    return found, values[-1].mean()


def coverage(rounds: int, n_sizes: int, seeds: int, sd: float, exponent: float) -> str:
    random = np.random.default_rng(n_sizes)
    sizes = 42 * 2.0 ** np.arange(n_sizes)
    # of an infinite number of clusters: the exponent of the mean curve, fitted without noise, is the truth
    true = exponent and mean_exponent(sizes, exponent)
    hits = np.zeros(4)
    width = []
    for _ in range(rounds):
        of, new = draw(random, sizes, seeds, sd, exponent)
        law = fit(of)
        _, low, high = predict(of, 2 * sizes[-1], seeds)
        hits += [not law.why_not, law.interval[0] <= true <= law.interval[1], low <= new <= high, 0]
        hits[3] += not law.why_not and law.interval[0] <= true <= law.interval[1]
        width.append([law.interval[1] - law.interval[0], high - low])
    laws = f"{hits[3] / hits[0]:7.3f}" if hits[0] else "      -"
    wide = np.median(width, axis=0)
    shown = [f"{x:7.3f}" for x in hits[1:3] / rounds]
    return (
        f"{hits[0] / rounds:6.3f} {shown[0] if exponent else '      -'} {laws} {shown[1]} {wide[0]:9.3f} {wide[1]:9.3f}"
    )


def mean_exponent(sizes: np.ndarray, exponent: float) -> float:
    """The exponent of the law that fits best to the mean over very many clusters."""
    own = exponent * np.exp(np.random.default_rng(9).normal(0, 0.1, 20_000))
    loss = np.array([np.mean((UNIT / size) ** own) + OFFSET for size in sizes])
    exact = Curve(sizes.astype(float), loss, np.zeros((len(sizes),) * 2), 1e-8, 1, 10)
    return fit(exact).exponent


def rates(rounds: int, seeds: int, sd: float, rate: float) -> str:
    """How often the interval of the exchange rate holds the true one, and how often it is not determined."""
    random = np.random.default_rng(5)
    single = np.array([42, 84, 168, 336, 672, 504, 336, 168, 0.0])
    both = np.array([0, 0, 0, 0, 0, 168, 336, 504, 672.0])
    hits, none, width = 0, 0, []
    for _ in range(rounds):
        level_C = random.normal(0, 0.3, CLUSTERS)
        values = [
            (UNIT / worth) ** 0.4
            + OFFSET
            + level_C
            + random.normal(0, sd, (seeds, 1))
            + random.normal(0, 0.1, CLUSTERS)
            for worth in single + rate * both
        ]
        of = curve(range(len(single)), values, ["x"] * CLUSTERS, np.arange(CLUSTERS))
        found = exchange_rate(of, single, both)
        none += found is None
        if found:
            hits += found[1][0] <= rate <= found[1][1]
            width.append(np.log2(found[1][1] / found[1][0]))
    return f"{hits / (rounds - none):8.3f} {none / rounds:12.3f} {np.median(width):15.2f}"


def slopes(rounds: int, n_sizes: int, seeds: int) -> str:
    random = np.random.default_rng(7)
    sizes = 42 * 2.0 ** np.arange(n_sizes)
    held = 0
    for _ in range(rounds):
        _, low, high = slope(draw(random, sizes, seeds, 0.02, 0.0)[0])
        held += low <= -LINE * np.log(10) <= high
    return f"{held / rounds:.3f}"


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("sizes seeds   sd  true b    law   b all  b laws    at 2D  width b   width 2D")
    for exponent in (0.4, 0.8, 0.0):
        for n_sizes in (4, 6, 8):
            for seeds, sd in ((2, 0.02), (5, 0.02), (2, 0.05)):
                row = coverage(rounds, n_sizes, seeds, sd, exponent)
                print(f"{n_sizes:5} {seeds:5} {sd:4} {exponent or 'line':>7} {row}", flush=True)
    print("slope per tenfold of a line:", *(f"{n} sizes {slopes(rounds, n, 2)}" for n in (4, 6, 8)))
    print("true rate   covers undetermined  width (doublings)")
    for rate in (2.0, 8.0):
        print(f"{rate:9} {rates(max(rounds // 5, 10), 2, 0.02, rate)}", flush=True)
