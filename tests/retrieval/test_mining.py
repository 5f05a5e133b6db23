"""Hard negatives by the rules, on examples small enough to be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from helpers import corpus_of

from hybridir.data.passages import Passages
from hybridir.data.records import Pair, Passage
from hybridir.retrieval.mining import Asked, MiningRules, choose, find_members, mine
from hybridir.retrieval.sharded import Means
from hybridir.retrieval.shards import Index, lay_out

MADE_OF = {"weights": "0123", "dtype": "float32"}
SCORES = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6]], dtype=np.float32)
OTHER = np.array([[True, True, False, True, True, True], [True, True, True, True, True, False]])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"relative_margin": None}, [[0, 1], [0, 1]]),
        ({"relative_margin": None, "ranks": (2, 4)}, [[1, 3], [1, 2]]),  # the member has no rank
        ({"relative_margin": None, "ranks": (4, 5)}, [[4, 5], [3, 4]]),
        ({"absolute_margin": 0.05, "relative_margin": None}, [[1, 3], [2, 3]]),  # at most .8 and -.25
        ({"relative_margin": 0.5}, [[5], [2, 3]]),  # at most .425 and -.3
        ({"relative_margin": 0.25, "ranks": (2, 3)}, [[3], [2]]),  # at most .6375 and -.25
        ({"absolute_margin": 0.1, "relative_margin": 0.25}, [[3, 4], [2, 3]]),  # both
    ],
)
def test_the_rules(rules: dict[str, object], expected: list[list[int]]) -> None:
    """Of each question the best two; the answers have the scores .85 and -.2."""
    positive_Q = np.array([0.85, -0.2], dtype=np.float32)
    kept = choose(MiningRules(count=2, **rules), SCORES, OTHER, positive_Q, np.array([2, 2]))  # type: ignore[arg-type]
    assert [np.flatnonzero(row).tolist() for row in kept] == expected


def test_counts_differ_by_pair() -> None:
    kept = choose(MiningRules(relative_margin=None), SCORES, OTHER, None, np.array([0, 3]))
    assert kept.sum(axis=1).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ranks": (0, 5)}, r"rules.ranks is \[0, 5\]: take two ranks from 1"),
        ({"ranks": (5, 4)}, "take two ranks from 1"),
        ({"ranks": (3, 5), "count": 4}, "rules.count is 4: it must be from 0 to 3"),
        ({"count_of": {"faq": -1}}, "rules.count_of.faq is -1: it must be from 0 to 100"),
        ({"relative_margin": -0.1}, "rules.relative_margin is -0.1: it must be 0 or more"),
        ({"absolute_margin": float("nan")}, "rules.absolute_margin is nan"),
    ],
)
def test_wrong_rules_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MiningRules(**wrong)  # type: ignore[arg-type]


def pair(group: str, language: str, name: str, text: str, passage_group: str = "") -> Pair:
    passage = Passage(passage_id=name, language=language, text=text)
    return Pair(
        group_id=group,
        language=language,
        query=f"q {group} {language}",
        passage=passage,
        passage_group_id=passage_group,
    )


PAIRS = (
    pair("a", "en", "1", "red"),
    pair("a", "de", "2", "rot"),  # a translation of the question: one group
    pair("b", "en", "3", "crimson", "colour"),
    pair("c", "en", "4", "scarlet", "colour"),  # tied by name
    pair("d", "en", "5", "blue"),
)
PASSAGES = (  # language, id, text; the number of the passage group's first pair
    ("de", "9", "rot", "a"),  # reads as an answer of the group
    ("de", "77", "crimson", "b"),  # the same in another language
    ("de", "5", "blau", "d"),  # has the id of the answer
    ("en", "10", " red", "a"),
    ("en", "4", "ruby", "b"),  # the id of what is tied to the answer
    ("en", "11", "green", ""),
    ("en", "12", "green ", ""),  # repeats a text
    ("en", "13", "crimson", "b"),
    ("en", "14", "grey", ""),
)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Each passage has a score of .9, .8, ... for every question, in order."""
    passages = [Passage(passage_id=name, language=x, text=text) for x, name, text, _ in PASSAGES]
    gone = Passage(passage_id="8", language="en", text="green")  # reads as one that is there, but was dropped
    lay_out(tmp_path / "index", MADE_OF, Passages([gone, *passages]), 4)
    made = lay_out(tmp_path / "index", MADE_OF, Passages(passages), 4)
    number = {(x, name): n for n, (x, name, *_) in enumerate(PASSAGES)} | {("en", "8"): -1}
    for shard in made.shards:
        rows = [number[shard.language, name] for name in made.passages(shard)[0]]
        made.write(shard, np.stack([[0.9 - 0.1 * n, 0.0] for n in rows]).astype(np.float32))
    return made


def test_members_are_found_by_id_and_text(index: Index, tmp_path: Path) -> None:
    corpus = corpus_of(PAIRS, tmp_path)
    distinct, members = find_members(index, corpus)
    group_of = dict(
        zip([(p.group_id, p.language) for p in PAIRS], corpus.passage_group[corpus.group_of_row()], strict=True)
    )
    for first in ("a", "b", "d"):
        found = {tuple(one[:2]) for one in index.passages_at(members.of(int(group_of[first, "en"])).tolist())}
        assert found == {(x, name) for x, name, _, of in PASSAGES if of == first}
    assert members.most(np.array([group_of["d", "en"], group_of["b", "en"]])) == 3
    assert len(index) - len(distinct) == 1
    assert [shard.dropped for shard in distinct.shards] == [(), (0,), (0,)]


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        (
            "same",
            {("a", "en"): ["4", "11"], ("a", "de"): ["77", "5"], ("b", "en"): ["10", "11"], ("d", "en"): ["10", "4"]},
        ),
        (
            "any",
            {("a", "en"): ["77", "5"], ("a", "de"): ["77", "5"], ("b", "en"): ["9", "5"], ("d", "en"): ["9", "77"]},
        ),
    ],
)
def test_the_best_outside_the_group(
    index: Index, tmp_path: Path, languages: str, expected: dict[tuple[str, str], list[str]]
) -> None:
    """Best first, of the language asked for, and never a member or a repetition."""
    corpus = corpus_of(PAIRS, tmp_path)
    distinct, members = find_members(index, corpus)
    asked = Asked(
        query_QD=np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(PAIRS), 1)),
        positive_Q=None,
        languages=[one.language for one in PAIRS],
        group_Q=corpus.passage_group[corpus.group_of_row()],
        count_Q=np.full(len(PAIRS), 2),
    )
    rules = MiningRules(count=2, ranks=(1, 2), relative_margin=None, languages=languages)  # type: ignore[arg-type]
    found = {}
    for n, scores, places in mine(rules, asked, distinct, members, Means()):
        names = [name for _, name, _ in index.passages_at(places.tolist())]
        found[PAIRS[n].group_id, PAIRS[n].language] = names
        by_name = {name: 0.9 - 0.1 * n for n, (_, name, *_) in enumerate(PASSAGES)}
        assert scores.tolist() == pytest.approx([by_name[name] for name in names], abs=1e-6)
    assert {key: found[key] for key in expected} == expected
    assert found["c", "en"] == found["b", "en"]
