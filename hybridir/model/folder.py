"""Reads and writes the files that surround a backbone in the sentence-transformers layout, of a folder or a hub id.

modules.json lists the modules and their folders: Transformer (at the top, or in `0_Transformer`), Pooling, perhaps one
Dense, perhaps Normalize. A plain Hugging Face folder has no modules.json. Weights are read from safetensors only.
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
"""A limit of so many tokens or more counts as no limit (tokenizers write 10^30)."""
_SETTINGS = "config_sentence_transformers.json"
_SENTENCE_TRANSFORMERS = "sentence_transformers.models"
_SHIFTED = ("roberta", "camembert", "mpnet", "xmod", "data2vec-text", "longformer")
"""Types of model whose position numbers start after the padding id."""
_POOLING = {
    "mean": "mean_tokens",
    "cls": "cls_token",
    "max": "max_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
"""Poolings, and the flags for them in the files of sentence-transformers 5 and earlier."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"Tanh": torch.tanh, "Identity": lambda x: x}
"""The functions that may follow a dense layer."""
_PROMPTS: dict[Side, tuple[str, ...]] = {"query": ("query",), "passage": ("passage", "document", "corpus")}
"""The names that models give the prompt of a side, the preferred name first."""


@dataclass(frozen=True)
class Head:
    """What comes after the backbone: pooling, perhaps a dense layer, normalisation.

    Attributes:
        pooling: how the token vectors of a text become one: `mean`, `cls` (first token), `max`, `weightedmean` (token n
            has weight n) or `lasttoken`.
        dense: the layer after pooling, if any.
        activation: the function after that layer, `Tanh` or `Identity`.
        normalize: whether embeddings are scaled to length 1.
    """

    pooling: str = "mean"
    dense: nn.Linear | None = None
    activation: str = "Tanh"
    normalize: bool = True


@dataclass(frozen=True)
class Layout:
    """What the files of a model say besides its weights and its head.

    Attributes:
        backbone: subfolder of backbone and tokenizer, mostly "" (the top).
        config: transformers' config of the backbone; None for a new model.
        positions: the longest text in tokens that the backbone can take; None if there is no limit.
        prompts: prefix by side: the prompt named for that side, else the model's default prompt, else "".
        lengths: longest text in tokens by side, in training: as saved by this project, else 64 for queries and 256 for
            passages, or the model's maximum if that is less.
        longest: longest text in tokens by side, in evaluation: as saved by this project, else the model's maximum (512
            if it has none).
        lower_case: whether sentence-transformers lowers the case of texts before the tokenizer.
    """

    backbone: str
    config: Any
    positions: int | None
    prompts: dict[Side, str]
    lengths: dict[Side, int]
    longest: dict[Side, int]
    lower_case: bool


DEFAULT = Layout("", None, None, {"query": "", "passage": ""}, _DEFAULT_LENGTHS, _DEFAULT_LENGTHS, lower_case=False)
"""The layout of a new model."""


def read_layout(name: str, revision: str | None) -> Layout:
    """Reads the layout of a plain or sentence-transformers folder or hub id; `ValueError` if it holds no encoder."""
    from transformers import AutoConfig

    backbone = backbone_folder(name, revision)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, subfolder=backbone)
    except (OSError, ValueError) as error:
        raise ValueError(f"no encoder at {name!r}: {error}") from error
    if getattr(config, "is_decoder", False):
        raise ValueError(
            f"{name!r} is a decoder (is_decoder in its config.json), whose tokens do not see those after them: "
            "name an encoder"
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
        raise ValueError(f"{name!r}: {_LENGTHS} must give lengths for `query` and `passage`: save the model again")
    return Layout(backbone, config, positions, prompts, lengths, longest, bool(limits.get("do_lower_case")))


def backbone_folder(name: str, revision: str | None) -> str:
    """The subfolder of a model's backbone and tokenizer; "" if they lie at the top."""
    modules = _read_modules(name, revision)
    return modules[0]["path"] if modules else ""


def read_head(name: str, revision: str | None) -> Head:
    """Reads what a model does after its backbone; a plain Hugging Face model is pooled by mean.

    Embeddings are normalised even without a Normalize module, as cosine similarity does not depend on their length.
    The exception is a model whose files ask for dot product (`similarity_fn_name`) and have no Normalize module.

    Raises `ValueError` for modules, poolings, activations and similarities that are not supported.
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
    """Raises `ValueError` with the remedy if a subfolder of a model ("" for the top) has no safetensors weights."""
    files = [os.path.join(folder, f"model.safetensors{end}") for end in ("", ".index.json")]
    if all(_find(name, revision, file) is None for file in files):
        raise ValueError(
            f"{name!r} has no {files[0]}, and weights in other formats are not read (they can run code). If you trust "
            f"it, convert it once by SentenceTransformer({name!r}).save_pretrained(FOLDER), and name FOLDER"
        )


def write_layout(directory: Path, head: Head, width: int, prompts: dict[str, str], lengths: dict[Side, int]) -> None:
    """Writes the files of the layout to `directory`, which has the tokenizer and a backbone of hidden size `width`."""
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
    """The longest text in tokens that a backbone can take; None if there is no limit."""
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
        raise ValueError(f"{name!r} pools by {wanted}, which is not supported: set encoder.pooling to mean or cls")
    if not config.get("include_prompt", True):
        raise ValueError(f"{name!r} pools without the tokens of its prompt (include_prompt), which is not supported")
    return mode


def _read_dense(name: str, revision: str | None, path: str) -> tuple[nn.Linear, str]:
    """The dense layer and the name of the function after it."""
    config = _read_json(name, revision, f"{path}/config.json") or {}
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name!r}: the dense layer's activation {activation} is not one of {', '.join(ACTIVATIONS)}")
    if config.get("use_residual"):
        raise ValueError(f"{name!r}: a dense layer with a residual connection is not supported")
    check_weights(name, revision, path)
    file = _find(name, revision, f"{path}/model.safetensors")
    assert file is not None, "the weights of a dense layer are one file"
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
        raise ValueError(f"{path} is not valid JSON: fetch or save the model again ({error})") from error


def _find(name: str, revision: str | None, file: str) -> str | None:
    """The local path of a file of a folder or hub id (fetched if need be); None if there is no such file."""
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
        raise ValueError(f"no encoder at {name!r}: it is no folder, and the hub gave no model ({error})") from error
