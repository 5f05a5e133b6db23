"""Language families and scripts, to sum up results by them.

Families are those of Glottolog's top level (https://glottolog.org, version 5; CC BY 4.0), with their glottocodes.
Scripts are those that CLDR gives as the usual one, by their names in Unicode.
"""

from typing import NamedTuple


class Family(NamedTuple):
    """A family by its name and glottocode."""

    name: str
    glottocode: str


_INDO_EUROPEAN = Family("Indo-European", "indo1319")
_ATLANTIC_CONGO = Family("Atlantic-Congo", "atla1278")
_AFRO_ASIATIC = Family("Afro-Asiatic", "afro1255")
_AUSTROASIATIC = Family("Austroasiatic", "aust1305")
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("bn", "de", "el", "en", "es", "fa", "fr", "hi", "ro", "ru"), _INDO_EUROPEAN),
    **dict.fromkeys(("sw", "yo"), _ATLANTIC_CONGO),
    **dict.fromkeys(("am", "ar"), _AFRO_ASIATIC),
    **dict.fromkeys(("km", "vi"), _AUSTROASIATIC),
    "fi": Family("Uralic", "ural1272"),
    "id": Family("Austronesian", "aust1307"),
    "ja": Family("Japonic", "japo1237"),
    "ko": Family("Koreanic", "kore1284"),
    "te": Family("Dravidian", "drav1251"),
    "th": Family("Tai-Kadai", "taik1256"),
    "tr": Family("Turkic", "turk1311"),
    "zh": Family("Sino-Tibetan", "sino1245"),
}
"""The family of each language that noise has tables for, and of Romanian."""
_SCRIPTS = {
    "am": "Ethiopic",
    "ar": "Arabic",
    "bn": "Bengali",
    "el": "Greek",
    "fa": "Arabic",
    "hi": "Devanagari",
    "ja": "Kana and Han",
    "km": "Khmer",
    "ko": "Hangul",
    "ru": "Cyrillic",
    "te": "Telugu",
    "th": "Thai",
    "zh": "Han",
}


def family_of(language: str) -> Family:
    """The family of a language; one of its own, by its code, if it is not in the table."""
    return FAMILIES.get(language.partition("_")[0], Family(language, ""))


def script_of(language: str) -> str:
    """The script that a language in `FAMILIES` is usually written in; "" for others."""
    code = language.partition("_")[0]
    return _SCRIPTS.get(code, "Latin" if code in FAMILIES else "")


def by_family(languages: list[str]) -> dict[Family, list[str]]:
    """The languages of each family, the largest family first."""
    found: dict[Family, list[str]] = {}
    for language in languages:
        found.setdefault(family_of(language), []).append(language)
    return dict(sorted(found.items(), key=lambda one: (-len(one[1]), one[0])))
