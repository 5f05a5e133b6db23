"""BM25 as a baseline, by the library bm25s, with a tokenisation that needs no dictionary in any language.

Words are runs of letters, marks and digits in lower case; scripts written without spaces (Thai, Chinese, Japanese,
Lao, Khmer, Burmese) are cut into overlapping pairs of characters.
"""

import unicodedata

import bm25s
import numpy as np

from hybridir.records import Benchmark
from hybridir.search import Scorer, passage_shards

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def bm25_scorer(benchmark: Benchmark) -> Scorer:
    """Scores of BM25 (Lucene's variant, k1 = 1.5, b = 0.75); each language is an index of its own.

    Document frequencies are those of the passage's language, so that a pool of languages is what one engine with an
    index a language would give.
    """
    queries = [tokens(query.text) for query in benchmark.queries]
    indices = []
    for _, shard in passage_shards(benchmark):
        index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        index.index([tokens(passage.text) for passage in benchmark.passages[shard]], show_progress=False)
        indices.append((shard, index))

    def score(rows: slice, passages: slice) -> np.ndarray:
        index = next(index for shard, index in indices if shard == passages)
        scores = [_scores(index, words, passages.stop - passages.start) for words in queries[rows]]
        return np.stack(scores)

    return score


def _scores(index: bm25s.BM25, words: list[str], size: int) -> np.ndarray:
    known = [word for word in words if word in index.vocab_dict]
    return index.get_scores(known) if known else np.zeros(size, dtype=np.float32)


def tokens(text: str) -> list[str]:
    """The words of a text."""
    words: list[str] = []
    word = ""
    unspaced = False
    for character in unicodedata.normalize("NFKC", text).lower() + " ":
        is_word = unicodedata.category(character)[0] in "LMN"
        without_spaces = is_word and unicodedata.name(character, "").startswith(_UNSPACED)
        if word and (not is_word or without_spaces != unspaced):
            words += [word[i : i + 2] for i in range(max(1, len(word) - 1))] if unspaced else [word]
            word = ""
        if is_word:
            word += character
            unspaced = without_spaces
    return words
