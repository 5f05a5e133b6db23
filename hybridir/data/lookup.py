"""Finds texts of a large file by id without holding them in memory: 24 bytes per line, one read per text."""

import hashlib
import shutil
import tempfile
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO, cast

import numpy as np

from hybridir.data.records import REPEATED, BadRow, Passage, Rejected
from hybridir.data.storage import decode, open_path, plain, read_lines
from hybridir.data.texts import as_read
from hybridir.runtime.secrets import without_secrets

Parse = Callable[[bytes | None], Passage]
"""A line (None if it is over-long) -> its id and text; raises `BadRow`."""
_KEPT = 64
"""Texts that are kept in memory: a long one that many lines name is not read again for each of them."""


class Texts:
    """The texts of a file by id. Remote files are first copied here.

    `get(id)` is the text with this id, None if there is none; the first text if several have the id.
    `rejected` lists the lines that are not usable, and a note for every line that says the same again.
    """

    def __init__(self, path: str, parse: Parse) -> None:
        self.get = lru_cache(maxsize=_KEPT)(self._find)
        self._parse, name = parse, without_secrets(plain(path))
        self.rejected: list[Rejected] = []
        self._file: BinaryIO
        if "://" in path:
            copy = tempfile.NamedTemporaryFile()  # noqa: SIM115 (stays open with this object)
            system, inner = open_path(path)
            with system.open_input_stream(inner) as remote:
                shutil.copyfileobj(remote, copy, 1 << 20)
            copy.flush()
            self._file, path = cast(BinaryIO, copy), copy.name
        else:
            self._file = open(path, "rb")  # noqa: SIM115
        keys, starts, lines = array("Q"), array("Q"), array("L")
        for line, (start, raw) in enumerate(read_lines(path), start=1):
            try:
                keys.append(_key(parse(raw).passage_id))
                starts.append(start)
                lines.append(line)
            except BadRow as bad:
                self.rejected.append(Rejected(file=name, line=line, reason=bad.reason, value=bad.value))
        key_N = np.frombuffer(keys, dtype=np.uint64)
        order = np.argsort(key_N, kind="stable")
        self._keys, self._starts = key_N[order], np.frombuffer(starts, dtype=np.uint64)[order]
        for again in np.flatnonzero(self._keys[1:] == self._keys[:-1]) + 1:
            line, text = lines[order[again]], self._at(int(again))
            first = self.get(text.passage_id)
            if first and as_read(text.text) == as_read(first.text):
                self.rejected.append(Rejected(file=name, reason=REPEATED, value=name))
            else:
                self.rejected.append(Rejected(file=name, line=line, reason="duplicate", value=f"id {text.passage_id}"))

    def _find(self, text_id: str) -> Passage | None:
        key = np.uint64(_key(text_id))
        for place in range(int(np.searchsorted(self._keys, key)), len(self._keys)):
            if self._keys[place] != key:
                return None
            if (found := self._at(place)).passage_id == text_id:
                return found
        return None

    def _at(self, place: int) -> Passage:
        self._file.seek(int(self._starts[place]))
        return self._parse(self._file.readline().removesuffix(b"\n").removesuffix(b"\r"))


def parse_tsv(line: bytes | None, language: str) -> Passage:
    """Parses a line of id, tab and text."""
    text_id, tab, text = decode(line).partition("\t")
    if not tab:
        raise BadRow("broken line", f"expected id, tab, text; found {text_id[:80]}")
    return Passage(passage_id=text_id, language=language, text=text)


def _key(text_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(text_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
