"""Trains a tokenizer on a corpus, for the small encoder that is built from nothing.

It is a byte-level BPE, which covers every script. Trained twice, it has the same tokens both times; the Unigram and
WordPiece trainers of the tokenizers library do not guarantee that.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybridir.data.corpus import Corpus
from hybridir.runtime.durable import made_once
from hybridir.runtime.progress import say

MAX_PAIRS = 100_000
"""The most pairs that a tokenizer is trained on."""


def train_tokenizer(corpus: Corpus, vocab_size: int) -> Path:
    """Trains a tokenizer of up to `vocab_size` tokens on the training queries and passages; returns its folder.

    The folder lies beside the corpus, and the tokenizer in it is reused.
    """
    from transformers import PreTrainedTokenizerFast

    name = hashlib.sha256(f"bpe {vocab_size} {corpus.fingerprint}".encode()).hexdigest()[:16]
    folder = corpus.directory.parent / f"tokenizer-{name}"
    with made_once(folder) as work:
        if work:
            say("building a vocabulary from the training pairs")
            special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
            tokenizer = _train(corpus, vocab_size, list(special.values()))
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(work)
    return folder


def _train(corpus: Corpus, vocab_size: int, special: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # Words end at spaces, punctuation and digits only: the usual regex cuts Thai and Devanagari at every mark.
    words = [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits()]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, to_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(corpus), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _texts(corpus: Corpus) -> Iterator[str]:
    """The queries and passages of all training pairs, or of at most `MAX_PAIRS` evenly spaced ones."""
    rows = np.sort(corpus.row_of[corpus.groups("train")], axis=None)
    rows = rows[np.searchsorted(rows, 0) :]
    rows = rows[:: max(1, -(-len(rows) // MAX_PAIRS))]
    for number in range(corpus.n_chunks):
        first, end = np.searchsorted(rows, corpus.chunk_start[number : number + 2])
        chunk = corpus.chunk(number).take(pa.array(rows[first:end] - corpus.chunk_start[number]))
        yield from chunk["query"].to_pylist()
        yield from chunk["passage"].field("text").to_pylist()
