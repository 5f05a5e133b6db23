"""What intervals say of claims."""

import pytest

from hybridir.evaluation.intervals import SeedInterval
from hybridir.experiments.claims import Part, corrected, judge, verdict


def found(low: float, high: float) -> SeedInterval:
    return SeedInterval((low + high) / 2, low, high, 0.5, 0.1, "clusters")


@pytest.mark.parametrize(
    ("relation", "low", "high", "expected"),
    [
        ("better", 0.001, 0.2, "holds"),
        ("better", 0.001, 0.002, "holds"),
        ("better", -0.001, 0.2, "undecided"),
        ("better", -0.001, 0.009, "undecided"),
        ("better", -0.2, -0.1, "does not hold"),
        ("not worse", -0.009, 0.2, "holds"),
        ("not worse", -0.009, -0.001, "holds"),
        ("not worse", -0.011, 0.2, "undecided"),
        ("not worse", -0.2, -0.011, "does not hold"),
        ("equal", -0.009, 0.009, "holds"),
        ("equal", -0.009, 0.011, "undecided"),
        ("equal", 0.002, 0.02, "undecided"),
        ("equal", 0.011, 0.02, "does not hold"),
        ("equal", -0.02, -0.011, "does not hold"),
    ],
)
def test_verdict_of_a_difference(relation, low, high, expected):
    part = Part(arm="a", baseline="b", setting="monolingual", relation=relation)
    assert judge(part, found(low, high), 0.01) == expected
    ranks = Part(arm="a", baseline="b", setting="multilingual", relation=relation, measure="rank_distance")
    assert judge(ranks, found(-1000 * high, -1000 * low), 10) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "does not hold", "holds"], "does not hold"),
        (["does not hold", "not tested"], "not tested"),
        ([], "not tested"),
    ],
)
def test_a_claim_is_as_its_weakest_part(parts, expected):
    assert verdict(parts) == expected


def test_a_family_is_corrected_for_its_number() -> None:
    """p of .01, .02 and .04 among three: .03, .04 and .04; of .03 among others: untouched."""

    def claim(source: str, *p_values: float, verdict: str = "holds") -> dict[str, object]:
        return {"source": source, "verdict": verdict, "parts": [{"p": p} for p in p_values]}

    given = [claim("a", 0.04), claim("a", 0.01), claim("b", 0.03), claim("a", 0.001, 0.02)]
    found = corrected([*given, claim("a", verdict="not tested")], "a")
    assert [one.get("p_holm") for one in found] == [0.04, pytest.approx(0.03), None, pytest.approx(0.04), None]
    assert [one["verdict"] for one in found] == ["holds"] * 4 + ["not tested"]
    found = corrected([claim("a", 0.04), claim("a", 0.03, verdict="does not hold")], "a")
    assert [one["verdict"] for one in found] == ["undecided"] * 2
    assert corrected(given, "") == given
