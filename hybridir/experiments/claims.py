"""Claims about arms, and what the numbers say of them.

A claim is a list of differences that must all be as it says; so for it to hold no correction for their number is needed
(intersection and union: Berger 1982, Technometrics 24). It does not hold where any of them is excluded, which of many
happens a little more often by chance than of one. Each is judged by its 95 % interval, against a margin within which
nobody would care (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15; Piaggio et al. 2012, JAMA 308).
The claims of a list are not corrected for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hybridir.evaluation.intervals import SeedInterval
from hybridir.evaluation.metrics import MEASURES

Relation = Literal["better", "not worse", "equal"]
Languages = Literal["all", "trained", "zero-shot"]
Verdict = Literal["holds", "does not hold", "undecided", "not tested"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One difference of a claim: `arm` is `relation` to (than) `baseline`.

    `languages` are those of the query: `all`, `trained` or `zero-shot`.
    """

    arm: str
    baseline: str
    setting: str
    relation: Relation
    measure: str = "mAP"
    languages: Languages = "all"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence, whose claim it is (a key of the study's `sources`), and the differences that it is about."""

    id: str
    text: str
    source: str
    parts: tuple[Part, ...]


def judge(part: Part, found: SeedInterval, margin: float) -> Verdict:
    """What an interval says of one difference; `margin` is above 0, in units of the measure.

    better: holds where the whole interval is on the better side of 0, does not hold where all of it is on the worse
    side. not worse: holds where all of it is above minus the margin, does not hold where all is below that. equal:
    holds where all of it is within the margins, does not hold where all is outside.
    """
    low, high = found.low, found.high
    if MEASURES[part.measure].lower_is_better:
        low, high = -high, -low
    if part.relation == "equal":
        return "holds" if -margin < low and high < margin else _not(low > margin or high < -margin)
    if part.relation == "better":
        return "holds" if low > 0 else _not(high < 0)
    return "holds" if low > -margin else _not(high < -margin)


def verdict(parts: Sequence[Verdict]) -> Verdict:
    """Of a claim: it holds if all its parts do, and does not if any does not."""
    if not parts or "not tested" in parts:
        return "not tested"
    return "does not hold" if "does not hold" in parts else "undecided" if "undecided" in parts else "holds"


def _not(excluded: bool) -> Verdict:
    return "does not hold" if excluded else "undecided"
