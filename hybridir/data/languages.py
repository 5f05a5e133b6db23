"""Language codes: those of CLDR, and which of them other tags stand for."""

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

_SUBTAGS = re.compile(
    r"(?:(?:ar|kok|lv|ms|sgn|sw|uz|zh)[-_](?=[a-z]{3}(?:[-_]|$)))?"  # as in zh-yue, which is yue (BCP 47, 2.2.2)
    r"(?P<language>[a-z]{2,3})(?:[-_](?P<script>[a-z]{4}))?(?:[-_](?P<territory>[a-z]{2}|\d{3}))?(?![a-z0-9])",
    re.IGNORECASE | re.ASCII,
)
_LONGEST = 20
"""Characters of the longest tag that is looked at."""


def is_known(code: str) -> bool:
    """Whether it is a code as `code_of` spells it."""
    return len(code) <= _LONGEST and _code_of(code) == code


def code_of(tag: str) -> str:
    """The code of a language tag, in CLDR's canonical form; the tag itself if CLDR does not say what it is.

    First, aliases are replaced (`DEU` and `deu` are `de`, `iw` is `he`, `tl` is `fil`, `sh` is `sr_Latn`, `zh-yue` is
    `yue`). Then, subtags that CLDR calls likely are removed (UTS 35, "Remove Likely Subtags", the territory before the
    script). So `zh`, `zh-CN`, `zho_Hans` and `zh-Hans-CN` are `zh`, but `zh-TW` and `zh-Hant` are `zh_Hant`; `en-US` is
    `en`, `pt-BR` is `pt`, and `pt-PT` stays `pt_PT`. A territory that remains must be in a code to which CLDR gives a
    name of its own: `es-AR` is unknown.
    """
    return (_code_of(tag) if len(tag) <= _LONGEST else None) or tag


@lru_cache(10_000)
def _code_of(tag: str) -> str | None:
    """The code of CLDR; None if it does not say what the tag is."""
    if not (parts := _SUBTAGS.fullmatch(tag.strip())):
        return None
    code = _shortest(*_parts(parts))
    language, *more = code.split("_")
    named, scripts = _named()
    return code if code in named or (language in named and len(more) == 1 and more[0] in scripts) else None


def by_code(tags: Iterable[str], where: str) -> dict[str, str]:
    """Code -> tag, sorted. `ValueError` if two tags are of one language; `where` names the place that has them."""
    found: dict[str, str] = {}
    for tag in tags:
        if (other := found.setdefault(code := code_of(tag), tag)) != tag:
            raise ValueError(f"{where} has the language {code} twice, as {other} and {tag}: move one of the two away")
    return dict(sorted(found.items()))


def spell_languages(config: Any) -> None:
    """Spells the fields `language` and `languages` of a frozen configuration as codes of CLDR; for `__post_init__`."""
    if language := getattr(config, "language", None):
        object.__setattr__(config, "language", code_of(language))
    if languages := config.languages:
        object.__setattr__(config, "languages", tuple(map(code_of, languages)))


def remedy(tag: str) -> str:
    """How a tag that `code_of` does not know can be written."""
    if (parts := _SUBTAGS.match(tag.strip())) and (code := _code_of("_".join(_likely(*_parts(parts))[:2]))):
        return f"write {code}"
    return "write a code of CLDR, such as de or pt_PT"


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


@cache
def _named() -> tuple[frozenset[str], frozenset[str]]:
    """The languages that CLDR names, and the scripts in which any language is written."""
    from babel import Locale
    from babel.core import get_global

    scripts = {likely.split("_")[1] for likely in get_global("likely_subtags").values()}
    return frozenset(Locale.parse("en").languages), frozenset(scripts)


def _parts(found: re.Match[str]) -> tuple[str, str, str]:
    """Language, script and territory, with aliases replaced and in the case of CLDR; empty where there is none."""
    from babel.core import get_global

    language = found["language"].lower()
    language, *more = get_global("language_aliases").get(language, language).split("_")
    script = (found["script"] or "").title() or next((part for part in more if len(part) == 4), "")
    script = "Kore" if script == "Hang" else script  # which is in Kore; so FLORES spells Korean
    territory = (found["territory"] or "").upper() or next((part for part in more if len(part) < 4), "")
    if choice := get_global("territory_aliases").get(territory):  # several if a state fell apart
        likely = _likely(language, script, "")[2]
        territory = likely if likely in choice else choice[0]
    return language, script, territory


def _shortest(language: str, script: str, territory: str) -> str:
    """The shortest code that has the same likely subtags."""
    whole = _likely(language, script, territory)
    for shorter in ((language, "", ""), (language, whole[1], ""), (language, "", whole[2])):
        if _likely(*shorter) == whole:
            return "_".join(filter(None, shorter))
    return "_".join(filter(None, whole))


def _likely(language: str, script: str, territory: str) -> tuple[str, ...]:
    """The three, with what CLDR says is likely where one is empty."""
    from babel.core import get_global

    for key in ((language, script, territory), (language, "", territory), (language, script, ""), (language, "", "")):
        if found := get_global("likely_subtags").get("_".join(filter(None, key))):
            likely = found.split("_")
            return language, script or likely[1], territory or likely[2]
    return language, script, territory
