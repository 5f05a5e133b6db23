"""The configuration of an encoder."""

from dataclasses import dataclass
from typing import Literal

from hybridir.model.folder import Side


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The encoder to train or to measure.

    Args:
        name: Hugging Face hub id, or folder (Hugging Face or sentence-transformers); weights of half precision are
            loaded as float32, float64 stays. Empty: a small BERT is built, with a tokenizer trained on the corpus.
        revision: revision of the hub id (a commit, for a run that can be repeated).
        pooling: `mean` or `cls`; `pooler` is CLS and the backbone's own dense layer with tanh. Omitted: as the
            sentence-transformers folder says, with its dense layer, which no other choice takes; else mean.
        query_prefix: put before every query. Omitted: the model's own prompt, else nothing.
        passage_prefix: put before every passage, likewise.
        max_query_length: tokens of a query, special tokens included, at least 3. Omitted: as the model was trained,
            else 64, or less where the model takes less.
        max_passage_length: tokens of a passage, likewise; else 256.
        vocab_size: of the tokenizer, when one is built; at least 260 (all bytes and the special tokens).
        layers: of the encoder, when one is built.
        hidden_size: likewise, its width and the dimension of the embeddings; each whole 64 is a head (192 goes).
        dropout: dropout in the backbone (BERT, XLM-R and others of their names); omitted: as the model's config says.
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

    def __post_init__(self) -> None:
        for name, least in (("max_query_length", 3), ("max_passage_length", 3), ("vocab_size", 260), ("layers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"encoder.{name} is {value}: it must be at least {least}")
        if self.hidden_size < 1 or self.hidden_size % self.heads:
            raise ValueError(
                f"encoder.hidden_size is {self.hidden_size}: it must be above 0 and divide by its {self.heads} heads "
                "(one for each whole 64)"
            )
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"encoder.dropout is {self.dropout}: it must be at least 0 and below 1")

    @property
    def heads(self) -> int:
        """Attention heads of an encoder that is built."""
        return max(1, self.hidden_size // 64)

    def max_length(self, side: Side) -> int:
        """Tokens of a text, in a config from `resolve`."""
        length = self.max_query_length if side == "query" else self.max_passage_length
        assert length is not None, "the config is resolved"
        return length
