"""Reads and writes embeddings as files, so that embeddings made by other programs can be evaluated.

A folder holds the embeddings of queries and those of passages, each in one of two forms (here for queries):

- `queries.parquet` with the columns `id` and `embedding` (lists of float16, float32 or float64); others are ignored;
- `queries.npy`, a 2-D array of one of these types, and `queries.ids.txt`, one id a line in the order of the rows.

Ids are `LANGUAGE:ID`; the files of `write_embeddings` list them with the texts. The score is the dot product of the
embeddings as they are: normalise them first for cosine similarity. Zero vectors are allowed. Messages count rows and
lines from 1.

Shapes: Q queries, P passages, D dimension.
"""

from collections.abc import Iterator, Sequence
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
    ids = ([query.query_id for query in benchmark.queries], list(benchmark.passages.full_ids()))
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
    return _read(_find(Path(path), SIDES[0]), ids, SIDES[0])[0]


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


def _read(file: Path, ids: Sequence[str], side: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The embeddings of `ids`, in that order, and a note on the other ids in the file."""
    place_of = {name: n for n, name in enumerate(ids)}
    row_of: dict[str, int] = {}
    rows_ND = np.empty((0, 0), dtype=np.float32)
    for names, block in (_parquet_blocks if file.suffix == ".parquet" else _npy_blocks)(file):
        first = len(row_of) + 1
        if block.shape[1] > MOST_DIMENSIONS:
            raise ValueError(f"{file} has the dimension {block.shape[1]}: at most {MOST_DIMENSIONS} can be read")
        if first == 1:
            rows_ND = np.zeros((len(ids), block.shape[1]), dtype=np.float32)
        for row, name in enumerate(names, start=first):
            if row_of.setdefault(name, row) != row:
                raise ValueError(f"{file}: row {row} has the same id {name!r} as row {row_of[name]}: keep one")
        with np.errstate(over="ignore"):
            block = block.astype(np.float32, copy=False)
        if len(bad := np.argwhere(~np.isfinite(block))):
            row, column = bad[0]
            value = f"{block[row, column]} in float32"
            raise ValueError(f"{file}: row {first + row} ({names[row]!r}) has the value {value}: embed that text again")
        places = np.array([place_of.get(name, -1) for name in names])
        rows_ND[places[places >= 0]] = block[places >= 0]
    if not rows_ND.shape[1]:
        raise ValueError(f"{file} holds no embeddings: write a row of at least one number for each of the {side}")
    if missing := [name for name in ids if name not in row_of]:
        raise ValueError(
            f"{file} lacks {len(missing)} of the {len(ids)} {side} of the benchmark, the first {missing[0]!r}: add "
            f"them; ids are LANGUAGE:ID (the first in this file is {next(iter(row_of))!r})"
        )
    others = len(row_of) - len(ids)
    return rows_ND, (f"{others} embeddings in {file} are not of {side} of the benchmark: left out",) if others else ()


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
    names = _read_ids(file.with_name(f"{file.stem}.ids.txt"))
    if len(names) != len(rows_ND):
        raise ValueError(f"{file} has {len(rows_ND)} rows and {file.stem}.ids.txt {len(names)} ids: write one id a row")
    for start in range(0, len(names), _BLOCK):
        yield names[start : start + _BLOCK], rows_ND[start : start + _BLOCK]


def _read_ids(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise ValueError(f"{file} is missing: write the id of each row on a line of its own") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error}): write it in UTF-8") from error
    if lines == [""]:
        return []
    if "" in lines:
        raise ValueError(f"{place(str(file), lines.index('') + 1)} is empty: write an id on every line")
    return lines
