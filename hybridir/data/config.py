"""The configuration of training data and benchmarks: what to read, and how."""

from dataclasses import dataclass
from typing import Protocol

from hybridir.data.languages import spell_languages
from hybridir.data.records import SPLITS, Benchmark, Shard, Split
from hybridir.runtime.secrets import without_secrets


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of pairs in one format.

    Args:
        format: {formats}; or a published set by name, such as `wikiqa` (all in hybridir/data/formats/README.md). The
            sample is embedded and takes no path. Omitted: told by the name of the file, or by what lies in the folder;
            the sample without a path.
        path: file or folder, or a URI that pyarrow opens (s3://, gs://, ...), in which `{language}` stands for any
            language code; or hf://datasets/OWNER/NAME for a dataset of the Hugging Face hub in one of the formats
            {rows}.
        columns: names of columns in the data that differ from those of the format: `{query: question, passage: answer,
            language: lang}` reads the query from the column `question`. For {rows}.
        name: name of the source in the batch plan and in reports. Omitted: the path, if there are several sources.
        language: language code of all rows that do not have their own.
        languages: language codes to read. Omitted: all, but the nine training languages for the sample.
        max_negatives: number of hard negatives kept per pair (the first ones). Omitted: all, but 8 for mmarco.
        split: for beir, hf:// and published sets only: the split that holds the pairs, as in the names of files.
        subset: for hf:// only: the configuration (subset) of the dataset; or, with a slash, a pattern of its files.
        revision: for hf:// only: the commit to read, 40 hexadecimal digits (required, so that a run can be repeated).
        facts: for the sample only: number of facts; each gives one pair in every language.
        license: licence of the texts, for the model card: an SPDX id or a short text. Omitted: the licence known for
            the format, else not stated.
    """

    format: str = ""
    path: str = ""
    columns: dict[str, str] | None = None
    name: str = ""
    language: str | None = None
    languages: tuple[str, ...] | None = None
    max_negatives: int | None = None
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    facts: int = 960
    license: str | None = None

    def __post_init__(self) -> None:
        spell_languages(self)
        if self.max_negatives is not None and self.max_negatives < 0:
            raise ValueError(f"data.max_negatives is {self.max_negatives}: it must be at least 0")
        if self.path and self.format == "sample":
            raise ValueError(
                f"data.path is {without_secrets(self.path)!r}, but data.format is sample, which is embedded and takes "
                "no path: leave data.format out to read the path, or data.path to use the sample"
            )


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """The benchmark that encoders are measured on.

    Args:
        name: {benchmarks}. `beir` is for a folder in that format, `heldout` for the test part of a run's own data
            (`data.test_share`), `validation` for its validation pairs. Omitted: what lies at `path`; without a path
            `heldout` in a run on your own data, the part left out of XQuAD-R or MLQA-R in a run on these, else the
            sample.
        path: folder with the files of the benchmark; not for the sample. For heldout and validation: folder of the run
            whose data they are, or of a corpus; omitted, this run. For beir, `{language}` in the path stands for any
            language code: one folder per language, in which queries with the same id are translations of each other.
        split: the part to measure on. sample, xquad-r, mlqa-r: `test` is the part that training on the same data leaves
            out, `all` is the whole benchmark; omitted, it is the whole, but `test` if a measured model was trained on
            it. beir: the name of the qrels file, `test` (also when omitted) for `qrels/test.tsv`. miracl: `dev` (also
            when omitted) or `train`.
        language: for beir only: language code of the folder, if its path has no `{language}`.
        languages: language codes to measure on; all when omitted.
        facts: for the sample only: number of facts.
        groups: for heldout and validation only: number of groups to measure on. Omitted: at most 1,000 of heldout, all
            of validation.
        without_domains: for heldout and validation only: domains whose questions are not asked.
    """

    name: str = ""
    path: str = ""
    split: str | None = None
    language: str | None = None
    languages: tuple[str, ...] | None = None
    facts: int = 960
    groups: int | None = None
    without_domains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        spell_languages(self)


@dataclass(frozen=True, kw_only=True)
class DataConfig(Source):
    """Training and validation pairs: one source, or several.

    Args:
        sources: list of sources, each with the fields of a single source; leave out `format` and `path` above it.
        validation: source of the validation pairs. Omitted: the validation pairs of the format (sample, lareqa), else
            `validation_share` of the groups.
        validation_share: share of the groups used for validation instead of training; groups that share a passage
            always go together.
        test_share: share of the groups that the run never sees, for the benchmark `heldout`; whole passage groups, and
            no validation group. Omitted: 0.2 if the benchmark is `heldout`, else 0.
        max_rejected: the run does not start if a larger share of the rows is rejected.
        exclude: benchmarks that must not be trained on, by name, folder or fields: pairs that share 13 words in a row
            with their questions or relevant passages are left out with their passage groups, and listed in
            `rejected.jsonl`.
        exclude_encoder: an encoder by which texts near those of the benchmarks are found too, such as translations.
        exclude_similarity: the cosine similarity from which texts are near.
    """

    sources: tuple[Source, ...] = ()
    validation: Source | None = None
    validation_share: float = 0.05
    test_share: float | None = None
    max_rejected: float = 0.01
    exclude: tuple[BenchmarkConfig | str, ...] = ()
    exclude_encoder: str = ""
    exclude_similarity: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("validation_share", "test_share", "max_rejected"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}: it must be between 0 and 1")
        if self.validation_share + (self.test_share or 0) > 1:
            raise ValueError(
                f"data.validation_share is {self.validation_share} and data.test_share {self.test_share}: together "
                "they must be at most 1"
            )
        if self.exclude_encoder and not self.exclude:
            raise ValueError(
                "data.exclude_encoder is set, but data.exclude names no benchmark: name one, or leave it out"
            )
        if not 0 < self.exclude_similarity <= 1:
            raise ValueError(f"data.exclude_similarity is {self.exclude_similarity}: it must be above 0, at most 1")
        if self.sources and (self.path or self.format not in ("", "sample")):  # older runs saved `sample` there
            raise ValueError("data has sources, and also a format or path: move that into data.sources")


class PairReader(Protocol):
    """Lists the shards of a source in a fixed order, without reading their rows."""

    def __call__(self, source: Source) -> list[Shard]: ...


class BenchmarkReader(Protocol):
    """Reads a benchmark into memory."""

    def __call__(self, config: BenchmarkConfig) -> Benchmark: ...


@dataclass(frozen=True)
class BenchmarkFormat:
    """A benchmark, or a format of benchmarks.

    Attributes:
        read: reads it.
        uses: which of the fields `path`, `facts`, `language`, `groups` and `without_domains` of `BenchmarkConfig` it
            reads. If one of the others is set, that is an error.
        license: licence of its texts; "" if it is a format that any texts can have.
        hub_id: its id on the Hugging Face hub, if it is there.
    """

    read: BenchmarkReader
    uses: tuple[str, ...] = ("path",)
    license: str = ""
    hub_id: str = ""


def own_split(config: BenchmarkConfig) -> Split:
    """The split asked for, of a benchmark that is split by this project; `ValueError` for an unknown split."""
    wanted = config.split or "test"
    for split in SPLITS:
        if split == wanted:
            return split
    raise ValueError(f"benchmark.split {wanted!r} is unknown: {config.name} has {', '.join(SPLITS)}")
