"""Reads rows of a dataset on the Hugging Face hub (hf://datasets/OWNER/NAME), streamed by the library `datasets`."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import Pair, Rejected, Row, Shard
from hybridir.data.storage import PLACEHOLDER
from hybridir.runtime.home import check_hub_cache
from hybridir.runtime.secrets import without_secrets

PREFIX = "hf://datasets/"


def find_shards(source: Source, fields: rows.Fields) -> list[Shard]:
    """The shards of one split of a dataset at one commit. A local dataset folder (hf:///path) needs no commit.

    `{language}` in path or subset stands for each of `source.languages`, spelled as a code of CLDR.
    """
    if PLACEHOLDER in f"{source.path}{source.subset}":
        if not source.languages:
            raise ValueError(f"{source.path} {source.subset or ''} has {PLACEHOLDER}: name the codes as data.languages")
        return [
            shard
            for code in source.languages
            for shard in find_shards(
                replace(
                    source,
                    path=source.path.replace(PLACEHOLDER, code),
                    subset=source.subset and source.subset.replace(PLACEHOLDER, code),
                    language=code,
                ),
                fields,
            )
        ]
    name = source.path.removeprefix(PREFIX).removeprefix("hf://")
    if not name.startswith("/") and not re.fullmatch("[0-9a-f]{40}", source.revision or ""):
        raise ValueError(
            f"data.revision is {source.revision!r}: name the commit of {name} (40 hexadecimal digits, under 'History' "
            "on its page), so that the run can be repeated"
        )
    fields = fields.of_columns(source.columns)
    dataset = _open(name, source.subset, source.split, source.revision)
    shown = f"{source.path}@{source.revision or ''}:{source.subset or ''}:{source.split}"
    files = sorted(Path(name).rglob("*")) if name.startswith("/") else []  # a local folder can change
    state = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    reads = [partial(_read, name, source, shown, n, dataset.num_shards, fields) for n in range(dataset.num_shards)]
    return [Shard(read, shown, f"{shown} {state} {n}") for n, read in enumerate(reads)]


def _open(name: str, subset: str | None, split: str, revision: str | None) -> Any:
    from datasets import config, load_dataset
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    check_hub_cache(str(config.HF_DATASETS_CACHE))
    try:
        if subset and "/" in subset:  # files, not a configuration
            kind, root = "parquet" if subset.endswith(".parquet") else "json", f"{PREFIX}{name}@{revision}"
            files = {split: f"{name if name.startswith('/') else root}/{subset}"}
            return load_dataset(kind, data_files=files, split=split, streaming=True)
        return load_dataset(name, subset, split=split, revision=revision, streaming=True)
    except Exception as error:
        raise ValueError(
            f"the dataset {name} (subset {subset}, split {split}) cannot be opened: {without_secrets(str(error))}. "
            "Check the names (a language that the hub does not spell as CLDR does needs a source of its own, with "
            "data.language), and that the hub can be reached (set HF_TOKEN for a private dataset)"
        ) from None


def _read(
    name: str, source: Source, shown: str, part: int, parts: int, fields: rows.Fields
) -> Iterator[Pair | Rejected]:
    dataset = _open(name, source.subset, source.split, source.revision)
    return rows.records(_rows(dataset.shard(parts, part), shown), shown, source.language, fields)


def _rows(dataset: Iterable[Row], shown: str) -> Iterator[tuple[int, Callable[[], Row]]]:
    """The rows. `ValueError` at the first row that the library cannot read: it cannot continue after a broken row."""
    try:
        for line, row in enumerate(dataset, start=1):
            yield line, partial(dict, row)
    except Exception as error:
        raise ValueError(f"{shown} cannot be read to its end: {without_secrets(str(error))}") from None
