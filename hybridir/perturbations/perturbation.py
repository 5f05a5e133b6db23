"""What a perturbation is: which places of a text it can edit, how many of them it edits, and what it puts there."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from hybridir.runtime.random_numbers import Uniform

Severity = float | Literal["one"]
"""The share of the sites of a text that are edited, 0 to 1; or `one`: exactly one edit in every text."""


class Site(NamedTuple):
    """A place that can be edited: text[start:end] is replaced by one of the options, all of which differ from it.

    Options are equally likely, or in proportion to `weights`.
    """

    start: int
    end: int
    options: Sequence[str]
    weights: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A way to put noise into a text.

    Attributes:
        sites: (text, language) -> the places that can be edited. Of two that overlap, at most one is.
        unit: what is edited and counted, in the plural.
        about: what an edit does, in a few words.
        languages: the languages that it applies to; None for all. A code with a script or territory, such as
            `zh_Hant`, counts as its language.
        first: (text, language) -> text, applied to every text before its sites are found.
        edits_per_site: edits per site at severity 1, if not 1.
    """

    sites: Callable[[str, str], list[Site]]
    unit: str
    about: str = ""
    languages: Collection[str] | None = None
    first: Callable[[str, str], str] | None = None
    edits_per_site: float = 1.0

    def applies(self, language: str) -> bool:
        """Whether this noise exists in a language."""
        return self.languages is None or base_of(language) in self.languages

    def apply(self, text: str, language: str, rng: Uniform, severity: Severity) -> str:
        """The text with noise.

        The same arguments give the same text; severity 0 gives the text itself; and with the same random numbers, the
        edits at one severity are among those at a higher one. A text without anything to edit comes back as it was, and
        no text becomes blank.

        Raises:
            ValueError: the severity is neither `one` nor within 0 to 1.
        """
        check_severity(severity)
        if severity == 0:
            return text
        changed = self.first(text, language) if self.first else text
        if not changed.strip():
            return text
        edits = choose(self.sites(changed, base_of(language)), rng, severity, self.edits_per_site)
        while not (found := edit(changed, edits)).strip():
            edits.pop()
        return found


def base_of(language: str) -> str:
    """The language of a code, without script and territory: `zh` of `zh_Hant`."""
    return language.partition("_")[0]


def check_severity(severity: Severity, name: str = "the severity of noise") -> None:
    """Raises `ValueError` unless this is a severity; the message calls it `name`."""
    if severity != "one" and not (isinstance(severity, int | float) and 0 <= severity <= 1):
        raise ValueError(f"{name} is {severity}: it must be from 0 to 1, or one")


def choose(
    sites: Sequence[Site], rng: Uniform, severity: Severity, edits_per_site: float = 1.0
) -> list[tuple[Site, str]]:
    """The sites to edit, with their new texts; no two overlap. A higher severity appends further ones.

    There are floor(severity * number of sites + u) edits, with u uniform in [0, 1): severity * number of sites on
    average, in short texts too, unless too many sites overlap. Rounding to at least one edit would give short
    texts, such as Chinese questions, more noise than long.
    """
    u, order = rng(1)[0], np.argsort(rng(len(sites)), kind="stable")
    wanted = 1 if severity == "one" else int(severity * len(sites) * edits_per_site + u)
    pick = rng(len(sites)) if any(len(site.options) > 1 for site in sites) else np.zeros(len(sites))
    edits: list[tuple[Site, str]] = []
    for n in order.tolist():
        if len(edits) == wanted:
            break
        if not any(other.start < sites[n].end and sites[n].start < other.end for other, _ in edits):
            edits.append((sites[n], _picked(sites[n], float(pick[n]))))
    return edits


def edit(text: str, edits: Sequence[tuple[Site, str]]) -> str:
    """The text with edits that do not overlap."""
    parts, done = [], 0
    for site, new in sorted(edits, key=lambda one: one[0][:2]):
        parts += [text[done : site.start], new]
        done = site.end
    return "".join([*parts, text[done:]])


def _picked(site: Site, number: float) -> str:
    """The option for a number in [0, 1)."""
    if not site.weights:
        return site.options[int(number * len(site.options))]
    limits = np.cumsum(site.weights) / sum(site.weights)
    return site.options[min(int(np.searchsorted(limits, number, side="right")), len(site.options) - 1)]
