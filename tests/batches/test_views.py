"""Translations as views: what is drawn, that it is the same everywhere, and that nothing else changes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from hybridir.batches.plan import Plan
from hybridir.batches.sampling import Noise, Sampling, Translations
from hybridir.batches.stream import BatchSource, TokenBatch, from_table, to_table
from hybridir.batches.token_cache import TokenCache
from hybridir.batches.views import TranslationViews
from hybridir.runs.prepare import Prepared


@pytest.fixture(scope="module")
def clean(small_run: Prepared) -> BatchSource:
    """Sample facts in de, en, es, each in all three."""
    return small_run.job.source


def asking(source: BatchSource, noise: float = 0.0, **counts: int) -> BatchSource:
    asked = replace(source.sampling, translations=Translations(**counts), noise=Noise(probability=noise))
    return replace(source, sampling=asked)


def view(batch: TokenBatch, name: str) -> list[list[int]]:
    texts = np.split(batch.ids, np.cumsum(batch.lengths)[:-1])
    return [ids.tolist() for ids in texts[batch.places()[name]]]


def test_two_passages_and_a_query_in_other_languages_of_the_same_group(clean: BatchSource) -> None:
    source = asking(clean, passage=2, query=1)
    plan, cache, seen = source.plan(), TokenCache(source.tokens), Counter()
    for step in range(20):
        batch, tokens = plan.batch(step), source.batch(step)
        assert tokens.views == {
            "query": 1,
            "positive": 1,
            "negative": 0,
            "passage_translation": 2,
            "query_translation": 1,
        }
        passages, queries = view(tokens, "passage_translation"), view(tokens, "query_translation")
        for item, group in enumerate(batch.groups):
            others = set(plan.corpus.row_of[group].tolist()) - {int(batch.passage_row[item])}
            wanted = [cache.passage.take(np.array([row]))[0].tolist() for row in others]
            assert sorted(passages[2 * item : 2 * item + 2]) == sorted(wanted)
            rest = [row for row in plan.corpus.row_of[group].tolist() if row != batch.query_row[item]]
            two = [cache.query.take(np.array([row]))[0].tolist() for row in rest]
            assert queries[item] in two
            seen[two.index(queries[item])] += 1
    assert abs(seen[0] - seen[1]) < 5 * 160**0.5  # both of the two other languages, equally often


def test_where_there_are_fewer_languages_there_are_fewer_translations(clean: BatchSource) -> None:
    """Three languages: of three translations of a passage, one is not there, and has no tokens."""
    batch = asking(clean, passage=3).batch(0)
    lengths = batch.lengths[batch.places()["passage_translation"]].reshape(8, 3)
    assert (lengths[:, :2] > 0).all()
    assert (lengths[:, 2] == 0).all()


def test_languages_beyond_those_that_are_trained_on(clean: BatchSource) -> None:
    """Spanish as translations only: no query or passage of the plan is in it."""
    sampling = Sampling(languages=("de", "en"), translations=Translations(passage=2, languages=("es",)))
    plan = Plan(clean.plan().corpus, sampling, 8, seed=0)
    batch = plan.batch(3)
    (name, rows), *more = TranslationViews(plan).rows(batch)
    spanish = plan.corpus.row_of[batch.groups, plan.corpus.languages.index("es")]
    assert (name, more) == ("passage_translation", [])
    assert rows.tolist() == [[row, -1] for row in spanish.tolist()]


VIEWS = {
    "passages": {"passage": 1},
    "queries": {"query": 1},
    "both": {"passage": 1, "query": 1},
    "noise": {"passage": 1, "query": 1, "noise": 0.5},
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_changes_no_other(clean: BatchSource, name: str) -> None:
    source, every = asking(clean, **VIEWS[name]), asking(clean, passage=1, query=1, noise=0.5)  # type: ignore[arg-type]
    noisy = replace(clean, sampling=every.sampling, noisy_query=True)
    for step in (0, 1, 5):
        plain, ours, other, most = (each.batch(step) for each in (clean, source, every, noisy))
        assert np.array_equal(plain.example, ours.example)
        assert list(most.views) == [*other.views, "noisy_query"]
        for each in ours.views:
            wanted = plain if each in plain.views and "noise" not in VIEWS[name] else other
            assert view(ours, each) == view(wanted, each)
            assert each == "query" or view(ours, each) == view(most, each)
        assert view(most, "query") == view(other, "query")
        assert view(most, "noisy_query") != view(plain, "query")


@pytest.mark.parametrize("world_size", [2, 4])
def test_any_number_of_workers_gets_the_same_views(clean: BatchSource, world_size: int) -> None:
    source = replace(asking(clean, passage=2, query=1, noise=0.5), noisy_query=True)
    for step in (0, 3, 1000):
        parts = [source.batch(step, rank, world_size).digests() for rank in range(world_size)]
        assert np.array_equal(np.concatenate(parts), source.batch(step).digests())


def test_the_digest_sees_translations(clean: BatchSource) -> None:
    batch = asking(clean, passage=1).batch(0)
    ids = batch.ids.copy()
    ids[-1] += 1
    changed = replace(batch, ids=ids).digests() != batch.digests()
    assert changed.tolist() == [False] * 7 + [True]


def test_views_pass_through_arrow(clean: BatchSource) -> None:
    source = asking(clean, passage=3)
    table: Callable[[list[TokenBatch]], pa.Table] = to_table
    back = from_table(table([source.batch(0), source.batch(1)]).slice(1, 1))
    assert back.views == source.batch(1).views
    assert list(back.views) == list(source.batch(1).views)
    assert np.array_equal(back.digests(), source.batch(1).digests())


def test_what_cannot_be_drawn_is_said(clean: BatchSource) -> None:
    english = Sampling(mono=1, cross=0, languages=("en",), translations=Translations(passage=1))
    with pytest.raises(ValueError, match=r"no question has a pair in a second language, in en: name other languages"):
        replace(clean, sampling=english).batch(0)
    with pytest.raises(ValueError, match="fr"):
        replace(clean, sampling=Sampling(translations=Translations(passage=1, languages=("fr",)))).batch(0)
    with pytest.raises(ValueError, match=r"sampling.translations.query is -1"):
        Translations(query=-1)


def test_the_language_of_every_text(clean: BatchSource) -> None:
    """By its definition: the language of the pair that the text is of; also through Arrow."""
    source = replace(asking(clean, passage=3, query=1, noise=0.5), noisy_query=True)
    plan = source.plan()
    for step in range(3):
        batch, drawn = from_table(to_table([source.batch(step)])), plan.batch(step)
        rows = {"query": drawn.query_row, "positive": drawn.passage_row, "noisy_query": drawn.query_row}
        rows |= {name: found.ravel() for name, found in TranslationViews(plan).rows(drawn)}
        for name, found in rows.items():
            codes = [plan.corpus.pair(int(row))["language"] if row >= 0 else None for row in found]
            expected = [-1 if code is None else plan.corpus.languages.index(code) for code in codes]
            assert batch.language[batch.places()[name]].tolist() == expected
        assert np.array_equal(batch.language < 0, batch.lengths == 0)
