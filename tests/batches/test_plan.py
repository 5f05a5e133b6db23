"""The batch plan: what a batch may hold, for all weights, and that it is a function of seed and step alone."""

import hashlib
import itertools
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from helpers import corpus_of

from hybridir.batches.plan import Plan
from hybridir.batches.sampling import KINDS, Noise, Sampling, Translations
from hybridir.batches.views import TranslationViews
from hybridir.data.records import Pair, Passage

LANGUAGES = ("ar", "de", "en", "zh")


def pair(group, language, n_negatives=0, text="", source="s", split=""):
    own = Passage(passage_id="", language=language, text=text or f"answer to {group} of {source} in {language}")
    negatives = tuple(
        Passage(passage_id="", language=language, text=f"negative {n} of {group} in {language}")
        for n in range(n_negatives)
    )
    return Pair(
        group_id=group,
        language=language,
        query=f"question {group}",
        passage=own,
        negatives=negatives,
        source=source,
        split=split,
    )


def small_records():
    """40 groups; every third passage in English is that of the group before it; some translations are missing."""
    return [
        pair(f"g{n}", language, n_negatives=n % 4 + 1, text=f"shared {n // 3}" if language == "en" and n % 3 else "")
        for n in range(40)
        for language in LANGUAGES
        if not (language == "zh" and n % 5 == 0)
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return corpus_of(small_records(), tmp_path_factory.mktemp("corpus"))


def complete(root, sizes, source="s"):
    """A corpus with `sizes[language]` groups in each language, those of a smaller one translated from a larger one."""
    return corpus_of([pair(f"g{n}", x, source=source) for x, size in sizes.items() for n in range(size)], root)


def arrays(batch):
    return {f.name: getattr(batch, f.name) for f in fields(batch) if isinstance(getattr(batch, f.name), np.ndarray)}


def same(a, b):
    return a.kind == b.kind and all(np.array_equal(v, arrays(b)[k]) for k, v in arrays(a).items())


MIXED = {"mono": 0.4, "mixed": 0.2, "cross": 0.4, "negatives": 2}
VIEWS, NOISE = Translations(passage=2, query=1), Noise(probability=0.5)


@pytest.mark.parametrize(
    "more", [{}, {"translations": VIEWS}, {"noise": NOISE}, {"translations": VIEWS, "noise": NOISE}]
)
def test_golden_hash(corpus, more):
    """Changes where NumPy's streams or sorting, or this code, would change the batches of a published run.

    It is the same with any further view that is switched on.
    """
    digest = hashlib.sha256()
    plan = Plan(corpus, Sampling(**MIXED, **more), batch_size=8, seed=11)
    for step in (0, 1, 2, 3, 1000, 2**40):
        batch = plan.batch(step)
        digest.update(batch.kind.encode())
        for array in arrays(batch).values():
            assert array.dtype == np.int64
            digest.update(array.astype("<i8").tobytes())
    assert digest.hexdigest() == "36c471c32e12328156383c2f057db04471f8cb2fc6aa496b50cc8e1f1a6dfa11"


@pytest.mark.parametrize("more", [{}, {"noise": NOISE}])
def test_golden_hash_of_translations(corpus, more):
    """The same for the rows of the views, whatever else is switched on."""
    digest = hashlib.sha256()
    plan = Plan(corpus, Sampling(**MIXED, translations=VIEWS, **more), 8, seed=11)
    for step in (0, 1, 1000, 2**40):
        for name, rows in TranslationViews(plan).rows(plan.batch(step)):
            assert rows.dtype == np.int64
            digest.update(name.encode() + rows.astype("<i8").tobytes())
    assert digest.hexdigest() == "a03308bdfeaf6bf4b729ffc8b41d450d5877daa74ab6532fa26b5437e137d766"


def test_is_a_function_of_seed_and_step(corpus):
    sampling = Sampling(mono=0.4, mixed=0.2, cross=0.4, negatives=1)
    forward, jumping = Plan(corpus, sampling, 8, seed=5), Plan(corpus, sampling, 8, seed=5)
    batches = [forward.batch(step) for step in range(30)]
    for step in (29, 3, 17, 3, 0):
        assert same(jumping.batch(step), batches[step]), step
    assert not any(same(a, b) for a, b in itertools.pairwise(batches))
    assert not any(same(Plan(corpus, sampling, 8, seed=6).batch(step), batches[step]) for step in range(30))


WEIGHTS = [
    *((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
    *((0.5, 0, 0.5, 0), (0.3, 0.3, 0.4, 0), (0.1, 0.9, 0, 0), (0, 0.2, 0.8, 0), (0.2, 0.2, 0.2, 0.4)),
]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("seed", "negatives", "languages"), [(0, 0, None), (1, 2, None), (2, 1, ("zh", "de", "en"))])
def test_properties_of_a_batch(corpus, weights, seed, negatives, languages):
    sampling = Sampling(**dict(zip(KINDS, weights, strict=True)), negatives=negatives, languages=languages)
    plan = Plan(corpus, sampling, 8, seed)
    assert plan.languages == (languages or LANGUAGES)
    for step in range(30):
        batch = plan.batch(step)
        assert dict(zip(KINDS, weights, strict=True))[batch.kind] > 0
        if batch.kind == "mono":
            assert len({*batch.query_language, *batch.passage_language}) == 1
        elif batch.kind == "mixed":
            assert (batch.query_language == batch.passage_language).all()
        elif batch.kind == "both":
            assert len({*batch.query_language[:4], *batch.passage_language[:4]}) == 1
            assert (batch.query_language[4:] != batch.passage_language[4:]).all()
        else:
            assert (batch.query_language != batch.passage_language).all()
        assert len(set(batch.groups)) == len(set(corpus.passage_group[batch.groups])) == 8
        assert batch.negatives.shape == (8, negatives)
        for item in range(8):
            for row, language in (
                (batch.query_row[item], batch.query_language[item]),
                (batch.passage_row[item], batch.passage_language[item]),
            ):
                assert corpus.row_of[batch.groups[item], corpus.languages.index(plan.languages[language])] == row >= 0
            start, end = corpus.negative_start[batch.passage_row[item] :][:2]
            assert len(set(batch.negatives[item])) == negatives
            assert ((start <= batch.negatives[item]) & (batch.negatives[item] < end)).all()


def test_rows_hold_what_the_batch_says(corpus):
    plan = Plan(corpus, Sampling(mono=0, mixed=0, cross=1, negatives=1), 8, seed=0)
    batch = plan.batch(0)
    for item in range(8):
        query, answer = corpus.pair(int(batch.query_row[item])), corpus.pair(int(batch.passage_row[item]))
        assert query["language"] == plan.languages[batch.query_language[item]]
        assert answer["language"] == plan.languages[batch.passage_language[item]]
        assert query["group_id"] == answer["group_id"]
        negative = answer["negatives"][batch.negatives[item, 0] - corpus.negative_start[batch.passage_row[item]]]
        assert f"of {answer['group_id']} in {answer['language']}" in negative["text"]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_parts_make_up_the_batch(corpus, world_size):
    plan = Plan(corpus, Sampling(mono=0.4, mixed=0.2, cross=0.4, negatives=2), 8, seed=5)
    for step in range(10):
        batch = plan.batch(step)
        parts = [batch.part(rank, world_size) for rank in range(world_size)]
        assert {(part.step, part.kind, len(part.groups)) for part in parts} == {(step, batch.kind, 8 // world_size)}
        for name, whole in arrays(batch).items():
            assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), whole), name


@pytest.mark.parametrize("weights", WEIGHTS)
def test_shares_of_kinds(corpus, weights):
    plan = Plan(corpus, Sampling(**dict(zip(KINDS, weights, strict=True))), 2, seed=3)
    kinds = Counter(plan.batch(step).kind for step in range(600))
    for kind, weight in zip(KINDS, weights, strict=True):
        assert abs(kinds[kind] / 600 - weight) <= 4 * (weight * (1 - weight) / 600) ** 0.5, kind


def test_monolingual_batches_first(corpus):
    first = Plan(corpus, Sampling(mono=0, cross=1, mono_first=5), 8, seed=1)
    assert [first.batch(step).kind for step in range(8)] == ["mono"] * 5 + ["cross"] * 3
    assert same(first.batch(2), Plan(corpus, Sampling(mono=1, cross=0), 8, seed=1).batch(2))
    assert same(first.batch(7), Plan(corpus, Sampling(mono=0, cross=1), 8, seed=1).batch(7))


@pytest.mark.parametrize("asked", [{"mono": 0, "cross": 1, "mono_first": 1}, {"mono": 0, "cross": 0, "both": 1}])
def test_every_language_fills_the_monolingual_part(tmp_path, asked):
    corpus = complete(tmp_path, {"ar": 3, "de": 30, "en": 30})
    with pytest.raises(ValueError, match="a mono batch needs 8 groups with different passages in ar, and there are 3"):
        Plan(corpus, Sampling(**asked), 8, seed=0)


def language_counts(plan, steps):
    """How often an item has each (query, passage) language."""
    counts = Counter()
    for step in range(steps):
        batch = plan.batch(step)
        counts.update(zip(batch.query_language.tolist(), batch.passage_language.tolist(), strict=True))
    return counts


def assert_near(counts, expected, n):
    assert set(counts) == set(expected)
    for key, share in expected.items():
        assert abs(counts[key] / n - share) < 4 * (share * (1 - share) / n) ** 0.5, key


@pytest.mark.parametrize(("exponent", "shares"), [(0, (1 / 3,) * 3), (1, (0.1, 0.3, 0.6)), (0.5, None)])
def test_language_exponent(tmp_path, exponent, shares):
    sizes = {"ar": 10, "de": 30, "en": 60}
    corpus = complete(tmp_path, sizes)
    shares = shares or np.array([10, 30, 60]) ** 0.5 / (np.array([10, 30, 60]) ** 0.5).sum()
    mixed = Plan(corpus, Sampling(mono=0, mixed=1, cross=0, language_exponent=exponent), 10, seed=1)
    assert_near(language_counts(mixed, 300), {(n, n): share for n, share in enumerate(shares)}, 3000)
    mono = Plan(corpus, Sampling(mono=1, mixed=0, cross=0, language_exponent=exponent), 2, seed=1)
    counts = Counter(int(mono.batch(step).query_language[0]) for step in range(1000))
    assert_near(counts, dict(enumerate(shares)), 1000)


def test_language_exponent_of_cross_weighs_ordered_pairs(tmp_path):
    corpus = complete(tmp_path, {"ar": 10, "de": 30, "en": 60})  # ar-de, ar-en: 10 groups in both, de-en: 30
    uniform = Plan(corpus, Sampling(mono=0, cross=1), 10, seed=1)
    ordered = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)]
    assert_near(language_counts(uniform, 200), dict.fromkeys(ordered, 1 / 6), 2000)
    by_size = Plan(corpus, Sampling(mono=0, cross=1, language_exponent=1), 10, seed=1)
    expected = dict.fromkeys(ordered[:4], 0.1) | dict.fromkeys(ordered[4:], 0.3)
    assert_near(language_counts(by_size, 200), expected, 2000)


@pytest.mark.parametrize(("exponent", "large"), [(1, 0.9), (0, 0.5), (0.5, 0.75)])
def test_source_exponent(tmp_path, exponent, large):
    """Two sources of 900 and 100 groups; in the large one half of the groups have a translation."""
    records = [pair(f"g{n}", "en", source="large") for n in range(900)]
    records += [pair(f"g{n}", "de", source="large") for n in range(450)]
    records += [pair(f"g{n}", "en", source="small") for n in range(100)]
    corpus = corpus_of(records, tmp_path)
    sampling = Sampling(mono=1, cross=0, languages=("en",), source_exponent=exponent)
    plan = Plan(corpus, sampling, 4, seed=1)
    groups = np.concatenate([plan.batch(step).groups for step in range(1000)])
    counts = Counter(corpus.sources[s] for s in corpus.source_of[groups].tolist())
    assert_near(counts, {"large": large, "small": 1 - large}, 4000)
    of_large = groups[corpus.source_of[groups] == corpus.sources.index("large")]
    translated = (corpus.row_of[of_large, corpus.languages.index("de")] >= 0).mean()
    assert abs(translated - 0.5) < 4 * (0.25 / len(of_large)) ** 0.5  # uniform within the source


def test_groups_are_drawn_evenly(tmp_path):
    plan = Plan(complete(tmp_path, {"en": 50, "de": 50}), Sampling(), 10, seed=2)
    counts = np.bincount(np.concatenate([plan.batch(step).groups for step in range(1000)]), minlength=50)
    expected = 10_000 / 50
    assert (np.abs(counts - expected) < 4.5 * expected**0.5).all()


def test_negatives_are_drawn_evenly_and_only_where_there_are_enough(corpus):
    plan = Plan(corpus, Sampling(mono=0, mixed=1, cross=0, negatives=3), 4, seed=2)
    places = Counter()
    for step in range(500):
        batch = plan.batch(step)
        available = corpus.negative_start[batch.passage_row + 1] - corpus.negative_start[batch.passage_row]
        assert (available >= 3).all()
        four = np.flatnonzero(available == 4)
        places.update(
            (batch.negatives[four] - corpus.negative_start[batch.passage_row[four]][:, None]).ravel().tolist()
        )
    n = places.total()
    assert set(places) == {0, 1, 2, 3}
    assert all(abs(count / n - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5 for count in places.values())


@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_batch_of_every_passage_group(tmp_path, weights):
    """The last items need the list of what is still free: 300 groups are too many to hit by chance."""
    records = [pair(f"g{n}", x, text=f"shared {n // 2} {x}") for n in range(600) for x in ("de", "en")]
    corpus = corpus_of(records, tmp_path)
    mono, mixed, cross = weights
    plan = Plan(corpus, Sampling(mono=mono, mixed=mixed, cross=cross), 300, seed=4)
    for step in range(3):
        assert len(set(corpus.passage_group[plan.batch(step).groups])) == 300
    assert same(plan.batch(2), Plan(corpus, plan.sampling, 300, seed=4).batch(2))


def test_fallback_alone(corpus, monkeypatch):
    """Without a single round of rejection every item comes from the list, and the rules hold all the same."""
    monkeypatch.setattr("hybridir.batches.plan._ROUNDS", 0)
    plan = Plan(corpus, Sampling(mono=0, mixed=0, cross=1, negatives=1), 8, seed=0)
    for step in range(20):
        batch = plan.batch(step)
        assert len(set(corpus.passage_group[batch.groups])) == 8
        assert min(batch.query_row.min(), batch.passage_row.min()) >= 0


@pytest.mark.parametrize("kind", ["mixed", "cross"])
def test_languages_that_run_out_give_way_to_others(tmp_path, kind):
    """Uniform over pairs of languages, half the items would be in zh, which has two groups."""
    corpus = complete(tmp_path, {"de": 30, "en": 30, "zh": 2})
    weights = {"mono": 0, "mixed": kind == "mixed", "cross": kind == "cross"}
    plan = Plan(corpus, Sampling(**weights), 20, seed=5)
    with_zh = []
    for batch in map(plan.batch, range(30)):
        assert len(set(corpus.passage_group[batch.groups])) == 20
        assert min(batch.query_row.min(), batch.passage_row.min()) >= 0
        assert ((batch.query_language != batch.passage_language) == (kind == "cross")).all()
        zh = plan.languages.index("zh")
        with_zh.append(int(((batch.query_language == zh) | (batch.passage_language == zh)).sum()))
    assert set(with_zh) <= {1, 2}  # a group can be drawn for other languages that it has
    assert same(plan.batch(9), Plan(corpus, plan.sampling, 20, seed=5).batch(9))


def test_parts_are_drawn_from_apart(tmp_path):
    records = [pair(f"g{n}", x, split="validation" if n % 4 == 0 else "train") for n in range(40) for x in ("de", "en")]
    corpus = corpus_of(records, tmp_path)
    for part, count in (("train", 30), ("validation", 10)):
        plan = Plan(corpus, Sampling(), count, seed=0, part=part)
        assert set(plan.batch(3).groups) == set(np.flatnonzero(corpus.groups(part)))
    with pytest.raises(ValueError, match="and there are 10"):
        Plan(corpus, Sampling(), 11, seed=0, part="validation")
    with pytest.raises(ValueError, match=r"the data has no validation pairs\. Raise data\.validation_share"):
        Plan(corpus_of([pair("a", "en")], tmp_path), Sampling(), 2, seed=0, part="validation")


def test_batch_too_large_names_the_language(tmp_path):
    corpus = complete(tmp_path, {"de": 20, "en": 20, "zh": 5})
    plan = Plan(corpus, Sampling(mono=1, cross=0), 5, seed=0)
    plan.batch(0)
    with pytest.raises(ValueError, match=r"a mono batch needs 6 groups with different passages in zh, and there are 5"):
        Plan(corpus, Sampling(mono=1, cross=0), 6, seed=0)
    with pytest.raises(ValueError, match=r"a cross batch needs 21 groups .* in de, en, zh, and there are 20"):
        Plan(corpus, Sampling(mono=0, cross=1), 21, seed=0)
    Plan(corpus, Sampling(languages=("de", "en")), 20, seed=0).batch(0)
    with pytest.raises(ValueError, match=r"in de, and there are 20\. Lower train\.batch_size to 20$"):
        Plan(corpus, Sampling(languages=("de", "en")), 21, seed=0)


def test_languages_are_left_out_only_where_others_are_enough(tmp_path):
    corpus = complete(tmp_path, {"ar": 1, "de": 20, "zh": 5})
    with pytest.raises(ValueError, match=r"are 1\. Leave ar, zh out of sampling\.languages$"):
        Plan(corpus, Sampling(mono=1, cross=0), 6, seed=0)
    with pytest.raises(ValueError, match=r"are 1\. Add data$"):
        Plan(corpus, Sampling(mono=1, cross=0, languages=("ar",)), 2, seed=0)
    parts = {"train": 11, "validation": 1}
    records = [pair(f"{part}{n}", x, split=part) for part in parts for n in range(parts[part]) for x in ("de", "en")]
    small = corpus_of(records, tmp_path)
    with pytest.raises(ValueError, match=r"2 groups .* in de, and there are 1\. Raise data\.validation_share$"):
        Plan(small, Sampling(mono=1, cross=0), 2, seed=0, part="validation")


def test_passages_that_are_the_same_do_not_fill_a_batch(tmp_path):
    corpus = corpus_of([pair(f"g{n}", "en", text=f"shared {n // 2}") for n in range(10)], tmp_path)
    Plan(corpus, Sampling(mono=1, cross=0), 5, seed=0).batch(0)
    with pytest.raises(ValueError, match="in en, and there are 5"):
        Plan(corpus, Sampling(mono=1, cross=0), 6, seed=0)


def test_too_few_negatives_or_languages(tmp_path, corpus):
    with pytest.raises(ValueError, match=r"no pair is in one of the languages .*, with at least 5 hard negatives"):
        Plan(corpus, Sampling(mono=1, cross=0, negatives=5), 2, seed=0)
    with pytest.raises(ValueError, match=r"a mono batch needs 11 groups .* in zh, and there are 8"):
        Plan(corpus, Sampling(mono=1, cross=0, negatives=4), 11, seed=0)
    with pytest.raises(
        ValueError, match=r"sampling asks for cross batches, but no question is in two of the languages .*en.*group_id"
    ):
        Plan(corpus, Sampling(languages=("en",)), 2, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mono": 0.5, "cross": 0.4}, "must be at least 0 and sum to 1"),
        ({"mono": -0.5, "mixed": 1, "cross": 0.5}, "must be at least 0 and sum to 1"),
        ({"mono": float("nan")}, "must be at least 0 and sum to 1"),
        ({"negatives": -1}, "sampling.negatives is -1"),
        ({"languages": ("en", "fr")}, "the corpus has no language 'fr'; it has ar, de, en, zh"),
        ({"languages": ("en", "en")}, "named twice"),
    ],
)
def test_bad_sampling(corpus, options, message):
    with pytest.raises(ValueError, match=message):
        Plan(corpus, Sampling(**options), 4, seed=0)


def test_bad_batch_size(corpus):
    with pytest.raises(ValueError, match="the batch size is 1"):
        Plan(corpus, Sampling(), 1, seed=0)
