"""Reads Parquet files batch by batch. Dictionaries stay encoded until it is known how large the values become."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybridir.data.bounds import EACH, SMALL, Growth

_AT_ONCE = 32_000_000
"""Bytes of the values that are held at a time."""
_UNCHANGED = {"PLAIN", "RLE", "BIT_PACKED"}
"""Encodings in which strings do not grow."""


def batches(
    opened: pa.NativeFile, name: str, columns: Sequence[str], groups: Sequence[int] | None = None, rows: int = 1024
) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows of `columns`, from all row groups or from `groups`; `name` is for messages.

    `ValueError` if the file grows too much.
    """
    plain = pq.ParquetFile(opened)
    growth, encoded, is_small = Growth(name, opened.size()), set(), opened.size() < SMALL
    groups = range(plain.num_row_groups) if groups is None else groups
    for group in map(plain.metadata.row_group, groups):
        for leaf in map(group.column, range(group.num_columns)):
            if any(f"{leaf.path_in_schema}.".startswith(f"{column}.") for column in columns):
                growth.add(leaf.total_uncompressed_size + 4 * leaf.num_values)
                if leaf.physical_type == "BYTE_ARRAY" and not _UNCHANGED.issuperset(leaf.encodings):
                    if any(encoding.startswith("DELTA") for encoding in leaf.encodings):  # no dictionary can be kept
                        rows = min(rows, max(1, _AT_ONCE // leaf.total_uncompressed_size)) if is_small else rows
                    else:
                        encoded.add(leaf.path_in_schema)
    file = pq.ParquetFile(opened, metadata=plain.metadata, read_dictionary=list(encoded))
    schema = pa.schema([plain.schema_arrow.field(column) for column in columns])
    read = partial(file.iter_batches, rows, columns=list(columns))
    for batch in chain.from_iterable(read(row_groups=[group]) for group in groups):  # none spans two, for dictionaries
        size = sum(map(_size, batch.columns))
        growth.add(size + EACH * batch.num_rows)
        step = max(1, batch.num_rows * _AT_ONCE // max(size, _AT_ONCE))
        for start in range(0, batch.num_rows, step):
            some = batch.slice(start, step)
            yield some if some.schema.equals(schema) else some.cast(schema)


def _size(array: pa.Array) -> int:
    """Bytes of the values, with those of dictionaries as often as they occur."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).take(array.indices) if _is_text(array.dictionary.type) else array
        return pc.sum(lengths).as_py() or 0 if lengths is not array else array.nbytes
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _size(array.flatten()) + 8 * len(array)
    if pa.types.is_struct(array.type):
        return sum(map(_size, array.flatten()))
    return array.nbytes


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
