"""Embeds the training texts by the teacher of `loss.distill`, once for all runs that share a cache."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybridir.batches.teacher import SIDES
from hybridir.data.corpus import Corpus
from hybridir.model.check import as_published, check_encoder
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.files import model_of
from hybridir.retrieval.systems import fingerprint
from hybridir.runtime.durable import made_once
from hybridir.runtime.progress import say
from hybridir.training.losses.distill import Distill


@dataclass(frozen=True)
class Taught:
    """The folder of a teacher's embeddings, and what identifies the teacher."""

    folder: Path
    identity: str


def teach(config: Distill, corpus: Corpus) -> Taught:
    """The embeddings of a corpus by the teacher of `config`, beside the corpus; computed if they are not there.

    Raises:
        ValueError: there is no such encoder, or the data lack the language that it is to read.
    """
    name = as_published(EncoderConfig(name=model_of(config.teacher)))
    check_encoder(name, fetch=True)
    if config.language is not None and config.language not in corpus.languages:
        raise ValueError(
            f"loss.distill.language is {config.language!r}, but the data has pairs only in "
            f"{', '.join(corpus.languages)}: name one of these, or leave it out"
        )
    identity = fingerprint(name)
    rows = hashlib.sha256(corpus.row_of.tobytes()).hexdigest()
    key = hashlib.sha256(json.dumps([identity, corpus.fingerprint, rows, config.language]).encode()).hexdigest()[:16]
    folder = corpus.directory.parent / f"teacher-{key}"
    with made_once(folder) as work:
        if work:
            say(f"embedding the training texts by {config.teacher}, the teacher")
            _write(Encoder.load(name), corpus, config.language, work)
    return Taught(folder, identity)


def _write(encoder: Encoder, corpus: Corpus, language: str | None, work: Path) -> None:
    rows_GL = corpus.row_of[corpus.groups("train")]
    if language is not None:
        rows_GL = rows_GL[:, [corpus.languages.index(language)]]
    needed_N = np.zeros(corpus.n_pairs, dtype=bool)
    needed_N[rows_GL[rows_GL >= 0]] = True
    files: dict[str, np.memmap] = {}
    for chunk, start in enumerate(corpus.chunk_start[:-1].tolist()):
        rows = corpus.chunk(chunk)
        needed = np.flatnonzero(needed_N[start : start + rows.num_rows])
        texts = {"query": rows["query"], "passage": rows["passage"].field("text")}
        for side in SIDES:
            embedded = encoder.encode([texts[side][n].as_py() for n in needed.tolist()], side)  # type: ignore[arg-type]
            if side not in files:
                shape = (corpus.n_pairs, embedded.shape[1])
                files[side] = np.lib.format.open_memmap(work / f"{side}.npy", "w+", np.float32, shape)
            files[side][start + needed] = embedded
    for file in files.values():
        file.flush()
