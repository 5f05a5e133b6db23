"""Every format gives the same pairs, and nothing in a broken file is lost or skipped silently."""

import csv
import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import ROOT, pairs_of

from hybridir.batches.plan import Plan
from hybridir.batches.sampling import Sampling, Translations
from hybridir.data import rows, sources, storage
from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.corpus import Corpus
from hybridir.data.formats import ROWS, hub, mmarco
from hybridir.data.records import LEFT_OUT, REPEATED, SKIPPED, UNREAD, Pair, Rejected
from hybridir.runs.corpus import check_rejected, read_corpus
from hybridir.runs.plans import check_languages
from hybridir.training.validation import ValidationConfig

LANGUAGES = {"de": "german", "en": "english", "es": "spanish"}
N = 40


def question(n: int, language: str) -> dict[str, Any]:
    """A row in the user's own fields; every third question has its passage from the one before."""
    answer = n - 1 if n % 3 == 2 else n
    return {
        "group_id": str(n),
        "language": language,
        "query": f"question {n} in {language}",
        "passage": f"answer {answer} in {language}",
        "passage_id": str(answer),
        "negatives": [{"passage_id": str(k), "text": f"answer {k} in {language}"} for k in (n + 10, n + 11)],
    }


def write_lines(path: Path, lines: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), encoding="utf-8"
    )


def as_jsonl(folder: Path) -> Source:
    everything = [question(n, language) for n in range(N) for language in LANGUAGES]
    write_lines(folder / "a.jsonl", everything[:50])
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in everything[50:])
    return Source(format="jsonl", path=str(folder))


def as_parquet(folder: Path) -> Source:
    for language in LANGUAGES:
        table = pa.Table.from_pylist([question(n, language) for n in reversed(range(N))]).drop_columns("language")
        (folder / language).mkdir(parents=True)
        pq.write_table(table, folder / language / "part.parquet", row_group_size=7)
    return Source(format="parquet", path=f"{folder}/{{language}}")


def as_csv(folder: Path, ending: str = "csv", delimiter: str = ",") -> Source:
    """In columns with other names, one of which is a field of the format; the own negatives in columns of texts."""
    folder.mkdir()
    for language in LANGUAGES:
        with gzip.open(folder / f"{language}.{ending}.gz", "wt", newline="", encoding="utf-8-sig") as file:
            names = ["question", "answer", "passage", "negative_1", "negative_2", "lang", "id"]
            lines = csv.writer(file, delimiter=delimiter)
            lines.writerow(names)
            for one in (question(n, language) for n in range(N)):
                negatives = [negative["text"] for negative in one["negatives"]]
                lines.writerow([one["query"], one["passage"], "not read", *negatives, language, one["group_id"]])
    columns = {"query": "question", "passage": "answer", "language": "lang", "group_id": "id"}
    return Source(format=ending, path=str(folder), columns=columns)


def as_tsv(folder: Path) -> Source:
    return as_csv(folder, "tsv", "\t")


def as_semicolons(folder: Path) -> Source:
    return as_csv(folder, "csv", ";")


def as_tevatron(folder: Path) -> Source:
    for language in LANGUAGES:
        lines = []
        for one in (question(n, language) for n in range(N)):
            positive = {"docid": one["passage_id"], "title": "", "text": one["passage"]}
            negatives = [{"docid": n["passage_id"], "title": "", "text": n["text"]} for n in one["negatives"]]
            ids = {"query_id": one["group_id"], "query": one["query"]}
            lines.append(ids | {"positive_passages": [positive], "negative_passages": negatives})
        write_lines(folder / f"train-{language}.jsonl", lines)
    return Source(format="tevatron", path=f"{folder}/train-{{language}}.jsonl")


def as_columns(folder: Path) -> Source:
    lines = []
    for one in (question(n, language) for language in LANGUAGES for n in range(N)):
        texts = {"anchor": one["query"], "positive": one["passage"], "group_id": int(one["group_id"])}
        negatives = {f"negative_{k}": negative["text"] for k, negative in enumerate(one["negatives"])}
        lines.append(texts | negatives | {"language": one["language"], "passage_id": one["passage_id"]})
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(lines), folder / "train.parquet")
    return Source(format="sentence-transformers", path=f"file://{folder}/train.parquet")


def as_hub(folder: Path) -> Source:
    """What `datasets` makes of a folder; a name on the hub goes the same way."""
    return Source(format="sentence-transformers", path="hf://" + as_columns(folder).path.removeprefix("file://")[:-14])


def as_beir(folder: Path) -> Source:
    for language in LANGUAGES:
        questions = [question(n, language) for n in range(N)]
        texts = {one["passage_id"]: one["passage"] for one in questions}
        texts |= {negative["passage_id"]: negative["text"] for one in questions for negative in one["negatives"]}
        write_lines(folder / language / "corpus.jsonl", ({"_id": i, "title": "", "text": t} for i, t in texts.items()))
        write_lines(
            folder / language / "queries.jsonl", ({"_id": str(n), "text": q["query"]} for n, q in enumerate(questions))
        )
        judged = [f"{one['group_id']}\t{one['passage_id']}\t1" for one in questions]
        judged += [f"{one['group_id']}\t{n['passage_id']}\t0" for one in questions for n in one["negatives"]]
        write_lines(folder / language / "qrels" / "train.tsv", ["query-id\tcorpus-id\tscore", *judged])
    return Source(format="beir", path=f"{folder}/{{language}}")


def as_mmarco(folder: Path) -> Source:
    for language, name in LANGUAGES.items():
        texts = (f"{n}\tanswer {n} in {language}" for n in range(N + 12))
        write_lines(folder / "google" / "collections" / f"{name}_collection.tsv", texts)
        queries = (f"{n}\tquestion {n} in {language}" for n in range(N))
        write_lines(folder / "google" / "queries" / "train" / f"{name}_queries.train.tsv", queries)
    everything = [question(n, "en") for n in range(N)]
    triples = [f"{q['group_id']}\t{q['passage_id']}\t{n['passage_id']}" for q in everything for n in q["negatives"]]
    write_lines(folder / mmarco.TRIPLES, triples)
    return Source(format="mmarco", path=f"{folder}/google")


FORMATS = [as_jsonl, as_parquet, as_csv, as_tsv, as_semicolons, as_tevatron, as_columns, as_hub, as_beir, as_mmarco]


def data(source: Source, **options: Any) -> DataConfig:
    """One source as the configuration of the data."""
    return DataConfig(**vars(source) | {"validation_share": 0.2} | options)


def drawn(corpus: Corpus, part: str) -> list[tuple[Any, ...]]:
    """What a plan draws, as texts."""
    plan = Plan(corpus, Sampling(mono=0.3, mixed=0.3, cross=0.4, negatives=2), 5, seed=7, part=part)
    found = []
    for batch in map(plan.batch, range(10)):
        for query, passage, negatives in zip(batch.query_row, batch.passage_row, batch.negatives, strict=True):
            own = corpus.pair(int(passage))
            hard = [own["negatives"][n - corpus.negative_start[passage]]["text"] for n in negatives]
            found.append((batch.kind, corpus.pair(int(query))["query"], own["passage"]["text"], *hard))
    return found


@pytest.fixture(scope="module")
def from_jsonl(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return read_corpus(data(as_jsonl(tmp_path_factory.mktemp("own"))), tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_the_same_pairs_in_any_format_are_the_same_corpus(
    write: Callable[[Path], Source], from_jsonl: Corpus, tmp_path: Path
) -> None:
    corpus = read_corpus(data(write(tmp_path / "data")), tmp_path / "cache")
    assert (corpus.n_pairs, corpus.n_groups, corpus.rejected) == (N * 3, N, {})
    assert corpus.fingerprint == from_jsonl.fingerprint
    assert corpus.part_fingerprints == from_jsonl.part_fingerprints
    for part in ("train", "validation"):
        assert drawn(corpus, part) == drawn(from_jsonl, part)


CSV = """question,answer,lang
"Wo liegt
Bern?","In der ""Schweiz"",
hier.",de
Where is Bern?,In Switzerland.,en
Where is Bern?,In Europe.,en
too,many,cells,en

,In Switzerland.,en
"no end" of a cell,x,en
after it,y,en
"never closed,z,en
"""


def test_rows_of_csv(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(CSV, encoding="utf-8")
    columns = {"query": "question", "passage": "answer", "language": "lang"}
    found = pairs_of(Source(format="csv", path=str(tmp_path / "x.csv"), columns=columns))
    pairs = [one for one in found if isinstance(one, Pair)]
    assert [(one.line, one.language, one.query, one.passage.text) for one in pairs] == [
        (2, "de", "Wo liegt\nBern?", 'In der "Schweiz",\nhier.'),
        (5, "en", "Where is Bern?", "In Switzerland."),
        (6, "en", "Where is Bern?", "In Europe."),
        (11, "en", "after it", "y"),
    ]
    assert len({one.group_id for one in pairs}) == 4  # each row is a group
    assert [pairs[1].passage_group_id == one.passage_group_id for one in pairs] == [False, True, True, False]
    assert [(one.line, one.reason) for one in found if isinstance(one, Rejected)] == [
        (7, "broken row"),
        (8, "empty line"),
        (9, "missing field"),
        (10, "broken row"),
        (12, "broken row"),
    ]


def test_cells_of_csv_hold_lists_and_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        ["anchor", "positive", "negatives", "negative_scores"],
        ["q", "p" * 200_000, '["a", {"text": "b"}]', "[0.5, 1]"],
        ["q", "p", '["a"]', "[0.5, 1]"],
        ["q", "p", "[", ""],
    ]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    source = Source(format="sentence-transformers", path=str(tmp_path / "x.csv"), language="en", max_negatives=1)
    good, *bad = (record for shard in sources.find_shards(data(source)) for record in shard.read())
    assert isinstance(good, Pair)
    assert (len(good.passage.text), good.negatives[0].text, good.negative_scores) == (200_000, "a", (0.5,))
    assert [(one.line, one.reason) for one in bad] == [(3, "wrong number of scores"), (4, "broken JSON")]
    monkeypatch.setattr(storage, "MAX_LINE", 1000)
    with (tmp_path / "x.csv").open("w", newline="") as file:
        file.write("anchor,positive\nq,p\n" + '"never closed\n' + "q,p\n" * 1000)
    first, long, *others = pairs_of(source)
    assert (first.line, long.line, long.reason) == (2, 3, "over-long line")
    assert {type(one) for one in others} == {Pair}


@pytest.mark.parametrize("write", [as_jsonl, as_parquet, as_csv, as_hub], ids=lambda write: write.__name__)
def test_columns_that_are_missing_are_named_beside_those_found(write: Callable[[Path], Source], tmp_path: Path) -> None:
    source = write(tmp_path / "data")
    wrong = replace(source, columns={"query" if source.format != "sentence-transformers" else "anchor": "frage"})
    with pytest.raises(ValueError, match=r"has no column frage.* Expected: frage, .* optional: .*passage_id.* Found: "):
        read_corpus(data(wrong), tmp_path)


@pytest.mark.parametrize(
    ("header", "named", "guess"),
    [
        ("id,lang,question,answer", {}, "{query: question, passage: answer, language: lang, group_id: id}"),
        ("group_id,language,question,passage", {}, "{query: question}"),
        ("frage,antwort,lang", {"query": "frage"}, "{language: lang, query: frage}"),
        ("a,b,c", {}, "{query: question, language: lang}"),
    ],
)
def test_columns_of_usual_names_are_proposed(header: str, named: dict[str, str], guess: str, tmp_path: Path) -> None:
    """The proposal can be copied: with it, the first file is read."""
    source = Source(format="csv", path=str(tmp_path / "x.csv"), columns=named)
    cells = ("1,en,q,p", "1,de,f,a") if header.count(",") == 3 else ("q,p,en", "f,a,de")
    (tmp_path / "x.csv").write_text("\n".join([header, *cells]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"as in --data.columns '{re.escape(guess)}', or give the language"):
        read_corpus(data(source), tmp_path)
    if not named and "group_id: id" in guess:
        whole = replace(source, columns=yaml.safe_load(guess))
        assert {pair.group_id for pair in pairs_of(whole)} == {"1"}


def test_the_file_of_one_language_needs_no_column_of_it(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("query,passage\nq,p\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x.csv has no column language. Expected: query, passage, language; optional"):
        pairs_of(Source(format="csv", path=str(tmp_path / "x.csv")))
    (found,) = pairs_of(Source(format="csv", path=str(tmp_path / "x.csv"), language="en"))
    assert isinstance(found, Pair)


@pytest.mark.parametrize("header", ["a,,b", "a,b,a", "", '"a'])
def test_headers_that_name_no_columns(header: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"{header}\n1,2,3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x.csv:1: the (first line must name every column|header cannot be read)"):
        pairs_of(Source(format="csv", path=str(tmp_path / "x.csv")))


def bad_rows() -> dict[str, Callable[[int], bytes]]:
    """By reason a line that is rejected for it; the number makes it different from others."""

    def line(n: int, **changes: Any) -> bytes:
        row = question(n, "en") | {"group_id": f"bad {n}"} | changes
        return json.dumps({k: v for k, v in row.items() if v is not ...}).encode()

    return {
        "empty query": lambda n: line(n, query=""),
        "empty passage": lambda n: line(n, passage=" \t\u3000"),
        "empty negatives": lambda n: line(n, negatives=["x", ""]),
        "empty line": lambda n: b"  ",
        "broken JSON": lambda n: line(n)[:-3],
        "wrong type": lambda n: line(n, query=n) if n % 2 else b"[1, 2]",
        "missing field": lambda n: line(n, passage=...) if n % 2 else line(n, query=None),
        "NUL byte": lambda n: line(n, query=f"a\0{n}") if n % 2 else b'{"query": "\0"}',
        "invalid UTF-8": lambda n: line(n).replace(b"question", b"quest\xffion"),
        "unpaired surrogate": lambda n: line(n, passage=f"\ud83d {n}"),
        "duplicate": lambda n: json.dumps(question(n % 30, "en")).encode(),
        "another query of the group in this language": lambda n: json.dumps(
            question(0, "en") | {"query": f"x{n}"}
        ).encode(),
        "unknown language code": lambda n: line(n, language="xx"),
        "over-long line": lambda n: line(n, query="x" * storage.MAX_LINE),
    }


def good_row(n: int) -> bytes:
    """Numbers from 0 on; the first 90 are what duplicates repeat."""
    return json.dumps(question(n // 3, list(LANGUAGES)[n % 3])).encode()


def write_mixed(
    folder: Path, total: int, share: float, long_lines: int, seed: int = 0
) -> dict[str, set[tuple[str, int]]]:
    """JSONL files with `share` of each kind of bad row among good ones; by reason the (file, line) of each."""
    kinds = bad_rows()
    where: dict[str, set[tuple[str, int]]] = {reason: set() for reason in kinds}
    rest = [(reason, n) for reason in kinds for n in range(long_lines if "long" in reason else round(total * share))]
    random.Random(seed).shuffle(rest)
    good = [("", n) for n in range(total - len(rest))]
    mixed = good[:90]  # those that are repeated later come first
    tail = good[90:] + rest
    random.Random(seed + 1).shuffle(tail)
    mixed += tail
    folder.mkdir(parents=True)
    third = len(mixed) // 3
    for name, part in (
        ("a.jsonl", mixed[:third]),
        ("b.jsonl", mixed[third : 2 * third]),
        ("c.jsonl.gz", mixed[2 * third :]),
    ):
        with (gzip.open if name.endswith("gz") else open)(folder / name, "wb") as file:
            for number, (reason, n) in enumerate(part, start=1):
                file.write((kinds[reason](n) if reason else good_row(n)) + b"\n")
                if reason:
                    where[reason].add((str(folder / name), number))
    return where


def test_every_row_is_accepted_or_rejected_for_one_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SHARD_BYTES", 10_000)  # so that lines are numbered over many shards
    monkeypatch.setattr(storage, "MAX_LINE", 3000)
    where = write_mixed(tmp_path / "data", total=3000, share=0.01, long_lines=30)
    corpus = read_corpus(DataConfig(format="jsonl", path=str(tmp_path / "data")), tmp_path)
    assert corpus.rejected == {reason: 30 for reason in where}
    assert corpus.n_read == 3000 == corpus.n_pairs + 30 * len(where)
    found: dict[str, set[tuple[str, int]]] = {}
    for line in map(json.loads, (corpus.directory / "rejected.jsonl").read_text(encoding="utf-8").splitlines()):
        found.setdefault(line["reason"], set()).add((line["file"], line["line"]))
    assert found == where
    with pytest.raises(
        ValueError, match=r"420 of 3000 rows \(14.0%\) are rejected, but data.max_rejected is 1.0%"
    ) as raised:
        check_rejected(corpus, 0.01)
    for reason in where:
        assert f"30 x {reason}, the first:" in str(raised.value)
    check_rejected(corpus, 0.14)


def test_over_long_lines_are_not_held(tmp_path: Path) -> None:
    """At the real limit of 10 MB; the lines around one are read."""
    folder = tmp_path / "data"
    folder.mkdir()
    long = json.dumps(question(1, "en") | {"query": "x" * storage.MAX_LINE}).encode()
    (folder / "a.jsonl").write_bytes(b"\n".join([good_row(1), long, good_row(2), long]))
    found = pairs_of(Source(format="jsonl", path=str(folder)))
    assert [(type(one), one.line) for one in found] == [(Pair, 1), (Rejected, 2), (Pair, 3), (Rejected, 4)]
    with (folder / "a.jsonl").open("ab") as file:
        file.write(b"x" * 5 * storage.MAX_LINE)
    tracemalloc.start()
    for _ in pairs_of(Source(format="jsonl", path=str(folder))):
        pass
    assert tracemalloc.get_traced_memory()[1] < 3 * storage.MAX_LINE
    tracemalloc.stop()


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize("size", [1, 7, 100, 400])
def test_shards_cut_between_lines(end: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SHARD_BYTES", size)
    lines = [json.dumps(question(n, "en") | {"query": "q" * (n % 5) + f"ü{n}"}, ensure_ascii=False) for n in range(8)]
    text = "\ufeff" + (end or "\n").join(lines) + end
    (tmp_path / "x.jsonl").write_bytes(text.encode())
    found = pairs_of(Source(format="jsonl", path=str(tmp_path / "x.jsonl")))
    assert [one.query for one in found if isinstance(one, Pair)] == [json.loads(line)["query"] for line in lines]


def test_parquet_rows_are_checked_too(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"fine", b"\xff\xfe", b"good"], pa.binary()).buffers())
    table = {"group_id": [1, 2, 3], "language": ["en"] * 3, "query": texts, "passage": ["a", "b", None]}
    pq.write_table(pa.table(table), file)
    found = pairs_of(Source(format="parquet", path=str(file)))
    reasons = [(one.line, one.reason if isinstance(one, Rejected) else "") for one in found]
    assert reasons == [(1, ""), (2, "invalid UTF-8"), (3, "missing field")]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"x\.parquet is not a whole Parquet file"):
        pairs_of(Source(format="parquet", path=str(file)))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query_id": 1, "query": "q", "positive_passages": []}, "missing field"),
        ({"query_id": 1, "query": "q", "positive_passages": ["p"]}, "wrong type"),
        ({"query_id": 1, "query": "q", "positive_passages": [{"docid": 1}]}, "missing field"),
        ({"query_id": 1, "query": "q", "positive_passages": {"docid": 1}}, "wrong type"),
        ({"query": "q", "positive_passages": [{"docid": 1, "text": "t"}]}, "missing field"),
        ({"query_id": True, "query": "q", "positive_passages": [{"docid": 1, "text": "t"}]}, "wrong type"),
    ],
)
def test_bad_rows_of_tevatron(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = {"query_id": 2, "query": "q", "positive_passages": [{"docid": 1, "text": "t"}]}
    write_lines(tmp_path / "x.jsonl", [row, good])
    found, _ = pairs_of(Source(format="tevatron", path=str(tmp_path / "x.jsonl"), language="en"))
    assert isinstance(found, Rejected)
    assert found.reason == reason


def test_several_positives_are_pairs_that_share_no_batch(tmp_path: Path) -> None:
    passages = [{"docid": str(n), "title": "Title", "text": f"text {n}"} for n in range(3)]
    row = {"query_id": "q", "query": "why", "positive_passages": passages, "negative_passages": []}
    write_lines(tmp_path / "x.jsonl", [row, row | {"query_id": "r", "query": "how", "positive_passages": [
        {"docid": "9", "text": "other"}]}])  # fmt: skip
    corpus = read_corpus(DataConfig(format="tevatron", path=str(tmp_path / "x.jsonl"), language="en"), tmp_path)
    assert corpus.n_pairs == 4
    assert sorted(Counter(corpus.passage_group.tolist()).values()) == [1, 3]
    assert {pair["passage"]["text"] for pair in map(corpus.pair, range(4))} >= {"Title text 0", "other"}


def test_no_positive_of_a_query_is_a_negative(tmp_path: Path) -> None:
    """And translations of a query with other numbers of positives share a group: cross batches can have them."""

    def passages(*texts: str) -> list[dict[str, str]]:
        return [{"docid": f"{n}{text}", "title": "", "text": text} for n, text in enumerate(texts)]

    english, german = passages("a", "b", "c"), passages("A")
    row = {"query_id": "0", "query": "why", "positive_passages": english[:2], "language": "en"}
    same = {"docid": "9", "title": "", "text": "a\u200b "}
    write_lines(
        tmp_path / "x.jsonl",
        [
            row | {"negative_passages": [english[1], english[2], same]},
            row | {"query": "wieso", "positive_passages": german, "negative_passages": [], "language": "de"},
        ],
    )
    one, two, other = pairs_of(Source(format="tevatron", path=str(tmp_path / "x.jsonl")))
    assert isinstance(one, Pair)
    assert isinstance(two, Pair)
    assert isinstance(other, Pair)
    assert [[n.text for n in pair.negatives] for pair in (one, two)] == [["c"], ["c"]]
    assert [pair.group_id for pair in (one, two, other)] == ["0", "0#1b", "0"]
    corpus = read_corpus(DataConfig(format="tevatron", path=str(tmp_path / "x.jsonl"), validation_share=0), tmp_path)
    assert len(set(corpus.passage_group.tolist())) == 1
    assert (corpus.row_of >= 0).sum(axis=1).tolist() in ([1, 2], [2, 1])


def test_positives_of_a_query_in_several_rows_are_kept(tmp_path: Path) -> None:
    """As if they stood in one row: none is lost, and none is a negative of another."""
    a, b, c = ({"docid": name, "title": "", "text": f"text {name}"} for name in "abc")
    row = {"query_id": "q", "query": "why", "positive_passages": [a], "negative_passages": [b, c]}
    other = row | {"query_id": "r", "positive_passages": [{"docid": "d", "text": "text d"}], "negative_passages": []}
    write_lines(tmp_path / "x.jsonl", [row, other, row | {"positive_passages": [b], "negative_passages": []}])
    source = DataConfig(format="tevatron", path=str(tmp_path / "x.jsonl"), language="en", validation_share=0)
    corpus = read_corpus(source, tmp_path)
    assert (corpus.rejected, corpus.n_groups) == ({}, 3)
    own = {
        corpus.pair(row)["passage"]["text"]: int(corpus.passage_group[corpus.group_of_row()[row]]) for row in range(3)
    }
    assert own["text a"] == own["text b"] != own["text d"]
    assert corpus.negative_group.tolist()[0] == own["text a"]
    assert corpus.negative_group.tolist()[1] not in own.values()


def test_no_positive_of_a_query_of_beir_is_a_negative(tmp_path: Path) -> None:
    texts = {"p1": "first", "p2": "second", "n1": "no", "n2": "first\xa0"}
    for language, judged in (("en", ("p1 1", "p2 2", "n1 0", "n2 0")), ("de", ("p2 1",))):
        folder = tmp_path / language
        write_lines(folder / "corpus.jsonl", [{"_id": i, "text": f"{text}"} for i, text in texts.items()] * 2)
        write_lines(folder / "queries.jsonl", [{"_id": "q", "text": "why"}])
        write_lines(folder / "qrels" / "train.tsv", ["query_id\tdoc_id\tgrade", *(f"q 0 {one}" for one in judged)])
    source = Source(format="beir", path=f"{tmp_path}/{{language}}")
    found = [one for one in pairs_of(source) if isinstance(one, Pair)]
    assert [(one.language, one.group_id, [n.text for n in one.negatives]) for one in found] == [
        ("de", "q", []),
        ("en", "q", ["no"]),
        ("en", "q#p2", ["no"]),
    ]
    corpus = read_corpus(data(source), tmp_path / "cache")
    assert corpus.rejected == {}  # the same passage again is no fault
    files = (f"{tmp_path}/{language}/corpus.jsonl" for language in ("de", "en"))
    assert corpus.notes == {REPEATED: dict.fromkeys(files, 4)}
    assert len(set(corpus.passage_group.tolist())) == 1


TAGS = {
    "zh-Hans": "zh",
    "zh_CN": "zh",
    "zh-TW": "zh_Hant",
    "pt-BR": "pt",
    "en-us": "en",
    "iw": "he",
    "EN": "en",
}


def test_languages_are_spelled_as_in_cldr(tmp_path: Path) -> None:
    tags = TAGS | {"deu": "de", " de ": "de", "no": "no", "de-DE": "de", "nld": "nl"}
    unknown = {"xx": "write a code of CLDR", "es-AR": "write es", "zh-yue-XX": "write yue", "english": "write a code"}
    lines = [question(n, tag) for n, tag in enumerate([*tags, *unknown, "xx"])]
    write_lines(tmp_path / "x.jsonl", lines)
    found = pairs_of(Source(format="jsonl", path=str(tmp_path / "x.jsonl")))
    assert [one.language for one in found if isinstance(one, Pair)][: len(tags)] == list(tags.values())
    config = DataConfig(format="jsonl", path=str(tmp_path / "x.jsonl"), languages=("he", "zh-CN", "DEU"))
    corpus = read_corpus(config, tmp_path)
    assert corpus.languages == ("de", "he", "zh")
    with pytest.raises(ValueError, match="5 x unknown language code") as raised:
        check_rejected(corpus, 0.1)
    for tag, remedy in unknown.items():
        assert f"{1 + (tag == 'xx')} x {tag}: {remedy}" in str(raised.value)


def test_configurations_spell_languages_as_the_data_do() -> None:
    """As the corpus does; else `DEU` would be a language without pairs, or would choose none."""
    assert Source(language="iw", languages=("DEU", "zh-TW")) == Source(language="he", languages=("de", "zh_Hant"))
    for config in (DataConfig, BenchmarkConfig, Sampling, Translations, ValidationConfig):
        assert config(languages=("DEU", "EN", "xx-YY")).languages == ("de", "en", "xx-YY")
        assert config().languages is None
    assert BenchmarkConfig(language="zh_CN").language == "zh"


def test_a_language_stands_at_each_place_of_a_path(tmp_path: Path) -> None:
    for language in LANGUAGES:
        write_lines(tmp_path / f"x-{language}" / f"{language}.{language}.jsonl", [question(1, language)])
    source = Source(format="jsonl", path=f"{tmp_path}/x-{{language}}/{{language}}.{{language}}.jsonl")
    assert [one.language for one in pairs_of(source) if isinstance(one, Pair)] == list(LANGUAGES)
    write_lines(tmp_path / "de.en.jsonl", [])
    write_lines(tmp_path / "de.de.jsonl", [question(1, "de")])
    (found,) = pairs_of(Source(format="jsonl", path=f"{tmp_path}/{{language}}.{{language}}.jsonl"))
    assert isinstance(found, Pair)
    hub_source = replace(source, path=f"hf://{tmp_path}/x-{{language}}")
    with pytest.raises(ValueError, match=r"name the codes as data.languages"):
        sources.find_shards(data(hub_source))
    shards = sources.find_shards(data(hub_source, languages=("es", "en")))
    assert [record.language for shard in shards for record in shard.read() if isinstance(record, Pair)] == ["es", "en"]


def test_columns_without_groups_are_monolingual(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "x.jsonl", [{"anchor": "same", "positive": f"answer {n}", "negative": None} for n in range(3)]
    )
    found = pairs_of(Source(format="sentence-transformers", path=str(tmp_path), language="en"))
    assert len({one.group_id for one in found if isinstance(one, Pair)}) == 3
    assert len({one.passage_group_id for one in found if isinstance(one, Pair)}) == 1


def test_missing_texts_of_beir_name_the_line(tmp_path: Path) -> None:
    as_beir(tmp_path / "beir")
    folder = tmp_path / "beir" / "en"
    with (folder / "qrels" / "train.tsv").open("a") as file:
        file.write("1\tnowhere\t1\nnobody\t1\t1\n1 0 3 1\nbroken\n4\t4\t0\nunasked\t1\t0\n")
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{\n{"_id": "1", "text": "another"}\n')
    found = pairs_of(Source(format="beir", path=str(folder), language="en"))
    bad = {(one.file.rpartition("/")[2], one.line, one.reason) for one in found if isinstance(one, Rejected)}
    assert bad == {
        ("corpus.jsonl", 49, "broken JSON"),
        ("corpus.jsonl", 50, "duplicate"),
        ("train.tsv", 3 * N + 6, "duplicate"),
        ("train.tsv", 3 * N + 7, "no positive"),
        ("train.tsv", 3 * N + 2, "unknown id"),
        ("train.tsv", 3 * N + 3, "unknown id"),
        ("train.tsv", 3 * N + 5, "broken line"),
    }
    assert sum(isinstance(one, Pair) for one in found) == N + 1  # TREC's four columns are read


def test_broken_triples_are_told_once(tmp_path: Path) -> None:
    source = as_mmarco(tmp_path / "mmarco")
    with (tmp_path / "mmarco" / mmarco.TRIPLES).open("a") as file:
        file.write("1\t2\n1\t999\t3\n")
    bad = [one for one in pairs_of(source) if isinstance(one, Rejected)]
    assert Counter((one.line, one.reason) for one in bad) == {
        (2 * N + 1, "broken line"): 1,
        (2 * N + 2, "unknown id"): 3,
    }


def test_what_is_missing_of_mmarco_is_told_with_its_page(tmp_path: Path) -> None:
    source = as_mmarco(tmp_path / "mmarco")
    for missing in ("queries", "collections"):
        (tmp_path / "mmarco" / "google" / missing).rename(tmp_path / missing)
        with pytest.raises(ValueError, match=rf"google/{missing}.*does not exist.* at {mmarco.PAGE}$"):
            sources.find_shards(data(source))


def test_the_licence_of_mmarco_is_that_of_ms_marco(tmp_path: Path) -> None:
    source = as_mmarco(tmp_path / "mmarco")
    config = data(source)
    corpus = read_corpus(config, tmp_path / "cache")
    assert sources.licenses(config, corpus) == {"": "other: MS MARCO's terms, for non-commercial research only"}


def test_every_source_of_a_corpus_has_its_own_licence(tmp_path: Path) -> None:
    """Licences that rows name are added where rows can name them, and count for sources that rows name."""
    rows_of = {
        "own": [{"query": "q1", "passage": "p1", "license": "CC0-1.0"}],
        "plain": [{"query": "q2", "passage": "p2"}, {"query": "q3", "passage": "p3", "source": "third"}],
    }
    for name, lines in rows_of.items():
        write_lines(tmp_path / f"{name}.jsonl", [one | {"language": "en"} for one in lines])
    own, plain = (Source(format="jsonl", path=str(tmp_path / f"{name}.jsonl"), name=name) for name in rows_of)
    given = replace(plain, license="MIT")
    marco = replace(as_mmarco(tmp_path / "mmarco"), name="marco")
    config = DataConfig(sources=(own, given, marco), validation=Source(facts=20), validation_share=0)
    assert sources.licenses(config, read_corpus(config, tmp_path / "cache")) == {
        "marco": "other: MS MARCO's terms, for non-commercial research only",
        "own": "CC0-1.0",
        "plain": "MIT; CC0-1.0",
        "third": "CC0-1.0; MIT",
        "validation": "Unicode-3.0",
    }


def test_languages_not_asked_for_are_counted_apart(tmp_path: Path) -> None:
    corpus = read_corpus(data(as_jsonl(tmp_path / "data"), languages=("de", "en")), tmp_path)
    assert (corpus.languages, corpus.n_read, corpus.n_pairs) == (("de", "en"), 2 * N, 2 * N)
    assert corpus.notes == {LEFT_OUT: {"es": N}}
    write_lines(
        tmp_path / "odd" / "x.jsonl", [question(n, "en") | {"language": "xx"} for n in range(2)] + [question(3, "en")]
    )
    odd = read_corpus(DataConfig(format="jsonl", path=str(tmp_path / "odd"), languages=("en",)), tmp_path)
    assert odd.rejected == {"unknown language code": 2}  # not left out as a language that is not asked for
    with pytest.raises(ValueError, match=r"data.languages has fr, but the data has pairs only in de, en, es"):
        check_languages("data", ("de", "fr", "en", "es"), read_corpus(data(as_jsonl(tmp_path / "more")), tmp_path))


def test_several_sources_are_weighed_by_size(tmp_path: Path) -> None:
    """One is parallel in some of the languages, one is in English alone and never in a cross batch."""
    parallel = as_parquet(tmp_path / "parallel")
    lines = [{"anchor": f"q {n}", "positive": f"p {n}"} for n in range(4 * N)]
    write_lines(tmp_path / "mono.jsonl", lines)
    mono = Source(format="sentence-transformers", path=str(tmp_path / "mono.jsonl"), name="mono", language="en")
    corpus = read_corpus(DataConfig(sources=(parallel, mono), validation_share=0), tmp_path)
    assert corpus.sources == (parallel.path, "mono")
    plan = Plan(corpus, Sampling(mono=0.5, cross=0.5), 8, seed=1)
    drawn: dict[str, Counter] = {"mono": Counter(), "cross": Counter()}
    for batch in map(plan.batch, range(400)):
        if batch.kind == "cross" or plan.languages[batch.query_language[0]] == "en":
            drawn[batch.kind].update(corpus.source_of[batch.groups].tolist())
    assert drawn["cross"].keys() == {0}
    assert drawn["mono"][1] / drawn["mono"].total() == pytest.approx(4 / 5, abs=0.07)


def test_validation_pairs_are_never_trained_on(tmp_path: Path) -> None:
    """Not even where they call themselves by the source and the groups of the training pairs."""
    for name in ("train", "validation"):
        rows_of = [question(n, language) | {"source": "s"} for n in range(N) for language in ("de", "en")]
        write_lines(tmp_path / name / "x.jsonl", rows_of)
    train, validation = (Source(format="jsonl", path=str(tmp_path / name)) for name in ("train", "validation"))
    corpus = read_corpus(data(train, validation=validation), tmp_path)
    assert [int(corpus.groups(part).sum()) for part in ("train", "validation")] == [N, N]
    assert corpus.rejected == {}
    with pytest.raises(ValueError, match="two sources of data are called 'validation'"):
        read_corpus(data(replace(train, name="validation"), validation=validation), tmp_path)


def test_fields_and_files_that_are_not_read_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(
        tmp_path / "data" / "a.jsonl", [question(n, "en") | {"hard_negatives": [], "lang": "x"} for n in range(3)]
    )
    (tmp_path / "data" / "notes.csv").write_text("x", encoding="utf-8")
    as_parquet(tmp_path / "parquet")
    corpus = read_corpus(DataConfig(format="jsonl", path=str(tmp_path / "data")), tmp_path)
    assert capsys.readouterr().out.startswith("read 3 rows in")  # the notes are no rows
    assert corpus.notes[UNREAD].keys() == {"hard_negatives", "lang"}
    assert corpus.notes[SKIPPED].keys() == {str(tmp_path / "data" / "notes.csv")}
    wrong = Source(format="sentence-transformers", path=f"{tmp_path}/parquet/{{language}}")
    with pytest.raises(
        ValueError, match=r"part.parquet has no column anchor, positive. Exp.* Found: .* passage, .*query"
    ):
        read_corpus(data(wrong), tmp_path)


def test_validation_pairs_of_their_own(tmp_path: Path) -> None:
    validation = as_parquet(tmp_path / "validation")
    corpus = read_corpus(data(as_jsonl(tmp_path / "train"), validation=validation), tmp_path)
    assert [int(corpus.groups(part).sum()) for part in ("train", "validation")] == [N, N]
    assert "validation" in corpus.sources


def test_no_passage_group_is_in_both_parts(tmp_path: Path) -> None:
    corpus = read_corpus(data(as_jsonl(tmp_path / "data"), validation_share=0.5), tmp_path)
    parts = {part: set(corpus.passage_group[corpus.groups(part)].tolist()) for part in ("train", "validation")}
    assert not parts["train"] & parts["validation"]
    assert min(map(len, parts.values())) > 5


def test_what_was_read_is_not_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = as_jsonl(tmp_path / "data")
    first = read_corpus(data(source), tmp_path)
    capsys.readouterr()
    assert read_corpus(data(source), tmp_path).directory == first.directory
    assert capsys.readouterr().out.startswith("the data is in the cache already")
    others = [data(source, validation_share=0.3), data(source, languages=("en",)), data(source, max_negatives=1)]
    corpora = [read_corpus(one, tmp_path) for one in others]
    assert len({corpus.directory for corpus in (first, *corpora)}) == 4
    assert [len(corpus.pair(0)["negatives"]) for corpus in (first, *corpora)] == [2, 2, 2, 1]
    file = tmp_path / "data" / "a.jsonl"
    file.write_text(
        file.read_text(encoding="utf-8").replace("question 1 in en", "question ! in en"), encoding="utf-8"
    )  # the same size
    changed = read_corpus(data(source), tmp_path)
    assert (changed.n_pairs, changed.fingerprint == first.fingerprint) == (first.n_pairs, False)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"format": "jsonl"}, "data.path is empty"),
        ({"format": "jsonl", "path": "/nowhere/x"}, "'/nowhere/x' does not exist"),
        ({"format": "jsonl", "path": "/nowhere/{language}"}, "no file matches data.path"),
        ({"format": "nothing"}, "data.format 'nothing' is unknown; there are sample"),
        ({"columns": {"query": "q"}}, r"data.columns is set, but sample has no columns: leave it out \(jsonl"),
        ({"format": "csv", "columns": {"qery": "q"}}, "names the field 'qery', which csv does not have: domain"),
        ({"format": "csv", "columns": {"query": "q", "passage": "q"}}, "reads one column as several fields"),
        ({"format": "beir", "path": str(Path(__file__).parent)}, "has no file that ends with /corpus.jsonl"),
        ({"max_negatives": -1}, "data.max_negatives is -1"),
        ({"format": "jsonl", "path": "a", "validation": Source(name="")}, "'a' does not exist"),
        ({"format": "jsonl", "path": "s4://bucket/x"}, "'s4://bucket/x' cannot be opened"),
        ({"format": "jsonl", "path": "hf://datasets/a/b"}, "name the commit of a/b"),
        ({"format": "beir", "path": "hf://datasets/a/b"}, "is read as jsonl, parquet"),
        ({"format": "mmarco", "path": "/nowhere"}, f"/nowhere/collections' does not exist.* at {mmarco.PAGE}$"),
        ({"format": "mmarco"}, f"name the folder of one translator of mMARCO, as data/google at {mmarco.PAGE}$"),
        ({"path": "x", "sources": (Source(),)}, "move that into data.sources"),
        ({"sources": (Source(facts=20), Source(facts=30))}, "two sources of data are called 'sample'"),
        ({"max_rejected": 2}, "data.max_rejected is 2"),
    ],
)
def test_bad_sources_are_refused_with_a_remedy(source: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_corpus(DataConfig(**source), tmp_path)


def test_a_dataset_of_the_hub_is_asked_for_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub cannot be reached here: what is asked of the library is recorded, and a local folder answers."""
    asked, real = [], datasets.load_dataset

    def load(name: str, subset: str | None, **options: Any) -> Any:
        asked.append((name, subset, options["split"], options["revision"]))
        return real(str(tmp_path / "data"), split=options["split"], streaming=True)

    as_columns(tmp_path / "data")
    monkeypatch.setattr(datasets, "load_dataset", load)
    commit = "0123456789" * 4
    source = Source(format="sentence-transformers", path="hf://datasets/a/b", subset="triplet", revision=commit)
    found = [record for shard in sources.find_shards(data(source)) for record in shard.read()]
    assert len(found) == 3 * N
    assert set(asked) == {("a/b", "triplet", "train", commit)}


def test_a_broken_dataset_names_itself(tmp_path: Path) -> None:
    write_lines(tmp_path / "x.jsonl", [*(question(n, "en") for n in range(5)), "{{"])
    with pytest.raises(ValueError, match=r"hf:///.* cannot be"):
        read_corpus(DataConfig(format="jsonl", path=f"hf://{tmp_path}"), tmp_path / "cache")


def test_a_dataset_that_cannot_be_reached() -> None:
    with pytest.raises(ValueError, match=r"the dataset a/b \(subset None, split train\) cannot be opened"):
        hub.find_shards(Source(format="jsonl", path="hf://datasets/a/b", revision="0" * 40), ROWS["jsonl"])


KEYS = """
from pathlib import Path
from hybridir.data.config import DataConfig
from hybridir.data.sources import contents_key, find_shards

def keys():
    configs = [DataConfig(format=name, path="pairs.jsonl") for name in ("jsonl", "tevatron")]
    return [contents_key(find_shards(config), 0.05) for config in configs]

before = keys()
for name in ("formats/jsonl", "formats/tevatron", "formats/lareqa", "storage", "intake", "build"):
    with Path("hybridir", "data", name + ".py").open("a") as file:
        file.write("# one more line")
    now = keys()
    print(name, *(a != b for a, b in zip(before, now)))
    before = now
"""


def test_only_the_code_that_reads_a_corpus_changes_its_key(tmp_path: Path) -> None:
    """Otherwise a corpus that other code has read would come from the cache, or each new format would empty it."""
    shutil.copytree(ROOT / "hybridir", tmp_path / "hybridir", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pairs.jsonl").write_text("{}", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", KEYS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.stdout.splitlines() == [
        "formats/jsonl True False",
        "formats/tevatron False True",
        "formats/lareqa False False",
        "storage True True",
        "intake True True",
        "build True True",
    ], done.stderr


def test_scores_of_tevatron_stay_with_their_negatives(tmp_path: Path) -> None:
    """The second negative is the positive, so it goes, and its score with it."""
    passages = [{"docid": name, "text": f"text {name}"} for name in "abc"]
    row = {"query_id": "1", "query": "q", "positive_passages": [passages[1]], "negative_passages": passages}
    lines = [row | {"negative_scores": scores} for scores in ([0.5, 9, -1], [0.5], ["x", 1, 2])]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    pair, few, text = pairs_of(Source(format="tevatron", path=str(tmp_path / "x.jsonl"), language="en"))
    assert isinstance(pair, Pair)
    assert [one.passage_id for one in pair.negatives] == ["a", "c"]
    assert pair.negative_scores == (0.5, -1.0)
    assert isinstance(few, Rejected)
    assert (few.reason, few.value) == ("wrong number of scores", "1 negative_scores for 3 negatives")
    assert isinstance(text, Rejected)
    assert text.reason == "wrong type"
