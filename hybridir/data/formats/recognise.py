"""The format of a source whose format is not named: it follows from the name of the file, or from what a folder holds.

No row is checked here: the first bytes of a file tell Tevatron's rows and those of sentence-transformers from others.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hybridir.data import storage
from hybridir.data.config import Source
from hybridir.data.languages import code_of, is_known
from hybridir.runtime.secrets import without_secrets

SUFFIXES = {".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".csv": "csv", ".tsv": "tsv"}
"""Format by the ending of a file; each also with `.gz`."""
ROWS_OF = {"tevatron": {"query", "positive_passages"}, "sentence-transformers": {"anchor", "positive"}}
"""Fields that only rows of these formats have."""
_PEEK = 1_000_000


def format_of(source: Source, formats: Iterable[str]) -> str:
    """The format of `source.path`, one of `formats`; the sample if there is no path.

    Raises:
        ValueError: the path is not there, or its format cannot be told.
    """
    if not source.path:
        return "sample"
    shown = without_secrets(source.path)
    if source.path.startswith("hf://"):
        raise _unknown(shown, "a dataset of the hub does not say which fields its rows have", formats)
    path = storage.by_language(source.path, source.languages)[0][1]
    system, inner = storage.open_path(path)
    info = system.get_file_info(inner)
    if info.type == pafs.FileType.NotFound:
        raise ValueError(f"data.path {shown!r} does not exist: check it")
    if info.is_file:
        if by_name := _by_suffix(info.base_name):
            return _by_rows(system, info.path, by_name)
        raise _unknown(shown, f"its name does not end with {', '.join(SUFFIXES)}", formats)
    inside = [one for one in system.get_file_info(pafs.FileSelector(inner)) if not one.base_name.startswith(".")]
    files, folders = ([one for one in inside if one.is_file == wanted] for wanted in (True, False))
    names, within = {one.base_name for one in files}, {one.base_name for one in folders}
    if {"corpus.jsonl", "queries.jsonl"} <= names and "qrels" in within:
        return "beir"
    if {"collections", "queries"} <= within:
        return "mmarco"
    files.sort(key=lambda one: one.path)
    stems = [one.base_name.removesuffix(".json") for one in files if one.base_name.endswith(".json")]
    if (
        stems
        and all(is_known(code_of(stem)) for stem in stems)
        and b'"sentence_breaks"' in _head(system, files, ".json")
    ):
        return "lareqa"
    kinds = {by_name: one.path for one in reversed(files) if (by_name := _by_suffix(one.base_name))}
    if len(kinds) == 1:
        by_name, first = next(iter(kinds.items()))
        return _by_rows(system, first, by_name)
    why = f"the folder holds {' and '.join(sorted(kinds))} files" if kinds else "the folder holds none of its files"
    raise _unknown(shown, why, formats)


def _by_suffix(name: str) -> str:
    bare = name.removesuffix(".gz").lower()
    return next((by_name for suffix, by_name in SUFFIXES.items() if bare.endswith(suffix)), "")


def _by_rows(system: pafs.FileSystem, path: str, by_name: str) -> str:
    """`by_name`, or a format of `ROWS_OF` if the file has its fields."""
    fields: set[str] = set()
    if by_name == "parquet":
        try:
            with system.open_input_file(path) as file:
                fields = set(pq.read_schema(file).names)
        except (OSError, ValueError):  # the reader of the file says what is wrong with it
            return by_name
    else:
        with system.open_input_stream(path) as stream:  # also unzips
            line = bytes(stream.read(_PEEK)).split(b"\n", 1)[0]
        fields = _fields(line, by_name)
    return next((name for name, wanted in ROWS_OF.items() if wanted <= fields), by_name)


def _fields(line: bytes, by_name: str) -> set[str]:
    """The names of the fields in the first line of a text file; none if it has no such names."""
    try:
        text = line.decode("utf-8-sig")
        if by_name != "jsonl":
            return set(next(csv.reader([text], delimiter="\t" if by_name == "tsv" else ","), []))
        row: Any = json.loads(text)
    except (ValueError, csv.Error):  # the reader of the file says what is wrong with it
        return set()
    return set(row) if isinstance(row, dict) else set()


def _head(system: pafs.FileSystem, files: Sequence[pafs.FileInfo], suffix: str) -> bytes:
    """The first bytes of the first file with an ending."""
    first = next(one for one in files if one.base_name.endswith(suffix))
    with system.open_input_stream(first.path) as stream:
        return bytes(stream.read(_PEEK))


def _unknown(shown: str, why: str, formats: Iterable[str]) -> ValueError:
    return ValueError(
        f"the format of data.path {shown!r} cannot be told: {why}. Name it by data.format, one of {', '.join(formats)}"
    )
