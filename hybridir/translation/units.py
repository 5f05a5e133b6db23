"""Units of work: one shard of texts into one language. A unit is translated once, and then stays on disk.

A unit is a file named by a hash of all that decides its contents, with a checksum inside. It is written beside its
place and renamed, so that it is whole or absent; a second translation writes the same bytes.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from hybridir.model.distributed import pick_device
from hybridir.model.encoder import Encoder
from hybridir.runtime.cpus import usable_cpus
from hybridir.runtime.durable import replaced, storage_explained
from hybridir.translation.gates import SWAPPED, Between, GatesConfig, judge
from hybridir.translation.texts import Texts
from hybridir.translation.translator import ModelConfig, Translator

PROBE, PROBED = -1, 64
"""The shard number of a probe, and how many texts it translates. A probe is only timed."""
MARGIN = 0.1
"""Rows count as swapped if another text is closer to a translation than its own by this much cosine similarity."""
SCHEMA = pa.schema([("text", pa.string()), ("reason", pa.string()), ("similarity", pa.float32())])
"""Columns of a unit: the translation; why a gate rejects it, or null; the encoder's similarity, NaN without one."""


@dataclass(frozen=True)
class Unit:
    """A shard of texts, and the language that it is translated into."""

    shard: int
    language: str


@dataclass(frozen=True)
class Done:
    """A unit that is translated: seconds and characters of its texts, and how often each gate rejected."""

    unit: Unit
    seconds: float = 0.0
    characters: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What a process needs to translate units.

    Args:
        folder: folder of the units; `texts` in it holds the texts.
        model: the translation model.
        identity: commit or hash of the model.
        gates: the checks of translations.
        source: language of the texts.
        encoder: commit or hash of the encoder that checks them; empty without one.
        use_gpu: whether the model runs on a GPU.
        threads: threads of a process on the CPU; 0: as many as there are cores.
    """

    folder: str
    model: ModelConfig
    identity: str
    gates: GatesConfig
    source: str
    encoder: str = ""
    use_gpu: bool = False
    threads: int = 0

    @property
    def texts(self) -> Texts:
        return Texts(Path(self.folder, "texts"))

    def file(self, unit: Unit) -> Path:
        """Where a unit belongs. The name changes with the texts, the model, the options and the languages."""
        options = {k: v for k, v in asdict(self.model).items() if k not in ("name", "revision", "license")}
        gates = asdict(self.gates) | {"encoder": self.encoder, "revision": None}
        texts = _texts_hash(self.folder, unit.shard)
        about = [self.identity, options, gates, self.source, unit.language, texts]
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return Path(self.folder, f"{unit.language}-{unit.shard:06}-{key}.arrow")


@lru_cache(100_000)
def _texts_hash(folder: str, shard: int) -> str:
    texts = Texts(Path(folder, "texts")).shard(shard)
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def read_unit(file: Path) -> pa.RecordBatch | None:
    """The translations in a file, in the order of the shard; None if it is not there or damaged."""
    try:
        with pa.OSFile(str(file)) as opened, pa.ipc.open_file(opened) as reader:
            batch = reader.get_batch(0)
            wanted = (reader.schema.metadata or {}).get(b"sha256")
    except (FileNotFoundError, pa.ArrowException):
        return None
    return batch.replace_schema_metadata(None) if wanted == _checksum(batch) else None


def _checksum(batch: pa.RecordBatch) -> bytes:
    texts = json.dumps([batch[name].to_pylist() for name in ("text", "reason")]).encode()
    similarity = batch["similarity"].to_numpy(zero_copy_only=False).tobytes()
    return hashlib.sha256(texts + similarity).hexdigest().encode()


Run = Callable[[Work, Sequence[Unit]], Iterator[Done]]
"""Translates units in any order, and yields each when its file is there: `translate_here`, or on workers elsewhere."""


def translate_here(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
    """Translates units in this process, one after another."""
    return map(Worker(work).translate, units)


class Worker:
    """Loads the models with its first unit, and translates units."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def translate(self, unit: Unit) -> Done:
        """Translates a unit and writes its file, or times a probe."""
        if unit.shard == PROBE:
            return self._probe(unit)
        texts, began = self._work.texts.shard(unit.shard), time.monotonic()
        found = self._translator.translate(texts, self._work.source, unit.language)
        between = Between(self._work.source, unit.language)
        pairs = list(zip(texts, found, strict=True))
        reasons = [judge(text, one, between, self._work.gates.apply) for text, one in pairs]
        similarity = np.full(len(texts), np.nan, dtype=np.float32)
        if self._work.gates.encoder:
            similarity, swapped = _similarity(self._encoder, texts, found)
            reasons = [one or (SWAPPED if is_swapped else None) for one, is_swapped in zip(reasons, swapped)]  # noqa: B905
        batch = pa.record_batch([_whole(found), reasons, similarity], schema=SCHEMA)
        file = self._work.file(unit)
        with storage_explained(file), replaced(file) as written:
            schema = SCHEMA.with_metadata({"sha256": _checksum(batch)})
            with pa.OSFile(str(written), "wb") as opened, pa.ipc.new_file(opened, schema) as writer:
                writer.write(batch.replace_schema_metadata(schema.metadata))
        counts = Counter(one for one in reasons if one)
        return Done(unit, time.monotonic() - began, sum(map(len, texts)), dict(counts))

    @cached_property
    def _translator(self) -> Translator:
        torch.set_num_threads(self._work.threads or usable_cpus())
        return Translator(self._work.model, pick_device(self._work.use_gpu))

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder.load(self._work.gates.encoder_config()).to(pick_device(self._work.use_gpu))

    def _probe(self, unit: Unit) -> Done:
        """Times the translation of texts from all shards, evenly spaced, after a first one that warms up."""
        texts = self._work.texts
        shards = np.unique(np.linspace(0, texts.n_shards - 1, min(PROBED, texts.n_shards)).astype(int))
        some: list[str] = []
        for shard in shards.tolist():
            there = texts.shard(shard)
            some += there[:: max(1, len(there) * len(shards) // PROBED)]
        some = some[:PROBED]
        for few in (some[:1], some):
            began = time.monotonic()
            found = self._translator.translate(few, self._work.source, unit.language)
            if self._work.gates.encoder:
                _similarity(self._encoder, few, found)
        return Done(unit, time.monotonic() - began, sum(map(len, some)))


def _whole(texts: Sequence[str]) -> list[str]:
    """The texts without lone surrogates, which a model may produce and UTF-8 cannot encode."""
    return [text.encode("utf-8", "replace").decode() for text in texts]


def _similarity(encoder: Encoder, texts: Sequence[str], found: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each translation: its cosine similarity with its text, and whether another text of the unit is closer."""
    ours, theirs = (encoder.encode(some, "passage") for some in (texts, found))
    ours, theirs = (some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12) for some in (ours, theirs))
    all_NN = theirs @ ours.T
    own = all_NN.diagonal().copy()
    return own, all_NN.max(axis=1) > own + MARGIN
