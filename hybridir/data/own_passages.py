"""Passages to be searched: alone, or those of pairs.

Alone they are a JSON object a line, with `id` (or `_id`, `docid`), `text`, `title`, `language`.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath

from hybridir.data.config import Source
from hybridir.data.corpus import Corpus
from hybridir.data.formats import ROWS, recognise
from hybridir.data.intake import hash_of
from hybridir.data.passages import Passages
from hybridir.data.records import BadRow, Passage, place
from hybridir.data.rows import document, language_of, parse_json
from hybridir.data.storage import find_files, read_lines
from hybridir.data.texts import as_read

_IDS = ("id", "_id", "docid")
_LINE = "every line is a passage, {id, text, language} with an optional title, or every line a pair with its query"


def read_passages(path: str, language: str | None = None) -> Passages:
    """The passages in a file, or in all files of a folder, that end with `.jsonl` or `.jsonl.gz`.

    Of a folder in BEIR's layout, `corpus.jsonl` alone. In the path, `{language}` stands for any language code;
    `language` is that of rows that name none.

    Raises:
        ValueError: there is no file, a line is no passage, or an id stands twice in a language; with file and line.
    """
    passages = Passages(_read(Source(format="jsonl", path=path, language=language)))
    if not len(passages):
        raise ValueError(f"{path} holds no passages")
    return _checked(passages, path)


def holds_pairs(path: str) -> bool:
    """Whether a path holds pairs, not passages alone: rows with a query, or files that are no JSON lines."""
    source = Source(path=path)
    try:
        found = recognise.format_of(source, ROWS)
        if found != "jsonl":
            return found in ROWS
        files = find_files(source, (".jsonl", ".jsonl.gz", ".json"))
        return "query" in parse_json(next((line for _, line in read_lines(files[0].path)), b"{}"))
    except (BadRow, ValueError):  # who reads it says what is wrong with it
        return False


def passages_of(corpus: Corpus, path: str) -> Passages:
    """The passages of pairs, each text once in a language, without hard negatives.

    The id is that of the passage, else that of its group. `ValueError` if two have the same id.
    """
    return _checked(Passages(_of_pairs(corpus)), path)


def _of_pairs(corpus: Corpus) -> Iterator[Passage]:
    seen = set[int]()
    used_N = corpus.group_of_row() >= 0
    for number, start in enumerate(corpus.chunk_start[:-1].tolist()):
        chunk = corpus.chunk(number).select(["group_id", "language", "passage"])
        for used, row in zip(used_N[start : start + len(chunk)].tolist(), chunk.to_pylist(), strict=True):
            passage, language = row["passage"], row["language"]
            if used and (key := hash_of(language, as_read(passage["text"]))) not in seen:
                seen.add(key)
                name = passage["passage_id"] or row["group_id"]
                yield Passage(passage_id=name, language=language, text=passage["text"])


def _checked(passages: Passages, path: str) -> Passages:
    """The passages; `ValueError` if an id stands twice in a language."""
    again = {passages.ids[place] for place, _ in passages.repeats()}  # also of one passage in two languages
    counts = Counter(one for one in passages.full_ids() if one.partition(":")[2] in again) if again else Counter()
    if twice := [one for one, count in counts.items() if count > 1]:
        raise ValueError(f"{path}: {len(twice)} ids are used twice, first {twice[0]!r}: give each passage its own")
    return passages


def _read(source: Source) -> Iterator[Passage]:
    files = find_files(source, (".jsonl", ".jsonl.gz"))
    corpora = [file for file in files if PurePath(file.name).name.startswith("corpus.jsonl")]
    for file in corpora or files:
        for line, (_, content) in enumerate(read_lines(file.path), start=1):
            try:
                row = parse_json(content)
                field = next((name for name in _IDS if row.get(name) is not None), "id")
                yield document(row, field, language_of(row, file.language or source.language))
            except BadRow as error:
                where = place(file.name, line)
                raise ValueError(f"{where}: {error.reason} ({error.value}): {_LINE}") from None
