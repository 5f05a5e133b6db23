"""An index: passages and their vectors on disk, in shards of one language.

    manifest.json             what the vectors are made of, and the shards: number, language, rows, dropped rows
    passages/00417.arrow      ids and texts of a shard
    vectors/00417.npy         their vectors, [rows, D]
    vectors/00417.json        rows, key and SHA-256; written last: a shard without it is not encoded yet

Every file is renamed into place when it is whole. The key is a hash of what decides the vectors: texts, encoder, dtype.
A passage has the position `MOST_ROWS * number of its shard + row`, which stays the same for the life of the index.

Shapes: P passages, S those of a shard, D dimension, N some of the passages.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybridir.data.intake import hash_of
from hybridir.data.passages import Passages
from hybridir.retrieval.config import MOST_ROWS
from hybridir.runtime.durable import remove, replace_text, replaced, storage_explained

MANIFEST = "manifest.json"
_BATCH = 1024
"""Passages that are read together when one of them is shown."""
_SCHEMA = pa.schema({"id": pa.string(), "text": pa.string()})


@dataclass(frozen=True)
class Shard:
    """A shard of an index: `texts` is the SHA-256 of its ids and texts; the rows in `dropped` are no longer there."""

    number: int
    language: str
    rows: int
    texts: str
    dropped: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.number:05}"

    @property
    def places(self) -> range:
        return range(self.number * MOST_ROWS, self.number * MOST_ROWS + self.rows)


@dataclass(frozen=True)
class Index:
    """An index as its manifest describes it. `made_of` is all that decides the vectors, besides the texts."""

    folder: Path
    made_of: dict[str, Any]
    shards: tuple[Shard, ...]

    @property
    def languages(self) -> list[str]:
        return list(dict.fromkeys(shard.language for shard in self.shards))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.made_of["dtype"])

    def together(self, languages: Sequence[str] = ()) -> dict[str, int]:
        """The languages, or some of them, as one pool: all have the number 0. `ValueError` if one is not there."""
        if missing := [one for one in languages if one not in self.languages]:
            raise ValueError(f"{self.folder} has no passages in {missing[0]!r}, only in {', '.join(self.languages)}")
        return dict.fromkeys(languages or self.languages, 0)

    def __len__(self) -> int:
        return sum(shard.rows - len(shard.dropped) for shard in self.shards)

    def waiting(self) -> list[Shard]:
        """The shards that are not encoded yet."""
        return [shard for shard in self.shards if not self._done(shard)]

    def passages(self, shard: Shard) -> tuple[list[str], list[str]]:
        """The ids and the texts of a shard."""
        with pa.OSFile(str(self.file("passages", shard, "arrow"))) as file, pa.ipc.open_file(file) as reader:
            table = reader.read_all()
        return table["id"].to_pylist(), table["text"].to_pylist()

    def passages_at(self, places: Sequence[int]) -> list[tuple[str, str, str]]:
        """Language, id and text of the passages at some positions; each part of a file is read once."""
        found: dict[int, tuple[str, str, str]] = {}
        wanted = sorted(set(places))
        of_number = {shard.number: shard for shard in self.shards}
        for number, of_shard in groupby(wanted, key=lambda place: place // MOST_ROWS):
            shard = of_number[number]
            with pa.OSFile(str(self.file("passages", shard, "arrow"))) as file, pa.ipc.open_file(file) as reader:
                for batch, some in groupby(of_shard, key=lambda place: place % MOST_ROWS // _BATCH):
                    here = list(some)
                    rows = reader.get_batch(batch).take([place % MOST_ROWS % _BATCH for place in here])
                    texts = zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True)
                    found |= {place: (shard.language, *one) for place, one in zip(here, texts, strict=True)}
        return [found[place] for place in places]

    def write(self, shard: Shard, vector_SD: np.ndarray) -> None:
        """Writes the vectors of a shard, and says so in its description.

        Raises:
            ValueError: a vector does not fit into the dtype.
        """
        with np.errstate(over="ignore"):
            vector_SD = np.ascontiguousarray(vector_SD, dtype=self.dtype)
        if not np.isfinite(vector_SD).all():
            raise ValueError(f"an embedding does not fit into {self.dtype}: choose --retrieval.dtype float32")
        file = self.file("vectors", shard, "npy")
        with storage_explained(file), replaced(file) as written, open(written, "wb") as opened:
            np.save(opened, vector_SD)
        about = {
            "rows": shard.rows,
            "dimension": vector_SD.shape[1],
            "dtype": str(self.dtype),
            "key": self._key(shard),
            "sha256": hashlib.sha256(raw(vector_SD)).hexdigest(),
        }
        replace_text(self.file("vectors", shard, "json"), json.dumps(about, indent=1))

    def about(self, shard: Shard) -> dict[str, Any]:
        """The description of a shard's vectors; `ValueError` if there are none, or only stale ones."""
        file = self.file("vectors", shard, "json")
        try:
            about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{self.folder} is not complete: continue with python jobs/encode.py --resume") from None
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}): remove it, and continue with --resume") from None
        if about.get("key") != self._key(shard):
            raise ValueError(
                f"{file} describes vectors of another model, dtype or text than {self.folder / MANIFEST}: remove it, "
                "and continue with python jobs/encode.py --resume"
            )
        return about

    def _done(self, shard: Shard) -> bool:
        file = self.file("vectors", shard, "npy")
        if not self.file("vectors", shard, "json").exists() or not file.exists():
            return False
        about = self.about(shard)
        return file.stat().st_size >= about["rows"] * about["dimension"] * self.dtype.itemsize

    def _key(self, shard: Shard) -> str:
        content = json.dumps([self.made_of, shard.texts, shard.language], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def file(self, kind: str, shard: Shard, form: str) -> Path:
        return self.folder / kind / f"{shard.name}.{form}"


def open_index(folder: Path) -> Index:
    """The index in a folder; `ValueError` if there is none."""
    file = folder / MANIFEST
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        shards = tuple(Shard(**one | {"dropped": tuple(one["dropped"])}) for one in found["shards"])
        return Index(folder, found["made_of"], shards)
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no index: make one with python jobs/encode.py --output {folder}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): make the index again") from None


def lay_out(folder: Path, made_of: dict[str, Any], passages: Passages, size: int) -> Index:
    """Makes the index of `passages`, or changes the one in `folder` to hold them and no others; encodes nothing.

    Passages whose language, id and text are in the index already keep their vectors and positions.

    Raises:
        ValueError: the vectors in the folder are made of something else.
    """
    before = open_index(folder) if (folder / MANIFEST).exists() else Index(folder, made_of, ())
    if before.made_of != made_of:
        changed = ", ".join(name for name in made_of if made_of[name] != before.made_of.get(name))
        raise ValueError(
            f"the vectors in {folder} are made of something else ({changed} differs): name another --output, or take "
            "what they were made of"
        )
    languages = passages.languages()
    language_P = passages.language_numbers(languages)
    wanted_P = np.fromiter(
        (hash_of(one.language, one.passage_id, one.text) for one in passages), dtype=np.uint64, count=len(passages)
    )
    kept, there = [], np.empty(0, dtype=np.uint64)
    for shard in before.shards:
        hash_S = np.array(
            [hash_of(shard.language, *one) for one in zip(*before.passages(shard), strict=True)], np.uint64
        )
        gone = ~np.isin(hash_S, wanted_P)
        gone[list(shard.dropped)] = True
        there = np.concatenate([there, hash_S[~gone]])
        if not gone.all():
            kept.append(replace(shard, dropped=tuple(np.flatnonzero(gone).tolist())))
    new_P = ~np.isin(wanted_P, there)
    number = 1 + max((shard.number for shard in before.shards), default=-1)
    (folder / "passages").mkdir(parents=True, exist_ok=True)
    (folder / "vectors").mkdir(exist_ok=True)
    for n, language in enumerate(languages):
        of_language = np.flatnonzero(new_P & (language_P == n))
        for start in range(0, len(of_language), size):
            place_S = of_language[start : start + size]
            kept.append(_write_passages(folder, number, language, [passages[int(one)] for one in place_S]))
            number += 1
    index = Index(folder, made_of, tuple(kept))
    content = {"made_of": made_of, "shards": [asdict(shard) for shard in index.shards]}
    replace_text(folder / MANIFEST, json.dumps(content, indent=1))
    _remove_others(index)
    return index


def _write_passages(folder: Path, number: int, language: str, passages: Sequence[Any]) -> Shard:
    columns = [one.passage_id for one in passages], [one.text for one in passages]
    texts = hashlib.sha256(json.dumps(columns).encode()).hexdigest()
    shard = Shard(number, language, len(passages), texts)
    file = folder / "passages" / f"{shard.name}.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        storage_explained(file),
        replaced(file) as written,
        pa.OSFile(str(written), "wb") as opened,
        pa.ipc.new_file(opened, _SCHEMA, options=options) as writer,
    ):
        writer.write_table(pa.table(list(columns), schema=_SCHEMA), max_chunksize=_BATCH)
    return shard


def _remove_others(index: Index) -> None:
    """Removes the files of shards that are no longer in the index, and what killed processes left."""
    names = {shard.name for shard in index.shards}
    for file in (*(index.folder / "passages").iterdir(), *(index.folder / "vectors").iterdir()):
        if file.name.partition(".")[0] not in names:
            remove(file)


def raw(array: np.ndarray) -> memoryview:
    """The bytes of an array that is contiguous."""
    return array.reshape(-1).view(np.uint8).data
