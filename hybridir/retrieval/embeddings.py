"""Reads and writes embeddings as files, so that embeddings made by other programs can be evaluated.

A folder holds the embeddings of queries and those of passages, each in one of two forms (here for queries):

- `queries.parquet` with the columns `id` and `embedding` (lists of float16, float32 or float64); others are ignored;
- `queries.npy`, a 2-D array of one of these types, and `queries.ids.txt`, one id a line in the order of the rows.

Ids are `LANGUAGE:ID`; the files of `write_embeddings` list them with the texts. The score is the dot product of the
embeddings as they are: normalise them first for cosine similarity. Zero vectors are allowed. Messages count rows and
lines from 1.

Shapes: Q queries, P passages, D dimension.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from hybridir.data import parquet
from hybridir.data.records import Benchmark, place
from hybridir.runtime.durable import replaced

SIDES = ("queries", "passages")
_BLOCK = 2**14
"""Rows read at a time."""
MOST_DIMENSIONS = 65_536
_FLOATS = "float16, float32 or float64"

Block = tuple[Sequence[str], np.ndarray]
"""Ids, and their embeddings [rows, D]."""


@dataclass(frozen=True)
class Embeddings:
    """float32 embeddings in the order of a benchmark, [Q, D] and [P, D]; `notes` say what was left out."""

    query_QD: np.ndarray
    passage_PD: np.ndarray
    notes: tuple[str, ...]


def holds_embeddings(path: str) -> bool:
    """Whether `path` is a folder of embeddings rather than of a model; files may be missing from it."""
    return path != "" and any((Path(path) / f"{side}.{form}").exists() for side in SIDES for form in ("parquet", "npy"))


def read_embeddings(path: str, benchmark: Benchmark) -> Embeddings:
    """Reads the embeddings of all queries and passages of a benchmark; other ids are left out and noted.

    Raises `ValueError` with file, row and id if an embedding is missing, there twice, not finite or of another
    dimension.
    """
    ids = (lambda: (query.query_id for query in benchmark.queries), benchmark.passages.full_ids)
    files = [_find(Path(path), side) for side in SIDES]
    (query_QD, query_notes), (passage_PD, passage_notes) = map(_read, files, ids, SIDES)
    if query_QD.shape[1] != passage_PD.shape[1]:
        raise ValueError(
            f"{files[0]} has the dimension {query_QD.shape[1]} and {files[1]} {passage_PD.shape[1]}: "
            "make both with the same model"
        )
    return Embeddings(query_QD, passage_PD, query_notes + passage_notes)


def read_queries(path: str, ids: Sequence[str]) -> np.ndarray:
    """The embeddings of queries by their ids, float32 [Q, D]; `ValueError` as `read_embeddings`."""
    return _read(_find(Path(path), SIDES[0]), lambda: ids, SIDES[0])[0]


def write_embeddings(path: str, benchmark: Benchmark, query_QD: np.ndarray, passage_PD: np.ndarray) -> None:
    """Writes `queries.parquet` and `passages.parquet` with the columns `id`, `language`, `text` and `embedding`."""
    Path(path).mkdir(parents=True, exist_ok=True)
    queries = ((query.query_id, query.language, query.text) for query in benchmark.queries)
    passages = ((passage.full_id, passage.language, passage.text) for passage in benchmark.passages)
    for side, rows, rows_ND in zip(SIDES, (queries, passages), (query_QD, passage_PD), strict=True):
        fields = {name: pa.string() for name in ("id", "language", "text")}
        schema = pa.schema(fields | {"embedding": pa.list_(pa.float32(), rows_ND.shape[1])})
        with (
            replaced(Path(path) / f"{side}.parquet") as written,
            pa.parquet.ParquetWriter(written, schema, compression="zstd") as writer,
        ):
            for start in range(0, len(rows_ND), _BLOCK):
                block = rows_ND[start : start + _BLOCK]
                columns = [pa.array(one, pa.string()) for one in zip(*islice(rows, len(block)), strict=True)]
                values = pa.array(np.ascontiguousarray(block, dtype=np.float32).ravel())
                embedding = pa.FixedSizeListArray.from_arrays(values, block.shape[1])
                writer.write_table(pa.table([*columns, embedding], schema=schema))
        assert next(rows, None) is None, f"one embedding for each of the {side}"


def _find(folder: Path, side: str) -> Path:
    found = [file for form in ("parquet", "npy") if (file := folder / f"{side}.{form}").exists()]
    if not found:
        raise ValueError(f"{folder} has neither {side}.parquet nor {side}.npy: both queries and passages are needed")
    if len(found) > 1:
        raise ValueError(f"{folder} has both {side}.parquet and {side}.npy: remove one of them")
    return found[0]


def _read(file: Path, ids: Callable[[], Iterable[str]], side: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The embeddings of `ids()`, in that order, and a note on the other ids in the file.

    Ids are known by their hashes of 64 bits: of two times 2 million, two share one with a probability of 2e-7. That is
    an error too, as an id given twice is, unless the file also lacks one of the two.
    """
    hash_N = np.fromiter(map(hash, ids()), dtype=np.int64)
    order_N = np.argsort(hash_N)
    row_N = np.zeros(len(hash_N), dtype=np.int64)  # the row of the file with the embedding, from 1
    rows_ND, done, first = np.empty((0, 0), dtype=np.float32), 0, ""
    for names, block in (_parquet_blocks if file.suffix == ".parquet" else _npy_blocks)(file):
        if block.shape[1] > MOST_DIMENSIONS:
            raise ValueError(f"{file} has the dimension {block.shape[1]}: at most {MOST_DIMENSIONS} can be read")
        if not done:
            rows_ND, first = np.zeros((len(hash_N), block.shape[1]), dtype=np.float32), names[0]
        places = _places(np.fromiter(map(hash, names), dtype=np.int64), hash_N, order_N)
        known, row = places[places >= 0], done + 1 + np.flatnonzero(places >= 0)
        before = np.where(row_N[known] == 0, row, row_N[known])
        row_N[known[::-1]] = before[::-1]  # of an id that the block has twice, the first row stays
        if len(again := np.flatnonzero(row_N[known] != row)):
            place, own = known[again[0]], row[again[0]]
            name = names[own - done - 1]
            raise ValueError(f"{file}: row {own} has the same id {name!r} as row {row_N[place]}: keep one")
        with np.errstate(over="ignore"):
            block = block.astype(np.float32, copy=False)
        if len(bad := np.argwhere(~np.isfinite(block))):
            n, column = bad[0]
            value = f"{block[n, column]} in float32"
            raise ValueError(f"{file}: row {done + 1 + n} ({names[n]!r}) has the value {value}: embed that text again")
        rows_ND[known] = block[places >= 0]
        done += len(names)
    if not rows_ND.shape[1]:
        raise ValueError(f"{file} holds no embeddings: write a row of at least one number for each of the {side}")
    if len(missing := np.flatnonzero(row_N == 0)):
        name = next(islice(ids(), int(missing[0]), None))
        raise ValueError(
            f"{file} lacks {len(missing)} of the {len(row_N)} {side} of the benchmark, the first {name!r}: add "
            f"them; ids are LANGUAGE:ID (the first in this file is {first!r})"
        )
    others = done - len(row_N)
    return rows_ND, (f"{others} embeddings in {file} are not of {side} of the benchmark: left out",) if others else ()


def _places(hash_n: np.ndarray, hash_N: np.ndarray, order_N: np.ndarray) -> np.ndarray:
    """Where each hash stands in `hash_N`, whose order is `order_N`; -1 where it does not."""
    if not len(hash_N):
        return np.full(len(hash_n), -1)
    at_n = order_N[np.searchsorted(hash_N, hash_n, sorter=order_N).clip(max=len(hash_N) - 1)]
    return np.where(hash_N[at_n] == hash_n, at_n, -1)


def _parquet_blocks(file: Path) -> Iterator[Block]:
    try:
        with pa.OSFile(str(file)) as opened:
            _check_columns(file, pa.parquet.ParquetFile(opened).schema_arrow)
            dimension, first = None, 1
            for batch in parquet.batches(opened, str(file), ["id", "embedding"], rows=_BLOCK):
                names, embedding = batch["id"].to_pylist(), batch["embedding"]
                if None in names:
                    raise ValueError(f"{file}: row {first + names.index(None)} has no id: give it one")
                sizes = np.array(pc.list_value_length(embedding).fill_null(0))
                dimension = sizes[0] if dimension is None else dimension
                if len(other := np.flatnonzero(sizes != dimension)):
                    n = other[0]
                    where = f"{file}: row {first + n} ({names[n]!r})"
                    raise ValueError(
                        f"{where} has the dimension {sizes[n]}, the first row {dimension}: embed all with one model"
                    )
                values = embedding.flatten().to_numpy(zero_copy_only=False)  # null becomes NaN, which `_read` refuses
                yield names, values.reshape(len(names), dimension)
                first += len(names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read ({error}): write it again as Parquet") from error


def _check_columns(file: Path, schema: pa.Schema) -> None:
    for name in ("id", "embedding"):
        if name not in schema.names:
            raise ValueError(f"{file} has no column {name!r}, only {', '.join(schema.names)}: add id and embedding")
    id_type, kind = schema.field("id").type, schema.field("embedding").type
    if not (pa.types.is_string(id_type) or pa.types.is_large_string(id_type)):
        raise ValueError(f"{file}: the column id is {id_type}: write ids as strings, LANGUAGE:ID")
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not (is_list and pa.types.is_floating(kind.value_type)):
        raise ValueError(f"{file}: the column embedding is {kind}: write lists of {_FLOATS}")


def _npy_blocks(file: Path) -> Iterator[Block]:
    try:
        rows_ND = np.load(file, mmap_mode="r")  # refuses arrays of objects, which could run code
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} cannot be read ({error}): save a 2-D array of {_FLOATS}") from error
    if not isinstance(rows_ND, np.ndarray) or rows_ND.ndim != 2 or not np.issubdtype(rows_ND.dtype, np.floating):
        what = f"{rows_ND.dtype} {list(rows_ND.shape)}" if isinstance(rows_ND, np.ndarray) else "several arrays"
        raise ValueError(f"{file} holds {what}: save a 2-D array of {_FLOATS}")
    listed = file.with_name(f"{file.stem}.ids.txt")
    if (count := sum(1 for _ in _read_ids(listed))) != len(rows_ND):
        raise ValueError(f"{file} has {len(rows_ND)} rows and {listed.name} {count} ids: write one id a row")
    names = _read_ids(listed)
    for start in range(0, count, _BLOCK):
        yield list(islice(names, _BLOCK)), rows_ND[start : start + _BLOCK]


def _read_ids(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for n, line in enumerate(lines, start=1):
                if not (name := line.removesuffix("\n")):
                    raise ValueError(f"{place(str(file), n)} is empty: write an id on every line")
                yield name
    except FileNotFoundError:
        raise ValueError(f"{file} is missing: write the id of each row on a line of its own") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error}): write it in UTF-8") from error
