"""Do the mix of batches and the loss decide how well queries with noise are answered, and what do defences add?

Defences are noise in training, self-teaching (Zhuang and Zuccon 2022, arXiv 2204.00716) and the multilingual loss. Each
has a control of the same cost that lacks its idea: the same extra passages without a loss on them, the clean query
encoded twice, and hybrid for twice as long. Noise in training is of the keyboard (or input method) alone, so that all
other noise is new to every arm.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hybridir.batches.sampling import METHODS, Noise, Translations
from hybridir.data.records import Benchmark
from hybridir.evaluation.conditions import Condition, under
from hybridir.evaluation.settings import SETTINGS
from hybridir.experiments.claims import PLAIN, Claim, Part, Relation, Weights
from hybridir.experiments.study import Arm, Study, StudyRecipe
from hybridir.model.check import as_published, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.tokenizer import load_tokenizer, tokenize
from hybridir.perturbations import PERTURBATIONS
from hybridir.reports.html import conditions, robustness, sections, study_claims, study_plots, study_tables
from hybridir.retrieval.search import Ranking
from hybridir.retrieval.systems import Encode, Ranker, ranker
from hybridir.runs.attack_run import AttackConfig, attack_results
from hybridir.training.config import LENGTHS
from hybridir.training.losses.info_nce import InfoNCE
from hybridir.training.losses.multilingual import Multilingual
from hybridir.training.losses.self_teaching import SelfTeaching

MONO, CROSS, HYBRID = "X-X-mono", "X-Y", "hybrid"
MULTI, PASSAGES = "hybrid + multilingual", "hybrid + passages"
NOISE, SELF, TWICE = "hybrid + noise", "hybrid + self-teaching", "hybrid + query twice"
LONGER = "hybrid longer"
TYPED = ("keyboard", "input_method")
"""The noise of training: one wrong key; in Chinese, one wrong character that is typed with the same keys."""
KINDS = ("keyboard", "delete", "swap", "asr")
SEVERITIES = (0.1, 0.2)
CONDITIONS = (
    *(Condition(perturbation=kind, severity=severity) for severity in SEVERITIES[::-1] for kind in KINDS),
    *(Condition(perturbation=kind, severity=0.2) for kind in ("diacritics", "input_method")),
)
"""The hardest of each kind come first: a quick study takes these."""
ATTACKED = (MONO, CROSS, HYBRID, SELF)


def arms(recipe: StudyRecipe) -> list[Arm]:
    """Three mixes of batches, the defences on top of hybrid, and their controls."""
    train = recipe.train
    longer = {name: 2 * value for name in LENGTHS if (value := getattr(train, name))}

    def arm(name: str, about: str, method: str = "hybrid", **changes: Mapping[str, Any]) -> Arm:
        weights = dict(zip(("mono", "mixed", "cross", "both"), METHODS[method], strict=True))
        return Arm(name=name, about=about, changes=changes | {"sampling": weights | dict(changes.get("sampling", {}))})

    extra = {"translations": Translations(passage=2)}
    return [
        arm(MONO, "every batch in one language", "X-X-mono"),
        arm(CROSS, "query and passage of every pair in different languages", "X-Y"),
        arm(HYBRID, "a batch is in one language with probability 0.5, else cross-lingual"),
        arm(
            MULTI,
            "two translations of each passage are right answers too: the multilingual loss",
            sampling=extra,
            loss={"info_nce": InfoNCE(weight=0), "multilingual": Multilingual(weight=1)},
        ),
        arm(PASSAGES, "control: the same two translations are encoded, but no loss uses them", sampling=extra),
        arm(
            NOISE,
            "half of the queries have a typing error in training",
            sampling={"noise": Noise(probability=0.5, kinds=TYPED)},
        ),
        arm(
            SELF,
            "each query is also encoded with a typing error, and learns the scores that it has without",
            sampling={"noise": Noise(kinds=TYPED)},
            loss={"self_teaching": SelfTeaching(weight=1)},
        ),
        arm(
            TWICE,
            "control: self-teaching, but without the typing error",
            sampling={"noise": Noise(kinds=TYPED, severity=0)},
            loss={"self_teaching": SelfTeaching(weight=1)},
        ),
        arm(LONGER, "control: hybrid for twice as long, which costs at least as much as any defence", train=longer),
    ]


def _mean(weights: Sequence[Weights]) -> Weights:
    names = dict.fromkeys(name for one in weights for name in one)
    return {name: sum(one.get(name, 0.0) for one in weights) / len(weights) for name in names}


def _lost(weights: Weights) -> Weights:
    """What is lost against the plain benchmark."""
    return {**weights, "": weights.get("", 0.0) - 1}


AREA = {kind: {"": 0.25, f"{kind} 0.1": 0.5, f"{kind} 0.2": 0.25} for kind in KINDS}
"""By kind: the mean RR@10 over the severities from 0 to 0.2, by the trapezoid rule."""
NOISY = _mean(list(AREA.values()))
UNSEEN = _mean([{"asr 0.2": 1.0}, {"diacritics 0.2": 1.0}])


def _part(
    arm: str, baseline: str, over: Weights = NOISY, relation: Relation = "better", setting: str = "monolingual"
) -> Part:
    return Part(arm=arm, baseline=baseline, setting=setting, relation=relation, measure="RR@10", conditions=over)


def _claim(name: str, text: str, source: str, *parts: Part) -> Claim:
    return Claim(id=name, text=text, source=source, parts=parts)


CLAIMS = (
    _claim(
        "noisy",
        "With the multilingual loss, queries with noise are answered better than by hybrid, within a language and over "
        "all languages.",
        "question",
        _part(MULTI, HYBRID),
        _part(MULTI, HYBRID, setting="multilingual"),
    ),
    _claim(
        "robust",
        "With the multilingual loss, noise takes less away than from hybrid.",
        "question",
        _part(MULTI, HYBRID, _lost(NOISY)),
    ),
    _claim(
        "clean",
        "On clean queries, the multilingual loss costs nothing.",
        "question",
        *(_part(MULTI, HYBRID, PLAIN, "not worse", setting) for setting in SETTINGS),
    ),
    _claim(
        "speech",
        "The multilingual loss is better for queries with errors of speech recognition.",
        "question",
        _part(MULTI, HYBRID, AREA["asr"]),
    ),
    _claim(
        "mix",
        "With noise, hybrid is not worse than X-X-mono within a language, nor than X-Y across languages.",
        "question",
        _part(HYBRID, MONO, NOISY, "not worse"),
        _part(HYBRID, CROSS, NOISY, "not worse", "crosslingual"),
    ),
    _claim("self", "Self-teaching raises what noisy queries find.", "question", _part(SELF, HYBRID)),
    _claim("noise", "Noise in training raises what noisy queries find.", "question", _part(NOISE, HYBRID)),
    _claim(
        "s passages",
        "The multilingual loss is better than the same extra passages without a loss on them.",
        "sceptic",
        _part(MULTI, PASSAGES),
    ),
    _claim("s plain", "The multilingual loss is better than plain noise in training.", "sceptic", _part(MULTI, NOISE)),
    _claim("s twice", "Self-teaching is better than encoding the clean query twice.", "sceptic", _part(SELF, TWICE)),
    _claim(
        "s longer",
        "Self-teaching and noise in training are better than hybrid for twice as long.",
        "sceptic",
        _part(SELF, LONGER),
        _part(NOISE, LONGER),
    ),
    _claim(
        "s unseen",
        "Defences trained on typing errors help against noise of other kinds: speech and missing accents.",
        "sceptic",
        _part(NOISE, HYBRID, UNSEEN),
        _part(SELF, HYBRID, UNSEEN),
    ),
)


def by_models(recipe: StudyRecipe, benchmark: Benchmark, folders: Mapping[str, Path], encode: Encode) -> dict[str, Any]:
    """`robustness` in `results.json`, by the first seed of each arm: `cells`, the shares of queries that each condition
    changed; `examples`, the queries of the reference arm that lose most; `attack` (see `attack_results`)."""
    first = HYBRID if HYBRID in folders else next(iter(folders))
    config = resolve(as_published(EncoderConfig(name=str(folders[first] / "model"))))
    found: dict[str, Any] = {"arm": first, "cells": {}}
    for condition in recipe.conditions or ():
        found["cells"][condition.name] = _cell(condition, benchmark, config)
    with TemporaryDirectory() as kept:
        rankers = {
            name: ranker(EncoderConfig(name=str(folders[name] / "model")), benchmark, encode, Path(kept, str(n)))
            for n, name in enumerate(dict.fromkeys((first, *ATTACKED)))
            if name in folders
        }
        found["examples"] = _examples(recipe.conditions or (), benchmark, rankers[first])
        attack = AttackConfig(queries=len(benchmark.languages) * (2 if recipe.quick else 6), edits=2)
        of_arms = {name: rankers[name] for name in ATTACKED if name in rankers}
        found["attack"] = attack_results(of_arms, benchmark, attack) if of_arms else None
    return {"robustness": found}


def _cell(condition: Condition, benchmark: Benchmark, config: EncoderConfig) -> dict[str, Any]:
    """`changed` and `tokens`: shares of the queries with another text, and with other tokens, by language."""
    kind = PERTURBATIONS[condition.perturbation]
    tokenizer = load_tokenizer(config.name, config.revision)
    texts = [[query.text for query in one.queries] for one in (benchmark, under(benchmark, condition))]
    ids = [tokenize(tokenizer, one, config.query_prefix or "", config.max_length("query")) for one in texts]
    pairs: dict[str, list[Any]] = {"changed": texts, "tokens": ids}
    shares: dict[str, dict[str, float]] = {name: {} for name in pairs}
    for language in filter(kind.applies, benchmark.languages):
        asked = [n for n, query in enumerate(benchmark.queries) if query.language == language]
        for name, (old, new) in pairs.items():
            shares[name][language] = float(np.mean([old[n] != new[n] for n in asked])) if asked else 0.0
    return {"kind": condition.perturbation, "severity": condition.severity, **shares}


def _examples(wanted: Sequence[Condition], benchmark: Benchmark, rank: Ranker) -> list[dict[str, Any]]:
    """For each language, the query right at rank 1 that falls farthest under the first condition."""
    if not wanted:
        return []
    noisy = under(benchmark, wanted[0])
    (before, _), (after, top) = (_first_ranks(one, rank(one, 1)) for one in (benchmark, noisy))
    found: dict[str, dict[str, Any]] = {}
    for n, (old, new) in enumerate(zip(benchmark.queries, noisy.queries, strict=True)):
        worst = found.get(old.language, {"rank": 1})["rank"]
        if before[n] == 1 and after[n] > worst:
            found[old.language] = {
                "language": old.language,
                "condition": wanted[0].name,
                "before": old.text,
                "after": new.text,
                "rank": int(after[n]),
                "found": benchmark.passages[int(top[n])].text,
            }
    return list(found.values())


def _first_ranks(benchmark: Benchmark, ranking: Ranking) -> tuple[list[int], list[int]]:
    """For each query, in its language: the best rank of a right passage (0 without one), and the passage at rank 1."""
    language_P, start, ranks, top = benchmark.language_P, 0, [], []
    for n, (query, relevant) in enumerate(zip(benchmark.queries, benchmark.relevant, strict=True)):
        own = benchmark.languages.index(query.language)
        above = ranking.above[start : start + len(relevant), own][language_P[list(relevant)] == own]
        start += len(relevant)
        ranks.append(1 + int(above.min()) if len(above) else 0)
        top.append(int(ranking.top_place[n, own, 0]))
    return ranks, top


ROBUSTNESS = Study(
    name="robustness",
    title="What typing errors and speech do to search, language by language",
    about="People mistype, dictate, and leave out accents. Each arm trains a retriever in another way, and is then "
    "asked the same questions without and with such errors: how many answers does it still find, in which languages, "
    "and does it help to train with errors?",
    reference=HYBRID,
    arms=arms,
    claims=CLAIMS,
    conditions=CONDITIONS,
    by_models=by_models,
    sources={"question": "What is asked of the mix and the loss", "sceptic": "What a sceptic would ask"},
    sections=(
        study_claims.ledger,
        study_tables.plan,
        robustness.arms,
        robustness.curves,
        robustness.languages,
        robustness.families,
        robustness.examples,
        robustness.attacked,
        conditions.of_arms,
        study_tables.tables,
        study_plots.curves,
        sections.provenance,
    ),
)
