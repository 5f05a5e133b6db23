"""The embedded sample: enough facts, whole sentences, splits that share nothing."""

import hashlib
import shutil
from collections import Counter
from importlib.metadata import version

import pytest
from helpers import pairs_of

from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.formats import sample
from hybridir.data.formats.sample_data import make
from hybridir.data.sources import contents_key, find_shards

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
EVERY = tuple(sorted(LANGUAGES + sample.LOW_RESOURCE))


def pairs(**options):
    return pairs_of(Source(languages=LANGUAGES, **options))


def test_has_eleven_languages_and_enough_facts():
    everything = sample.facts(960, "all")
    assert len(everything) == 960
    assert len({(fact.relation, fact.territory) for fact in everything}) == 960
    relations = Counter(fact.relation for fact in everything)
    assert len(relations) >= 4
    assert min(relations.values()) >= 100
    taken = len(sample.facts(960, "train")) + len(sample.facts(960, "validation"))
    assert Counter(pair.language for pair in pairs()) == dict.fromkeys(LANGUAGES, taken)


def test_default_languages():
    assert {pair.language for pair in pairs_of(Source(facts=20))} == set(sample.TRAINED)
    assert sample.read_benchmark(BenchmarkConfig(facts=20, split="all")).languages == LANGUAGES
    assert set(sample.TRAINED) | set(sample.ZERO_SHOT) == set(LANGUAGES)


def test_low_resource_languages_join_the_others():
    """They lack what CLDR does not name, and move nothing of the eleven."""
    facts = {fact.id: fact for fact in sample.facts(960, "all")}
    alone, joined = (sample.read_benchmark(BenchmarkConfig(languages=x)) for x in (LANGUAGES, EVERY))
    answers = [(one.passage_id, one.language) for one in joined.passages]
    kept = [n for n, query in enumerate(joined.queries) if query.language in LANGUAGES]
    assert [joined.queries[n] for n in kept] == list(alone.queries)
    assert [p for p in joined.passages if p.language in LANGUAGES] == list(alone.passages)
    counts = Counter(passage.language for passage in joined.passages)
    assert {x: counts[x] for x in LANGUAGES} == dict.fromkeys(LANGUAGES, 960)
    assert all(950 < counts[x] <= 960 for x in sample.LOW_RESOURCE), counts
    for query, places in zip(joined.queries, joined.relevant, strict=True):
        named = [x for x in EVERY if sample._is_named(facts[query.group_id], x)]
        assert query.language in named
        assert [answers[place] for place in places] == [(query.group_id, x) for x in named]
    both = pairs_of(Source(languages=EVERY, facts=300))
    assert [pair for pair in both if pair.language in LANGUAGES] == pairs(facts=300)


@pytest.mark.parametrize("column", ["week_start", "weekend_start"])
def test_no_two_languages_share_the_name_of_a_day(column):
    """As they would if names of one had been taken for another's."""
    names = [name for language in (*LANGUAGES, *make.FURTHER) for name in sample._names(language)[column].values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("language", EVERY)
def test_templates(language):
    for relation, sides in sample._templates()[language].items():
        for side, slots in (("query", ["{territory}"]), ("passage", ["{territory}", "{answer}"])):
            assert len(set(sides[side])) >= 3, (relation, side)
            for template in sides[side]:
                assert [template.count(slot) for slot in slots] == [1] * len(slots), template
                assert template.count("{") == len(slots), template


def test_every_template_is_used_and_no_slot_is_left():
    for pair in pairs():
        text = pair.query + pair.passage.text
        assert "{" not in text, pair
        assert "}" not in text, pair
        assert "None" not in text, pair
    for language in LANGUAGES:
        for relation in {fact.relation for fact in sample.facts(960, "all")}:
            starts = Counter()
            for fact in sample.facts(960, "all"):
                if fact.relation == relation:
                    territory = sample._names(language)["territory"][fact.territory]
                    starts[sample._sentence(fact, language, "query").replace(territory, "")] += 1
            assert len(starts) >= 3, (language, relation)


def test_splits_are_disjoint_and_whole():
    ids = {split: {fact.id for fact in sample.facts(960, split)} for split in ("train", "validation", "test", "all")}
    assert ids["train"] | ids["validation"] | ids["test"] == ids["all"]
    assert sum(len(ids[split]) for split in ("train", "validation", "test")) == len(ids["all"]) == 960
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(len(ids[split]) / 960 - share) < 0.03, split


def test_no_test_question_or_answer_is_trained_on():
    test = sample.read_benchmark(BenchmarkConfig())
    answers = {test.passages[place] for places in test.relevant for place in places}
    assert not {pair.group_id for pair in pairs()} & {query.group_id for query in test.queries}
    assert not {(p.language, p.query) for p in pairs()} & {(query.language, query.text) for query in test.queries}
    assert not {(p.language, p.passage.text) for p in pairs()} & {(answer.language, answer.text) for answer in answers}


def test_is_deterministic():
    assert pairs() == pairs()
    assert [fact.id for fact in sample.facts(10, "all")] == [fact.id for fact in sample._all_facts()[:10]]


@pytest.mark.parametrize("split", ["train", "validation", "test", "all"])
def test_smaller_sample_is_part_of_larger(split):
    assert set(sample.facts(300, split)) < set(sample.facts(960, split))


def test_pairs_of_a_smaller_sample():
    small = {fact.id for split in ("train", "validation") for fact in sample.facts(300, split)}
    assert pairs(facts=300) == [pair for pair in pairs() if pair.group_id in small]


def test_answers_are_translated():
    """Else a model could match the answer's string, whatever the language."""
    shares = []
    for fact in sample.facts(960, "all"):
        names = [sample._names(language)[fact.relation][fact.answer] for language in LANGUAGES]
        assert all(names), fact
        shares.append(len(set(names)) / len(LANGUAGES))
    assert min(shares) > 0.5
    assert sum(shares) / len(shares) > 0.9


def test_passage_holds_territory_and_answer():
    for fact in sample.facts(200, "all"):
        for language in LANGUAGES:
            text = sample._passage(fact, language).text
            names = sample._names(language)
            assert names[fact.relation][fact.answer] in text
            assert names["territory"][fact.territory] in text


@pytest.mark.parametrize(
    ("fact", "language", "name"),
    [
        ("currency-JP", "en", "Japanese Yen"),
        ("currency-JP", "de", "Japanischer Yen"),
        ("language-BR", "es", "portugués"),
        ("week_start-DE", "en", "Monday"),
        ("week_start-US", "en", "Sunday"),
        ("time_zone-DE", "ru", "Берлин"),
    ],
)
def test_known_facts(fact, language, name):
    [found] = [one for one in sample._all_facts() if one.id == fact]
    assert sample._names(language)[found.relation][found.answer] == name


def test_is_the_published_sample():
    """Whichever release of Babel is installed."""
    assert len(sample._all_facts()) == 1147
    assert len(pairs(facts=300)) == 2684
    assert len(pairs_of(Source())) == 9 * (679 + 96)
    text = "".join(f"{pair.query}\n{pair.passage.text}\n" for pair in pairs(facts=1147))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "fc15d6a418750f6aaff31faaa1acd85b6bf1b2f3373f155be86615d50dfded3c"
    )


@pytest.mark.parametrize("language", make.LANGUAGES + make.FURTHER)
def test_names(language):
    """The eleven name all that the facts need, the further languages nearly all; no file has more."""
    needed = sample._names("en")
    for column, names in sample._names(language).items():
        assert all(names.values())
        assert names.keys() <= needed[column].keys()
        assert len(needed[column]) - len(names) <= (1 if language in make.FURTHER else 0), column


@pytest.mark.skipif(version("babel") != make.BABEL, reason=f"needs babel=={make.BABEL}, which the data are made with")
def test_data_are_what_the_script_makes(tmp_path):
    make.make(tmp_path)
    made = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    assert len(made) == len(make.LANGUAGES + make.FURTHER) + 2
    for file in made:
        assert (tmp_path / file).read_bytes() == (sample._DATA / file).read_bytes(), file


def test_script_refuses_another_release(tmp_path, monkeypatch):
    monkeypatch.setattr("babel.__version__", "2.99")
    with pytest.raises(ValueError, match=r"needs Babel 2\.18\.0, not 2\.99: pip install babel==2\.18\.0"):
        make.make(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["facts.tsv", "templates.yaml", "names/de.json"])
def test_corpus_key_changes_with_the_data(file, tmp_path, monkeypatch):
    def key():
        return contents_key(find_shards(DataConfig(languages=("de", "en"))), 0.05)

    before = key()
    shutil.copytree(sample._DATA, tmp_path / "data")
    monkeypatch.setattr(sample, "_DATA", tmp_path / "data")
    assert key() == before
    with (tmp_path / "data" / file).open("a") as data:
        data.write("\n")
    assert key() != before


def test_benchmark_pools_all_facts_and_points_at_the_translations():
    benchmark = sample.read_benchmark(BenchmarkConfig(facts=100, split="test"))
    asked = sample.facts(100, "test")
    assert len(benchmark.queries) == 11 * len(asked)
    assert len(benchmark.passages) == 11 * 100
    for query, relevant in zip(benchmark.queries, benchmark.relevant, strict=True):
        assert [benchmark.passages[place].language for place in relevant] == list(LANGUAGES)
        assert {benchmark.passages[place].passage_id for place in relevant} == {query.group_id}
        assert query.cluster == query.group_id.partition("-")[2]
    assert len({query.query_id for query in benchmark.queries}) == len(benchmark.queries)


@pytest.mark.parametrize("count", [0, 9, 100_000])
def test_bad_number_of_facts(count):
    with pytest.raises(ValueError, match=f"facts is {count}: it must be from 10 to"):
        sample.facts(count, "all")


def test_bad_languages():
    with pytest.raises(ValueError, match="the sample has no language 'xx'; it has ar, bn"):
        pairs_of(Source(languages=("en", "xx")))
    with pytest.raises(ValueError, match="named twice: en, en"):
        sample.read_benchmark(BenchmarkConfig(languages=("en", "en")))
