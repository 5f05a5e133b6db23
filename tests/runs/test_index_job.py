"""An index from its recipe to a search: interrupted, extended, refused, exported, asked."""

import csv
import io
import json
import re
import runpy
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from hybridir.data.own_passages import read_passages
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.encode_shards import Done, Work, encode_shards_here
from hybridir.runs import index_job
from hybridir.runs.index_job import Encoding, run_encoding
from hybridir.runs.search_job import Search, _shown, run_search, searcher

WORDS = ("river", "bridge", "market", "tower", "museum", "garden", "harbour", "station")


def write(file: Path, numbers: Sequence[int], changed: int = -1) -> None:
    rows = [
        {"id": n, "language": ("de", "en")[n % 2], "text": f"the {WORDS[n % 8]} {n} {'again' * (n == changed)}"}
        for n in numbers
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def recipe(folder: Path, encoder: Path, **more: object) -> Encoding:
    options: dict[str, object] = {"path": str(folder / "passages.jsonl"), "output": str(folder / "index")} | more
    return Encoding(
        encoder=EncoderConfig(name=str(encoder)),
        retrieval=RetrievalConfig(shard=8),
        **options,  # type: ignore[arg-type]
    )


def files(index: Path) -> dict[str, tuple[int, bytes]]:
    """Of each file of vectors: when it was written, and its content."""
    return {one.name: (one.stat().st_mtime_ns, one.read_bytes()) for one in sorted((index / "vectors").iterdir())}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, float64: Path) -> Path:
    """A folder with 40 passages and their index, exported."""
    folder = tmp_path_factory.mktemp("made")
    write(folder / "passages.jsonl", range(40))
    run_encoding(recipe(folder, float64, export=("npy", "flat")), encode_shards_here)
    return folder


def test_vectors_are_those_of_the_encoder(made: Path, float64: Path) -> None:
    results = json.loads((made / "index" / "results.json").read_text(encoding="utf-8"))
    assert results["passages"] == {"de": 20, "en": 20}
    assert results["exports"]["flat"]["recall@10"] == 1
    names = (made / "index" / "export" / "passages.ids.txt").read_text(encoding="utf-8").split()
    assert names == [f"de:{n}" for n in range(0, 40, 2)] + [f"en:{n}" for n in range(1, 40, 2)]
    texts = [f"the {WORDS[int(name[3:]) % 8]} {name[3:]} " for name in names]
    expected = Encoder.load(str(float64)).encode(texts, "passage")
    found = np.load(made / "index" / "export" / "passages.npy")
    np.testing.assert_allclose(found, expected, rtol=np.finfo(np.float32).eps, atol=1e-12)


def test_killed_and_resumed_encodes_each_shard_once(made: Path, float64: Path, tmp_path: Path) -> None:
    """Bit for bit as undisturbed; what was written before the end is not written again."""
    encoded: list[int] = []

    def dying(work: Work, numbers: Sequence[int]) -> Iterator[Done]:
        for n, done in enumerate(encode_shards_here(work, numbers)):
            encoded.append(done.number)
            yield done
            if n == 1:
                raise KeyboardInterrupt

    write(tmp_path / "passages.jsonl", range(40))
    before: dict[str, tuple[int, bytes]] = {}
    with pytest.raises(KeyboardInterrupt):
        run_encoding(recipe(tmp_path, float64), dying)
    for _ in range(2):
        before |= files(tmp_path / "index")
        with pytest.raises(KeyboardInterrupt):
            run_encoding(recipe(tmp_path, float64, resume=True), dying)
    run_encoding(recipe(tmp_path, float64, resume=True), encode_shards_here)
    after = files(tmp_path / "index")
    assert {name: after[name] for name in before} == before
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in files(made / "index").items()
    }
    assert sorted(number for number in encoded if number >= 0) == list(range(6))


def test_extended(made: Path, float64: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two passages leave, one changes, three come: only four are encoded, and results are those of the new corpus."""
    write(tmp_path / "passages.jsonl", range(40))
    run_encoding(recipe(tmp_path, float64), encode_shards_here)
    before = files(tmp_path / "index")
    write(tmp_path / "passages.jsonl", range(2, 43), changed=7)
    capsys.readouterr()
    run_encoding(recipe(tmp_path, float64, resume=True), encode_shards_here)
    printed = capsys.readouterr().out
    assert f"41 passages of {tmp_path / 'passages.jsonl'}, in de, en" in printed
    assert "6 of 8 shards are encoded; 4 passages are left" in printed
    assert re.search(r"the vectors need 0\.0 MB of disk \(4 x 32 float32\), .* are free; at .* passages/s", printed)
    after = files(tmp_path / "index")
    assert {name: after[name] for name in before} == before
    search = searcher(Search(index=str(tmp_path / "index"), k=99))
    texts = {(language, name): text for _, language, name, text in search("the river 0")}
    assert set(texts) == {(("de", "en")[n % 2], str(n)) for n in range(2, 43)}
    assert "again" in texts["en", "7"]


def test_a_search_finds_the_best_in_order(made: Path, float64: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(str(float64))
    texts = [f"the {WORDS[n % 8]} {n} " for n in range(40)]
    scores = encoder.encode(["the tower 3"], "query") @ encoder.encode(texts, "passage").T
    found = searcher(Search(index=str(made / "index"), k=5))("the tower 3")
    assert [score for score, *_ in found] == pytest.approx(sorted(scores[0].tolist(), reverse=True)[:5], abs=1e-5)
    english = searcher(Search(index=str(made / "index"), k=99, languages=("en",)))("the tower 3")
    assert {language for _, language, _, _ in english} == {"en"}
    assert len(english) == 20
    with pytest.raises(ValueError, match="no passages in 'fr', only in de, en"):
        searcher(Search(index=str(made / "index"), languages=("fr",)))


def test_questions_come_from_lines(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_search(Search(index=str(made / "index"), k=2), ["the river 0\n", "\n", "the bridge 1\n"])
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert [len(block.splitlines()) for block in blocks] == [2, 2]
    assert re.fullmatch(r"1  -?\d\.\d{4}  (de|en)  \d+  the \w+ \d+", blocks[0].splitlines()[0])


def test_a_question_that_is_no_text(made: Path) -> None:
    """As Python reads an argument or a line that is not in UTF-8."""
    with pytest.raises(
        ValueError, match=r"the question 'river \\udcff' cannot be read \(unpaired surrogate\): write it in"
    ):
        run_search(Search(index=str(made / "index")), ["river \udcff\n"])


def test_a_passage_does_not_steer_the_terminal() -> None:
    """Control characters are spaces; what joins letters (a zero-width non-joiner) stays."""
    assert _shown("\x1b[2J red\x9b1m\n\ttext می\u200cخواهم") == "[2J red 1m text می\u200cخواهم"


def test_the_commands(made: Path, float64: Path, tmp_path: Path) -> None:
    """As they are typed."""

    def run(name: str, *arguments: str) -> str:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
            patch.setattr(sys, "argv", [f"jobs/{name}.py", *arguments])
            runpy.run_path(str(ROOT / "jobs" / f"{name}.py"), run_name="__main__")
        return out.getvalue()

    output = str(tmp_path / "index")
    passages = str(made / "passages.jsonl")
    printed = run("encode", "--path", passages, "--encoder.name", str(float64), "--output", output)
    assert printed.splitlines()[-1] == output
    lines = run("search", output, "no", "--k", "3", "--languages", "[de]").strip().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert {line.split()[2] for line in lines} == {"de"}


PAIRS = [  # group, language, question, answer: two questions have one answer
    ("7", "en", "Where do I park?", "Behind the house."),
    ("7", "de", "Wo parke ich?", "Hinter dem Haus."),
    ("8", "en", "Is there a garage?", "Behind the house."),
    ("9", "en", "When is breakfast?", "From seven."),
]


@pytest.mark.parametrize("name", ["faq.csv", "faq.jsonl", "other.csv", "folder"])
def test_what_trains_is_searched(name: str, float64: Path, tmp_path: Path) -> None:
    """The answers of pairs, each once, by the id of the first pair; with the columns that training is told."""
    fields = ["group_id", "language", *(("question", "answer") if name == "other.csv" else ("query", "passage"))]
    rows = [dict(zip(fields, row, strict=True)) for row in PAIRS]
    path = file = tmp_path / name
    if name == "folder":
        path.mkdir()
        file = path / "some.jsonl"
    if file.suffix == ".csv":
        with open(file, "w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, fields)
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"query": "question", "passage": "answer"} if name == "other.csv" else None
    found = index_job._passages(recipe(tmp_path, float64, path=str(path), columns=columns))
    assert [(one.full_id, one.text) for one in found] == [
        ("en:7", "Behind the house."),
        ("de:7", "Hinter dem Haus."),
        ("en:9", "From seven."),
    ]
    if columns:
        with pytest.raises(ValueError, match=r"has no column query, passage.* as in --columns '\{query: question"):
            index_job._passages(recipe(tmp_path, float64, path=str(path)))
    elif name == "faq.csv":
        file.write_text(file.read_text() + "10,en,,Nobody asks for it.\n")
        with pytest.raises(ValueError, match=r"1 of 5 rows .* but max_rejected is 1.0%") as raised:
            index_job._passages(recipe(tmp_path, float64, path=str(path)))
        assert Path(str(raised.value).split("all of them: ")[1].split("\n")[0]).exists()
        assert len(index_job._passages(recipe(tmp_path, float64, path=str(path), max_rejected=0.2))) == 3


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "faq.txt").write_text("Where?\n")
    with pytest.raises(ValueError, match=r"faq.txt' does not end with .jsonl, .jsonl.gz"):
        read_passages(str(tmp_path / "faq.txt"))
    (tmp_path / "faq.jsonl").write_text('{"question": "Where?", "answer": "Here."}\n')
    with pytest.raises(ValueError, match=r"missing field \(text.*every line is a passage, {id, text, language}"):
        read_passages(str(tmp_path / "faq.jsonl"), "en")


def test_the_queries_of_a_beir_folder_are_no_passages(tmp_path: Path) -> None:
    for name in ("corpus", "queries"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"_id": "1", "text": "{name}"}}\n', encoding="utf-8")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n", encoding="utf-8")
    assert [one.text for one in read_passages(str(tmp_path), "en")] == ["corpus"]


def test_what_is_wrong_is_said(made: Path, float64: Path, small_run: object, tmp_path: Path) -> None:
    file = tmp_path / "passages.jsonl"
    for content, message in (
        ('{"id": "1", "text": "a"}\n', "language"),
        ('{"id": "1", "language": "en", "text": "a"}\n[]\n', r"passages\.jsonl:2: wrong type"),
        ('{"language": "en", "text": "a"}\n', r"passages\.jsonl:1: missing field \(id;"),
        ('{"id": 1, "language": "en", "text": "a"}\n' * 2, r"1 ids are used twice, first 'en:1'"),
        ("", "holds no passages"),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_passages(str(file))
    file.write_text(
        '{"id": 1, "language": "en", "text": "a"}\n{"id": 1, "language": "de", "text": "a"}\n', encoding="utf-8"
    )
    assert list(read_passages(str(file)).full_ids()) == ["en:1", "de:1"]
    with pytest.raises(ValueError, match="holds results already"):
        run_encoding(recipe(made, float64), encode_shards_here)
    with pytest.raises(ValueError, match="export has 'annoy': the forms are npy"):
        recipe(made, float64, export=("annoy",))
    half = Encoding(
        path=str(made / "passages.jsonl"),
        output=str(made / "index"),
        encoder=EncoderConfig(name=str(float64)),
        retrieval=RetrievalConfig(dtype="float16"),
        resume=True,
    )
    with pytest.raises(ValueError, match="was started with"):
        run_encoding(half, encode_shards_here)
    with pytest.raises(ValueError, match=r"holds no index: make one with python jobs/encode\.py"):
        searcher(Search(index=str(tmp_path)))
    other = small_run.initial.name  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"was made with the model .*, but .* is .*: name the right one"):
        searcher(Search(index=str(made / "index"), model=other))


def test_a_full_disk_is_said_before_the_start(
    made: Path, float64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    write(tmp_path / "passages.jsonl", range(40))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"has no room for the vectors: free 0\.0 MB more"):
        run_encoding(recipe(tmp_path, float64), encode_shards_here)
    assert not list((tmp_path / "index" / "vectors").iterdir())
