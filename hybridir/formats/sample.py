"""The embedded sample: questions and answers about territories, parallel in 11 languages, made without a download.

Facts and localised names come from the Unicode CLDR (through Babel), sentences from `sample_templates.yaml`. A fact is
one relation of one territory; it is one group, with one question and one answer sentence in every language. Train,
validation and test share no fact, so a test question asks for a relation that was never seen with that territory.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import yaml
from babel import Locale, UnknownLocaleError
from babel.core import get_global
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

from hybridir.records import (
    PARTS,
    Benchmark,
    BenchmarkConfig,
    Pair,
    Passage,
    Query,
    Shard,
    Source,
    Split,
    check_languages,
    own_split,
)

TRAINED = ("ar", "de", "en", "es", "hi", "ru", "th", "tr", "zh")
"""The nine languages that the paper trains on."""
ZERO_SHOT = ("el", "vi")
"""The two languages that it only tests."""
SHARES: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.7),
    "validation": (0.7, 0.8),
    "test": (0.8, 1.0),
    "all": (0.0, 1.0),
}
_NO_TERRITORY = ("EU", "EZ", "UN", "QO", "XA", "XB", "ZZ")


@dataclass(frozen=True, slots=True)
class Fact:
    """`relation` of `territory` (ISO 3166 code), with the key under which CLDR names the answer in any language."""

    relation: str
    territory: str
    answer: str

    @property
    def id(self) -> str:
        return f"{self.relation}-{self.territory}"


def find_shards(source: Source) -> list[Shard]:
    """The pairs to train and to validate on, in the training languages unless others are named."""
    languages = check_languages(source.languages or TRAINED, _templates(), "the sample")
    identity = f"sample {source.facts} {languages}"
    return [Shard(partial(_read, source.facts, languages), "sample", identity)]


def _read(count: int, languages: tuple[str, ...]) -> Iterator[Pair]:
    """Fact by fact."""
    for split in PARTS:
        for fact in facts(count, split):
            for language in languages:
                yield Pair(
                    group_id=fact.id,
                    language=language,
                    query=_sentence(fact, language, "query"),
                    passage=_passage(fact, language),
                    split=split,
                    file=f"sample: {fact.id} in {language}",
                )


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The questions of one split against the answer sentences of *all* facts, in all 11 languages by default."""
    languages = check_languages(config.languages or sorted(TRAINED + ZERO_SHOT), _templates(), "the sample")
    pool, asked = facts(config.facts, "all"), facts(config.facts, own_split(config))
    place = {fact.id: n for n, fact in enumerate(pool)}
    return Benchmark(
        name=config.name,
        languages=languages,
        queries=tuple(
            Query(
                query_id=f"{language}:{fact.id}",
                language=language,
                text=_sentence(fact, language, "query"),
                group_id=fact.id,
                cluster=fact.territory,
            )
            for language in languages
            for fact in asked
        ),
        passages=tuple(_passage(fact, language) for language in languages for fact in pool),
        relevant=tuple(
            tuple(place[fact.id] + n * len(pool) for n in range(len(languages))) for _ in languages for fact in asked
        ),
    )


def facts(count: int, split: Split) -> list[Fact]:
    """The facts of one split of a sample of `count` facts. A smaller sample is a part of a larger one."""
    known = _all_facts()
    if not 10 <= count <= len(known):
        raise ValueError(f"facts is {count}; the sample has from 10 to {len(known)} facts")
    low, high = SHARES[split]
    return [fact for fact in known[:count] if low <= _hash(f"split {fact.id}") / 2**64 < high]


@cache
def _all_facts() -> list[Fact]:
    """Every fact that CLDR can name in all languages of the sample, in an order that mixes the relations."""
    territories = [t for t in Locale.parse("en").territories if len(t) == 2 and t not in _NO_TERRITORY]
    named = [t for t in territories if all(t in Locale.parse(code).territories for code in _templates())]
    found = [
        Fact(relation, territory, answer)
        for relation, find in _ANSWERS.items()
        for territory in named
        if (answer := find(territory)) is not None and all(_name(relation, answer, code) for code in _templates())
    ]
    return sorted(found, key=lambda fact: _hash(fact.id))


def _currency(territory: str) -> str | None:
    return next(reversed(get_territory_currencies(territory)), None)


def _language(territory: str) -> str | None:
    """The official language with most speakers; Babel lists them in that order."""
    return next(iter(get_official_languages(territory, de_facto=True)), None)


def _week(attribute: str) -> Callable[[str], str | None]:
    def find(territory: str) -> str | None:
        try:
            return str(getattr(Locale.parse(f"und_{territory}"), attribute))
        except UnknownLocaleError:
            return None

    return find


def _time_zone(territory: str) -> str | None:
    """The first time zone named after a city; many on islands are named after the island."""
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


def _name(relation: str, answer: str, language: str) -> str | None:
    """The answer in the words of a language, None where CLDR has none."""
    locale = Locale.parse(language)
    match relation:
        case "currency":
            return locale.currencies.get(answer)
        case "language":
            return locale.languages.get(answer)
        case "time_zone":
            # CLDR omits the city where a language in Latin script writes it as the zone's identifier does.
            city = locale.time_zones.get(answer, {}).get("city")
            return city or (_city(answer) if _writes_latin(language) else None)
        case _:
            return locale.days["stand-alone"]["wide"][int(answer)]


def _writes_latin(language: str) -> bool:
    return unicodedata.name(Locale.parse(language).territories["DE"][0]).startswith("LATIN")


def _passage(fact: Fact, language: str) -> Passage:
    return Passage(passage_id=fact.id, language=language, text=_sentence(fact, language, "passage"))


def _sentence(fact: Fact, language: str, side: str) -> str:
    """The question or the answer sentence; which template serves depends on the fact and the language alone."""
    templates = _templates()[language][fact.relation][side]
    template = templates[_hash(f"{side} {language} {fact.id}") % len(templates)]
    territory = Locale.parse(language).territories[fact.territory]
    return template.format(territory=territory, answer=_name(fact.relation, fact.answer, language))


@cache
def _templates() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Templates by language, relation and side."""
    text = Path(__file__).with_name("sample_templates.yaml").read_text(encoding="utf-8")
    return dict(sorted(yaml.safe_load(text).items()))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
