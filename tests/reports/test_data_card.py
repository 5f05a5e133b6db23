"""The data card counts what is there, by hand, and sees the mistakes that it is for."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from helpers import corpus_of, pairs_of

from hybridir.batches.token_cache import TokenJob
from hybridir.data import build as corpus_build
from hybridir.data import intake
from hybridir.data.config import Source
from hybridir.data.corpus import Corpus
from hybridir.data.records import Pair, Passage
from hybridir.model.tokenizer_training import train_tokenizer
from hybridir.reports import data_card as card_module
from hybridir.reports.data_card import card_tables, data_card, guess_languages, to_markdown

LIMITS = {"max_query_length": 8, "max_passage_length": 12}


def pair(group: str, language: str, query: str, passage: str, **more: Any) -> Pair:
    own = Passage(passage_id="", language=language, text=passage)
    return Pair(group_id=group, language=language, query=query, passage=own, **more)


def make(corpus: Corpus) -> dict[str, Any]:
    tokenizer = str(train_tokenizer(corpus, 300))
    job = TokenJob(corpus=str(corpus.directory), tokenizer=tokenizer, **LIMITS)
    return data_card(corpus, job)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    negatives = tuple(Passage(passage_id="", language="de", text=text) for text in ("nein", "2\u200b"))
    records = [
        pair("1", "de", "1", "2", source="a", domain="law", negatives=negatives, split="train"),
        pair("1", "en", "1", "2 3 4 5 6 7 8 9 1 2 3 4 5 6", source="a", split="train"),
        pair("2", "en", "1 2 3 4 5 6 7 8 9", "other", source="b", split="validation"),
        pair("3", "en", "", "x"),
        pair("1", "de", "1", "2", source="a", domain="law", negatives=negatives, split="train"),
    ]
    return make(corpus_of(records, tmp_path_factory.mktemp("card")))


def test_counts(card: dict[str, Any]) -> None:
    assert (card["read"], card["accepted"], card["rejected"], card["groups"]) == (
        5,
        3,
        {"empty query": 1, "duplicate": 1},
        2,
    )
    assert card["parts"] == {"train": {"groups": 1, "pairs": 2}, "validation": {"groups": 1, "pairs": 1}}
    assert card["sources"] == {"a": {"groups": 1, "pairs": 2}, "b": {"groups": 1, "pairs": 1}}
    assert card["domains"] == {"": 2, "law": 1}
    assert card["groups_by_number_of_languages"] == {1: 1, 2: 1}
    assert card["groups_in_both"] == {"de-en": 1}
    assert card["hard_negatives_of_a_pair"] == {"median": 0, "p95": pytest.approx(0.9), "most": 1}
    assert (card["largest_passage_group"], card["passage_groups_in_both_parts"]) == (1, 0)
    assert {code: one["pairs"] for code, one in card["languages"].items()} == {"de": 1, "en": 2}


def test_lengths_are_those_before_the_cut(card: dict[str, Any]) -> None:
    """A digit with the space before it is two tokens at most; two special ones stand around the text."""
    english = card["languages"]["en"]
    assert 9 + 2 <= english["query"]["tokens"]["most"] <= 2 * 9 + 2
    assert 14 + 2 <= english["passage"]["tokens"]["most"] <= 2 * 14 + 2
    assert (english["query"]["cut"], english["passage"]["cut"]) == (0.5, 0.5)
    assert (card["languages"]["de"]["query"]["cut"], card["languages"]["de"]["passage"]["cut"]) == (0, 0)


def test_warnings(card: dict[str, Any]) -> None:
    warnings = "\n".join(card["warnings"])
    assert "1 of 2 groups (50.0%) are in one language only" in warnings
    assert "hard negatives that are the positive, left out: 2 in " in warnings
    assert "encoder.max_query_length = 8 tokens will be cut: en 50.0%" in warnings


def test_tables_say_the_same(card: dict[str, Any]) -> None:
    text = to_markdown(card)
    for expected in (
        "| accepted | 3 | 60.0% |",
        "|   empty query | 1 | 20.0% |",
        "| domain law |  | 1 |",
        "| in 2 languages |",
    ):
        assert expected in text, text
    assert text.count("| --- |") == len(card_tables(card))


def test_mistakes_that_join_everything_are_seen(tmp_path: Path) -> None:
    records = [pair(str(n), "en", f"q {n}", f"p {n}", passage_group_id="same") for n in range(20)]
    records += [pair(f"v{n}", "en", f"v {n}", f"p {n}", split="validation") for n in range(2)]
    warnings = "\n".join(make(corpus_of(records, tmp_path))["warnings"])
    assert "22 of 22 groups count as the same passage" in warnings
    assert "1 passages are both in the training pairs and in the validation pairs" in warnings


def test_samples_are_spread_over_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (corpus_build, intake):
        monkeypatch.setattr(module, "ROWS", 10)
    corpus = corpus_of([pair(str(n), "en", f"{n}", "p") for n in range(1000)], tmp_path)
    sampled = sorted(int(one["query"]) for one in card_module._sample(corpus, "en", 200))
    assert len(set(sampled)) == 200
    assert max(b - a for a, b in itertools.pairwise([0, *sampled, 999])) <= 25
    assert len(card_module._sample(corpus, "en", 5000)) == 500  # all of half of the chunks


def test_text_in_another_language_is_seen(tmp_path: Path) -> None:
    """German declared as Spanish; Arabic, English and Chinese are what they say."""
    pairs = [one for one in pairs_of(Source(facts=60, languages=("ar", "de", "en", "zh"))) if isinstance(one, Pair)]
    wrong = {"de": "es"}
    records = [pair(one.group_id, wrong.get(one.language, one.language), one.query, one.passage.text) for one in pairs]
    guessed = guess_languages(corpus_of(records, tmp_path))
    assert guessed["es"]["n_others"] > 0.9 * guessed["es"]["sampled"]
    assert "de" in guessed["es"]["others"]
    for language in ("ar", "en"):
        assert guessed[language]["n_others"] == 0
    assert guessed["zh"]["n_others"] < 0.1 * guessed["zh"]["sampled"]
