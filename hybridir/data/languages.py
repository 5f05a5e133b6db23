"""Language codes: those of CLDR, and which of them other tags stand for."""

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

_SUBTAGS = re.compile(
    r"(?P<language>[A-Za-z]{2,3})(?:[-_](?P<script>[A-Za-z]{4}))?(?:[-_](?P<territory>[A-Za-z]{2}|\d{3}))?(?![A-Za-z0-9])"
)
_LONGEST = 20
"""Characters of the longest tag that is looked at."""


@cache
def known_languages() -> frozenset[str]:
    """The language codes of CLDR (ISO 639-1 if the language has one, else 639-3; some with a script or territory)."""
    from babel import Locale

    return frozenset(Locale.parse("en").languages)


def code_of(tag: str) -> str:
    """The code of CLDR for a language tag; the tag itself if CLDR does not say what it is.

    Case, separators, three-letter and old codes do not matter (`DEU`, `iw`), nor does a script or territory that is the
    usual one of a code (`zh-CN` is `zh`, `zh-TW` is `zh_Hant`; but `es-AR` is unknown, and `pt-BR` is `pt_BR`).
    """
    return _code_of(tag) if len(tag) <= _LONGEST else tag


@lru_cache(10_000)
def _code_of(tag: str) -> str:
    if tag in known_languages() or not (parts := _SUBTAGS.fullmatch(tag.strip())):
        return tag
    language, script, territory = _parts(parts)
    code = "_".join(filter(None, (language, script, territory)))
    if code in known_languages():
        return code
    whole = _likely(language, script, territory)
    for shorter in ((language, "", ""), (language, whole[1], "")):
        code = "_".join(filter(None, shorter))
        if code in known_languages() and _likely(*shorter) == whole:
            return code
    return tag


def spell_languages(config: Any) -> None:
    """Spells the fields `language` and `languages` of a frozen configuration as codes of CLDR; for `__post_init__`."""
    if language := getattr(config, "language", None):
        object.__setattr__(config, "language", code_of(language))
    if languages := config.languages:
        object.__setattr__(config, "languages", tuple(map(code_of, languages)))


def remedy(tag: str) -> str:
    """How a tag that `code_of` does not know can be written."""
    if not (parts := _SUBTAGS.match(tag.strip())) or _parts(parts)[0] not in known_languages():
        return "write a code of CLDR, such as de or pt_BR"
    language = _parts(parts)[0]
    with_script = "_".join(_likely(*_parts(parts))[:2])
    return f"write {with_script if with_script in known_languages() else language}"


def check_languages(languages: Iterable[str], available: Iterable[str], what: str) -> tuple[str, ...]:
    """The codes of `languages`. `ValueError` if one is not in `available` or is named twice; `what` names the data."""
    available = set(available)
    chosen = tuple(map(code_of, languages))
    for language in chosen:
        if language not in available:
            raise ValueError(f"{what} has no language {language!r}; it has {', '.join(sorted(available))}")
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"a language is named twice: {', '.join(chosen)}")
    return chosen


def _parts(found: re.Match[str]) -> tuple[str, str, str]:
    """Language, script and territory, spelled as in CLDR; empty where there is none."""
    from babel.core import get_global

    language = found["language"].lower()
    language = get_global("language_aliases").get(language, language)
    return language, (found["script"] or "").title(), (found["territory"] or "").upper()


def _likely(language: str, script: str, territory: str) -> tuple[str, ...]:
    """The three, with what CLDR says is likely where one is empty."""
    from babel.core import get_global

    for key in ((language, script, territory), (language, "", territory), (language, script, ""), (language, "", "")):
        if found := get_global("likely_subtags").get("_".join(filter(None, key))):
            likely = found.split("_")
            return language, script or likely[1], territory or likely[2]
    return language, script, territory
