"""The readers, one module per file format. A new format is one module here and one line in the dict it belongs to."""

from hybridir.data import rows
from hybridir.data.config import BenchmarkConfig, BenchmarkFormat, PairReader, Source
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
    "mmarco": "other: MS MARCO's terms, for non-commercial research only",  # as its makers say; the code is Apache-2.0
}
"""Licences of formats that are only used by published data."""
BENCHMARKS: dict[str, BenchmarkFormat] = {
    "sample": BenchmarkFormat(sample.read_benchmark, ("facts",), "Unicode-3.0"),
    "xquad-r": BenchmarkFormat(
        lareqa.read_benchmark, license="CC-BY-SA-4.0", hub_id="google-research-datasets/xquad_r"
    ),
    "mlqa-r": BenchmarkFormat(lareqa.read_benchmark, license="CC-BY-NC-4.0"),
    "beir": BenchmarkFormat(beir.read_benchmark, ("path", "language")),
    "miracl": BenchmarkFormat(miracl.read_benchmark, hub_id="miracl/miracl"),
    **dict.fromkeys(heldout.PARTS, BenchmarkFormat(heldout.read_benchmark, ("path", "groups", "without_domains"))),
}


def _list_in_help() -> None:
    """Writes the names above into the help of the options that take them; `config.py` cannot import them."""
    names = {"{formats}": [*PAIR_READERS], "{rows}": [*ROWS], "{benchmarks}": [*BENCHMARKS]}
    for config in (Source, BenchmarkConfig):
        for mark, known in names.items():
            config.__doc__ = (config.__doc__ or "").replace(mark, ", ".join(f"`{name}`" for name in known))


_list_in_help()
