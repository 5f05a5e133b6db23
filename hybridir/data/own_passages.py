"""Reads passages alone: a JSON object a line, with `id` (or `_id`, `docid`), `text`, `title`, `language`."""

from collections import Counter
from collections.abc import Iterator

from hybridir.data.config import Source
from hybridir.data.passages import Passages
from hybridir.data.records import BadRow, Passage, place
from hybridir.data.rows import document, language_of, parse_json
from hybridir.data.storage import find_files, read_lines

_IDS = ("id", "_id", "docid")


def read_passages(path: str, language: str | None = None) -> Passages:
    """The passages in a file, or in all files of a folder, that end with `.jsonl` or `.jsonl.gz`.

    In the path, `{language}` stands for any language code; `language` is that of rows that name none.

    Raises:
        ValueError: there is no file, a line is no passage, or an id stands twice in a language; with file and line.
    """
    passages = Passages(_read(Source(format="jsonl", path=path, language=language)))
    if not len(passages):
        raise ValueError(f"{path} holds no passages")
    again = {passages.ids[place] for place, _ in passages.repeats()}  # also of one passage in two languages
    counts = Counter(one for one in passages.full_ids() if one.partition(":")[2] in again) if again else Counter()
    if twice := [one for one, count in counts.items() if count > 1]:
        raise ValueError(f"{path}: {len(twice)} ids are used twice, first {twice[0]!r}: give each passage its own")
    return passages


def _read(source: Source) -> Iterator[Passage]:
    for file in find_files(source, (".jsonl", ".jsonl.gz")):
        for line, (_, content) in enumerate(read_lines(file.path), start=1):
            try:
                row = parse_json(content)
                field = next((name for name in _IDS if row.get(name) is not None), "id")
                yield document(row, field, language_of(row, file.language or source.language))
            except BadRow as error:
                where = place(file.name, line)
                raise ValueError(f"{where}: {error.reason} ({error.value}): every line is a passage") from None
