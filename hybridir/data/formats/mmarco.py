"""mMARCO's files (Bonifacio et al. 2021, arXiv 2108.13897): MS MARCO translated, with the same ids in every language.

The path is the folder of one translator (`data/google`), with `collections/NAME_collection.tsv` and
`queries/train/NAME_queries.train.tsv` for each language. `triples.train.ids.small.tsv` (query, positive, negative) is
there or in the folder above. Triples with the same query and positive give one pair with several hard negatives.
"""

from array import array
from collections.abc import Iterator
from functools import partial

from babel import Locale

from hybridir.data import storage
from hybridir.data.config import Source
from hybridir.data.formats.beir import join
from hybridir.data.languages import check_languages, code_of
from hybridir.data.lookup import Texts, parse_tsv
from hybridir.data.records import BadRow, Pair, Rejected, Shard
from hybridir.runtime.secrets import without_secrets

TRIPLES = "triples.train.ids.small.tsv"
PAGE = "https://huggingface.co/datasets/unicamp-dl/mmarco"
KEPT = 8
"""Hard negatives kept per pair if `max_negatives` is not set; the triples have about 75 per pair."""


def find_shards(source: Source) -> list[Shard]:
    """One shard per language."""
    if not (root := source.path):
        raise ValueError(f"data.path is empty: name the folder of one translator of mMARCO, as data/google at {PAGE}")
    codes = {str(name).lower(): code_of(code) for code, name in Locale.parse("en").languages.items()}
    files = {}
    for file in _files(storage.child(root, "collections"), "_collection.tsv"):
        name = storage.plain(file.path).rpartition("/")[2].removesuffix("_collection.tsv")
        if name not in codes:
            raise ValueError(f"{file.name}: {name!r} is not the English name of a language")
        files[codes[name]] = (file, name)
    triples = _find_triples(root)
    found = []
    chosen = check_languages(source.languages or sorted(files), files, f"mMARCO at {without_secrets(root)}")
    for language in chosen:
        collection, name = files[language]
        path = storage.child(root, "queries", source.split, f"{name}_queries.{source.split}.tsv")
        queries = _files(path, ".tsv")[0]
        kept = KEPT if source.max_negatives is None else source.max_negatives
        read = partial(
            _read, collection.path, queries.path, triples.path, language, kept, tell_triples=language == chosen[0]
        )
        identity = f"{collection.identity} {queries.identity} {triples.identity}"
        found.append(Shard(read, collection.name, identity, collection.size + queries.size + triples.size))
    return found


def _files(path: str, ending: str) -> list[storage.File]:
    """The files at a path. Their error says where the set is to be had."""
    try:
        return storage.find_files(Source(path=path), (ending,))
    except ValueError as error:
        raise ValueError(f"{error}. data.path must be a folder of mMARCO, as data/google at {PAGE}") from None


def _find_triples(root: str) -> storage.File:
    for folder in (root, storage.parent(root)):
        try:
            return _files(storage.child(folder, TRIPLES), TRIPLES)[0]
        except ValueError:
            continue
    raise ValueError(
        f"no {TRIPLES} in {without_secrets(root)} or the folder above: it is among the files of mMARCO, {PAGE}"
    )


def _read(
    collection: str, queries: str, triples: str, language: str, kept: int, tell_triples: bool
) -> Iterator[Pair | Rejected]:
    """The pairs of one language. Only the first language reports broken lines of the triples (`tell_triples`)."""
    parse = partial(parse_tsv, language=language)
    passages, questions = Texts(collection, parse), Texts(queries, parse)
    file = without_secrets(storage.plain(triples))
    yield from passages.rejected + questions.rejected
    hard: dict[int, dict[int, array]] = {}  # query -> positive -> line of the first triple, negatives
    for number, (_, raw) in enumerate(storage.read_lines(triples), start=1):
        try:
            query, positive, negative = map(int, storage.decode(raw).split("\t"))
            some = hard.setdefault(query, {}).setdefault(positive, array("L", [number]))
            if len(some) <= kept:
                some.append(negative)
        except (ValueError, OverflowError, BadRow) as error:
            if tell_triples:
                reason, value = error.args if isinstance(error, BadRow) else ("broken line", str(error))
                yield Rejected(file=file, line=number, reason=reason, value=value)
    for query, of_query in hard.items():
        lines = {str(positive): some[0] for positive, some in of_query.items()}
        negatives = dict.fromkeys(str(n) for some in of_query.values() for n in some[1:] if n not in of_query)
        yield from join(str(query), lines, negatives, questions, passages, triples)
