"""Mining in rounds: mine, train on what was mined, encode the passages with the trained model, and mine again.

    round-1/negatives, round-1/run            mined from the index that was named; trained on that
    round-2/index, round-2/negatives, ...     the same passages, encoded by the model of the round before

Every training starts from the encoder of the training's own configuration. Each folder is one that a job of its own
makes, and continues where that stopped.
"""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridir.data.config import DataConfig, Source
from hybridir.retrieval.encode_shards import Run
from hybridir.runs.backend import Backend, Track
from hybridir.runs.corpus import cache_folder
from hybridir.runs.folder import begin_folder, kind_of, opened
from hybridir.runs.index_job import Encoding, run_encoding
from hybridir.runs.mine_job import MINING, Mining, run_mining
from hybridir.runs.recipe import Recipe
from hybridir.runs.training_run import run_training
from hybridir.runtime.command_line import parse
from hybridir.runtime.durable import replace_text
from hybridir.runtime.progress import say
from hybridir.runtime.tables import Grid


def run_rounds(recipe: Mining, backend: Backend, track: Track) -> Path:
    """Mines and trains `recipe.rounds` times; returns the path of `README.md`."""
    training = parse(Recipe, "jobs/train.py", None, ["--config", recipe.training])
    with opened(recipe, MINING) as recipe:
        output = Path(recipe.output)
        recipe = replace(recipe, cache=str(cache_folder(recipe, output)))
        begin_folder(recipe, MINING)
        rounds: list[dict[str, Any]] = []
        for n in range(1, recipe.rounds + 1):
            say(f"round {n} of {recipe.rounds}")
            folder = output / f"round-{n}"
            mined = replace(recipe, training="", rounds=1, **_at(folder / "negatives"))
            if n > 1:
                model = output / f"round-{n - 1}" / "run"
                index = _encode_again(Path(recipe.index), model, folder / "index", backend.encode_shards)
                mined = replace(mined, index=str(index), model="")
            run_mining(mined, backend)
            page = run_training(_training(training, mined, folder / "run"), nullcontext(backend), track)
            results = json.loads((page.parent / "results.json").read_text(encoding="utf-8"))
            rounds.append({"round": n, "validation": results["validation"], "test": results["multilingual"]["mAP"]})
        return _finish(output, rounds)


def _at(folder: Path) -> dict[str, Any]:
    """The output of a job in a folder, which is continued if a job has begun there."""
    return {"output": str(folder), "resume": bool(kind_of(folder)) if folder.exists() else False}


def _encode_again(index: Path, model: Path, output: Path, run: Run) -> Path:
    """The passages of `index`, encoded by another model."""
    encoding = parse(Encoding, "jobs/encode.py", None, ["--config", str(index / "config.yaml")])
    encoder = replace(encoding.encoder, name=str(model), revision=None, pooling=None)
    return run_encoding(replace(encoding, encoder=encoder, export=(), **_at(output)), run)


def _training(training: Recipe, mined: Mining, output: Path) -> Recipe:
    """The training on what was mined, with at least one negative an item."""
    folder = Path(mined.output)
    held = Source(format=mined.form, path=str(folder / "validation")) if (folder / "validation").exists() else None
    data = DataConfig(
        format=mined.form,
        path=str(folder / "train"),
        validation=held,
        validation_share=training.data.validation_share,
        test_share=training.data.test_share,
        max_rejected=training.data.max_rejected,
        license=training.data.license,
    )
    sampling = replace(training.sampling, negatives=max(1, training.sampling.negatives))
    return replace(training, data=data, sampling=sampling, cache=mined.cache, scaling=mined.scaling, **_at(output))


def _finish(output: Path, rounds: list[dict[str, Any]]) -> Path:
    rows = [
        (str(one["round"]), f"{one['validation']['value']:.4f}", f"{one['test']:.4f}", f"round-{one['round']}/run")
        for one in rounds
    ]
    metric = rounds[0]["validation"]["metric"]
    table = Grid("rounds", ("round", metric, "multilingual mAP", "trained"), rows).to_markdown()
    replace_text(
        output / "README.md", f"# Negatives mined in rounds\n\n{table}\nThe second column chose the weights.\n"
    )
    replace_text(output / "results.json", json.dumps({"rounds": rounds}, indent=1))
    return output / "README.md"
