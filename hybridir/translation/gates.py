"""Gates: simple checks that reject bad translations. The name of the gate is the reason.

A gate is a function in `GATES`: (source text, translation, `Between`) -> whether the translation is bad. Two checks are
in `assemble`, as they need more than one text: `length` compares the ratio of lengths with the median of the language;
`meaning` compares source and translation by a multilingual encoder.
"""

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import regex
from babel.core import get_global

from hybridir.model.config import EncoderConfig
from hybridir.translation.sentences import UNSPACED

LENGTH, MEANING, SWAPPED = "length", "meaning", "swapped rows"
UNSURE = frozenset(("ha", "ig", "my", "so", "yo"))
"""Languages that language identification is not reliable for: only their script is checked."""
_SCRIPTS = {
    "Jpan": r"\p{Han}\p{Hiragana}\p{Katakana}",
    "Kore": r"\p{Hangul}\p{Han}",
    "Hans": r"\p{Han}",
    "Hant": r"\p{Han}",
}
"""Scripts whose letters Unicode has under other names, as character classes of `regex`."""
LEAST_LETTERS = 25
"""Shorter texts are too short to identify their language, and their script may be that of a name."""
SURE = 12.0
"""How much likelier another language has to be: a difference of natural log-probabilities."""
_REPEATED = regex.compile(r"(\X)\1{9,}|(?=(?P<unit>\S.{1,59}?)(?:\s*(?P=unit)){3})", regex.DOTALL)
_LARGE = regex.compile(
    r"\p{Nd}[\s-]?(?:hundred|thousand|[mb]illi[oa]|trilli|mil\b|mill[oó]n|tausend|тыс|мил|млн|млрд|مليون|مليار|ألف"
    r"|लाख|करोड़|हज़ार|हजार|मिलियन|ล้าน|triệu|tỷ|nghìn|bin\b|milyon|milyar|χιλιάδες|εκατομμ|[百千万萬億亿兆백천만억조])",
    regex.IGNORECASE,
)
"""A number with a word for hundreds, thousands or more."""
_DECADE = regex.compile(r"(?<!\p{Nd})\p{Nd}{3}0(?=['’]?\p{L})")
_SHORT_YEAR = regex.compile(r"(?:['’]|\p{Nd}{4}[-–—/])\K\p{Nd}{2}(?!\p{Nd})|(?<!\p{Nd})\p{Nd}0(?=['’]?\p{L})")
"""Two digits for a year, after an apostrophe (’98) or another year (1997-98), or for a decade (80s)."""

_ROMAN = {
    ten * "X" + one: str(10 * ten + n)
    for ten in range(4)
    for n, one in enumerate(("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"))
}


@dataclass(frozen=True)
class Between:
    """The languages of a translation."""

    source: str
    target: str


Gate = Callable[[str, str, Between], bool]


def empty(source: str, translation: str, between: Between) -> bool:
    """Whether nothing is left, or nothing but punctuation where the source has letters."""
    return not translation.strip() or ("\0" in translation) or bool(_letters(source)) > bool(_letters(translation))


def repetition(source: str, translation: str, between: Between) -> bool:
    """Whether 2 to 60 characters are repeated four times in a row, or one ten times, but not in the source."""
    return bool(_REPEATED.search(translation)) and not _REPEATED.search(source)


def copy(source: str, translation: str, between: Between) -> bool:
    """Whether most sequences of four words are in the source too, or the whole text stayed as it was.

    A text that stayed passes if it may be a name: it is no question, and has one word, or most begin with no small
    letter.
    """
    words = source.split()
    if translation.split() == words and len(words) > 1:
        return words[-1].endswith("?") or 2 * sum(word[0].islower() for word in words) >= len(words)
    runs = _runs(translation)
    return bool(runs) and 2 * len(runs & _runs(source)) > len(runs)


def wrong_language(source: str, translation: str, between: Between) -> bool:
    """Whether too few letters are of the language's script, or py3langid finds another language far likelier."""
    letters = _letters(translation)
    if len(letters) < (LEAST_LETTERS if between.target.partition("_")[0] not in UNSPACED else LEAST_LETTERS // 3):
        return False
    if 3 * len(_of_script(between.target).findall(letters)) < len(letters):
        return True
    main = between.target.partition("_")[0]
    if main in UNSURE or main not in _identified():
        return False
    from py3langid import rank

    ranked = rank(translation)
    return ranked[0][0] != main and ranked[0][1] - dict(ranked)[main] > SURE


def lost_number(source: str, translation: str, between: Between) -> bool:
    """Whether a number of two digits or more in the source is missing.

    Digits of all scripts count as the same, and so do Roman numerals up to 39. Zeros at the end may differ where
    thousands may be written otherwise: in numbers of four digits or more (2,700,000 or 270 times ten thousand), and
    beside a word such as million. A year may have two digits instead of four where it is a decade (1980s or 80s), or
    where the source shortens it (1997-98).
    """
    there = _numbers(translation)
    kept = {one.rstrip("0") for one in there}
    romans = {_ROMAN[one] for one in regex.findall(r"\b[IVX]+\b", translation) if one in _ROMAN}
    large = bool(_LARGE.search(source) or _LARGE.search(translation))
    decades, short = _ascii(_DECADE.findall(source)), _ascii(_SHORT_YEAR.findall(source))
    for one in _numbers(source):
        same = len(one) < 2 or one in there or one in romans
        scaled = (len(one) > 3 or large) and one.rstrip("0") in kept
        year = (one in decades and one[2:] in there) or (
            one in short and any(len(year) == 4 and year.endswith(one) for year in there)
        )
        if not (same or scaled or year):
            return True
    return False


GATES: dict[str, Gate] = {
    "empty": empty,
    "repetition": repetition,
    "copy": copy,
    "wrong language": wrong_language,
    "lost number": lost_number,
}


@dataclass(frozen=True, kw_only=True)
class GatesConfig:
    """Checks of translations.

    Args:
        apply: the checks by text: `empty`, `repetition`, `copy`, `wrong language`, `lost number`.
        length: a translation is rejected if its length, relative to its source, is more than this factor above or below
            the median of its language; 0 turns this off. Only texts of 60 characters or more are checked.
        encoder: folder or hub id of a multilingual encoder that is not the model to be trained, such as
            sentence-transformers/LaBSE. It finds translations of another text. Omitted: this is not checked.
        revision: commit of its hub id, 40 hexadecimal digits (required, so that the translation can be repeated).
        lowest: share of the translations of each language that are rejected as least similar to their source.
    """

    apply: tuple[str, ...] = tuple(GATES)
    length: float = 2.0
    encoder: str = ""
    revision: str | None = None
    lowest: float = 0.02

    def __post_init__(self) -> None:
        if unknown := set(self.apply) - set(GATES):
            raise ValueError(f"gates.apply has {', '.join(sorted(unknown))}; there are {', '.join(GATES)}")
        if self.length and self.length <= 1:
            raise ValueError(f"gates.length is {self.length}: it must be above 1, or 0 for no check")
        if not 0 <= self.lowest < 1:
            raise ValueError(f"gates.lowest is {self.lowest}: it must be at least 0 and below 1")

    def encoder_config(self) -> EncoderConfig:
        """The encoder, for those who load it."""
        return EncoderConfig(name=self.encoder, revision=None if os.path.isdir(self.encoder) else self.revision)


def judge(source: str, translation: str, between: Between, apply: Sequence[str]) -> str | None:
    """The first of the gates `apply` that the translation does not pass; None if it passes all."""
    return next((name for name in apply if GATES[name](source, translation, between)), None)


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalpha())


def _runs(text: str) -> set[tuple[str, ...]]:
    words = regex.findall(r"[\p{L}\p{M}\p{N}]+", text.casefold())
    return {tuple(words[n : n + 4]) for n in range(len(words) - 3)}


def _numbers(text: str) -> list[str]:
    """The numbers as ASCII digits, without the separators of thousands and decimals."""
    found = regex.findall(r"\p{Nd}+(?:[.,٫٬'’]\p{Nd}+|[\u00a0\u202f ]\p{Nd}{3}(?!\p{Nd}))*", text)
    return _ascii(found)


def _ascii(numbers: Sequence[str]) -> list[str]:
    """Numbers in ASCII digits, and nothing but these."""
    return ["".join(str(unicodedata.digit(c)) for c in one if c.isdecimal()) for one in numbers]


@cache
def _of_script(language: str) -> regex.Pattern:
    code = language.replace("-", "_")
    likely = get_global("likely_subtags").get(code, "_Latn").split("_")[1]
    script = next((part for part in code.split("_")[1:] if len(part) == 4), likely)
    return regex.compile("[" + _SCRIPTS.get(script, rf"\p{{Script={script}}}") + "]")


@cache
def _identified() -> frozenset[str]:
    """The languages that py3langid knows."""
    from py3langid import rank

    return frozenset(label for label, _ in rank(""))
