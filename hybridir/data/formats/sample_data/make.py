"""Makes the sample's facts and names from the Unicode CLDR in one release of Babel, and copies their licence.

pip install babel==2.18.0 && python -m hybridir.data.formats.sample_data.make
"""

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import babel
from babel import Locale, UnknownLocaleError
from babel.core import get_global
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

from hybridir.data.formats.sample import TRAINED, ZERO_SHOT

BABEL = "2.18.0"
"""The release with CLDR 47. Other releases have other names and therefore other facts."""
LANGUAGES = (*TRAINED, *ZERO_SHOT)
"""A fact is used if CLDR has names for its territory and its answer in all of these languages."""
FURTHER = ("am", "bn", "km", "te", "yo", "sw")
"""Further languages with a file of names. They do not decide which facts are used; the file lacks what CLDR lacks.

Swahili comes last: Babel 2.18 gives its days to every locale whose days are first read after it.
"""
_NO_TERRITORY = ("EU", "EZ", "UN", "QO", "XA", "XB", "ZZ")


def make(folder: Path) -> None:
    """Writes `facts.tsv`, `names/{language}.json` and `LICENSE`."""
    if babel.__version__ != BABEL:
        raise ValueError(f"the sample needs Babel {BABEL}, not {babel.__version__}: pip install babel=={BABEL}")
    rows = _find_facts()
    columns = list(rows[0])
    _write(folder / "facts.tsv", "\n".join("\t".join(line) for line in (columns, *(row.values() for row in rows))))
    needed = [(column, key) for column in columns for key in sorted({row[column] for row in rows} - {""})]
    (folder / "names").mkdir(exist_ok=True)
    for language in LANGUAGES + FURTHER:
        names: dict[str, dict[str, str]] = {column: {} for column in columns}
        missing = []
        for column, key in needed:
            if name := _name(column, key, language):
                names[column][key] = name
            else:
                missing.append(f"{column} {key}")
        _write(folder / "names" / f"{language}.json", json.dumps(names, ensure_ascii=False, indent=2))
        print(f"{language}: {len(missing)} of {len(needed)} names are not in CLDR", *missing, sep=", ")
    shutil.copyfile(Path(babel.__file__).parent / "locale-data" / "LICENSE.unicode", folder / "LICENSE")


def _write(file: Path, text: str) -> None:
    file.write_text(f"{text}\n", encoding="utf-8", newline="\n")


def _find_facts() -> list[dict[str, str]]:
    """One row per territory with its answer for each relation; empty if there is no answer, or no name for it."""
    rows = []
    for territory in sorted(Locale.parse("en").territories):
        if len(territory) == 2 and territory not in _NO_TERRITORY and _is_named("territory", territory):
            answers = {relation: find(territory) or "" for relation, find in _ANSWERS.items()}
            named = {relation: key if _is_named(relation, key) else "" for relation, key in answers.items()}
            if any(named.values()):
                rows.append({"territory": territory, **named})
    return rows


def _currency(territory: str) -> str | None:
    return next(reversed(get_territory_currencies(territory)), None)


def _language(territory: str) -> str | None:
    """The official language with the most speakers; Babel sorts them by number of speakers."""
    return next(iter(get_official_languages(territory, de_facto=True)), None)


def _week(attribute: str) -> Callable[[str], str | None]:
    def find(territory: str) -> str | None:
        try:
            return str(getattr(Locale.parse(f"und_{territory}"), attribute))
        except UnknownLocaleError:
            return None

    return find


def _time_zone(territory: str) -> str | None:
    """The first time zone that is named after a city; many zones of islands are named after the island."""
    zones = get_global("territory_zones").get(territory, [])
    name = Locale.parse("en").territories[territory]
    cities = [z for z in zones if z.startswith(("Africa/", "America/", "Asia/", "Europe/")) and _city(z) not in name]
    return min(cities, default=None)


def _city(zone: str) -> str:
    return zone.rpartition("/")[2].replace("_", " ")


_ANSWERS: dict[str, Callable[[str], str | None]] = {
    "currency": _currency,
    "language": _language,
    "week_start": _week("first_week_day"),
    "weekend_start": _week("weekend_start"),
    "time_zone": _time_zone,
}


def _is_named(column: str, key: str) -> bool:
    return bool(key) and all(_name(column, key, language) for language in LANGUAGES)


def _name(column: str, key: str, language: str) -> str | None:
    """The name of a territory or an answer in a language; None if CLDR has none."""
    locale = Locale.parse(language)
    match column:
        case "territory":
            return locale.territories.get(key)
        case "currency":
            return locale.currencies.get(key)
        case "language":
            return locale.languages.get(key)
        case "time_zone":
            # CLDR omits the city if a language in Latin script writes it like the identifier of the zone.
            city = locale.time_zones.get(key, {}).get("city")
            return city or (_city(key) if _writes_latin(language) else None)
        case _:
            return locale.days["stand-alone"]["wide"][int(key)]


def _writes_latin(language: str) -> bool:
    return unicodedata.name(Locale.parse(language).territories["DE"][0]).startswith("LATIN")


if __name__ == "__main__":
    make(Path(__file__).parent)
