"""Exports an index to what other programs read; for faiss, with the recall against exact search.

    export/passages.npy, passages.ids.txt     all vectors (float16 or float32), and `LANGUAGE:ID` a line
    export/passages.parquet                   the columns id, language, text, embedding
    export/flat.faiss, ivf.faiss, hnsw.faiss  indexes of faiss, by inner product; ids are lines of passages.ids.txt

Shapes: N passages of a block, D dimension.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.sharded import Means, Sharded, top_k_sharded
from hybridir.retrieval.shards import Index
from hybridir.runtime.durable import replace_text, replaced
from hybridir.runtime.progress import say

FORMS = ("npy", "parquet", "flat", "ivf", "hnsw")
SAMPLED, K = 256, 10
"""Passages that are searched as if they were questions, and how deep, to measure the recall."""
_TRAINED = 39 * 1024
"""The most vectors that the cells of IVF are trained on."""


def export(index: Index, form: str, folder: Path, retrieval: RetrievalConfig) -> dict[str, Any]:
    """Writes an index in a form of `FORMS`; for an index of faiss, returns its recall@K against exact search.

    Raises:
        ValueError: faiss is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        _parquet(index, folder / "passages.parquet")
        return {"file": "passages.parquet"}
    replace_text(folder / "passages.ids.txt", "".join(f"{x}:{name}\n" for x, names in _ids(index) for name in names))
    if form == "npy":
        _npy(index, folder / "passages.npy")
        return {"file": "passages.npy"}
    return {"file": f"{form}.faiss"} | _faiss(index, form, folder / f"{form}.faiss", retrieval)


def _ids(index: Index) -> Iterator[tuple[str, list[str]]]:
    """Language and ids of each shard, without the dropped ones."""
    for shard in index.shards:
        dropped = set(shard.dropped)
        yield shard.language, [name for n, name in enumerate(index.passages(shard)[0]) if n not in dropped]


def _vectors(index: Index) -> Iterator[np.ndarray]:
    """The vectors of each shard in float32, in the order of `_ids`; valid until the next is read."""
    for shard in index.shards:
        alone = Index(index.folder, index.made_of, (shard,))
        yield from (block.vector_SD for block in Sharded(alone, alone.together()).blocks())


def _npy(index: Index, file: Path) -> None:
    dimension = Sharded(index, index.together()).dimension
    header = {"descr": index.dtype.str, "fortran_order": False, "shape": (len(index), dimension)}
    with replaced(file) as written, open(written, "wb") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        for vector_ND in _vectors(index):
            opened.write(vector_ND.astype(index.dtype).tobytes())


def _parquet(index: Index, file: Path) -> None:
    dimension = Sharded(index, index.together()).dimension
    fields = {name: pa.string() for name in ("id", "language", "text")}
    number = pa.from_numpy_dtype(index.dtype)
    schema = pa.schema(fields | {"embedding": pa.list_(number, dimension)})
    with replaced(file) as written, pq.ParquetWriter(written, schema, compression="zstd") as writer:
        for shard, vector_ND in zip(index.shards, _vectors(index), strict=True):
            kept = np.delete(np.arange(shard.rows), shard.dropped)
            names, texts = ([column[n] for n in kept.tolist()] for column in index.passages(shard))
            values = pa.array(vector_ND.astype(index.dtype).ravel())
            embedding = pa.FixedSizeListArray.from_arrays(values, dimension)
            full = [f"{shard.language}:{name}" for name in names]
            languages = pa.array([shard.language] * len(names))
            writer.write_table(pa.table([pa.array(full), languages, pa.array(texts), embedding], schema=schema))


def _faiss(index: Index, form: str, file: Path, retrieval: RetrievalConfig) -> dict[str, Any]:
    if importlib.util.find_spec("faiss") is None:
        raise ValueError(f"export {form} needs faiss: pip install faiss-cpu")
    import faiss

    exact = Sharded(index, index.together())
    cells = max(1, min(4096, int(4 * len(index) ** 0.5), len(index) // 39))
    made: Any = faiss.index_factory(
        exact.dimension,
        {"flat": "Flat", "ivf": f"IVF{cells},Flat", "hnsw": "HNSW32,Flat"}[form],
        faiss.METRIC_INNER_PRODUCT,
    )
    if not made.is_trained:
        step = max(1, len(index) // _TRAINED)
        made.train(np.concatenate([vector_ND[::step] for vector_ND in _vectors(index)]))
    for vector_ND in _vectors(index):
        made.add(vector_ND)
    if form == "ivf":
        made.nprobe = max(1, cells // 16)
    if form == "hnsw":
        made.hnsw.efSearch = 128
    place_P = np.concatenate([np.delete(np.asarray(shard.places), shard.dropped) for shard in index.shards])
    sample = np.unique(np.linspace(0, len(place_P) - 1, SAMPLED).astype(int))
    query_QD = exact.at(place_P[sample])
    k = min(K, len(index))
    best = top_k_sharded(query_QD, exact, k, Means(retrieval.memory))[1]
    found = np.append(place_P, -1)[made.search(query_QD, k)[1]]  # faiss gives -1 where it finds fewer
    recall = float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(best, found, strict=True)]))
    with replaced(file) as written:
        faiss.write_index(made, str(written))
    say(f"{file}: recall@{k} {recall:.3f} against exact search ({len(sample)} passages as questions)")
    return {f"recall@{k}": recall}
