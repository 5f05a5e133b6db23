"""Reads and writes the files that surround a backbone in the sentence-transformers layout, of a folder or a hub id.

modules.json lists the modules and their folders: Transformer (at the top, or in `0_Transformer`), Pooling, perhaps one
Dense, perhaps Normalize. A plain Hugging Face folder has no modules.json. Weights are read from safetensors only, and
code that a model brings along is never run.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import save_file

from hybridir.model.families import family_of
from hybridir.model.files import check_links, check_trained, find, read_json, read_settings
from hybridir.model.head import Head
from hybridir.model.modules import (
    LENGTH,
    MODEL_SETTINGS,
    POOLING,
    is_length,
    is_size,
    model_settings,
    module_settings,
    read_modules,
)
from hybridir.model.weights import ENCODER_OF

Side = Literal["query", "passage"]
_DEFAULT_LENGTHS: dict[Side, int] = {"query": 64, "passage": 256}
_OWN_LENGTH: dict[Side, str] = {"query": "query_length", "passage": "document_length"}
_LENGTHS = "text_lengths.json"
_UNLIMITED = 100_000
"""A limit of this many tokens or more counts as no limit (tokenizers write 10^30)."""
_SENTENCE_TRANSFORMERS = "sentence_transformers.models"
_SHIFTED = ("roberta", "camembert", "mpnet", "xmod", "data2vec-text", "longformer")
"""Types of model whose position numbers start after the padding id."""
_PROMPTS: dict[Side, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}
"""The names that models give the prompt of a side; the first that is not empty counts."""
_QUANTISED = ("quantize_config.json", "quant_config.json")
"""What GPTQ and AWQ wrote before config.json had quantization_config."""
_MOST_PROMPT = 10_000
"""Characters of a prompt: it stands before every text."""
_COUNTS = {r"(n|num|encoder|decoder)_(\w+_)?(layers?|groups?|blocks?|experts?)|inner_group_num|depth": 200}
_COUNTS |= {"num_labels": 100_000}
"""Settings of config.json of which transformers makes as many objects, and the most that is taken (in lists, too)."""
_LONGEST_LIST = 10_000
"""Values: of lists such as `block_sizes` or `layer_types`, an object is made of each."""


@dataclass(frozen=True)
class Layout:
    """What the files of a model say besides its weights and its head.

    Attributes:
        backbone: subfolder of backbone and tokenizer, mostly "" (the top).
        config: transformers' config of the backbone; None for a new model.
        positions: the longest text in tokens that the backbone can take; None if there is no limit.
        prompts: prefix by side, as in `encode_query` and `encode_document` of sentence-transformers, but a prompt
            `passage` or `corpus` counts without a `document` too (there an empty `document` is added, and taken); of
            models that are known by name the one that they were trained with, if they have no prompts; else "".
        lengths: longest text in tokens by side, in training: as saved by this project, else 64 for queries and 256 for
            passages, or the model's maximum if that is less.
        longest: longest text in tokens by side, in evaluation: as saved by this project, else the model's maximum (512
            if it has none).
        pooling: how a plain Hugging Face model that is known by name pools; None for others.
    """

    backbone: str
    config: Any
    positions: int | None
    prompts: dict[Side, str]
    lengths: dict[Side, int]
    longest: dict[Side, int]
    pooling: str | None = None


DEFAULT = Layout("", None, None, {"query": "", "passage": ""}, _DEFAULT_LENGTHS, _DEFAULT_LENGTHS)
"""The layout of a new model."""


def read_layout(name: str, revision: str | None) -> Layout:
    """Reads the layout of a plain or sentence-transformers folder or hub id; `ValueError` if it holds no encoder."""
    from transformers import AutoConfig

    check_trained(name)
    modules = read_modules(name, revision)
    backbone = modules[0][1] if modules else ""
    if os.path.isdir(name):
        check_links(name, {"", backbone, *(path for _, path in modules or ())})
    _check_config(name, revision, backbone)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, subfolder=backbone, trust_remote_code=False)
    except Exception as error:  # values that make no sense raise anything, such as TypeError
        raise ValueError(f"no encoder at {name!r}: {error}") from error
    _check_kind(name, config)
    positions = _count_positions(config)
    tokenizer = read_settings(name, revision, os.path.join(backbone, "tokenizer_config.json"))
    settings = module_settings(name, revision, "Transformer", backbone)
    longest_text = settings.get("max_seq_length") or tokenizer.get("model_max_length")
    if longest_text and not is_length(longest_text):
        raise ValueError(f"{name!r}: tokenizer_config.json sets model_max_length to {longest_text!r}: {LENGTH}")
    limit = int(min(filter(None, (longest_text, positions, _UNLIMITED))))
    limits = {side: int(min(settings.get(own) or limit, limit)) for side, own in _OWN_LENGTH.items()}
    family = family_of(name)
    prompts = _prompts(model_settings(name, revision))
    if not any(prompts.values()) and family and read_json(name, revision, _LENGTHS) is None:
        prompts = {"query": family.query, "passage": family.passage}
    lengths = longest = read_json(name, revision, _LENGTHS)
    if lengths is None:
        lengths = {side: min(length, limits[side]) for side, length in _DEFAULT_LENGTHS.items()}
        longest = {side: one if one < _UNLIMITED else 512 for side, one in limits.items()}
    if not isinstance(lengths, dict) or not all(is_size(lengths.get(side)) for side in get_args(Side)):
        raise ValueError(f"{name!r}: {_LENGTHS} must give lengths for `query` and `passage`: save the model again")
    pooling = family.pooling if family and modules is None else None
    return Layout(backbone, config, positions, prompts, lengths, longest, pooling)


def backbone_folder(name: str, revision: str | None) -> str:
    """The subfolder of a model's backbone and tokenizer; "" if they lie at the top."""
    modules = read_modules(name, revision)
    return modules[0][1] if modules else ""


def lowers_case(name: str, revision: str | None) -> bool:
    """Whether sentence-transformers lowers the case of texts before the model's tokenizer."""
    return bool(module_settings(name, revision, "Transformer", backbone_folder(name, revision)).get("do_lower_case"))


def write_layout(
    directory: Path,
    head: Head,
    width: int,
    prompts: dict[str, str],
    lengths: dict[Side, int],
    lower_case: bool = False,
) -> None:
    """Writes the files of the layout to `directory`, which has the tokenizer and a backbone of hidden size `width`."""
    dense = head.dense
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if head.normalize else [])]
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds) if i)]
    cut = {"truncate_dim": head.truncate_dim} if head.truncate_dim else {}
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"{_SENTENCE_TRANSFORMERS}.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ],
        "sentence_bert_config.json": {"max_seq_length": lengths["passage"], "do_lower_case": lower_case},
        _LENGTHS: lengths,
        MODEL_SETTINGS: {"prompts": prompts, "similarity_fn_name": head.similarity} | cut,
        "1_Pooling/config.json": {
            "word_embedding_dimension": width,
            **{f"pooling_mode_{flag}": mode == head.pooling for mode, flag in POOLING.items()},
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
    mode = (directory / "modules.json").stat().st_mode  # as the umask says; safetensors makes files for the owner only
    for file in directory.rglob("*.safetensors"):
        file.chmod(mode)


def _check_config(name: str, revision: str | None, backbone: str) -> None:
    """Raises `ValueError` for what must not reach transformers, or would be silently left out there."""
    adapter = read_settings(name, revision, os.path.join(backbone, "adapter_config.json"))
    if adapter:
        base = adapter.get("base_model_name_or_path")
        mapping = adapter.get("auto_mapping")
        kind = mapping.get("base_model_class") if isinstance(mapping, dict) else None
        kind = kind if re.fullmatch(r"[A-Za-z]\w*", str(kind)) and kind else "AutoModel"
        raise ValueError(
            f"{name!r} has an adapter (adapter_config.json, of {base or 'a model that it does not name'}), which is not"
            f" applied here: merge it once by peft.PeftModel.from_pretrained(transformers.{kind}.from_pretrained("
            f"{repr(base) if base else 'BASE'}), {name!r}).merge_and_unload().save_pretrained(FOLDER)"
            f"{'' if base else ', where BASE is the model that it was trained on'}, put the tokenizer and the other "
            "files into FOLDER, and name FOLDER"
        )
    if os.path.isdir(name) and (loose := sorted(Path(name, backbone).glob("adapter_model.*"))):
        raise ValueError(
            f"{name!r} has the weights of an adapter ({loose[0].name}), but no adapter_config.json, which says how "
            "they are applied: fetch the adapter again, or remove them if the model does without"
        )
    config = read_settings(name, revision, os.path.join(backbone, "config.json"))
    for key, value in _flat(config):
        for pattern, most in _COUNTS.items():
            if re.fullmatch(pattern, key) and isinstance(value, int | float) and value > most:
                raise ValueError(f"{name!r}: config.json says {key} {value}: more than {most} are not supported")
        if isinstance(value, list) and len(value) > _LONGEST_LIST:
            raise ValueError(
                f"{name!r}: config.json lists {len(value)} values of {key}: more than {_LONGEST_LIST} are not supported"
            )
        if "attn_implementation" in key.lower() and "/" in str(value):
            raise ValueError(
                f"{name!r}: config.json asks for the attention code {value!r} from the hub, which is never run: "
                f"remove {key} from it"
            )
    file = next((file for file in _QUANTISED if find(name, revision, os.path.join(backbone, file))), None)
    if file or "quantization_config" in config:
        raise ValueError(
            f"{name!r} has quantised weights ({file or 'quantization_config in config.json'}), which are not read: "
            "name the model that they were made from"
        )
    if "transformers_weights" in config:
        raise ValueError(f"{name!r}: config.json sets transformers_weights, which is not supported: remove it")
    if "auto_map" in config:
        from transformers import CONFIG_MAPPING

        if config.get("model_type") not in CONFIG_MAPPING:
            raise ValueError(
                f"{name!r} brings code of its own (auto_map in config.json), which is never run: name a model of a "
                "type that transformers knows"
            )


def _flat(config: Any) -> list[tuple[str, Any]]:
    """All names and values of settings, those of inner settings too."""
    found = []
    for key, value in config.items():
        found.append((key, value))
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                found += _flat(one)
            elif isinstance(value, list):
                found.append((key, one))
    return found


def _check_kind(name: str, config: Any) -> None:
    """Raises `ValueError` if a backbone is of a kind that is no text encoder here."""
    kind = config.model_type
    if getattr(config, "is_decoder", False) and kind not in ENCODER_OF:
        raise ValueError(
            f"{name!r} is a decoder (is_decoder in its config.json), whose tokens do not see those after them: "
            "name an encoder"
        )
    if getattr(config, "is_encoder_decoder", False) and kind not in ENCODER_OF:
        raise ValueError(
            f"{name!r} is an encoder-decoder ({kind}); only the encoders of {', '.join(ENCODER_OF)} are supported"
        )
    if kind in ("luke", "mluke") or not isinstance(getattr(config, "hidden_size", None), int):
        raise ValueError(f"{name!r} is no encoder of plain texts: models of the type {kind} are not supported")


def _count_positions(config: Any) -> int | None:
    """The longest text in tokens that a backbone can take; None if there is no limit."""
    positions = getattr(config, "max_position_embeddings", None) or 0
    if any(kind in config.model_type for kind in _SHIFTED):
        positions -= config.pad_token_id + 1
    return positions if positions > 0 else None


def _prompts(settings: dict[str, Any]) -> dict[Side, str]:
    """The prompts of both sides. Saved by sentence-transformers, `passage` stands beside an empty `document`."""
    prompts = settings.get("prompts") or {}
    if longest := max((one for one in prompts.values() if one and len(one) > _MOST_PROMPT), key=len, default=""):
        raise ValueError(
            f"{MODEL_SETTINGS} has a prompt of {len(longest):,} characters, which would be put before every text: at "
            f"most {_MOST_PROMPT:,} are read ({longest[:80]} ...)"
        )
    return {side: next(filter(None, map(prompts.get, names)), "") for side, names in _PROMPTS.items()}
