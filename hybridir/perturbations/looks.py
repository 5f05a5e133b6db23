"""Look-alikes: characters of another script or another way of writing, and what scanners confuse."""

from functools import cache

import regex

from hybridir.perturbations.letters import CASED, letters, table
from hybridir.perturbations.marks import DOTS
from hybridir.perturbations.perturbation import Perturbation, Site

_SCANNED = {
    "rn": ("m",), "m": ("rn",), "cl": ("d",), "d": ("cl",), "vv": ("w",), "w": ("vv",), "l": ("1", "I"),
    "I": ("l", "1"), "O": ("0",), "o": ("0",), "e": ("c",), "c": ("e",), "h": ("b",), "B": ("8",), "S": ("5",),
    "i": ("l",), "t": ("f",), "q": ("g",), "u": ("ii",), "Z": ("2",), "é": ("e",), "è": ("e",), "ü": ("ii",),
    "ä": ("a",), "ö": ("o",), "ß": ("B",), "ç": ("c",), "ñ": ("n",), "ş": ("s",), "ğ": ("g",), "ı": ("i",),
    "ư": ("u",), "ơ": ("o",), "đ": ("d",),
}  # fmt: skip
"""Latin letters, and what a scanner reads in their place."""
_PAIR = regex.compile("rn|cl|vv")
_LATIN = CASED - {"el", "ru"}


def _each(text: str, options: dict[str, str]) -> list[Site]:
    return [Site(one.start, one.end, tuple(options[one.text])) for one in letters(text) if one.text in options]


@cache
def _variants() -> dict[str, str]:
    simple_to_traditional: dict[str, str] = table("chinese")["traditional"]
    back = {traditional: simple for simple, traditional in simple_to_traditional.items()}
    return back | simple_to_traditional


def _ocr(text: str, language: str) -> list[Site]:
    if language in DOTS:
        return _each(text, DOTS[language])
    if language not in _LATIN:
        return _each(text, table("chinese")[f"{language}_shapes"])
    pairs = [Site(match.start(), match.end(), _SCANNED[match[0]]) for match in _PAIR.finditer(text)]
    return pairs + [Site(one.start, one.end, _SCANNED[one.text]) for one in letters(text) if one.text in _SCANNED]


SHAPES = Perturbation(
    sites=lambda text, language: _each(text, table("chinese")[f"{language}_shapes"]),
    unit="characters with look-alikes",
    about="a character with the same corners and radical",
    languages=frozenset({"ja", "zh"}),
)
TRADITIONAL = Perturbation(
    sites=lambda text, language: _each(text, _variants()),
    unit="characters with a simplified and a traditional form",
    about="traditional characters for simplified ones, and the other way round",
    languages=frozenset({"zh"}),
)
HOMOGLYPH = Perturbation(
    sites=lambda text, language: _each(text, table("homoglyphs")),
    unit="letters that look like one of another script",
    about="a Latin, Greek or Cyrillic letter that looks the same",
    languages=CASED,
)
OCR = Perturbation(
    sites=_ocr,
    unit="letters that a scanner confuses",
    about="Latin: rn for m, 1 for l, accents lost; ar, fa: other dots; zh, ja: a character that looks like it",
    languages=frozenset({*_LATIN, *DOTS, "ja", "zh"}),
)
