"""Reads relevance judgements (qrels): BEIR's three columns with a header, or TREC's four."""

from collections.abc import Iterator

from hybridir.data import storage
from hybridir.data.records import BadRow, Rejected
from hybridir.runtime.secrets import without_secrets

_HIGHEST = 2**31
"""Grades above it, of which sums are not exact or not finite, are broken."""


def read_qrels(path: str) -> Iterator[tuple[str, str, int] | Rejected | None]:
    """(query id, passage id, score) for each line, None for a header; also reads TREC's four columns.

    A header is a first line whose last column is no number. A score is a whole number; `1.0` is one.
    """
    file = without_secrets(storage.plain(path))
    for number, (_, raw) in enumerate(storage.read_lines(path), start=1):
        try:
            columns = storage.decode(raw).split("\t")
            if len(columns) == 1:
                columns = columns[0].split()
            if number == 1 and len(columns) in (3, 4) and not _is_number(columns[-1]):
                yield None
                continue
            query, passage, score = columns if len(columns) == 3 else (columns[0], *columns[2:])
            if not float(score).is_integer() or abs(float(score)) > _HIGHEST:
                raise ValueError
            yield query, passage, int(float(score))
        except ValueError:
            value = f"expected query id, passage id, score; found {(raw or b'')[:80]!r}"
            yield Rejected(file=file, line=number, reason="broken line", value=value)
        except BadRow as bad:
            yield Rejected(file=file, line=number, reason=bad.reason, value=bad.value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
