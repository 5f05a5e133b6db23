"""Removes language from embeddings without training: the part that the texts of a language have in common.

Each function takes embeddings of texts in one language, [N, D], and returns the change of other embeddings in that
language, [M, D] -> [M, D] of length 1.
"""

from collections.abc import Callable

import numpy as np

Change = Callable[[np.ndarray], np.ndarray]


def shift(embedding_ND: np.ndarray) -> Change:
    """Subtracts the mean of the language."""
    mean_D = embedding_ND.mean(axis=0)
    return lambda other_MD: _normal(other_MD - mean_D)


def lir(embedding_ND: np.ndarray, directions: int = 1) -> Change:
    """Projects out the first right singular vectors of the language's embeddings (LIR: arXiv 2109.04727)."""
    first_RD = np.linalg.svd(embedding_ND, full_matrices=False)[2][:directions]
    return lambda other_MD: _normal(other_MD - other_MD @ first_RD.T @ first_RD)


def _normal(embedding_MD: np.ndarray) -> np.ndarray:
    length_M1 = np.linalg.norm(embedding_MD, axis=1, keepdims=True)
    return (embedding_MD / np.where(length_M1 > 0, length_M1, 1)).astype(np.float32)
