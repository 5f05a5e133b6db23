"""Measures the systems of an evaluation under noise, a cell at a time: memory does not grow with their number."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.noise_grid import Cell, Values, measure_cell
from hybridir.evaluation.robustness import noise_results
from hybridir.evaluation.scores import Scores, stack
from hybridir.evaluation.settings import measure
from hybridir.model.check import as_published, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.tokenizer import load_tokenizer, tokenize
from hybridir.retrieval.bm25 import tokens
from hybridir.retrieval.search import Ranking
from hybridir.retrieval.systems import BM25, Encode, System, file_name, is_encoder, ranker
from hybridir.runtime.progress import say


def under_noise(
    systems: Sequence[System],
    rankings: Mapping[str, Sequence[Ranking]],
    cells: Sequence[Cell],
    benchmark: Benchmark,
    folder_of: Callable[[System, int], tuple[Encode, Path]],
) -> dict[str, Any]:
    """`noise` of `results.json`: see `noise_results`.

    `rankings` are those of the plain benchmark, one for each training seed. `folder_of` gives, for a system and the
    number of a member, how it embeds and where its embeddings are kept.
    """
    plain: dict[str, Scores] = {}
    noisy: dict[str, dict[str, list[Values]]] = {}
    for system in systems:
        seeds = [measure(ranking, benchmark) for ranking in rankings[system.label]]
        plain[system.label] = stack(seeds)
        noisy[system.label] = {cell.name: [] for cell in cells}
        for number, (member, own) in enumerate(zip(system.members, seeds, strict=True)):
            encode, keep = folder_of(system, number)
            rank = ranker(member, benchmark, encode, keep)
            for cell in cells:
                say(f"{member.name} under noise: {cell.name}")
                noisy[system.label][cell.name].append(measure_cell(cell, benchmark, own, rank))
    results = noise_results(plain, noisy, cells, benchmark)
    for shown, cell in zip(results["cells"], cells, strict=True):
        shown["tokens_changed"] = {s.label: tokens_changed(s.members[0], cell, benchmark) for s in systems}
    return results


def tokens_changed(config: EncoderConfig, cell: Cell, benchmark: Benchmark) -> float | None:
    """The share of the queries of a cell that have other tokens, for this encoder or BM25; None for embeddings.

    A tokenizer that ignores case or accents undoes noise, and the share is below that of changed texts.
    """
    part = cell.part(benchmark).queries
    old = {cell.id_of(draw, query): query for draw in range(len(cell.draws)) for query in benchmark.queries}
    if config.name == BM25:
        changed = sum(tokens(one.text, one.language) != tokens(old[one.query_id].text, one.language) for one in part)
    elif is_encoder(config):
        config = resolve(as_published(config))
        tokenizer = load_tokenizer(config.name, config.revision)
        limit = config.max_length("query")
        before, after = (
            tokenize(tokenizer, texts, config.query_prefix or "", limit)
            for texts in ([old[one.query_id].text for one in part], [one.text for one in part])
        )
        changed = int(np.sum([a != b for a, b in zip(before, after, strict=True)]))
    else:
        return None
    asked = sum(query.language in cell.languages for query in benchmark.queries)
    return changed / (asked * len(cell.draws))


def kept_in(
    folder: Path, names: Mapping[str, Sequence[str]], encode: Encode
) -> Callable[[System, int], tuple[Encode, Path]]:
    """For `under_noise`: the folder of each member's embeddings, by the names of the members of each system."""
    return lambda system, number: (encode, folder / file_name(names[system.label][number]))
