"""A black-box attack: queries are edited until they fail, by scores alone; and a random baseline of the same budget.

An edit leaves a letter out, swaps two, or replaces one (by a neighbouring key, or any). In each round, edited texts are
made of every query that still succeeds, all are embedded at once, and the worst of each query are kept (beam search).
As in Morris et al. 2020 (TextAttack, EMNLP demos), without constraints on meaning: the budget keeps edits few.

The baseline makes as many edits at random: once, or taking the worst of m such texts, with m the number of texts that
the attack embedded for the query. What the attack does beyond the worst of m is the gain by search.

Shapes: T texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.perturbation import edit
from hybridir.runtime.random_numbers import Uniform, uniform_numbers

EDITS = ("delete", "swap", "keyboard", "input_method", "substitute")
"""The kinds of noise whose single edits an attack chooses from, where they apply."""
_SEARCH, _CHANCE = 1, 2
"""Streams of random numbers."""


class Judged(NamedTuple):
    """How well texts do as queries, [T]: best score of a relevant passage minus that of any other, and RR@10."""

    margin: np.ndarray
    rr: np.ndarray


Judge = Callable[[Sequence[int], Sequence[str]], Judged]
"""(numbers of the queries, texts asked in their place) -> how well each is answered. All are embedded at once."""


class Asked(NamedTuple):
    """A query before any edit: its text, and its language."""

    text: str
    language: str


@dataclass
class Attacked:
    """A text for each query, how well it is answered, and how many texts were embedded to find it."""

    texts: list[str]
    margin: np.ndarray
    rr: np.ndarray
    calls: np.ndarray = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Search:
    """How an attack searches.

    Args:
        edits: the number of edits that each query may get.
        candidates: edited texts that are tried for each text of the beam, in each round.
        beam: texts that are kept for each query from round to round.
        stop: edit a query no further once it is beaten. If false, all edits are spent on every query, as at random:
            only then can RR@10 be compared.
        seed: of the choice of candidates.
    """

    edits: int = 1
    candidates: int = 48
    beam: int = 1
    stop: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("edits", "candidates", "beam"):
            if getattr(self, name) < 1:
                raise ValueError(f"attack.{name} is {getattr(self, name)}: it must be at least 1")


def attack(queries: Sequence[Asked], plain: Judged, judge: Judge, search: Search) -> Attacked:
    """The worst text that the search finds for each query with a relevant passage first; other queries stay unedited.

    A query is beaten when no relevant passage is first any more; with `search.stop` it is then edited no further.
    """
    best = Attacked([q.text for q in queries], plain.margin.copy(), plain.rr.copy(), np.zeros(len(queries), int))
    beams = {n: [queries[n].text] for n in np.flatnonzero(plain.rr == 1).tolist()}
    seen = {n: {queries[n].text} for n in beams}
    for step in range(search.edits):
        tried = []
        for n, beam in beams.items():
            rng = uniform_numbers(search.seed, _SEARCH, step, n)
            for text in beam:
                new = [one for one in _some(text, queries[n].language, search.candidates, rng) if one not in seen[n]]
                seen[n].update(new)
                tried += [(n, one) for one in new]
        beams = _keep(tried, judge, best, search)
    return best


def _keep(tried: Sequence[tuple[int, str]], judge: Judge, best: Attacked, search: Search) -> dict[int, list[str]]:
    """Judges texts, notes the worst of each query in `best`, and returns the beams of queries still to be edited."""
    if not tried:
        return {}
    found = judge([n for n, _ in tried], [text for _, text in tried])
    of: dict[int, list[int]] = {}
    for place, (n, _) in enumerate(tried):
        of.setdefault(n, []).append(place)
        best.calls[n] += 1
    beams = {}
    for n, places in of.items():
        places.sort(key=lambda place: (found.margin[place], place))
        if found.margin[places[0]] < best.margin[n]:
            best.texts[n] = tried[places[0]][1]
            best.margin[n], best.rr[n] = found.margin[places[0]], found.rr[places[0]]
        if best.rr[n] == 1 or not search.stop:
            beams[n] = [tried[place][1] for place in places[: search.beam]]
    return beams


def chance(
    queries: Sequence[Asked], plain: Judged, judge: Judge, search: Search, tries: Sequence[int] | np.ndarray
) -> Attacked:
    """For each query with a relevant passage first, the worst of `tries[n]` texts with `search.edits` random edits."""
    best = Attacked([q.text for q in queries], plain.margin.copy(), plain.rr.copy(), np.zeros(len(queries), int))
    tried = []
    for n in np.flatnonzero(plain.rr == 1).tolist():
        for number in range(int(tries[n])):
            text, rng = queries[n].text, uniform_numbers(search.seed, _CHANCE, number, n)
            for _ in range(search.edits):
                text = next(iter(_some(text, queries[n].language, 1, rng)), text)
            tried.append((n, text))
    _keep(tried, judge, best, search)
    return best


def _some(text: str, language: str, n: int, rng: Uniform) -> list[str]:
    """At most n texts with one edit: kind, place and new letter are drawn evenly, so that no kind crowds out others."""
    applying = [PERTURBATIONS[kind] for kind in EDITS if PERTURBATIONS[kind].applies(language)]
    kinds = [sites for one in applying if (sites := one.sites(text, language))]
    found: dict[str, None] = {}
    for kind, place, option in rng(3 * 4 * n).reshape(-1, 3) if kinds else ():
        sites = kinds[int(kind * len(kinds))]
        site = sites[int(place * len(sites))]
        new = edit(text, [(site, site.options[int(option * len(site.options))])])
        if new.strip() and new != text:
            found[new] = None
        if len(found) == n:
            break
    return list(found)
