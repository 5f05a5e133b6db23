"""Reads relevance judgements (qrels): BEIR's three columns, or TREC's four, with or without a header."""

import re
from collections.abc import Iterator

from hybridir.data import storage
from hybridir.data.records import BadRow, Rejected
from hybridir.runtime.secrets import without_secrets

_HIGHEST = 2**31
"""Grades above it, of which sums are not exact or not finite, are broken."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)
_NAMES = ("q|topic", "corpus|doc|pass|^p(_|-)?id|^did", "score|rel|grade|label|judg")
"""What the names of the columns of query, passage and score begin with, or hold."""


def read_qrels(path: str) -> Iterator[tuple[str, str, int] | Rejected | None]:
    """(query id, passage id, score) for each line; None for a header and for comments (`#`) before the judgements.

    Columns are parted by tabs, else by white space, else by commas. A header is the first line that is no comment, if
    its last column is no number; its names say which column is which, where they do and lines have as many columns.
    Otherwise these are query, passage, score, or TREC's query, iteration, passage, score. A score is a whole number;
    `1.0` is one.
    """
    file = without_secrets(storage.plain(path))
    begun, width = False, 0
    places: list[int] = []
    for number, (_, raw) in enumerate(storage.read_lines(path), start=1):
        try:
            columns = _columns(storage.decode(raw))
            comment = columns[0].startswith("#")
            if not begun and not _is_number(columns[-1]) and (comment or not width):
                yield None
                if not comment:
                    width, places = len(columns), _places(columns)
                continue
            begun = True
            yield _judgement(columns, places if len(columns) == width else [])
        except BadRow as bad:
            yield Rejected(file=file, line=number, reason=bad.reason, value=bad.value)


def _columns(line: str) -> list[str]:
    """The columns of a line that is not blank."""
    if "\t" in line:
        return line.split("\t")
    columns = line.split()
    return re.split(r"\s*,\s*", line.strip()) if all(one.endswith(",") for one in columns[:-1]) else columns


def _judgement(columns: list[str], places: list[int]) -> tuple[str, str, int]:
    found = [columns[place] for place in places]
    if not found and len(columns) in (3, 4):
        found = [columns[0], *columns[-2:]]
    if not found or not _is_number(found[-1]):
        raise BadRow("broken line", f"expected query id, passage id, score; found {', '.join(columns)[:80]!a}")
    query, passage, score = found
    if not float(score).is_integer() or abs(float(score)) > _HIGHEST:
        raise BadRow("broken line", f"expected a whole number of at most {_HIGHEST} as score; found {score[:80]!a}")
    return query, passage, int(float(score))


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.strip()) is not None


def _places(header: list[str]) -> list[int]:
    """The columns of query, passage and score; none if the names do not say."""
    named = [[n for n, name in enumerate(header) if re.search(kind, name.lower())] for kind in _NAMES]
    places = [found[0] for found in named if len(found) == 1]
    return places if len(set(places)) == len(_NAMES) else []
