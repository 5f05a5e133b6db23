"""Embeddings in fewer bits: what is left of them after they have been stored as 8-bit integers, or as their signs.

The functions take embeddings of training texts, [N, D], which say what range the numbers have, and return the change of
other embeddings, [M, D] -> [M, D] float32, as in `by_language.py`.
"""

import numpy as np

from hybridir.model.by_language import Change

LEVELS = 255
"""Steps from the lowest to the highest 8-bit number."""


def int8(embedding_ND: np.ndarray) -> Change:
    """The nearest of 256 levels between the lowest and the highest training value of each dimension."""
    low_D = embedding_ND.min(axis=0)
    step_D = np.maximum(embedding_ND.max(axis=0) - low_D, np.finfo(np.float32).tiny) / LEVELS

    def change(other_MD: np.ndarray) -> np.ndarray:
        level_MD = np.clip(np.rint((other_MD - low_D) / step_D), 0, LEVELS)
        return (low_D + level_MD * step_D).astype(np.float32)

    return change


def binary(embedding_ND: np.ndarray) -> Change:
    """The signs, +-1 / sqrt(D): the order of dot products is that of Hamming distances. 0 counts as negative."""
    size = np.float32(embedding_ND.shape[1] ** -0.5)
    return lambda other_MD: np.where(other_MD > 0, size, -size)
