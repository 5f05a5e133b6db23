"""Whether a model can be trained or measured, looked at before anything large is read."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import resolve
from hybridir.model.folder import check_weights, read_head, read_layout
from hybridir.model.tokenizer import load_tokenizer


def check_encoder(config: EncoderConfig) -> None:
    """`ValueError` where `config.name` is no encoder that can be trained; nothing large is read or fetched."""
    resolve(config)
    if config.name:
        load_tokenizer(config.name, config.revision)
        if os.path.isdir(config.name):
            check_weights(config.name, config.revision, read_layout(config.name, config.revision).backbone)
            _check_whole(Path(config.name))
            read_head(config.name, config.revision)


def _check_whole(model: Path) -> None:
    """`ValueError` where a file of weights was cut off; only the heads of files are read."""
    for file in model.rglob("*.safetensors"):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is broken ({error}): fetch or save the model again") from None
