"""BEIR's folders (Thakur et al. 2021, arXiv 2104.08663): corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.

Passages judged with a score above 0 are positives; passages judged with 0 are hard negatives. A query with several
positives gives one pair per positive. With one folder per language (`{language}` in the path), queries with the same id
are translations of each other.

In a benchmark, a passage is relevant to a query if the folder of any language judges it relevant to the query's id.
"""

from collections.abc import Iterable, Iterator
from functools import cache, partial

from hybridir.data import rows, storage
from hybridir.data.config import BenchmarkConfig, Source
from hybridir.data.formats import judged
from hybridir.data.formats.qrels import read_qrels
from hybridir.data.languages import check_languages
from hybridir.data.lookup import Texts
from hybridir.data.records import Benchmark, Pair, Passage, Rejected, Shard
from hybridir.runtime.secrets import without_secrets

ORIGIN = (
    "BEIR's format: https://github.com/beir-cellar/beir; "
    "its data: https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/"
)


def find_shards(source: Source) -> list[Shard]:
    """One shard per language: the pairs that `qrels/SPLIT.tsv` gives, SPLIT being `source.split`."""
    found = []
    for file in storage.find_files(source, ("/corpus.jsonl",)):
        folder = storage.parent(file.path)
        language = file.language or source.language or ""
        qrels = storage.child(folder, "qrels", f"{source.split}.tsv")
        parts = (file.path, storage.child(folder, "queries.jsonl"), qrels)
        files = [one for path in parts for one in storage.find_files(Source(path=path), ("",))]
        identity = " ".join(one.identity for one in files)
        found.append(
            Shard(partial(_read, *parts, language), f"{file.name} with qrels", identity, sum(one.size for one in files))
        )
    return found


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark of one split: `qrels/SPLIT.tsv`, SPLIT being `config.split` or `test`."""
    files = [
        judged.Files(
            language=language,
            queries=storage.child(folder, "queries.jsonl"),
            qrels=storage.child(folder, "qrels", f"{config.split or 'test'}.tsv"),
            passages=(storage.child(folder, "corpus.jsonl"),),
        )
        for language, folder in _folders(config)
    ]
    layout = judged.Layout(
        parse_query=parse_text, parse_passage=parse_text, parallel=True, origin=ORIGIN, parse_body=parse_body
    )
    return judged.read(_name(config.path), files, layout)


def _name(path: str) -> str:
    """The name of a benchmark in tables: the folder's, with the format, so that it is not taken for another one."""
    parts = without_secrets(storage.plain(path)).split("/")
    return " ".join([*[part for part in parts if part and storage.PLACEHOLDER not in part][-1:], "(BEIR)"])


def _folders(config: BenchmarkConfig) -> list[tuple[str, str]]:
    """(language, folder) for each language of a benchmark."""
    if not config.path:
        raise ValueError(f"benchmark.path is empty: name a folder in BEIR's format. {ORIGIN}")
    try:
        folders = storage.by_language(config.path, config.languages, "benchmark.path")
    except ValueError as error:
        raise ValueError(f"{error}. {ORIGIN}") from None
    if folders[0][0] is None:
        if not config.language:
            raise ValueError(
                f"the language of benchmark.path {without_secrets(config.path)!r} is unknown: give benchmark.language, "
                f"or put {storage.PLACEHOLDER} into the path if there is one folder per language"
            )
        check_languages(config.languages or (), (config.language,), without_secrets(config.path))
    elif config.language:
        raise ValueError(
            f"benchmark.language is {config.language!r} and benchmark.path has {storage.PLACEHOLDER}: "
            "give only one of them; benchmark.languages chooses among the folders"
        )
    return [(language or config.language or "", folder) for language, folder in folders]


def parse_text(line: bytes | None, language: str) -> Passage:
    """A line of corpus.jsonl or queries.jsonl."""
    return rows.document(rows.parse_json(line), "_id", language)


def parse_body(line: bytes | None, language: str) -> Passage:
    """A line of corpus.jsonl, without the title."""
    return rows.document(rows.parse_json(line) | {"title": ""}, "_id", language)


def _read(corpus: str, queries: str, qrels: str, language: str) -> Iterator[Pair | Rejected]:
    parse = partial(parse_text, language=language)
    passages, questions = Texts(corpus, parse), Texts(queries, parse)
    yield from passages.rejected + questions.rejected
    judged_of: dict[str, dict[str, tuple[int, int]]] = {}  # by query and passage: score, line
    for line, judgement in enumerate(read_qrels(qrels), start=1):
        if isinstance(judgement, Rejected):
            yield judgement
        elif judgement:
            query_id, passage_id, score = judgement
            _, first = judged_of.setdefault(query_id, {}).setdefault(passage_id, (score, line))
            if first != line:
                value = f"{query_id} {passage_id} {score}: already judged in line {first}"
                yield Rejected(file=_shown(qrels), line=line, reason="duplicate", value=value)
    for query_id, of_query in judged_of.items():
        lines = {passage_id: line for passage_id, (score, line) in of_query.items() if score > 0}
        if not lines:
            line = next(iter(of_query.values()))[1]
            yield Rejected(file=_shown(qrels), line=line, reason="no positive", value=f"query {query_id}")
        yield from join(query_id, lines, [i for i in of_query if i not in lines], questions, passages, qrels)


def join(
    query_id: str, lines: dict[str, int], negatives: Iterable[str], questions: Texts, passages: Texts, path: str
) -> Iterator[Pair | Rejected]:
    """The pairs of a query, one per positive. `lines`: id of a positive -> its line in the file `path`."""
    file, query = _shown(path), questions.get(query_id)
    hard, found = ({i: query and passages.get(i) for i in some} for some in (negatives, lines))
    lacks = next((i for i, passage in hard.items() if passage is None), None)
    there = [passage for passage in found.values() if passage]
    of_all = rows.without(filter(None, hard.values()), there) if there and lacks is None else ()
    ids = rows.positives(query_id, list(lines)) if lines else []
    for (group_id, passage_group_id), (passage_id, line) in zip(ids, lines.items(), strict=True):
        positive = found[passage_id]
        if query is None or positive is None or lacks is not None:
            value = f"passage {passage_id if positive is None else lacks}" if query else f"query {query_id}"
            yield Rejected(file=file, line=line, reason="unknown id", value=value)
            continue
        yield Pair(
            group_id=group_id,
            language=positive.language,
            query=query.text,
            passage=positive,
            passage_group_id=passage_group_id,
            negatives=of_all,
            file=file,
            line=line,
        )


@cache
def _shown(path: str) -> str:
    return without_secrets(storage.plain(path))
