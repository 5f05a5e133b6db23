"""Edits of single letters, as in typing errors: a letter is added, missing, wrong, or in the wrong order."""

from itertools import zip_longest

from hybridir.perturbations.letters import alphabet, letters, lower, neighbours, table, upper
from hybridir.perturbations.letters import script as script_of
from hybridir.perturbations.perturbation import Perturbation, Site

_UNIT = "letters, each with its marks"
_WITH_ALPHABET = frozenset({*table("alphabets"), "ko"})
_BARE = ("LATIN", "GREEK", "CYRILLIC")
"""In these scripts, a substituted letter does not keep the marks of the letter that it replaces."""


def _delete(text: str, language: str) -> list[Site]:
    return [Site(one.start, one.end, ("",)) for one in letters(text)]


def _insert(text: str, language: str) -> list[Site]:
    """After each letter, a letter of its script in the case of the next letter; in Thai always a consonant."""
    found = letters(text)
    sites = []
    for one, after in zip_longest(found, found[1:]):
        like = after.text[0] if after and after.start == one.end and _same(one.text, after.text) else one.text[0]
        if options := alphabet(language, "ก" if script_of(like) == "THAI" else like):
            sites.append(Site(one.end, one.end, options))
    return sites


def _same(a: str, b: str) -> bool:
    return script_of(a[0]) == script_of(b[0])


def _substitute(text: str, language: str) -> list[Site]:
    sites = []
    for one in letters(text):
        first, marks = one.text[0], "" if script_of(one.text[0]) in _BARE else one.text[1:]
        if options := tuple(letter + marks for letter in alphabet(language, first) if letter != first):
            sites.append(Site(one.start, one.end, options))
    return sites


def _swap(text: str, language: str) -> list[Site]:
    sites = []
    for a, b in neighbours(text):
        first, second = b.text, a.text
        if a.text.isupper() and b.text.islower():  # a capital stays where it was: Teh, not hTe
            first, second = upper(first, language), lower(second, language)
        if first + second != a.text + b.text:
            sites.append(Site(a.start, b.end, (first + second,)))
    return sites


DELETE = Perturbation(sites=_delete, unit=_UNIT, about="a letter is missing")
INSERT = Perturbation(sites=_insert, unit=_UNIT, about="an extra letter of the alphabet", languages=_WITH_ALPHABET)
SUBSTITUTE = Perturbation(
    sites=_substitute, unit=_UNIT, about="another letter of the alphabet", languages=_WITH_ALPHABET
)
SWAP = Perturbation(sites=_swap, unit="pairs of neighbouring letters", about="two letters in the wrong order")
