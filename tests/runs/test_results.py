"""What is written of a run: examples, results, the fingerprint of a benchmark."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import own_first, parallel, ranked

from hybridir.data.records import Benchmark, benchmark_fingerprint
from hybridir.evaluation.scores import stack
from hybridir.evaluation.settings import measure
from hybridir.reports.html.comparisons import for_screen
from hybridir.runs.provenance import provenance
from hybridir.runs.results import examples, write_results


def test_examples_are_the_largest_gain_and_loss_of_each_language() -> None:
    made = parallel(("de", "en", "es"), n_questions=20)
    random = np.random.default_rng(0)
    rankings = {
        name: [ranked(made, random.random((60, 60), dtype=np.float32))] for name in ("ours", "BM25", "untrained")
    }
    scores = {name: stack([measure(one, made) for one in own]) for name, own in rankings.items()}
    found = examples(rankings, scores, made)
    assert [one["language"] for one in found] == ["de", "de", "en", "en", "es", "es"]
    assert {one["against"] for one in found} == {"untrained"}
    rows = scores["ours"].rows
    own, other = (scores[name].values["mAP"][0] for name in ("ours", "untrained"))
    pooled = rows["setting"] == "multilingual"
    language = {query.query_id: query.language for query in made.queries}
    for best, worst in zip(found[::2], found[1::2], strict=True):
        here = pooled & np.array([language[name] == best["language"] for name in rows["query_id"].tolist()])
        assert best["gain"] == (own - other)[here].max() > 0
        assert worst["gain"] == (own - other)[here].min() < 0
    for one in found:
        ranks = np.sort([answer["rank"] for answer in one["answers"]])
        assert one["AP"] == pytest.approx(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        before = np.sort([answer["before"] for answer in one["answers"]])
        assert one["AP"] - one["gain"] == pytest.approx(np.mean(np.arange(1, len(before) + 1) / before))
        assert [hit["rank"] for hit in one["retrieved"]] == list(range(1, 6))
        right = {hit["rank"] for hit in one["retrieved"] if hit["relevant"]}
        assert right == {answer["rank"] for answer in one["answers"] if answer["rank"] <= 5}
        hits = [hit["score"] for hit in one["retrieved"]]
        assert hits == sorted(hits, reverse=True)
    alone = examples({"ours": rankings["ours"]}, scores, made)
    assert not any("gain" in one for one in alone)


def test_results_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = parallel(n_questions=12)
    rankings = {name: [ranked(made, own_first(made) + n)] for n, name in enumerate(("ours", "theirs"))}
    facts: dict[str, Any] = {"provenance": provenance(made, {"seed": 1}, {"ours": "abc"})}
    write_results(made, rankings, tmp_path, facts)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["encoder"] == "ours"
    assert results["systems"].keys() == {"theirs"}
    assert results["notes"] == ["one query was left out"]
    assert results["provenance"]["fingerprints"] == {"benchmark": benchmark_fingerprint(made), "ours": "abc"}
    assert "NaN" not in (tmp_path / "results.json").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "one query was left out" in page
    assert "There are only 3 clusters of questions" in page
    _, _, told = capsys.readouterr().out.rpartition("\u2518")  # below the table
    assert max(map(len, told.splitlines())) <= 80
    words = " ".join(told.split())
    assert "ours is not distinguishable from theirs in monolingual (+0.000 [+0.000, +0.000], detectable 0.000)" in words
    assert words.partition(" (Against")[0] in " ".join(page.split())
    assert "(Against theirs: intervals resample clusters of questions, for these models as they are)" in words
    assert "(Detectable: the smallest difference" in words
    assert "randomisation" not in words
    assert "randomisation" in page


def test_the_screen_explains_only_what_it_shows() -> None:
    """A clear difference has no detectable one; and only where interval and test disagree, both are asked for."""
    one = {"system": "a", "baseline": "b", "setting": "monolingual", "measure": "mAP", "language": "", "seeds": 1}
    one |= {"difference": 0.2, "interval": [0.1, 0.3], "p": 0.01, "detectable": 0.05, "over": "clusters"}
    results = {"encoder": "a", "languages": ["de", "en"], "monolingual": {"mAP": 0.5}}
    basis = "(Against b: intervals resample clusters of questions, for these models as they are)"
    better, *legend = for_screen(results | {"comparisons": [one]})
    assert better.startswith("a is better than b in monolingual (+0.200 [+0.100, +0.300]) retrieval")
    assert legend == [basis]
    unclear, *legend = for_screen(results | {"comparisons": [one | {"p": 0.2}]})
    assert unclear.startswith("a is not distinguishable from b in monolingual (+0.200 [+0.100, +0.300]) retrieval")
    assert legend[0] == basis
    assert legend[1].startswith("(A verdict needs an interval without 0 and a p of at most .05")
    (_, basis) = for_screen(results | {"comparisons": [one | {"over": "clusters and seeds", "seeds": 3}]})
    assert basis.startswith("(Against b: intervals are from a t test over clusters of questions and 3 training seeds")


def test_a_fingerprint_changes_with_the_judgements() -> None:
    made = parallel()
    other = Benchmark(**{**vars(made), "relevant": ((0,), *made.relevant[1:])})
    assert benchmark_fingerprint(made) != benchmark_fingerprint(other)
