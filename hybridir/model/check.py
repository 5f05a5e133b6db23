"""Checks that a model can be loaded, before any data or any large file is read."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import resolve
from hybridir.model.folder import check_weights, read_head, read_layout
from hybridir.model.tokenizer import load_tokenizer


def check_encoder(config: EncoderConfig) -> None:
    """Raises `ValueError` if `config.name` names no usable encoder; weights of the backbone are not read or fetched."""
    resolve(config)
    if config.name:
        load_tokenizer(config.name, config.revision)
        if os.path.isdir(config.name):
            check_weights(config.name, config.revision, read_layout(config.name, config.revision).backbone)
            _check_whole(Path(config.name))
            if not config.pooling:  # else the model's own head is not used
                read_head(config.name, config.revision)


def _check_whole(model: Path) -> None:
    """Raises `ValueError` if a file of weights is truncated; reads only the headers of the files."""
    for file in model.rglob("*.safetensors"):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is broken ({error}): fetch or save the model again") from None
