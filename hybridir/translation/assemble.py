"""From translated units to pairs: files that training reads as they are, and what was rejected.

A pair is kept in a language if its question and its passage pass all gates there. A hard negative that does not pass is
left out of its pair.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybridir.data.corpus import Corpus
from hybridir.data.records import PARTS
from hybridir.data.write import WRITERS, JsonLines
from hybridir.runtime.durable import replaced
from hybridir.translation.gates import LENGTH, MEANING
from hybridir.translation.texts import Texts
from hybridir.translation.units import Unit, Work, read_unit

LEAST_LENGTH = 60
"""Characters of a text whose length is checked."""
_KEPT = 32
"""Units in memory at a time."""


@dataclass
class Counts:
    """What became of the pairs in a language: written, rejected by reason, and hard negatives that were left out."""

    pairs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    negatives_left_out: int = 0


Lookup = Callable[[int], tuple[str, str | None]]
"""The number of a text -> its translation, and why that is rejected."""


def write_source(corpus: Corpus, folder: Path, language: str, licenses: dict[str, str], form: str) -> Counts:
    """Writes the original pairs, to files like those that `write_language` writes for a translation."""
    return _write(corpus, folder, language, licenses, form, None)


def write_language(corpus: Corpus, work: Work, language: str, licenses: dict[str, str], form: str) -> Counts:
    """Writes the pairs in a language to `train/LANGUAGE.FORM` and, of validation groups, `validation/LANGUAGE.FORM`.

    They are beside the folder of the units, and so is `rejected/LANGUAGE.jsonl`. `licenses` has the licence
    of each source; `form` is `jsonl` or `parquet`.
    """
    lookup = _lookup(work, language, _limits(work, language))
    return _write(corpus, Path(work.folder).parent, language, licenses, form, (lookup, work.texts))


def _write(
    corpus: Corpus, folder: Path, language: str, licenses: dict[str, str], form: str, found: tuple[Lookup, Texts] | None
) -> Counts:
    counts = Counts()
    group_N, parts = corpus.group_of_row(), np.asarray(corpus.part_of)
    names = {number: PARTS[number] for number in np.unique(parts).tolist()}
    with ExitStack() as stack:
        writers: dict[int, Any] = {}
        for number, part in names.items():
            file = folder / part / f"{language}.{form}"
            file.parent.mkdir(exist_ok=True)
            written = stack.enter_context(replaced(file))
            writers[number] = stack.enter_context(WRITERS[form](written))
        (folder / "rejected").mkdir(exist_ok=True)
        rejects = stack.enter_context(replaced(folder / "rejected" / f"{language}.jsonl")) if found else None
        log = stack.enter_context(JsonLines(rejects)) if rejects else None
        for chunk in range(corpus.n_chunks):
            start = int(corpus.chunk_start[chunk])
            rows = corpus.chunk(chunk).to_pylist()
            for n, row in enumerate(_translated(rows, chunk, language, counts, found, log)):
                group = int(group_N[start + n])
                if row is None or group < 0:
                    continue
                row |= {"passage_group_id": str(int(corpus.passage_group[group])), "license": licenses[row["source"]]}
                writers[int(parts[group])].write(row)
                counts.pairs += 1
    return counts


def _translated(
    rows: list[dict[str, Any]],
    chunk: int,
    language: str,
    counts: Counts,
    found: tuple[Lookup, Texts] | None,
    log: Any,
) -> Iterator[dict[str, Any] | None]:
    """The pairs of a chunk in a language; None for a pair that is rejected."""
    places = found[1].places(chunk).to_pylist() if found else [None] * len(rows)
    for row, place in zip(rows, places, strict=True):
        pair = {name: row[name] for name in ("group_id", "source", "domain", "query")} | {"language": language}
        pair |= {"passage": row["passage"]["text"], "passage_id": row["passage"]["passage_id"]}
        negatives, scores = row["negatives"], row["negative_scores"] or []
        if found and place:
            lookup = found[0]
            bad = None
            for name in ("query", "passage"):
                pair[name], reason = lookup(place[name])
                if reason and not bad:
                    bad = {"group_id": row["group_id"], "source": row["source"], "field": name, "reason": reason}
                    text = row["query"] if name == "query" else row["passage"]["text"]
                    bad |= {"text": text, "translation": pair[name]}
            if bad:
                counts.rejected[bad["reason"]] += 1
                log.write(bad)
                yield None
                continue
            made = [(one, *lookup(n)) for one, n in zip(negatives, place["negatives"], strict=True)]
            kept = [not (reason or one["language"] or text == pair["passage"]) for one, text, reason in made]
            negatives = [one | {"text": text} for one, text, _ in compress(made, kept)]
            scores = list(compress(scores, kept))
            counts.negatives_left_out += len(made) - len(negatives)
        yield pair | {"negatives": negatives, "negative_scores": scores}


@dataclass(frozen=True)
class _Limits:
    """Ratios of lengths between which a translation passes, and the least similarity."""

    shortest: float
    longest: float
    similarity: float


def _limits(work: Work, language: str) -> _Limits:
    """The limits of a language, from all its texts that pass the other gates."""
    gates, ratios, similar = work.gates, [np.empty(0)], [np.empty(0)]
    for shard in range(work.texts.n_shards):
        unit = _unit(work, Unit(shard, language))
        good = np.array([reason is None for reason in unit["reason"].to_pylist()], dtype=bool)
        similar.append(unit["similarity"].to_numpy(zero_copy_only=False)[good])
        ratio = _ratios(work.texts.shard(shard), unit["text"].to_pylist())
        ratios.append(ratio[good & np.isfinite(ratio)])
    ratio, similarity = np.concatenate(ratios), np.concatenate(similar)
    middle = float(np.median(ratio)) if len(ratio) else 1.0
    lowest = float(np.quantile(similarity, gates.lowest)) if gates.encoder and len(similarity) else -np.inf
    if not gates.length:
        return _Limits(0.0, np.inf, lowest)
    return _Limits(middle / gates.length, middle * gates.length, lowest)


def _ratios(texts: list[str], translations: list[str]) -> np.ndarray:
    """Length of each translation per length of its text, float64; NaN for a text that is too short."""
    pairs = zip(texts, translations, strict=True)
    return np.array([len(new) / len(old) if len(old) >= LEAST_LENGTH else np.nan for old, new in pairs])


def _unit(work: Work, unit: Unit) -> pa.RecordBatch:
    found = read_unit(file := work.file(unit))
    if found is None:
        raise ValueError(f"{file} is missing or damaged: continue with --resume, which makes it again")
    return found


def _lookup(work: Work, language: str, limits: _Limits) -> Lookup:
    size = len(work.texts.shard(0))

    @lru_cache(maxsize=_KEPT)
    def shard(number: int) -> tuple[list[str], list[str | None]]:
        unit = _unit(work, Unit(number, language))
        texts, reasons = unit["text"].to_pylist(), unit["reason"].to_pylist()
        ratio = _ratios(work.texts.shard(number), texts)
        with np.errstate(invalid="ignore"):
            wrong = (ratio < limits.shortest) | (ratio > limits.longest)
            unlike = unit["similarity"].to_numpy(zero_copy_only=False) < limits.similarity
        marks = [LENGTH if a else MEANING if b else None for a, b in zip(wrong, unlike, strict=True)]
        return texts, [reason or mark for reason, mark in zip(reasons, marks, strict=True)]

    def lookup(number: int) -> tuple[str, str | None]:
        texts, reasons = shard(number // size)
        return texts[number % size], reasons[number % size]

    return lookup
