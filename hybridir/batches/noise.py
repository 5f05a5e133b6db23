"""Noise between plan and tokens: the text of a query is read, perturbed and tokenised on its way to the worker.

What an item gets depends on (seed, step, place of the item in the global batch) alone, so it is the same on any number
of workers and after a resume. Queries that are not drawn keep their tokens from the cache.

Shapes: b items of one rank.
"""

import numpy as np

from hybridir.batches import draws
from hybridir.batches.plan import Batch, Plan
from hybridir.batches.token_cache import TokenJob, query_texts
from hybridir.runtime.random_numbers import Uniform, uniform_numbers


class NoisyQueries:
    """The queries of a plan with the noise of `plan.sampling.noise`.

    Raises:
        ValueError: no kind of noise applies to a language of the plan.
    """

    def __init__(self, plan: Plan, tokens: TokenJob) -> None:
        self._plan, self._noise, self._tokens = plan, plan.sampling.noise, tokens
        self._noise.check(plan.languages)
        self._texts = query_texts(plan.corpus)

    def drawn(self, batch: Batch) -> dict[int, tuple[str, Uniform]]:
        """The items that `probability` draws, each with its kind of noise and the random numbers of its edits."""
        numbers = {item: self._numbers(draws.QUERY_NOISE, batch, item) for item in range(len(batch.query_row))}
        chosen = {item: rng for item, rng in numbers.items() if rng(1)[0] < self._noise.probability}
        return {item: (self._kind(batch, item, rng), rng) for item, rng in chosen.items()}

    def texts(self, batch: Batch) -> dict[int, str]:
        """The queries that are drawn, by item, with noise."""
        return {item: self._text(batch, item, *one) for item, one in self.drawn(batch).items()}

    def some(self, batch: Batch) -> dict[int, np.ndarray]:
        """The token ids of the queries that are drawn, by item, with noise."""
        texts = self.texts(batch)
        return dict(zip(texts, self._tokenize(list(texts.values())), strict=True))

    def every(self, batch: Batch) -> list[np.ndarray]:
        """The token ids of all queries [b] with noise, for the view `noisy_query`: drawn apart from `some`."""
        numbers = [self._numbers(draws.NOISY_QUERY, batch, item) for item in range(len(batch.query_row))]
        kinds = [self._kind(batch, item, rng) for item, rng in enumerate(numbers)]
        return self._tokenize([self._text(batch, n, *one) for n, one in enumerate(zip(kinds, numbers, strict=True))])

    def _numbers(self, stream: int, batch: Batch, item: int) -> Uniform:
        return uniform_numbers(self._plan.seed, stream, batch.step, batch.first + item)

    def _kind(self, batch: Batch, item: int, rng: Uniform) -> str:
        """One of the kinds that apply to the language of an item's query."""
        kinds = self._noise.kinds_in(self._plan.languages[batch.query_language[item]])
        return kinds[int(rng(1)[0] * len(kinds))]

    def _text(self, batch: Batch, item: int, kind: str, rng: Uniform) -> str:
        """The query of an item with noise of a kind."""
        language = self._plan.languages[batch.query_language[item]]
        clean = self._texts.take(batch.query_row[[item]])[0].tobytes().decode()
        return self._noise.perturbation(kind).apply(clean, language, rng, self._noise.severity)

    def _tokenize(self, texts: list[str]) -> list[np.ndarray]:
        return [np.array(ids, dtype=np.int32) for ids in self._tokens.tokenize_queries(texts)]
