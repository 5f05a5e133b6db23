"""Training and evaluation as functions, for notebooks and scripts: in this process, without Ray and MLflow."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from hybridir.model.encoder import Encoder
from hybridir.runs.backend import here, track_nothing
from hybridir.runs.corpus import cache_folder
from hybridir.runs.evaluation_run import Evaluation, run_evaluation
from hybridir.runs.folder import output_folder
from hybridir.runs.index_job import way_of
from hybridir.runs.recipe import Recipe
from hybridir.runs.training_run import run_training
from hybridir.runtime.durable import replace_text

Made = TypeVar("Made")


@dataclass(frozen=True)
class Run:
    """A finished training or evaluation. `folder` holds its files, `report.html` among them."""

    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        """The content of `results.json`: `results["multilingual"]["mAP"]`, for example."""
        return json.loads((self.folder / "results.json").read_text(encoding="utf-8"))

    @property
    def encoder(self) -> Encoder:
        """The trained encoder, loaded anew each time."""
        return Encoder.load(str(self.folder))


def train(data: str | Path | Iterable[Mapping[str, Any]], *, output: str | Path = "", **sections: Any) -> Run:
    """Trains an encoder on pairs, and measures it beside its untrained state and BM25.

    Args:
        data: a file or folder, or pairs as dictionaries with the fields of `hybridir/data/README.md`.
        output: folder for the results. Omitted: outputs/train-DATE-TIME.
        sections: sections and fields of the configuration, as `python jobs/train.py --help` lists them: a dictionary
            for a section, such as `encoder={"name": "intfloat/multilingual-e5-small"}` or `train={"steps": 200}`.

    Raises:
        ValueError: a section, a field or the data are wrong.
    """
    folder = output_folder(str(output), "train")
    if isinstance(data, str | Path):
        source = {"path": str(data)}
    else:
        cache = cache_folder(Recipe(cache=str(sections.get("cache") or "")), folder)
        source = {"path": str(_written(data, cache)), "format": "jsonl"}
    own = {"data": source, "scaling": {"num_workers": 0}, "tracking": {"enabled": False}, "output": str(folder)}
    recipe = _make(Recipe, own, sections)
    return Run(run_training(recipe, nullcontext(here(recipe.scaling.use_gpu)), track_nothing).parent)


def evaluate(
    encoder: str | Path | Run | Encoder,
    benchmark: str | Mapping[str, Any] = "",
    *,
    compare_to: Sequence[str | Mapping[str, Any]] = (),
    output: str | Path = "",
    **sections: Any,
) -> Run:
    """Measures an encoder on a benchmark.

    Args:
        encoder: an encoder, a run, or the name of a model folder, of a run's folder or on the Hugging Face hub.
        benchmark: its name, or the fields of `--benchmark` as a dictionary.
        compare_to: names of the systems to compare it with, such as `bm25`, or dictionaries of the fields of
            `--encoder`.
        output: folder for the results. Omitted: outputs/evaluate-DATE-TIME.
        sections: other sections and fields of the configuration, as `python jobs/evaluate.py --help` lists them.

    Raises:
        ValueError: a section or a field is wrong, or there is no such encoder or benchmark.
    """
    with TemporaryDirectory() as memory:
        if isinstance(encoder, Encoder):
            name = str(Path(memory, "encoder", "model"))
            encoder.save(name)
        else:
            name = str(encoder.folder if isinstance(encoder, Run) else encoder)
        own = {
            "encoder": {"name": name},
            "benchmark": dict(benchmark)
            if isinstance(benchmark, Mapping)
            else {"name": benchmark}
            if benchmark
            else {},
            "compare_to": list(compare_to),
            "tracking": {"enabled": False},
            "output": str(output_folder(str(output), "evaluate")),
        }
        recipe = _make(Evaluation, own, sections)
        backend = here(recipe.scaling.use_gpu)
        way = way_of(recipe.retrieval, recipe.scaling, backend)
        return Run(run_evaluation(recipe, backend.encode, track_nothing, way).parent)


def _make(kind: type[Made], own: dict[str, Any], sections: Mapping[str, Any]) -> Made:
    """A recipe from values by section; those of `sections` come before `own`."""
    values = dict(own)
    for name, value in sections.items():
        both = isinstance(value, Mapping) and isinstance(values.get(name), dict)
        values[name] = values[name] | dict(value) if both else value
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        parsed = parser.instantiate(parser.parse_object(values))
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    return kind(**parsed)


def _written(pairs: Iterable[Mapping[str, Any]], folder: Path) -> Path:
    """The pairs as a file in `folder`, named by its content, so that equal pairs are read and tokenised once."""
    text = "".join(json.dumps(dict(pair), ensure_ascii=False) + "\n" for pair in pairs)
    file = folder / f"pairs-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(file, text)
    return file
