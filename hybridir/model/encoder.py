"""The shared dual encoder: a Hugging Face backbone, pooling, an optional dense head, normalisation.

It loads plain Hugging Face encoders and the sentence-transformers layout (folder or hub id), or builds a small one, and
saves the sentence-transformers layout (see folder.py).

Texts arrive as flat token ids with lengths. They are sorted by length and padded only within chunks of similar length.

Shapes: N texts, T tokens of all of them, D dimension.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from hybridir.model.config import EncoderConfig
from hybridir.model.folder import (
    ACTIVATIONS,
    DEFAULT,
    Head,
    Layout,
    Side,
    check_weights,
    read_head,
    read_layout,
    write_layout,
)
from hybridir.model.precision import at_least_float32
from hybridir.model.tokenizer import load_tokenizer, tokenize

BLOCK = 2048
"""Texts that `Encoder.encode` takes at a time, sorted by length: its memory does not grow with their number."""


class Encoder(nn.Module):
    """Maps token ids to embeddings, and texts too."""

    def __init__(self, backbone: nn.Module, head: Head, tokenizer: Any, config: EncoderConfig) -> None:
        super().__init__()
        self.backbone, self.head, self.dense = backbone, head, head.dense
        self.tokenizer, self.config = tokenizer, config

    @classmethod
    def load(cls, config: EncoderConfig) -> "Encoder":
        """The encoder that `config.name` names; `ValueError` with the remedy where it is not one."""
        layout, resolved = read_layout(config.name, config.revision), resolve(config)
        backbone, with_pooler = _load_backbone(config, layout)
        if config.pooling == "pooler":
            if not with_pooler:
                raise ValueError(f"{config.name!r} has no pooler weights: set encoder.pooling to mean or cls")
            head = Head("cls", backbone.pooler.dense)
        elif config.pooling:
            head = Head(config.pooling)
        else:
            head = read_head(config.name, config.revision)
        if hasattr(backbone, "pooler"):
            backbone.pooler = None
        tokenizer = load_tokenizer(config.name, config.revision)
        if layout.lower_case and tokenizer.tokenize("AbC") != tokenizer.tokenize("abc"):
            raise ValueError(f"{config.name!r} lowers the case of texts before its tokenizer, which is not supported")
        return cls(backbone, head, tokenizer, resolved).to(backbone.dtype)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings [N, D], of length 1 unless the model is one that scores by the dot product of others.

        Args:
            ids: int [T], token ids of all texts one after the other.
            lengths: int [N], on the CPU; every text has at least one token.
        """
        order = torch.argsort(lengths, descending=True, stable=True)
        texts = ids.split(lengths.tolist())
        pooled = [self._embed([texts[i] for i in chunk]) for chunk in self._chunks(order, lengths)]
        embeddings = torch.cat(pooled)[torch.argsort(order).to(ids.device)]
        embeddings = embeddings.to(at_least_float32(embeddings.dtype))
        return F.normalize(embeddings, dim=-1) if self.head.normalize else embeddings

    def encode(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """Embeddings of texts as queries or passages (their prefix is added), float32 [N, D].

        `ValueError` where one is not finite.
        """
        prefix = self.config.query_prefix if side == "query" else self.config.passage_prefix
        limit = self.config.max_length(side)
        device = next(self.parameters()).device
        width = int(self.dense.out_features if self.dense else self.backbone.config.hidden_size)  # type: ignore
        embeddings = np.empty((len(texts), width), dtype=np.float32)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            for start in range(0, len(texts), BLOCK):
                ids = tokenize(self.tokenizer, texts[start : start + BLOCK], prefix or "", limit)
                flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64)
                lengths = torch.tensor([len(text) for text in ids])
                embeddings[start : start + BLOCK] = self(torch.from_numpy(flat).to(device), lengths).cpu().numpy()
        self.train(was_training)
        if not np.isfinite(embeddings).all():
            raise ValueError(
                f"some embeddings of {self.config.name!r} are not finite: its weights are broken (NaN or far too "
                "large). Fetch the model again, or take an earlier checkpoint"
            )
        return embeddings

    def save(self, directory: str | Path) -> None:
        """Writes the sentence-transformers layout, with the prompts `query`, `passage` and `document`, the same again.

        sentence-transformers takes `document` to be empty where it is missing, and its `encode_document` uses it first.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.backbone.save_pretrained(directory)  # type: ignore[operator]
        self.tokenizer.save_pretrained(directory)
        width: int = self.backbone.config.hidden_size  # type: ignore[union-attr,assignment]
        passage = self.config.passage_prefix or ""
        prompts = {"query": self.config.query_prefix or "", "passage": passage, "document": passage}
        lengths = {side: self.config.max_length(side) for side in get_args(Side)}
        write_layout(directory, self.head, width, prompts, lengths)

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
        pooled = _pool(hidden, mask, sizes, self.head.pooling)
        return ACTIVATIONS[self.head.activation](self.dense(pooled)) if self.dense else pooled


def resolve(config: EncoderConfig) -> EncoderConfig:
    """`config` with prefixes and lengths filled in: what is omitted is as the model says, else the defaults.

    Raises:
        ValueError: there is no encoder of that name, or it takes no texts so long.
    """
    layout = read_layout(config.name, config.revision) if config.name else DEFAULT
    prompts, lengths = layout.prompts, layout.lengths
    resolved = replace(
        config,
        query_prefix=prompts["query"] if config.query_prefix is None else config.query_prefix,
        passage_prefix=prompts["passage"] if config.passage_prefix is None else config.passage_prefix,
        max_query_length=lengths["query"] if config.max_query_length is None else config.max_query_length,
        max_passage_length=lengths["passage"] if config.max_passage_length is None else config.max_passage_length,
    )
    longest = max(resolved.max_length(side) for side in get_args(Side))
    if layout.positions and longest > layout.positions:
        raise ValueError(
            f"encoder.max_query_length and max_passage_length go up to {longest} tokens, and {config.name!r} has "
            f"{layout.positions} positions: lower them"
        )
    return resolved


def as_published(config: EncoderConfig) -> EncoderConfig:
    """`config` with the lengths that sentence-transformers would cut at, unless it or the model says others.

    A model of this project says its own; training another one takes the shorter defaults of `EncoderConfig`.
    """
    longest = read_layout(config.name, config.revision).longest
    return replace(
        config,
        max_query_length=config.max_query_length or longest["query"],
        max_passage_length=config.max_passage_length or longest["passage"],
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
                num_attention_heads=config.heads,
                intermediate_size=4 * config.hidden_size,
                max_position_embeddings=max(config.max_length(side) for side in get_args(Side)),
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                pad_token_id=tokenizer.pad_token_id,
            ),
            add_pooling_layer=False,
        )
    pooling = "mean" if config.pooling in (None, "mean") else "cls"
    return Encoder(backbone, Head(pooling), tokenizer, config)


def _pool(hidden_NTD: Tensor, mask_NT: Tensor, sizes_N: Tensor, mode: str) -> Tensor:
    """One vector for each text, [N, D], from those of its tokens; T is the longest text's."""
    if mode == "cls":
        return hidden_NTD[:, 0]
    if mode == "lasttoken":
        return hidden_NTD[torch.arange(len(sizes_N), device=sizes_N.device), sizes_N - 1]
    if mode == "max":
        return hidden_NTD.masked_fill(~mask_NT[..., None], -torch.inf).amax(1)
    if mode == "weightedmean":
        weight_NT = mask_NT * torch.arange(1, mask_NT.shape[1] + 1, device=mask_NT.device)
        return (hidden_NTD * weight_NT[..., None]).sum(1) / weight_NT.sum(1, keepdim=True)
    assert mode == "mean", mode
    return (hidden_NTD * mask_NT[..., None]).sum(1) / sizes_N[:, None]


def _load_backbone(config: EncoderConfig, layout: Layout) -> tuple[Any, bool]:
    """The backbone with the dropout of `config`, and whether its pooler has weights."""
    from transformers import AutoModel

    check_weights(config.name, config.revision, layout.backbone)
    if config.dropout is not None:
        _set_dropout(layout.config, config.dropout)
    try:
        backbone, report = AutoModel.from_pretrained(
            config.name,
            revision=config.revision,
            subfolder=layout.backbone,
            config=layout.config,
            use_safetensors=True,
            output_loading_info=True,
            dtype=at_least_float32(layout.config.dtype or torch.float32),
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"no encoder at {config.name!r}: {error}") from error
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"the weights of {config.name!r} are broken: fetch or save the model again ({error})"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise ValueError(
            f"the weights of {config.name!r} lack {len(missing)} of its config.json, {', '.join(missing[:3])} first: "
            "fetch or save the model again"
        )
    head = getattr(getattr(backbone, "pooler", None), "dense", None)
    return backbone, head is not None and not any("pooler" in key for key in report["missing_keys"])


def _set_dropout(settings: Any, dropout: float) -> None:
    """Sets it in a backbone's config; `ValueError` where that has none by BERT's names."""
    names = [name for name in ("hidden_dropout_prob", "attention_probs_dropout_prob") if hasattr(settings, name)]
    if not names:
        raise ValueError(
            f"encoder.dropout is {dropout}, and {settings.model_type} models name their dropout otherwise: leave it "
            "out, and set it in the model's own config.json"
        )
    for name in names:
        setattr(settings, name, dropout)
