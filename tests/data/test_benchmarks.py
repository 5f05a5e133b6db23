"""Benchmarks in the layouts they are published in: small ones with known contents, and broken ones."""

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_lareqa import paragraph
from test_lareqa import write as write_lareqa

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig, BenchmarkFormat
from hybridir.data.formats import sample
from hybridir.data.records import Benchmark
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.settings import evaluate_scores, summarise
from hybridir.retrieval.dot import Scorer

HEADER = "query-id\tcorpus-id\tscore"
GRADED = (
    "judgements are graded ({}): nDCG takes the grade as gain, as trec_eval does; for all other measures, every grade "
    "from 1 is relevant"
)


def write(path: Path, lines: Iterable[Any]) -> None:
    """Lines of text, or of JSON; gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) + "\n" for one in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def add(path: Path, line: str) -> None:
    """One more line."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(gzip.decompress(content) + f"{line}\n".encode()))
    else:
        path.write_bytes(content + f"{line}\n".encode())


def beir_folder(folder: Path, queries: dict[str, str], corpus: dict[str, str], qrels: list[str]) -> None:
    write(folder / "corpus.jsonl", ({"_id": i, "title": "", "text": text} for i, text in corpus.items()))
    write(folder / "queries.jsonl", ({"_id": i, "text": text, "metadata": {}} for i, text in queries.items()))
    write(folder / "qrels" / "test.tsv", qrels)


@pytest.fixture
def beir(tmp_path: Path) -> BenchmarkConfig:
    """q1 to q3 in de and en; es has q1 alone, and another passage."""
    root = tmp_path / "own"
    beir_folder(
        root / "de",
        {"q1": "eins?", "q2": "zwei?", "q3": "drei?"},
        {"a": "eins a", "b": "eins b", "c": "zwei"},
        [HEADER, "q1\ta\t2", "q1\tb\t1", "q2\tc\t1", "q2\ta\t0"],
    )
    beir_folder(
        root / "en",
        {"q3": "three?", "q1": "one?", "q9": "nine?"},
        {"a": "one", "b": "two", "x": "three"},
        ["q1 0 a 1", "q3\t0\tx\t3"],
    )
    beir_folder(root / "es", {"q1": "¿uno?"}, {"a": "otro", "z": "uno"}, ["q1\tz\t1"])
    return BenchmarkConfig(name="beir", path=f"{root}/{{language}}")


@pytest.fixture
def miracl(tmp_path: Path) -> BenchmarkConfig:
    """Two languages with the same ids for other questions; ar has shards enough to be sorted by number."""
    root = tmp_path / "hub"
    for language, shards in (("ar", 11), ("sw", 1)):
        name = f"miracl-v1.0-{language}"
        write(
            root / name / "topics" / f"topics.{name}-dev.tsv", [f"4#0\tfirst {language}?", f"7#0\tsecond {language}?"]
        )
        judged = ["4#0\tQ0\t1#0\t1", f"4#0\tQ0\t{shards}#1\t1", "7#0\tQ0\t1#1\t0", f"7#0\tQ0\t{shards}#0\t1"]
        write(root / name / "qrels" / f"qrels.{name}-dev.tsv", judged)
        for n in range(shards):
            docs = ({"docid": f"{n + 1}#{k}", "title": f"T{n + 1}", "text": f"{language} {k}"} for k in range(2))
            write(root / f"miracl-corpus-v1.0-{language}" / f"docs-{n}.jsonl.gz", docs)
    return BenchmarkConfig(name="miracl", path=str(root))


def answers(benchmark: Benchmark) -> dict[str, list[str]]:
    """The ids of what is relevant, by query."""
    names = [f"{passage.language}:{passage.passage_id}" for passage in benchmark.passages]
    pairs = zip(benchmark.queries, benchmark.relevant, strict=True)
    return {query.query_id: [names[n] for n in relevant] for query, relevant in pairs}


def in_order(benchmark: Benchmark) -> Scorer:
    """Scores that rank the passages in their own order, for every query."""
    score_P = -np.arange(len(benchmark.passages), dtype=np.float32)
    return lambda queries, passages: np.tile(score_P[passages], (queries.stop - queries.start, 1))


def results(benchmark: Benchmark) -> dict[str, Any]:
    return summarise(evaluate_scores(in_order(benchmark), benchmark), benchmark)


def counts(found: dict[str, Any]) -> list[tuple[int, int]]:
    settings = ("monolingual", "crosslingual", "multilingual")
    return [(found[setting]["n_queries"], found[setting]["excluded"]) for setting in settings]


def test_parallel_beir(beir: BenchmarkConfig) -> None:
    benchmark = read_benchmark(beir)
    assert (benchmark.name, benchmark.languages) == ("own (BEIR)", ("de", "en", "es"))
    assert answers(benchmark) == {
        "de:q1": ["de:a", "de:b", "en:a", "es:z"],
        "de:q2": ["de:c"],
        "de:q3": ["en:x"],
        "en:q3": ["en:x"],
        "en:q1": ["de:a", "de:b", "en:a", "es:z"],
        "es:q1": ["de:a", "de:b", "en:a", "es:z"],
    }
    assert [query.text for query in benchmark.queries] == ["eins?", "zwei?", "drei?", "three?", "one?", "¿uno?"]
    assert [query.group_id for query in benchmark.queries] == ["q1", "q2", "q3", "q3", "q1", "q1"]
    assert [query.cluster for query in benchmark.queries] == ["q1", "q2", "q3", "q3", "q1", "q1"]
    assert [passage.text for passage in benchmark.passages][:4] == ["eins a", "eins b", "zwei", "one"]
    own = beir.path.replace("{language}", "en")
    assert benchmark.notes == (
        f"1 of 3 queries in {own}/queries.jsonl are not judged in {own}/qrels/test.tsv: left out",
        GRADED.format("1, 2, 3"),
    )
    # de:q3 has no German passage; answers in other languages: q1 two from each of three, de:q3 one (en)
    assert counts(results(benchmark)) == [(5, 1), (7, 5), (6, 0)]


def test_languages_of_beir(beir: BenchmarkConfig) -> None:
    config = BenchmarkConfig(name="beir", path=beir.path, languages=("es", "de"))
    assert answers(read_benchmark(config))["de:q1"] == ["es:z", "de:a", "de:b"]


def test_one_folder_of_beir(beir: BenchmarkConfig) -> None:
    folder = Path(beir.path.replace("{language}", "de"))
    write(folder / "qrels" / "dev.tsv", [HEADER, "q3\tb\t1"])
    (folder / "corpus.jsonl").write_text(
        '{"_id": 1, "title": "Titel", "text": "Text"}\n\n{"_id": "b", "text": "B"}\n', encoding="utf-8"
    )
    benchmark = read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="de", split="dev"))
    assert answers(benchmark) == {"de:q3": ["de:b"]}
    assert [(passage.passage_id, passage.text) for passage in benchmark.passages] == [("1", "Titel Text"), ("b", "B")]
    assert counts(results(benchmark)) == [(1, 0), (0, 0), (1, 0)]


def test_judged_queries_without_answer_are_counted(beir: BenchmarkConfig) -> None:
    folder = Path(beir.path.replace("{language}", "de"))
    add(folder / "qrels" / "test.tsv", "q3\ta\t0")
    benchmark = read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="de"))
    assert answers(benchmark) == {"de:q1": ["de:a", "de:b"], "de:q2": ["de:c"], "de:q3": []}
    assert benchmark.notes == ("1 queries in de have no relevant passage: excluded", GRADED.format("1, 2"))
    found = results(benchmark)
    assert counts(found) == [(2, 1), (0, 0), (2, 1)]
    assert found["monolingual"]["mAP"] == pytest.approx((1 + 1 / 3) / 2)


def test_empty_passages_are_left_out_and_counted(beir: BenchmarkConfig) -> None:
    folder = Path(beir.path.replace("{language}", "de"))
    add(folder / "corpus.jsonl", '{"_id": "e", "title": "", "text": " "}')
    add(folder / "corpus.jsonl", '{"_id": "f", "text": ""}')
    add(folder / "corpus.jsonl", '{"_id": "t", "title": "Titel", "text": ""}')
    for judged in ("q1\te\t1", "q3\tf\t1"):
        add(folder / "qrels" / "test.tsv", judged)
    benchmark = read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="de"))
    assert [passage.passage_id for passage in benchmark.passages] == ["a", "b", "c", "t"]
    assert answers(benchmark) == {"de:q1": ["de:a", "de:b"], "de:q2": ["de:c"], "de:q3": []}
    assert benchmark.notes == (
        f"2 passages in de have no text, the first at {folder}/corpus.jsonl:4: left out",
        "2 judgements in de call a passage without text relevant: left out",
        "1 queries in de have no relevant passage: excluded",
        GRADED.format("1, 2"),
    )


def test_miracl(miracl: BenchmarkConfig) -> None:
    benchmark = read_benchmark(miracl)
    assert benchmark.languages == ("ar", "sw")
    assert answers(benchmark) == {
        "ar:4#0": ["ar:1#0", "ar:11#1"],
        "ar:7#0": ["ar:11#0"],
        "sw:4#0": ["sw:1#0", "sw:1#1"],
        "sw:7#0": ["sw:1#0"],
    }
    assert [passage.passage_id for passage in benchmark.passages[:4]] == ["1#0", "1#1", "2#0", "2#1"]
    assert benchmark.passages[20].text == "T11 ar 0"
    assert len({query.group_id for query in benchmark.queries}) == len({q.cluster for q in benchmark.queries}) == 4
    assert benchmark.notes == (
        "miracl judges only passages in the language of the query: all others count as irrelevant",
    )
    assert counts(results(benchmark)) == [(4, 0), (0, 4), (4, 0)]


def test_miracl_in_two_folders(miracl: BenchmarkConfig, tmp_path: Path) -> None:
    """As the hub's tool writes it, with a folder for each data set."""
    root = tmp_path / "two"
    for folder in Path(miracl.path).iterdir():
        (data := root / ("miracl-corpus" if "corpus" in folder.name else "miracl")).mkdir(parents=True, exist_ok=True)
        folder.rename(data / folder.name)
    config = BenchmarkConfig(name="miracl", path=str(root), languages=("sw",))
    assert [query.query_id for query in read_benchmark(config).queries] == ["sw:4#0", "sw:7#0"]


def test_mlqa_r_by_hand(tmp_path: Path) -> None:
    """Positions: de 0 to 5, en 6 to 14, zh 15 to 17, ranked in this order for every query."""
    path = write_lareqa(
        tmp_path / "mlqa-r",
        de=[[paragraph(("a", 1), ("b", 0))], [paragraph(("d", 2))]],
        en=[[paragraph(("a", 0)), paragraph(("c", 2))], [paragraph(("d", 1), ("e", 1))]],
        zh=[[paragraph(("c", 0))]],
    )
    benchmark = read_benchmark(BenchmarkConfig(name="mlqa-r", path=path, split="all"))
    assert benchmark.notes == (f"{path} lacks ar, es, hi, vi of mlqa-r: averages are over the other languages",)
    found = results(benchmark)
    assert counts(found) == [(8, 0), (6, 10), (8, 0)]
    de, en, zh = (1 / 2 + 1 + 1 / 6) / 3, (1 + 1 / 6 + 1 / 8 + 1 / 8) / 4, 1
    assert found["monolingual"]["mAP"] == pytest.approx((de + en + zh) / 3)
    pairs = {"de-en": (1 + 1 / 8) / 2, "en-de": (1 / 2 + 1 / 6) / 2, "en-zh": 1, "zh-en": 1 / 6}
    assert {k: v["mAP"] for k, v in found["per_pair"].items() if k[:2] != k[3:]} == pytest.approx(pairs)
    assert found["crosslingual"]["mAP"] == pytest.approx(sum(pairs.values()) / 4)
    a, c, d = (1 / 2 + 2 / 7) / 2, (1 / 12 + 2 / 16) / 2, (1 / 6 + 2 / 14) / 2
    pooled = [(a + 1 + d) / 3, (a + c + d + 1 / 14) / 4, c]
    assert found["multilingual"]["mAP"] == pytest.approx(sum(pooled) / 3)
    distance = [(5 + 8) / 2, (5 + 4 + 8) / 3, 4]  # b and e have one answer
    assert found["multilingual"]["rank_distance"] == pytest.approx(sum(distance) / 3)


def test_two_to_four_answers_of_mlqa_r(tmp_path: Path) -> None:
    one, two = paragraph(("g", 1)), paragraph(("g", 1), ("h", 2))
    path = write_lareqa(tmp_path / "mlqa-r", ar=[[one]], de=[[two]], en=[[two]], vi=[[one]])
    found = results(benchmark := read_benchmark(BenchmarkConfig(name="mlqa-r", path=path, split="all")))
    assert {query: len(relevant) for query, relevant in answers(benchmark).items()} == {
        **{f"{language}:g": 4 for language in ("ar", "de", "en", "vi")},
        **{"de:h": 2, "en:h": 2},
    }
    assert counts(found) == [(6, 0), (14, 4), (6, 0)]
    assert found["per_pair"]["de-ar"]["mAP"] == 1 / 2  # g alone: h has no answer in ar
    g, h = (1 / 2 + 2 / 5 + 3 / 8 + 4 / 11) / 4, (1 / 6 + 2 / 9) / 2
    assert found["multilingual"]["mAP"] == pytest.approx((g + (g + h) / 2 + (g + h) / 2 + g) / 4)
    assert found["multilingual"]["rank_distance"] == pytest.approx((9 + (9 + 3) / 2 + (9 + 3) / 2 + 9) / 4)


Change = Callable[[Path], object]
AT = {"corpus": "de/corpus.jsonl", "queries": "de/queries.jsonl", "qrels": "de/qrels/test.tsv"}
BEIR_URL = "https://github.com/beir-cellar/beir"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("corpus", Path.unlink, r"corpus.jsonl: the file does not exist \(language de\): complete the folder"),
        ("queries", Path.unlink, r"queries.jsonl: the file does not exist \(language de\): complete the folder"),
        ("qrels", Path.unlink, r"test.tsv: the file does not exist \(language de\): .* benchmark.split"),
        ("corpus", lambda f: write(f, []), r"corpus.jsonl: the file is empty"),
        ("queries", lambda f: write(f, []), r"queries.jsonl: the file is empty"),
        ("qrels", lambda f: write(f, []), r"test.tsv: the file is empty"),
        ("corpus", lambda f: write(f, [""]), r"corpus.jsonl: there is no passage in de"),
        ("queries", lambda f: write(f, [""]), r"queries.jsonl: there is no query in de"),
        ("qrels", lambda f: write(f, [HEADER]), r"test.tsv: no passage has a score above 0"),
        ("qrels", lambda f: write(f, ["q1\ta\t0"]), r"test.tsv: no passage has a score above 0"),
        ("corpus", lambda f: add(f, '{"_id": "d", '), r"corpus.jsonl:4: broken JSON: .*fix the line"),
        ("queries", lambda f: add(f, '{"_id": "d", '), r"queries.jsonl:4: broken JSON: .*fix the line"),
        ("corpus", lambda f: add(f, '["d"]'), r"corpus.jsonl:4: wrong type: expected an object"),
        ("corpus", lambda f: add(f, '{"id": "d", "text": "x"}'), r"corpus.jsonl:4: missing field: _id"),
        ("corpus", lambda f: add(f, '{"_id": "d"}'), r"corpus.jsonl:4: missing field: text"),
        (
            "queries",
            lambda f: add(f, '{"_id": "d", "text": 1}'),
            r"queries.jsonl:4: wrong type: text must be a string; found 1",
        ),
        ("corpus", lambda f: f.write_bytes(b'\xff{"_id": "d"}'), r"corpus.jsonl:1: invalid UTF-8"),
        ("corpus", lambda f: add(f, '{"_id": "b", "text": "x"}'), r"corpus.jsonl:4: passage id 'b' occurs twice"),
        ("corpus", lambda f: add(f, '{"_id": "c", "text": ""}'), r"corpus.jsonl:4: passage id 'c' occurs twice"),
        ("queries", lambda f: add(f, '{"_id": "q2", "text": "x"}'), r":4: query id 'q2' is already in line 2"),
        (
            "queries",
            lambda f: write(f, [{"_id": "q1", "text": "\t"}, {"_id": "q2", "text": "x"}]),
            r":1: query 'q1' ha",
        ),
        (
            "queries",
            lambda f: add(f, '{"_id": "d", "text": "\\ud83d"}'),
            r"queries.jsonl:4: unpaired surrogate: text: ",
        ),
        ("queries", lambda f: add(f, '{"_id": "q\\ud83d", "text": "x"}'), r"queries.jsonl:4: unpaired surrogate: id: "),
        ("corpus", lambda f: add(f, '{"_id": "d", "text": "a\\u0000"}'), r"corpus.jsonl:4: NUL byte: text: 'a\\x00'"),
        ("corpus", lambda f: add(f, '{"_id": "\\u200b", "text": "x"}'), r"corpus.jsonl:4: empty id: '\\u200b'"),
        (
            "corpus",
            lambda f: add(f, f'{{"_id": "{"d" * 1001}", "text": "x"}}'),
            r"corpus.jsonl:4: over-long text: id: 1001",
        ),
        ("queries", lambda f: write(f, [{"_id": "q1", "text": "\u200b\xa0\u3164"}]), r":1: query 'q1' has no text"),
        ("qrels", lambda f: add(f, "q1\ta"), r"test.tsv:6: broken line: expected query id, passage id, score"),
        ("qrels", lambda f: add(f, "q1\ta\tyes"), r"test.tsv:6: broken line: expected query id, passage id, score"),
        ("qrels", lambda f: add(f, "q1\ta\tnan"), r"test.tsv:6: broken line: expected query id, passage id, score"),
        ("qrels", lambda f: add(f, "# q1\ta\tno"), r"test.tsv:6: broken line: expected query id, passage id, score"),
        ("qrels", lambda f: add(f, "q1\ta\tx\ty\t1"), r"test.tsv:6: broken line: expected query id, passage id, score"),
        ("qrels", lambda f: add(f, "q1\ta\t0.5"), r"test.tsv:6: broken line: expected a whole number .* found '0.5'"),
        (
            "qrels",
            lambda f: add(f, "q1\ta\t0"),
            r"test.tsv:6: passage 'a' has the score 0 for query 'q1', and 2 in line 2",
        ),
    ],
)
def test_broken_beir(beir: BenchmarkConfig, file: str, change: Change, message: str) -> None:
    change(Path(beir.path.replace("{language}", "")) / AT[file])
    with pytest.raises(ValueError, match=message + rf"[^\n]* {BEIR_URL}"):
        read_benchmark(beir)


def test_beir_with_nothing_to_find(beir: BenchmarkConfig) -> None:
    """The only relevant passage has no text."""
    folder = Path(beir.path.replace("{language}", "es"))
    write(folder / "corpus.jsonl", [{"_id": "a", "text": "otro"}, {"_id": "z", "title": "", "text": " "}])
    with pytest.raises(
        ValueError,
        match=r"es/qrels/test.tsv: no relevant passage is there with a text.*call a passage without text relevant.*"
        + BEIR_URL,
    ):
        read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="es"))
    write(folder / "qrels" / "test.tsv", ["q1\tnowhere\t1"])
    message = r"no relevant passage is there .*name passages that no file of es has, the first passage 'nowhere'"
    with pytest.raises(ValueError, match=message):
        read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="es"))


def test_published_judgements_that_name_what_is_absent(beir: BenchmarkConfig) -> None:
    """ArguAna judges passages that its corpus lacks; other sets have queries of another split, or passages twice."""
    folder = Path(beir.path.replace("{language}", "de"))
    write(folder / "qrels" / "test.tsv", ["qid\tdocid\trelevance", "q1\ta\t1.0", "q1\tnowhere\t2", "nobody\ta\t0"])
    add(folder / "corpus.jsonl", '{"_id": "b", "title": "", "text": "eins b"}')
    add(folder / "corpus.jsonl", '{"_id": "e", "text": " "}')
    add(folder / "corpus.jsonl", '{"_id": "e", "text": ""}')
    benchmark = read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="de"))
    assert answers(benchmark) == {"de:q1": ["de:a"]}
    assert len(benchmark.passages) == 3
    qrels = folder / "qrels" / "test.tsv"
    assert set(benchmark.notes) >= {
        f"1 judgements in {qrels} name queries that are in no file, the first query 'nobody' in line 4: left out",
        f"1 judgements in {qrels} name passages that no file of de has, the first passage 'nowhere' in line 3: "
        "left out",
        "2 passages in de are in their file again, with the same text: left out",
    }


def test_languages_are_spelled_as_in_cldr(beir: BenchmarkConfig) -> None:
    for old, new in (("de", "deu"), ("en", "EN"), ("es", "es-ES")):
        Path(beir.path.replace("{language}", old)).rename(beir.path.replace("{language}", new))
    assert read_benchmark(beir).languages == ("de", "en", "es")
    config = BenchmarkConfig(name="beir", path=beir.path, languages=("en", "deu"))
    assert read_benchmark(config).languages == ("en", "de")
    Path(beir.path.replace("{language}", "de")).mkdir()
    with pytest.raises(ValueError, match=r"has the language de twice, as de and deu: move one"):
        read_benchmark(beir)


@pytest.mark.parametrize("code", ["xx", "es-AR"])
def test_unknown_language_of_beir(beir: BenchmarkConfig, code: str) -> None:
    """As in training data: codes as CLDR writes them."""
    folder = Path(beir.path.replace("{language}", "es"))
    message = rf"not language codes of CLDR: '{code}' \(write .*\), or exclude them with benchmark.languages"
    with pytest.raises(ValueError, match=message):
        read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language=code))
    folder.rename(folder.with_name(code))
    with pytest.raises(ValueError, match=message):
        read_benchmark(beir)
    with pytest.raises(ValueError, match=message):
        read_benchmark(BenchmarkConfig(name="beir", path=beir.path, languages=("de", code)))
    assert read_benchmark(BenchmarkConfig(name="beir", path=beir.path, languages=("de", "en"))).languages == (
        "de",
        "en",
    )
    folder.with_name(code).rename(folder.with_name("pt_PT"))
    assert read_benchmark(beir).languages == ("de", "en", "pt_PT")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "x"}, "benchmark.path is 'x', which sample does not use: leave it out"),
        ({"language": "de"}, "benchmark.language is 'de', which sample does not use"),
        ({"name": "miracl", "path": "x", "language": "de"}, "benchmark.language is 'de', which miracl does not use"),
        ({"name": "beir", "path": "x", "facts": 80}, "benchmark.facts is '80', which beir does not use"),
        ({"name": "xquad-r", "path": "x", "facts": 80}, "benchmark.facts is '80', which xquad-r does not use"),
    ],
)
def test_fields_that_are_not_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_benchmark(BenchmarkConfig(**options))


@pytest.mark.parametrize(
    "lines",
    [
        ["query-id,corpus-id,score", "q1,a,2", "q1,b,1"],
        ["query-id, corpus-id, score", "q1, a, 2", "q1, b, 1"],
        ["query-id\tcorpus-id\tscore\tsource\tnote", "q1\ta\t2\tx\ty", "q1\tb\t1\tx\ty"],
        ["query\tdocument\tgrade\tby\ton", "q1\ta\t2", "q1\tb\t1"],
        ["# made by hand", "", "query-id\tcorpus-id\tscore", "q1\ta\t2", "q1\tb\t1"],
        ["query-id\tcorpus-id\tnan", "q1\ta\t2", "q1\tb\t1"],
        ["query-id corpus-id inf", "q1 a 2", "q1 b 1"],
        ["corpus-id\tquery-id\tscore", "a\tq1\t2", "b\tq1\t1"],
        ["pid\tqid\trelevance", "a\tq1\t2.0", "b\tq1\t1e0"],
        ["score,query_id,doc_id", "2,q1,a", "1,q1,b"],
        ["topic iter docno rel", "q1 0 a 2", "q1 0 b 1"],
        ["query-id\tcorpus-id\tscore", "q1 Q0 a 2", "q1 Q0 b 1"],
    ],
)
def test_headers_of_judgements(lines: list[str], beir: BenchmarkConfig) -> None:
    folder = Path(beir.path.replace("{language}", "de"))
    write(folder / "qrels" / "test.tsv", lines)
    benchmark = read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="de"))
    assert (answers(benchmark), benchmark.grades) == ({"de:q1": ["de:a", "de:b"]}, ((2, 1),))


def test_a_text_that_reads_the_same_may_stand_twice(beir: BenchmarkConfig) -> None:
    folder = Path(beir.path.replace("{language}", "de"))
    for name, text in (
        ("queries", "z\xe4hl"),
        ("queries", "za\u0308hl "),
        ("corpus", "caf\xe9"),
        ("corpus", "cafe\u0301"),
    ):
        add(folder / f"{name}.jsonl", json.dumps({"_id": "new", "text": text}))
    benchmark = read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="de"))
    assert len(benchmark.passages) == 4
    assert {
        f"1 {what} in de are in their file again, with the same text: left out" for what in ("queries", "passages")
    } <= set(benchmark.notes)


def test_a_benchmark_that_gives_other_languages_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that does not look at the field gives no numbers about languages that nobody asked for."""
    two = sample.read_benchmark(BenchmarkConfig(facts=80, languages=("de", "en")))
    monkeypatch.setitem(sources.BENCHMARKS, "other", BenchmarkFormat(lambda config: two))
    assert read_benchmark(BenchmarkConfig(name="other", languages=("en", "de"))) is two
    with pytest.raises(ValueError, match=r"benchmark\.languages is de, but other has also given en"):
        read_benchmark(BenchmarkConfig(name="other", languages=("de",)))


def test_harmless_lines_of_beir(beir: BenchmarkConfig) -> None:
    """Blank lines, a judgement said twice, an unknown passage that is judged irrelevant."""
    before = answers(read_benchmark(beir))
    for name in AT.values():
        add(Path(beir.path.replace("{language}", "")) / name, "")
    for line in ("q1\tb\t1", "q1\tb\t1.0", "q1\tnowhere\t0"):
        add(Path(beir.path.replace("{language}", "")) / AT["qrels"], line)
    assert answers(read_benchmark(beir)) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, r"benchmark.path is empty: name a folder in BEIR's format"),
        ({"path": "{own}/de"}, r"the language of benchmark.path '.*/de' is unknown: give benchmark.language"),
        ({"language": "de"}, r"benchmark.language is 'de' and benchmark.path has \{language\}"),
        ({"path": "{own}/de", "language": "de", "languages": ("en",)}, r"/de has no language 'en'; it has de"),
        ({"languages": ("fr",)}, r"has no language 'fr'; it has de, en, es. BEIR's format"),
        ({"path": "{own}/x-{language}"}, r"no file matches benchmark.path '.*x-\{language\}'"),
        ({"path": "{own}/nothing", "language": "de"}, r"nothing/queries.jsonl: the file does not exist"),
        ({"split": "validation"}, r"de/qrels/validation.tsv: the file does not exist"),
    ],
)
def test_config_of_beir(beir: BenchmarkConfig, options: dict[str, Any], message: str) -> None:
    options = {"path": beir.path} | options
    options["path"] = options["path"].replace("{own}", beir.path.removesuffix("/{language}"))
    with pytest.raises(ValueError, match=message):
        read_benchmark(BenchmarkConfig(name="beir", **options))


TOPICS, QRELS = (
    "miracl-v1.0-ar/topics/topics.miracl-v1.0-ar-dev.tsv",
    "miracl-v1.0-ar/qrels/qrels.miracl-v1.0-ar-dev.tsv",
)
DOCS = "miracl-corpus-v1.0-ar/docs-{}.jsonl.gz"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (TOPICS, Path.unlink, r"topics.miracl-v1.0-ar-dev.tsv: the file does not exist \(language ar\)"),
        (QRELS, Path.unlink, r"qrels.miracl-v1.0-ar-dev.tsv: the file does not exist \(language ar\)"),
        (DOCS.format(3), Path.unlink, r"miracl-corpus-v1.0-ar has no docs-3.jsonl.gz: complete the folder"),
        (DOCS.format(10), Path.unlink, r"dev.tsv:2: passage '11#1' is in no passage file of ar: compl"),
        (DOCS.format(0), lambda f: f.parent.rename(f.parent.with_name("away")), r"-ar has no docs-0.jsonl.gz"),
        (DOCS.format(2), lambda f: f.write_bytes(f.read_bytes()[:-12]), r"docs-2.jsonl.gz cannot be read: .*fetch"),
        (DOCS.format(2), lambda f: f.write_bytes(b""), r"docs-2.jsonl.gz: the file is empty"),
        (DOCS.format(2), lambda f: add(f, "{"), r"docs-2.jsonl.gz:3: broken JSON"),
        (DOCS.format(2), lambda f: add(f, '{"_id": "1", "text": "x"}'), r"docs-2.jsonl.gz:3: missing field: docid"),
        (DOCS.format(2), lambda f: add(f, '{"docid": "1#0", "text": "x"}'), r"docs-2.jsonl.gz:3: passage id '1#0' occ"),
        (TOPICS, lambda f: add(f, "4#0\tagain?"), r"dev.tsv:3: query id '4#0' is already in line 1: keep one"),
        (TOPICS, lambda f: add(f, "8#0 no tab"), r"dev.tsv:3: broken line: expected id, tab, text; found 8#0 no tab"),
        (TOPICS, lambda f: write(f, ["4#0\t", "7#0\tx?"]), r"dev.tsv:1: query '4#0' has no text"),
        (QRELS, lambda f: add(f, "9#0\tQ0\t1#0\t1"), r"dev.tsv:5: query '9#0' is unknown"),
        (QRELS, lambda f: write(f, ["4#0\tQ0\t1#0\t0"]), r"dev.tsv: no passage has a score above 0"),
    ],
)
def test_broken_miracl(miracl: BenchmarkConfig, file: str, change: Change, message: str) -> None:
    change(Path(miracl.path) / file)
    with pytest.raises(ValueError, match=message + r"[^\n]* https://huggingface.co/datasets/miracl/miracl,"):
        read_benchmark(miracl)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, r"benchmark.path is empty: name the folder of MIRACL"),
        ({"path": "/nowhere"}, r"no file matches benchmark.path '/nowhere/miracl-v1.0-\{language\}'"),
        ({"languages": ("de",)}, r"has no language 'de'; it has ar, sw. MIRACL's queries"),
        ({"split": "test-a"}, r"topics.miracl-v1.0-ar-test-a.tsv: the file does not exist .* \(splits train and dev"),
    ],
)
def test_config_of_miracl(miracl: BenchmarkConfig, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_benchmark(BenchmarkConfig(name="miracl", **{"path": miracl.path} | options))


@pytest.mark.parametrize(
    ("questions", "sentences", "message"),
    [
        ([("a", 0), ("a", 1)], ("One.", "Two."), r"the question id 'a' is already used at .*qas\[0\]"),
        ([("a", 0)], ("One.", " "), r"paragraphs\[0\] has an empty question or sentence"),
        ([("a", 0)], ("One.", "\u200b"), r"paragraphs\[0\] has an empty question or sentence"),
        ([("a", 0)], ("One.", "Two \ud83d."), r"paragraphs\[0\]: unpaired surrogate: 'Two \\ud83d.'"),
    ],
)
def test_broken_lareqa(tmp_path: Path, questions: list[Any], sentences: tuple[str, ...], message: str) -> None:
    path = write_lareqa(tmp_path / "xquad-r", en=[[paragraph(*questions, sentences=sentences)]])
    with pytest.raises(ValueError, match=r"en.json: data\[0\]" + f".*{message}.*github.com/google-research-datasets"):
        read_benchmark(BenchmarkConfig(name="xquad-r", path=path, split="all"))


@pytest.mark.parametrize("name", ["sample", "xquad-r"])
def test_unknown_split(tmp_path: Path, name: str) -> None:
    path = write_lareqa(tmp_path / "xquad-r", en=[[paragraph(("a", 0))]]) if name == "xquad-r" else ""
    with pytest.raises(ValueError, match=rf"split 'dev' is unknown: {name} has train, validation, test, all"):
        read_benchmark(BenchmarkConfig(name=name, path=path, split="dev"))


def test_split_without_questions(tmp_path: Path) -> None:
    path = write_lareqa(tmp_path / "xquad-r", en=[[paragraph(("a", 0))]])
    empty = []
    for split in ("train", "validation", "test"):
        try:
            read_benchmark(BenchmarkConfig(name="xquad-r", path=path, split=split))
        except ValueError as error:
            empty.append(str(error))
    assert len(empty) == 2
    assert all("has no question in the split" in message for message in empty)


def test_sample_and_default_split() -> None:
    assert read_benchmark(BenchmarkConfig(facts=100)) == read_benchmark(BenchmarkConfig(facts=100, split="test"))


def test_unknown_name() -> None:
    with pytest.raises(
        ValueError, match=r"'xquad' is unknown \(did you mean xquad-r\?\); there are sample, xquad-r, mlqa-r, beir"
    ):
        read_benchmark(BenchmarkConfig(name="xquad"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("town", "town (BEIR)"),
        ("town/", "town (BEIR)"),
        ("heldout", "heldout (BEIR)"),
        ("faq/{language}", "faq (BEIR)"),
    ],
)
def test_a_folder_of_beir_gives_its_name(path: str, name: str, tmp_path: Path) -> None:
    """With the format: a folder called heldout is no held-out part of a run."""
    beir_folder(tmp_path / path.replace("{language}", "en"), {"q": "one?"}, {"a": "one"}, ["q\ta\t1"])
    language = None if "{" in path else "en"
    assert read_benchmark(BenchmarkConfig(name="beir", path=f"{tmp_path}/{path}", language=language)).name == name
