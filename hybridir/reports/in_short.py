"""The first sentence of a result: what was trained on what, and measured on what."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from hybridir.data.formats import heldout
from hybridir.data.records import Benchmark
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.words import listed


def trained_and_measured(config: dict[str, Any], card: dict[str, Any], benchmark: Benchmark, how: str = "") -> str:
    """The sentence about a training run or a study, from its configuration and its data card.

    `how` says how it was trained, such as "in 3 ways, with 5 seeds each, " (with the space at its end).
    """
    part, sampling = card["parts"]["train"], config["sampling"]
    languages = sampling["languages"] or list(card["languages"])
    start = config["encoder"]["name"] or "A new small encoder"
    own = not config["benchmark"]["path"]
    return (
        f"{without_secrets(start)}, trained {how}on {part['pairs']:,} pairs ({part['groups']:,} questions) of "
        f"{data_name(config['data'])} in {_in(languages)}{_of_these(sampling)}; "
        f"{measured(benchmark, 'these data' if own else '')}."
    )


def _of_these(sampling: dict[str, Any]) -> str:
    """Which part of the data is drawn, in parentheses; empty if it is all."""
    left = [f"{sampling['groups']:,} questions"] if sampling.get("groups") else []
    left += [f"{sampling['translated']:.0%} of them in all languages"] if sampling.get("translated", 1) < 1 else []
    left += [f"without {listed(sampling['without_domains'])}"] if sampling.get("without_domains") else []
    return f" (drawn: {', '.join(left)})" if left else ""


def measured(benchmark: Benchmark, data: str = "", part: str = "") -> str:
    """The benchmark in words, such as "measured on ... in de and en", without a full stop.

    `data` names the data that a held-out benchmark is a part of; `part` says which part of the benchmark is measured.
    """
    asked = len({query.group_id for query in benchmark.queries})
    of = data or "a run's data"
    what = {
        heldout.TEST: f"{asked:,} held-out questions of {of}",
        heldout.NAME: f"{asked:,} validation questions of {of}",
    }.get(benchmark.name, f"{asked:,} questions of {benchmark.name}")
    return (
        f"measured on {what}{part} ({len(benchmark.queries):,} queries, {len(benchmark.passages):,} passages) in "
        f"{_in(benchmark.languages)}"
    )


def data_name(data: dict[str, Any]) -> str:
    """The names of the sources."""
    sources = data["sources"] or [data]
    names = [
        one["name"] or PurePosixPath(without_secrets(one["path"])).name or f"the {one['format']}" for one in sources
    ]
    return listed(list(dict.fromkeys(names)))


def _in(languages: Sequence[str]) -> str:
    """The languages, or their number if they are many."""
    return f"{len(languages)} languages" if len(languages) > 6 else listed(languages)
