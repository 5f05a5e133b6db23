"""What goes into a corpus, what is kept out, and what does not depend on the order of the records."""

import itertools
import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import corpus_of

from hybridir.batches.plan import Plan
from hybridir.batches.sampling import Sampling
from hybridir.data.build import build_corpus
from hybridir.data.corpus import Corpus
from hybridir.data.intake import ROWS, to_batches
from hybridir.data.records import OWN, Pair, Passage, Rejected


def passage(passage_id="", text="", language="en"):
    return Passage(passage_id=passage_id, language=language, text=text or f"text of {passage_id} in {language}")


def pair(group, language="en", passage_id="", text="", **more):
    file = more.pop("file", f"file: {group} {language}")
    own = passage(passage_id, text or ("" if passage_id else f"answer to {group} in {language}"), language)
    query = more.pop("query", f"question {group} in {language}")
    return Pair(group_id=group, language=language, query=query, passage=own, file=file, **more)


def rejects(corpus):
    lines = (corpus.directory / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["file"], line["reason"], line["value"]) for line in map(json.loads, lines)]


def row(corpus, group, language="en"):
    """The row of a group, found by reading the file."""
    for chunk in range(corpus.n_chunks):
        for n, one in enumerate(corpus.chunk(chunk).to_pylist()):
            if (one["group_id"], one["language"]) == (group, language):
                return int(corpus.chunk_start[chunk]) + n
    raise KeyError(group)


def passage_group(corpus, group, language="en"):
    index = np.flatnonzero((corpus.row_of == row(corpus, group, language)).any(axis=1))
    return int(corpus.passage_group[index[0]])


def two_sources():
    """12 groups in each of two sources, three languages, with hard negatives."""
    found = []
    for source, n, language in itertools.product(("alpha", "beta"), range(12), ("de", "en", "zh")):
        if (source, language) == ("beta", "zh"):
            continue
        negatives = tuple(passage(f"{source}-{m}", language=language) for m in (n + 1, n + 2, n + 90))
        found.append(pair(f"g{n}", language, f"{source}-{n}", source=source, negatives=negatives))
    return found


def drawn(corpus, steps=20):
    """What a plan draws, as texts."""
    plan = Plan(corpus, Sampling(mono=0.3, mixed=0.3, cross=0.4, negatives=2), batch_size=6, seed=7)
    found = []
    for step in range(steps):
        batch = plan.batch(step)
        for item in range(6):
            own = corpus.pair(int(batch.passage_row[item]))
            first = corpus.negative_start[batch.passage_row[item]]
            negatives = [own["negatives"][n - first]["text"] for n in batch.negatives[item]]
            found.append((batch.kind, corpus.pair(int(batch.query_row[item]))["query"], own["passage"], negatives))
    return found


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_order_changes_neither_fingerprint_nor_batches(tmp_path, order):
    records = two_sources()
    other = records[::-1] if order == "reversed" else random.Random(3).sample(records, len(records))
    a, b = corpus_of(records, tmp_path / "a"), corpus_of(other, tmp_path / "b")
    assert a.fingerprint == b.fingerprint
    assert (a.languages, a.sources) == (b.languages, b.sources) == (("de", "en", "zh"), ("alpha", "beta"))
    assert not np.array_equal(a.row_of, b.row_of)  # so the test can see a dependence on the order
    assert drawn(a) == drawn(b)


def test_where_a_record_comes_from_does_not_change_the_fingerprint(tmp_path):
    records = two_sources()
    elsewhere = [replace(record, file=f"other.jsonl:{n}") for n, record in enumerate(records)]
    assert corpus_of(records, tmp_path).fingerprint == corpus_of(elsewhere, tmp_path).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, query=r.query + "!"),
        lambda r: replace(r, group_id="other"),
        lambda r: replace(r, source="other"),
        lambda r: replace(r, passage=replace(r.passage, text=r.passage.text + "!")),
        lambda r: replace(r, negatives=r.negatives[:1]),
        lambda r: replace(r, negatives=r.negatives[::-1]),
        lambda r: replace(r, passage_group_id="x"),  # with the next: one passage group more
        lambda r: replace(r, negatives=(replace(r.negatives[0], passage_id="alpha-5"), *r.negatives[1:])),
    ],
)
def test_contents_change_the_fingerprint(tmp_path, change):
    records = two_sources()
    records[5] = replace(records[5], passage_group_id="x")
    changed = [change(records[0]), *records[1:]]
    assert corpus_of(records, tmp_path).fingerprint != corpus_of(changed, tmp_path).fingerprint


def test_rejects_are_counted_and_written_with_place_and_reason(tmp_path):
    records = [
        pair("good"),
        pair("good", "de"),
        pair("a", query="  ", file="f:1"),
        pair("b", text=" \n", file="f:2"),
        pair("", file="f:3"),
        pair("c", "xx-nope", file="f:4"),
        pair("d", query="a\0b", file="f:5"),
        pair("e", negatives=(passage("n"), passage(text=" ")), file="f:6"),
        pair("h", query="\u200b\u2060\x07\xa0", file="f:6a"),
        pair("j", domain="d" * 1001, file="f:6c"),
        pair("f", query="half \ud83d of an emoji", file="f:7"),
        Rejected(file="f:8", reason="not JSON", value="{"),
        pair("good", query="another question", file="f:9"),
        pair("good", file="f:10"),
    ]
    corpus = corpus_of(records, tmp_path)
    assert rejects(corpus) == [
        ("f:1", "empty query", "query"),
        ("f:2", "empty passage", "passage"),
        ("f:3", "empty group_id", "group_id"),
        ("f:4", "unknown language code", "xx-nope"),
        ("f:5", "NUL byte", "query: 'a\\x00b'"),
        ("f:6", "empty negatives", "negatives[1]"),
        ("f:6a", "empty query", "query"),
        ("f:6c", "over-long text", f"domain: 1001 characters, at most 1000: '{'d' * 80}'"),
        ("f:7", "unpaired surrogate", r"query: 'half \ud83d of an emoji'"),
        ("f:8", "not JSON", "{"),
        ("f:9", "another query of the group in this language", "good in en: another question"),
        ("f:10", "duplicate", "good in en: question good in en"),
    ]
    assert corpus.n_pairs == 2
    assert corpus.n_read == corpus.n_pairs + sum(corpus.rejected.values()) == len(records)
    assert corpus.rejected["empty query"] == 2


def test_a_hard_negative_that_is_the_positive_is_left_out_with_its_score(tmp_path):
    negatives = (passage(text="cafe\u0301 "), passage("n"), passage("p"))
    own = pair("a", passage_id="p", text="caf\xe9", negatives=negatives, negative_scores=(1.0, 2.0, 3.0), file="f")
    corpus = corpus_of([own], tmp_path)
    assert [one["passage_id"] for one in corpus.pair(0)["negatives"]] == ["n"]
    assert corpus.pair(0)["negative_scores"] == [2.0]
    assert (corpus.rejected, corpus.n_read, corpus.notes) == ({}, 1, {OWN: {"f": 2}})


def test_first_of_duplicates_wins(tmp_path):
    first, second = pair("a", "en", "1", "same", file="f:1"), pair("a", "en", "2", "same\u200b ", file="f:2")
    corpus = corpus_of([pair("b"), first, second, pair("a", "de"), pair("a", source="other")], tmp_path)
    assert corpus.n_pairs == 4
    assert rejects(corpus) == [("f:2", "duplicate", "a in en: question a in en")]
    english = [corpus.pair(int(r))["passage"]["text"] for r in corpus.row_of[:, corpus.languages.index("en")]]
    assert "same" in english
    assert "same\u200b " not in english


def test_a_question_with_several_answers_loses_none(tmp_path):
    """The nth in each language are one group; none is a negative of another, and what comes again is a duplicate."""
    german = [pair("a", "de", text=f"antwort {n}") for n in (2, 1)]
    english = [pair("a", text=f"answer {n}", negatives=(passage(text="answer 2"),)) for n in (1, 2, 1, 3)]
    others = [pair("b"), pair("c"), pair("c", query="other?")]
    corpus = corpus_of([german[0], *english, *others, german[1]], tmp_path)
    repeated = ["duplicate", "another query of the group in this language"]
    assert [reason for _, reason, _ in rejects(corpus)] == repeated
    texts = [tuple(r >= 0 and corpus.pair(r)["passage"]["text"] for r in rows) for rows in corpus.row_of.tolist()]
    of_b_c = {(False, "answer to b in en"), (False, "answer to c in en")}
    assert set(texts) - of_b_c == {("antwort 2", "answer 1"), ("antwort 1", "answer 2"), (False, "answer 3")}
    (together,) = {int(g) for g, one in zip(corpus.passage_group, texts, strict=True) if one not in of_b_c}
    assert set(corpus.negative_group.tolist()) == {together}


def test_more_than_one_chunk(tmp_path):
    n = ROWS + 10
    records = [pair(f"g{i}") for i in range(n)] + [pair("g3", file="late")]
    corpus = corpus_of(records, tmp_path)
    assert (corpus.n_chunks, corpus.n_pairs, corpus.n_groups) == (2, n, n)
    assert corpus.pair(ROWS + 5)["group_id"] == f"g{ROWS + 5}"
    assert rejects(corpus)[0][0] == "late"


def test_many_small_shards_take_time_in_proportion(tmp_path):
    """A batch is a shard of one row here: what is done for a batch does not depend on those that wait beside it."""

    def calls(n):
        counted = 0

        def count(*_):
            nonlocal counted
            counted += 1

        batches = [batch for number in range(n) for batch in to_batches([pair(f"g{number}")])]
        sys.setprofile(count)
        try:
            corpus = build_corpus(batches, tmp_path / str(n))
        finally:
            sys.setprofile(None)
        assert corpus.n_pairs == n
        return counted

    first, second, third = calls(10), calls(60), calls(110)
    assert third - second == pytest.approx(second - first, rel=0.1)


def test_nothing_usable(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)no usable pair.*2 x empty query, the first:.*file: a en: query"):
        corpus_of([pair("a", query=""), pair("b", query=" ")], tmp_path)
    with pytest.raises(ValueError, match=r"no usable pair\. The source is empty"):
        corpus_of([], tmp_path)
    assert not [file for file in tmp_path.iterdir() if file.suffix != ".lock"]


def test_reopened_corpus_is_the_same(tmp_path):
    built = corpus_of(two_sources(), tmp_path)
    opened = Corpus.open(built.directory)
    assert opened.fingerprint == built.fingerprint
    assert drawn(opened) == drawn(built)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"passage_id": "p", "text": "x"}, {"passage_id": "p", "text": "y"}, True),
        ({"text": "x"}, {"text": "x"}, True),
        ({"text": "x y"}, {"text": "x\u200b y\xa0\n"}, True),
        ({"text": "caf\xe9"}, {"text": "cafe\u0301"}, True),
        ({"text": "x y"}, {"text": "xy"}, False),
        ({"passage_group_id": "k"}, {"passage_group_id": "k"}, True),
        ({}, {}, False),
        ({"passage_id": "p"}, {"passage_id": "q"}, False),
        ({"passage_group_id": "k"}, {"passage_group_id": "l"}, False),
        ({"text": "x", "language": "de"}, {"text": "x"}, False),
        ({"passage_id": "p", "source": "s"}, {"passage_id": "p", "source": "t", "text": "y"}, False),
        ({"passage_group_id": "k", "source": "s"}, {"passage_group_id": "k", "source": "t"}, False),
        ({"text": "x", "source": "s"}, {"text": "x", "source": "t"}, True),
    ],
)
def test_passage_groups(tmp_path, one, other, same):
    corpus = corpus_of([pair("a", **one), pair("b", **other)], tmp_path)
    a, b = (passage_group(corpus, g, o.get("language", "en")) for g, o in (("a", one), ("b", other)))
    assert (a == b) == same


def test_passage_groups_are_transitive(tmp_path):
    records = [
        pair("a", "en", "p"),
        pair("b", "en", "p"),  # a - b by id
        pair("b", "de", text="gleich"),
        pair("c", "de", text="gleich"),  # b - c by text in another language
        pair("c", "zh", passage_group_id="k"),
        pair("d", "ar", passage_group_id="k"),  # c - d by the given group
        pair("e", "en"),
    ]
    corpus = corpus_of(records, tmp_path)
    groups = [passage_group(corpus, g, x) for g, x in (("a", "en"), ("b", "de"), ("c", "zh"), ("d", "ar"))]
    assert len(set(groups)) == 1
    assert groups[0] == min(np.flatnonzero(corpus.passage_group == groups[0]))
    assert passage_group(corpus, "e") != groups[0]


def test_negatives_resolve_to_the_group_of_a_positive(tmp_path):
    negatives = (
        passage("p-b"),  # b's positive by id
        passage("elsewhere", "answer to c in en"),  # c's by text
        passage("unknown-1"),
        passage("unknown-2"),
        passage("unknown-1"),
    )
    corpus = corpus_of(
        [pair("a", passage_id="p-a", negatives=negatives), pair("b", passage_id="p-b"), pair("c")], tmp_path
    )
    first, end = corpus.negative_start[row(corpus, "a") :][:2]
    b, c, u1, u2, u1_again = corpus.negative_group[first:end].tolist()
    assert b == passage_group(corpus, "b")
    assert c == passage_group(corpus, "c")
    assert min(u1, u2) >= corpus.n_groups
    assert u1 == u1_again != u2


def test_negatives_resolve_in_their_own_language(tmp_path):
    negative = passage("p", language="de")
    records = [pair("a", "de", negatives=(negative,)), pair("b", "en", "p"), pair("c", "de", "p2")]
    corpus = corpus_of(records, tmp_path)
    assert corpus.negative_group[0] >= corpus.n_groups
