"""Loads and applies the tokenizer of a model, and gives its fingerprint."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MOST_PUT = 100
"""Characters that a tokenizer may put in the place of others, and tokens that it may add to a text."""


@lru_cache(maxsize=4)
def load_tokenizer(name: str, revision: str | None = None) -> "PreTrainedTokenizerFast":
    """Loads the fast tokenizer of a folder or hub id, once a process; `ValueError` if there is none."""
    from transformers import AutoTokenizer

    from hybridir.model.folder import backbone_folder, lowers_case  # import torch; readers of the token cache need not

    folder = backbone_folder(name, revision)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                name, revision=revision, subfolder=folder, trust_remote_code=False
            )
    except Exception as error:  # a broken file can raise anything, such as KeyError
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"the tokenizer of {name!r} is code that the model brings along, which is never run: save it as a "
                "tokenizer.json"
            ) from error
        raise ValueError(
            f"no tokenizer at {name!r}: name a Hugging Face hub id, or a folder with a whole tokenizer.json; if it has "
            f"only a SentencePiece file, pip install sentencepiece ({type(error).__name__}: {error})"
        ) from error
    _check_growth(tokenizer, name)
    if len(tokenizer) <= len(tokenizer.all_special_ids) + 1:  # transformers makes an empty one if files are missing
        raise ValueError(f"no tokenizer at {name!r}: it has no vocabulary. Save tokenizer.json beside the model")
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer of {name!r} has no tokenizer.json: save it once as a fast tokenizer")
    if lowers_case(name, revision) and tokenizer.tokenize("AbC") != tokenizer.tokenize("abc"):
        _lower_case(tokenizer)
    return tokenizer


def _check_growth(tokenizer: "PreTrainedTokenizerFast", name: str) -> None:
    """`ValueError` if a text would become many times as long: a small folder could fill the memory with every batch."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    waiting: list[Any] = [json.loads(backend.normalizer.__getstate__())] if backend and backend.normalizer else []
    while waiting:
        part = waiting.pop()
        within = part.values() if isinstance(part, dict) else part
        waiting += [one for one in within if isinstance(one, dict | list)]
        put = max((part.get(key) or "" for key in ("content", "prepend")), key=len) if isinstance(part, dict) else ""
        if len(put) > _MOST_PUT:
            raise ValueError(
                f"the tokenizer of {name!r} puts {len(put):,} characters in the place of a few ({put[:80]})"
            )
    if backend and (added := backend.num_special_tokens_to_add(False)) > _MOST_PUT:
        raise ValueError(f"the tokenizer of {name!r} adds {added:,} tokens to every text: at most {_MOST_PUT} are read")


def _lower_case(tokenizer: "PreTrainedTokenizerFast") -> None:
    """Lowers the case of all texts first, as sentence-transformers does for a model that says `do_lower_case`."""
    from tokenizers.normalizers import Lowercase, Sequence

    tokenizer.lowers_case = True  # kept for `Encoder.save`: some tokenizers are loaded without their normalizer
    backend = tokenizer.backend_tokenizer
    backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the block transformers writes nothing but errors."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def tokenize(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], prefix: str, max_length: int
) -> list[list[int]]:
    """The token ids of `prefix + text` for each text, special tokens included, cut to `max_length` tokens."""
    if not texts:
        return []
    return tokenizer([prefix + text for text in texts], truncation=True, max_length=max_length)["input_ids"]


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """SHA-256 of the tokenizer's JSON, without the settings for truncation and padding, which calls change."""
    description = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
