"""Every number of an evaluation on XQuAD-R once more, from the raw files, with numpy alone and none of this project.

    python tests/scripts/recompute.py RESULTS XQUAD_R MODEL [BASELINE ...]
    python tests/scripts/recompute.py --embed EMBEDDINGS XQUAD_R MODEL [LANGUAGE ...]

RESULTS is the output folder of jobs/evaluate.py with `--encoder.name MODEL --compare_to [BASELINE, ...]`. A MODEL is a
folder that sentence-transformers encodes with, or one that `--embed` has written: embeddings by sentence-transformers,
on a grid on which dot products in float32 are exact. Those have one ranking, whoever computes it, so that every number
must agree to 1e-6. Embeddings that two programs make differ by 1e-7 or so, which swaps passages that nearly tie: then
all but the examples are compared, to 1e-4, and it is said how many agree to 1e-6.

XQuAD-R is parallel (checked here): each question has one answer in each language, so all means over queries, then
languages, are plain means.

Shapes: L languages, G questions, Q = L x G queries, P passages, R answers of a query, C clusters, S strata (languages
or pairs of them), B resamples.
"""

import argparse
import hashlib
import itertools
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

GRID = 2**11  # steps in 1: products are multiples of 2^-22, and sums of them below 2 have 23 bits
TOLERANCE, LOOSE, SMALL = 1e-6, 1e-4, 1e-3
"""Of the larger numbers; numbers below the last are compared as it is."""
SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0), "all": (0.0, 1.0)}
BOUNDS = [1, 2, 5, 10, 20, 50, 100, 1000]
COMPARED = ("mAP", "nDCG@10", "rank_distance")
SETTINGS = ("monolingual", "crosslingual", "multilingual")
DEPTH, TOP, SHOWN, EXAMPLE_LANGUAGES, SETS = 100, 10, 5, 12, 500
LEFT_OUT = ("versions", "provenance.versions", "provenance.config", "provenance.seconds", "cut")
"""What is no result, and the counts of cut texts, which `tests/retrieval` compare with the tokenizers library."""


# The benchmark


@dataclass
class World:
    languages: list[str]
    question_ids: list[str]  # [G]
    clusters: list[str]  # [G]
    queries: list[str]  # [Q], language by language
    passages: list[str]  # [P]
    passage_ids: list[str]  # [P]
    language_P: np.ndarray
    answer_GL: np.ndarray  # positions among the passages

    @property
    def query_ids(self) -> list[str]:
        return [f"{language}:{question}" for language in self.languages for question in self.question_ids]


def read(folder: Path, languages: list[str], split: str) -> World:
    """Articles belong to a split by the hash of the smallest id of their questions, which is their cluster's name."""
    low, high = SHARES[split]
    ids: list[list[str]] = []
    answers: list[list[int]] = []
    clusters: list[str] = []
    queries, passages, passage_ids, language_P = [], [], [], []
    for number, language in enumerate(sorted(languages)):
        ids.append([])
        answers.append([])
        clusters = []
        for a, article in enumerate(json.loads((folder / f"{language}.json").read_text("utf-8"))["data"]):
            smallest = min(qa["id"] for paragraph in article["paragraphs"] for qa in paragraph["qas"])
            cluster = hashlib.blake2b(smallest.encode(), digest_size=8).hexdigest()
            if not low <= int(cluster, 16) / 16**16 < high:
                continue
            for n, paragraph in enumerate(article["paragraphs"]):
                for qa in paragraph["qas"]:
                    start = qa["answers"][0]["answer_start"]
                    holding = [i for i, (begin, end) in enumerate(paragraph["sentence_breaks"]) if begin <= start < end]
                    assert len(holding) == 1, f"the answer of {qa['id']} lies in {len(holding)} sentences"
                    ids[-1].append(qa["id"])
                    answers[-1].append(len(passages) + holding[0])
                    queries.append(qa["question"])
                    clusters.append(cluster)
                for i, sentence in enumerate(paragraph["sentences"]):
                    passages.append(sentence)
                    passage_ids.append(f"{language}:{a}.{n}.{i}")
                    language_P.append(number)
    assert all(own == ids[0] for own in ids), "XQuAD-R has the same questions in all languages"
    assert len(set(ids[0])) == len(ids[0]), "a question id comes twice"
    ordered = np.array(language_P)
    return World(sorted(languages), ids[0], clusters, queries, passages, passage_ids, ordered, np.array(answers).T)


# Embeddings


def encode(model: Path, world: World) -> tuple[np.ndarray, np.ndarray]:
    """By sentence-transformers, [Q, D] and [P, D]."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model), device="cpu")
    prompts = {side: side if side in encoder.prompts else None for side in ("query", "passage")}
    texts = {"query": world.queries, "passage": world.passages}
    found = [encoder.encode(texts[x], prompt_name=prompts[x], show_progress_bar=False) for x in ("query", "passage")]
    return found[0], found[1]


def embed(folder: Path, world: World, model: Path, grid: int = GRID) -> None:
    """Writes embeddings for jobs/evaluate.py, rounded to multiples of 1 / `grid`; a coarse one makes many ties."""
    folder.mkdir(parents=True)
    names = (world.query_ids, world.passage_ids)
    for side, values, ids in zip(("queries", "passages"), encode(model, world), names, strict=True):
        np.save(folder / f"{side}.npy", (np.round(values.astype(np.float64) * grid) / grid).astype(np.float32))
        (folder / f"{side}.ids.txt").write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")


def embeddings(model: Path, world: World) -> tuple[np.ndarray, np.ndarray, bool]:
    """[Q, D], [P, D], and whether dot products of them are exact."""
    if not (model / "queries.npy").exists():
        return *encode(model, world), False
    found = []
    for side, ids in (("queries", world.query_ids), ("passages", world.passage_ids)):
        row = {one: n for n, one in enumerate((model / f"{side}.ids.txt").read_text("utf-8").splitlines())}
        found.append(np.load(model / f"{side}.npy", allow_pickle=False)[[row[one] for one in ids]])
        assert (found[-1] * GRID % 1 == 0).all(), f"the {side} in {model} are not those of --embed"
        assert np.linalg.norm(found[-1], axis=1).max() < 2, f"the {side} in {model} are too long for exact products"
    return found[0], found[1], True


# The ranking


@dataclass
class Ranks:
    """Ranks from 1; ties go to the passage that comes first."""

    pooled_LGL: np.ndarray  # of the answers among all passages: query language, question, answer language
    own_LGL: np.ndarray  # among the passages of their language
    score_LGL: np.ndarray
    top_LGK: np.ndarray  # positions of the best among all
    top_score_LGK: np.ndarray
    answer_NLD: np.ndarray  # unit vectors of the first different sets of answers; zeros stay zeros


def rank(query_QD: np.ndarray, passage_PD: np.ndarray, world: World) -> Ranks:
    """Sorts all passages for every query, and looks up where the answers stand."""
    n_languages, n_questions = len(world.languages), len(world.question_ids)
    shape = (n_languages, n_questions, n_languages)
    depth = min(DEPTH, len(passage_PD))
    pooled, own, score = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape)
    top, top_score = np.zeros((*shape[:2], depth), int), np.zeros((*shape[:2], depth))
    bounds = np.searchsorted(world.language_P, np.arange(n_languages + 1))
    query_LGD = query_QD.astype(np.float64).reshape(n_languages, n_questions, -1)
    for x in range(n_languages):
        score_GP = query_LGD[x] @ passage_PD.astype(np.float64).T
        for g, (score_P, answer_L) in enumerate(zip(score_GP, world.answer_GL, strict=True)):
            order_P, rank_P = positions(score_P)
            pooled[x, g], score[x, g] = rank_P[answer_L], score_P[answer_L]
            top[x, g], top_score[x, g] = order_P[:depth], score_P[order_P[:depth]]
            for y, (first, end) in enumerate(itertools.pairwise(bounds)):
                own[x, g, y] = positions(score_P[first:end])[1][answer_L[y] - first]
    sets = list(dict.fromkeys(map(tuple, world.answer_GL.tolist())))[:SETS]
    answer_NLD = passage_PD.astype(np.float64)[np.array(sets)]
    length_NL1 = np.linalg.norm(answer_NLD, axis=-1, keepdims=True)
    return Ranks(pooled, own, score, top, top_score, answer_NLD / np.where(length_NL1, length_NL1, 1))


def positions(score_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The passages in order, and the rank of each."""
    order = np.argsort(-score_P, kind="stable")
    rank_P = np.empty(len(order), int)
    rank_P[order] = np.arange(1, len(order) + 1)
    return order, rank_P


# The measures


def measures(ranks_R: np.ndarray) -> dict[str, np.ndarray]:
    """Of ranks [..., R] of the answers of a query."""
    ordered = np.sort(ranks_R, axis=-1)
    n = ordered.shape[-1]
    place = np.arange(1, n + 1)
    best = ordered[..., 0]
    gain = np.where(ordered <= 10, 1 / np.log2(1 + ordered), 0).sum(-1)
    return {
        "mAP": (place / ordered).sum(-1) / n,
        **{f"R@{k}": (ordered <= k).sum(-1) / n for k in (1, 10, 100)},
        **{f"success@{k}": (best <= k) * 1.0 for k in (1, 10)},
        "nDCG@10": gain / (1 / np.log2(1 + place[:10])).sum(),
        "RR@10": np.where(best <= 10, 1 / best, 0),
    }


@dataclass
class Setting:
    """Values of every measure [S, G], and the languages of query and passage ("" for all) of each stratum."""

    strata: list[tuple[str, str]]
    values: dict[str, np.ndarray]

    def mean(self, query: str = "", passage: str = "") -> dict[str, float]:
        """Over the queries of each stratum, then over strata."""
        rows = self.rows(query, passage)
        return {name: float(values[rows].mean(1).mean()) for name, values in self.values.items()}

    def rows(self, query: str, passage: str) -> list[int]:
        return [n for n, (x, y) in enumerate(self.strata) if query in ("", x) and passage in ("", y)]


def settings(ranks: Ranks, world: World) -> dict[str, Setting]:
    n_languages = len(world.languages)
    pairs = list(itertools.product(range(n_languages), repeat=2))
    chosen = {"monolingual": [p for p in pairs if p[0] == p[1]], "crosslingual": [p for p in pairs if p[0] != p[1]]}
    found = {}
    for name, ends in chosen.items():
        values = measures(np.stack([ranks.own_LGL[x, :, y] for x, y in ends])[..., None])
        found[name] = Setting([(world.languages[x], world.languages[y]) for x, y in ends], values)
    pooled = ranks.pooled_LGL
    low, high, n = pooled.min(-1), pooled.max(-1), n_languages
    distances = {
        "rank_distance": (high - low) * 1.0,
        "rank_distance_share": (high - low - (n - 1)) / (len(world.passages) - n),
        "rank_distance_log2": np.log2(high / low),
    }
    found["multilingual"] = Setting([(x, "") for x in world.languages], measures(pooled) | distances)
    return found


# Intervals and tests, over clusters


def student_cdf(x: float, freedom: int) -> float:
    """By Gauss-Legendre quadrature of the density between 0 and x."""
    node, weight = np.polynomial.legendre.leggauss(200)
    at = x * (node + 1) / 2
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    return 0.5 + x / 2 * scale * float(weight @ (1 + at**2 / freedom) ** (-(freedom + 1) / 2))


def student_quantile(p: float, freedom: int) -> float:
    low, high = -100.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def chi2_tail(x: float, freedom: int) -> float:
    """1 - the distribution function, by Q(a + 1, z) = Q(a, z) + z^a e^-z / Gamma(a + 1) with z = x / 2."""
    z, a = x / 2, 0.5 if freedom % 2 else 1.0
    tail = math.erfc(math.sqrt(z)) if freedom % 2 else math.exp(-z)
    while a < freedom / 2:
        tail += math.exp(a * math.log(z) - z - math.lgamma(a + 1)) if z else 0.0
        a += 1
    return tail


class Clusters:
    """Resamples of the clusters, and random signs for them; the same for every column of values."""

    def __init__(self, names: list[str]) -> None:
        self.units, self.unit_G = np.unique(names, return_inverse=True)
        self.size_C = np.bincount(self.unit_G)
        n = len(self.units)
        drawn = np.random.default_rng(0).integers(n, size=(2000, n))
        self.drawn_BC = np.stack([np.bincount(row, minlength=n) for row in drawn])
        self.sign_BC = np.random.default_rng(0).integers(0, 2, size=(10_000, n), dtype=np.int8) * 2 - 1
        self.wider = math.sqrt(n / (n - 1))
        self.tail = NormalDist().cdf(student_quantile(0.025, n - 1) * self.wider)
        self.power = student_quantile(0.975, n - 1) + student_quantile(0.8, n - 1)

    def sums(self, values_SG: np.ndarray) -> np.ndarray:
        """[C]: sums by cluster of the mean over strata; all strata have the same questions."""
        return np.bincount(self.unit_G, weights=values_SG.mean(axis=0), minlength=len(self.units))

    def resampled(self, values_SG: np.ndarray) -> np.ndarray:
        return self.drawn_BC @ self.sums(values_SG) / (self.drawn_BC @ self.size_C)

    def interval(self, values_SG: np.ndarray) -> list[float]:
        return np.quantile(self.resampled(values_SG), [self.tail, 1 - self.tail]).tolist()

    def p_value(self, change_SG: np.ndarray) -> float:
        sums_C = self.sums(change_SG)
        seen = abs(sums_C.sum()) - 1e-12 * np.abs(sums_C).sum()
        return (int((np.abs(self.sign_BC @ sums_C) >= seen).sum()) + 1) / 10_001

    def detectable(self, change_SG: np.ndarray) -> float:
        return self.power * self.wider * float(np.std(self.resampled(change_SG), ddof=1))


def holm(p_values: list[float]) -> list[float]:
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for place, n in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        so_far = max(so_far, min(1.0, (len(p_values) - place) * p_values[n]))
        adjusted[n] = so_far
    return adjusted


def compare(names: tuple[str, str], first: dict[str, Setting], second: dict[str, Setting], clusters: Clusters) -> list:
    found = []
    for setting, own in first.items():
        columns = [(name, "", "") for name in COMPARED if name in own.values]
        columns += [("mAP", *stratum) for stratum in own.strata]
        rows = []
        for measure, x, y in columns:
            chosen = own.rows(x, y)
            values, baseline = (one.values[measure][chosen] for one in (own, second[setting]))
            change = values - baseline
            rows.append(
                {
                    "system": names[0],
                    "baseline": names[1],
                    "setting": setting,
                    "language": f"{x}-{y}" if setting == "crosslingual" and x else x,
                    "measure": measure,
                    "value": values.mean(),
                    "baseline_value": baseline.mean(),
                    "difference": change.mean(),
                    "interval": clusters.interval(change),
                    "p": clusters.p_value(change),
                    "p_holm": None,
                    "detectable": clusters.detectable(change),
                    "seeds": 1,
                    "over": "clusters",
                }
            )
        by_language = [row for row in rows if row["language"]]
        for row, p in zip(by_language, holm([row["p"] for row in by_language]), strict=True):
            row["p_holm"] = p if len(by_language) * 2.0 ** (1 - len(clusters.units)) <= 0.05 else None
        found += rows
    return found


# Language bias


def bias(ranks: Ranks, by_setting: dict[str, Setting], world: World) -> dict[str, Any]:
    names, n = world.languages, len(world.languages)
    pooled, score = ranks.pooled_LGL, ranks.score_LGL
    same_LL = np.eye(n, dtype=bool)
    diagonal = np.arange(n)

    def named(values_L: np.ndarray) -> dict[str, float]:
        return dict(zip(names, values_L.tolist(), strict=True))

    def shares(chosen: np.ndarray) -> list[float]:
        below = np.array([0, *((chosen <= bound).sum() for bound in BOUNDS), chosen.size])
        return (np.diff(below) / chosen.size).tolist()

    def by_language(value_LG: np.ndarray) -> dict[str, Any]:
        mean_L = value_LG.mean(axis=1)
        return {"mean": mean_L.mean(), "per_language": named(mean_L)}

    answers_LLG = pooled.transpose(0, 2, 1)
    first_LG = pooled[diagonal, :, diagonal] == pooled.min(axis=2)
    own_LG = score[diagonal, :, diagonal]
    margin_LG = own_LG - (score.sum(axis=2) - own_LG) / (n - 1)
    top_LGK = ranks.top_LGK[:, :, :TOP]
    found_LK = world.language_P[top_LGK].reshape(n, -1)
    share_LL = np.stack([(found_LK == x).mean(axis=1) for x in range(n)], axis=1)
    corpus_L = np.array([(world.language_P == x).mean() for x in range(n)])
    kl = np.where(share_LL > 0, share_LL * np.log2(np.where(share_LL > 0, share_LL, 1) / corpus_L), 0).sum(axis=1)
    agreement = {
        f"{names[i]}-{names[j]}": overlap(ranks.top_LGK[i], ranks.top_LGK[j])
        for i, j in itertools.combinations(range(n), 2)
    }
    extremes = {}
    for setting, own in by_setting.items():
        mean_S = own.values["mAP"].mean(axis=1)
        labels = ["-".join(pair) if setting == "crosslingual" else pair[0] for pair in own.strata]
        low, high = int(mean_S.argmin()), int(mean_S.argmax())
        extremes[setting] = {
            "min": [labels[low], mean_S[low]],
            "max": [labels[high], mean_S[high]],
            "ratio": mean_S[low] / mean_S[high],
        }
    return {
        "rank_distance_by_answers": {
            str(n): {"n": pooled[..., 0].size, "rank_distance": np.ptp(pooled, axis=2).mean()}
        },
        "rank_distribution": {
            "upper": [*BOUNDS, None],
            "same": shares(answers_LLG[same_LL]),
            "other": shares(answers_LLG[~same_LL]),
        },
        "top_k_languages": {
            "k": TOP,
            "by_query_language": {x: named(share_L) for x, share_L in zip(names, share_LL, strict=True)},
            "corpus": named(corpus_L),
            "kl": kl.mean(),
        },
        "preference_rate": by_language(first_LG),
        "friedman": {x: friedman(pooled[i], names) for i, x in enumerate(names)},
        "rank_correlation": {"mean": np.mean(list(agreement.values())), "per_pair": agreement},
        "score_margin": by_language(margin_LG),
        "min_max": extremes,
        **{name: {"mean": value} for name, value in alignment(ranks.answer_NLD).items()},
        "hubness": {"mean": skewness(np.bincount(top_LGK.ravel(), minlength=len(world.passages)))},
    }


def alignment(answer_NLD: np.ndarray) -> dict[str, float]:
    """How near translations are, and whether the language can be told by the mean vectors of the other half."""
    n, there_NL = answer_NLD.shape[1], answer_NLD.any(axis=-1)
    margins, first, told = [], [], []
    for x, y in itertools.permutations(range(n), 2):
        both = there_NL[:, x] & there_NL[:, y]
        cosine_NN = answer_NLD[both, x] @ answer_NLD[both, y].T
        same = np.eye(len(cosine_NN), dtype=bool)
        margins.append(cosine_NN[same].mean() - cosine_NN[~same].mean())
        first.append((cosine_NN[same] > np.where(same, -2, cosine_NN).max(axis=1) + 1e-9).mean())
    for half in (0, 1):
        own_NLD, other_NLD = answer_NLD[half::2], answer_NLD[1 - half :: 2]
        means_LD = np.stack([other_NLD[there_NL[1 - half :: 2, x], x].mean(axis=0) for x in range(n)])
        nearest_NL = np.linalg.norm(own_NLD[:, :, None] - means_LD, axis=-1).argmin(axis=-1)
        told += [(nearest_NL[there_NL[half::2, x], x] == x).mean() for x in range(n)]
    return {"translation_margin": np.mean(margins), "bitext_precision": np.mean(first), "language_told": np.mean(told)}


def skewness(count: np.ndarray) -> float:
    apart = count - count.mean()
    return float((apart**3).mean() / (apart**2).mean() ** 1.5)


def friedman(pooled_GL: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Without ties: two passages never have one rank."""
    n, k = pooled_GL.shape
    within = np.argsort(np.argsort(pooled_GL, axis=1), axis=1) + 1
    chi2 = 12 / (n * k * (k + 1)) * float((within.sum(axis=0) ** 2.0).sum()) - 3 * n * (k + 1)
    mean_rank = dict(zip(names, within.mean(axis=0), strict=True))
    return {"chi2": chi2, "p": chi2_tail(chi2, k - 1), "w": chi2 / (n * (k - 1)), "n": n, "mean_rank": mean_rank}


def overlap(first_GK: np.ndarray, second_GK: np.ndarray, p: float = 0.9) -> float:
    """Rank-biased overlap: a passage at places i and j of the two lists is shared from depth max(i, j) on."""
    depth = first_GK.shape[1]
    question, i, j = np.nonzero(first_GK[:, :, None] == second_GK[:, None, :])
    new_GK = np.zeros(first_GK.shape)
    np.add.at(new_GK, (question, np.maximum(i, j)), 1)
    agreement_GK = new_GK.cumsum(axis=1) / np.arange(1, depth + 1)
    value_G = (1 - p) * agreement_GK @ p ** np.arange(depth) + agreement_GK[:, -1] * p**depth
    return float(value_G.mean())


# The results


def system(ranks: Ranks, by_setting: dict[str, Setting], clusters: Clusters, world: World) -> dict[str, Any]:
    n_queries = {"monolingual": len(world.queries), "multilingual": len(world.queries)}
    n_queries["crosslingual"] = len(world.queries) * (len(world.languages) - 1)
    counts = {x: {"n_queries": n_queries[x], "excluded": 0, "n_clusters": len(clusters.units)} for x in SETTINGS}
    pairs = [(own, x, y) for own in by_setting.values() for x, y in own.strata if y]
    return {
        "languages": world.languages,
        **{name: by_setting[name].mean() | counts[name] for name in SETTINGS},
        "per_language": {x: {name: own.mean(x) for name, own in by_setting.items()} for x in world.languages},
        "per_pair": {f"{x}-{y}": own.mean(x, y) for own, x, y in pairs},
        "seeds": 1,
        "intervals": {
            name: {measure: {"interval": clusters.interval(values)} for measure, values in own.values.items()}
            for name, own in by_setting.items()
        },
        "language_intervals": {
            x: {n: {"mAP": clusters.interval(own.values["mAP"][own.rows(x, "")])} for n, own in by_setting.items()}
            for x in world.languages
        },
        "bias": bias(ranks, by_setting, world),
    }


def examples(ranked: list[Ranks], maps: list[np.ndarray], names: list[str], world: World) -> list[dict[str, Any]]:
    """The queries of each language with the largest gain and loss against the untrained (or the second) system."""
    other = names.index("untrained") if "untrained" in names else len(names) - 1 and 1
    ranks, before = ranked[0], ranked[other]
    gain_LG = maps[0] - maps[other] if other else maps[0]
    chosen = []
    for x in sorted(range(len(world.languages)), key=world.languages.__getitem__)[:EXAMPLE_LANGUAGES]:
        best = len(world.question_ids) - 1 - int(np.argmax(gain_LG[x, ::-1]))  # of equal ones, the last
        chosen += [(x, best), (x, int(np.argmin(gain_LG[x])))]
    found = []
    for x, g in dict.fromkeys(chosen):
        old = before.pooled_LGL[x, g].tolist() if other else [None] * len(world.languages)
        answers = zip(world.languages, ranks.pooled_LGL[x, g].tolist(), old, world.answer_GL[g], strict=True)
        retrieved = zip(ranks.top_LGK[x, g, :SHOWN], ranks.top_score_LGK[x, g], strict=False)
        gained = {"AP": maps[0][x, g], "gain": gain_LG[x, g], "against": names[other]} if other else {}
        found.append(
            {
                "query_id": f"{world.languages[x]}:{world.question_ids[g]}",
                "language": world.languages[x],
                "text": world.queries[x * len(world.question_ids) + g],
                "cluster": world.clusters[g],
                "answers": [
                    {"language": y, "rank": n, "before": was, "text": world.passages[place]}
                    for y, n, was, place in answers
                ],
                "retrieved": [
                    {
                        "rank": n,
                        "language": world.languages[world.language_P[place]],
                        "text": world.passages[place],
                        "score": score,
                        "relevant": bool((world.answer_GL[g] == place).any()),
                    }
                    for n, (place, score) in enumerate(retrieved, start=1)
                ],
                **gained,
            }
        )
    return found


@dataclass
class Agreement:
    """What a comparison of numbers found."""

    tolerance: float
    numbers: int = 0
    close: int = 0  # of them, to 1e-6
    largest: tuple[float, str] = (0.0, "")
    failures: list[str] = field(default_factory=list)

    def compare(self, found: Any, expected: Any, key: str = "") -> None:
        """Walks both trees, in the order of `found`; whatever is in only one of them is a failure."""
        if key in LEFT_OUT:
            return
        if isinstance(found, dict):
            known = expected if isinstance(expected, dict) else {}
            for name, value in found.items():
                self.compare(value, known.get(name, ...), f"{key}.{name}" if key else name)
            self.failures += [f"missing: {key}.{name}" for name in known if name not in found]
        elif isinstance(found, list):
            known = expected if isinstance(expected, list) else []
            for n, value in enumerate(found):
                self.compare(value, known[n] if n < len(known) else ..., f"{key}[{n}]")
            self.failures += [f"missing: {key}[{n}]" for n in range(len(found), len(known))]
        elif isinstance(found, str):
            if expected is not ... and found != expected:
                self.failures.append(f"{key}: {found!r}, recomputed {expected!r}")
        elif expected is ...:
            self.failures.append(f"not recomputed: {key}")
        elif found is None or expected is None:
            if found is not expected:
                self.failures.append(f"{key}: {found!r}, recomputed {expected!r}")
        else:
            self._number(float(found), float(expected), key)

    def _number(self, found: float, expected: float, key: str) -> None:
        off = abs(found - expected) / max(SMALL, abs(expected))
        self.numbers += 1
        self.close += off <= TOLERANCE
        self.largest = max(self.largest, (off, key))
        if not off <= self.tolerance:
            self.failures.append(f"{key}: {found!r}, recomputed {expected!r}")


def recompute(folder: Path, xquad_r: Path, models: list[Path]) -> Agreement:
    """Compares `results.json` in `folder` with what the raw files and the models give."""
    results = json.loads((folder / "results.json").read_text("utf-8"))
    world = read(xquad_r, results["languages"], results["provenance"]["config"]["benchmark"]["split"] or "all")
    clusters = Clusters(world.clusters)
    names = [results["encoder"], *results["systems"]]
    assert len(names) == len(models), f"name a model for each of {', '.join(names)}"
    exact, ranked, by_system = True, [], []
    for model in models:
        query_QD, passage_PD, grid = embeddings(model, world)
        exact &= grid
        ranked.append(rank(query_QD, passage_PD, world))
        by_system.append(settings(ranked[-1], world))
    systems = [system(ranks, own, clusters, world) for ranks, own in zip(ranked, by_system, strict=True)]
    expected = systems[0] | {
        "systems": dict(zip(names[1:], systems[1:], strict=True)),
        "comparisons": [
            row
            for name, own in zip(names[1:], by_system[1:], strict=True)
            for row in compare((names[0], name), by_system[0], own, clusters)
        ],
        "examples": examples(ranked, [own["multilingual"].values["mAP"] for own in by_system], names, world),
        "provenance": {"sizes": {"queries": len(world.queries), "passages": len(world.passages)}},
    }
    if not exact:
        del results["examples"], expected["examples"]
    agreement = Agreement(TOLERANCE if exact else LOOSE)
    agreement.compare(results, expected)
    return agreement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embed", action="store_true")
    parser.add_argument("folder", type=Path)
    parser.add_argument("xquad_r", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("others", nargs="*", help="baselines; with --embed languages, all when omitted")
    asked = parser.parse_args()
    if asked.embed:
        languages = asked.others or [file.stem for file in asked.xquad_r.glob("*.json")]
        embed(asked.folder, read(asked.xquad_r, languages, "all"), asked.model)
        return
    agreement = recompute(asked.folder, asked.xquad_r, [asked.model, *map(Path, asked.others)])
    print(*agreement.failures, sep="\n", end="\n" if agreement.failures else "")
    print(f"{agreement.numbers:,} numbers, {agreement.close:,} of them agree to 1e-6")
    print("the largest deviation is {:.1e}, of {}".format(*agreement.largest))
    sys.exit(bool(agreement.failures))


if __name__ == "__main__":
    main()
