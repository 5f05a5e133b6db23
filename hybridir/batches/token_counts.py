"""How many tokens the steps of a plan have: counted before training, from the lengths in the token cache.

Counts are kept beside that cache: they depend on the plan and on noise alone, so that runs with the same batches, such
as arms of a study with other losses, count once.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np

from hybridir import batches, perturbations
from hybridir.batches.stream import BatchSource
from hybridir.runtime.durable import replaced
from hybridir.runtime.progress import SECONDS, watch

_ALL = 2**62
"""More steps than any run has."""


def count_tokens(source: BatchSource, least: int) -> list[int]:
    """The total number of tokens before each step and after the last one, [steps + 1].

    The last step is the first that brings the total to `least`. Padding does not count; a text counts each time that it
    is drawn.
    """
    file = Path(source.tokens).with_name(f"counts-{_fingerprint(source)}.npy")
    before = np.zeros(1, dtype=np.int64)
    with suppress(OSError, ValueError, EOFError):  # not counted before, or the file is damaged
        before = np.load(file)
    if before[-1] < least:
        steps = watch("counted", _steps(source, len(before) - 1, int(before[-1]), least), "tokens", least=SECONDS)
        before = np.concatenate([before, np.fromiter(steps, dtype=np.int64)])
        with replaced(file) as written, open(written, "wb") as opened:
            np.save(opened, before)
    return before[: int(np.searchsorted(before, least)) + 1].tolist()


def in_steps(source: BatchSource) -> BatchSource:
    """The source with the steps of `sampling.mono_first_tokens` as `sampling.mono_first`."""
    if not (least := source.sampling.mono_first_tokens):
        return source
    mono = replace(source, sampling=replace(source.sampling, mono_first=_ALL, mono_first_tokens=0))
    steps = len(count_tokens(mono, least)) - 1
    return replace(source, sampling=replace(source.sampling, mono_first=steps, mono_first_tokens=0))


def _steps(source: BatchSource, step: int, before: int, least: int) -> Iterator[tuple[int, int, float]]:
    """For `watch`: the tokens after each step from `step` on, its own tokens, and the share of `least` that is done."""
    while before < least:
        own = sum(int(view.sum()) for view in source.lengths(step).values())
        step, before = step + 1, before + own
        yield before, own, min(1.0, before / least)


def _fingerprint(source: BatchSource) -> str:
    """16 hexadecimal digits that change with the plan, the token cache, and the code that draws batches and noise."""
    same = replace(
        source, corpus="", tokens=Path(source.tokens).name, token_job=None, teacher="", teacher_language=None
    )
    named = json.dumps([asdict(same), _code()], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()[:16]


@cache
def _code() -> str:
    """The SHA-256 of the modules and tables of `batches` and `perturbations`."""
    folders = [Path(room.__file__ or "").parent for room in (batches, perturbations)]
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    kept = [file.read_bytes() for file in files if "__pycache__" not in file.parts and file.suffix != ".md"]
    return hashlib.sha256(b"".join(kept)).hexdigest()
