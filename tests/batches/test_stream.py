"""From rows of the plan to token ids, through the cache and Arrow; and the census of what was drawn."""

import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from helpers import corpus_of

from hybridir.batches import census
from hybridir.batches import token_cache as tokens
from hybridir.batches.census import show_plan, take_census
from hybridir.batches.sampling import Sampling
from hybridir.batches.stream import BatchSource, TokenBatch, from_table, to_table
from hybridir.batches.token_cache import Ragged, TokenCache, TokenJob, build_cache
from hybridir.data import build as corpus_module
from hybridir.data import intake as intake_module
from hybridir.data.corpus import Corpus
from hybridir.data.records import Pair, Passage
from hybridir.model.tokenizer import load_tokenizer
from hybridir.model.tokenizer_training import train_tokenizer

LANGUAGES = ("de", "en", "zh")
WORDS = {
    "de": "Haus Baum Wasser Berg Straße Vogel",
    "en": "house tree water mountain street bird",
    "zh": "房子 树木 水流 山脉 街道 鸟类",
}


def text(n, language, length=4):
    words = WORDS[language].split()
    return f"{n} " + " ".join(words[(n * 7 + i * i) % len(words)] for i in range(length))


def passage(n, language):
    return Passage(passage_id=f"p{n}", language=language, text=text(n, language, 5 + n % 7))


def records():
    """30 groups in 3 languages; the hard negatives of a group are the next three positives."""
    return [
        Pair(
            group_id=f"g{n}",
            language=language,
            query=f"{text(n, language, 3)}?",
            passage=passage(n, language),
            negatives=tuple(passage((n + i) % 30, language) for i in (1, 2, 3)),
        )
        for n in range(30)
        for language in LANGUAGES
    ]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    corpus = corpus_of(records(), tmp_path_factory.mktemp("corpus"))
    return TokenJob(
        corpus=str(corpus.directory),
        tokenizer=str(train_tokenizer(corpus, 400)),
        query_prefix="Query: ",
        passage_prefix="Passage: ",
        max_query_length=14,
        max_passage_length=20,
    )


@pytest.fixture(scope="module")
def source(job):
    return BatchSource(
        corpus=job.corpus,
        tokens=str(build_cache(job)),
        sampling=Sampling(mono=0.4, mixed=0.2, cross=0.4, negatives=2),
        batch_size=8,
        seed=3,
    )


def ids_of(job, text, prefix, length):
    ids = load_tokenizer(job.tokenizer)(prefix + text)["input_ids"]
    return ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]


# The cache


def test_cache_holds_every_text_with_its_prefix_and_cut(job, source):
    cache, corpus = TokenCache(source.tokens), Corpus.open(job.corpus)
    rows = np.arange(corpus.n_pairs)
    pairs = [corpus.pair(row) for row in rows]
    queries = [ids_of(job, pair["query"], "Query: ", 14) for pair in pairs]
    passages = [ids_of(job, pair["passage"]["text"], "Passage: ", 20) for pair in pairs]
    negatives = [ids_of(job, one["text"], "Passage: ", 20) for pair in pairs for one in pair["negatives"]]
    assert [ids.tolist() for ids in cache.query.take(rows)] == queries
    assert [ids.tolist() for ids in cache.passage.take(rows)] == passages
    assert [ids.tolist() for ids in cache.negatives.take(np.arange(3 * len(rows)))] == negatives
    assert cache.passage.lengths().max() == 20  # some were cut, others not
    assert cache.passage.lengths().min() < 20
    assert cache.passage.lengths().tolist() == [len(ids) for ids in passages]


def test_cache_is_made_once_and_named_by_what_it_holds(job, source, monkeypatch):
    called = []
    monkeypatch.setattr(tokens, "tokenize_here", lambda job, n: called.append(n) or (job.run(c) for c in range(n)))
    assert str(build_cache(job)) == source.tokens
    assert called == []
    changes = ({"query_prefix": "q: "}, {"passage_prefix": ""}, {"max_query_length": 12}, {"max_passage_length": 18})
    names = {build_cache(replace(job, **change)).name for change in changes}
    assert len(called) == len(names - {source.tokens.rpartition("/")[2]}) == 4
    left = [path.name for path in build_cache(job).parent.glob("*.tmp")]
    assert left == []


def test_cache_of_other_corpora_and_tokenizers(job, source, tmp_path):
    """Rows in another order are another cache: the fingerprint of the corpus does not see the order."""
    name = source.tokens.rpartition("/")[2]
    backwards = corpus_of(records()[::-1], tmp_path / "backwards")
    assert backwards.fingerprint == Corpus.open(job.corpus).fingerprint
    assert build_cache(replace(job, corpus=str(backwards.directory))).name != name
    same = corpus_of(records(), tmp_path / "same")
    assert build_cache(replace(job, corpus=str(same.directory))).name == name
    other = str(train_tokenizer(same, 280))
    assert build_cache(replace(job, corpus=str(same.directory), tokenizer=other)).name != name


def test_chunks_are_put_together(job, source, tmp_path, monkeypatch):
    for module in (corpus_module, intake_module):
        monkeypatch.setattr(module, "ROWS", 7)
    corpus = corpus_of(records(), tmp_path)
    assert corpus.n_chunks == 13
    folder = build_cache(replace(job, corpus=str(corpus.directory)))
    for file in ("query.bin", "query.npy", "passage.bin", "passage.npy", "negatives.bin", "negatives.npy"):
        assert (folder / file).read_bytes() == (build_cache(job) / file).read_bytes(), file


def test_corpus_without_negatives(job, tmp_path):
    corpus = corpus_of([replace(record, negatives=()) for record in records()], tmp_path)
    folder = build_cache(replace(job, corpus=str(corpus.directory)))
    assert (folder / "negatives.bin").stat().st_size == 0
    one = BatchSource(corpus=str(corpus.directory), tokens=str(folder), sampling=Sampling(), batch_size=4, seed=0)
    batch = one.batch(0)
    assert len(batch.lengths) == 8
    assert len(batch.digests()) == len(batch.passage_group) == 4


def test_damaged_tokens_are_refused(source, tmp_path):
    folder = shutil.copytree(source.tokens, tmp_path / "tokens")
    content = (folder / "passage.bin").read_bytes()
    (folder / "passage.bin").write_bytes(content[:-4])
    with pytest.raises(ValueError, match=r"passage.bin is not whole: delete the folder .*tokens"):
        Ragged(folder / "passage")


def test_failed_pass_leaves_no_cache(job, source):
    longer = replace(job, max_query_length=13)
    with pytest.raises(RuntimeError, match="disk"):
        build_cache(longer, lambda job, n: (_ for _ in ()).throw(RuntimeError("disk")))
    assert not list(build_cache(job).parent.glob("*.tmp"))
    assert TokenCache(build_cache(longer)).query.lengths().max() <= 13


def test_no_tokenizer(tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer at .*name a Hugging Face hub id, or a folder"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": 3}', "{"])
def test_broken_tokenizer(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"no tokenizer at '{tmp_path}': .*a folder with a whole tokenizer.json"):
        load_tokenizer(str(tmp_path))


# Batches


def test_texts_stand_in_order(job, source):
    """8 queries, 8 positives, then 2 hard negatives of each."""
    corpus, plan = Corpus.open(job.corpus), source.plan()
    for step in range(6):
        drawn, batch = plan.batch(step), source.batch(step)
        pairs = [corpus.pair(int(row)) for row in drawn.passage_row]
        texts = [ids_of(job, corpus.pair(int(row))["query"], "Query: ", 14) for row in drawn.query_row]
        texts += [ids_of(job, pair["passage"]["text"], "Passage: ", 20) for pair in pairs]
        for pair, row, chosen in zip(pairs, drawn.passage_row, drawn.negatives, strict=True):
            negatives = [pair["negatives"][n - corpus.negative_start[row]]["text"] for n in chosen]
            texts += [ids_of(job, negative, "Passage: ", 20) for negative in negatives]
        assert batch.lengths.tolist() == [len(ids) for ids in texts]
        assert batch.ids.tolist() == [i for ids in texts for i in ids]
        assert (batch.step, batch.rank, batch.kind) == (step, 0, drawn.kind)
        assert (batch.ids.dtype, batch.lengths.dtype, batch.passage_group.dtype) == (np.int32, np.int32, np.int64)


def test_passage_groups_and_examples(job, source):
    corpus, plan = Corpus.open(job.corpus), source.plan()
    drawn, batch = plan.batch(1), source.batch(1)
    group_of = {
        corpus.pair(int(r))["passage"]["passage_id"]: corpus.passage_group[g]
        for g, rows in enumerate(corpus.row_of)
        for r in rows
    }
    negatives = [
        corpus.pair(int(row))["negatives"][n - corpus.negative_start[row]]["passage_id"]
        for row, chosen in zip(drawn.passage_row, drawn.negatives, strict=True)
        for n in chosen
    ]
    assert batch.passage_group[:8].tolist() == corpus.passage_group[drawn.groups].tolist()
    assert batch.passage_group[8:].tolist() == [group_of[name] for name in negatives]
    assert batch.example[:, 0].tolist() == corpus.group_key[drawn.groups].tolist()
    assert batch.example[:, 1:].tolist() == np.stack([drawn.query_language, drawn.passage_language], axis=1).tolist()


def fields(batch):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(batch).items()}


def test_round_trip_through_arrow(source):
    batches = [source.batch(step, rank, 2) for step in range(4) for rank in range(2)]
    sink = pa.BufferOutputStream()
    table = to_table(batches)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    table = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert table.num_rows == 8
    for n, batch in enumerate(batches):
        back = from_table(table.slice(n, 1))
        assert fields(back) == fields(batch)
        assert {k: v.dtype for k, v in vars(back).items() if isinstance(v, np.ndarray)} == {
            k: v.dtype for k, v in vars(batch).items() if isinstance(v, np.ndarray)
        }
        assert (back.digests() == batch.digests()).all()


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_digests_are_those_of_one_process(source, world_size):
    for step in range(5):
        parts = [source.batch(step, rank, world_size).digests() for rank in range(world_size)]
        assert np.array_equal(np.concatenate(parts), source.batch(step).digests())


def test_digests_differ_between_items_and_steps(source):
    digests = np.concatenate([source.batch(step).digests() for step in range(20)])
    assert digests.dtype == np.int64
    assert len(set(digests.tolist())) > 120  # the same item can come twice in 20 steps


def small_batch(**changes):
    """Two items with one hard negative each."""
    values = {
        "step": 0,
        "rank": 0,
        "kind": "mono",
        "views": {"query": 1, "positive": 1, "negative": 1},
        "ids": np.arange(12, dtype=np.int32),
        "lengths": np.array([2, 1, 3, 2, 2, 2], dtype=np.int32),
        "passage_group": np.array([5, 6, 7, 8]),
        "language": np.zeros(6, dtype=np.int16),
        "example": np.array([[11, 0, 0], [12, 0, 1]], dtype=np.uint64),
    }
    return TokenBatch(**(values | changes))


@pytest.mark.parametrize(
    ("token", "item"),
    [(0, 0), (1, 0), (2, 1), (3, 0), (5, 0), (6, 1), (7, 1), (8, 0), (9, 0), (10, 1), (11, 1)],
)
def test_one_other_token_changes_the_digest_of_its_item_alone(token, item):
    ids = np.arange(12, dtype=np.int32)
    ids[token] += 1
    changed = small_batch().digests() != small_batch(ids=ids).digests()
    assert changed.tolist() == [item == 0, item == 1]


def test_digest_sees_bounds_and_languages_but_not_the_rank():
    whole = small_batch().digests()
    views = {"query": 1, "positive": 1, "negative": 0}
    one = {"views": views, "ids": np.arange(3, dtype=np.int32), "example": np.array([[11, 0, 0]], dtype=np.uint64)}
    bounds = [small_batch(lengths=np.array(x, dtype=np.int32), **one).digests() for x in ([2, 1], [1, 2])]
    assert bounds[0] != bounds[1]
    other = small_batch(example=np.array([[11, 0, 0], [12, 1, 1]], dtype=np.uint64)).digests()
    assert (other != whole).tolist() == [False, True]
    assert (small_batch(rank=1, step=4).digests() == whole).all()


@pytest.mark.parametrize("column", ["query", "passage", "negatives"])
def test_changed_byte_of_the_cache_shows_where_it_is_used_and_nowhere_else(source, tmp_path, column):
    plan = source.plan()
    rows = [
        {"query": b.query_row[:, None], "passage": b.passage_row[:, None], "negatives": b.negatives}[column]
        for b in map(plan.batch, range(40))
    ]
    row = int(rows[7][3, 0])
    folder = shutil.copytree(source.tokens, tmp_path / "tokens")
    start = int(np.load(folder / f"{column}.npy")[row])
    content = bytearray((folder / f"{column}.bin").read_bytes())
    content[4 * start] ^= 1
    (folder / f"{column}.bin").write_bytes(content)
    damaged = replace(source, tokens=str(folder))
    changed = [damaged.batch(step).digests() != source.batch(step).digests() for step in range(40)]
    expected = [(used == row).any(axis=1) for used in rows]
    assert 1 <= sum(map(np.any, expected)) < 40
    assert np.array_equal(changed, expected)


# The census


def test_census_counts_what_was_drawn(source):
    plan = source.plan()
    census, batches = take_census(source, 25), [plan.batch(step) for step in range(25)]
    corpus = plan.corpus
    assert census.kinds == {k: sum(b.kind == k for b in batches) for k in census.kinds}
    assert sum(census.kinds.values()) == 25
    assert census.items == sum(census.pairs.values()) == sum(census.sources.values()) == 200
    assert census.groups == {int(g) for b in batches for g in b.groups}
    negatives = same_language = 0
    for batch in batches:
        own = corpus.passage_group[batch.groups]
        hard = corpus.negative_group[batch.negatives].ravel()
        for i in range(8):
            negatives += sum(own[j] != own[i] for j in range(8)) + sum(group != own[i] for group in hard)
            same_language += sum(batch.passage_language[j] == batch.passage_language[i] for j in range(8) if j != i)
    assert (census.negatives, census.same_language) == (negatives, same_language)


def test_census_of_one_kind(source):
    census = take_census(replace(source, sampling=Sampling(mono=1, cross=0)), 10)
    assert census.kinds == {"mono": 10}
    assert all(x == y for x, y in census.pairs)
    assert census.negatives == census.same_language == 10 * 8 * 7


def test_a_long_run_is_shown_by_a_sample(source, capsys, monkeypatch):
    monkeypatch.setattr(census, "MOST", 40)
    show_plan(source, 20_000)
    shown = " ".join(capsys.readouterr().out.split())
    expected = [source.plan().batch(n * 19_999 // 39).kind for n in range(40)]  # evenly spaced, with both ends
    table = shown.partition("kinds of a sample of 40 of the 20,000 batches")[2].partition("query languages")[0]
    assert {name: int(n) for name, n in re.findall(r"(mono|mixed|cross) │ (\d+)", table)} == Counter(expected)
    assert "groups drawn at least once in a sample of 40 of the 20,000 batches" in shown


def test_preview_prints_texts_as_they_are(job, tmp_path, capsys):
    """Square brackets are markup to rich: `[/x]` would be an error, and `[bold]` would vanish."""
    corpus = corpus_of(
        [
            Pair(
                group_id=f"g{n}",
                language="en",
                query=f"what is [bold] {n} [/x]",
                passage=Passage(passage_id="", language="en", text=f"answer [red] {n}"),
                source=("[blue]", "[green]")[n % 2],
            )
            for n in range(4)
        ],
        tmp_path,
    )
    cache = build_cache(replace(job, corpus=str(corpus.directory)))
    few = BatchSource(
        corpus=str(corpus.directory), tokens=str(cache), sampling=Sampling(mono=1, cross=0), batch_size=4, seed=0
    )
    show_plan(few, steps=5)
    printed = capsys.readouterr().out
    for expected in ("en  what is [bold] 2 [/x]", "en  answer [red] 2", "[blue]", "step 2: mono, 4 items"):
        assert expected in printed
    assert "groups drawn at least once: 4 of 4 (100.0%)" in printed
    assert "negatives of a query: 3.0 on average, of which 3.0 are" in printed
