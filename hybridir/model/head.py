"""What a model does after its backbone: pooling, perhaps a dense layer, normalisation, perhaps fewer dimensions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from hybridir.model.modules import POOLING, check_order, model_settings, module_settings, read_modules
from hybridir.model.precision import at_least_float32
from hybridir.model.weights import read_headers, weight_files

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"Tanh": torch.tanh, "Identity": lambda x: x}
"""The functions that may follow a dense layer."""


@dataclass(frozen=True)
class Head:
    """What comes after the backbone.

    Attributes:
        pooling: how the token vectors of a text become one: `mean`, `cls` (first token), `max`, `weightedmean` (token n
            has weight n), `lasttoken`, or `mean_sqrt_len_tokens` (the sum divided by the root of their number).
        dense: the layer after pooling, if any.
        activation: the function after that layer, `Tanh` or `Identity`.
        normalize: whether embeddings are scaled to length 1, before they are cut.
        truncate_dim: how many first numbers of an embedding are kept (Matryoshka models); None keeps all.
        similarity: `cosine` (embeddings get length 1 after the cut too) or `dot`.
    """

    pooling: str = "mean"
    dense: nn.Linear | None = None
    activation: str = "Tanh"
    normalize: bool = True
    truncate_dim: int | None = None
    similarity: str = "cosine"

    def finish(self, pooled_ND: Tensor) -> Tensor:
        """Embeddings from pooled token vectors [N, D], as sentence-transformers makes them, at least float32."""
        if self.dense:
            pooled_ND = ACTIVATIONS[self.activation](self.dense(pooled_ND))
        embeddings_ND = pooled_ND.to(at_least_float32(pooled_ND.dtype))
        if self.normalize:
            embeddings_ND = F.normalize(embeddings_ND, dim=-1)
        if self.truncate_dim is None or self.truncate_dim >= embeddings_ND.shape[1]:
            return embeddings_ND
        cut_ND = embeddings_ND[:, : self.truncate_dim]
        return F.normalize(cut_ND, dim=-1) if self.similarity == "cosine" else cut_ND

    def width(self, hidden: int) -> int:
        """The dimension of embeddings, for a backbone of hidden size `hidden`."""
        width = self.dense.out_features if self.dense else hidden
        return min(width, self.truncate_dim or width)


def read_head(name: str, revision: str | None, hidden: int, pooling: str | None = None) -> Head:
    """Reads what a model does after its backbone of size `hidden`; a plain Hugging Face model is pooled by mean.

    `pooling` takes the place of the model's own and of its dense layer; all else stays as its files say.

    Embeddings are normalised even without a Normalize module, as cosine similarity does not depend on their length.
    The exception is a model whose files ask for dot product (`similarity_fn_name`) and have no Normalize module.

    Raises `ValueError` for modules, poolings, activations and other settings that are not supported.
    """
    modules = read_modules(name, revision)
    if modules is None:
        return Head(pooling or "mean")
    if pooling:
        modules = [modules[0], ("Pooling", ""), *(one for one in modules[1:] if one[0] not in ("Pooling", "Dense"))]
    kinds, paths = [kind for kind, _ in modules], dict(modules)
    check_order(name, kinds)
    settings = {
        kind: module_settings(name, revision, kind, path) for kind, path in modules if path or kind != "Pooling"
    }
    about = model_settings(name, revision)
    similarity, cut = about.get("similarity_fn_name") or "cosine", about.get("truncate_dim")
    dense, activation = None, "Tanh"
    if "Dense" in kinds:
        dense, activation = _read_dense(name, revision, paths["Dense"], settings["Dense"])
        if dense.in_features != hidden:
            raise ValueError(
                f"{name!r}: the dense layer takes {dense.in_features} numbers, but the backbone gives {hidden}: fetch "
                "or save the model again"
            )
    normalize = "Normalize" in kinds or similarity == "cosine"
    return Head(pooling or _pooling_mode(name, settings["Pooling"]), dense, activation, normalize, cut, similarity)


def _pooling_mode(name: str, config: dict[str, Any]) -> str:
    modes = [mode for mode, flag in POOLING.items() if config.get(f"pooling_mode_{flag}")] or ["mean"]
    wanted = config.get("pooling_mode") or modes
    chosen = [wanted] if isinstance(wanted, str) else list(wanted)
    if len(chosen) != 1 or chosen[0] not in POOLING:
        raise ValueError(
            f"{name!r} pools by {', '.join(map(str, chosen))}, which is not supported: set encoder.pooling to mean or "
            "cls"
        )
    return chosen[0]


def _read_dense(name: str, revision: str | None, path: str, config: dict[str, Any]) -> tuple[nn.Linear, str]:
    """The dense layer and the name of the function after it."""
    place, _, activation = str(config.get("activation_function", "torch.nn.Tanh")).rpartition(".")
    if activation not in ACTIVATIONS or place.partition(".")[0] != "torch":
        raise ValueError(
            f"{name!r}: the dense layer's activation {place}.{activation} is not one of {', '.join(ACTIVATIONS)}"
        )
    files = weight_files(name, revision, path)
    if len(files) > 1:
        raise ValueError(
            f"{name!r}: the weights of the dense layer {path} lie in {len(files)} files, which is not supported: save "
            "them as one model.safetensors"
        )
    sizes = [config.get("out_features"), config.get("in_features")]
    bias = config.get("bias", True)
    stored = {key: list(one.shape) for key, one in read_headers(files).items()}
    described = {"linear.weight": sizes} | ({"linear.bias": sizes[:1]} if bias else {})
    if stored != described:
        raise ValueError(
            f"the weights at {files[0]} are broken: its config.json describes {described}, but it holds {stored}: "
            "fetch or save the model again"
        )
    weights = {key.removeprefix("linear."): value for key, value in load_file(files[0]).items()}
    dtype = at_least_float32(weights["weight"].dtype)
    dense = nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0], bias=bias, dtype=dtype)
    dense.load_state_dict(weights)
    return dense, activation
