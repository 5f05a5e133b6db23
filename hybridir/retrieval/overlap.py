"""Finds pairs that overlap with a benchmark, and leaves out their passage groups.

A text of a pair overlaps if it shares 13 words in a row with a question, or with a relevant passage, of the benchmark
(characters in languages written without spaces); a shorter text, if it is the same. Case and punctuation are ignored
(as for GPT-3, arXiv 2005.14165, appendix C). With an encoder, texts above a cosine similarity overlap too, so that
translations and paraphrases are found.

Shapes: G groups, N texts, M grams or texts of the benchmark.
"""

import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridir.data.build import SHOWN
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.data.corpus import Corpus
from hybridir.data.formats import BENCHMARKS
from hybridir.data.intake import hash_of
from hybridir.data.records import OVERLAP, PARTS, Benchmark, benchmark_fingerprint
from hybridir.data.sources import benchmark_at, read_benchmark
from hybridir.data.storage import PLACEHOLDER
from hybridir.data.texts import as_read
from hybridir.model.check import as_published
from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import pick_device
from hybridir.model.encoder import Encoder
from hybridir.model.files import model_of
from hybridir.retrieval.nearest import top_k
from hybridir.retrieval.systems import fingerprint
from hybridir.runtime.durable import made_once
from hybridir.runtime.progress import say, watch
from hybridir.runtime.secrets import without_secrets

WORDS = 13
"""Words, or characters, in a row."""
UNSPACED = ("zh", "th", "ja", "km", "lo", "my")
"""Languages that put no spaces between words."""
_UNSPACED_LETTERS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
"""Letters that these languages are written with."""
UNKNOWN = "und"
"""CLDR's code for a language that is not known: a benchmark that nobody is measured on needs no other."""
_PRIME = np.uint64(0x100000001B3)
SIDES = ("query", "passage")


class _Letters(dict[int, int]):
    """For `str.translate`: what is neither letter, digit nor accent becomes a space."""

    def __missing__(self, code: int) -> int:
        letter = chr(code)
        self[code] = code if letter.isalnum() or unicodedata.category(letter)[0] == "M" else 32
        return self[code]


_LETTERS = _Letters()


def words(text: str, language: str) -> list[str]:
    """The words of a text, or its characters in a language without spaces; small letters, no punctuation."""
    parted = as_read(text).casefold().translate(_LETTERS).split()
    return list("".join(parted)) if language.partition("-")[0].partition("_")[0] in UNSPACED else parted


_word = lru_cache(2**18)(hash_of)


def grams(found: Sequence[str]) -> np.ndarray:
    """uint64: a hash of every `WORDS` words in a row; one of all words if there are fewer; empty if there are none."""
    size = min(WORDS, len(found))
    hash_N = np.fromiter(map(_word, found), np.uint64, len(found))
    grams_N = np.full(len(found) - size + 1 if size else 0, size, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for n in range(size):
            grams_N = grams_N * _PRIME + hash_N[n : n + len(grams_N)]
    return grams_N


def _grams_of(text: str, language: str) -> np.ndarray:
    """The grams of a text of a benchmark; in an unknown language, of its characters too if some are of `UNSPACED`."""
    also = UNSPACED[:1] if language == UNKNOWN and _UNSPACED_LETTERS.search(text) else ()
    return np.concatenate([grams(words(text, one)) for one in (language, *also)])


@dataclass(frozen=True)
class Held:
    """The texts of benchmarks that must not be trained on: by side, (name, language, text)."""

    texts: dict[str, list[tuple[str, str, str]]]

    @classmethod
    def of(cls, benchmarks: Sequence[Benchmark]) -> "Held":
        texts: dict[str, list[tuple[str, str, str]]] = {side: [] for side in SIDES}
        for one in benchmarks:
            texts["query"] += [(f"query {x.query_id} of {one.name}", x.language, x.text) for x in one.queries]
            for place in sorted({place for found in one.relevant for place in found}):
                passage = one.passages[place]
                texts["passage"].append((f"passage {passage.full_id} of {one.name}", passage.language, passage.text))
        return cls(texts)

    @cached_property
    def _names(self) -> list[str]:
        return [name for side in SIDES for name, *_ in self.texts[side]]

    @cached_property
    def _grams(self) -> tuple[np.ndarray, np.ndarray]:
        """All grams, ascending, and the number of the text of each; queries come first."""
        both = [_grams_of(text, language) for side in SIDES for _, language, text in self.texts[side]]
        gram_M = np.concatenate([np.empty(0, np.uint64), *both])
        order = np.argsort(gram_M, kind="stable")
        return gram_M[order], np.repeat(np.arange(len(both)), [len(one) for one in both])[order]

    def shared(self, text: str, language: str) -> str:
        """What a text shares words with, and the first of these words; empty if it shares none."""
        known_M, text_M = self._grams
        found = words(text, language)
        gram_N = grams(found)
        place_N = np.searchsorted(known_M, gram_N)
        place_N[place_N == len(known_M)] = 0
        hits = np.flatnonzero(known_M[place_N] == gram_N) if len(known_M) else np.empty(0, dtype=np.int64)
        if not len(hits):
            return ""
        return f"{self._names[int(text_M[place_N[hits[0]]])]}: {' '.join(found[hits[0] : hits[0] + WORDS])!r}"


class Near:
    """Finds queries (passages) whose cosine similarity to one of a benchmark is at least `least`."""

    def __init__(self, held: Held, config: EncoderConfig, least: float) -> None:
        self._held, self._least = held, least
        self._encoder = Encoder.load(config).to(pick_device(torch.cuda.is_available()))
        self._known = {side: self._encoded([text for *_, text in held.texts[side]], side) for side in SIDES}

    def shared(self, texts: Sequence[str], side: str) -> list[str]:
        """For each text, the nearest one of a benchmark, if it is near enough, else an empty string."""
        known_MD = self._known[side]
        if not len(known_MD):
            return [""] * len(texts)
        score_N1, place_N1 = top_k(self._encoded(texts, side), known_MD, 1)
        names = [name for name, *_ in self._held.texts[side]]
        near = zip(score_N1.ravel().tolist(), place_N1.ravel().tolist(), strict=True)
        return [f"{names[p]}: similarity {s:.3f}" if s >= self._least else "" for s, p in near]

    def _encoded(self, texts: Sequence[str], side: Any) -> np.ndarray:
        found_ND = self._encoder.encode(texts, side) if texts else np.empty((0, 1), dtype=np.float32)
        return found_ND / np.maximum(np.linalg.norm(found_ND, axis=1, keepdims=True), 1e-12)


def without_overlap(corpus: Corpus, data: DataConfig, cache: Path) -> Corpus:
    """The corpus without the passage groups that overlap with `data.exclude`, in the folder `cache` like others.

    All their pairs count as rejected, for the reason `OVERLAP`, and stand in `rejected.jsonl` with what they share.

    Raises:
        ValueError: a benchmark or the encoder cannot be read, or no pair is left.
    """
    benchmarks = [_read(one) for one in data.exclude]
    name = data.exclude_encoder
    encoder = as_published(EncoderConfig(name=model_of(name))) if name else None
    made_of = [corpus.fingerprint, corpus.directory.name, *map(benchmark_fingerprint, benchmarks)]
    made_of += [fingerprint(encoder), str(data.exclude_similarity)] if encoder else []
    made_of.append(Path(__file__).read_text(encoding="utf-8"))
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    with made_once(cache / f"corpus-{key}") as work:
        if work:
            held = Held.of(benchmarks)
            near = Near(held, encoder, data.exclude_similarity) if encoder else None
            total = corpus.n_chunks
            chunks = ((found, len(found), (n + 1) / total) for n, found in enumerate(_found(corpus, held, near)))
            shared = [one for found in watch("compared with benchmarks", chunks, "pairs") for one in found]
            _write(corpus, shared, work)
    left = Corpus.open(cache / f"corpus-{key}")
    names = ", ".join(one.name for one in benchmarks)
    say(f"{left.rejected.get(OVERLAP, 0):,} of {corpus.n_pairs:,} pairs are left out, as they overlap with {names}")
    if not left.n_pairs:
        raise ValueError(f"all pairs overlap with {names}, so none is left: train on other data")
    return left


def _read(benchmark: BenchmarkConfig | str) -> Benchmark:
    """A benchmark by its fields, its name, or its folder, whose language need not be known."""
    if isinstance(one := benchmark, str):
        one = BenchmarkConfig(name=one) if one in BENCHMARKS else BenchmarkConfig(path=one)
    try:
        if one.path and not one.name:
            one = replace(one, name=benchmark_at(one.path))
        if one.name == "beir" and not (one.language or one.languages or PLACEHOLDER in one.path):
            one = replace(one, language=UNKNOWN)
        return read_benchmark(one)
    except ValueError as error:
        fields = ". Fields of a benchmark stand in braces: --data.exclude '[{name: beir, path: DIR, split: test}]'"
        named = f"data.exclude has {without_secrets(one.path) or one.name}"
        raise ValueError(f"{named}: {error}{fields * ('benchmark.' in str(error))}") from None


def _found(corpus: Corpus, held: Held, near: Near | None) -> Iterator[list[str]]:
    """For each chunk, what each pair shares; an empty string if nothing."""
    for number in range(corpus.n_chunks):
        chunk = corpus.chunk(number)
        languages = chunk["language"].to_pylist()
        found = [""] * len(languages)
        for side in SIDES:
            texts = (chunk[side].field("text") if side == "passage" else chunk[side]).to_pylist()
            shared = [held.shared(*both) for both in zip(texts, languages, strict=True)]
            for one in (shared, near.shared(texts, side)) if near else (shared,):
                found = [a or (b and f"{side}, {b}") for a, b in zip(found, one, strict=True)]
        yield found


def _write(corpus: Corpus, shared: Sequence[str], folder: Path) -> None:
    """Writes the corpus without the passage groups of the pairs that share something; `shared` has a text a row."""
    group_N = corpus.group_of_row()
    hit_N = np.array([bool(one) for one in shared]) & (group_N >= 0)
    hit_G = np.isin(corpus.passage_group, corpus.passage_group[np.unique(group_N[hit_N])])
    out_N = (group_N >= 0) & hit_G[group_N]
    for file in corpus.directory.iterdir():
        if file.name not in ("corpus.json", "rejected.jsonl", "row_of.npy"):
            try:
                os.link(file, folder / file.name)
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, folder / file.name)
    np.save(folder / "row_of.npy", np.where(hit_G[:, None], np.int32(-1), corpus.row_of))
    shutil.copyfile(corpus.directory / "rejected.jsonl", folder / "rejected.jsonl")
    description = json.loads((corpus.directory / "corpus.json").read_text(encoding="utf-8"))
    if hit_G.any():
        first: list[dict[str, Any]] = []
        with open(folder / "rejected.jsonl", "a", encoding="utf-8") as log:
            for row, pair in _rows(corpus, out_N):
                value = shared[row] or "a pair of the same passage group overlaps"
                one = {"file": pair["file"], "line": pair["line"] or None, "reason": OVERLAP, "value": value}
                log.write(json.dumps(one, ensure_ascii=False) + "\n")
                first += [one] if len(first) < SHOWN and shared[row] else []
                description["domains"][pair["domain"]] -= 1
        keys = np.ascontiguousarray(corpus.group_key[hit_G])
        description["fingerprint"] = _extended(corpus.fingerprint, keys)
        for number, part in enumerate(PARTS):
            gone = np.ascontiguousarray(corpus.group_key[hit_G & (np.asarray(corpus.part_of) == number)])
            if len(gone):
                description["part_fingerprints"][part] = _extended(corpus.part_fingerprints[part], gone)
        out = int(out_N.sum())
        description["n_pairs"] -= out
        description["rejected"] |= {OVERLAP: out}
        description["first_rejected"] |= {OVERLAP: first}
    (folder / "corpus.json").write_text(json.dumps(description, indent=1), encoding="utf-8")


def _rows(corpus: Corpus, wanted_N: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """The wanted rows, without their texts."""
    for number, (start, end) in enumerate(pairwise(corpus.chunk_start.tolist())):
        rows = np.flatnonzero(wanted_N[start:end])
        found = corpus.chunk(number).select(["file", "line", "domain"]).take(rows).to_pylist() if len(rows) else []
        yield from zip((start + rows).tolist(), found, strict=True)


def _extended(before: str, keys: np.ndarray) -> str:
    return hashlib.sha256(before.encode() + keys.tobytes()).hexdigest()
