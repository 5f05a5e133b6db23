"""Claims about arms, and their verdicts.

A claim is a list of differences (parts). It holds if all its parts hold; this needs no correction for their number
(intersection-union test: Berger 1982, Technometrics 24). It does not hold if one part does not; with many parts, that
happens by chance a little more often than with one. Each part is judged by its 95 % interval, against a margin below
which a difference does not matter (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15; Piaggio et al.
2012, JAMA 308). Verdicts are not corrected for the number of claims, except where a study asks for it (`corrected`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hybridir.evaluation.intervals import LEVEL, SeedInterval, holm
from hybridir.evaluation.metrics import MEASURES

Relation = Literal["better", "not worse", "equal"]
Languages = Literal["all", "trained", "zero-shot"]
Weights = Mapping[str, float]
"""Weights of conditions by name ("" is the plain benchmark): a query counts with the weighted sum of its values."""
PLAIN: Weights = {"": 1.0}
Verdict = Literal["holds", "does not hold", "undecided", "not tested"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One difference of a claim, for example: `arm` is "better" (the `relation`) than `baseline`.

    Only queries in `languages` count: all, those that were trained on, or those that were not ("zero-shot").

    `conditions` say what is compared: the plain benchmark; one condition, {name: 1}; what is lost under it,
    {name: 1, "": -1} ("better" is a smaller loss); a mean or an area over several. `baseline_conditions`, if given,
    are those of the baseline, which then may be the arm itself: two conditions of one model. `ValueError` without a
    weight above 0.
    """

    arm: str
    baseline: str
    setting: str
    relation: Relation
    measure: str = "mAP"
    languages: Languages = "all"
    conditions: Weights = field(default_factory=lambda: PLAIN)
    baseline_conditions: Weights | None = None

    def __post_init__(self) -> None:
        for weights in (self.conditions, self.of_baseline):
            if not any(weight > 0 for weight in weights.values()):
                raise ValueError(f"the conditions of a claim are {dict(weights)}: one must have a weight above 0")

    @property
    def of_baseline(self) -> Weights:
        """The conditions of the baseline."""
        return self.conditions if self.baseline_conditions is None else self.baseline_conditions


def described(weights: Weights) -> str:
    """The conditions in words, such as "delete one - plain"; "" for the plain benchmark alone."""
    if weights == PLAIN:
        return ""
    parts = []
    for name, weight in weights.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):g} x "
        parts.append(f"{'-' if weight < 0 else '+'} {size}{name or 'plain'}")
    return " ".join(parts).removeprefix("+ ")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim in words, its source (a key of the study's `sources`), and its differences."""

    id: str
    text: str
    source: str
    parts: tuple[Part, ...]


def judge(part: Part, found: SeedInterval, margin: float) -> Verdict:
    """The verdict on one difference from its interval; `margin` is above 0, in units of the measure.

    For measures where lower is better, the signs are turned first. "better" holds if the whole interval is above 0, and
    does not hold if it is all below 0. "not worse" holds if the interval is all above -margin, and does not hold if it
    is all below. "equal" holds if the interval is all within -margin and margin, and does not hold if it is all beyond
    one of them. Otherwise the difference is undecided.
    """
    low, high = found.low, found.high
    if MEASURES[part.measure].lower_is_better:
        low, high = -high, -low
    if part.relation == "equal":
        return "holds" if -margin < low and high < margin else _not(low > margin or high < -margin)
    if part.relation == "better":
        return "holds" if low > 0 else _not(high < 0)
    return "holds" if low > -margin else _not(high < -margin)


def corrected(claims: Sequence[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    """The claims of `results.json`, those with the source `family` corrected for their number (Holm).

    Each gets `p_holm`, from the largest p of its parts. It stays undecided unless that is at most .05, whatever its
    interval says. Claims that were not tested do not count.
    """
    tested = [n for n, claim in enumerate(claims) if claim["source"] == family and claim["verdict"] != "not tested"]
    found = [dict(claim) for claim in claims]
    p_values = np.array([max(part["p"] for part in claims[n]["parts"]) for n in tested])
    for n, p in zip(tested, holm(p_values).tolist(), strict=True):
        found[n]["p_holm"] = p
        if p > 1 - LEVEL:
            found[n]["verdict"] = "undecided"
    return found


def verdict(parts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim.

    "not tested" if any part is not tested; else "does not hold" if any part does not hold; else "undecided" if any part
    is undecided; else "holds".
    """
    if not parts or "not tested" in parts:
        return "not tested"
    return "does not hold" if "does not hold" in parts else "undecided" if "undecided" in parts else "holds"


def _not(excluded: bool) -> Verdict:
    return "does not hold" if excluded else "undecided"
