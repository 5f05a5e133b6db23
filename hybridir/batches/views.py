"""Translations as views: which other pairs of an item's group stand beside its query and its passage.

Each view draws from random numbers of its own, by (seed, step, place of the item), so switching one on changes
neither the other views nor the plan.

Shapes: b items of one rank, k translations an item, L languages that translations are drawn from.
"""

from collections.abc import Iterator

import numpy as np

from hybridir.batches import draws
from hybridir.batches.plan import Batch, Plan
from hybridir.data.languages import check_languages
from hybridir.runtime.random_numbers import uniform_numbers


class TranslationViews:
    """The views that `plan.sampling.translations` asks for.

    Raises:
        ValueError: the corpus lacks a language, or no group has a translation.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, config, corpus = plan, plan.sampling.translations, plan.corpus
        languages = check_languages(config.languages or plan.languages, corpus.languages, "the corpus")
        self._columns = [corpus.languages.index(code) for code in languages]
        views = {
            "passage_translation": (draws.PASSAGE_TRANSLATION, config.passage),
            "query_translation": (draws.QUERY_TRANSLATION, config.query),
        }
        self._views = {name: view for name, view in views.items() if view[1]}
        if self._views and not self._any():
            raise ValueError(
                f"sampling.translations asks for {' and '.join(self._views)}, but no question has a pair in a second "
                f"language, in {', '.join(languages)}: name other languages in sampling.translations.languages, or set "
                "sampling.translations.passage and sampling.translations.query to 0"
            )

    def _any(self) -> bool:
        """Whether some group has a pair that the plan can draw, and another that translations can be drawn from."""
        corpus, languages = self._plan.corpus, self._plan.languages
        subset = self._plan.subset
        drawn = (subset.rows(subset.groups) >= 0)[:, [corpus.languages.index(code) for code in languages]]
        there = subset.rows(subset.groups, texts=True) >= 0
        both = drawn.any(axis=1) & there[:, self._columns].any(axis=1)
        named = sorted({*self._columns, *(corpus.languages.index(code) for code in languages)})
        return bool((both & (there[:, named].sum(axis=1) > 1)).any())

    def rows(self, batch: Batch) -> Iterator[tuple[str, np.ndarray]]:
        """Each view's name with the rows of its pairs, int64 [b, k], in different languages; -1 where there is none."""
        for name, (stream, count) in self._views.items():
            own = batch.passage_row if name == "passage_translation" else batch.query_row
            yield name, self._draw(batch, own, stream, count)

    def _draw(self, batch: Batch, own: np.ndarray, stream: int, count: int) -> np.ndarray:
        row_bL = self._plan.subset.rows(batch.groups, texts=True)[:, self._columns].astype(np.int64)
        row_bL[row_bL == own[:, None]] = -1
        number_bL = np.empty(row_bL.shape)
        for item in range(len(row_bL)):
            rng = uniform_numbers(self._plan.seed, stream, batch.step, batch.first + item)
            number_bL[item] = rng(row_bL.shape[1])
        order = np.argsort(np.where(row_bL < 0, 1.0, number_bL), axis=1, kind="stable")[:, :count]
        found = np.take_along_axis(row_bL, order, axis=1)
        return np.pad(found, ((0, 0), (0, count - found.shape[1])), constant_values=-1)
