"""What the files of sentence-transformers say about a model: its modules, and the settings of each.

Every setting (as of sentence-transformers 6.2) is listed here: it is honoured by the code that reads it, it changes no
embedding, or only some of its values are taken. Any other setting is refused by name, so that no model is silently
measured as another one.
"""

import os
import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hybridir.model.files import find, read_json, read_settings

MODEL_SETTINGS = "config_sentence_transformers.json"
POOLING = {
    "mean": "mean_tokens",
    "cls": "cls_token",
    "max": "max_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
"""Poolings, and the flags for them in the files of sentence-transformers 5 and earlier."""


class _Any(tuple[Any, ...]):
    """All values of a setting are taken: the code that reads it knows them, or it changes no embedding."""

    def __contains__(self, value: object) -> bool:
        return True


def is_size(value: object) -> bool:
    """Whether a setting is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_length(value: object) -> bool:
    """Whether a setting is a number of at least 1: some files have huge ones in place of no limit."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1


LENGTH = "it must be a number above 0"
_ANY = _Any()
_NOTHING: tuple[Any, ...] = ({}, None)
"""The values of a setting that say nothing. Of a setting that is not listed, no others are taken."""
_LOADING = {"add_pooling_layer", "dtype", "torch_dtype", "trust_remote_code"}
"""Settings of loading that change no embedding here: weights are always taken as float32, and code is never run."""
_MODEL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("__version__", "prompts", "default_prompt_name", "truncate_dim", "requirements"), _ANY),
    "similarity_fn_name": ("cosine", "dot", None),
    "model_type": ("SentenceTransformer", None),
}
_IN = {"module_input_name": ("sentence_embedding",), "module_output_name": ("sentence_embedding", None)}
_WIDTHS = ("embedding_dimension", "word_embedding_dimension")
_MODULE: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "Transformer": {
        **dict.fromkeys(("max_seq_length", "query_length", "document_length", "do_lower_case", "unpad_inputs"), _ANY),
        **dict.fromkeys(("model_args", "model_kwargs", "config_args", "config_kwargs"), _NOTHING),
        **dict.fromkeys(("tokenizer_args", "processor_kwargs", "processing_kwargs"), _NOTHING),
        "query_expansion": (None,),
        "tokenizer_name_or_path": (None,),
        "transformer_task": ("feature-extraction",),
        "module_output_name": ("token_embeddings",),
        "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    },
    "Pooling": {
        **dict.fromkeys((*_WIDTHS, "pooling_mode"), _ANY),
        **dict.fromkeys((f"pooling_mode_{flag}" for flag in POOLING.values()), _ANY),
        "include_prompt": (True, None),
    },
    "Dense": {
        **dict.fromkeys(("in_features", "out_features", "bias", "activation_function"), _ANY),
        "use_residual": (False, None),
        **_IN,
    },
    "Normalize": _IN,
}
"""The modules that are supported, with their settings."""
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("truncate_dim", "in_features", "out_features"), (is_size, "it must be a whole number above 0")),
    **dict.fromkeys(("max_seq_length", "query_length", "document_length"), (is_length, LENGTH)),
    **dict.fromkeys(
        ("do_lower_case", "bias", *(f"pooling_mode_{flag}" for flag in POOLING.values())),
        (lambda value: isinstance(value, bool), "it must be true or false"),
    ),
    "prompts": (
        lambda value: isinstance(value, dict) and all(isinstance(one, str | None) for one in value.values()),
        "it must hold texts by name",
    ),
    "default_prompt_name": (lambda value: isinstance(value, str), "it must be the name of a prompt"),
    "pooling_mode": (lambda value: isinstance(value, str | list), "it must be the name of a pooling"),
}
"""What the value of a setting must be, if it is not null."""
_FILES = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
"""The names that the settings of the Transformer had: the first that is there counts."""


def read_modules(name: str, revision: str | None) -> list[tuple[str, str]] | None:
    """The modules of a model: (kind, subfolder) of each; None for a plain Hugging Face model.

    Raises `ValueError` if they do not begin with a Transformer, or if one lies outside of the model's folder.
    """
    modules = read_json(name, revision, "modules.json")
    if modules is None:
        return None
    if not isinstance(modules, list) or not all(isinstance(m, dict) and {"type", "path"} <= set(m) for m in modules):
        raise ValueError(f"{name!r}: modules.json must list modules with type and path: fetch or save the model again")
    found = []
    for module in modules:
        path = str(module["path"])
        if os.path.isabs(path) or ".." in re.split(r"[/\\]", path):
            raise ValueError(
                f"{name!r}: modules.json names the folder {path!r}, but only folders inside of the model are read"
            )
        if module.get("kwargs"):
            raise ValueError(f"{name!r}: modules.json sets kwargs of {module['type']}, which is not supported")
        found.append((_kind(str(module["type"])), path))
    if not found or found[0][0] != "Transformer":
        _refuse(name, [kind for kind, _ in found])
    return found


def check_order(name: str, kinds: list[str]) -> None:
    """Raises `ValueError` if the modules of a model are not Transformer, Pooling, perhaps Dense, perhaps Normalize."""
    known = ["Transformer", "Pooling", *(["Dense"] if "Dense" in kinds else []), "Normalize"]
    if kinds not in (known, known[:-1]):
        _refuse(name, kinds)


def not_read(name: str, revision: str | None) -> list[str]:
    """The files for sentence-transformers of a plain Hugging Face model, for which it does not read them."""
    files = (MODEL_SETTINGS, _FILES[0]) if find(name, revision, "modules.json") is None else ()
    return [file for file in files if find(name, revision, file)]


def model_settings(name: str, revision: str | None) -> dict[str, Any]:
    """The settings of a model as a whole, checked; empty for a plain Hugging Face model."""
    if find(name, revision, "modules.json") is None:
        return {}
    found = read_settings(name, revision, MODEL_SETTINGS)
    _check(name, MODEL_SETTINGS, found, _MODEL)
    _check_requirements(name, found.get("requirements") or {})
    return found


def module_settings(name: str, revision: str | None, kind: str, folder: str) -> dict[str, Any]:
    """The settings of the module of this kind in a subfolder of a model, checked; empty if it has no file for them.

    Empty too for a plain Hugging Face model.
    """
    if find(name, revision, "modules.json") is None:
        return {}
    for file in _FILES if kind == "Transformer" else ["config.json"]:
        if found := read_settings(name, revision, os.path.join(folder, file)):
            _check(name, os.path.join(folder, file), found, _MODULE[kind])
            return found
    return {}


def _kind(dotted: str) -> str:
    """The name of a module of sentence-transformers, which releases keep in different places; else its whole name."""
    library, _, _ = dotted.partition(".")
    return dotted.rpartition(".")[2] if library == "sentence_transformers" else dotted


def _refuse(name: str, kinds: list[str]) -> None:
    unknown = [kind for kind in kinds if kind not in _MODULE]
    what = f"the module {unknown[0]} of {name!r} is not supported" if unknown else f"{name!r} is not supported"
    raise ValueError(
        f"{what}: it has the modules {', '.join(kinds)}; supported are {', '.join(_MODULE)}, in this order; the last "
        "two are optional"
    )


def _check(name: str, file: str, found: dict[str, Any], known: Mapping[str, tuple[Any, ...]]) -> None:
    for key, value in found.items():
        is_right, what = _KINDS.get(key, (lambda _: True, ""))
        if value is not None and key in known and not is_right(value):
            raise ValueError(f"{name!r}: {file} sets {key} to {value!r}: {what}")
        accepted = known.get(key, _NOTHING)
        if value in accepted:
            continue
        if key.endswith(("_args", "_kwargs")) and isinstance(value, dict) and set(value) <= _LOADING:
            continue
        taken = [str(one) for one in accepted if one not in _NOTHING]
        raise ValueError(
            f"{name!r}: {file} sets {key} to {value!r}, which is not supported: "
            + (f"supported are {', '.join(taken)}" if taken else "save the model without it, if it can do without")
        )


def _check_requirements(name: str, requirements: Any) -> None:
    """Raises `ValueError` if an installed package has not the version that the model's settings require."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for package, wanted in requirements.items() if isinstance(requirements, dict) else ():
        wanted = wanted.get("specifier") if isinstance(wanted, dict) else wanted
        try:
            there = version("torch" if package == "pytorch" else package)
            if there in SpecifierSet(str(wanted), prereleases=True):
                continue
        except (PackageNotFoundError, InvalidSpecifier):  # nothing that is in use here
            continue
        raise ValueError(f"{name!r} requires {package}{wanted}, but {there} is installed: install that version")
