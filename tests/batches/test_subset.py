"""What a plan may draw: no pair of a left-out domain, nested numbers of groups, shares of translated ones."""

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import corpus_of

from hybridir.batches.plan import Plan
from hybridir.batches.sampling import LowResource, Sampling, Translations
from hybridir.batches.subset import Subset
from hybridir.batches.views import TranslationViews
from hybridir.data.config import BenchmarkConfig
from hybridir.data.corpus import Corpus
from hybridir.data.formats import heldout
from hybridir.data.records import Pair, Passage
from hybridir.data.sources import read_benchmark

LANGUAGES = ("de", "en", "zh")
DOMAINS = ("law", "sport", "sport", "music")
"""Domains of groups, in turn: half are about sport."""


def pairs() -> Iterator[Pair]:
    """120 groups. Group 7 (music) has the German passage of group 8 (law), so both are one passage group."""
    for n in range(120):
        for language in LANGUAGES:
            text = f"answer to {8 if (n, language) == (7, 'de') else n} in {language}"
            yield Pair(
                group_id=str(n),
                language=language,
                query=f"question {n} in {language}",
                passage=Passage(passage_id="", language=language, text=text),
                domain=DOMAINS[n % 4],
                split="train" if n < 100 else "validation",
            )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus_of(list(pairs()), tmp_path_factory.mktemp("domains"))


def number(corpus: Corpus, row: int) -> int:
    return int(corpus.pair(row)["group_id"])


@pytest.mark.parametrize("method", ["X-X-mono", "X-X", "X-Y", "hybrid", "sum"])
@pytest.mark.parametrize("left_out", [("law",), ("music", "sport")])
def test_nothing_of_a_left_out_domain_is_drawn(corpus: Corpus, method: str, left_out: tuple[str, ...]) -> None:
    """Neither a translation, nor a member of a passage group of such a domain, in any view."""
    sampling = Sampling(method=method, without_domains=left_out, translations=Translations(passage=1, query=1))
    plan = Plan(corpus, sampling, 8, seed=3)
    views = TranslationViews(plan)
    drawn: set[int] = set()
    for step in range(40):
        batch = plan.batch(step)
        rows = [batch.query_row, batch.passage_row, *(rows.ravel() for _, rows in views.rows(batch))]
        drawn |= {number(corpus, row) for row in np.concatenate(rows).tolist() if row >= 0}
    rest = {n for n in range(100) if DOMAINS[n % 4] not in left_out and n not in (7, 8)}
    assert drawn <= rest
    assert len(drawn) > 0.9 * len(rest)


def test_every_domain_stays_where_none_is_left_out(corpus: Corpus) -> None:
    assert corpus.domain_names == ("law", "music", "sport")
    assert Counter(corpus.domain_names[n] for n in corpus.domain_of) == {"sport": 60, "law": 30, "music": 30}
    subset = Subset(corpus, Sampling(), "train")
    assert len(subset.groups) == 100
    assert (subset.rows(subset.groups) == corpus.row_of[subset.groups]).all()


@pytest.mark.parametrize("mixed", [1.0, 0.5])
def test_fewer_groups_are_nested_and_have_the_domains_in_their_shares(corpus: Corpus, mixed: float) -> None:
    before: set[int] = set()
    for count in (4, 10, 12, 40, 77, 100):
        found = Subset(corpus, Sampling(groups=count, translated=mixed), "train").groups
        assert len(found) == count
        assert before <= set(found.tolist())
        before = set(found.tolist())
        shares = Counter(corpus.domain_names[n] for n in corpus.domain_of[found])
        assert all(abs(shares[name] - count * share) <= 1 for name, share in (("sport", 0.5), ("law", 0.25)))


def test_a_share_of_the_groups_keeps_all_languages(corpus: Corpus) -> None:
    """The others keep one; a smaller share is a part of a larger one."""
    whole: set[int] = set()
    for share in (0.0, 0.25, 0.5, 1.0):
        subset = Subset(corpus, Sampling(translated=share), "train")
        there = (subset.rows(subset.groups) >= 0).sum(axis=1)
        assert set(there.tolist()) <= {1, 3}
        kept = set(subset.groups[there == 3].tolist())
        assert len(kept) == 100 * share
        assert whole <= kept
        whole = kept
        assert (subset.rows(subset.groups[::-1]) == subset.rows(subset.groups)[::-1]).all()  # whatever is asked with it
    alone = Subset(corpus, Sampling(translated=0.0), "train")
    of_language = (alone.rows(alone.groups) >= 0).sum(axis=0)
    assert of_language.sum() == 100
    assert of_language.min() > 15  # 33 expected, sd 4.7
    english = Subset(corpus, Sampling(translated=0.0, languages=("en",)), "train")
    assert (english.rows(english.groups)[:, 1] >= 0).all()


def test_groups_without_translations_are_in_no_cross_lingual_batch(corpus: Corpus) -> None:
    sampling = Sampling(translated=0.25, mono=0, cross=1, translations=Translations(passage=1))
    plan = Plan(corpus, sampling, 8, seed=0)
    drawn = np.concatenate([plan.batch(step).groups for step in range(20)])
    assert len(np.unique(drawn)) == 25
    mono = Plan(corpus, replace(sampling, mono=1.0, cross=0.0), 8, seed=0)
    for step in range(10):
        batch = mono.batch(step)
        ((_, rows),) = TranslationViews(mono).rows(batch)
        assert ((rows[:, 0] >= 0) == np.isin(batch.groups, drawn)).all()


def test_validation_asks_nothing_of_a_left_out_domain(corpus: Corpus) -> None:
    config = BenchmarkConfig(name=heldout.NAME, path=str(corpus.directory))
    whole, part = (read_benchmark(replace(config, without_domains=names)) for names in ((), ("sport",)))
    assert Counter(query.domain for query in whole.queries) == {"sport": 30, "law": 15, "music": 15}
    assert Counter(query.domain for query in part.queries) == {"law": 15, "music": 15}
    assert len(part.passages) == 30
    with pytest.raises(ValueError, match=r"benchmark\.without_domains is .*, which sample does not use"):
        read_benchmark(BenchmarkConfig(name="sample", without_domains=("sport",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, r"sampling\.groups is 0: it must be at least 1"),
        ({"translated": 1.5}, r"sampling\.translated is 1\.5: it must be from 0 to 1"),
        ({"groups": 101}, r"sampling\.groups is 101, but the data has 100 groups"),
        ({"without_domains": ("sports",)}, r"no domain 'sports' \(did you mean sport\?\); it has law, music, sport"),
        ({"without_domains": ("law", "music", "sport")}, "the data has no train pairs"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    corpus: Corpus, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(corpus, Sampling(**options), 4, seed=0)  # type: ignore[arg-type]


def test_a_corpus_of_an_earlier_version(corpus: Corpus, tmp_path: Path) -> None:
    """It has no domains of groups: that matters only where there are several."""
    old = shutil.copytree(corpus.directory, tmp_path / "several")
    (old / "domain_of.npy").unlink()
    with pytest.raises(ValueError, match=f"{old} was written by an earlier version"):
        Corpus.open(old)
    alone = corpus_of([replace(pair, domain="") for pair in pairs()], tmp_path / "one")
    (alone.directory / "domain_of.npy").unlink()
    assert not Corpus.open(alone.directory).domain_of.any()


@pytest.mark.parametrize("method", ["X-X-mono", "hybrid"])
def test_scarce_languages_have_fewer_pairs_and_all_are_nested(corpus: Corpus, method: str) -> None:
    """Of 100 questions, 12 to 13 keep a pair in Chinese, and 50 a text; nothing changes in the other languages."""
    zh = corpus.languages.index("zh")
    before: set[int] = set()
    for pairs_kept, texts_kept in ((0.0, 0.125), (0.125, 0.5), (0.5, 1.0), (1.0, 1.0)):
        scarce = LowResource(languages=("zh",), pairs=pairs_kept, texts=texts_kept)
        subset = Subset(corpus, Sampling(low_resource=scarce), "train")
        rows, texts = (subset.rows(subset.groups, texts=x) for x in (False, True))
        assert (np.delete(rows, zh, axis=1) == np.delete(corpus.row_of[subset.groups], zh, axis=1)).all()
        drawn = set(subset.groups[rows[:, zh] >= 0].tolist())
        there = set(subset.groups[texts[:, zh] >= 0].tolist())
        assert len(drawn) == math.ceil(100 * pairs_kept)
        assert len(there) == math.ceil(100 * texts_kept)
        assert before <= drawn <= there
        before = drawn
    scarce = LowResource(languages=("zh",), pairs=0.125, texts=0.5)
    views = Translations(passage=2, languages=LANGUAGES)
    plan = Plan(corpus, Sampling(method=method, low_resource=scarce, translations=views), 8, seed=3)
    translations, seen, translated = TranslationViews(plan), set[int](), set[int]()
    for step in range(60):
        batch = plan.batch(step)
        for rows in (batch.query_row, batch.passage_row):
            seen |= set(rows[rows >= 0].tolist()) & set(corpus.row_of[:, zh].tolist())
        for _, rows in translations.rows(batch):
            translated |= set(rows[rows >= 0].tolist()) & set(corpus.row_of[:, zh].tolist())
    assert len(seen) <= 13
    assert 13 < len(translated) <= 50


def test_another_language_has_other_questions(corpus: Corpus) -> None:
    scarce = LowResource(languages=("de", "zh"), pairs=0.5)
    subset = Subset(corpus, Sampling(low_resource=scarce), "train")
    rows = subset.rows(subset.groups) >= 0
    both = (rows[:, corpus.languages.index("de")] & rows[:, corpus.languages.index("zh")]).sum()
    assert 10 < both < 40  # 25 are expected of independent halves


def test_what_low_resource_cannot_be(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match=r"low_resource\.pairs is 0\.5 and texts 0\.25: they must be from 0 to 1, and"):
        LowResource(languages=("zh",), pairs=0.5, texts=0.25)
    with pytest.raises(ValueError, match=r"sampling\.low_resource: the corpus has no language 'sw'"):
        Subset(corpus, Sampling(low_resource=LowResource(languages=("sw",), pairs=0.5)), "train")
