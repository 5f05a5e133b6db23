"""Writes pairs to files in the project's own format, which training reads as they are: JSON lines or Parquet.

A row has the fields of `jsonl` (hybridir/data/README.md); `negatives` are objects. What is empty is left out.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_NEGATIVE = pa.struct([("passage_id", pa.string()), ("text", pa.string()), ("language", pa.string())])
_ROWS = pa.schema(
    [(name, pa.string()) for name in ("group_id", "language", "query", "passage", "passage_id", "passage_group_id")]
    + [("negatives", pa.list_(_NEGATIVE)), ("negative_scores", pa.list_(pa.float64()))]
    + [(name, pa.string()) for name in ("source", "domain", "license")]
)


class JsonLines:
    """Writes rows as JSON lines."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 (closed on exit)

    def __enter__(self) -> "JsonLines":
        return self

    def write(self, row: dict[str, Any]) -> None:
        shown = {name: value for name, value in row.items() if value not in ("", [])}
        if "negatives" in shown:
            shown["negatives"] = [{name: x for name, x in one.items() if x} for one in shown["negatives"]]
        self._file.write(json.dumps(shown, ensure_ascii=False) + "\n")

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Parquet:
    """Writes rows as Parquet, by row groups."""

    def __init__(self, path: Path) -> None:
        self._writer, self._rows = pq.ParquetWriter(path, _ROWS), list[dict[str, Any]]()

    def __enter__(self) -> "Parquet":
        return self

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == 10_000:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_ROWS))
        self._rows = []

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()


WRITERS: dict[str, type[JsonLines] | type[Parquet]] = {"jsonl": JsonLines, "parquet": Parquet}
"""Format -> what writes it: a context manager over a path, with `write(row)`."""
