"""The run of arXiv 2408.10536 as one config, planned on small stand-ins of its data."""

import json
from pathlib import Path

import pytest
from helpers import ROOT

from hybridir.data.formats import mmarco
from hybridir.data.records import OVERLAP
from hybridir.experiments.studies import STUDIES
from hybridir.experiments.study import arm_runs, chosen_arms
from hybridir.runs.corpus import read_corpus
from hybridir.runs.fill_in import fill_in
from hybridir.runs.plans import check_plans
from hybridir.runtime.command_line import parse

LANGUAGES = {
    "ar": "arabic",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "hi": "hindi",
    "ja": "japanese",
    "ru": "russian",
    "zh": "chinese",
}
COUNT = 24
SHARED = "the broncos beat the panthers in the game that ended the season of that year"


def _write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _stand_ins(folder: Path) -> None:
    """Translated pairs, of which the first has a sentence of XQuAD-R in English; mMARCO; XQuAD-R."""
    for code, name in LANGUAGES.items():
        pairs = [
            {"group_id": str(n), "language": code, "query": f"q{n} {code}?", "passage": f"a{n} {code}", "source": "nq"}
            for n in range(COUNT)
        ]
        pairs[0] |= {"passage": f"As known, {SHARED}."} if code == "en" else {}
        _write(folder / "translated" / "train" / f"{code}.jsonl", [*map(json.dumps, pairs)])
        google = folder / "mmarco" / "google"
        _write(google / "collections" / f"{name}_collection.tsv", [f"{n}\tm{n} {code}" for n in range(2 * COUNT)])
        _write(google / "queries" / "train" / f"{name}_queries.train.tsv", [f"{n}\tw{n} {code}" for n in range(COUNT)])
    _write(folder / "mmarco" / mmarco.TRIPLES, [f"{n}\t{n}\t{n + COUNT}" for n in range(COUNT)])
    question = {"id": "x", "question": "Who?", "answers": [{"answer_start": 0, "text": "x"}]}
    paragraph = {"sentences": [SHARED], "sentence_breaks": [[0, 99]], "qas": [question]}
    content = {"data": [{"title": "Super Bowl 50", "paragraphs": [paragraph]}]}
    _write(folder / "xquad-r" / "en.json", [json.dumps(content)])


def test_every_arm_of_the_paper_s_study_is_planned_without_what_overlaps_with_its_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_ins(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    study, config = STUDIES["sampling"], str(ROOT / "jobs" / "configs" / "paper.yaml")
    small = ["--data.validation_share", "0.3", "--train.batch_size", "4"]
    recipe = fill_in(parse(study.recipe, "", "", ["--config", config, *small]))
    corpus = read_corpus(recipe.data, tmp_path / "cache")
    assert (corpus.n_read, corpus.rejected) == (2 * COUNT * 9, {OVERLAP: 9}), "one question in nine languages"
    assert sorted(corpus.languages) == [*LANGUAGES]
    plans = {}
    for arm in chosen_arms(study, recipe):
        for run in arm_runs(recipe, arm, [0]):
            plans[arm.name] = check_plans(run.recipe, corpus)
    assert plans["hybrid"].languages == plans["X-Y"].languages == corpus.languages
    assert plans["En-En"].languages == ("en",)
