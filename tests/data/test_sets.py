"""Published training sets, read from small files in their formats, with counts; and how the hub is asked for them."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybridir.data.config import DataConfig, Source
from hybridir.data.records import NO_ANSWER, SKIPPED, Pair, Rejected
from hybridir.data.sets import SETS, documents
from hybridir.data.sets.published import window
from hybridir.data.sources import find_shards

TRAIN = "train-00000-of-00001.parquet"
PLOT = "A farmer finds a map. " * 30 + "The captain is Ada Lovelace, who sails north. " + "They dig for gold. " * 30
STORY = "NEW DELHI, India (CNN) -- A court acquitted Moninder Singh Pandher on Friday. He was freed."
AT = STORY.index("Moninder Singh Pandher")


def parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), file)


def document(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def write(name: str, folder: Path) -> None:
    """A few rows in the format of a set, as its page describes it."""
    folder.mkdir()
    if name == "wikiqa":
        about = {"question_id": "Q1", "question": "how are glacier caves formed?", "document_title": "Glacier cave"}
        texts = ["A glacier cave is a cave in ice.", "Meltwater forms it.", "Heat from vents forms it, too."]
        parquet(folder / TRAIN, [about | {"answer": one, "label": n > 0} for n, one in enumerate(texts)])
        table = pq.read_table(folder / TRAIN)
        table = table.set_column(4, "label", table["label"].cast(pa.int64()))
        pq.write_table(table, folder / TRAIN)
    elif name == "mr-tydi":
        passage = {"docid": "25267#12", "title": "Quantum field theory", "text": "It began with electromagnetism."}
        row = {"query_id": "1", "query": "When was quantum field theory developed?", "positive_passages": [passage]}
        row |= {"negative_passages": [passage | {"docid": "9#0", "text": "It did not."}]}
        with gzip.open(folder / "train.jsonl.gz", "wt") as file:
            file.write(json.dumps(row) + "\n")
    elif name == "natural-questions":
        parquet(folder / TRAIN, [{"query": "the si unit of the electric field is", "answer": "Electric field."}])
    elif name == "yahoo-answers":
        rows = [{"question": "why is the sky blue", "answer": one} for one in ("Scattering.", "Rayleigh.")]
        parquet(folder / TRAIN, rows)
    elif name == "duorc":
        about = {"plot_id": "/m/03", "plot": PLOT, "title": "Gold", "question": "Who is the captain?"}
        answers: list[list[str]] = [["ada lovelace"], ["Nobody at all"], []]
        rows = [about | {"question_id": f"q{n}", "answers": one} for n, one in enumerate(answers)]
        parquet(folder / TRAIN, [row | {"no_answer": not row["answers"]} for row in rows])
    elif name == "squadshifts":
        start = PLOT.index("Ada Lovelace")
        about = {"title": "Gold", "context": PLOT, "question": "Who is the captain?"}
        found = [about | {"id": f"s{n}", "answers": {"text": ["Ada Lovelace"], "answer_start": [start]}} for n in "12"]
        parquet(folder / "test.parquet", found)
    elif name == "mfaq":
        pairs = [
            {"question": f"How do I {verb} it?", "answer": f"Press {verb}.", "language": "en"}
            for verb in ("open", "close")
        ]
        (folder / "train.jsonl").write_text(
            json.dumps({"domain": "a.com", "qa_pairs": pairs, "num_pairs": 2}) + "\n", encoding="utf-8"
        )
    elif name == "newsqa":
        questions = [{"q": "Who was acquitted?", "consensus": {"s": AT, "e": AT + 23}}]
        questions += [{"q": "Why?", "consensus": {"noAnswer": True}}, {"q": "x", "consensus": {"badQuestion": True}}]
        stories = [{"storyId": "./cnn/1", "text": STORY, "type": "train", "questions": questions}]
        stories += [stories[0] | {"storyId": "./cnn/2", "type": "dev"}]
        stories += [stories[0] | {"storyId": "./cnn/3", "questions": questions[1:]}]
        document(folder / "combined-newsqa-data-v1.json", {"version": "1", "data": stories})
    elif name == "entity-questions":
        texts = [
            ("1", "He is a drummer.", False),
            ("2", "Vidar Kleppe is a politician.", True),
            ("3", "Politician.", True),
        ]
        found = [{"id": one, "title": "", "text": text, "has_answer": has} for one, text, has in texts]
        row = {"question": "What kind of work does Vidar Kleppe do?", "answers": ["politician"], "ctxs": found}
        document(folder / "P106.train.json", [row, row | {"question": "Nothing?", "ctxs": found[:1]}])


COUNTS = {
    "wikiqa": (2, 1),
    "mr-tydi": (1, 0),
    "natural-questions": (1, 0),
    "yahoo-answers": (2, 0),
    "duorc": (1, 2),
    "newsqa": (1, 1),
    "entity-questions": (1, 1),
    "mfaq": (2, 0),
    "squadshifts": (2, 0),
}
"""Pairs, and rows without an answer."""


def read(config: DataConfig) -> tuple[list[Pair], list[Rejected]]:
    records = [record for shard in find_shards(config) for record in shard.read()]
    return [one for one in records if isinstance(one, Pair)], [one for one in records if isinstance(one, Rejected)]


@pytest.fixture(params=COUNTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_set_is_read_from_its_files(name: str, tmp_path: Path) -> None:
    write(name, tmp_path / name)
    pairs, rejected = read(DataConfig(format=name, path=str(tmp_path / name)))
    assert (len(pairs), [one.reason for one in rejected]) == (COUNTS[name][0], [NO_ANSWER] * COUNTS[name][1])
    assert {pair.language for pair in pairs} == {"en"}
    assert len({pair.group_id for pair in pairs}) == len(pairs)
    assert all(one.line for one in [*pairs, *rejected])


def test_texts_and_ties_are_those_of_the_files(tmp_path: Path) -> None:
    found = {}
    for name in COUNTS:
        write(name, tmp_path / name)
        found[name] = read(DataConfig(format=name, path=str(tmp_path / name)))[0]
    assert [one.passage.text for one in found["wikiqa"]] == ["Meltwater forms it.", "Heat from vents forms it, too."]
    assert {one.passage_group_id for one in found["wikiqa"]} == {"question Q1"}
    (one,) = found["mr-tydi"]
    assert one.passage.text == "Quantum field theory It began with electromagnetism."
    assert [negative.passage_id for negative in one.negatives] == ["9#0"]
    assert len({one.passage_group_id for one in found["yahoo-answers"]}) == 1, "two answers to one question"
    (one,) = found["duorc"]
    assert "The captain is Ada Lovelace, who sails north." in one.passage.text
    assert len(one.passage.text.split()) == 100
    (one,) = found["newsqa"]
    assert (one.passage.text, one.passage_group_id) == (STORY, "story ./cnn/1")
    (one,) = found["entity-questions"]
    assert (one.passage.passage_id, [n.passage_id for n in one.negatives]) == ("2", ["1"])
    assert [one.domain for one in found["mfaq"]] == ["a.com"] * 2
    assert len({one.passage_group_id for one in found["squadshifts"]}) == 1, "two questions about one context"
    assert all(len(one.passage.text.split()) == 100 for one in found["squadshifts"])


def test_squadshifts_from_its_page_is_that_of_the_hub(tmp_path: Path) -> None:
    """A JSON document as SQuAD 1.1 has it gives the same pairs as Parquet; answers at a wrong place are rejected."""
    write("squadshifts", tmp_path / "squadshifts")
    pairs, _ = read(DataConfig(format="squadshifts", path=str(tmp_path / "squadshifts")))
    answer = {"text": "Ada Lovelace", "answer_start": PLOT.index("Ada Lovelace")}
    asked = [{"id": f"s{n}", "question": "Who is the captain?", "answers": [answer, answer]} for n in "12"]
    asked.append({"id": "s3", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]})
    paragraphs = [{"context": PLOT, "qas": asked}]
    (tmp_path / "json").mkdir()
    articles: list[Any] = [{"title": "Gold", "paragraphs": paragraphs}]
    bad = (
        {"context": PLOT, "qas": [{"id": "s4", "question": "Who?", "answers": [{"text": "Ada"}]}]},
        "Ada",
        {"qas": 1},
    )
    articles += [{"title": "Bad", "paragraphs": [one]} for one in bad]
    document(tmp_path / "json" / "nyt_v1.0.json", {"version": "1.1", "data": articles})
    found, rejected = read(DataConfig(format="squadshifts", path=str(tmp_path / "json")))
    assert [(one.group_id, one.query, one.passage, one.passage_group_id) for one in found] == [
        (one.group_id, one.query, one.passage, one.passage_group_id) for one in pairs
    ]
    assert [(one.reason, one.value) for one in rejected] == [
        ("wrong value", "the answer 'Ada' does not stand at 0 of its context"),
        ("wrong type", f"a question is not laid out as SQuAD's: {bad[0]['qas'][0]!r:.80}"),
        *(("wrong type", f"a paragraph is not laid out as SQuAD's: {one!r:.80}") for one in bad[1:]),
    ]


def _mfaq(folder: Path) -> tuple[str, str]:
    good = {"question": "How?", "answer": "So."}
    row = {"domain": "a.com", "qa_pairs": [good, "odd", {"question": "Why?"}, good | {"answer": "Thus."}]}
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    return "a pair must be an object; found 'odd'", "answer; the row has question"


def _newsqa(folder: Path) -> tuple[str, str]:
    good, bad = ({"q": "Who?", "consensus": {"s": AT, "e": end}} for end in (AT + 23, 999))
    document(
        folder / "made.json",
        {"data": [{"storyId": "x", "text": STORY, "type": "train", "questions": [good, "odd", bad, good]}]},
    )
    return (
        "a question and its consensus must be objects; found 'odd'",
        f"the answer {{'s': {AT}, 'e': 999}} is outside of the text of x",
    )


def _squadshifts(folder: Path) -> tuple[str, str]:
    good = {"question": "Who?", "answers": [{"text": "They", "answer_start": PLOT.index("They")}]}
    odd = good | {"id": "2", "answers": [{"text": "Ada", "answer_start": 0}]}
    paragraph = {"context": PLOT, "qas": [good | {"id": "1"}, odd, {"id": "3"}, good | {"id": "4"}]}
    document(folder / "made.json", {"data": [{"title": "Gold", "paragraphs": [paragraph]}]})
    return (
        "the answer 'Ada' does not stand at 0 of its context",
        "a question is not laid out as SQuAD's: {'id': '3'}",
    )


@pytest.mark.parametrize("make", [_mfaq, _newsqa, _squadshifts])
def test_a_bad_question_takes_no_other_of_its_row_with_it(
    make: Callable[[Path], tuple[str, str]], tmp_path: Path
) -> None:
    """Of four questions in a row, the second and the third are bad."""
    told = make(tmp_path)
    pairs, rejected = read(DataConfig(format=make.__name__[1:], path=str(tmp_path)))
    assert len({pair.group_id for pair in pairs}) == 2
    assert [(one.value, one.line) for one in rejected] == [(one, 1) for one in told]


@pytest.mark.parametrize("name", [name for name, module in SETS.items() if module.ABOUT.hub])
def test_the_hub_is_asked_for_the_training_files_at_a_commit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    about, calls = SETS[name].ABOUT, []

    def load(*arguments: Any, **options: Any) -> Any:
        calls.append((arguments, options))
        raise OSError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match=r"data\.revision is None: name the commit of"):
        find_shards(DataConfig(format=name))
    with pytest.raises(ValueError, match=r"data\.revision is 'main'"):
        find_shards(DataConfig(format=name, revision="main"))
    assert calls == []
    with pytest.raises(ValueError, match="no network"):
        find_shards(DataConfig(format=name, revision="0" * 40))
    kind = "parquet" if about.files.endswith(".parquet") else "json"
    files = {"train": f"hf://datasets/{about.hub}@{'0' * 40}/{about.files.replace('{split}', 'train')}"}
    assert calls == [((kind,), {"data_files": files, "split": "train", "streaming": True})]
    with pytest.raises(ValueError, match="no network"):
        find_shards(DataConfig(format=name, revision="0" * 40, split="dev"))
    assert "train" not in calls[1][1]["data_files"]["dev"]


@pytest.mark.parametrize(("name", "other"), [("wikiqa", "validation-0.parquet"), ("mfaq", "valid.jsonl")])
def test_other_splits_in_the_folder_are_not_trained_on(name: str, other: str, tmp_path: Path) -> None:
    write(name, folder := tmp_path / name)
    (file,) = folder.iterdir()
    shutil.copyfile(file, folder / other)
    pairs, rejected = read(DataConfig(format=name, path=str(folder)))
    assert {pair.file for pair in pairs} == {str(file)}
    assert [one.value for one in rejected if one.reason == SKIPPED] == [str(folder / other)]
    split = other.partition(".")[0].partition("-")[0]
    for config in (DataConfig(path=str(folder), split=split), DataConfig(path=str(folder / other))):
        assert {pair.file for pair in read(replace(config, format=name))[0]} == {str(folder / other)}
    file.unlink()
    with pytest.raises(ValueError, match=r"has no file that ends with .* and is named train.*name the file itself"):
        read(DataConfig(format=name, path=str(folder)))


def test_a_split_of_files_made_by_hand_is_refused(tmp_path: Path) -> None:
    write("entity-questions", tmp_path / "made")
    with pytest.raises(ValueError, match=r"data\.split is 'dev', which entity-questions does not use"):
        read(DataConfig(format="entity-questions", path=str(tmp_path / "made"), split="dev"))


@pytest.mark.parametrize("name", ["newsqa", "entity-questions"])
def test_what_must_be_fetched_by_hand_names_its_page(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"data.format {name} cannot be fetched by itself: .*{SETS[name].ABOUT.page}"):
        find_shards(DataConfig(format=name))
    document(tmp_path / "other.json", [{"question": "Who?", "answers": []}])
    with pytest.raises(ValueError, match=f"does not have the layout of {name}.*{SETS[name].ABOUT.page}"):
        read(DataConfig(format=name, path=str(tmp_path)))


def test_pyserini_s_passages_are_refused_with_the_layout_that_is_read(tmp_path: Path) -> None:
    """As its convert_trec_run_to_dpr_retrieval_run.py writes them, which is not as DPR does."""
    context = {"docid": "2", "score": "9.5", "text": "Vidar\nA politician.", "has_answer": True}
    content = {"0": {"question": "Who?", "answers": ["politician"], "contexts": [context]}}
    document(tmp_path / "run.json", content)
    with pytest.raises(ValueError, match=r"does not have the layout.*begins with '\{") as told:
        read(DataConfig(format="entity-questions", path=str(tmp_path)))
    assert "as DPR's dense_retriever.py writes it" in str(told.value)
    assert "Pyserini" not in str(told.value)


@pytest.mark.parametrize("name", ["newsqa", "entity-questions"])
def test_a_document_is_read_entry_by_entry(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an entry goes on in the next characters that are read, and up to the end of a list that is cut off."""
    write(name, tmp_path / name)
    whole = read(DataConfig(format=name, path=str(tmp_path / name)))
    monkeypatch.setattr(documents, "_BLOCK", 60)
    assert read(DataConfig(format=name, path=str(tmp_path / name))) == whole
    (file,) = (tmp_path / name).iterdir()
    content = file.read_text()
    for broken, entry in ((content[:-2], "after entry [12]: "), (content[:200], "after entry 0: ")):
        file.write_text(broken)
        with pytest.raises(ValueError, match=f"does not have the layout of {name} .{entry}JSONDecodeError"):
            read(DataConfig(format=name, path=str(tmp_path / name)))
    file.write_text(content)
    monkeypatch.setattr(documents, "MAX_LINE", 100)
    with pytest.raises(ValueError, match="after entry 0: JSONDecodeError"):
        read(DataConfig(format=name, path=str(tmp_path / name)))


def test_a_pattern_of_files_is_read_by_the_library_itself(tmp_path: Path) -> None:
    """A local folder stands for the hub's."""
    write("wikiqa", tmp_path / "data")
    pairs, rejected = read(DataConfig(format="wikiqa", path=f"hf://{tmp_path}"))
    assert (len(pairs), len(rejected)) == COUNTS["wikiqa"]


def test_every_set_names_a_licence_and_a_page() -> None:
    for module in SETS.values():
        assert module.ABOUT.license
        assert module.ABOUT.page.startswith("https://")
        assert module.ABOUT.hub or module.ABOUT.by_hand
    with pytest.raises(ValueError, match=r"there are .*wikiqa"):
        find_shards(DataConfig(format="wikidata"))
    assert Source(format="wikiqa").split == "train"


@pytest.mark.parametrize(
    ("start", "words", "expected"),
    [(0, 3, "a b c"), (4, 3, "b c d"), (8, 3, "c d e"), (4, 9, "a b c d e"), (4, 1, "c")],
)
def test_a_window_holds_the_answer_and_the_words_around_it(start: int, words: int, expected: str) -> None:
    assert window("a b c d e", start, start + 1, words) == expected


def test_a_window_is_cut_at_spaces() -> None:
    assert window("one twofold three", 4, 7, 1) == "twofold"
    assert window("one twofold three", 7, 11, 1) == "twofold"
