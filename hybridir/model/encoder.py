"""The shared dual encoder: a Hugging Face backbone, pooling, an optional dense head, normalisation.

`Encoder.load` reads plain Hugging Face encoders and the sentence-transformers layout (folder or hub id),
`build_small_encoder` makes a new one, and `Encoder.save` writes the sentence-transformers layout (see folder.py).

Input is flat: the token ids of all texts one after another, and the length of each text. packing.py says how they go
through the backbone.

Shapes: N texts, T tokens of all N texts together, D dimension.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hybridir.model.check import as_published, check_dropout, check_encoder, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.files import model_of
from hybridir.model.folder import Layout, Side, read_layout, write_layout
from hybridir.model.groups import cut_by_budget, lay_out
from hybridir.model.head import Head, read_head
from hybridir.model.packing import can_pack, prepare, run_packed, run_padded
from hybridir.model.precision import at_least_float32
from hybridir.model.tokenizer import load_tokenizer, quiet, tokenize
from hybridir.model.weights import backbone_class

BLOCK = 2048
"""Texts that `Encoder.encode` tokenises at a time, so that its memory does not grow with their number."""


class Encoder(nn.Module):
    """Maps token ids (`forward`) or texts (`encode`) to embeddings."""

    def __init__(self, backbone: nn.Module, head: Head, tokenizer: Any, config: EncoderConfig) -> None:
        super().__init__()
        prepare(backbone)
        self.backbone, self.head, self.dense = backbone, head, head.dense
        self.tokenizer, self.config = tokenizer, config

    @classmethod
    def load(cls, config: EncoderConfig | str) -> "Encoder":
        """Loads the encoder that `config.name` names; `ValueError` with the remedy if that fails.

        A name alone (model folder, folder of a training run, hub id) is loaded as an evaluation would: see
        `as_published`.
        """
        if isinstance(config, str):
            config = as_published(EncoderConfig(name=model_of(config)))
        check_encoder(config, fetch=True)
        layout, resolved = read_layout(config.name, config.revision), resolve(config)
        backbone = _load_backbone(resolved, layout)
        by_pooler = resolved.pooling == "pooler"
        pooling = "cls" if by_pooler else resolved.pooling
        head = read_head(config.name, resolved.revision, layout.config.hidden_size, pooling)
        if by_pooler:
            head = replace(head, dense=backbone.pooler.dense)
        if resolved.truncate_dim:
            head = replace(head, truncate_dim=resolved.truncate_dim)
        if hasattr(backbone, "pooler"):
            backbone.pooler = None
        tokenizer = load_tokenizer(config.name, resolved.revision)
        return cls(backbone, head, tokenizer, resolved).to(backbone.dtype)

    @property
    def width(self) -> int:
        """The dimension of the embeddings."""
        return self.head.width(self.backbone.config.hidden_size)  # type: ignore[union-attr,arg-type]

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Embeds texts given as token ids; at least float32 [N, D].

        The embeddings have length 1, except for a model that scores by dot product without normalising (see `Head`).

        Args:
            ids: int [T], token ids of all texts one after another.
            lengths: int [N], on the CPU, number of tokens of each text, at least 1.
        """
        packed = can_pack(self.backbone, ids.device)
        layout = lay_out(lengths, ids.device, packed)
        if packed:
            rows = run_packed(self.backbone, ids, layout).split([group.tokens for group in layout.groups])
            hidden: Iterator[Tensor] = (group.pad(row) for group, row in zip(layout.groups, rows, strict=True))
        else:
            padding = self.tokenizer.pad_token_id or 0  # any token will do, it is masked
            hidden = run_padded(self.backbone, ids, layout, padding)
        pooled = [
            _pool(hidden_nLD, group.there, group.sizes, self.head.pooling)
            for group, hidden_nLD in zip(layout.groups, hidden, strict=True)
        ]
        return self.head.finish(torch.cat(pooled)[layout.back])

    def encode(
        self, texts: Sequence[str] | str, side: Side, embedded: Callable[[int], object] = lambda n: None
    ) -> np.ndarray:
        """Embeds texts as queries or as passages, with the prefix and the longest length of that side; float32 [N, D].

        A single text gives one row. Equal texts are embedded once. `embedded` is called with the number of distinct
        texts that each forward pass has embedded. Raises `ValueError` if the side is unknown, or if an embedding is not
        finite.
        """
        if side not in get_args(Side):
            raise ValueError(f"side is {side!r}: it must be {' or '.join(get_args(Side))}")
        texts, places = distinct([texts] if isinstance(texts, str) else texts)
        prefix = self.config.query_prefix if side == "query" else self.config.passage_prefix
        limit = self.config.max_length(side)
        device = next(self.parameters()).device
        embeddings = np.empty((len(texts), self.width), dtype=np.float32)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            for start in range(0, len(texts), BLOCK):
                ids = tokenize(self.tokenizer, texts[start : start + BLOCK], prefix or "", limit)
                lengths = np.array([len(text) for text in ids])
                order = np.argsort(-lengths, kind="stable")
                for first, last in cut_by_budget(lengths[order], device, can_pack(self.backbone, device)):
                    part = order[first:last]
                    flat = torch.tensor(list(chain.from_iterable(ids[i] for i in part)), device=device)
                    found = self(flat, torch.from_numpy(lengths[part]))
                    embeddings[start + part] = found.cpu().numpy()
                    embedded(len(part))
        self.train(was_training)
        if not np.isfinite(embeddings).all():
            raise ValueError(
                f"some embeddings of {self.config.name!r} are not finite: its weights are broken (NaN or far too "
                "large). Fetch the model again, or use an earlier checkpoint"
            )
        return embeddings if places is None else embeddings[places]

    def save(self, directory: str | Path) -> None:
        """Writes the sentence-transformers layout with the prompts `query`, `passage` and `document` (= `passage`).

        Without `document`, sentence-transformers adds an empty one, which its `encode_document` prefers to `passage`.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.backbone.save_pretrained(directory)  # type: ignore[operator]
            self.tokenizer.save_pretrained(directory)
        width: int = self.backbone.config.hidden_size  # type: ignore[union-attr,assignment]
        passage = self.config.passage_prefix or ""
        prompts = {"query": self.config.query_prefix or "", "passage": passage, "document": passage}
        lengths = {side: self.config.max_length(side) for side in get_args(Side)}
        lower_case = getattr(self.tokenizer, "lowers_case", False)
        write_layout(directory, self.head, width, prompts, lengths, lower_case)


def distinct(texts: Sequence[str]) -> tuple[Sequence[str], np.ndarray | None]:
    """The distinct ones of N texts, and where each of the N is among them, int [N]; None if none is there twice."""
    places: dict[str, int] = {}
    where = np.fromiter((places.setdefault(text, len(places)) for text in texts), np.int64, len(texts))
    return (texts, None) if len(places) == len(texts) else (list(places), where)


def build_small_encoder(config: EncoderConfig, tokenizer: Any, seed: int) -> Encoder:
    """Builds a BERT of the size in `config`, with random weights drawn from `seed`."""
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


def _pool(hidden_nLD: Tensor, mask_nL: Tensor, sizes_n: Tensor, mode: str) -> Tensor:
    """Pools token vectors [n, L, D] into one vector a text, [n, D]; L is the length of the longest text."""
    if mode == "cls":
        return hidden_nLD[:, 0]
    if mode == "lasttoken":
        return hidden_nLD[torch.arange(len(sizes_n), device=sizes_n.device), sizes_n - 1]
    if mode == "max":
        return hidden_nLD.masked_fill(~mask_nL[..., None], -torch.inf).amax(1)
    if mode == "weightedmean":
        weight_nL = mask_nL * torch.arange(1, mask_nL.shape[1] + 1, device=mask_nL.device)
        return (hidden_nLD * weight_nL[..., None]).sum(1) / weight_nL.sum(1, keepdim=True)
    assert mode in ("mean", "mean_sqrt_len_tokens"), mode
    size_n1 = sizes_n[:, None]
    return (hidden_nLD * mask_nL[..., None]).sum(1) / (size_n1 if mode == "mean" else size_n1.sqrt())


def _load_backbone(config: EncoderConfig, layout: Layout) -> Any:
    """Loads the backbone with the dropout of `config`."""
    if config.dropout is not None:
        for name in check_dropout(config, layout):
            setattr(layout.config, name, config.dropout)
    try:
        with quiet():
            backbone, report = backbone_class(layout.config).from_pretrained(
                config.name,
                revision=config.revision,
                subfolder=layout.backbone,
                config=layout.config,
                use_safetensors=True,
                trust_remote_code=False,
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
            f"the weights of {config.name!r} lack {len(missing)} tensors of the model in its config.json, the first "
            f"{', '.join(missing[:3])}: fetch or save the model again"
        )
    return backbone
