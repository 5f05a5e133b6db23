"""The passages of a benchmark on disk: millions of them take next to no memory.

They are written, as Arrow record batches, to a file without a name in the folder for temporary files (`TMPDIR`), which
disappears with the process. The file is mapped into memory: the operating system reads the parts that are used, and
drops them again when it needs the room. A slice (`passages[a:b]`, `passages.texts[a:b]`) is a view, and costs nothing.

Shapes: P passages.
"""

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa

from hybridir.data.records import Passage

_ROWS, _CHARACTERS = 1024, 2**22
"""Passages or characters that fill a batch, which is in memory while it is written."""
_SCHEMA = pa.schema({"id": pa.string(), "language": pa.dictionary(pa.int32(), pa.string()), "text": pa.string()})


class Strings(Sequence[str]):
    """A column of strings, each of which is read when it is used. Other processes get it as a list."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "Strings": ...
    def __getitem__(self, place: int | slice) -> "str | Strings":
        if isinstance(place, slice):
            return Strings(self._column.slice(*_start_and_length(place, len(self))))
        return self._column[range(len(self))[place]].as_py()

    def __iter__(self) -> Iterator[str]:
        for chunk in self._column.chunks:
            yield from chunk.to_pylist()

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


class Passages(Sequence[Passage]):
    """Passages in a fixed order. A `Passage` is made when it is asked for; a slice is a view.

    Raises:
        ValueError: an id or a text has an unpaired surrogate, which no file in UTF-8 can hold.
        OSError: there is no room for them.
    """

    def __init__(self, passages: Iterable[Passage] = ()) -> None:
        self._table = _stored(_batches(passages))

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, place: int) -> Passage: ...
    @overload
    def __getitem__(self, place: slice) -> "Passages": ...
    def __getitem__(self, place: int | slice) -> "Passage | Passages":
        if isinstance(place, slice):
            return _view(self._table.slice(*_start_and_length(place, len(self))))
        place = range(len(self))[place]
        name, language, text = (column[place].as_py() for column in self._table.columns)
        return Passage(passage_id=name, language=language, text=text)

    def __iter__(self) -> Iterator[Passage]:
        for batch in self._table.to_batches():
            rows = zip(batch["id"].to_pylist(), _languages(batch), batch["text"].to_pylist(), strict=True)
            for name, language, text in rows:
                yield Passage(passage_id=name, language=language, text=text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Passages):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def ids(self) -> Strings:
        """The ids, each unique within its language."""
        return Strings(self._table["id"])

    @property
    def texts(self) -> Strings:
        return Strings(self._table["text"])

    def full_ids(self) -> Iterator[str]:
        """`LANGUAGE:ID` of each passage; no text is read for it."""
        for batch in self._table.to_batches():
            yield from map("{}:{}".format, _languages(batch), batch["id"].to_pylist())

    def languages(self) -> list[str]:
        """The languages of the passages, sorted."""
        return sorted({code for chunk in self._table["language"].chunks for code in chunk.dictionary.to_pylist()})

    def language_numbers(self, languages: Sequence[str]) -> np.ndarray:
        """int32 [P]: the position of each passage's language in `languages`, which must have all of them."""
        number = {language: n for n, language in enumerate(languages)}
        found_P = np.empty(len(self), dtype=np.int32)
        start = 0
        for chunk in self._table["language"].chunks:
            of = np.array([number.get(code, -1) for code in chunk.dictionary.to_pylist()], dtype=np.int32)
            found_P[start : start + len(chunk)] = of[chunk.indices.to_numpy()]
            start += len(chunk)
        assert not len(found_P) or found_P.min() >= 0, f"a passage is in none of the languages {languages}"
        return found_P

    def repeats(self) -> Iterator[tuple[int, int]]:
        """For passages of one language, in order: (position, earlier position) of each with the id of an earlier one.

        It takes 16 bytes a passage for hashes of the ids; where two are the same, the ids themselves are compared.
        """
        hash_P = np.fromiter(map(hash, self.ids), dtype=np.int64, count=len(self))
        ordered_P = np.sort(hash_P)
        shared = ordered_P[1:][ordered_P[1:] == ordered_P[:-1]]
        first: dict[str, int] = {}
        for place in np.flatnonzero(np.isin(hash_P, shared)).tolist() if len(shared) else ():
            if (earlier := first.setdefault(self.ids[place], place)) != place:
                yield place, earlier

    def kept(self, kept_P: np.ndarray) -> "Passages":
        """The passages for which `kept_P` (bool [P]) is true."""
        if kept_P.all():
            return self
        ends = np.cumsum([0, *map(len, self._table["id"].chunks)]).tolist()
        batches = zip(self._table.to_batches(), ends, strict=False)
        return _view(_stored(batch.filter(pa.array(kept_P[start : start + len(batch)])) for batch, start in batches))

    @staticmethod
    def joined(parts: Iterable["Passages"]) -> "Passages":
        """The passages of all parts, one part after another."""
        return _view(pa.concat_tables([part._table for part in parts]))


def _view(table: pa.Table) -> Passages:
    passages = Passages.__new__(Passages)
    passages._table = table
    return passages


def _batches(passages: Iterable[Passage]) -> Iterator[pa.RecordBatch]:
    rows: list[Passage] = []
    characters = 0
    for one in passages:
        rows.append(one)
        characters += len(one.text)
        if len(rows) >= _ROWS or characters >= _CHARACTERS:
            yield _batch(rows)
            rows, characters = [], 0
    if rows:
        yield _batch(rows)


def _batch(rows: list[Passage]) -> pa.RecordBatch:
    columns = ([one.passage_id for one in rows], [one.language for one in rows], [one.text for one in rows])
    name, language, text = (pa.array(column, type=pa.string()) for column in columns)
    return pa.record_batch([name, language.dictionary_encode(), text], schema=_SCHEMA)


def _stored(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Writes the batches to a file without a name; returns a table over its contents, which are not in memory."""
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            with pa.ipc.new_stream(file, _SCHEMA) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # stays when the file is closed
    except OSError as error:
        remedy = "make room there, or set TMPDIR to a folder on a disk with more room"
        raise OSError(error.errno, f"{folder} cannot hold the passages ({error.strerror}): {remedy}") from error
    return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()


def _languages(batch: pa.RecordBatch) -> list[str]:
    """The language of each row; all rows of a language share one string."""
    codes = batch["language"].dictionary.to_pylist()
    return [codes[n] for n in batch["language"].indices.to_pylist()]


def _start_and_length(place: slice, size: int) -> tuple[int, int]:
    start, stop, step = place.indices(size)
    assert step == 1, "passages are cut without a step"
    return start, max(0, stop - start)
