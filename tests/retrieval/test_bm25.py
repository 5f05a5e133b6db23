"""BM25: tokens of each language, scores by hand."""

import numpy as np
import pytest
from made import benchmark

from hybridir.evaluation.settings import evaluate_scores, summarise
from hybridir.retrieval import bm25, search
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.search import passage_shards


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("ISPARTA İstanbul", "tr", ["ısparta", "istanbul"]),
        ("I\u0307stanbul IŞIK", "az_Latn", ["istanbul", "ışık"]),
        ("ISPARTA İstanbul", "en", ["isparta", "istanbul"]),
        ("مُحَمَّدٌ", "ar", ["محمد"]),
        ("هٰذا كتـــاب", "ar", ["هذا", "كتاب"]),
        ("می\u200cخواهم", "fa", ["میخواهم"]),
        ("co\u00adoperate \ufeffx", "en", ["cooperate", "x"]),
        ("क्\u200dष", "hi", ["क्ष"]),
        ("人々と", "ja", ["人々", "々と"]),
        ("〆切", "ja", ["〆切"]),
        ("二〇二四", "zh", ["二〇", "〇二", "二四"]),
        ("ﾀﾜｰ", "ja", ["タワ", "ワー"]),
    ],
)
def test_tokens_of_a_language(text, language, expected):
    assert bm25.tokens(text, language) == expected


def test_bm25_reads_in_the_language_of_each_text():
    made = benchmark(
        ("en", "tr"),
        [("tr", "ısparta"), ("tr", "isparta"), ("en", "isparta"), ("en", "ısparta")],
        [("tr", "ISPARTA", [0]), ("en", "ISPARTA", [2])],
    )
    scores = np.concatenate([bm25_scorer(made)(slice(0, 2), shard) for _, shard in passage_shards(made)], axis=1)
    assert (scores > 0).tolist() == [[True, False, False, True], [False, True, True, False]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", ["what", "is", "the", "capital", "of", "france"]),
        ("it's 3.5 km", ["it", "s", "3", "5", "km"]),
        ("首都是北京。", ["首都", "都是", "是北", "北京"]),
        ("中", ["中"]),
        ("iPhone在中国", ["iphone", "在中", "中国"]),
        ("ไทย", ["ไท", "ทย"]),
        ("น้ำ", ["น้", "้ํ", "ํา"]),  # NFKC splits sara am
        ("भारत की राजधानी", ["भारत", "की", "राजधानी"]),  # vowel signs are parts of words
        ("Straße ＡＢＣ", ["straße", "abc"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("서울은 수도", ["서울은", "수도"]),
        ("", []),
        ("?! …", []),
    ],
)
def test_tokens(text, expected):
    assert bm25.tokens(text) == expected


SENTENCES = {
    "en": ["The capital of France is Paris.", "Berlin lies on the Spree.", "Rice is grown in paddies.", "A B C"],
    "hi": ["फ़्रांस की राजधानी पेरिस है।", "बर्लिन स्प्री नदी पर है।", "चावल धान के खेतों में उगता है।", "अ ब स"],
    "th": ["เมืองหลวงของฝรั่งเศสคือปารีส", "เบอร์ลินตั้งอยู่ริมแม่น้ำชเปร", "ข้าวปลูกในนา", "กขค"],
    "zh": ["法国的首都是巴黎。", "柏林位于施普雷河畔。", "水稻种在田里。", "甲乙丙"],
}


def sentences_benchmark():
    """Every sentence is a query too; its answer is itself."""
    passages = [(x, t) for x, texts in SENTENCES.items() for t in texts]
    return benchmark(SENTENCES, passages, [(x, t, [n]) for n, (x, t) in enumerate(passages)])


@pytest.mark.parametrize("shard", [3, 65536])
def test_bm25_finds_the_exact_sentence(monkeypatch, shard):
    monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
    made = sentences_benchmark()
    result = summarise(evaluate_scores(bm25_scorer(made), made), made)
    assert result["monolingual"]["success@1"] == result["multilingual"]["success@1"] == 1
    assert result["monolingual"]["n_queries"] == 16


def test_bm25_scores_do_not_depend_on_shards(monkeypatch):
    """Document frequencies are those of the whole language."""
    made = sentences_benchmark()
    score = bm25_scorer(made)
    whole = np.concatenate([score(slice(0, 16), shard) for _, shard in passage_shards(made)], axis=1)
    monkeypatch.setattr(search, "PASSAGE_SHARD", 3)
    score = bm25_scorer(made)
    cut = np.concatenate([score(slice(0, 16), shard) for _, shard in passage_shards(made)], axis=1)
    assert len(passage_shards(made)) == 8
    assert np.array_equal(whole, cut)
    blocks = [score(slice(first, first + 4), passage_shards(made)[0][1]) for first in (0, 4, 8, 12)]
    assert np.array_equal(np.concatenate(blocks), whole[:, :3])


def test_bm25_by_hand():
    """Lucene's BM25 with k1 = 1.5, b = 0.75: idf = ln(1 + (N - n + 0.5) / (n + 0.5)), no factor k1 + 1."""
    made = benchmark(["en"], [("en", "a a b"), ("en", "b c"), ("en", "c d e f")], [("en", "a c zz", [0])])
    scores = bm25_scorer(made)(slice(0, 1), slice(0, 3))[0]
    weight = lambda tf, length: tf / (tf + 1.5 * (0.25 + 0.75 * length / 3))  # noqa: E731
    idf_a, idf_c = np.log(1 + 2.5 / 1.5), np.log(1 + 1.5 / 2.5)
    assert scores == pytest.approx([idf_a * weight(2, 3), idf_c * weight(1, 2), idf_c * weight(1, 4)], rel=1e-5)


def test_bm25_of_a_language_without_words():
    passages = [("de", "?!"), ("de", "…"), ("en", "word")]
    made = benchmark(["de", "en"], passages, [("en", "word ?", [2]), ("de", "!", [1])])
    result = summarise(evaluate_scores(bm25_scorer(made), made), made)
    assert result["per_pair"]["en-en"]["mAP"] == 1
    assert result["per_pair"]["de-de"]["mAP"] == 0.5  # all tied at 0: second in order
