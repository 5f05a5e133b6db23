"""Checks before a run starts, so that it does not fail hours later: can storage be written to, and is there space?"""

import os
import shutil
import tempfile
from pathlib import Path

from hybridir.model.check import resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.folder import read_layout
from hybridir.model.weights import count_weights
from hybridir.runs.recipe import Recipe


def check_writable(folder: Path, field: str) -> None:
    """Makes `folder`, the value of option `field`; `ValueError` if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to ({error}): name another folder by {field}") from None


def check_space(recipe: Recipe, output: Path, cache: Path, corpus: int = 0) -> None:
    """`ValueError` if the storage has no room for the checkpoints, models and tokens of a run.

    A checkpoint holds the weights and two optimizer moments of each weight. There are `train.keep_last` checkpoints,
    the best one, and one being written. Tokens take about `corpus` bytes (0 if they are in the cache already).
    """
    weights = _count_weights(recipe.encoder) * 4
    checkpoints = recipe.train.keep_last + 2
    there = sum(f.stat().st_size for f in output.glob("checkpoints/*/*") if f.is_file())
    needed = {output: max(0, (3 * checkpoints + 2) * weights - there), cache: corpus}
    devices = {folder: os.stat(folder).st_dev for folder in needed}
    for folder, device in devices.items():
        free, wanted = shutil.disk_usage(folder).free, sum(needed[f] for f in needed if devices[f] == device)
        if free < wanted:
            raise ValueError(
                f"{folder} has {free / 1e9:.1f} GB free, but the run needs about {wanted / 1e9:.1f} GB: {checkpoints} "
                f"checkpoints of {3 * weights / 1e9:.1f} GB, two models, and {corpus / 1e9:.1f} GB of tokens. Free "
                "space, lower train.keep_last, or name other storage by --output and --cache"
            )


def _count_weights(config: EncoderConfig) -> int:
    """The approximate number of parameters of the encoder; reads no weights."""
    if not config.name:
        longest = resolve(config).max_length("passage")
        return (config.vocab_size + longest) * config.hidden_size + 12 * config.layers * config.hidden_size**2
    return count_weights(read_layout(config.name, config.revision).config)
