"""Letters of a text: grapheme clusters, words, scripts, alphabets and case, and the tables of this room.

Clusters are what a reader sees as one character (Unicode Standard Annex 29): "हि" and "é", however they are coded.
"""

import json
import unicodedata
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, NamedTuple

import regex

_CLUSTER = regex.compile(r"\X")
_EDITABLE = regex.compile(r"\P{N}*\p{L}\P{N}*")
_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’\u200c-][\p{L}\p{M}]+)*")
_RARE = frozenset("ॐऽऌऍঌౠౡฃฅฯๆ")
CASED = frozenset({"de", "el", "en", "es", "fi", "fr", "id", "ru", "sw", "tr", "vi", "yo"})
"""Languages whose letters have an upper and a lower case."""
WITHOUT_SPACES = frozenset({"ja", "km", "th", "zh"})
"""Languages that do not write spaces between words."""


class Span(NamedTuple):
    """A piece of a text, and where it stands."""

    start: int
    end: int
    text: str


def clusters(text: str) -> list[str]:
    """The grapheme clusters of a text."""
    return _CLUSTER.findall(text)


def letters(text: str) -> list[Span]:
    """The clusters that hold a letter and no digit: what edits of letters may change."""
    spans = (Span(match.start(), match.end(), match[0]) for match in _CLUSTER.finditer(text))
    return [one for one in spans if _EDITABLE.fullmatch(one.text)]


def neighbours(text: str) -> list[tuple[Span, Span]]:
    """The pairs of letters that follow each other within a word."""
    found = letters(text)
    return [(a, b) for a, b in pairwise(found) if a.end == b.start]


def words(text: str, language: str) -> list[Span]:
    """The words of a text, without digits and punctuation; in th, zh and ja as a model cuts them (see `_pieces`)."""
    spans = [Span(match.start(), match.end(), match[0]) for match in _WORD.finditer(text)]
    if language not in table("words"):
        return spans
    found = []
    for whole in spans:
        start = whole.start
        for piece in _pieces(whole.text, language):
            found.append(Span(start, start + len(piece), piece))
            start += len(piece)
    return found


def _pieces(text: str, language: str) -> list[str]:
    """Splits a text without spaces, as BudouX does: a break where the weights of the letters around it sum above 0."""
    model = table("words")[language]
    base = -sum(sum(weights.values()) for weights in model.values())
    pieces = [text[:1]]
    for i in range(1, len(text)):
        around = {
            "UW1": text[i - 3 : i - 2] if i > 2 else "", "UW2": text[i - 2 : i - 1] if i > 1 else "",
            "UW3": text[i - 1], "UW4": text[i], "UW5": text[i + 1 : i + 2], "UW6": text[i + 2 : i + 3],
            "BW1": text[i - 2 : i] if i > 1 else "", "BW2": text[i - 1 : i + 1], "BW3": text[i : i + 2],
            "TW1": text[i - 3 : i] if i > 2 else "", "TW2": text[i - 2 : i + 1] if i > 1 else "",
            "TW3": text[i - 1 : i + 2], "TW4": text[i : i + 3],
        }  # fmt: skip
        score = base + 2 * sum(model.get(name, {}).get(value, 0) for name, value in around.items())
        pieces.append(text[i]) if score > 0 and not unicodedata.combining(text[i]) else pieces.append(
            pieces.pop() + text[i]
        )
    return pieces


@cache
def table(name: str) -> Any:
    """One of the tables that `tests/scripts/noise_tables.py` makes."""
    return json.loads((files(__package__) / f"tables/{name}.json").read_text(encoding="utf-8"))


@cache
def script(letter: str) -> str:
    """The script of a letter, as its Unicode name begins: `LATIN`, `CJK`, `HIRAGANA`."""
    return unicodedata.name(letter, "").split(" ")[0].removesuffix("-") if letter else ""


@cache
def alphabet(language: str, of: str) -> tuple[str, ...]:
    """The letters that can replace the letter `of`: same script, same case; Thai vowels for a Thai vowel."""
    if language == "ko":
        own = [chr(n) for n in range(0xAC00, 0xD7A4)]
        own = [one for one in own if len(one.encode("euc_kr", "ignore")) == 2]
    else:
        own = list(table("alphabets").get(language, ""))
    if script(of) == "LATIN" and not any(script(one) == "LATIN" for one in own):
        own = list("abcdefghijklmnopqrstuvwxyz")
    same = [one for one in own if script(one) == script(of) and one not in _RARE]
    if script(of) == "THAI":
        same = [one for one in same if (one > "ฮ") == (of > "ฮ")]
    return tuple(like(one, of, language) for one in same)


def like(letter: str, of: str, language: str) -> str:
    """The letter in the case of another one."""
    return upper(letter, language) if of.isupper() else letter


def upper(letter: str, language: str) -> str:
    """The capital of a letter; the letter itself if that would be more than one character."""
    found = "İ" if (letter, language) == ("i", "tr") else letter.upper()
    return found if len(found) == len(letter) else letter


def lower(letter: str, language: str) -> str:
    """The small letter of a capital; the letter itself if that would be more than one character."""
    found = {"I": "ı", "İ": "i"}.get(letter) if language == "tr" else None
    found = found or letter.lower()
    return found if len(found) == len(letter) else letter


def decomposed(cluster: str) -> str:
    """A cluster as its letter and its marks (normalisation form D)."""
    return unicodedata.normalize("NFD", cluster)


def coded_as(new: str, old: str) -> str:
    """A new cluster in the normalisation form of the old one, so that only the edit differs."""
    return unicodedata.normalize("NFC" if unicodedata.normalize("NFC", old) == old else "NFD", new)
