"""Counts the texts of a benchmark that are longer than an encoder takes, and are cut when it embeds them."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from hybridir.data.records import Benchmark, Passage, Query
from hybridir.model.check import resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import BLOCK
from hybridir.model.folder import Side
from hybridir.model.tokenizer import load_tokenizer, tokenize

Cut = dict[str, dict[str, int]]
"""For `query` and `passage`: the number of texts that are cut, by language; languages without any are left out."""


def count_cut(config: EncoderConfig, benchmark: Benchmark) -> Cut:
    """The texts of a benchmark that this encoder cuts."""
    config = resolve(config)
    tokenizer = load_tokenizer(config.name, config.revision)
    found: Cut = {}
    for side in get_args(Side):
        prefix, limit = getattr(config, f"{side}_prefix"), config.max_length(side)
        texts = _texts(benchmark, side)
        count: Counter[str] = Counter()
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            lengths = map(len, tokenize(tokenizer, [one.text for one in block], prefix, limit + 1))
            count.update(one.language for one, length in zip(block, lengths, strict=True) if length > limit)
        found[side] = {code: count[code] for code in benchmark.languages if count[code]}
    return found


def describe_cut(cut: Cut, benchmark: Benchmark) -> list[str]:
    """One sentence that says how many texts are cut; none if no text is."""
    parts = []
    for side, by_language in cut.items():
        if by_language:
            languages = ", ".join(f"{code} {number:,}" for code, number in by_language.items())
            kind = "queries" if side == "query" else "passages"
            total = len(_texts(benchmark, side))  # type: ignore[arg-type]
            parts.append(f"{sum(by_language.values()):,} of {total:,} {kind} ({languages})")
    return [f"longer than the encoder takes, and cut: {'; '.join(parts)}"] if parts else []


def _texts(benchmark: Benchmark, side: Side) -> Sequence[Query | Passage]:
    return benchmark.queries if side == "query" else benchmark.passages
