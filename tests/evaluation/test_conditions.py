"""Conditions: which texts they make, and what they cost, derived by hand."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.evaluation.comparisons import drops
from hybridir.evaluation.conditions import Condition, check_conditions, under
from hybridir.evaluation.scores import Scores, join
from hybridir.retrieval.dot import Scorer
from hybridir.retrieval.search import rank_all
from hybridir.runs.results import write_results

QUERIES = {"cat": "en:1", "2 + 2": "en:2", "Haus 7": "de:3"}


def benchmark() -> Benchmark:
    """A question for each of three passages with the same text; a fourth passage comes first."""
    return Benchmark(
        name="made",
        languages=("de", "en"),
        queries=tuple(
            Query(query_id=name, language=name[:2], text=text, group_id=name, cluster=name)
            for text, name in QUERIES.items()
        ),
        passages=Passages(
            Passage(passage_id=str(n), language=language, text=text)
            for n, (language, text) in enumerate(
                [("en", "first"), ("en", "cat"), ("en", "2 + 2"), ("de", "first"), ("de", "Haus 7")]
            )
        ),
        relevant=((1,), (2,), (4,)),
    )


def same_text(of: Benchmark) -> Scorer:
    """1 for a passage with the text of the query, else 0."""
    texts = [passage.text for passage in of.passages]
    scores = np.array([[query.text == text for text in texts] for query in of.queries], dtype=np.float32)
    return lambda queries, passages: scores[queries, passages]


def letter_that_goes(query_id: str, n_letters: int, seed: int = 0) -> int:
    """The place of the smallest of the numbers that follow the first one, of a stream for the kind and the query."""
    kind, item = (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in ("delete", query_id))
    words = np.random.Philox(key=np.array([seed, kind], np.uint64), counter=np.array([0, 0, item, 0], np.uint64))
    return int(np.argmin(words.random_raw(1 + n_letters)[1:]))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_texts_depend_on_seed_kind_and_query(seed: int) -> None:
    made = benchmark()
    noise = Condition(perturbation="delete", severity="one", seed=seed)
    cat, house = letter_that_goes("en:1", 3, seed), letter_that_goes("de:3", 4, seed)
    expected = ["cat"[:cat] + "cat"[cat + 1 :], "2 + 2", "Haus 7"[:house] + "Haus 7"[house + 1 :]]
    changed = under(made, noise)
    assert [query.text for query in changed.queries] == expected
    assert (changed.passages, changed.relevant) == (made.passages, made.relevant)
    alone = Benchmark(**vars(made) | {"queries": made.queries[2:], "relevant": made.relevant[2:]})
    assert under(alone, noise).queries == changed.queries[2:]


def test_what_a_condition_costs(tmp_path: Path) -> None:
    """A question that lost a letter has no passage with its text: all tie, and the passage before is ranked first."""
    made = benchmark()
    changed = under(made, Condition(perturbation="delete"))
    plain, noisy = ({"same": [rank_all(same_text(one), one, 5)]} for one in (made, changed))
    write_results(made, plain, tmp_path, {}, {"delete one": (changed, noisy)})
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    found = results["conditions"]["delete one"]
    assert results["monolingual"]["mAP"] == 1
    assert found["changed"] == pytest.approx(2 / 3)
    # en: 1/2 for the cat (rank 2), 1 for 2 + 2, which has no letters; de: 1/2
    assert {x: found["per_language"][x]["monolingual"]["mAP"] for x in ("de", "en")} == {"de": 0.5, "en": 0.75}
    assert found["monolingual"]["mAP"] == 0.625
    assert found["drop"]["monolingual"]["mAP"]["difference"] == pytest.approx(0.375)
    # in the pool, "first" in English comes before the cat, and all English passages and "first" before the house
    assert found["per_language"]["de"]["multilingual"]["mAP"] == pytest.approx(1 / 5)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "delete one: 66.7 % of the queries really changed." in table
    assert "| delete one: monolingual | same | 1.000 | 0.625 | +0.375" in table


def test_names_and_errors() -> None:
    assert [Condition(perturbation="delete", severity=s, seed=n).name for s, n in (("one", 0), (1, 2), (0.05, 0))] == [
        "delete one",
        "delete 1.0, seed 2",
        "delete 0.05",
    ]
    with pytest.raises(ValueError, match="the perturbation of a condition is 'typo': name one of delete"):
        Condition(perturbation="typo")
    with pytest.raises(ValueError, match="the severity of a condition is 2: it must be from 0 to 1, or one"):
        Condition(perturbation="delete", severity=2)
    with pytest.raises(ValueError, match="the seed of a condition is -1"):
        Condition(perturbation="delete", seed=-1)
    with pytest.raises(ValueError, match=r"conditions has 'delete 1\.0' twice"):
        check_conditions([Condition(perturbation="delete", severity=s) for s in (1, 1.0)])


def test_a_measure_that_came_or_went_between_two_measurements() -> None:
    """It has no value where it was not measured, so nothing is said about its drop; the others stay."""

    def measured(condition: str, **values: list[float]) -> Scores:
        columns = {"query_id": ["1", "2"], "query_language": ["en", "en"], "setting": ["monolingual"] * 2}
        columns |= {"passage_language": ["en", "en"], "group_id": ["1", "2"], "cluster": ["1", "2"]}
        rows = {name: np.array(column) for name, column in columns.items()}
        return Scores(rows | {"condition": np.full(2, condition)}, {k: np.array([v]) for k, v in values.items()})

    joined = join([measured("", mAP=[1.0, 0.5], gone=[3.0, 4.0]), measured("noise", mAP=[0.5, 0.25], new=[5.0, 6.0])])
    np.testing.assert_array_equal(joined.values["mAP"], [[1.0, 0.5, 0.5, 0.25]])
    np.testing.assert_array_equal(joined.values["gone"], [[3.0, 4.0, np.nan, np.nan]])
    np.testing.assert_array_equal(joined.values["new"], [[np.nan, np.nan, 5.0, 6.0]])
    assert drops(joined, "noise")["monolingual"].keys() == {"mAP"}
    assert drops(joined, "noise")["monolingual"]["mAP"]["difference"] == pytest.approx(0.375)
    assert joined.column("new", "monolingual", condition="noise").values_KN.tolist() == [[5.0, 6.0]]
