"""The configuration of an encoder."""

from dataclasses import dataclass
from typing import Literal

from hybridir.model.folder import Side


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The encoder to train or to measure.

    Args:
        name: Hugging Face hub id, or folder (plain Hugging Face or sentence-transformers). Weights in half precision
            are loaded as float32, others as they are. Empty: a small BERT is built, with a tokenizer trained on the
            corpus.
        revision: revision of the hub id. Give a commit to make the run repeatable.
        pooling: how token vectors become one embedding: `mean`, `cls` (first token), or `pooler` (first token, then the
            backbone's own dense layer with tanh). Omitted: as a sentence-transformers model says, else `mean`. Of such
            a model, this leaves out the dense layer, and keeps normalisation, similarity and `truncate_dim`.
        query_prefix: text put before every query. Omitted: the model's own prompt, if it has one.
        passage_prefix: text put before every passage. Omitted: the model's own prompt, if it has one.
        max_query_length: longest query in tokens, special tokens included, at least 3; longer ones are cut. Omitted: as
            saved with a model of this project; else 64 in training (less if the model takes less) and the model's own
            maximum in evaluation.
        max_passage_length: longest passage in tokens, by the same rules with 256 instead of 64.
        vocab_size: tokens of the tokenizer that is trained if `name` is empty; at least 260 (256 bytes, 4 special).
        layers: transformer layers of the encoder that is built if `name` is empty.
        hidden_size: width of that encoder and dimension of its embeddings. It has one attention head for each whole 64,
            and the size must be divisible by the number of heads (192 is, 200 is not).
        truncate_dim: keep only this many first numbers of an embedding, normalised again, and save the model like that:
            for models trained with `loss.matryoshka`. Omitted: as the model's files say, else all.
        dropout: dropout in the backbone, for BERT, XLM-R and models with the same field names. Omitted: as the model's
            config says; 0 if `name` is empty.
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
    truncate_dim: int | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        lengths = (("max_query_length", 3), ("max_passage_length", 3))
        for name, least in (*lengths, ("vocab_size", 260), ("layers", 1), ("truncate_dim", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"encoder.{name} is {value}: it must be at least {least}")
        if self.hidden_size < 1 or self.hidden_size % self.heads:
            raise ValueError(
                f"encoder.hidden_size is {self.hidden_size}: it must be above 0 and divisible by its {self.heads} "
                "attention heads (one for each whole 64)"
            )
        if not self.name and (self.truncate_dim or 1) > self.hidden_size:
            raise ValueError(
                f"encoder.truncate_dim is {self.truncate_dim}, but embeddings have encoder.hidden_size "
                f"{self.hidden_size} numbers: lower it"
            )
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"encoder.dropout is {self.dropout}: it must be at least 0 and below 1")

    @property
    def heads(self) -> int:
        """Attention heads of the encoder that is built if `name` is empty."""
        return max(1, self.hidden_size // 64)

    def max_length(self, side: Side) -> int:
        """The longest text of a side in tokens; the config must come from `encoder.resolve`."""
        length = self.max_query_length if side == "query" else self.max_passage_length
        assert length is not None, "the config is resolved"
        return length
