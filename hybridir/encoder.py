"""The shared dual encoder: a Hugging Face backbone, pooling, an optional dense head, normalisation.

It loads plain Hugging Face encoders and the sentence-transformers layout (folder or hub id), or builds a small one, and
saves the sentence-transformers layout, in safetensors only.

Texts arrive as flat token ids with lengths. They are sorted by length and padded only within chunks of similar length.

Shapes: N texts, T tokens of all of them, D dimension.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridir.tokens import load_tokenizer, tokenize

Side = Literal["query", "passage"]
_LENGTHS = "text_lengths.json"
_SENTENCE_TRANSFORMERS = "sentence_transformers.models"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The encoder to train or to measure.

    Args:
        name: Hugging Face hub id, or folder (Hugging Face or sentence-transformers). Empty: a small BERT is built, with
            a tokenizer trained on the corpus.
        revision: revision of the hub id (a commit, for a run that can be repeated).
        pooling: `mean` or `cls`; `pooler` is CLS and the model's own dense layer with tanh (LaBSE). Omitted: as the
            sentence-transformers folder says, else mean.
        query_prefix: put before every query. Omitted: the model's own prompt, else nothing.
        passage_prefix: put before every passage, likewise.
        max_query_length: tokens of a query, special tokens included. Omitted: as the model was trained, else 64.
        max_passage_length: tokens of a passage, likewise; else 256.
        vocab_size: of the tokenizer, when one is built.
        layers: of the encoder, when one is built.
        hidden_size: likewise, its width and the dimension of the embeddings.
        dropout: dropout in the backbone; omitted: as the model's config says.
    """

    name: str = ""
    revision: str | None = None
    pooling: Literal["mean", "cls", "pooler"] | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_query_length: int | None = None
    max_passage_length: int | None = None
    vocab_size: int = 8000
    layers: int = 2
    hidden_size: int = 128
    dropout: float | None = None

    def max_length(self, side: Side) -> int:
        """Tokens of a text, in a config from `resolve`."""
        length = self.max_query_length if side == "query" else self.max_passage_length
        assert length is not None, "the config is resolved"
        return length


class Encoder(nn.Module):
    """Maps token ids to normalised embeddings, and texts too."""

    def __init__(
        self, backbone: nn.Module, pooling: str, dense: nn.Linear | None, tokenizer: Any, config: EncoderConfig
    ) -> None:
        """`pooling` is `mean` or `cls`; a `dense` head is followed by tanh."""
        super().__init__()
        self.backbone, self.pooling, self.dense = backbone, pooling, dense
        self.tokenizer, self.config = tokenizer, config

    @classmethod
    def load(cls, config: EncoderConfig) -> "Encoder":
        """The encoder that `config.name` names; `ValueError` with the remedy where it is not one."""
        from transformers import AutoModel

        modules = _read_modules(config.name, config.revision)
        dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        kwargs = {} if config.dropout is None else dict.fromkeys(dropouts, config.dropout)
        try:
            backbone, report = AutoModel.from_pretrained(
                config.name, revision=config.revision, output_loading_info=True, dtype=torch.float32, **kwargs
            )
        except (OSError, ValueError) as error:
            raise ValueError(f"no encoder at {config.name!r}: {error}") from error
        pooling, dense = config.pooling or modules.pooling, modules.dense if config.pooling is None else None
        if pooling == "pooler":
            head = getattr(getattr(backbone, "pooler", None), "dense", None)
            if head is None or any("pooler" in key for key in report["missing_keys"]):
                raise ValueError(f"{config.name!r} has no pooler weights: set encoder.pooling to mean or cls")
            pooling, dense = "cls", head
        if hasattr(backbone, "pooler"):
            backbone.pooler = None
        config = resolve(config)
        positions = getattr(backbone.config, "max_position_embeddings", None)
        if positions and "roberta" in backbone.config.model_type:
            positions -= backbone.config.pad_token_id + 1  # its positions start behind the padding id
        longest = max(config.max_length(side) for side in get_args(Side))
        if positions and longest > positions:
            raise ValueError(
                f"encoder lengths go up to {longest} tokens, and {config.name!r} has {positions} positions"
            )
        return cls(backbone, pooling, dense, load_tokenizer(config.name, config.revision), config)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings, float32 [N, D], of length 1.

        Args:
            ids: int [T], token ids of all texts one after the other.
            lengths: int [N], on the CPU; every text has at least one token.
        """
        order = torch.argsort(lengths, descending=True, stable=True)
        texts = ids.split(lengths.tolist())
        pooled = [self._embed([texts[i] for i in chunk]) for chunk in self._chunks(order, lengths)]
        return F.normalize(torch.cat(pooled).float(), dim=-1)[torch.argsort(order).to(ids.device)]

    def encode(self, texts: Sequence[str], side: Side, batch_size: int = 256) -> np.ndarray:
        """Embeddings of texts as queries or passages (their prefix is added), float32 [N, D]."""
        prefix = self.config.query_prefix if side == "query" else self.config.passage_prefix
        limit = self.config.max_length(side)
        ids = [np.array(t, dtype=np.int64) for t in tokenize(self.tokenizer, texts, prefix or "", limit)]
        order = np.argsort([-len(t) for t in ids], kind="stable")
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                chosen = [ids[i] for i in order[start : start + batch_size]]
                lengths = torch.tensor([len(t) for t in chosen])
                parts.append(self(torch.from_numpy(np.concatenate(chosen)).to(device), lengths).cpu().numpy())
        self.train(was_training)
        embeddings = np.empty((len(ids), parts[0].shape[1] if parts else 0), dtype=np.float32)
        embeddings[order] = np.concatenate(parts) if parts else embeddings
        return embeddings

    def save(self, directory: str | Path) -> None:
        """Writes the sentence-transformers layout, with the prompts `query` and `passage`."""
        directory = Path(directory)
        (directory / "1_Pooling").mkdir(parents=True, exist_ok=True)
        self.backbone.save_pretrained(directory)  # type: ignore[operator]
        self.tokenizer.save_pretrained(directory)
        width = self.backbone.config.hidden_size  # type: ignore[union-attr]
        kinds = ["Transformer", "Pooling", *(["Dense"] if self.dense else []), "Normalize"]
        paths = ["", "1_Pooling", *(["2_Dense"] if self.dense else []), f"{len(kinds) - 1}_Normalize"]
        files: dict[str, Any] = {
            "modules.json": [
                {"idx": i, "name": str(i), "path": path, "type": f"{_SENTENCE_TRANSFORMERS}.{kind}"}
                for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
            ],
            "sentence_bert_config.json": {"max_seq_length": self.config.max_length("passage"), "do_lower_case": False},
            _LENGTHS: {side: self.config.max_length(side) for side in get_args(Side)},
            "config_sentence_transformers.json": {
                "prompts": {"query": self.config.query_prefix, "passage": self.config.passage_prefix},
                "similarity_fn_name": "cosine",
            },
            "1_Pooling/config.json": {
                "word_embedding_dimension": width,
                "pooling_mode_mean_tokens": self.pooling == "mean",
                "pooling_mode_cls_token": self.pooling == "cls",
            },
        }
        if self.dense:
            (directory / "2_Dense").mkdir(exist_ok=True)
            files["2_Dense/config.json"] = {
                "in_features": self.dense.in_features,
                "out_features": self.dense.out_features,
                "bias": self.dense.bias is not None,
                "activation_function": "torch.nn.modules.activation.Tanh",
            }
            weights = {f"linear.{k}": v.contiguous() for k, v in self.dense.state_dict().items()}
            save_file(weights, directory / "2_Dense" / "model.safetensors")
        for name, content in files.items():
            (directory / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")

    def _chunks(self, order: Tensor, lengths: Tensor) -> list[list[int]]:
        """Texts in the order given (longest first), cut where the padded size would pass a budget of tokens."""
        budget = 1024 if next(self.parameters()).device.type == "cpu" else 16384
        chunks: list[list[int]] = []
        for text in order.tolist():
            if not chunks or (len(chunks[-1]) + 1) * int(lengths[chunks[-1][0]]) > budget:
                chunks.append([])
            chunks[-1].append(text)
        return chunks

    def _embed(self, texts: list[Tensor]) -> Tensor:
        """Pooled outputs of texts of similar length, [len(texts), D]."""
        padding = self.tokenizer.pad_token_id
        ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=padding).long()
        sizes = torch.tensor([len(text) for text in texts], device=ids.device)
        mask = torch.arange(ids.shape[1], device=ids.device)[None, :] < sizes[:, None]
        hidden = self.backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * mask[..., None]).sum(1) / sizes[:, None]
        return torch.tanh(self.dense(pooled)) if self.dense else pooled


def resolve(config: EncoderConfig) -> EncoderConfig:
    """`config` with prefixes and lengths filled in: what is omitted is as the model says, else the defaults."""
    prompts = _read_modules(config.name, config.revision).prompts if config.name else {}
    lengths = _read_json(config.name, config.revision, _LENGTHS) if config.name else None
    if lengths is None:
        limits = _read_json(config.name, config.revision, "sentence_bert_config.json") if config.name else None
        longest = (limits or {}).get("max_seq_length") or 256
        lengths = {"query": min(64, longest), "passage": min(256, longest)}
    own = {"query": prompts.get("query", ""), "passage": prompts.get("passage", prompts.get("document", ""))}
    return replace(
        config,
        query_prefix=own["query"] if config.query_prefix is None else config.query_prefix,
        passage_prefix=own["passage"] if config.passage_prefix is None else config.passage_prefix,
        max_query_length=config.max_query_length or lengths["query"],
        max_passage_length=config.max_passage_length or lengths["passage"],
    )


def build_small_encoder(config: EncoderConfig, tokenizer: Any, seed: int) -> Encoder:
    """A BERT of the size that `config` gives, with random weights drawn from `seed`."""
    from transformers import BertConfig, BertModel

    config = resolve(config)
    dropout = 0.0 if config.dropout is None else config.dropout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden_size,
                num_hidden_layers=config.layers,
                num_attention_heads=max(1, config.hidden_size // 64),
                intermediate_size=4 * config.hidden_size,
                max_position_embeddings=max(config.max_length(side) for side in get_args(Side)),
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                pad_token_id=tokenizer.pad_token_id,
            ),
            add_pooling_layer=False,
        )
    pooling = "mean" if config.pooling in (None, "mean") else "cls"
    return Encoder(backbone, pooling, None, tokenizer, config)


@dataclass(frozen=True)
class _Modules:
    """What a sentence-transformers folder says beyond the backbone."""

    pooling: str
    dense: nn.Linear | None
    prompts: dict[str, str]


def _read_modules(name: str, revision: str | None) -> _Modules:
    """Pooling, dense head and prompts of a sentence-transformers folder or hub id; mean pooling elsewhere."""
    modules = _read_json(name, revision, "modules.json")
    if modules is None:
        return _Modules("mean", None, {})
    pooling, dense = "mean", None
    for module in modules[1:]:
        kind, path = module["type"].rpartition(".")[2], module["path"]
        if kind == "Pooling":
            pooling = _pooling_mode(name, _read_json(name, revision, f"{path}/config.json") or {})
        elif kind == "Dense" and dense is None:
            dense = _read_dense(name, revision, path)
        elif kind != "Normalize":
            raise ValueError(f"{name!r} has a sentence-transformers module {module['type']}, which is not supported")
    config = _read_json(name, revision, "config_sentence_transformers.json") or {}
    return _Modules(pooling, dense, config.get("prompts") or {})


def _pooling_mode(name: str, config: dict[str, Any]) -> str:
    modes = {key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on}
    mode = config.get("pooling_mode") or (modes.pop() if len(modes) == 1 else f"{sorted(modes)}")
    if mode not in ("mean_tokens", "mean", "cls_token", "cls"):
        raise ValueError(f"{name!r} pools by {mode}; mean and cls are supported")
    if not config.get("include_prompt", True):
        raise ValueError(f"{name!r} pools without the tokens of its prompt, which is not supported")
    return str(mode).removesuffix("_tokens").removesuffix("_token")


def _read_dense(name: str, revision: str | None, path: str) -> nn.Linear:
    config = _read_json(name, revision, f"{path}/config.json") or {}
    if not str(config.get("activation_function")).endswith("Tanh"):
        raise ValueError(f"{name!r}: the dense layer's activation {config.get('activation_function')} is not tanh")
    if config.get("use_residual"):
        raise ValueError(f"{name!r}: a dense layer with a residual is not supported")
    file = _cached_file(name, revision, f"{path}/model.safetensors")
    if file is None:
        raise ValueError(f"{name!r} has no {path}/model.safetensors; weights in other formats are not read")
    dense = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    dense.load_state_dict({key.removeprefix("linear."): value for key, value in load_file(file).items()})
    return dense


def _read_json(name: str, revision: str | None, file: str) -> Any:
    path = _cached_file(name, revision, file)
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))


def _cached_file(name: str, revision: str | None, file: str) -> str | None:
    """A file of a folder or hub id, None where it has none."""
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
