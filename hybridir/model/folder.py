"""Model folders: what the sentence-transformers layout says beyond the backbone, of a folder or a hub id.

modules.json lists the modules and their folders: Transformer (at the top, or in `0_Transformer`), Pooling, at most one
Dense, Normalize. A plain Hugging Face folder has no modules.json. Weights are read from safetensors only.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridir.model.precision import at_least_float32

Side = Literal["query", "passage"]
_DEFAULT_LENGTHS: dict[Side, int] = {"query": 64, "passage": 256}
_LENGTHS = "text_lengths.json"
_UNLIMITED = 100_000
"""Tokens: a limit from here on is none (tokenizers say 10^30)."""
_SETTINGS = "config_sentence_transformers.json"
_SENTENCE_TRANSFORMERS = "sentence_transformers.models"
_SHIFTED = ("roberta", "camembert", "mpnet", "xmod", "data2vec-text", "longformer")
"""Types of model whose positions start behind the padding id."""
_POOLING = {
    "mean": "mean_tokens",
    "cls": "cls_token",
    "max": "max_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
"""Ways to pool by their names, and by those of the flags in files of sentence-transformers 5 and before."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"Tanh": torch.tanh, "Identity": lambda x: x}
"""What may follow a dense layer."""
_PROMPTS: dict[Side, tuple[str, ...]] = {"query": ("query",), "passage": ("passage", "document", "corpus")}
"""The names of prompts that are for one side."""


@dataclass(frozen=True)
class Head:
    """What comes after the backbone.

    Attributes:
        pooling: how the vectors of a text's tokens become one: `mean`, `cls`, `max`, `weightedmean` (token n counts n
            times) or `lasttoken`.
        dense: a layer after it, if any.
        activation: what follows the layer, `Tanh` or `Identity`.
        normalize: whether embeddings get length 1.
    """

    pooling: str = "mean"
    dense: nn.Linear | None = None
    activation: str = "Tanh"
    normalize: bool = True


@dataclass(frozen=True)
class Layout:
    """What the files of a model say besides its weights.

    Attributes:
        backbone: subfolder of backbone and tokenizer, mostly "".
        config: transformers' config of the backbone; None of a new model.
        positions: the longest text in tokens that the backbone takes; None where it sets no limit.
        prompts: prefix by side: by its own name, else the one that the model takes by default, else "".
        lengths: tokens of a text by side: as the model was trained, else 64 and 256, or less where it takes less.
        longest: likewise, but else what sentence-transformers would take.
        lower_case: whether sentence-transformers puts texts in lower case, even if the tokenizer would not.
    """

    backbone: str
    config: Any
    positions: int | None
    prompts: dict[Side, str]
    lengths: dict[Side, int]
    longest: dict[Side, int]
    lower_case: bool


DEFAULT = Layout("", None, None, {"query": "", "passage": ""}, _DEFAULT_LENGTHS, _DEFAULT_LENGTHS, lower_case=False)
"""Of a new model."""


def read_layout(name: str, revision: str | None) -> Layout:
    """The layout of a folder or hub id, plain or of sentence-transformers; `ValueError` where it holds no encoder."""
    from transformers import AutoConfig

    backbone = backbone_folder(name, revision)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, subfolder=backbone)
    except (OSError, ValueError) as error:
        raise ValueError(f"no encoder at {name!r}: {error}") from error
    if getattr(config, "is_decoder", False):
        raise ValueError(
            f"{name!r} is a decoder (is_decoder in its config.json), where no token sees the next: name an encoder"
        )
    positions = _count_positions(config)
    tokenizer = _read_json(name, revision, os.path.join(backbone, "tokenizer_config.json")) or {}
    limits = _read_json(name, revision, os.path.join(backbone, "sentence_bert_config.json")) or {}
    limit = min(
        filter(None, (limits.get("max_seq_length") or tokenizer.get("model_max_length"), positions, _UNLIMITED))
    )
    prompts = _prompts(_read_json(name, revision, _SETTINGS) or {})
    lengths = longest = _read_json(name, revision, _LENGTHS)
    if lengths is None:
        lengths = {side: min(length, limit) for side, length in _DEFAULT_LENGTHS.items()}
        longest = dict.fromkeys(lengths, limit if limit < _UNLIMITED else 512)
    if not isinstance(lengths, dict) or not all(isinstance(lengths.get(side), int) for side in get_args(Side)):
        raise ValueError(f"{name!r}: {_LENGTHS} must give the tokens of `query` and `passage`: save the model again")
    return Layout(backbone, config, positions, prompts, lengths, longest, bool(limits.get("do_lower_case")))


def backbone_folder(name: str, revision: str | None) -> str:
    """The subfolder of a model's backbone and tokenizer, "" for the top."""
    modules = _read_modules(name, revision)
    return modules[0]["path"] if modules else ""


def read_head(name: str, revision: str | None) -> Head:
    """What a model does after its backbone; a plain folder pools by mean.

    Embeddings get length 1 also where no Normalize says so: by cosine that changes nothing. Only a model that scores by
    the dot product keeps the lengths that it gives.
    """
    modules = _read_modules(name, revision)
    if modules is None:
        return Head()
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    known = ["Transformer", "Pooling", *(["Dense"] if "Dense" in kinds else []), "Normalize"]
    if kinds not in (known, known[:-1]):
        raise ValueError(f"{name!r} has the modules {', '.join(kinds)}; supported are {', '.join(known)}")
    scored = (_read_json(name, revision, _SETTINGS) or {}).get("similarity_fn_name") or "cosine"
    if scored not in ("cosine", "dot"):
        raise ValueError(f"{name!r} scores by {scored} (similarity_fn_name): supported are cosine and dot")
    pooling = _pooling_mode(name, _read_json(name, revision, f"{modules[1]['path']}/config.json") or {})
    dense, activation = _read_dense(name, revision, modules[2]["path"]) if "Dense" in kinds else (None, "Tanh")
    return Head(pooling, dense, activation, normalize="Normalize" in kinds or scored == "cosine")


def check_weights(name: str, revision: str | None, folder: str) -> None:
    """`ValueError` with the remedy where a folder of a model (or "") has no weights in safetensors."""
    files = [os.path.join(folder, f"model.safetensors{end}") for end in ("", ".index.json")]
    if all(_find(name, revision, file) is None for file in files):
        raise ValueError(
            f"{name!r} has no {files[0]}, and weights in other formats are not read (they can run code). Where you "
            f"trust it, convert it once, SentenceTransformer({name!r}).save_pretrained(FOLDER), and name that folder"
        )


def write_layout(directory: Path, head: Head, width: int, prompts: dict[str, str], lengths: dict[Side, int]) -> None:
    """Writes the sentence-transformers layout around a backbone of `width` and its tokenizer, saved at the top."""
    dense = head.dense
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if head.normalize else [])]
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds) if i)]
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"{_SENTENCE_TRANSFORMERS}.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ],
        "sentence_bert_config.json": {"max_seq_length": lengths["passage"], "do_lower_case": False},
        _LENGTHS: lengths,
        _SETTINGS: {"prompts": prompts, "similarity_fn_name": "cosine" if head.normalize else "dot"},
        "1_Pooling/config.json": {
            "word_embedding_dimension": width,
            **{f"pooling_mode_{flag}": mode == head.pooling for mode, flag in _POOLING.items()},
        },
    }
    if dense:
        files["2_Dense/config.json"] = {
            "in_features": dense.in_features,
            "out_features": dense.out_features,
            "bias": dense.bias is not None,
            "activation_function": f"torch.nn.{head.activation}",
        }
        (directory / "2_Dense").mkdir(exist_ok=True)
        weights = {f"linear.{key}": value.contiguous() for key, value in dense.state_dict().items()}
        save_file(weights, directory / "2_Dense" / "model.safetensors")
    (directory / "1_Pooling").mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _count_positions(config: Any) -> int | None:
    positions = getattr(config, "max_position_embeddings", None) or 0
    if any(kind in config.model_type for kind in _SHIFTED):
        positions -= config.pad_token_id + 1
    return positions if positions > 0 else None


def _prompts(settings: dict[str, Any]) -> dict[Side, str]:
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    general = "" if default in [*chain(*_PROMPTS.values())] else prompts.get(default) or ""
    return {side: next(filter(None, map(prompts.get, names)), general) for side, names in _PROMPTS.items()}


def _pooling_mode(name: str, config: dict[str, Any]) -> str:
    modes = {key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on}
    wanted = config.get("pooling_mode") or (modes.pop() if len(modes) == 1 else sorted(modes))
    mode = next((mode for mode, flag in _POOLING.items() if wanted in (mode, [mode], flag)), None)
    if mode is None:
        raise ValueError(f"{name!r} pools by {wanted}; to pool otherwise set encoder.pooling to mean or cls")
    if not config.get("include_prompt", True):
        raise ValueError(f"{name!r} pools without the tokens of its prompt, which is not supported")
    return mode


def _read_dense(name: str, revision: str | None, path: str) -> tuple[nn.Linear, str]:
    """The layer and what follows it."""
    config = _read_json(name, revision, f"{path}/config.json") or {}
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name!r}: the dense layer's activation {activation} is not one of {', '.join(ACTIVATIONS)}")
    if config.get("use_residual"):
        raise ValueError(f"{name!r}: a dense layer with a residual is not supported")
    check_weights(name, revision, path)
    file = _find(name, revision, f"{path}/model.safetensors")
    assert file is not None, "a dense layer is one file"
    try:
        weights = {key.removeprefix("linear."): value for key, value in load_file(file).items()}
        dtype = at_least_float32(next((value.dtype for value in weights.values()), torch.float32))
        dense = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True), dtype=dtype)
        dense.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"the weights at {file} are broken: fetch or save the model again ({error})") from error
    return dense, activation


def _read_modules(name: str, revision: str | None) -> list[dict[str, Any]] | None:
    modules = _read_json(name, revision, "modules.json")
    if modules is None:
        return None
    if not isinstance(modules, list) or not all(isinstance(m, dict) and {"type", "path"} <= set(m) for m in modules):
        raise ValueError(f"{name!r}: modules.json must list modules with type and path: fetch or save the model again")
    return modules


def _read_json(name: str, revision: str | None, file: str) -> Any:
    path = _find(name, revision, file)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: fetch or save the model again ({error})") from error


def _find(name: str, revision: str | None, file: str) -> str | None:
    """The path of a file of a folder or hub id, None where it has none."""
    from transformers.utils import cached_file

    if os.path.isdir(name):
        path = os.path.join(name, file)
        return path if os.path.exists(path) else None
    try:
        return cached_file(
            name,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError as error:
        raise ValueError(f"no encoder at {name!r}, which is neither a folder nor a hub id: {error}") from error
