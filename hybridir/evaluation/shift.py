"""Domain shift: the same questions, asked to models that have seen their domain in training and to one that has not.

Every model of a method is trained on all domains but one. For a question of domain d, out of domain is the model that
was trained without d, and in domain the mean over the other models. So both are paired, question by question.

Shapes: N rows of `Scores`, F folds (one a left-out domain), M models.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.intervals import macro_mean
from hybridir.evaluation.scores import Scores, join

OUT = "out of domain"
"""The condition of a question whose domain the model was trained without; in domain is the plain benchmark."""
FEWEST_MODELS, LEAST_R2 = 8, 0.8


def domains_of(scores: Scores, benchmark: Benchmark) -> np.ndarray:
    """str [N]: the domain of the question of each row."""
    domain = {query.query_id: query.domain for query in benchmark.queries}
    return np.array([domain[name] for name in scores.rows["query_id"].tolist()])


def in_and_out(without: Mapping[str, Scores], benchmark: Benchmark) -> Scores:
    """The scores of a method in domain, and under the condition `OUT`, from those trained `without` each domain.

    Rows of questions of other domains are left out. Other conditions become `OUT, CONDITION` out of domain.
    `ValueError` with fewer than two domains, or if none of the questions is of one.
    """
    if len(without) < 2:
        raise ValueError(f"in and out of domain need 2 domains or more, but there is {', '.join(without) or 'none'}")
    first = next(iter(without.values()))
    domain_N = domains_of(first, benchmark)
    chosen_N = np.isin(domain_N, list(without))
    if not chosen_N.any():
        raise ValueError(f"no question is of a domain that was left out: {', '.join(without)}")
    fold_N = np.array([list(without).index(name) for name in domain_N[chosen_N]])
    places, shared = (
        np.arange(len(fold_N)),
        [m for m in first.values if all(m in one.values for one in without.values())],
    )
    own: dict[str, np.ndarray] = {}
    others: dict[str, np.ndarray] = {}
    for measure in shared:
        all_FKN = np.stack([one.values[measure][:, chosen_N] for one in without.values()])
        own[measure] = all_FKN[fold_N, :, places].T
        others[measure] = (all_FKN.sum(axis=0) - own[measure]) / (len(without) - 1)
    rows = {name: values[chosen_N] for name, values in first.rows.items()}
    condition = rows["condition"]
    outside = np.where(condition == "", OUT, np.char.add(f"{OUT}, ", condition))
    return join([Scores(rows, others), Scores(rows | {"condition": outside}, own)])


class Robustness(NamedTuple):
    """Effective robustness: how much better a model is out of domain than its value in domain predicts.

    In units of the logit; `value` is None if the baselines do not lie near a line, or if there are too few of them.
    `slope` and `r2` are those of the line; None without one.
    """

    value: float | None
    slope: float | None
    r2: float | None


def effective_robustness(baselines: Sequence[tuple[float, float]], own: tuple[float, float]) -> Robustness:
    """logit(out) - f(logit(in)) of a model; f is the line through the `baselines`, (in, out) of a model each.

    Taori et al. 2020 (Measuring robustness to natural distribution shifts, NeurIPS 33), with the line fitted to
    baselines alone. Omitted with fewer than `FEWEST_MODELS` of them, if R^2 is below `LEAST_R2`, or if a value is not
    between 0 and 1.
    """
    if len(baselines) < FEWEST_MODELS or not all(0 < value < 1 for pair in (*baselines, own) for value in pair):
        return Robustness(None, None, None)
    inside_M, outside_M = _logit(np.array(baselines)).T
    slope, intercept = np.polyfit(inside_M, outside_M, 1)
    r2 = float(np.corrcoef(inside_M, outside_M)[0, 1] ** 2)
    inside, outside = _logit(np.array(own))
    value = float(outside - slope * inside - intercept)
    return Robustness(value if r2 >= LEAST_R2 else None, float(slope), r2)


def beyond_the_line(baselines: Sequence[Scores], own: Scores, measure: str) -> Scores:
    """Values whose macro-mean is the effective robustness of a method, for intervals by the delta method.

    All arguments are of `in_and_out`, of one seed. The column `R2` has that of the line; where effective robustness is
    omitted, the values are NaN.
    """
    inside, outside = own.under(""), own.under(OUT)
    size = len(inside.rows["setting"])
    found = {measure: np.full((1, size), np.nan), "R2": np.full((1, size), np.nan)}
    for setting in np.unique(inside.rows["setting"]):
        of = inside.rows["setting"] == setting
        models = [tuple(_mean(one, measure, setting, x) for x in ("", OUT)) for one in (*baselines, own)]
        line = effective_robustness(models[:-1], models[-1])  # type: ignore[arg-type]
        found["R2"][0, of] = np.nan if line.r2 is None else line.r2
        if line.value is not None and line.slope is not None:
            parts = [
                (one.values[measure][0, of] - mean) / (mean * (1 - mean))
                for one, mean in zip((outside, inside), models[-1][::-1], strict=True)
            ]
            found[measure][0, of] = parts[0] - line.slope * parts[1] + line.value
    return Scores(inside.rows, found)


def _mean(of: Scores, measure: str, setting: str, condition: str) -> float:
    column = of.column(measure, setting, condition=condition)
    return macro_mean(column.values_KN.mean(axis=0), column.strata)


def _logit(values: np.ndarray) -> np.ndarray:
    return np.log(values) - np.log1p(-values)
