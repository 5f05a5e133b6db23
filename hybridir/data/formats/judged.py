"""Reads benchmarks with queries, passages and judgements in separate files, in one pass.

A passage with a score above 0 is relevant, and the score is its grade; a score of 0 or less means the same as no
judgement. A broken line is an error that names the line. These are left out, and the notes of the benchmark count them:

- queries without judgements in the split;
- passages with neither title nor text (published corpora have some), and the judgements that name them;
- second copies of a query or passage with the same text (as `texts.as_read` gives it);
- judgements that name a query or passage that does not exist.

Some queries are passages themselves (ArguAna, Quora). Such a passage is not ranked for its own query: the two must have
the same id and the same text (compared in NFC, with all white space alike).

A judged query without a relevant passage stays in the benchmark: the evaluation excludes and counts it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from hybridir.data import storage
from hybridir.data.formats.qrels import read_qrels
from hybridir.data.languages import is_known, remedy
from hybridir.data.passages import Passages
from hybridir.data.records import BadRow, Benchmark, Passage, Query, Rejected, place
from hybridir.data.texts import MAX_NAME, MAX_TEXT, as_read, fault, is_blank
from hybridir.runtime.secrets import without_secrets

Parse = Callable[[bytes | None, str], Passage]
"""(line or None if it is over-long, language) -> id and text; raises `BadRow`."""
EMPTY = -1
"""The position of a passage without text."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of one language; passages can be in several files."""

    language: str
    queries: str
    qrels: str
    passages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the files are read.

    Attributes:
        parallel: whether queries with the same id in different languages are translations of each other.
        origin: a sentence that says where to get the data; it ends every error message.
        parse_body: as `parse_passage`, without the title; None if no query can be a passage.
        is_whole: whether a judgement that names an absent query or passage is an error.
    """

    parse_query: Parse
    parse_passage: Parse
    parallel: bool
    origin: str
    parse_body: Parse | None = None
    is_whole: bool = False

    def group(self, language: str, query_id: str) -> str:
        """The group id of a query, which ties it to its translations and its judgements."""
        return query_id if self.parallel else f"{language}:{query_id}"

    def error(self, path: str, line: int | None, message: str) -> ValueError:
        """An error that names file, line and `origin`."""
        return ValueError(f"{place(without_secrets(storage.plain(path)), line)}: {message}. {self.origin}")


def read(name: str, files: Sequence[Files], layout: Layout) -> Benchmark:
    """Reads a benchmark in the languages of `files`, in this order. A cluster is a query with its translations.

    Raises:
        ValueError: a file is missing or empty, a line is broken, or no passage is relevant.
    """
    for one in files:
        if not is_known(one.language):
            unknown = [one.language for one in files if not is_known(one.language)]
            remedies = ", ".join(f"{code!r} ({remedy(code)})" for code in unknown)
            message = f"not language codes of CLDR: {remedies}, or exclude them with benchmark.languages"
            raise layout.error(one.queries, None, message)
        _require(one, layout)
    notes: list[str] = []
    texts = [_read_queries(one, layout, notes) for one in files]
    known = {layout.group(one.language, i) for one, found in zip(files, texts, strict=True) for i in found}
    judged = [_read_judgements(one, layout, known, notes) for one in files]
    asked = {group for found in judged for group in found}
    queries: list[Query] = []
    for one, found in zip(files, texts, strict=True):
        queries += _asked(one, layout, found, asked, notes)
    passages: list[Passages] = []
    relevant: dict[str, dict[int, int]] = {}
    itself: dict[str, int] = {}
    for one, positives, found in zip(files, judged, texts, strict=True):
        wanted = found.keys() | {i for judgements in positives.values() for i in judgements}
        read_here, rows, same = _read_passages(one, layout, found, wanted, notes)
        before = sum(map(len, passages))
        places = {i: row if row == EMPTY else before + row for i, row in rows.items()}
        passages.append(read_here)
        itself |= {f"{one.language}:{i}": places[i] for i in same}
        _resolve(one, layout, positives, places, relevant, notes)
    if not relevant:
        why = "; ".join(note for note in notes if "judgements" in note)
        message = (
            f"no relevant passage is there with a text, so there is nothing to find ({why}): complete the passages"
        )
        raise layout.error(files[0].qrels, None, message)
    without = Counter(query.language for query in queries if query.group_id not in relevant)
    if len(files) > 1 and not layout.parallel:
        notes.append(f"{name} judges only passages in the language of the query: all others count as irrelevant")
    notes += [f"{n} queries in {language} have no relevant passage: excluded" for language, n in without.items()]
    of_query = [relevant.get(query.group_id, {}) for query in queries]
    grades = sorted({grade for found in of_query for grade in found.values()})
    if len(grades) > 1:
        notes.append(
            f"judgements are graded ({', '.join(map(str, grades))}): nDCG takes the grade as gain, as trec_eval does; "
            f"for all other measures, every grade from {grades[0]} is relevant"
        )
    own = [-1 if (n := itself.get(q.query_id, -1)) in found else n for q, found in zip(queries, of_query, strict=True)]
    if n_own := sum(n >= 0 for n in own):
        notes.append(
            f"{n_own} of {len(queries)} queries are passages themselves (the same id and text): each is ranked without "
            "its own passage"
        )
    return Benchmark(
        name=name,
        languages=tuple(one.language for one in files),
        queries=tuple(queries),
        passages=Passages.joined(passages),
        relevant=tuple(map(tuple, of_query)),
        notes=tuple(notes),
        grades=tuple(tuple(found.values()) for found in of_query) if len(grades) > 1 else (),
        own=tuple(own) if n_own else (),
    )


def _require(files: Files, layout: Layout) -> None:
    """`ValueError` naming the first file that is missing or empty."""
    for path in (files.queries, files.qrels, *files.passages):
        system, inner = storage.open_path(path)
        info = system.get_file_info(inner)
        if not info.is_file or not info.size:
            state = "is empty" if info.is_file else "does not exist"
            remedy = "complete the folder, or choose benchmark.split and benchmark.languages that it has"
            raise layout.error(path, None, f"the file {state} (language {files.language}): {remedy}")


def _lines(path: str, parse: Parse, language: str, layout: Layout) -> Iterator[tuple[int, Passage]]:
    """(line number, parsed line), each with the checks of `intake.check`; blank lines are skipped."""
    try:
        for line, (_, raw) in enumerate(storage.read_lines(path), start=1):
            if raw is None or raw.strip():
                parsed = parse(raw, language)
                for field, text, most in (("id", parsed.passage_id, MAX_NAME), ("text", parsed.text, MAX_TEXT)):
                    if found := fault(text, most):
                        raise BadRow(found[0], f"{field}: {found[1]}")
                if is_blank(parsed.passage_id):
                    raise BadRow("empty id", ascii(parsed.passage_id))
                yield line, parsed
    except BadRow as bad:
        raise layout.error(path, line, f"{bad.reason}: {bad.value}: fix the line, or fetch the file again") from None
    except ValueError as error:
        raise ValueError(f"{error}; or fetch the file again. {layout.origin}") from None


def _read_queries(files: Files, layout: Layout, notes: list[str]) -> dict[str, tuple[int, str]]:
    """Query id -> (line, text)."""
    found: dict[str, tuple[int, str]] = {}
    repeated = 0
    for line, query in _lines(files.queries, layout.parse_query, files.language, layout):
        before, text = found.setdefault(query.passage_id, (line, query.text))
        if as_read(text) != as_read(query.text):
            message = f"query id {query.passage_id!r} is already in line {before}: keep one of the two"
            raise layout.error(files.queries, line, message)
        repeated += before != line
    if not found:
        raise layout.error(files.queries, None, f"there is no query in {files.language}")
    if repeated:
        notes.append(f"{repeated} queries in {files.language} are in their file again, with the same text: left out")
    return found


def _read_judgements(
    files: Files, layout: Layout, known: set[str], notes: list[str]
) -> dict[str, dict[str, tuple[int, int]]]:
    """Judged group -> {id of a relevant passage: (line of its judgement, grade)}."""
    absent: list[str] = []
    scores: dict[tuple[str, str], tuple[int, int]] = {}
    positives: dict[str, dict[str, tuple[int, int]]] = {}
    for line, judgement in enumerate(read_qrels(files.qrels), start=1):
        if isinstance(judgement, Rejected):
            if judgement.reason != "empty line":
                raise layout.error(files.qrels, line, f"{judgement.reason}: {judgement.value}: fix the line")
        elif judgement:
            query, passage, score = judgement
            if (group := layout.group(files.language, query)) not in known:
                if layout.is_whole:
                    names = without_secrets(files.queries)
                    message = f"query {query!r} is unknown: it must be in {names}, or in the file of a translation"
                    raise layout.error(files.qrels, line, message)
                absent.append(f"query {query!r} in line {line}")
                continue
            before, earlier = scores.setdefault((query, passage), (score, line))
            if max(before, 0) != max(score, 0):
                message = (
                    f"passage {passage!r} has the score {score} for query {query!r}, and {before} in line {earlier}"
                )
                raise layout.error(files.qrels, line, f"{message}: keep one of the two")
            relevant = positives.setdefault(group, {})
            if score > 0:
                relevant.setdefault(passage, (line, score))
    _note_absent(absent, "queries that are in no file", files, notes)
    if not any(positives.values()):
        raise layout.error(files.qrels, None, "no passage has a score above 0, so there is nothing to find")
    return positives


def _asked(
    files: Files, layout: Layout, texts: dict[str, tuple[int, str]], asked: set[str], notes: list[str]
) -> Iterator[Query]:
    """The queries of one language that have a judgement in any language."""
    left_out = 0
    for query_id, (line, text) in texts.items():
        if (group := layout.group(files.language, query_id)) not in asked:
            left_out += 1
            continue
        if is_blank(text):
            message = f"query {query_id!r} has no text: write it, or remove the query and its judgements"
            raise layout.error(files.queries, line, message)
        name = f"{files.language}:{query_id}"
        yield Query(query_id=name, language=files.language, text=text, group_id=group, cluster=group)
    if left_out:
        where = f"{without_secrets(files.queries)} are not judged in {without_secrets(files.qrels)}"
        notes.append(f"{left_out} of {len(texts)} queries in {where}: left out")


def _read_passages(
    files: Files, layout: Layout, queries: dict[str, tuple[int, str]], wanted: Collection[str], notes: list[str]
) -> tuple[Passages, dict[str, int], list[str]]:
    """The passages of one language.

    Also returns the position of each id that is `wanted` (`EMPTY` if it has no text), and the ids of the passages whose
    text is that of the query with the same id.
    """
    places: dict[str, int] = {}
    empty: dict[int, tuple[str, int]] = {}
    same: list[str] = []

    def parse(raw: bytes | None, language: str) -> Passage:
        passage = layout.parse_passage(raw, language)
        if layout.parse_body and passage.passage_id in queries:
            _, query = queries[passage.passage_id]
            if as_read(layout.parse_body(raw, language).text) == as_read(query) != "":
                same.append(passage.passage_id)
        return passage

    def found() -> Iterator[Passage]:
        for n, (path, line, passage) in enumerate(_passages(files, layout, parse)):
            if passage.passage_id in wanted:
                places.setdefault(passage.passage_id, n)
            if is_blank(passage.text):
                empty[n] = path, line
            yield passage

    passages = Passages(found())
    kept_P = np.ones(len(passages), dtype=bool)
    for again, before in passages.repeats():
        if as_read(passages[again].text) != as_read(passages[before].text):
            path, line, passage = next(islice(_passages(files, layout, layout.parse_passage), again, None))
            message = f"passage id {passage.passage_id!r} occurs twice, with two texts: remove one of the two"
            raise layout.error(path, line, message)
        kept_P[again] = False
        empty.pop(again, None)
    repeated = np.count_nonzero(~kept_P)
    kept_P[list(empty)] = False
    if not kept_P.any():
        raise layout.error(files.passages[0], None, f"there is no passage in {files.language}")
    if empty:
        path, line = next(iter(empty.values()))
        first = place(without_secrets(storage.plain(path)), line)
        notes.append(f"{len(empty)} passages in {files.language} have no text, the first at {first}: left out")
    if repeated:
        notes.append(f"{repeated} passages in {files.language} are in their file again, with the same text: left out")
    row_P = np.where(kept_P, np.cumsum(kept_P) - 1, EMPTY)
    return passages.kept(kept_P), {i: int(row_P[n]) for i, n in places.items()}, same


def _passages(files: Files, layout: Layout, parse: Parse) -> Iterator[tuple[str, int, Passage]]:
    """(path, line, passage) for all passages of one language."""
    for path in files.passages:
        for line, passage in _lines(path, parse, files.language, layout):
            yield path, line, passage


def _note_absent(absent: list[str], what: str, files: Files, notes: list[str]) -> None:
    if absent:
        where = without_secrets(storage.plain(files.qrels))
        notes.append(f"{len(absent)} judgements in {where} name {what}, the first {absent[0]}: left out")


def _resolve(
    files: Files,
    layout: Layout,
    positives: dict[str, dict[str, tuple[int, int]]],
    places: dict[str, int],
    relevant: dict[str, dict[int, int]],
    notes: list[str],
) -> None:
    """Adds the positions of the relevant passages of one language, with their grades, to `relevant`."""
    dropped = 0
    absent: list[str] = []
    for group, judgements in positives.items():
        for passage_id, (line, _) in judgements.items():
            if passage_id in places:
                dropped += places[passage_id] == EMPTY
                continue
            if layout.is_whole:
                message = f"passage {passage_id!r} is in no passage file of {files.language}"
                raise layout.error(files.qrels, line, f"{message}: complete the files, or remove the judgement")
            absent.append(f"passage {passage_id!r} in line {line}")
        there = ((places.get(i, EMPTY), grade) for i, (_, grade) in judgements.items())
        if found := sorted((n, grade) for n, grade in there if n != EMPTY):
            relevant.setdefault(group, {}).update(found)
    _note_absent(absent, f"passages that no file of {files.language} has", files, notes)
    if dropped:
        notes.append(f"{dropped} judgements in {files.language} call a passage without text relevant: left out")
