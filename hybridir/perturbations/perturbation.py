"""What a perturbation is, and what its kinds share: the units of a text, and how many of them are edited."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import regex

from hybridir.runtime.random_numbers import Uniform

_CLUSTER = regex.compile(r"\X")
_EDITABLE = regex.compile(r"\P{N}*\p{L}\P{N}*")
Severity = float | Literal["one"]
"""The share of the editable units of a text that are edited, 0 to 1; or `one`: exactly one edit in every text."""


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A way to put noise into a text.

    Attributes:
        applies: language code -> whether there is such noise in that language.
        apply: (text, language, random numbers, severity) -> the text with noise. The same arguments give the same
            text; severity 0 gives the text itself; and with the same random numbers, the edits at one severity are
            among those at a higher one. A text without anything to edit comes back as it was.
        unit: what is edited and counted, in the plural.
    """

    applies: Callable[[str], bool]
    apply: Callable[[str, str, Uniform, Severity], str]
    unit: str


def check_severity(severity: Severity, name: str = "the severity of noise") -> None:
    """Raises `ValueError`, naming the value by `name`, if this is no severity."""
    if severity != "one" and not (isinstance(severity, int | float) and 0 <= severity <= 1):
        raise ValueError(f"{name} is {severity}: it must be from 0 to 1, or one")


def clusters(text: str) -> list[str]:
    """The grapheme clusters of a text: what a reader sees as one character (Unicode Standard Annex 29)."""
    return _CLUSTER.findall(text)


def is_editable(cluster: str) -> bool:
    """Whether a cluster is a letter with its marks. Digits, punctuation and spaces are left alone."""
    return _EDITABLE.fullmatch(cluster) is not None


def choose_sites(n_sites: int, rng: Uniform, severity: Severity) -> np.ndarray:
    """The sites to edit, int64 [edits], all different, in the order in which a growing severity adds them.

    There are floor(severity * n_sites + u) edits, with u uniform in [0, 1): severity * n_sites on average, in short
    texts too. Rounding to at least one edit would give short texts, such as Chinese questions, more noise than long.

    Raises:
        ValueError: the severity is not within 0 to 1.
    """
    check_severity(severity)
    u, order = rng(1)[0], np.argsort(rng(n_sites), kind="stable")
    return order[: 1 if severity == "one" else int(severity * n_sites + u)]
