"""The embedded sample: questions and answers about territories, parallel in 15 languages, without a download.

Facts, names and sentence templates are in `sample_data`; facts and names come from the Unicode CLDR. A fact is one
relation of one territory, such as its currency. It gives one group: a question and an answer sentence in every
language, except in those low-resource languages that have no name for it. Training, validation and test share no fact.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from hybridir.data.config import BenchmarkConfig, Source, own_split
from hybridir.data.languages import check_languages
from hybridir.data.passages import Passages
from hybridir.data.records import SEEN_PARTS, Benchmark, Pair, Passage, Query, Shard, Split
from hybridir.runtime.plain_yaml import load_yaml

TRAINED = ("ar", "de", "en", "es", "hi", "ru", "th", "tr", "zh")
"""The nine languages that the paper trains on."""
ZERO_SHOT = ("el", "vi")
"""The two languages that the paper only tests on."""
LOW_RESOURCE = ("bn", "sw", "te", "yo")
"""Further languages, which are used where they are named: what others see of the sample does not depend on them."""
SHARES: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.7),
    "validation": (0.7, 0.8),
    "test": (0.8, 1.0),
    "all": (0.0, 1.0),
}
DOMAINS = {"week_start": "week days", "weekend_start": "week days", "time_zone": "time zone"}
"""The domain of a fact, where it is not its relation: these two share their answers."""
_DATA = Path(__file__).with_name("sample_data")
_TEMPLATES, _LOW_RESOURCE_TEMPLATES = "templates.yaml", "templates_low_resource.yaml"


@dataclass(frozen=True, slots=True)
class Fact:
    """`relation` of `territory` (ISO 3166 code); `answer` is the key of the answer's names in `sample_data/names`."""

    relation: str
    territory: str
    answer: str

    @property
    def domain(self) -> str:
        return DOMAINS.get(self.relation, self.relation)

    @property
    def id(self) -> str:
        return f"{self.relation}-{self.territory}"


def find_shards(source: Source) -> list[Shard]:
    """One shard: the training and validation pairs in `source.languages`, or in `TRAINED` when omitted."""
    languages = check_languages(source.languages or TRAINED, _templates(), "the sample")
    identity = f"sample {_digest(languages)} {source.facts} {languages}"
    return [Shard(partial(_read, source.facts, languages), "sample", identity)]


def _read(count: int, languages: tuple[str, ...]) -> Iterator[Pair]:
    """The pairs, fact by fact."""
    for split in SEEN_PARTS:
        for fact in facts(count, split):
            for language in languages:
                if _is_named(fact, language):
                    yield Pair(
                        group_id=fact.id,
                        language=language,
                        query=_sentence(fact, language, "query"),
                        passage=_passage(fact, language),
                        topic=fact.domain,
                        split=split,
                        file=f"sample: {fact.id} in {language}",
                    )


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The questions of one split, and the answer sentences of *all* facts as passages; by default in 11 languages."""
    languages = check_languages(config.languages or sorted(TRAINED + ZERO_SHOT), _templates(), "the sample")
    pool, asked = facts(config.facts, "all"), facts(config.facts, own_split(config))
    answers = [(fact, language) for language in languages for fact in pool if _is_named(fact, language)]
    places: dict[str, list[int]] = {}
    for place, (fact, _) in enumerate(answers):
        places.setdefault(fact.id, []).append(place)
    questions = [(fact, language) for language in languages for fact in asked if _is_named(fact, language)]
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
                domain=fact.domain,
            )
            for fact, language in questions
        ),
        passages=Passages(_passage(fact, language) for fact, language in answers),
        relevant=tuple(tuple(places[fact.id]) for fact, _ in questions),
    )


def facts(count: int, split: Split) -> list[Fact]:
    """The facts of one split, for a sample of `count` facts. A smaller sample is a subset of a larger one."""
    known = _all_facts()
    if not 10 <= count <= len(known):
        raise ValueError(f"facts is {count}: it must be from 10 to {len(known)}")
    low, high = SHARES[split]
    return [fact for fact in known[:count] if low <= _hash(f"split {fact.id}") / 2**64 < high]


@cache
def _all_facts() -> list[Fact]:
    """Every fact of the sample, in an order that mixes the relations."""
    with (_DATA / "facts.tsv").open(encoding="utf-8", newline="") as file:
        found = [
            Fact(relation, row["territory"], answer)
            for row in csv.DictReader(file, delimiter="\t")
            for relation, answer in row.items()
            if relation != "territory" and answer
        ]
    return sorted(found, key=lambda fact: _hash(fact.id))


def _is_named(fact: Fact, language: str) -> bool:
    """Whether a language has names for the fact's territory and answer."""
    names = _names(language)
    return fact.territory in names["territory"] and fact.answer in names[fact.relation]


def _passage(fact: Fact, language: str) -> Passage:
    return Passage(passage_id=fact.id, language=language, text=_sentence(fact, language, "passage"))


def _sentence(fact: Fact, language: str, side: str) -> str:
    """The question (`side` query) or answer sentence (passage); fact and language determine the template."""
    templates = _templates()[language][fact.relation][side]
    template = templates[_hash(f"{side} {language} {fact.id}") % len(templates)]
    names = _names(language)
    return template.format(territory=names["territory"][fact.territory], answer=names[fact.relation][fact.answer])


@cache
def _names(language: str) -> dict[str, dict[str, str]]:
    """The names of territories and of the answers of each relation in a language: column -> key -> name."""
    names: dict[str, dict[str, str]] = json.loads((_DATA / "names" / f"{language}.json").read_bytes())
    return names


@cache
def _templates() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Templates: language -> relation -> side (`query`, `passage`) -> sentences."""
    files = (load_yaml((_DATA / file).read_bytes()) for file in (_TEMPLATES, _LOW_RESOURCE_TEMPLATES))
    return dict(sorted(one for file in files for one in file.items()))


def _digest(languages: tuple[str, ...]) -> str:
    """A hash of the data from which the sentences in `languages` are made."""
    files = ["facts.tsv", _TEMPLATES, *(f"names/{language}.json" for language in languages)]
    files += [_LOW_RESOURCE_TEMPLATES] if set(languages) & set(LOW_RESOURCE) else []
    return hashlib.sha256(b"\0".join((_DATA / file).read_bytes() for file in files)).hexdigest()[:16]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
