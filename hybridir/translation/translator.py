"""A translation model: texts -> texts, sentence by sentence, in batches that are bounded by tokens."""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridir.runtime.secrets import without_secrets
from hybridir.translation.families import FAMILIES, family_name, language_id
from hybridir.translation.sentences import halves, join, split

EXTRA_TOKENS = 10
"""Tokens that an output may be longer than `ratio` allows."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The translation model.

    Args:
        name: folder or hub id: google/madlad400-3b-mt, facebook/m2m100_418M, facebook/nllb-200-distilled-600M, ...
        revision: commit of the hub id, 40 hexadecimal digits (required, so that the translation can be repeated).
        family: `madlad-400`, `m2m-100` or `nllb-200`. Omitted: found from the hub id.
        license: licence of the model, which every translated pair carries. Omitted: that of the family.
        max_tokens: longest input in tokens; longer sentences are translated in parts.
        batch_tokens: most input tokens of a batch, padding included; lower it if memory runs out.
        ratio: longest output, in tokens per input token, plus 10.
        beams: width of the beam search; 1 is greedy.
        bf16: whether the weights are bfloat16: half the memory, and faster on a GPU.
    """

    name: str = "google/madlad400-3b-mt"
    revision: str | None = None
    family: str = ""
    license: str = ""
    max_tokens: int = 200
    batch_tokens: int = 4096
    ratio: float = 2.0
    beams: int = 1
    bf16: bool = False

    def __post_init__(self) -> None:
        for field, least in (("max_tokens", 8), ("batch_tokens", self.max_tokens), ("beams", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"model.{field} is {getattr(self, field)}: it must be at least {least}")
        if not 0 < self.ratio < math.inf:
            raise ValueError(f"model.ratio is {self.ratio}: it must be above 0")

    def licensed(self) -> str:
        """The licence; `ValueError` if the family is unknown."""
        return self.license or FAMILIES[family_name(self.name, self.family)].license

    def identity(self) -> str:
        """See `identity`."""
        return identity(self.name, self.revision, "model")


def identity(name: str, revision: str | None, section: str) -> str:
    """The commit of a hub id, or a hash of the files of a folder; `ValueError` if there is neither.

    The error names the section of the configuration.
    """
    folder = Path(name)
    if folder.is_dir():
        digest = hashlib.sha256()
        for file in sorted(one for one in folder.rglob("*") if one.is_file() and one.suffix != ".md"):
            digest.update(str(file.relative_to(folder)).encode() + b"\0")
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()[:40]
    if not revision or len(revision) != 40 or set(revision) - set("0123456789abcdef"):
        raise ValueError(
            f"{section}.revision is {revision!r}: name the commit of {name} (40 hexadecimal digits, under 'History' on "
            "its page), so that the translation can be repeated"
        )
    return revision


class Translator:
    """A loaded model."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self.config, self._device = config, device
        self._family = family_name(config.name, config.family)
        self._tokenizer = _loaded(config, "AutoTokenizer")
        dtype = torch.bfloat16 if config.bf16 else torch.float32
        self._model = _loaded(config, "AutoModelForSeq2SeqLM", dtype=dtype).eval().to(device)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """The translations of texts in language `source` into `target`, in their order.

        The batches, and so every bit of the result, depend on these texts alone.
        """
        of_texts = [self._sentences(text) for text in texts]
        sentences = [one for some in of_texts for one in some]
        ids = self._ids(sentences, source, target)
        found: list[str] = [""] * len(sentences)
        for batch in token_batches(np.array([len(one) for one in ids], dtype=np.int64), self.config.batch_tokens):
            for n, text in zip(batch, self._generate([ids[n] for n in batch], target), strict=True):
                found[n] = text
        given = iter(found)
        return [join([next(given) for _ in some], target) for some in of_texts]

    def _sentences(self, text: str) -> list[str]:
        """The sentences of a text, the over-long ones in parts."""
        waiting, found = split(text)[::-1], []
        while waiting:
            one = waiting.pop()
            ids = self._tokenizer(one, add_special_tokens=False, verbose=False)["input_ids"]
            if len(ids) + 2 > self.config.max_tokens and len(one) > 1:
                waiting += [half for half in halves(one)[::-1] if half]
            else:
                found.append(one)
        return found

    def _ids(self, sentences: Sequence[str], source: str, target: str) -> list[list[int]]:
        """The token ids of the inputs: that of a language, those of the sentence, that of the end."""
        first = source if FAMILIES[self._family].source_first else target
        start = language_id(self._tokenizer, self._family, first)
        ids = self._tokenizer(list(sentences), add_special_tokens=False)["input_ids"] if sentences else []
        return [[start, *one, self._tokenizer.eos_token_id] for one in ids]

    def _generate(self, ids: list[list[int]], target: str) -> list[str]:
        """The translations of a batch; an output ends at the end token, or at the longest length."""
        longest, tokenizer = max(map(len, ids)), self._tokenizer
        padded = torch.full((len(ids), longest), tokenizer.pad_token_id)
        for row, one in zip(padded, ids, strict=True):
            row[: len(one)] = torch.tensor(one)
        forced = FAMILIES[self._family].source_first
        with torch.inference_mode(), _memory_explained(self.config.batch_tokens):
            outputs = self._model.generate(
                input_ids=padded.to(self._device),
                attention_mask=(padded != tokenizer.pad_token_id).long().to(self._device),
                max_new_tokens=longest_output(longest, self.config.ratio),
                num_beams=self.config.beams,
                do_sample=False,
                **({"forced_bos_token_id": language_id(tokenizer, self._family, target)} if forced else {}),
            )
        begins = 2 if forced else 1  # after the start token, and that of the language
        return tokenizer.batch_decode(outputs[:, begins:], skip_special_tokens=True)


def check_languages(config: ModelConfig, languages: Sequence[str]) -> None:
    """`ValueError` if the model does not know one of the languages, or has no tokenizer; loads no weights."""
    tokenizer = _loaded(config, "AutoTokenizer")
    for language in languages:
        language_id(tokenizer, family_name(config.name, config.family), language)


def _loaded(config: ModelConfig, kind: str, **options: Any) -> Any:
    """Loads an object of the class `kind` of transformers from the model's folder or hub id."""
    import transformers

    revision = None if os.path.isdir(config.name) else config.revision
    try:
        return getattr(transformers, kind).from_pretrained(
            config.name, revision=revision, trust_remote_code=False, **options
        )
    except Exception as error:  # a missing or broken file can raise anything
        raise ValueError(
            f"no translation model at {config.name!r}: name a hub id or a folder; if its tokenizer has only a "
            f"SentencePiece file, pip install sentencepiece ({type(error).__name__}: {without_secrets(str(error))})"
        ) from None


@contextmanager
def _memory_explained(batch_tokens: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        remedy = f"lower model.batch_tokens ({batch_tokens}), or set model.bf16. What is translated already is kept"
        raise MemoryError(f"the translation model has no memory left: {remedy} ({error})") from None


def longest_output(longest: int, ratio: float) -> int:
    """The limit of tokens of an output, in a batch whose longest input has `longest` tokens."""
    return int(ratio * longest) + EXTRA_TOKENS


def token_batches(lengths: np.ndarray, budget: int) -> list[list[int]]:
    """Batches of texts of similar length: int [N] -> positions. A batch, padded, has at most `budget` tokens.

    The longest come first, so that a lack of memory shows at once.
    """
    batches: list[list[int]] = []
    for n in np.argsort(-lengths, kind="stable").tolist():
        if not batches or (len(batches[-1]) + 1) * int(lengths[batches[-1][0]]) > budget:
            batches.append([])
        batches[-1].append(n)
    return batches
