"""The readers, one module per file format. A new format is one module here and one line in the dict it belongs to."""

from hybridir.data import rows
from hybridir.data.config import BenchmarkReader, PairReader
from hybridir.data.formats import (
    beir,
    heldout,
    jsonl,
    lareqa,
    miracl,
    mmarco,
    sample,
    sentence_transformers,
    tevatron,
)

PAIR_READERS: dict[str, PairReader] = {
    "sample": sample.find_shards,
    "lareqa": lareqa.find_shards,
    "jsonl": jsonl.find_shards,
    "parquet": jsonl.find_shards,
    "csv": jsonl.find_shards,
    "tsv": jsonl.find_shards,
    "tevatron": tevatron.find_shards,
    "sentence-transformers": sentence_transformers.find_shards,
    "beir": beir.find_shards,
    "mmarco": mmarco.find_shards,
}
ROWS: dict[str, rows.Fields] = {
    "jsonl": jsonl.FIELDS,
    "parquet": jsonl.FIELDS,
    "csv": jsonl.FIELDS,
    "tsv": jsonl.FIELDS,
    "tevatron": tevatron.FIELDS,
    "sentence-transformers": sentence_transformers.FIELDS,
}
"""The formats in which a row is complete without other files; datasets of the Hugging Face hub are read in these."""
LICENSES = {
    "sample": "Unicode-3.0",  # of CLDR
    "lareqa": "XQuAD-R: CC-BY-SA-4.0, MLQA-R: CC-BY-NC-4.0",  # README at `lareqa.SOURCE`, at that commit
}
"""Licences of formats that are only used by published data."""
BENCHMARK_READERS: dict[str, BenchmarkReader] = {
    "sample": sample.read_benchmark,
    "xquad-r": lareqa.read_benchmark,
    "mlqa-r": lareqa.read_benchmark,
    "beir": beir.read_benchmark,
    "miracl": miracl.read_benchmark,
    **dict.fromkeys(heldout.PARTS, heldout.read_benchmark),
}
