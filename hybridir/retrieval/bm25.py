"""BM25 as a baseline, by the library bm25s, with a tokenisation that works in any language without a dictionary.

A word is a sequence of letters, marks and digits, in lower case (with the dotless i of Turkish and Azerbaijani). Vowel
marks and lengthening strokes of Arabic script and invisible format characters are removed. Text in scripts without
spaces (Thai, Chinese, Japanese, Lao, Khmer, Burmese) is cut into overlapping pairs of characters.

There is no stemming, no splitting of compounds and no list of stop words, so a word matches only in the same form.
Languages with many forms (Finnish, Turkish, Arabic) are at a disadvantage, and so is Greek in capitals, which drops
accents. Variants of a letter or of a script (Arabic alef with and without hamza, simplified and traditional Chinese)
do not match each other.
"""

import unicodedata
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import bm25s
import numpy as np

from hybridir.data.records import Benchmark, Passage, Query
from hybridir.retrieval.dot import Scorer
from hybridir.retrieval.search import passage_shards

_UNSPACED = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""How the Unicode names of characters in scripts without spaces begin; IDEOGRAPHIC covers 々, 〆 and 〇."""
_DROPPED = dict.fromkeys([*range(0x064B, 0x0653), 0x0670, 0x0640])
"""Arabic vowel marks and the lengthening stroke (tatweel)."""


def bm25_scorer(benchmark: Benchmark) -> Scorer:
    """Scores by BM25 (Lucene's variant, k1 = 1.5, b = 0.75), with one index for each language.

    Document frequencies are counted within each language. In a pool of several languages, the ranking is therefore that
    of a search engine with one index for each language, which sorts the results of all indexes by score.
    """
    return bm25_index(benchmark)(benchmark.queries)


def bm25_index(benchmark: Benchmark) -> Callable[[Sequence[Query]], Scorer]:
    """Indexes the passages of a benchmark once, for any queries; see `bm25_scorer`."""
    language_P = benchmark.language_P
    sizes = np.bincount(language_P, minlength=len(benchmark.languages)).tolist()
    place_P = np.empty(len(language_P), dtype=np.int64)  # the position of each passage within its language
    for n, size in enumerate(sizes):
        place_P[language_P == n] = np.arange(size)
    shards = passage_shards(benchmark)
    indices = [
        _index(one for number, shard in shards if number == n for one in benchmark.passages[shard])
        for n in range(len(sizes))
    ]

    def scorer(queries: Sequence[Query]) -> Scorer:
        query_words = [tokens(query.text, query.language) for query in queries]

        @lru_cache(maxsize=1)  # consecutive shards are mostly of one language
        def of_language(language: int, first: int, end: int) -> np.ndarray:
            return np.stack([_scores(indices[language], words, sizes[language]) for words in query_words[first:end]])

        def score(rows: slice, passages: slice) -> np.ndarray:
            scores = of_language(int(language_P[passages.start]), rows.start, rows.stop)
            first = int(place_P[passages.start])
            return scores[:, first : first + passages.stop - passages.start]

        return score

    return scorer


def _index(passages: Iterable[Passage]) -> bm25s.BM25 | None:
    """The index of the passages in one language; None if they have no words, which the library cannot index."""
    number_of: dict[str, int] = {}
    words = [  # four bytes for each word
        array("I", [number_of.setdefault(word, len(number_of)) for word in tokens(one.text, one.language)])
        for one in passages
    ]
    if not number_of:
        return None
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index((words, number_of), show_progress=False)
    return index


def _scores(index: bm25s.BM25 | None, words: list[str], size: int) -> np.ndarray:
    known = [word for word in words if index and word in index.vocab_dict]
    return index.get_scores(known) if index and known else np.zeros(size, dtype=np.float32)


def tokens(text: str, language: str = "") -> list[str]:
    """The words of a text. The language matters for Turkish and Azerbaijani, where `I` is the capital of `ı`."""
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    text = unicodedata.normalize("NFKC", text).translate(_DROPPED).replace("İ", "i")
    if language.partition("_")[0] in ("tr", "az"):
        text = text.replace("I", "ı")
    words: list[str] = []
    word = ""
    unspaced = False
    for character in text.lower() + " ":
        is_word = unicodedata.category(character)[0] in "LMN"
        without_spaces = is_word and unicodedata.name(character, "").startswith(_UNSPACED)
        if word and (not is_word or without_spaces != unspaced):
            words += [word[i : i + 2] for i in range(max(1, len(word) - 1))] if unspaced else [word]
            word = ""
        if is_word:
            word += character
            unspaced = without_spaces
    return words
