"""The bias panel: does the language of a passage move its rank?"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log2
from typing import Any

from hybridir.evaluation.bias_summary import BIAS, bias_numbers
from hybridir.evaluation.metrics import MEASURES
from hybridir.reports.html.parts import (
    NONE,
    SETTING_NAMES,
    Block,
    Section,
    Sheet,
    Systems,
    beside,
    coded,
    figure,
    fold,
    note,
    number,
    p_value,
    table,
    terms,
    with_interval,
)
from hybridir.reports.html.plots import ORANGE_BLUE, ORANGE_BLUE_DARK, Cell, Scale, bars, heat_map, legend, percent
from hybridir.runtime.tables import Grid
from hybridir.runtime.words import listed

_REACH = 2.0
"""The ends of the colour scale, as log2(share / corpus share): a quarter, and four times."""


def bias_words(numbers: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Title, explanation, and which values are best: of measures of parallel answers, then of these `bias_numbers`."""
    of_ranks = {name: one for name, one in MEASURES.items() if "parallel" in one.needs}
    words = {
        name: (
            one.title[0].upper() + one.title[1:],
            one.about,
            f"{'lower' if one.lower_is_better else 'higher'} is better",
        )
        for name, one in of_ranks.items()
    }
    for key in numbers:
        name, _, part = key.partition(" ")
        title = f"{BIAS[name].title}, {SETTING_NAMES.get(part, part).lower()}" if part else BIAS[name].title
        words[key] = (title, BIAS[name].about, BIAS[name].best)
    return words


def pooled_titles() -> str:
    """The titles of the measures of parallel answers, as words in a sentence."""
    return listed([one.title for one in MEASURES.values() if "parallel" in one.needs])


def bias(results: dict[str, Any], systems: Systems) -> Section | None:
    """Measures of language bias, each with an explanation, and two plots; None for a single language."""
    if len(results.get("languages", [])) < 2:
        return None
    own = results.get("bias", {})
    plots = [*_rank_distribution(own.get("rank_distribution")), *_top_k(own.get("top_k_languages"), results)]
    rows = _measures(systems)
    if not rows and not plots:
        return None
    blocks = [beside(*plots)] if plots else []
    if rows:
        grid = Grid("Measures of language bias", ("measure", *systems), [row[:-1] for row in rows])
        blocks += [table(grid), terms({row[0].partition(",")[0]: row[-1] for row in rows})]
    if any(one.get("seeds", 1) > 1 for one in systems.values()):
        told = f"For a system with several training seeds, the rows {pooled_titles()} are means over seeds; all other"
        blocks.append(note(f"{told} numbers here are those of the first seed."))
    for grid, least in ((_by_answers(systems), 2), (_by_language(own, results.get("languages", [])), 1)):
        blocks += [fold(grid.title, table(grid))] * (len(grid.rows) >= least)
    return Section(
        "bias",
        "Language bias",
        f"Does {results['encoder']} prefer some languages over others, whatever the passages say? Each measure shows "
        "only one side of the bias.",
        blocks,
    )


def _measures(systems: Systems) -> list[tuple[str, ...]]:
    """For each measure: its name, its value for each system, what it shows."""
    numbers = [bias_numbers(one.get("bias", {})) for one in systems.values()]
    rows: list[tuple[str, ...]] = []
    for key, (label, says, _) in bias_words(dict.fromkeys(key for one in numbers for key in one)).items():
        texts = [
            f"{number(own[key])}{_ends(one, key)}" if key in own else _pooled(one, key)
            for one, own in zip(systems.values(), numbers, strict=True)
        ]
        if any(text != NONE for text in texts):
            rows.append((label, *texts, says))
    return rows


def _by_answers(systems: Systems) -> Grid:
    """Rank distance by the number of right answers: with more answers it is larger by chance alone."""
    of = [one.get("bias", {}).get("rank_distance_by_answers", {}) for one in systems.values()]
    rows = [
        (n, f"{one['n']:,}", *(number(other.get(n, {}).get("rank_distance"), "rank_distance") for other in of))
        for n, one in of[0].items()
    ]
    return Grid("Rank distance by number of right answers", ("right answers", "questions", *systems), rows)


def _pooled(one: dict[str, Any], key: str) -> str:
    ends = one.get("intervals", {}).get("multilingual", {}).get(key, {}).get("interval")
    return with_interval(one.get("multilingual", {}).get(key), ends, key)


def _ends(one: dict[str, Any], key: str) -> str:
    """The languages with the lowest and the highest mAP, in brackets; "" for all measures but `min_max`."""
    name, _, setting = key.partition(" ")
    if name != "min_max":
        return ""
    ends = one["bias"][name][setting]
    low, high = (f"{language} {number(value)}" for language, value in (ends["min"], ends["max"]))
    return f" ({low}, {high})"


def _rank_distribution(found: dict[str, Any] | None) -> list[Block]:
    """The ranks of answers in the question's language, beside those of answers in other languages."""
    if not found:
        return []
    series = {"in the question's language": found["same"], "in other languages": found["other"]}
    title = "Pooled ranks of the right answers"
    rows = list(zip(found["upper"], found["same"], found["other"], strict=True))
    sheet = Sheet("rank_distribution", ("rank_up_to", "same", "other"), rows)
    return [figure(bars(title, _bins(found["upper"]), series), title, legend(list(series), bars=True), sheet)]


def _bins(upper: Sequence[int | None]) -> list[str]:
    """Names of the bins: 1, 2, 3–5, ..., > 1,000."""
    names = []
    for before, end in pairwise([0, *upper]):
        first = (before or 0) + 1
        names.append(f"> {first - 1:,}" if end is None else f"{end:,}" if end == first else f"{first:,}–{end:,}")
    return names


def _top_k(found: dict[str, Any] | None, results: dict[str, Any]) -> list[Block]:
    """Shares of the passage languages among the first k, coloured by their ratio to the share in the corpus."""
    if not found:
        return []
    corpus: dict[str, float] = found["corpus"]
    columns = [x for x in results["languages"] if x in corpus]

    def cell(share: float, y: str) -> Cell:
        ratio = log2(share / corpus[y]) if share and corpus[y] else -_REACH
        return Cell(
            f"{100 * share:.0f}", 0.5 + ratio / (2 * _REACH), title=f"{percent(share)}, corpus {percent(corpus[y])}"
        )

    rows = {
        coded(x): [cell(shares.get(y, 0.0), y) for y in columns] for x, shares in found["by_query_language"].items()
    }
    rows["corpus"] = [Cell(f"{100 * corpus[y]:.0f}", None, title=percent(corpus[y])) for y in columns]
    title = f"Languages among the first {found['k']} passages, in percent"
    scale = Scale(("¼ of its share", "4 ×"), ORANGE_BLUE, ORANGE_BLUE_DARK)
    sheet = Sheet(
        "top_k_languages",
        ("query_language", "passage_language", "share", "corpus_share"),
        [(x, y, shares.get(y, 0.0), corpus[y]) for x, shares in found["by_query_language"].items() for y in columns],
    )
    return [heat_map(title, rows, columns, scale, "share against the corpus", sheet)]


def _by_language(own: dict[str, Any], languages: Sequence[str]) -> Grid:
    rows = []
    for x in languages:
        test = own.get("friedman", {}).get(x, {})
        margin, rate = (own.get(key, {}).get("per_language", {}).get(x) for key in ("score_margin", "preference_rate"))
        order = sorted(test.get("mean_rank", {}).items(), key=lambda item: item[1])
        if test or margin is not None or rate is not None:
            ends = f"{order[0][0]} {order[0][1]:.2f}, {order[-1][0]} {order[-1][1]:.2f}" if order else NONE
            texts = (
                number(rate),
                number(margin),
                number(test.get("w")),
                number(test.get("chi2")),
                p_value(test.get("p")),
            )
            rows.append((coded(x), *texts, f"{test['n']:,}" if "n" in test else NONE, ends))
    header = ("language", "preference rate", "score margin", "Kendall's W", "Friedman χ²", "p", "questions")
    return Grid("Bias by language of the question", (*header, "mean rank: first and last language"), rows)
