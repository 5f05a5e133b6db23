"""One translation, from its recipe to its folder: read pairs, translate their texts, check, write pairs."""

import json
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hybridir.data.config import DataConfig
from hybridir.data.corpus import Corpus
from hybridir.data.languages import code_of, is_known, remedy, spell_languages
from hybridir.data.sources import joined_licenses, licenses
from hybridir.data.write import WRITERS
from hybridir.model.check import check_encoder
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.corpus import ShardReader, cache_folder, check_rejected, read_corpus
from hybridir.runs.folder import Kind, begin_folder, opened, output_folder
from hybridir.runs.recipe import MAY_CHANGE, ScalingConfig
from hybridir.runtime.durable import replace_text
from hybridir.runtime.progress import say, watch
from hybridir.runtime.tables import Grid
from hybridir.translation.assemble import Counts, write_language, write_source
from hybridir.translation.families import FAMILIES, family_name
from hybridir.translation.gates import GatesConfig
from hybridir.translation.texts import write_texts
from hybridir.translation.translator import ModelConfig, check_languages, identity
from hybridir.translation.units import PROBE, Done, Run, Unit, Work, read_unit

TRANSLATION = Kind(
    name="translation", job="jobs/translate.py", may_change=MAY_CHANGE | {"price", "data.path", "data.max_rejected"}
)


@dataclass(frozen=True, kw_only=True)
class Translation:
    """The recipe of a translation.

    Args:
        data: the pairs to translate; only those in the language `source` are read.
        source: language code of the pairs.
        languages: language codes to translate into.
        model: the translation model.
        gates: which translations are rejected.
        form: format of the pairs that are written, `jsonl` or `parquet`.
        unit: number of texts in a unit, which is translated and written to disk as a whole.
        price: price of a worker for an hour, in any currency, for the estimate of the cost.
        scaling: workers and devices.
        output: folder for the pairs. Omitted: outputs/translate-DATE-TIME.
        cache: folder for corpora, shared by jobs. Omitted: `cache` beside the output.
        resume: continue the translation in `output`; what is translated already is kept.
        dry_run: read the pairs into the cache and translate a few texts, print how long the rest would take, and write
            nothing else.
    """

    data: DataConfig = field(default_factory=DataConfig)
    source: str = "en"
    languages: tuple[str, ...] = ()
    model: ModelConfig = field(default_factory=ModelConfig)
    gates: GatesConfig = field(default_factory=GatesConfig)
    form: str = "jsonl"
    unit: int = 2048
    price: float = 0.0
    scaling: ScalingConfig = field(default_factory=lambda: ScalingConfig(num_workers=0))
    output: str = ""
    cache: str = ""
    resume: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.form not in WRITERS:
            raise ValueError(f"form is {self.form!r}: it must be one of {', '.join(WRITERS)}")
        if self.unit < 1:
            raise ValueError(f"unit is {self.unit}: it must be at least 1")
        if not 0 <= self.price < float("inf"):
            raise ValueError(f"price is {self.price}: it must be 0 or more")
        object.__setattr__(self, "source", code_of(self.source))
        spell_languages(self)
        for language in (self.source, *self.languages):
            if not is_known(language):
                raise ValueError(f"source or languages has {language!r}, an unknown code: {remedy(language)}")
        if self.source in self.languages or len(set(self.languages)) != len(self.languages):
            raise ValueError(f"languages has {self.source!r}, the source, or one language twice: {self.languages}")
        if self.data.languages not in (None, (self.source,)):
            raise ValueError(f"data.languages is {self.data.languages}: leave it out; only {self.source} is translated")


def run_translation(recipe: Translation, read: ShardReader, run: Run) -> Path:
    """The whole translation; returns the path of `README.md` in its folder. A finished one is left as it is."""
    quiet_libraries()
    with opened(recipe, TRANSLATION) as recipe:
        output = Path(recipe.output)
        if (output / "results.json").exists():
            say(f"the translation in {output} is finished: nothing is changed. Name another --output for a new one")
            return output / "README.md"
        corpus, work = _prepare(recipe, output, read)
        if not recipe.resume:
            begin_folder(recipe, TRANSLATION)  # removes the texts of a start that came no further
        write_texts(corpus, Path(work.folder, "texts"), recipe.unit)
        if recipe.resume:
            begin_folder(recipe, TRANSLATION)  # only now, as other pairs are refused
        units = [Unit(n, one) for one in recipe.languages for n in range(work.texts.n_shards)]
        waiting = [unit for unit in units if read_unit(work.file(unit)) is None]
        say(f"{len(units) - len(waiting)} of {len(units)} units of {recipe.unit} texts are translated")
        if waiting:
            tell_estimate(recipe, work, waiting, run)
            deque(_watched(recipe, work, corpus.n_pairs, waiting, run), maxlen=0)
        return _write(recipe, corpus, work)


def preview_translation(recipe: Translation, read: ShardReader, run: Run) -> None:
    """Reads the pairs, times the translation of a few texts, and prints how long everything would take."""
    quiet_libraries()
    cache = cache_folder(recipe, output_folder(recipe.output, TRANSLATION.short))
    with tempfile.TemporaryDirectory(dir=cache, prefix="dry-run-") as folder:  # a worker on another node reads it, too
        corpus, work = _prepare(replace(recipe, cache=str(cache)), Path(folder), read)
        write_texts(corpus, Path(work.folder, "texts"), recipe.unit)
        say(f"{corpus.n_pairs:,} pairs in {recipe.source}, {sum(n for n, _ in work.texts.sizes()):,} different texts")
        units = [Unit(n, one) for one in recipe.languages for n in range(work.texts.n_shards)]
        tell_estimate(recipe, work, units, run)


def tell_estimate(recipe: Translation, work: Work, units: Sequence[Unit], run: Run) -> float:
    """Translates a few texts, prints how long the units will take and what they cost; returns the seconds."""
    (probe,) = run(work, [Unit(PROBE, units[0].language)])
    sizes = work.texts.sizes()
    characters = sum(sizes[unit.shard][1] for unit in units)
    workers = max(1, min(recipe.scaling.num_workers, len(units)))
    seconds = probe.seconds / max(1, probe.characters) * characters / workers
    cost = f", cost about {seconds / 3600 * workers * recipe.price:,.2f}" if recipe.price else ""
    say(
        f"{characters:,} characters to translate, at {probe.characters / max(1e-9, probe.seconds):,.0f} a second on "
        f"each of {workers} workers: about {_duration(seconds)}{cost}"
    )
    return seconds


def _prepare(recipe: Translation, output: Path, read: ShardReader) -> tuple[Corpus, Work]:
    """Checks the model and reads the corpus; returns it and what workers need. Writes to the cache alone."""
    if not recipe.languages:
        raise ValueError("languages is empty: name the language codes to translate into, such as --languages '[de,fr]'")
    cache = cache_folder(recipe, output)
    family = FAMILIES[family_name(recipe.model.name, recipe.model.family)]
    gates, own = recipe.gates, recipe.model.identity()
    encoder = identity(gates.encoder, gates.revision, "gates") if gates.encoder else ""
    if encoder == own:
        raise ValueError("gates.encoder must be an encoder of its own, not the translation model")
    if encoder:
        check_encoder(gates.encoder_config())
    check_languages(recipe.model, (recipe.source, *recipe.languages))
    if not family.commercial:
        named = f", unless your licence, {recipe.model.license}, permits it" if recipe.model.license else ""
        say(
            f"{recipe.model.name}: such models are {family.license}, not for commercial use, nor is their output{named}"
        )
    corpus = read_corpus(replace(recipe.data, languages=(recipe.source,), validation_share=0.0), cache, read)
    if corpus.languages != (recipe.source,):
        raise ValueError(f"data.sources has pairs in {', '.join(corpus.languages)}: only {recipe.source} is translated")
    check_rejected(corpus, recipe.data.max_rejected)
    scaling = recipe.scaling
    return corpus, Work(
        folder=str(output / "units"),
        model=recipe.model,
        identity=own,
        gates=gates,
        source=recipe.source,
        encoder=encoder,
        use_gpu=scaling.use_gpu,
        threads=scaling.cpus_per_worker if scaling.num_workers else 0,
    )


def _watched(recipe: Translation, work: Work, n_pairs: int, units: Sequence[Unit], run: Run) -> Iterator[Done]:
    """Translates units and shows progress: pairs a second, time left, what was rejected and why."""
    sizes = work.texts.sizes()
    everything = len(recipe.languages) * sum(size for _, size in sizes)
    left = sum(sizes[unit.shard][1] for unit in units)
    n_pairs = n_pairs * len(recipe.languages) * left // everything
    rejected: Counter[str] = Counter()

    def counted() -> Iterator[tuple[Done, int, float]]:
        characters, told = 0, 0
        for done in run(work, units):
            rejected.update(done.reasons)
            characters += done.characters
            pairs = n_pairs * characters // left
            yield done, pairs - told, characters / left
            told = pairs

    def reasons() -> str:
        return "".join(f", {count:,} {reason}" for reason, count in rejected.most_common())

    return watch("translated", counted(), "pairs", also=reasons)


def _write(recipe: Translation, corpus: Corpus, work: Work) -> Path:
    """Writes the pairs of all languages, `results.json` and `README.md`; returns the path of the last."""
    output = Path(recipe.output)
    of_source = licenses(recipe.data, corpus)
    texts = {name: f"texts: {license}" for name, license in of_source.items()}
    by_model = f". Translated by {recipe.model.name}@{work.identity[:12]}: {recipe.model.licensed()}"
    translated = {name: license + by_model for name, license in texts.items()}
    counts = {recipe.source: write_source(corpus, output, recipe.source, texts, recipe.form)}
    for language in recipe.languages:
        counts[language] = write_language(corpus, work, language, translated, recipe.form)
        say(f"{language}: {counts[language].pairs:,} pairs, {counts[language].rejected.total():,} rejected")
    results: dict[str, Any] = {
        "model": recipe.model.name,
        "identity": work.identity,
        "gates": asdict(recipe.gates) | {"encoder_identity": work.encoder},
        "license": f"texts: {joined_licenses(of_source.values())}{by_model}",
        "source": recipe.source,
        "pairs_read": corpus.n_pairs,
        "languages": {language: vars(one) for language, one in counts.items()},
        "corpus": corpus.fingerprint,
    }
    replace_text(output / "README.md", _page(recipe, results, counts))
    replace_text(output / "results.json", json.dumps(results, indent=1, ensure_ascii=False))
    return output / "README.md"


def _page(recipe: Translation, results: dict[str, Any], counts: dict[str, Counts]) -> str:
    """What the folder holds, in Markdown."""
    reasons = list(dict.fromkeys(reason for one in counts.values() for reason in one.rejected))
    rows = [
        (
            language,
            f"{one.pairs:,}",
            *(f"{one.rejected[reason]:,}" for reason in reasons),
            f"{one.negatives_left_out:,}",
        )
        for language, one in counts.items()
    ]
    table = Grid("pairs", ("language", "pairs", *reasons, "hard negatives left out"), rows).to_markdown()
    encoder = f"`{recipe.gates.encoder}` ({results['gates']['encoder_identity']})"
    checked = f"\nTranslations of another text were looked for by {encoder}.\n" if recipe.gates.encoder else ""
    validation = (Path(recipe.output) / "validation").exists()
    held = f", format: {recipe.form}, path: {recipe.output}/validation" if validation else ""
    return f"""# Translated pairs

{results["pairs_read"]:,} pairs in {recipe.source}, translated into {", ".join(recipe.languages)} by `{
        recipe.model.name
    }`
({results["identity"]}). The columns after `pairs` count those that a check rejected; `rejected/` has all of them.
{checked}
Licence: {results["license"]}

{table}
Train on them with

    python jobs/train.py --data.format {recipe.form} --data.path {recipe.output}/train{
        f" --data.validation '{{{held[2:]}}}'" if held else ""
    }
"""


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:,.0f} minutes ({seconds:,.0f} s)"
