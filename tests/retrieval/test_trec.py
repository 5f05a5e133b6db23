"""TREC files give other tools our rankings; the scores of every query as a file."""

from dataclasses import replace
from urllib.parse import unquote

import ir_measures
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import rows_of
from made import benchmark, random_benchmark, scorer

from hybridir.data.passages import Passages
from hybridir.evaluation.scores import Scores, read_scores, stack, write_scores
from hybridir.evaluation.settings import measure
from hybridir.retrieval.search import rank_all
from hybridir.retrieval.trec import encode, passage_names, write_qrels, write_runs

CUT = {
    "R@10": ir_measures.R @ 10,
    "nDCG@10": ir_measures.nDCG @ 10,
    "RR@10": ir_measures.RR @ 10,
    "success@1": ir_measures.Success @ 1,
}
DEPTH = 12
BAD = ["a b", "50%", "50%25", "\tx\n", "\u3000", 'say "so"', "é/ü", "\x1f", "中#1", ",", "\x85", ""]


@pytest.fixture(scope="module")
def made():
    """40 queries, 60 passages in mixed order, ids that would break a file; some queries have no answer anywhere."""
    made = random_benchmark(np.random.default_rng(3), interleaved=True)
    return replace(
        made,
        queries=tuple(replace(q, query_id=f"{q.language}:{n} {q.query_id}") for n, q in enumerate(made.queries)),
        passages=Passages(
            replace(p, passage_id=f"{n // len(BAD)}{BAD[n % len(BAD)]}") for n, p in enumerate(made.passages)
        ),
        relevant=((), *made.relevant[1:]),
    )


@pytest.fixture(scope="module")
def scores():
    """Of three values alone: every list has ties, at its cut too."""
    return np.random.default_rng(3).integers(-1, 2, size=(40, 60)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(made, scores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_runs(rank_all(scorer(scores), made, DEPTH), made, folder, "org/my model", DEPTH)
    write_qrels(made, folder)
    return folder


def setting_of(one):
    return one.setting + (f"-{one.passage_language}" if one.setting == "crosslingual" else "")


def by_ir_measures(folder, setting, run):
    with open(folder / f"{setting}.qrels", encoding="utf-8") as file:
        qrels = list(ir_measures.read_trec_qrels(file))
    with open(run, encoding="utf-8") as file:
        ranked = list(ir_measures.read_trec_run(file))
    name = {measure: name for name, measure in CUT.items()}
    found = {}
    for value in ir_measures.iter_calc(list(CUT.values()), qrels, ranked):
        found.setdefault(value.query_id, {})[name[value.measure]] = value.value
    return found


def ours(made, scores, setting):
    found = rows_of(measure(rank_all(scorer(scores), made), made), made)
    return {encode(made.queries[one.query].query_id): one.values for one in found if setting_of(one) == setting}


SETTINGS = ("monolingual", "multilingual", "crosslingual-de", "crosslingual-en", "crosslingual-zh")


@pytest.mark.parametrize("setting", SETTINGS)
def test_ir_measures_reads_our_numbers_from_the_files(made, scores, folder, setting):
    theirs = by_ir_measures(folder, setting, folder / f"org%2Fmy%20model.{setting}.trec")
    expected = ours(made, scores, setting)
    assert theirs.keys() == expected.keys()
    for query, values in theirs.items():
        assert values == pytest.approx({name: expected[query][name] for name in CUT}, abs=1e-9), query


def test_scores_as_they_are_would_not_do(made, scores, folder, tmp_path):
    """The tie rules of tools differ from ours: the test above sees what the written scores are for."""
    lines = [
        line.split(" ")
        for line in (folder / "org%2Fmy%20model.multilingual.trec").read_text(encoding="utf-8").splitlines()
    ]
    tied = tmp_path / "tied.trec"
    tied.write_text("".join(" ".join([*line[:4], "1", line[5]]) + "\n" for line in lines), encoding="utf-8")
    theirs, expected = by_ir_measures(folder, "multilingual", tied), ours(made, scores, "multilingual")
    assert any(theirs[query]["nDCG@10"] != pytest.approx(expected[query]["nDCG@10"]) for query in theirs)


def test_lines(made, scores, folder):
    """Every file in full, against lists made one by one."""
    assert encode("\ud800 x") == "%ED%A0%80%20x"
    names = passage_names(made).to_pylist()
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [f"{s}.qrels" for s in SETTINGS] + [f"org%2Fmy%20model.{s}.trec" for s in SETTINGS]
    )
    for setting in SETTINGS:
        run, qrels = [], []
        for q, query in enumerate(made.queries):
            language = {"monolingual": query.language, "multilingual": None}.get(setting, setting[-2:])
            pool = [p for p, one in enumerate(made.passages) if language in (None, one.language)]
            wanted = [p for p in made.relevant[q] if p in pool]
            if not wanted or setting == f"crosslingual-{query.language}":
                continue
            best = sorted(pool, key=lambda p: (-scores[q, p], p))[:DEPTH]
            name = encode(query.query_id)
            run += [f"{name} Q0 {names[p]} {n + 1} {DEPTH - n} org/my%20model" for n, p in enumerate(best)]
            qrels += [f"{name} 0 {names[p]} 1" for p in wanted]
        assert (folder / f"org%2Fmy%20model.{setting}.trec").read_text(encoding="utf-8").split("\n") == [*run, ""]
        assert (folder / f"{setting}.qrels").read_text(encoding="utf-8").split("\n") == [*qrels, ""]


def test_blocks_do_not_show(made, scores, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("hybridir.retrieval.trec._BLOCK", 3 * DEPTH)
    write_runs(rank_all(scorer(scores), made, DEPTH), made, tmp_path, "org/my model", DEPTH)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (folder / file.name).read_bytes()


def test_names_can_be_read_back(made):
    assert encode("\ud800 x") == "%ED%A0%80%20x"
    names = passage_names(made).to_pylist()
    assert [unquote(name, errors="surrogatepass") for name in names] == [p.full_id for p in made.passages]
    assert all(name.split() == [name] and name.isprintable() and '"' not in name for name in names)


def test_fewer_passages_than_lines_and_settings_without_queries(tmp_path):
    made = benchmark(["de", "en"], [("en", ""), ("en", ""), ("de", "")], [("en", "", [1])])
    ranking = rank_all(scorer(np.array([[1, 2, 3]], dtype=np.float32)), made, 100)
    write_runs(ranking, made, tmp_path, "s")
    write_qrels(made, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "monolingual.qrels",
        "multilingual.qrels",
        "s.monolingual.trec",
        "s.multilingual.trec",
    ]
    assert (tmp_path / "s.monolingual.trec").read_text(encoding="utf-8") == "q0 Q0 en:1 1 100 s\nq0 Q0 en:0 2 99 s\n"
    with pytest.raises(AssertionError, match="fewer passages"):
        write_runs(replace(ranking, top_place=ranking.top_place[:, :, :9]), made, tmp_path, "s")


def test_per_query(made, scores, tmp_path):
    measured = measure(rank_all(scorer(scores), made), made)
    found, file = rows_of(measured, made), tmp_path / "per_query.parquet"
    five = Scores(
        {name: rows[:5] for name, rows in measured.rows.items()},
        {name: values[:, :5] for name, values in measured.values.items()},
    )
    write_scores({"a": measured, "b": stack([five, five])}, file)
    rows = pq.read_table(file).to_pylist()
    assert [(row["system"], row["seed"]) for row in rows] == [("a", 1)] * len(found) + [("b", 1)] * 5 + [("b", 2)] * 5
    assert any(row["rank_distance"] is None for row in rows)
    for row, one in zip(rows, [*found, *found[:5], *found[:5]], strict=True):
        query = made.queries[one.query]
        assert row | {"system": "", "seed": 0} == {
            "system": "",
            "seed": 0,
            "condition": "",
            "query_id": query.query_id,
            "query_language": query.language,
            "passage_language": one.passage_language,
            "setting": one.setting,
            "group_id": query.group_id,
            "cluster": query.cluster,
            **{name: one.values.get(name) for name in found[-1].values},
            "rank_distance": one.values.get("rank_distance"),
        }
    write_scores({"a": measured}, file)
    again = read_scores(file)
    assert {name: rows.tolist() for name, rows in again.rows.items()} == {
        name: rows.tolist() for name, rows in measured.rows.items()
    }
    for name, values in measured.values.items():
        np.testing.assert_array_equal(again.values[name], values)
