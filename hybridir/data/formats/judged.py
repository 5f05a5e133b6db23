"""Benchmarks whose queries, passages and judgements lie in separate files: read strictly, in one pass, into memory.

A passage judged above 0 is relevant: grades are not told apart, and 0 is as good as unjudged. What is broken is an
error that names the line; what is left out is counted in the notes of the benchmark:

- queries that the split does not judge: they are not part of it;
- passages with neither title nor text (published corpora have some), with the judgements that name them.

A query that is judged and has no relevant passage stays in the benchmark: the evaluation leaves it out and counts it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hybridir.data import rows, storage
from hybridir.data.records import Benchmark, Passage, Query, Rejected, known_languages, place
from hybridir.runtime.secrets import without_secrets

Parse = Callable[[bytes | None, str], Passage]
"""(line, language) -> its id and text; raises `BadRow`."""
EMPTY = -1
"""The position of a passage without text."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of one language; the passages may lie in several."""

    language: str
    queries: str
    qrels: str
    passages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the files are read.

    Attributes:
        parallel: whether queries with the same id in several languages are translations of each other.
        origin: a sentence that says where the data comes from; ends every error.
    """

    parse_query: Parse
    parse_passage: Parse
    parallel: bool
    origin: str

    def group(self, language: str, query_id: str) -> str:
        """What ties a query to its translations, and to its judgements."""
        return query_id if self.parallel else f"{language}:{query_id}"

    def error(self, path: str, line: int | None, message: str) -> ValueError:
        """An error that names the place, and where the data comes from."""
        return ValueError(f"{place(without_secrets(storage.plain(path)), line)}: {message}. {self.origin}")


def read(name: str, files: Sequence[Files], layout: Layout) -> Benchmark:
    """The benchmark of some languages, in their order; the clusters are the queries with their translations."""
    for one in files:
        if one.language not in known_languages():
            message = f"{one.language!r} is no language code: write it as CLDR does (de, pt_BR), or leave it out"
            raise layout.error(one.queries, None, f"{message} by benchmark.languages")
        _require(one, layout)
    texts = [_read_queries(one, layout) for one in files]
    known = {layout.group(one.language, i) for one, found in zip(files, texts, strict=True) for i in found}
    judged = [_read_judgements(one, layout, known) for one in files]
    asked = {group for found in judged for group in found}
    notes: list[str] = []
    queries: list[Query] = []
    for one, found in zip(files, texts, strict=True):
        queries += _asked(one, layout, found, asked, notes)
    passages: list[Passage] = []
    relevant: dict[str, list[int]] = {}
    for one, positives in zip(files, judged, strict=True):
        places = _read_passages(one, layout, passages, notes)
        _resolve(one, layout, positives, places, relevant, notes)
    if not relevant:
        message = "no passage that has a text is relevant, so there is nothing to find: complete the passages"
        raise layout.error(files[0].qrels, None, message)
    without = Counter(query.language for query in queries if query.group_id not in relevant)
    if len(files) > 1 and not layout.parallel:
        notes.append(f"{name} judges passages in the query's own language alone: all others count as irrelevant")
    notes += [f"{n} queries in {language} have no relevant passage: excluded" for language, n in without.items()]
    return Benchmark(
        name=name,
        languages=tuple(one.language for one in files),
        queries=tuple(queries),
        passages=tuple(passages),
        relevant=tuple(tuple(relevant.get(query.group_id, ())) for query in queries),
        notes=tuple(notes),
    )


def read_qrels(path: str) -> Iterator[tuple[str, str, int] | Rejected | None]:
    """(query id, passage id, score) of each line, None for BEIR's header; TREC's four columns are read too."""
    for number, (_, raw) in enumerate(storage.read_lines(path), start=1):
        try:
            columns = rows.decode(raw).split("\t")
            if number == 1 and columns[-1] == "score":
                yield None
                continue
            if len(columns) == 1:
                columns = columns[0].split()
            query, passage, score = columns if len(columns) == 3 else (columns[0], *columns[2:])
            yield query, passage, int(score)
        except ValueError:
            value = f"columns query id, passage id, score: {(raw or b'')[:80]!r}"
            yield Rejected(file=without_secrets(storage.plain(path)), line=number, reason="broken line", value=value)
        except rows.BadRow as bad:
            yield Rejected(file=without_secrets(storage.plain(path)), line=number, reason=bad.reason, value=bad.value)


def _require(files: Files, layout: Layout) -> None:
    """`ValueError` naming the first file that is missing or empty."""
    for path in (files.queries, files.qrels, *files.passages):
        system, inner = storage.open_path(path)
        info = system.get_file_info(inner)
        if not info.is_file or not info.size:
            state = "is empty" if info.is_file else "does not exist"
            remedy = "complete the folder, or choose by benchmark.split and benchmark.languages what is there"
            raise layout.error(path, None, f"the file {state} (language {files.language}): {remedy}")


def _lines(path: str, parse: Parse, language: str, layout: Layout) -> Iterator[tuple[int, Passage]]:
    """(line, what it holds); blank lines are passed over."""
    try:
        for line, (_, raw) in enumerate(storage.read_lines(path), start=1):
            if raw is None or raw.strip():
                yield line, parse(raw, language)
    except rows.BadRow as bad:
        raise layout.error(path, line, f"{bad.reason}: {bad.value}: mend the line, or fetch the file again") from None
    except ValueError as error:
        raise ValueError(f"{error}: fetch the file again. {layout.origin}") from None


def _read_queries(files: Files, layout: Layout) -> dict[str, tuple[int, str]]:
    """Line and text by query id."""
    found: dict[str, tuple[int, str]] = {}
    for line, query in _lines(files.queries, layout.parse_query, files.language, layout):
        if query.passage_id in found:
            before = found[query.passage_id][0]
            message = f"query id {query.passage_id!r} is also that of line {before}: keep one of the two"
            raise layout.error(files.queries, line, message)
        found[query.passage_id] = (line, query.text)
    if not found:
        raise layout.error(files.queries, None, f"there is no query in {files.language}")
    return found


def _read_judgements(files: Files, layout: Layout, known: set[str]) -> dict[str, dict[str, int]]:
    """For each judged group the relevant passages, with the line that says so."""
    scores: dict[tuple[str, str], tuple[int, int]] = {}
    positives: dict[str, dict[str, int]] = {}
    for line, judgement in enumerate(read_qrels(files.qrels), start=1):
        if isinstance(judgement, Rejected):
            if judgement.reason != "empty line":
                raise layout.error(files.qrels, line, f"{judgement.reason}: {judgement.value}: mend the line")
        elif judgement:
            query, passage, score = judgement
            if (group := layout.group(files.language, query)) not in known:
                names = without_secrets(files.queries)
                message = f"query {query!r} is unknown: it must be in {names}, or in that of a translation"
                raise layout.error(files.qrels, line, message)
            before, earlier = scores.setdefault((query, passage), (score, line))
            if (before > 0) != (score > 0):
                message = (
                    f"passage {passage!r} has the score {score} for query {query!r}, and {before} in line {earlier}"
                )
                raise layout.error(files.qrels, line, f"{message}: keep one of the two")
            relevant = positives.setdefault(group, {})
            if score > 0:
                relevant.setdefault(passage, line)
    if not any(positives.values()):
        raise layout.error(files.qrels, None, "no passage has a score above 0, so there is nothing to find")
    return positives


def _asked(
    files: Files, layout: Layout, texts: dict[str, tuple[int, str]], asked: set[str], notes: list[str]
) -> Iterator[Query]:
    """The queries of one language that are judged in any."""
    left_out = 0
    for query_id, (line, text) in texts.items():
        if (group := layout.group(files.language, query_id)) not in asked:
            left_out += 1
            continue
        if not text.strip():
            message = f"query {query_id!r} has no text: write it, or remove the query and its judgements"
            raise layout.error(files.queries, line, message)
        name = f"{files.language}:{query_id}"
        yield Query(query_id=name, language=files.language, text=text, group_id=group, cluster=group)
    if left_out:
        where = f"{without_secrets(files.queries)} are not judged in {without_secrets(files.qrels)}"
        notes.append(f"{left_out} of {len(texts)} queries in {where}: left out")


def _read_passages(files: Files, layout: Layout, passages: list[Passage], notes: list[str]) -> dict[str, int]:
    """Adds the passages of one language; their positions by id."""
    places: dict[str, int] = {}
    empty: list[str] = []
    for path in files.passages:
        for line, passage in _lines(path, layout.parse_passage, files.language, layout):
            if passage.passage_id in places:
                message = f"passage id {passage.passage_id!r} was there before: remove one of the two"
                raise layout.error(path, line, message)
            if passage.text.strip():
                places[passage.passage_id] = len(passages)
                passages.append(passage)
            else:
                places[passage.passage_id] = EMPTY
                empty.append(place(without_secrets(storage.plain(path)), line))
    if len(empty) == len(places):
        raise layout.error(files.passages[0], None, f"there is no passage in {files.language}")
    if empty:
        notes.append(f"{len(empty)} passages in {files.language} have no text, the first at {empty[0]}: left out")
    return places


def _resolve(
    files: Files,
    layout: Layout,
    positives: dict[str, dict[str, int]],
    places: dict[str, int],
    relevant: dict[str, list[int]],
    notes: list[str],
) -> None:
    """Adds to `relevant` the positions of what one language's judgements name."""
    dropped = 0
    for group, lines in positives.items():
        for passage_id, line in lines.items():
            if passage_id not in places:
                message = f"passage {passage_id!r} is in none of the files of passages in {files.language}"
                raise layout.error(files.qrels, line, f"{message}: complete those, or remove the judgement")
            dropped += places[passage_id] == EMPTY
        if found := sorted(n for passage_id in lines if (n := places[passage_id]) != EMPTY):
            relevant.setdefault(group, []).extend(found)
    if dropped:
        notes.append(f"{dropped} judgements in {files.language} call a passage without text relevant: left out")
