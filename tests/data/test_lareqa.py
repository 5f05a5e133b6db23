"""XQuAD-R as published, small files like MLQA-R's, and broken ones."""

import json
from collections import Counter

import pytest
from helpers import XQUAD_R, pairs_of

from hybridir.data.config import BenchmarkConfig, Source
from hybridir.data.formats import lareqa

CANDIDATES = {
    "ar": 1222,
    "de": 1276,
    "el": 1234,
    "en": 1180,
    "es": 1215,
    "hi": 1244,
    "ru": 1219,
    "th": 852,
    "tr": 1167,
    "vi": 1209,
    "zh": 1196,
}
SPLITS = ("train", "validation", "test")
needs_xquad_r = pytest.mark.skipif(not (XQUAD_R / "en.json").exists(), reason=f"no XQuAD-R in {XQUAD_R}")


@pytest.fixture(scope="module")
def xquad_r():
    return lareqa.read_benchmark(BenchmarkConfig(name="xquad-r", path=str(XQUAD_R), split="all"))


@needs_xquad_r
def test_counts(xquad_r):
    assert Counter(passage.language for passage in xquad_r.passages) == CANDIDATES
    assert Counter(query.language for query in xquad_r.queries) == dict.fromkeys(CANDIDATES, 1190)
    assert len({query.cluster for query in xquad_r.queries}) == 48
    zh = [passage for passage in xquad_r.passages if passage.language == "zh"]
    assert (len({p.passage_id for p in zh}), len({p.text for p in zh})) == (1196, 1192)


@needs_xquad_r
def test_every_query_has_one_answer_in_each_language(xquad_r):
    for query, relevant in zip(xquad_r.queries, xquad_r.relevant, strict=True):
        assert [xquad_r.passages[place].language for place in relevant] == list(CANDIDATES), query


@needs_xquad_r
@pytest.mark.parametrize("language", ["en", "th", "zh"])
def test_answer_sentence_holds_the_answer(language):
    """An answer can run on into the next sentence, so that a few do not."""
    raw = json.loads((XQUAD_R / f"{language}.json").read_text(encoding="utf-8"))
    answers = {qa["id"]: qa["answers"][0]["text"] for a in raw["data"] for p in a["paragraphs"] for qa in p["qas"]}
    pairs = pairs_of(Source(format="lareqa", path=str(XQUAD_R), languages=(language,)))
    holding = sum(answers[pair.group_id] in pair.passage.text for pair in pairs)
    assert (len(pairs), len(answers)) == (913, 1190)
    assert holding / len(pairs) > 0.98


@needs_xquad_r
def test_articles_are_split_and_no_translation_leaks():
    languages = ("ar", "en", "zh")
    ids, clusters = {}, {}
    for split in SPLITS:
        config = BenchmarkConfig(name="xquad-r", path=str(XQUAD_R), split=split, languages=languages)
        queries = lareqa.read_benchmark(config).queries
        for language in languages:
            ids[split, language] = {query.group_id for query in queries if query.language == language}
            clusters[split, language] = {query.cluster for query in queries if query.language == language}
        assert ids[split, "ar"] == ids[split, "en"] == ids[split, "zh"]
    assert [len(clusters[split, "en"]) for split in SPLITS] == [31, 7, 10]
    assert sum(len(ids[split, "en"]) for split in SPLITS) == len(set.union(*(ids[s, "en"] for s in SPLITS))) == 1190


@needs_xquad_r
def test_negatives_are_the_other_sentences_of_the_paragraph():
    raw = json.loads((XQUAD_R / "en.json").read_text(encoding="utf-8"))
    paragraphs = [set(p["sentences"]) for a in raw["data"] for p in a["paragraphs"]]
    for pair in pairs_of(Source(format="lareqa", path=str(XQUAD_R), languages=("en",))):
        assert {pair.passage.text, *(n.text for n in pair.negatives)} in paragraphs
        assert pair.passage.passage_id not in {n.passage_id for n in pair.negatives}


def paragraph(*questions, sentences=("One two.", "Three four.", "Five six.")):
    """`questions` are (id, number of the sentence that answers it)."""
    breaks, start = [], 0
    for sentence in sentences:
        breaks.append([start, start + len(sentence) + 1])
        start += len(sentence) + 1
    return {
        "context": " ".join(sentences),
        "sentences": list(sentences),
        "sentence_breaks": breaks,
        "qas": [
            {"id": name, "question": f"question {name}?", "answers": [{"answer_start": breaks[n][0], "text": "x"}]}
            for name, n in questions
        ],
    }


def write(folder, **articles):
    """A file a language: a list of articles, each a list of paragraphs."""
    folder.mkdir(exist_ok=True)
    for language, content in articles.items():
        data = [{"title": "t", "paragraphs": paragraphs} for paragraphs in content]
        (folder / f"{language}.json").write_text(json.dumps({"data": data}), encoding="utf-8")
    return str(folder)


def mlqa_like(folder):
    return write(
        folder,
        de=[[paragraph(("a", 1), ("b", 0))], [paragraph(("d", 2))]],
        en=[[paragraph(("a", 0)), paragraph(("c", 2))], [paragraph(("d", 1), ("e", 1))]],
        zh=[[paragraph(("c", 0))]],
    )


def test_languages_differ_by_question(tmp_path):
    path = mlqa_like(tmp_path / "mlqa-r")
    benchmark = lareqa.read_benchmark(BenchmarkConfig(name="mlqa-r", path=path, split="all"))
    assert benchmark.languages == ("de", "en", "zh")
    found = {
        query.query_id: [f"{benchmark.passages[p].language}:{benchmark.passages[p].passage_id}" for p in relevant]
        for query, relevant in zip(benchmark.queries, benchmark.relevant, strict=True)
    }
    assert found == {
        "de:a": ["de:0.0.1", "en:0.0.0"],
        "de:b": ["de:0.0.0"],
        "de:d": ["de:1.0.2", "en:1.0.1"],
        "en:a": ["de:0.0.1", "en:0.0.0"],
        "en:c": ["en:0.1.2", "zh:0.0.0"],
        "en:d": ["de:1.0.2", "en:1.0.1"],
        "en:e": ["en:1.0.1"],
        "zh:c": ["en:0.1.2", "zh:0.0.0"],
    }
    assert len(benchmark.passages) == 6 + 9 + 3


def test_articles_that_share_a_question_are_one_cluster(tmp_path):
    benchmark = lareqa.read_benchmark(BenchmarkConfig(path=mlqa_like(tmp_path / "mlqa-r"), split="all"))
    cluster = {query.query_id: query.cluster for query in benchmark.queries}
    assert cluster["de:b"] == cluster["en:a"] == cluster["en:c"] == cluster["zh:c"]
    assert cluster["de:d"] == cluster["en:e"]
    assert cluster["de:d"] != cluster["de:b"]


def test_split_does_not_depend_on_the_languages_taken(tmp_path):
    """A question must not be trained on in one language and tested in another, whichever each config takes."""
    content = {language: [] for language in ("de", "en", "es")}
    for n in range(60):  # each article: question a in de, en; b in en, es; c in es alone
        content["de"].append([paragraph((f"{n}-a", 0))])
        content["en"].append([paragraph((f"{n}-a", 1), (f"{n}-b", 2))])
        content["es"].append([paragraph((f"{n}-b", 0), (f"{n}-c", 1))])
    path = write(tmp_path / "mlqa-r", **content)
    split_of = {}
    for languages in [("de",), ("en",), ("es",), ("de", "es"), ("de", "en", "es")]:
        found = {
            pair.group_id: pair.split for pair in pairs_of(Source(format="lareqa", path=path, languages=languages))
        }
        test = lareqa.read_benchmark(BenchmarkConfig(path=path, languages=languages, split="test"))
        found |= dict.fromkeys((query.group_id for query in test.queries), "test")
        for group_id, split in found.items():
            article = group_id.partition("-")[0]
            assert split_of.setdefault(article, split) == split, (article, languages)
    assert Counter(split_of.values()).keys() == set(SPLITS)


def broken(folder, change):
    path = write(folder, de=[[paragraph(("a", 0))]], en=[[paragraph(("b", 0))], [paragraph(("a", 0), ("c", 1))]])
    content = json.loads((folder / "en.json").read_text(encoding="utf-8"))
    change(content["data"][1]["paragraphs"][0])
    (folder / "en.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("sentence_breaks"), r"data\[1\].paragraphs\[0\] is not in LAReQA's format .*sentence_breaks"),
        (lambda p: p.pop("qas"), r"data\[1\].paragraphs\[0\] is not in LAReQA's format .*qas"),
        (lambda p: p["qas"][0].update(answers=[]), r"data\[1\].paragraphs\[0\] is not in LAReQA's format"),
        (lambda p: p["sentences"].pop(), r"data\[1\].paragraphs\[0\] has 2 sentences, but the sentence breaks"),
        (
            lambda p: p["sentence_breaks"][0].append(3),
            r"data\[1\].paragraphs\[0\] has 3 sentences, but the sentence br",
        ),
        (lambda p: p["qas"][1]["answers"][0].update(answer_start=999), r"qas\[1\]: answer_start 999 lies in 0 sentenc"),
        (lambda p: p["qas"][1].update(question=None), r"data\[1\].paragraphs\[0\] has None where a string is expected"),
    ],
)
def test_broken_paragraph(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"en\.json: .*{message}"):
        lareqa.read_benchmark(BenchmarkConfig(path=broken(tmp_path / "bad", change), split="all"))


@pytest.mark.parametrize("text", ["{", '{"data": [', "\ufeff{}"])
def test_not_json(tmp_path, text):
    (tmp_path / "en.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"en\.json is not valid JSON"):
        lareqa.read_benchmark(BenchmarkConfig(path=str(tmp_path), split="all"))


@pytest.mark.parametrize("text", ["[]", "{}", '{"data": [1]}', '{"data": [{"title": "t"}]}'])
def test_other_json(tmp_path, text):
    (tmp_path / "en.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"en\.json: data.* is not in LAReQA's format"):
        lareqa.read_benchmark(BenchmarkConfig(path=str(tmp_path), split="all"))


def test_no_file_and_no_such_language(tmp_path):
    with pytest.raises(ValueError, match=r"no LANGUAGE\.json found in ''"):
        lareqa.read_benchmark(BenchmarkConfig(path=""))
    with pytest.raises(ValueError, match="has no language 'fr'; it has de, en, zh"):
        lareqa.read_benchmark(BenchmarkConfig(path=mlqa_like(tmp_path / "mlqa-r"), languages=("fr",)))
