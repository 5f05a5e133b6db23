"""The surface of a text: case, punctuation, spaces, and characters without width."""

from collections.abc import Callable

import regex

from hybridir.perturbations.letters import CASED, WITHOUT_SPACES, letters, lower, neighbours, upper
from hybridir.perturbations.letters import script as script_of
from hybridir.perturbations.perturbation import Perturbation, Site

_PUNCTUATION = regex.compile(r"(?<!\p{N})\p{P}|\p{P}(?!\p{N})")
_WORD_END = regex.compile(r"(?<=[\p{L}\p{M}])(?=\s+[\p{L}\p{M}])")
_SPACES = regex.compile(r"(?<=[\p{L}\p{M}])\s+(?=[\p{L}\p{M}])")
_COMMA = {"ar": "،", "fa": "،", "am": "፣", "zh": "，", "ja": "、", "th": "", "km": ""}
_NO_WIDTH, _NON_JOINER = ("\u200b", "\u00ad"), "\u200c"
_JOINING = frozenset({"ARABIC", "DEVANAGARI", "BENGALI", "TELUGU", "KHMER"})
"""Scripts in which a zero-width non-joiner changes what is seen."""


def _case(to_lower: bool, to_upper: bool) -> Callable[[str, str], list[Site]]:
    def sites(text: str, language: str) -> list[Site]:
        found = []
        for one in letters(text):
            new = upper(one.text, language) if one.text.islower() and to_upper else one.text
            new = lower(one.text, language) if one.text.isupper() and to_lower else new
            found += [Site(one.start, one.end, (new,))] if new != one.text else []
        return found

    return sites


def _punctuation(text: str, language: str) -> list[Site]:
    """A mark left out or doubled; between words, a comma added."""
    sites = [Site(match.start(), match.end(), ("", match[0] * 2)) for match in _PUNCTUATION.finditer(text)]
    comma = _COMMA.get(language, ",")
    return sites + [Site(match.start(), match.end(), (comma,)) for match in _WORD_END.finditer(text) if comma]


def _missing_space(text: str, language: str) -> list[Site]:
    return [Site(match.start(), match.end(), ("",)) for match in _SPACES.finditer(text)]


def _extra_space(text: str, language: str) -> list[Site]:
    return [Site(a.end, a.end, (" ",)) for a, _ in neighbours(text)]


def _zero_width(text: str, language: str) -> list[Site]:
    return [
        Site(a.end, a.end, _NO_WIDTH if script_of(a.text[0]) in _JOINING else (*_NO_WIDTH, _NON_JOINER))
        for a, _ in neighbours(text)
    ]


LOWER = Perturbation(sites=_case(True, False), unit="capitals", about="a small letter for a capital", languages=CASED)
UPPER = Perturbation(
    sites=_case(False, True), unit="small letters", about="a capital for a small letter", languages=CASED
)
CASE = Perturbation(sites=_case(True, True), unit="letters with case", about="the other case", languages=CASED)
PUNCTUATION = Perturbation(
    sites=_punctuation,
    unit="punctuation marks, and ends of words",
    about="a mark left out or repeated, or a comma after a word",
)
MISSING_SPACE = Perturbation(
    sites=_missing_space,
    unit="spaces between words",
    about="two words written as one",
    languages=frozenset({"am", "ar", "bn", "fa", "hi", "ko", "te"}) | CASED,
)
EXTRA_SPACE = Perturbation(sites=_extra_space, unit="places within words", about="a space within a word")
ZERO_WIDTH = Perturbation(
    sites=_zero_width,
    unit="places within words",
    about="an invisible character: zero-width space, soft hyphen, non-joiner (where it changes nothing that is seen)",
)
assert not WITHOUT_SPACES & set(MISSING_SPACE.languages or ())
