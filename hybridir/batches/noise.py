"""Noise between plan and tokens: the text of a query is read, perturbed and tokenised on its way to the worker.

What an item gets depends on (seed, step, place of the item in the global batch) alone, so it is the same on any number
of workers and after a resume. Queries that are not drawn keep their tokens from the cache.

Shapes: b items of one rank.
"""

import numpy as np

from hybridir.batches import draws
from hybridir.batches.plan import Batch, Plan
from hybridir.batches.token_cache import TokenJob, query_texts
from hybridir.perturbations import PERTURBATIONS
from hybridir.runtime.random_numbers import Uniform, uniform_numbers


class NoisyQueries:
    """The queries of a plan with the noise of `plan.sampling.noise`."""

    def __init__(self, plan: Plan, tokens: TokenJob) -> None:
        self._plan, self._noise, self._tokens = plan, plan.sampling.noise, tokens
        self._texts = query_texts(plan.corpus)

    def replace(self, queries: list[np.ndarray], batch: Batch) -> list[np.ndarray]:
        """The token ids of the queries [b], with noise in those that are drawn by `probability`."""
        numbers = [self._numbers(draws.QUERY_NOISE, batch, item) for item in range(len(queries))]
        drawn = [item for item, rng in enumerate(numbers) if rng(1)[0] < self._noise.probability]
        noisy = dict(zip(drawn, self._tokenize([self._text(batch, n, numbers[n]) for n in drawn]), strict=True))
        return [noisy.get(item, ids) for item, ids in enumerate(queries)]

    def every(self, batch: Batch) -> list[np.ndarray]:
        """The token ids of all queries [b] with noise, for the view `noisy_query`: drawn apart from `replace`."""
        items = range(len(batch.query_row))
        numbers = [self._numbers(draws.NOISY_QUERY, batch, item) for item in items]
        return self._tokenize([self._text(batch, item, numbers[item]) for item in items])

    def _numbers(self, stream: int, batch: Batch, item: int) -> Uniform:
        return uniform_numbers(self._plan.seed, stream, batch.step, batch.first + item)

    def _text(self, batch: Batch, item: int, rng: Uniform) -> str:
        """The query of an item with noise of one kind."""
        language = self._plan.languages[batch.query_language[item]]
        kinds = self._noise.kinds_in(language)
        kind = kinds[int(rng(1)[0] * len(kinds))]
        clean = self._texts.take(batch.query_row[[item]])[0].tobytes().decode()
        return PERTURBATIONS[kind].apply(clean, language, rng, self._noise.severity)

    def _tokenize(self, texts: list[str]) -> list[np.ndarray]:
        return [np.array(ids, dtype=np.int32) for ids in self._tokens.tokenize_queries(texts)]
