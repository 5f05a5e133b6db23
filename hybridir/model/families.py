"""What is known of published models by their names, where their files do not say it."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that were trained alike.

    Attributes:
        title: their name in messages.
        names: pattern of the last part of their names, in lower case.
        query, passage: the prompts that they were trained with.
        pooling: how they pool.
        temperature: what similarities were divided by in training, where a public source is known; else None.
    """

    title: str
    names: str
    query: str = ""
    passage: str = ""
    pooling: str
    temperature: float | None = None


FAMILIES = (
    Family(  # arXiv 2402.05672; the task is that of the model card, which gives no temperature
        title="multilingual E5 instruct",
        names=r"multilingual-e5-\w+-instruct",
        query="Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
        pooling="mean",
    ),
    Family(  # arXiv 2212.03533, 2402.05672; the temperature is in the FAQ of the model cards (intfloat/e5-base-v2)
        title="E5",
        names=r"(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?",
        query="query: ",
        passage="passage: ",
        pooling="mean",
        temperature=0.01,
    ),
    # arXiv 2402.03216; the temperature is that of the authors' script for training it further,
    # examples/finetune/embedder/encoder_only/m3.sh in github.com/FlagOpen/FlagEmbedding
    Family(title="BGE-M3", names=r"bge-m3(-unsupervised)?", pooling="cls", temperature=0.02),
    Family(title="LaBSE", names=r"labse", pooling="pooler"),  # arXiv 2007.01852
    Family(title="GTE multilingual", names=r"gte-multilingual-(base|mlm-base)", pooling="cls"),  # arXiv 2407.19669
    Family(  # arXiv 2506.05176
        title="Qwen3-Embedding",
        names=r"qwen3-embedding-[\d.]+b",
        query="Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
        pooling="lasttoken",
    ),
)


def family_of(name: str) -> Family | None:
    """The family of a hub id, or of a folder that is named like one; None if it is not known."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    return next((family for family in FAMILIES if re.fullmatch(family.names, last)), None)
