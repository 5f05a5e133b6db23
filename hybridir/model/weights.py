"""The weights of a model: which files hold them, and whether they are what its settings describe.

Only the headers of safetensors files are read here. Nothing of the described size is allocated before the files are
known to hold as much, so a small file cannot ask for a large memory.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from hybridir.model.files import find, read_settings

ENCODER_OF = ("t5", "mt5", "umt5")
"""Types of encoder-decoder of which the encoder is taken, as sentence-transformers does."""
_FLOATS = {"F16", "BF16", "F32", "F64"}
_QUANTISED = {f"{sign}{bits}" for sign in "IU" for bits in (4, 8, 16, 32)} | {"F4"}
"""Types of weights that hold several numbers, or parts of one. Numbers of positions or tokens have names in `_ids`."""
_OTHERS = {".gguf": "GGUF", ".onnx": "ONNX", ".h5": "TensorFlow's format", ".msgpack": "Flax's format"}
_POOLER = 2**26
"""The most weights of a pooler that the files lack (it may be made anew, to be left out)."""


class Stored(NamedTuple):
    """A tensor in a file: its shape, and its type as safetensors writes it, such as F32."""

    shape: tuple[int, ...]
    dtype: str


def weight_files(name: str, revision: str | None, folder: str) -> list[str]:
    """The local paths of the safetensors files in a subfolder of a model ("" for the top).

    Raises `ValueError` with the remedy if there are none, or if their index names other files than those beside it.
    """
    single, index = (os.path.join(folder, f"model.safetensors{end}") for end in ("", ".index.json"))
    if path := find(name, revision, single):
        return [path]
    if find(name, revision, index) is None:
        raise ValueError(f"{name!r} has no {single}{_remedy(name, folder)}")
    described = read_settings(name, revision, index)
    parts = described.get("weight_map")
    if not isinstance(parts, dict) or not parts or "metadata" not in described:
        raise ValueError(f"{name!r}: {index} has no weight_map or no metadata: fetch or save the model again")
    found = []
    for part in sorted(set(map(str, parts.values()))):
        if os.path.basename(part) != part or not part.endswith(".safetensors"):
            raise ValueError(f"{name!r}: {index} names {part!r}, but only safetensors files beside it are read")
        path = find(name, revision, os.path.join(folder, part))
        if path is None:
            raise ValueError(f"{name!r}: {index} names {part}, which is not there: fetch or save the model again")
        found.append(path)
    return found


def _remedy(name: str, folder: str) -> str:
    """What to do about a model without safetensors, by what lies in its folder."""
    there = [file for file in Path(name, folder).rglob("*") if file.is_file()]
    others = sorted({_OTHERS[file.suffix] for file in there if file.suffix in _OTHERS})
    of_torch = [file for file in there if file.suffix in (".bin", ".pt", ".pth", ".ckpt")]
    if others and not of_torch:
        return f", only weights as {' and '.join(others)}, which are not read: name the model that they were made from"
    if os.path.isdir(name) and not of_torch:
        return ": fetch or save the model again"
    return (
        ", and weights in other formats are not read (they can run code). If you trust it, convert it once by "
        f"SentenceTransformer({name!r}).save_pretrained(FOLDER), and name FOLDER"
    )


def read_headers(files: Sequence[str]) -> dict[str, Stored]:
    """The tensors in safetensors files by name; `ValueError` if a file is broken or its weights are quantised."""
    tensors = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for key in opened.keys():  # noqa: SIM118 (no mapping)
                    one = opened.get_slice(key)
                    tensors[key] = Stored(tuple(one.get_shape()), str(one.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"the weights at {file} are broken: fetch or save the model again ({error})") from None
    for key, one in tensors.items():
        unknown = one.dtype.startswith("F") and one.dtype not in _FLOATS
        if unknown or (one.dtype in _QUANTISED and not key.endswith("_ids")):
            raise ValueError(
                f"{files[0]} has quantised weights ({key} is {one.dtype}), which are not read: name the model that "
                "they were made from"
            )
    return tensors


def check_backbone(name: str, tensors: dict[str, Stored], config: Any) -> None:
    """Raises `ValueError` if transformers' `config` describes a larger backbone than its files hold."""
    needed, pooler = _count(config)
    stored = sum(math.prod(one.shape) for one in tensors.values())
    if needed > stored or pooler > max(stored, _POOLER):
        raise ValueError(
            f"the weights of {name!r} are broken: its config.json describes {needed + pooler:,} numbers, but its "
            f"files hold {stored:,}: fetch or save the model again"
        )


def has_pooler(tensors: dict[str, Stored]) -> bool:
    """Whether the weights of a pooler's dense layer are stored."""
    return any(key.endswith("pooler.dense.weight") for key in tensors)


def count_weights(config: Any) -> int:
    """The number of parameters of the backbone that transformers' `config` describes; allocates nothing."""
    return sum(_count(config))


def backbone_class(config: Any) -> Any:
    """The class of transformers that loads the backbone which `config` describes."""
    from transformers import AutoModel, AutoModelForTextEncoding

    return AutoModelForTextEncoding if config.model_type in ENCODER_OF else AutoModel


def _count(config: Any) -> tuple[int, int]:
    """The number of parameters without the pooler's, and of the pooler's."""
    try:
        with torch.device("meta"):
            empty = backbone_class(config).from_config(config, trust_remote_code=False)
    except Exception as error:  # what sizes that make no sense raise differs between models
        raise ValueError(
            f"no encoder can be made from this config.json ({type(error).__name__}: {error}): fetch or save the model "
            "again"
        ) from error
    sizes = {key: one.numel() for key, one in empty.named_parameters()}
    pooler = sum(size for key, size in sizes.items() if "pooler" in key)
    return sum(sizes.values()) - pooler, pooler
