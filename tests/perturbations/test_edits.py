"""Noise on letters: results derived by hand, over scripts."""

import numpy as np
import pytest

from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.perturbation import Severity, Site, choose
from hybridir.runtime.random_numbers import Uniform, uniform_numbers


def drawn(*numbers: float) -> Uniform:
    """Random numbers that are known: the first for the number of edits, the others order the sites."""
    left = list(numbers)
    return lambda n: np.array([left.pop(0) for _ in range(n)])


def delete(text: str, language: str, rng: Uniform, severity: Severity) -> str:
    return PERTURBATIONS["delete"].apply(text, language, rng, severity)


def chosen(n_sites: int, rng: Uniform, severity: Severity) -> list[int]:
    """The places of the sites that are chosen, of sites that do not overlap and have one option."""
    return [site.start for site, _ in choose([Site(n, n + 1, ("",)) for n in range(n_sites)], rng, severity)]


def test_delete_takes_the_sites_that_come_first_in_the_order_drawn() -> None:
    # 4 letters, severity 0.5: floor(0.5 * 4 + 0.9) = 2 edits, at the smallest numbers: c (0.1), then a (0.2)
    assert delete("abcd", "en", drawn(0.9, 0.2, 0.7, 0.1, 0.8), 0.5) == "bd"
    # floor(0.3 * 4 + 0.7) = 1, floor(0.3 * 4 + 0.9) = 2
    assert delete("abcd", "en", drawn(0.7, 0.2, 0.7, 0.1, 0.8), 0.3) == "abd"
    assert delete("abcd", "en", drawn(0.9, 0.2, 0.7, 0.1, 0.8), 0.3) == "bd"


@pytest.mark.parametrize(
    ("text", "numbers", "expected"),
    [
        ("हिन्दी", (0.5, 0.1), "हि"),  # 2 clusters; the second, four code points, goes as one
        ("e\u0301a", (0.1, 0.5), "a"),  # a letter goes with its accent
        ("한국", (0.5, 0.1), "한"),
        ("北京", (0.1, 0.5), "京"),
        ("In 1999?", (0.5, 0.1), "I 1999?"),  # two letters; digits, space and question mark are no sites
        ("x\u0301", (0.0,), "x\u0301"),  # the only letter stays
        ("1 + 1", (), "1 + 1"),
        ("", (), ""),
    ],
)
def test_one_edit(text: str, numbers: tuple[float, ...], expected: str) -> None:
    assert delete(text, "xx", drawn(0.99, *numbers), "one") == expected


def test_when_all_letters_would_go_the_last_of_the_order_stays() -> None:
    assert [delete(" ab ", "en", drawn(0.0, 0.4, 0.3), severity) for severity in (0.5, 1.0)] == [" a ", " a "]
    assert delete("ab1", "en", drawn(0.0, 0.4, 0.3), 1.0) == "1"


def test_severities_nest_and_are_exact_on_average() -> None:
    counts = []
    for item in range(4000):
        few, more = (chosen(7, uniform_numbers(0, 1, 0, item), severity) for severity in (0.05, 0.2))
        assert few == more[: len(few)]
        assert len(set(more)) == len(more)
        counts.append(len(few))
    assert set(counts) == {0, 1}  # 0.05 * 7 = 0.35
    assert abs(np.mean(counts) - 0.35) < 5 * np.sqrt(0.35 * 0.65 / 4000)
    sites = [chosen(7, uniform_numbers(0, 1, 0, item), "one")[0] for item in range(4000)]
    assert np.abs(np.bincount(sites) / 4000 - 1 / 7).max() < 5 * np.sqrt(6 / 49 / 4000)


@pytest.mark.parametrize("severity", [-0.1, 1.5, float("nan")])
def test_a_severity_that_is_no_share_is_refused(severity: float) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 1, or one"):
        delete("abc", "en", uniform_numbers(0, 1, 0), severity)


def test_streams_steps_and_items_are_different_numbers() -> None:
    first = {float(uniform_numbers(s, v, t, i)(1)[0]) for s in (0, 1) for v in (0, 1) for t in (0, 1) for i in (0, 1)}
    assert len(first) == 16
    assert uniform_numbers(1, 2, 3, 4)(3).tolist() == uniform_numbers(1, 2, 3, 4)(3).tolist()
