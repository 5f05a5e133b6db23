"""Shows what a plan will draw, before training starts: the first batches, and shares over all steps."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table
from rich.text import Text

from hybridir.batches.plan import Batch, Plan
from hybridir.batches.sampling import first_of_second_pool
from hybridir.batches.stream import BatchSource
from hybridir.runtime.progress import say
from hybridir.runtime.tables import Grid, show

MOST = 1000
"""Batches that `show_plan` draws at most: a batch of 100 takes a millisecond or two."""


@dataclass
class Census:
    """Counts over batches of a plan."""

    kinds: Counter = field(default_factory=Counter)  # batches by kind
    pairs: Counter = field(default_factory=Counter)  # items by (query language, passage language)
    sources: Counter = field(default_factory=Counter)  # items by source
    groups: set[int] = field(default_factory=set)  # all groups that were drawn
    items: int = 0
    negatives: int = 0  # in-batch and hard negatives, added up over all items
    same_language: int = 0  # in-batch negatives in the same language as the item's own positive
    noise: Counter = field(default_factory=Counter)  # queries by kind of noise
    texts: Counter = field(default_factory=Counter)  # texts by view
    tokens: list[int] = field(default_factory=list)  # of each batch

    def add(self, source: BatchSource, step: int) -> None:
        """Adds a batch to the counts."""
        batch, lengths = source.plan().batch(step), source.lengths(step)
        self._add(source.plan(), batch)
        self.noise.update(source.noise_of(batch))
        self.texts.update({view: int((length > 0).sum()) for view, length in lengths.items()})
        self.tokens.append(sum(int(length.sum()) for length in lengths.values()))

    def _add(self, plan: Plan, batch: Batch) -> None:
        corpus, size = plan.corpus, len(batch.groups)
        self.kinds[batch.kind] += 1
        languages = zip(batch.query_language.tolist(), batch.passage_language.tolist(), strict=True)
        self.pairs.update((plan.languages[x], plan.languages[y]) for x, y in languages)
        self.sources.update(corpus.sources[s] for s in corpus.source_of[batch.groups].tolist())
        self.groups.update(batch.groups.tolist())
        self.items += size
        # Negatives of an item: the positives of all other items, and all hard negatives outside its passage group.
        own, hard = corpus.passage_group[batch.groups], corpus.negative_group[batch.negatives.ravel()]
        half = first_of_second_pool(size)
        for pool in (slice(0, half), slice(half, size)) if batch.kind == "both" else (slice(0, size),):
            counts = np.bincount(batch.passage_language[pool])
            self.negatives += int(counts.sum() * (counts.sum() - 1))
            self.negatives += int((own[pool, None] != hard.reshape(size, -1)[pool].ravel()[None, :]).sum())
            self.same_language += int((counts * (counts - 1)).sum())


def take_census(source: BatchSource, steps: int, most: int | None = None) -> Census:
    """The census of the first `steps` batches, or of `most` of them that are evenly spaced."""
    census = Census()
    for step in np.unique(np.linspace(0, steps - 1, min(steps, most or steps), dtype=np.int64)).tolist():
        census.add(source, step)
    return census


def show_plan(source: BatchSource, steps: int, first: int = 3, items: int = 4) -> None:
    """Prints `items` pairs of each of the `first` batches, then the census of `steps` batches, or of a sample."""
    plan = source.plan()
    for step in range(first):
        _show_batch(plan, plan.batch(step), items)
    sample = f"a sample of {MOST:,} of the {steps:,} batches" if steps > MOST else ""
    say(f"drawing {sample or f'{steps} batches'}")
    census = take_census(source, steps, MOST)
    show(_shares(f"kinds of {sample or f'{steps} batches'}", census.kinds))
    queries: Counter = Counter()
    passages: Counter = Counter()
    for (x, y), count in census.pairs.items():
        queries[x] += count
        passages[y] += count
    show(_shares("query languages", queries))
    show(_shares("passage languages", passages))
    crossing = Counter({f"{x}-{y}": n for (x, y), n in census.pairs.items() if x != y})
    if crossing:
        show(_shares("cross-lingual pairs (query-passage), the 5 most and least frequent", crossing, ends=5))
    if len(census.sources) > 1:
        show(_shares("sources", Counter({name or "(unnamed)": n for name, n in census.sources.items()})))
    if census.noise:
        clean = Counter({"none": census.items - census.noise.total()})
        show(_shares("noise of queries", census.noise + clean))
    for view in (view for view in census.texts if view.endswith("_translation")):
        print(f"{view.replace('_', ' ')}s of an item: {census.texts[view] / census.items:.2f} on average")
    mean = sum(census.tokens) / len(census.tokens)
    print(
        f"tokens of a step, without padding: {mean:,.0f} on average, from {min(census.tokens):,} to "
        f"{max(census.tokens):,}; of all steps {'about ' * bool(sample)}{mean * steps:,.0f}"
    )
    possible = int(plan.corpus.groups(plan.part).sum())
    print(
        f"groups drawn at least once{' in ' * bool(sample)}{sample}: {len(census.groups)} of {possible} "
        f"({len(census.groups) / possible:.1%})"
    )
    print(
        f"negatives of a query: {census.negatives / census.items:.1f} on average, of which "
        f"{census.same_language / census.items:.1f} are positives of other queries in the language of its own positive"
    )


def _show_batch(plan: Plan, batch: Batch, items: int) -> None:
    table = Table(title=f"step {batch.step}: {batch.kind}, {len(batch.groups)} items", title_justify="left")
    for name in ("query", "passage"):
        table.add_column(name, overflow="fold")
    for n in range(min(items, len(batch.groups))):
        query, passage = plan.corpus.pair(int(batch.query_row[n])), plan.corpus.pair(int(batch.passage_row[n]))
        texts = f"{query['language']}  {query['query']}", f"{passage['language']}  {passage['passage']['text']}"
        table.add_row(*(Text(text[:200]) for text in texts))
    show(table)


def _shares(title: str, counts: Counter, ends: int | None = None) -> Grid:
    rows = counts.most_common()
    if ends and len(rows) > 2 * ends:
        rows = [*rows[:ends], *rows[-ends:]]
    cells = [(str(name), str(count), f"{count / counts.total():.1%}") for name, count in rows]
    return Grid(title, ("", "count", "share"), cells)
