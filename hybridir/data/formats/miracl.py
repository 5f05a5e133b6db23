"""MIRACL as published (Zhang et al. 2022, arXiv 2210.09984): two data sets of the Hugging Face hub, in one folder.

miracl/miracl has `miracl-v1.0-LANGUAGE/topics/topics.miracl-v1.0-LANGUAGE-SPLIT.tsv` (id, tab, query) and, beside
`topics`, `qrels/qrels.miracl-v1.0-LANGUAGE-SPLIT.tsv` (TREC's columns). miracl/miracl-corpus has
`miracl-corpus-v1.0-LANGUAGE/docs-N.jsonl.gz` (docid, title, text). Both are side by side in the folder, or in its
subfolders `miracl` and `miracl-corpus`.

Each language has its own queries and passages, although the ids repeat. So monolingual retrieval and retrieval from the
pool of all languages can be measured, but not cross-lingual retrieval.
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
    "MIRACL's queries and judgements (splits train and dev; the surprise languages de and yo have only dev) come from "
    "https://huggingface.co/datasets/miracl/miracl, its passages from "
    "https://huggingface.co/datasets/miracl/miracl-corpus"
)


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark of one split, `config.split` or `dev`."""
    if not config.path:
        raise ValueError(f"benchmark.path is empty: name the folder of MIRACL. {ORIGIN}")
    path = storage.child(_inner(config.path, "miracl"), f"miracl-v1.0-{storage.PLACEHOLDER}")
    try:
        folders = storage.by_language(path, config.languages, "benchmark.path")
    except ValueError as error:
        raise ValueError(f"{error}. {ORIGIN}") from None
    files = [_files(config, language or "", folder) for language, folder in folders]
    layout = judged.Layout(
        parse_query=parse_tsv, parse_passage=_parse_passage, parallel=False, origin=ORIGIN, is_whole=True
    )
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
    """The subfolder of this name if there is one, else the folder itself."""
    system, inner = storage.open_path(storage.child(path, name))
    return storage.child(path, name) if system.get_file_info(inner).type == pafs.FileType.Directory else path


def _shards(folder: str) -> tuple[str, ...]:
    """The passage files in the order of their numbers; `ValueError` if one is missing."""
    system, inner = storage.open_path(folder)
    infos = system.get_file_info(pafs.FileSelector(inner, allow_not_found=True))
    numbers = sorted(int(m[1]) for info in infos if (m := re.fullmatch(r"docs-(\d+)\.jsonl\.gz", info.base_name)))
    if missing := sorted(set(range(max(numbers, default=0) + 1)) - set(numbers)):
        raise ValueError(
            f"{without_secrets(folder)} has no docs-{missing[0]}.jsonl.gz: complete the folder, or exclude the "
            f"language with benchmark.languages. {ORIGIN}"
        )
    return tuple(storage.child(folder, f"docs-{n}.jsonl.gz") for n in numbers)


def _parse_passage(line: bytes | None, language: str) -> Passage:
    return rows.document(rows.parse_json(line), "docid", language)
