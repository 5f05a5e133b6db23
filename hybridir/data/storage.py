"""Finds the files of a source, local or remote, names them without secrets, and reads them line by line.

A path is local or a URI that pyarrow opens (s3://, gs://, ...), with or without a query string. `{language}` in a path
stands for any language code, so that parallel files or folders are one source.
"""

import codecs
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.fs as pafs

from hybridir.data.bounds import EACH, Growth
from hybridir.data.config import Source
from hybridir.data.languages import by_code, check_languages
from hybridir.data.records import BadRow
from hybridir.runtime.secrets import without_secrets

MAX_LINE = 10_000_000
"""Largest number of bytes of a line; longer lines are rejected."""
PLACEHOLDER = "{language}"
_HEAD = 4096
"""Bytes at the beginning of a file that say what it is."""
_KINDS = {
    b"\x1f\x8b": "compressed by gzip: unpack it, or, where its name is free, let it end with .gz",
    b"PK\x03\x04": "a ZIP archive or a workbook of a spreadsheet program: unpack it, or save it as CSV in UTF-8",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ": "compressed by xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it",
    b"PAR1": "a Parquet file: convert it, or, where its name is free, let it end with .parquet",
}
"""First bytes of files that are no text in UTF-8 -> what they are, and the remedy."""


@dataclass(frozen=True)
class File:
    """A file of a source. `path` opens it and may have secrets; `name` is for messages and has none."""

    path: str
    language: str | None
    size: int
    changed: int  # ns

    @property
    def name(self) -> str:
        return without_secrets(plain(self.path))

    @property
    def identity(self) -> str:
        return f"{self.name} {self.size} {self.changed}"


def find_files(source: Source, suffixes: tuple[str, ...], names: str = "*") -> list[File]:
    """The files at `source.path` (a file or a folder) with one of the endings `suffixes`, language by language.

    Of a folder, only those whose names match the pattern `names`.

    Raises:
        ValueError: the path is empty or does not exist, or has no such file.
    """
    if not source.path:
        raise ValueError(f"data.path is empty: name the file or folder of the {source.format} data")
    files = []
    for language, path in by_language(source.path, source.languages):
        system, inner = open_path(path)
        info = system.get_file_info(inner)
        if info.type == pafs.FileType.NotFound:
            raise ValueError(
                f"data.path {without_secrets(path)!r} does not exist: check it. If the data has moved, give the new "
                "path; a resumed run accepts it if the contents are the same"
            )
        infos = [info]
        if info.type == pafs.FileType.Directory:
            inside = system.get_file_info(pafs.FileSelector(inner))
            infos = sorted((i for i in inside if fnmatchcase(i.base_name, names)), key=lambda i: i.path)
        kept = [i for i in infos if i.is_file and i.path.endswith(suffixes) and not i.base_name.startswith(".")]
        if not kept:
            lacks = "does not end" if info.is_file else "has no file that ends"
            named = f" and is named {names}, as published: name the file itself by data.path" if names != "*" else ""
            raise ValueError(f"{without_secrets(path)!r} {lacks} with {', '.join(suffixes)}{named}")
        files += [
            File(path.replace(inner, i.path, 1) if "://" in path else i.path, language, i.size, i.mtime_ns or 0)
            for i in kept
        ]
    return files


def by_language(path: str, languages: tuple[str, ...] | None, field: str = "data.path") -> list[tuple[str | None, str]]:
    """(language, path) for each language code found in place of `{language}`; (None, path) if that is not in the path.

    The codes are found where `{language}` stands first, and put wherever it stands.
    Errors name the configuration field `field`.
    """
    if PLACEHOLDER not in path:
        return [(None, path)]
    bare = plain(path)
    query = path[len(bare) :]
    folder, slash, _ = bare.partition(PLACEHOLDER)[0].rpartition("/")
    name = bare[len(folder + slash) :].partition("/")[0]
    system, inner = open_path((folder + slash or ".") + query)
    infos = system.get_file_info(pafs.FileSelector(inner, allow_not_found=True))
    first, *others = map(re.escape, name.split(PLACEHOLDER))
    pattern = re.compile(first + r"([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)" + r"\1".join(others))
    found = sorted(m[1] for info in infos if (m := pattern.fullmatch(info.base_name)))
    if not found:
        raise ValueError(
            f"no file matches {field} {without_secrets(path)!r}: {PLACEHOLDER} must stand for a code like en"
        )
    codes = by_code(found, f"{field} {without_secrets(path)!r}")
    chosen = check_languages(languages or codes, codes, without_secrets(path))
    return [(code, path.replace(PLACEHOLDER, codes[code])) for code in chosen]


def open_path(path: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path within it."""
    if "://" not in path:
        return pafs.LocalFileSystem(), os.path.abspath(path)
    try:
        return pafs.FileSystem.from_uri(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{without_secrets(path)!r} cannot be opened: {without_secrets(str(error))}") from None


def plain(path: str) -> str:
    """A path or URI without its query string."""
    return path.partition("?")[0] if "://" in path else path


def child(folder: str, *names: str) -> str:
    """The path `names` in `folder`, which can be a URI with a query string."""
    bare = plain(folder)
    return "/".join((bare.rstrip("/"), *names)) + folder[len(bare) :]


def parent(path: str) -> str:
    """The folder of a path, which can be a URI with a query string."""
    bare = plain(path)
    return bare.rstrip("/").rpartition("/")[0] + path[len(bare) :]


def read_lines(path: str, start: int = 0, end: int = -1) -> Iterator[tuple[int, bytes | None]]:
    """(first byte, line) of each line that begins in the bytes `start` to `end` (-1: end of file); None: over-long."""
    system, inner = open_path(path)
    try:
        opened = system.open_input_stream(inner) if end < 0 else system.open_input_file(inner)
        growth = Growth(without_secrets(plain(path)), system.get_file_info(inner).size or 0 if end < 0 else 0)
        with opened, io.BufferedReader(opened, 1 << 20) as file:
            position = start
            if not start:
                _check_kind(file.peek(_HEAD)[:_HEAD], path)
            if start:
                file.seek(start - 1)
                position += _skip_line(file, growth) - 1
            while end < 0 or position < end:
                line = file.readline(MAX_LINE + 1)
                if not line:
                    return
                began, position = position, position + len(line)
                growth.add(len(line) + EACH)
                if len(line) > MAX_LINE and not line.endswith(b"\n"):
                    position += _skip_line(file, growth)
                    yield began, None
                else:
                    yield began, line.removesuffix(b"\n").removesuffix(b"\r")
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{without_secrets(path)} cannot be read: {without_secrets(str(error))}") from None


def decode(line: bytes | None) -> str:
    """The text of a line; `BadRow` if it is over-long (None), empty or not UTF-8."""
    if line is None:
        raise BadRow("over-long line", f"more than {MAX_LINE} bytes")
    if b"\0" in line:
        raise BadRow("NUL byte", ascii(line[:80]))
    try:
        text = line.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise BadRow("invalid UTF-8", ascii(line[max(0, error.start - 40) : error.start + 40])) from None
    if not text.strip():
        raise BadRow("empty line", "")
    return text


def _check_kind(head: bytes, path: str) -> None:
    """`ValueError` if a file begins as no text in UTF-8 does, or one that is named as JSON lines as none does."""
    kind = next((kind for begin, kind in _KINDS.items() if head.startswith(begin)), None)
    if encoding := _wide_encoding(head):
        kind = f"in {encoding}: convert it to UTF-8, as with iconv -f {encoding} -t UTF-8"
    elif plain(path).removesuffix(".gz").endswith((".jsonl", ".json")):
        first, *others = head.removeprefix(b"\xef\xbb\xbf").strip().split(b"\n", 1)
        first = first.strip()
        if first == b"{" or (first.startswith(b"[") and not (first.endswith(b"]") and others)):
            kind = "one JSON value, not an object a line: convert it, as with jq -c '.[]' FILE > NEW"
    if kind:
        raise ValueError(f"{without_secrets(plain(path))} is {kind}")


def _wide_encoding(head: bytes) -> str:
    """UTF-16 or UTF-32 if a file begins as in one of them, and with LE or BE if no mark says which; else empty.

    No text has the character NUL. Without a mark, UTF-16 is told by its first two characters, if they are ASCII, else
    by the end of a line in what is no UTF-8.
    """
    if len(head) > 3 and b"\0\0" in (head[:2], head[2:4]):
        marked = head[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
        return "UTF-32" if marked else "UTF-32BE" if head[:2] == b"\0\0" else "UTF-32LE"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    units = {head[n : n + 2] for n in range(0, len(head), 2)} if b"\0" in head else set()
    for name, ascii_NUL, end in (("UTF-16LE", head[1:4:2], b"\n\0"), ("UTF-16BE", head[0:4:2], b"\0\n")):
        if ascii_NUL == b"\0\0" or (end in units and "\ufffd" in head[:-3].decode(errors="replace")):
            return name
    return ""


def _skip_line(file: io.BufferedReader, growth: Growth) -> int:
    """Reads to the end of the line; returns the number of bytes."""
    skipped = 0
    while piece := file.readline(1 << 20):
        skipped += len(piece)
        growth.add(len(piece))
        if piece.endswith(b"\n"):
            break
    return skipped
