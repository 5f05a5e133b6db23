"""Embeddings in fewer bits, against sentence-transformers' quantisation."""

import numpy as np
import pytest

from hybridir.model.quantised import LEVELS, binary, int8


@pytest.fixture
def embeddings() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(500, 16)).astype(np.float32), rng.normal(size=(200, 16)).astype(np.float32)


def test_int8_is_within_a_step_of_the_published_codes(embeddings: tuple[np.ndarray, np.ndarray]) -> None:
    """These are cut off, ours are rounded; what lies outside of the range of the training texts wraps round there."""
    from sentence_transformers.util import quantize_embeddings

    train, other = embeddings
    low, high = train.min(axis=0), train.max(axis=0)
    inside = ((other >= low) & (other <= high)).all(axis=1)
    codes = quantize_embeddings(other[inside], "int8", calibration_embeddings=train)
    step = (high - low) / LEVELS
    published = low + (codes.astype(np.float64) + 128) * step
    assert (np.abs(int8(train)(other[inside]) - published) <= 1.01 * step).all()
    assert (np.abs(int8(train)(other[inside]) - other[inside]) <= 0.501 * step).all()


def test_int8_outside_of_the_range_is_its_end(embeddings: tuple[np.ndarray, np.ndarray]) -> None:
    train, _ = embeddings
    found = int8(train)(np.stack([np.full(16, 100.0), np.full(16, -100.0)]))
    np.testing.assert_allclose(found, [train.max(axis=0), train.min(axis=0)], rtol=1e-5)


def test_binary_orders_as_hamming_distances(embeddings: tuple[np.ndarray, np.ndarray]) -> None:
    from sentence_transformers.util import quantize_embeddings

    train, other = embeddings
    ours = binary(train)(other)
    bits = np.unpackbits(quantize_embeddings(other, "ubinary"), axis=1)
    hamming = (bits[:, None] != bits[None]).sum(axis=-1)
    np.testing.assert_allclose(ours @ ours.T, 1 - 2 * hamming / 16, atol=1e-6)
