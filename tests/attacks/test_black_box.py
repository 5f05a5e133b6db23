"""The attack against exhaustive search, and what chance does with the same budget."""

from collections.abc import Sequence

import numpy as np
import pytest

from hybridir.attacks.black_box import EDITS, Asked, Judged, Search, attack, chance
from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.perturbation import edit

QUERIES = [Asked("the old town", "en"), Asked("altes Haus", "de"), Asked("xyz", "en"), Asked("北京", "zh")]


class Letters:
    """Answers a text by its letters: margin is the share of the query's own letters that are in place, less .85."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.asked: set[tuple[int, str]] = set()

    def __call__(self, numbers: Sequence[int], texts: Sequence[str]) -> Judged:
        self.calls.append(len(texts))
        self.asked |= set(zip(numbers, texts, strict=True))
        margin = np.array([value(n, text) for n, text in zip(numbers, texts, strict=True)])
        return Judged(margin, np.where(margin > 0, 1.0, 0.5))


def value(n: int, text: str) -> float:
    own = QUERIES[n].text
    if n == 2:
        return -1.0  # never answered first
    same = sum(a == b for a, b in zip(own, text, strict=False))
    weight = 0.4 if n == 1 else 0.75 if n == 0 else 0.1  # of query 1, hardly anything is needed
    return same / len(own) - weight


def all_edits(text: str, language: str) -> list[str]:
    """Every text that one edit makes, once; none is blank."""
    kinds = [PERTURBATIONS[kind] for kind in EDITS if PERTURBATIONS[kind].applies(language)]
    made = (edit(text, [(site, new)]) for one in kinds for site in one.sites(text, language) for new in site.options)
    return [one for one in dict.fromkeys(made) if one.strip() and one != text]


def plain() -> Judged:
    return Letters()(range(len(QUERIES)), [query.text for query in QUERIES])


def test_with_every_candidate_one_edit_is_the_worst_of_all() -> None:
    judge = Letters()
    found = attack(QUERIES, plain(), judge, Search(edits=1, candidates=20_000))
    for n in (0, 1, 3):
        every = {text: value(n, text) for text in all_edits(QUERIES[n].text, QUERIES[n].language)}
        assert found.margin[n] == min(every.values())
        assert value(n, found.texts[n]) == found.margin[n]
    tried = {n: {text for m, text in judge.asked if m == n} for n in (0, 1)}
    assert tried[0] == set(all_edits("the old town", "en"))
    assert tried[1] == set(all_edits("altes Haus", "de"))


def test_all_queries_are_judged_in_one_call_a_round_and_those_not_first_are_left_alone() -> None:
    judge = Letters()
    found = attack(QUERIES, plain(), judge, Search(edits=2, candidates=5))
    assert len(judge.calls) == 2
    assert judge.calls[0] == 15  # three queries that are answered first, five candidates each
    assert found.calls.sum() == sum(judge.calls)
    assert (found.texts[2], found.calls[2], found.rr[2]) == ("xyz", 0, 0.5)
    assert len(judge.asked) == sum(judge.calls)  # no text is judged twice for a query


def test_a_beaten_query_is_left_alone() -> None:
    judge = Letters()
    one = attack(QUERIES, plain(), Letters(), Search(edits=1, candidates=400))
    more = attack(QUERIES, plain(), judge, Search(edits=4, candidates=400))
    beaten = np.flatnonzero(one.rr < 1).tolist()
    assert 0 in beaten  # a swap at the start moves letters, or a letter that is left out all after it
    assert all(one.texts[n] == more.texts[n] and one.calls[n] == more.calls[n] for n in beaten)


def test_without_stop_all_edits_are_spent_on_a_beaten_query() -> None:
    once = attack(QUERIES, plain(), Letters(), Search(edits=1, candidates=400))
    more = attack(QUERIES, plain(), Letters(), Search(edits=3, candidates=400, stop=False))
    assert once.rr[0] < 1
    assert more.calls[0] > 2 * once.calls[0]
    assert (more.margin <= once.margin).all()


def test_chance_takes_as_many_texts_as_it_is_given() -> None:
    judge = Letters()
    found = chance(QUERIES, plain(), judge, Search(edits=2), [7, 0, 3, 1])
    assert judge.calls == [8]
    assert found.calls.tolist() == [7, 0, 0, 1]
    assert found.texts[1] == QUERIES[1].text
    texts = [text for n, text in judge.asked if n == 0]
    assert found.margin[0] == min([plain().margin[0], *(value(0, text) for text in texts)])


def test_the_same_seed_finds_the_same_and_more_candidates_find_worse() -> None:
    few, again, many = (attack(QUERIES, plain(), Letters(), Search(candidates=c)) for c in (3, 3, 3000))
    assert few.texts == again.texts
    assert (many.margin <= few.margin).all()
    other = attack(QUERIES, plain(), Letters(), Search(candidates=3, seed=1))
    assert other.texts != few.texts


@pytest.mark.parametrize("field", ["edits", "candidates", "beam"])
def test_what_a_search_cannot_be(field: str) -> None:
    with pytest.raises(ValueError, match=rf"attack.{field} is 0: it must be at least 1"):
        Search(**{field: 0})
