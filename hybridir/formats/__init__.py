"""One reader a file format. A new format is one module here and one line in the dict that fits it."""

from collections.abc import Iterator

from hybridir.formats import lareqa, sample
from hybridir.records import Benchmark, BenchmarkConfig, BenchmarkReader, DataConfig, Pair, PairReader, Rejected, Split

PAIR_READERS: dict[str, PairReader] = {
    "sample": sample.read_pairs,
    "lareqa": lareqa.read_pairs,
}
BENCHMARK_READERS: dict[str, BenchmarkReader] = {
    "sample": sample.read_benchmark,
    "xquad-r": lareqa.read_benchmark,
    "mlqa-r": lareqa.read_benchmark,
}


def read_pairs(config: DataConfig, split: Split) -> Iterator[Pair | Rejected]:
    """The pairs of one split, by the reader that `config.format` names."""
    if config.format not in PAIR_READERS:
        raise ValueError(f"data.format {config.format!r} is unknown; there are {', '.join(PAIR_READERS)}")
    return PAIR_READERS[config.format](config, split)


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark that `config.name` names."""
    if config.name not in BENCHMARK_READERS:
        raise ValueError(f"benchmark.name {config.name!r} is unknown; there are {', '.join(BENCHMARK_READERS)}")
    return BENCHMARK_READERS[config.name](config)
