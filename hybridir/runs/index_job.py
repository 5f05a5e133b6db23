"""Making and extending an index: read passages, lay them out in shards, encode what is new, export."""

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.data.own_passages import holds_pairs, passages_of, read_passages
from hybridir.data.passages import Passages
from hybridir.data.sources import read_benchmark
from hybridir.model.check import as_published, check_encoder
from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import pick_device
from hybridir.model.files import model_of
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.encode_shards import PROBE, Done, Run, Work
from hybridir.retrieval.export import FORMS, export
from hybridir.retrieval.sharded import Means
from hybridir.retrieval.shards import Index, lay_out
from hybridir.retrieval.systems import Way, made_of
from hybridir.runs.backend import Backend, quiet_libraries
from hybridir.runs.corpus import cache_folder, check_rejected, read_corpus
from hybridir.runs.folder import Kind, begin_folder, opened
from hybridir.runs.recipe import MAY_CHANGE, ScalingConfig
from hybridir.runtime.durable import replace_text
from hybridir.runtime.progress import say, watch

INDEX = Kind(
    name="index",
    job="jobs/encode.py",
    may_change=MAY_CHANGE
    | {"path", "language", "columns", "max_rejected", "benchmark", "export", "retrieval.memory", "retrieval.shard"},
)
_OPTION = re.compile(r"\bdata\.(columns|language|max_rejected|path)\b")
"""What reading pairs calls fields that have no section here."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The recipe of an index: passages and the encoder of their vectors.

    Args:
        path: JSONL files with passages: `id`, `text`, optional `title`, and `language`; or pairs as for training (CSV
            and the like), whose passages are taken, each once. In the path, `{language}` stands for any language code.
            With --resume, passages that are new are encoded, and those that are no longer there are dropped.
        language: language code of passages that name none.
        columns: for pairs: names of columns that differ from those of the format, `{query: question, passage: answer}`.
        max_rejected: for pairs: the index is not made if a larger share of the rows is rejected.
        benchmark: a benchmark whose passages are taken, if there is no `path`.
        encoder: the encoder: a model folder, a run's folder, or a hub id.
        retrieval: how vectors are kept.
        export: forms to export the index to, in `export/`: `npy`, `parquet`, and `flat`, `ivf`, `hnsw` of faiss.
        scaling: workers and devices.
        output: folder for the index. Omitted: outputs/encode-DATE-TIME.
        cache: folder for pairs that were read, shared by jobs. Omitted: `cache` beside the output.
        resume: continue, extend or change the index in `output`.
    """

    path: str = ""
    language: str | None = None
    columns: dict[str, str] | None = None
    max_rejected: float = 0.01
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    export: tuple[str, ...] = ()
    scaling: ScalingConfig = field(default_factory=lambda: ScalingConfig(num_workers=0))
    output: str = ""
    cache: str = ""
    resume: bool = False

    def __post_init__(self) -> None:
        if unknown := [one for one in self.export if one not in FORMS]:
            raise ValueError(f"export has {unknown[0]!r}: the forms are {', '.join(FORMS)}")


def run_encoding(recipe: Encoding, run: Run) -> Path:
    """Makes or changes the index, and exports it; returns its folder."""
    quiet_libraries()
    if not recipe.encoder.name:
        raise ValueError("encoder.name is empty: name a model folder, a run's folder, or a hub id")
    encoder = as_published(replace(recipe.encoder, name=model_of(recipe.encoder.name)))
    check_encoder(encoder)
    with opened(recipe, INDEX) as recipe:
        output = Path(recipe.output)
        passages = _passages(recipe)
        of = recipe.path or f"the benchmark {recipe.benchmark.name or 'sample'}"
        say(f"{len(passages):,} passages of {of}, in {', '.join(passages.languages())}")
        begin_folder(recipe, INDEX)
        index = lay_out(output, made_of(encoder, recipe.retrieval), passages, recipe.retrieval.shard)
        fill(Work(index, _anywhere(encoder), recipe.scaling.use_gpu, _threads(recipe.scaling)), run)
        results = {
            "made_of": index.made_of,
            "passages": {x: _count(index, x) for x in index.languages},
            "exports": {form: export(index, form, output / "export", recipe.retrieval) for form in recipe.export},
        }
        replace_text(output / "results.json", json.dumps(results, indent=1))
    return output


def _count(index: Index, language: str) -> int:
    return sum(one.rows - len(one.dropped) for one in index.shards if one.language == language)


def fill(work: Work, run: Run) -> None:
    """Encodes the shards that are not there, and says before how long it will take and how much disk it needs.

    Raises:
        OSError: there is no room for the vectors.
    """
    waiting = work.index.waiting()
    rows, total = sum(shard.rows for shard in waiting), len(work.index.shards)
    say(f"{total - len(waiting)} of {total} shards are encoded; {rows:,} passages are left")
    if not waiting:
        return
    (probe,) = run(work, [PROBE])
    size = rows * probe.dimension * work.index.dtype.itemsize
    free = shutil.disk_usage(work.index.folder).free
    rate = probe.rows / max(probe.seconds, 1e-9)
    say(
        f"the vectors need {size / 1e6:,.1f} MB of disk ({rows:,} x {probe.dimension} {work.index.dtype}), "
        f"{free / 1e6:,.1f} are free; at {rate:,.0f} passages/s, one worker takes {rows / rate / 60:,.1f} minutes"
    )
    if size > free:
        raise OSError(f"{work.index.folder} has no room for the vectors: free {(size - free) / 1e6:,.1f} MB more")
    deque(watch("encoded", _counted(work, [one.number for one in waiting], rows, run), "passages"), maxlen=0)


def _counted(work: Work, numbers: Sequence[int], rows: int, run: Run) -> Iterator[tuple[Done, int, float]]:
    done_rows = 0
    for done in run(work, numbers):
        done_rows += done.rows
        yield done, done.rows, done_rows / rows


def _anywhere(encoder: EncoderConfig) -> EncoderConfig:
    """The encoder, named so that a worker in another folder finds it."""
    return replace(encoder, name=os.path.abspath(encoder.name)) if os.path.isdir(encoder.name) else encoder


def _passages(recipe: Encoding) -> Passages:
    if recipe.path and (recipe.columns or holds_pairs(recipe.path)):
        data = DataConfig(path=recipe.path, language=recipe.language, columns=recipe.columns, validation_share=0.0)
        try:
            corpus = read_corpus(data, cache_folder(recipe, Path(recipe.output)))
            check_rejected(corpus, recipe.max_rejected)
            return passages_of(corpus, recipe.path)
        except ValueError as error:
            raise ValueError(_OPTION.sub(r"\1", str(error))) from None
    if recipe.path:
        return read_passages(recipe.path, recipe.language)
    return read_benchmark(recipe.benchmark).passages


def way_of(retrieval: RetrievalConfig, scaling: ScalingConfig, backend: Backend) -> Way:
    """How passages are kept, encoded and searched by a job with these workers and devices."""

    def encode(index: Index, encoder: EncoderConfig) -> None:
        fill(Work(index, _anywhere(encoder), scaling.use_gpu, _threads(scaling)), backend.encode_shards)

    device = "cuda" if scaling.use_gpu and (scaling.num_workers or pick_device(True)) else "cpu"
    return Way(retrieval, encode, Means(retrieval.memory, device, max(1, scaling.num_workers), backend.each))


def _threads(scaling: ScalingConfig) -> int:
    return scaling.cpus_per_worker if scaling.num_workers else 0
