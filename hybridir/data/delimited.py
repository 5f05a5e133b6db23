"""Reads CSV and TSV files with a header, also with line breaks within quotation marks, row by row."""

import csv
from collections.abc import Callable, Iterator
from functools import partial

from hybridir.data import storage
from hybridir.data.records import BadRow, Row
from hybridir.data.storage import decode, plain, read_lines

_DELIMITERS = ",;\t"


class _Lines:
    """The lines of a file for `csv.reader`, which goes on with the next line after an error."""

    def __init__(self, path: str) -> None:
        self._lines = read_lines(path)
        self.number = 0
        self.row_size = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        _, line = next(self._lines)
        self.number += 1
        self.row_size += len(line or b"")
        if self.row_size > storage.MAX_LINE:
            raise BadRow("over-long line", f"a row of more than {storage.MAX_LINE} bytes: is a quotation mark missing?")
        return decode(line) + "\n" if line is None or line.strip() else "\n"


def rows(path: str, name: str) -> Iterator[tuple[int, Callable[[], Row]]]:
    """(first line, function that returns the row or raises `BadRow`); `ValueError` if the header cannot be used.

    A `.tsv` file has tabs between its cells, a `.csv` file what its header has most of: commas, semicolons or tabs.
    An empty cell is None.
    """
    csv.field_size_limit(max(csv.field_size_limit(), storage.MAX_LINE))  # of the process; the default is 131,072
    delimiter = "\t" if plain(path).removesuffix(".gz").endswith(".tsv") else _most_frequent(path)
    lines = _Lines(path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        first, lines.row_size = lines.number + 1, 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, BadRow) as error:
            where = f"lines {first} to {lines.number}: " if lines.number > first else ""
            bad = error if isinstance(error, BadRow) else BadRow("broken row", f"{where}{error}")
            if header is None:
                raise ValueError(f"{name}:{first}: the header cannot be read: {bad.reason}: {bad.value}") from None
            yield first, partial(_fail, bad)
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if not header or "" in header or len(set(header)) < len(header):
                raise ValueError(f"{name}:{first}: the first line must name every column once; found {header!r:.300}")
        else:
            yield first, partial(_row, header, cells)


def _most_frequent(path: str) -> str:
    header = next((line or b"" for _, line in read_lines(path)), b"").decode("utf-8", "replace")
    return max(_DELIMITERS, key=header.count)


def _row(header: list[str], cells: list[str]) -> Row:
    if not cells:
        raise BadRow("empty line", "")
    if len(cells) != len(header):
        raise BadRow("broken row", f"{len(cells)} cells, but the header has {len(header)}: {cells!r:.80}")
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _fail(bad: BadRow) -> Row:
    raise bad
