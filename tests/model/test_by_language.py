"""SHIFT and LIR on embeddings by hand."""

import numpy as np

from hybridir.model.by_language import lir, shift


def test_shift_takes_the_mean_away() -> None:
    change = shift(np.array([[2.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_allclose(change(np.array([[4.0, 5.0], [1.0, 1.0]])), [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)


def test_lir_takes_the_first_direction_away() -> None:
    """Of texts along (3, 0, 0) and, less, (0, 1, 0) the first is taken, with two directions both."""
    texts = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0]])
    other = np.array([[5.0, 3, 4]])
    np.testing.assert_allclose(lir(texts)(other), [[0, 0.6, 0.8]], atol=1e-6)
    np.testing.assert_allclose(lir(texts, 2)(other), [[0, 0, 1]], atol=1e-6)


def test_what_all_share_is_gone() -> None:
    """Two languages with offsets of their own: after SHIFT the translations are equal."""
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(50, 6))
    one, other = (meaning + 5 * rng.normal(size=6) for _ in range(2))
    np.testing.assert_allclose(shift(one)(one), shift(other)(other), atol=1e-6)
