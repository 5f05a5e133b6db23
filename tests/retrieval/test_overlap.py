"""What a benchmark shares with pairs is found, and nothing else; whole passage groups go, and everything says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import corpus_of, job, read_lines
from made import benchmark

from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.data.corpus import Corpus
from hybridir.data.records import OVERLAP, Pair, Passage
from hybridir.data.sources import find_shards
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval.overlap import Held, Near, grams, without_overlap, words

ENGLISH = "the old stone bridge over the river was built by monks in the year of the great flood"
CHINESE = "这座古老的石桥是由僧侣们在大洪水那一年建造的"
HINDI = "यह पुराना पत्थर का पुल नदी के ऊपर बाढ़ के वर्ष में भिक्षुओं ने बनाया था"


def held() -> Held:
    passages = [
        ("en", ENGLISH),
        ("zh", CHINESE),
        ("hi", HINDI),
        ("en", "nobody asks for this passage of thirteen words and so it may be trained on"),
    ]
    return Held.of([benchmark(("en", "hi", "zh"), passages, [("en", "Who built the bridge?", (0, 1, 2))])])


@pytest.mark.parametrize(
    ("language", "text", "shared"),
    [
        ("en", f"They say that {ENGLISH.upper()}!", True),
        ("en", f"It was said: {' '.join(ENGLISH.split()[2:15])}.", True),  # 13 words
        ("en", f"It was said: {' '.join(ENGLISH.split()[2:14])}.", False),  # 12
        ("en", "The old, stone bridge over the river: was built (by monks) in the year", True),
        ("en", "who built the Bridge", True),  # the whole of a short text
        ("en", "who built the Bridge then", False),
        ("de", ENGLISH, True),  # the language of a row may be wrong
        ("zh", f"据说{CHINESE[4:17]}。", True),  # 13 characters
        ("zh", f"据说{CHINESE[4:16]}。", False),
        ("hi", " ".join(HINDI.split()[:13]), True),
        ("hi", " ".join(HINDI.split()[:12]), False),
        ("en", "nobody asks for this passage of thirteen words and so it may be trained on", False),
        ("en", "a market is held in the square on every other Thursday from nine in the morning", False),
        ("en", "...", False),
    ],
)
def test_what_is_shared(language: str, text: str, shared: bool) -> None:
    assert bool(held().shared(text, language)) == shared


def test_it_says_with_what() -> None:
    assert held().shared("Who built the bridge", "en") == "query q0 of made: 'who built the bridge'"
    assert held().shared(CHINESE[:13], "zh") == f"passage zh:1 of made: '{' '.join(CHINESE[:13])}'"


def test_grams_are_those_of_every_window() -> None:
    """Equal windows of 13 have equal grams, and different ones different grams."""
    found = words(f"{ENGLISH} {ENGLISH}", "en")
    grams_N = grams(found)
    windows = [tuple(found[n : n + 13]) for n in range(len(found) - 12)]
    assert len(grams_N) == len(windows) == 24
    assert [windows.index(one) for one in windows] == [grams_N.tolist().index(one) for one in grams_N.tolist()]
    assert grams(found[:12]) not in grams(found)
    assert len(grams([])) == 0


def pair(group: str, language: str, query: str, passage: str, passage_group: str = "") -> Pair:
    found = Passage(passage_id="", language=language, text=passage)
    return Pair(
        group_id=group,
        language=language,
        query=query,
        passage=found,
        passage_group_id=passage_group,
        domain=group[0],
        line=1,
        file="f",
    )


def test_passage_groups_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With translations and everything tied to them; fingerprints, counts and domains follow, the rest stays."""
    pairs = (
        pair("a1", "en", "What is said?", f"It was said: {ENGLISH}"),
        pair("a1", "de", "Was wird gesagt?", "Es wurde etwas gesagt."),  # a translation
        pair("a2", "en", "Who is it?", "A monk.", "monks"),
        pair("b1", "en", "who built the bridge", "Monks.", "monks"),  # ties a2 by name
        pair("b2", "en", "Where is the market?", "In the square."),
    )
    whole = corpus_of(pairs, tmp_path)
    of = benchmark(("en",), [("en", ENGLISH)], [("en", "Who built the bridge?", (0,))])
    monkeypatch.setattr("hybridir.retrieval.overlap.read_benchmark", lambda config: of)
    left = without_overlap(whole, DataConfig(exclude=("sample",)), tmp_path)
    assert left.n_pairs == 1
    assert left.rejected == {OVERLAP: 4}
    assert (left.row_of >= 0).sum() == 1
    assert [left.pair(int(row))["group_id"] for row in left.row_of[left.row_of >= 0]] == ["b2"]
    assert left.domains == {"a": 0, "b": 1}
    assert left.fingerprint != whole.fingerprint
    assert left.part_fingerprints["train"] != whole.part_fingerprints["train"]
    assert left.part_fingerprints["test"] == whole.part_fingerprints["test"]
    rows = read_lines(left.directory / "rejected.jsonl")
    assert [row["value"].partition(": ")[0] for row in rows] == [
        "passage, passage en:0 of made",
        "a pair of the same passage group overlaps",
        "a pair of the same passage group overlaps",
        "query, query q0 of made",
    ]
    assert without_overlap(whole, DataConfig(exclude=("sample",)), tmp_path).directory == left.directory
    assert Corpus.open(whole.directory).n_pairs == 5
    with pytest.raises(ValueError, match="all pairs overlap with made, so none is left"):
        without_overlap(corpus_of(pairs[:2], tmp_path), DataConfig(exclude=("sample",)), tmp_path)


@pytest.mark.parametrize("fields", [False, True])
def test_a_folder_needs_no_language(tmp_path: Path, fields: bool) -> None:
    """A BEIR folder is named alone: its texts are found in rows of any language, by words or by characters."""
    folder = tmp_path / "held"
    (folder / "qrels").mkdir(parents=True)
    texts = {"1": ENGLISH, "2": CHINESE}
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"_id": i, "text": x}) + "\n" for i, x in texts.items()))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "Who built the bridge?"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\nq\t2\t1\n")
    pairs = (
        pair("a", "en", "What is said?", f"It was said: {ENGLISH}"),
        pair("b", "zh", "什么？", f"据说{CHINESE[4:17]}。"),
        pair("c", "de", "who built the bridge", "Mönche."),
        pair("d", "en", "Where is the market?", "In the square."),
    )
    whole = corpus_of(pairs, tmp_path)
    named = BenchmarkConfig(path=str(folder)) if fields else str(folder)
    left = without_overlap(whole, DataConfig(exclude=(named,)), tmp_path)
    assert [left.pair(int(row))["group_id"] for row in left.row_of[left.row_of >= 0]] == ["d"]


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ("no-such", r"data.exclude has no-such: benchmark.path 'no-such' does not exist.*\[{name: beir, path: DIR"),
        (BenchmarkConfig(name="ber"), r"data.exclude has ber: benchmark.name 'ber' is unknown"),
    ],
)
def test_an_error_names_the_field(exclude: BenchmarkConfig | str, message: str, tmp_path: Path) -> None:
    whole = corpus_of((pair("a", "en", "Who?", "Monks."),), tmp_path)
    with pytest.raises(ValueError, match=message):
        without_overlap(whole, DataConfig(exclude=(exclude,)), tmp_path)


def test_texts_that_are_near(float64: Path) -> None:
    """By cosine similarity, each side with its own: exactly those that plain arithmetic finds."""
    found = held()
    texts = ["Who built the bridge", "Where do monks live?", CHINESE, ENGLISH, "bridge"]
    encoder = Encoder.load(str(float64))
    for side in ("query", "passage"):
        ours, theirs = encoder.encode(texts, side), encoder.encode([text for *_, text in found.texts[side]], side)  # type: ignore[arg-type]
        cosine = (ours @ theirs.T) / np.linalg.norm(ours, axis=1)[:, None] / np.linalg.norm(theirs, axis=1)
        best = np.sort(cosine.max(axis=1))
        least = float((best[1] + best[2]) / 2)
        shared = Near(found, EncoderConfig(name=str(float64)), least).shared(texts, side)
        assert [bool(one) for one in shared] == (cosine.max(axis=1) >= least).tolist()
        names = [name for name, *_ in found.texts[side]]
        assert [one.partition(": similarity")[0] for one in shared if one] == [
            names[n] for n in cosine.argmax(axis=1)[cosine.max(axis=1) >= least]
        ]


def test_by_the_command(tmp_path: Path, small_run: object) -> None:
    """`--data.exclude` names a benchmark: what it shares is left out, is reported, and does not count as an error."""
    rows = [
        {"group_id": str(n), "language": "en", "query": f"Which number follows {n}?", "passage": f"It is {n + 1}."}
        for n in range(60)
    ]
    (shard,) = find_shards(DataConfig(facts=40, languages=("en",)))[:1]
    planted = [one for one in shard.read() if isinstance(one, Pair)][:9]
    rows += [
        {"group_id": f"s{n}", "language": "en", "query": one.query, "passage": one.passage.text}
        for n, one in enumerate(planted)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--data.path", tmp_path / "pairs.jsonl", "--data.exclude", "[{name: sample, split: all, facts: 40}]")
    small = ("--encoder.name", small_run.initial.name, "--train.batch_size", 8)  # type: ignore[attr-defined]
    small += ("--validation.batch_size", 2, "--sampling.method", "X-X-mono")
    done = job(*options, *small, "--scaling.num_workers", 0, "--output", tmp_path / "run", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "9 of 69 pairs are left out, as they overlap with sample" in done.stdout
    assert "rows: 69 read = 60 accepted + 9 rejected" in done.stdout
    done = job(*options[:2], "--data.exclude_encoder", "X", "--output", tmp_path / "run")
    assert "data.exclude names no benchmark" in done.stderr
