"""Simulates studies of domain shift: python tests/scripts/domain_shift.py [ROUNDS]

Two methods are trained without each of four domains, with several seeds, and asked the same questions, in clusters that
have questions of every domain. Each model is off by an amount of its own, and so is each model in each domain. Printed
are the shares of simulated studies in which hybrid is found to lose less out of domain than the baseline, or more,
where it does by nothing (false findings: 5 % are allowed), .02 and .04.
"""

import sys

import numpy as np

from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.intervals import seed_interval
from hybridir.evaluation.scores import KEYS, Scores
from hybridir.evaluation.shift import OUT, domains_of, in_and_out

COST, MODEL, MODEL_DOMAIN, CLUSTER, QUESTION = 0.1, 0.01, 0.01, 0.1, 0.2
"""What all lose out of domain, and standard deviations: of a model, of it in a domain, of clusters, of questions."""


def draw(random: np.random.Generator, benchmark: Benchmark, seeds: int, effect: float) -> tuple[Scores, Scores]:
    """In and out of domain, of hybrid and of the baseline; hybrid loses less by `effect`."""
    n = len(benchmark.queries)
    rows = {name: np.full(n, "") for name in KEYS}
    rows |= {"query_id": np.array([query.query_id for query in benchmark.queries])}
    rows |= {"cluster": np.array([query.cluster for query in benchmark.queries]), "setting": np.full(n, "monolingual")}
    domain_N = domains_of(Scores(rows, {"mAP": np.zeros((1, n))}), benchmark)
    domains, number_N = np.unique(domain_N, return_inverse=True)
    _, cluster_N = np.unique(rows["cluster"], return_inverse=True)
    shared_N = 0.5 + random.normal(0, CLUSTER, cluster_N.max() + 1)[cluster_N] + random.normal(0, QUESTION, n)

    def method(less: float) -> Scores:
        without = {}
        own_N = random.normal(0, CLUSTER / 4, cluster_N.max() + 1)[cluster_N]  # clusters that suit this method
        for n_fold, fold in enumerate(domains):
            model_K1 = random.normal(0, MODEL, (seeds, 1))
            in_domain_KN = random.normal(0, MODEL_DOMAIN, (seeds, len(domains)))[:, number_N]
            lost_N = np.where(number_N == n_fold, COST - less, 0)
            noise_KN = random.normal(0, QUESTION / 2, (seeds, n))
            values = shared_N + own_N - lost_N + model_K1 + in_domain_KN + noise_KN
            without[str(fold)] = Scores(rows, {"mAP": values})
        return in_and_out(without, benchmark)

    return method(effect), method(0.0)


def found(rounds: int, seeds: int, effect: float) -> tuple[float, float]:
    """How often hybrid is found to lose less, and to lose more."""
    random = np.random.default_rng(seeds)
    benchmark = read_benchmark(BenchmarkConfig(facts=400, languages=("en",), split="test"))
    less = more = 0
    for _ in range(rounds):
        hybrid, baseline = (one.weighted({OUT: 1, "": -1}) for one in draw(random, benchmark, seeds, effect))
        interval = seed_interval(*hybrid.minus(baseline).column("mAP", "monolingual"))
        less += interval.low > 0
        more += interval.high < 0
    return less / rounds, more / rounds


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("seeds  effect  loses less  loses more")
    for seeds in (3, 5, 10):
        for effect in (0.0, 0.02, 0.04):
            less, more = found(rounds, seeds, effect)
            print(f"{seeds:5}  {effect:6} {less:11.3f} {more:11.3f}", flush=True)
