"""MIRACL as published (Zhang et al. 2022, arXiv 2210.09984): two data sets of the Hugging Face hub, in one folder.

miracl/miracl has `miracl-v1.0-LANGUAGE/topics/topics.miracl-v1.0-LANGUAGE-SPLIT.tsv` (id, tab, query) and
`qrels/qrels.miracl-v1.0-LANGUAGE-SPLIT.tsv` (TREC's columns) beside `topics`; miracl/miracl-corpus has
`miracl-corpus-v1.0-LANGUAGE/docs-N.jsonl.gz` (docid, title, text). They lie side by side in the folder, or in its
subfolders `miracl` and `miracl-corpus`.

Queries and passages are each language's own, though their ids repeat from language to language: monolingual retrieval,
and the pool of all languages.
"""

import re

import pyarrow.fs as pafs

from hybridir.data import rows, storage
from hybridir.data.config import BenchmarkConfig
from hybridir.data.formats import judged
from hybridir.data.lookup import parse_tsv
from hybridir.data.records import Benchmark, Passage
from hybridir.runtime.secrets import without_secrets

ORIGIN = (
    "MIRACL's queries and judgements (of train and dev; the surprise languages de and yo have dev alone) come from "
    "https://huggingface.co/datasets/miracl/miracl, its passages from "
    "https://huggingface.co/datasets/miracl/miracl-corpus"
)


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The judgements of one split, dev unless another is named."""
    if not config.path:
        raise ValueError(f"benchmark.path is empty: name the folder of MIRACL. {ORIGIN}")
    path = storage.child(_inner(config.path, "miracl"), f"miracl-v1.0-{storage.PLACEHOLDER}")
    try:
        folders = storage.by_language(path, config.languages, "benchmark.path")
    except ValueError as error:
        raise ValueError(f"{error}. {ORIGIN}") from None
    files = [_files(config, language or "", folder) for language, folder in folders]
    layout = judged.Layout(parse_query=parse_tsv, parse_passage=_parse_passage, parallel=False, origin=ORIGIN)
    return judged.read(config.name, files, layout)


def _files(config: BenchmarkConfig, language: str, folder: str) -> judged.Files:
    name = f"miracl-v1.0-{language}-{config.split or 'dev'}.tsv"
    corpus = storage.child(_inner(config.path, "miracl-corpus"), f"miracl-corpus-v1.0-{language}")
    return judged.Files(
        language=language,
        queries=storage.child(folder, "topics", f"topics.{name}"),
        qrels=storage.child(folder, "qrels", f"qrels.{name}"),
        passages=_shards(corpus),
    )


def _inner(path: str, name: str) -> str:
    """The subfolder of this name where there is one, else the folder itself."""
    system, inner = storage.open_path(storage.child(path, name))
    return storage.child(path, name) if system.get_file_info(inner).type == pafs.FileType.Directory else path


def _shards(folder: str) -> tuple[str, ...]:
    """The files of passages in the order of their numbers; `ValueError` where one is missing."""
    system, inner = storage.open_path(folder)
    infos = system.get_file_info(pafs.FileSelector(inner, allow_not_found=True))
    numbers = sorted(int(m[1]) for info in infos if (m := re.fullmatch(r"docs-(\d+)\.jsonl\.gz", info.base_name)))
    if missing := sorted(set(range(max(numbers, default=0) + 1)) - set(numbers)):
        raise ValueError(
            f"{without_secrets(folder)} has no docs-{missing[0]}.jsonl.gz: complete the folder, or leave that language "
            f"out by benchmark.languages. {ORIGIN}"
        )
    return tuple(storage.child(folder, f"docs-{n}.jsonl.gz") for n in numbers)


def _parse_passage(line: bytes | None, language: str) -> Passage:
    return rows.document(rows.parse_json(line), "docid", language)
